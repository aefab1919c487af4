"""The folder of one run: what has been finished of it, always whole, so that a killed run can go on.

After every step of the schedule the tensors are written first, then `progress.next.json`, which names them. It becomes
`progress.json` when all runs that are trained together have come as far. At the end `result.json` takes its place. A
kill at any moment leaves the last finished step, of all of them the same.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from torch import nn

from prognet.engine.checkpoint import load_module, read_whole, save_module
from prognet.engine.digest import tensors_of
from prognet.engine.evidence import Evidence, read_evidence, write_evidence
from prognet.errors import CheckpointError, JSONValueError, RunFolderError, UnwritableError
from prognet.evaluation.recording import record
from prognet.files import read_json, remove_file, remove_leftovers, write_json
from prognet.results import RESULT_FILE, RunResult, result_from_json, result_to_json
from prognet.strategies.base import Strategy

PROGRESS_FILE = "progress.json"
NEXT_FILE = "progress.next.json"
ERROR_FILE = "error.txt"
SCHEMA, VERSION = "prognet.progress", 3

T = TypeVar("T")

_FIXED = ("prognet", "torch", "device", "together", "processes")
"""What must not change in the middle of a run, or it would not end as an undisturbed one."""


@dataclass(frozen=True, slots=True)
class RunStore:
    """One run's folder."""

    folder: Path

    @staticmethod
    def of(out: str | Path, strategy: str, order: int, seed: int) -> "RunStore":
        """The folder of a run below the folder `out` of a whole comparison."""
        return RunStore(Path(out) / "runs" / strategy / f"order-{order}-seed-{seed}")

    def finished(self) -> RunResult | None:
        """The result, if the run is finished.

        Raises:
            RunFolderError: when the file cannot be read.
        """
        path = self.folder / RESULT_FILE
        return RunResult.load(path) if path.exists() else None

    def progress(self) -> RunResult | None:
        """The result so far, if the run was begun and not finished.

        Raises:
            RunFolderError: when the file cannot be read.
        """
        self.kept()  # one that cannot be read must not be passed over
        return self._read(PROGRESS_FILE)

    def kept(self) -> RunResult | None:
        """The result with the step that was kept last, if the run does not go on from it yet.

        Raises:
            RunFolderError: when the file cannot be read.
        """
        return self._read(NEXT_FILE)

    def _read(self, name: str) -> RunResult | None:
        path = self.folder / name
        if not path.exists():
            return None
        try:
            return result_from_json(read_json(path, SCHEMA, VERSION, remedy=self._remedy))
        except JSONValueError as error:
            raise RunFolderError(f"{path}: {error}; {self._remedy}.") from error

    @property
    def _remedy(self) -> str:
        return f"remove the folder {self.folder} and run the same command again"

    def keep(self, learner: Strategy, gates: nn.Module, result: RunResult) -> RunResult:
        """Stores a finished step beside the one before: the tensors, then what was measured.

        Args:
            learner: as it is after the step.
            gates: the same.
            result: with the step as its last one; with one of the steps before, it is that which was kept of it.

        Returns:
            The result, with the SHA-256 of the files that were written.

        Raises:
            RunFolderError: when a file cannot be written; the step before is still there.
            CheckpointError: when the proof of the step before is missing or damaged.
            FrozenColumnError: when a frozen column says something else than when it was frozen.
        """
        first, old, proof = len(result.schedule) == 1, self.proof_of(result, 1), self.proof_of(result)
        before = Evidence() if first else self._checked(read_evidence, old, result)
        # what an earlier attempt at this step kept names files that are about to change
        remove_file(self.folder / NEXT_FILE)
        files = {proof.name: write_evidence(proof, record(learner, before))}
        files[self.weights_of(result).name] = save_module(learner, self.weights_of(result))
        if _has_tensors(gates):
            files[self.gates_of(result).name] = save_module(gates, self.gates_of(result))
        result = replace(result, files=files)
        write_json(self.folder / NEXT_FILE, SCHEMA, VERSION, result_to_json(result))
        return result

    def commit(self, result: RunResult) -> None:
        """Makes the step that was kept the one to go on from; then the tensors of the step before go.

        Raises:
            UnwritableError: when the folder cannot be written.
        """
        self.promote()
        self._remove_other_weights(result)

    def finish(self, result: RunResult) -> None:
        """Stores the result of the whole run.

        Raises:
            RunFolderError: when it cannot be written.
        """
        result.save(self.folder)
        self.tidy(result)

    @property
    def is_over(self) -> bool:
        """Whether the run is finished, and nothing is left of the work on it."""
        return (self.folder / RESULT_FILE).exists() and not (self.folder / PROGRESS_FILE).exists()

    def tidy(self, result: RunResult) -> None:
        """Removes what is left of the work on a finished run, by kills or by an attempt that failed.

        Raises:
            UnwritableError: when the folder cannot be written.
        """
        self._remove_other_weights(result)
        for name in (NEXT_FILE, ERROR_FILE, PROGRESS_FILE):  # the last one says that there is something to remove
            remove_file(self.folder / name)

    def promote(self) -> None:
        """Makes the step that was kept the one to go on from.

        Raises:
            UnwritableError: when the folder cannot be written.
        """
        path = self.folder / PROGRESS_FILE
        try:
            (self.folder / NEXT_FILE).replace(path)
        except OSError as error:
            raise UnwritableError(
                f"{path}: could not be written ({error.strerror or error}); make the folder writable, then run the "
                "same command again: finished work is kept."
            ) from error

    def load_weights(self, learner: Strategy, result: RunResult) -> None:
        """Fills a rebuilt learner with the tensors that belong to `result`.

        Raises:
            CheckpointError: when they are missing, damaged, or do not fit.
        """
        self._checked(partial(load_module, learner), self.weights_of(result), result)

    def load_gates(self, gates: nn.Module, result: RunResult) -> None:
        """Fills rebuilt gates with the tensors that belong to `result`.

        Raises:
            CheckpointError: when they are missing, damaged, or do not fit.
        """
        if _has_tensors(gates):
            self._checked(partial(load_module, gates), self.gates_of(result), result)

    def load_proof(self, result: RunResult) -> Evidence:
        """What frozen columns said after the steps of `result`, and the fingerprints of all tensors.

        Raises:
            CheckpointError: when the file is missing or damaged.
        """
        return self._checked(read_evidence, self.proof_of(result), result)

    def check_files(self, result: RunResult) -> None:
        """Compares every file of tensors that belongs to `result` with the SHA-256 that was recorded.

        Raises:
            CheckpointError: when one is missing or another one.
        """
        for name in result.files:
            self._checked(read_whole, self.folder / name, result)

    def _checked(self, read: Callable[[Path, str], T], path: Path, result: RunResult) -> T:
        """What `read` makes of a file and its recorded SHA-256; the message of an error says what to do."""
        if path.name not in result.files:
            raise CheckpointError(
                f"{self.folder}: files: required the SHA-256 of {path.name}, found {sorted(result.files)}; "
                f"{self._remedy}."
            )
        try:
            return read(path, result.files[path.name])
        except CheckpointError as error:
            raise CheckpointError(f"{str(error).rstrip('.')}; {self._remedy}.") from error

    def weights_of(self, result: RunResult) -> Path:
        """The file with the tensors after the steps of `result`."""
        return self.folder / f"state-{len(result.schedule)}.safetensors"

    def proof_of(self, result: RunResult, steps_before: int = 0) -> Path:
        """The file with what frozen columns said, and the fingerprints of all tensors, after the steps of `result`."""
        return self.folder / f"proof-{len(result.schedule) - steps_before}.safetensors"

    def gates_of(self, result: RunResult) -> Path:
        """The file with the tensors of the gates after the steps of `result`, where they have any."""
        return self.folder / f"gates-{len(result.schedule)}.safetensors"

    def _remove_other_weights(self, result: RunResult) -> None:
        for kind in ("state", "gates", "proof"):
            for path in self.folder.glob(f"{kind}-*.safetensors"):
                if path not in (self.weights_of(result), self.gates_of(result), self.proof_of(result)):
                    remove_file(path)


def settle(stores: Sequence[RunStore]) -> None:
    """Lets runs that are trained together go on from the same step after a kill.

    A step that all of them have kept counts, and so does one that any of them goes on from: all had kept it by then.

    Raises:
        RunFolderError: when a file cannot be read.
        UnwritableError: when a folder cannot be written.
    """
    for store in stores:
        remove_leftovers(store.folder)
    stores = readable(stores)
    done = [_steps(store.finished() or store.progress()) for store in stores]
    kept = [max(steps, _steps(store.kept())) for store, steps in zip(stores, done, strict=True)]
    last = kept[0] if len(set(kept)) == 1 else max(done, default=0)
    for store, steps, further in zip(stores, done, kept, strict=True):
        if steps < further == last:
            store.promote()


def readable(stores: Sequence[RunStore]) -> list[RunStore]:
    """The runs whose records can be read; the others are refused by name when they are carried out."""
    return [store for store in stores if _is_readable(store)]


def _is_readable(store: RunStore) -> bool:
    try:
        return (store.finished(), store.progress(), store.kept()) is not None
    except RunFolderError:
        return False


def _steps(result: RunResult | None) -> int:
    return 0 if result is None else len(result.schedule)


def _has_tensors(gates: nn.Module) -> bool:
    """Whether any of the gates has learned something; some ask the networks only."""
    return next(tensors_of(gates), None) is not None


def check_same_run(store: RunStore, stored: RunResult, config: Mapping[str, Any]) -> None:
    """Checks that a stored run is the one that is asked for.

    Raises:
        RunFolderError: when its configuration is another one; the message names the first difference.
    """
    for key, value in config.items():
        if stored.config.get(key) != value:
            raise RunFolderError(
                f"{store.folder}: required a run with {key} = {value!r}, found one with {stored.config.get(key)!r}; "
                "choose another folder, or remove this one."
            )


def check_same_environment(store: RunStore, stored: RunResult, environment: Mapping[str, Any]) -> None:
    """Checks that an unfinished run can end as it would have ended undisturbed.

    Raises:
        RunFolderError: when the version of prognet or torch, or the kind of device, is another one.
    """
    for key in _FIXED:
        if stored.environment.get(key) != environment[key]:
            raise RunFolderError(
                f"{store.folder}: required {key} {stored.environment.get(key)!r}, with which this run was begun, found "
                f"{environment[key]!r}; go on with that one, or remove the run's folder to begin it again."
            )
