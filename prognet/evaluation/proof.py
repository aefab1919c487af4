"""The proof again, from the files: that no frozen part of a run, and no column of a saved network, has changed."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from torch import nn

from prognet.backbones import BackboneSpecification, describe_backbone
from prognet.config import Execution, Measurement, Training
from prognet.engine import ProgressiveNetwork
from prognet.engine.digest import fingerprints, first_difference
from prognet.engine.evidence import Agreement, agreement, outputs_of, read_evidence, setting_of
from prognet.engine.folder import check_files
from prognet.engine.manifest import MANIFEST_FILE, holds_network, read_manifest
from prognet.errors import ConfigError, PrognetError, RunFolderError
from prognet.evaluation.rebuilding import rebuild
from prognet.evaluation.recording import as_recorded, recheck
from prognet.evaluation.store import PROGRESS_FILE, RunStore
from prognet.evaluation.task_records import check_records
from prognet.manifest import read_manifest as read_comparison
from prognet.results import RESULT_FILE, RunResult, TaskSummary
from prognet.strategies import Strategy, strategy_from
from prognet.strategies.base import Backbone
from prognet.streams.kinds import objective_from
from prognet.streams.objectives import Classification, Objective
from prognet.streams.task import outline_of
from prognet.training import Session


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of the proof of one run, or of one saved network."""

    run: str
    """Its folder, relative to the one that was verified."""
    parts: int
    """Frozen parts of a run, or columns of a saved network, whose digest was computed anew."""
    problem: str | None
    """What does not hold; None when everything does."""
    same_bits: int = 0
    """Columns whose output for the stored probe inputs was computed anew and is the same bit for bit."""
    elsewhere: int = 0
    """Columns whose output has other bits, but was recorded on another device, or with other versions or threads."""
    largest: float = 0.0
    """The largest absolute difference of these outputs."""
    unchecked: int = 0
    """Columns of a saved network whose recorded output needs the backbone to be computed anew."""

    @property
    def summary(self) -> str:
        """The verdict in a line."""
        if self.problem is not None:
            return f"FAILED: {self.problem}"
        parts = [f"{self.parts} frozen parts unchanged"]
        if self.same_bits:
            parts.append(f"{self.same_bits} say the same bits as when recorded")
        if self.elsewhere:
            parts.append(f"{self.elsewhere} were recorded in another setting and differ by {self.largest:.1e} at most")
        if self.unchecked:
            parts.append(f"{self.unchecked} recorded outputs need --backbone to be computed anew")
        return "; ".join(parts)


def verify(folder: str | Path, backbone: Backbone | None = None) -> Iterator[Verdict]:
    """Proves again, from the files of every run and every saved network below `folder`, that nothing has changed.

    Of a run the networks are rebuilt, filled with the stored tensors, every recorded digest is compared, and frozen
    columns say again what they said to the probe inputs. The digests of a network that `ProgressiveNetwork.save` wrote
    are computed from its files alone; its outputs need the backbone. Nothing in a folder names code that is run: a
    backbone that is not one of prognet's own has to be given.

    Args:
        folder: a run folder, or the directory of a saved network.
        backbone: the backbone of the runs, where it is not one of prognet's own, or of all columns of a saved network.

    Returns:
        One verdict for each run and each saved network, in turn.

    Raises:
        RunFolderError: when there is neither below the folder.
    """
    root = Path(folder)
    runs = {path.parent for name in (RESULT_FILE, PROGRESS_FILE) for path in root.rglob(name)}
    networks = {path.parent for path in root.rglob(MANIFEST_FILE) if holds_network(path.parent)}
    if not runs | networks:
        raise RunFolderError(f"folder: required at least one run or saved network below {root}, found none.")
    above = {folder for place in runs | networks for folder in place.parents if folder.is_relative_to(root)}
    for folder in sorted(folder for folder in above - networks if (folder / MANIFEST_FILE).exists()):
        try:
            read_comparison(folder)
        except PrognetError as error:
            yield Verdict(str((folder / MANIFEST_FILE).relative_to(root)), 0, str(error))
    for place in sorted(runs | networks):
        name = str(place.relative_to(root))
        try:
            yield _of_run(name, place, backbone) if place in runs else _of_network(name, place, backbone)
        except PrognetError as error:
            yield Verdict(name, 0, str(error))


def _of_run(name: str, place: Path, backbone: Backbone | None) -> Verdict:
    store = RunStore(place)
    finished, unfinished = store.finished(), store.progress()  # of both, where a kill has left them
    result = finished or unfinished
    if result is None:
        raise RunFolderError(f"{place}: required a finished step, found none.")
    store.check_files(result)
    check_records(place)
    learner = stored_learner(store, result, backbone)
    digests = dict(learner.frozen_digests())
    if list(result.digests[-1]) != list(digests):
        raise RunFolderError(
            f"{place}: required a record of {list(digests)} after the last step, found {list(result.digests[-1])}; the "
            "record was changed."
        )
    evidence = store.load_proof(result)
    changed = first_difference(evidence.fingerprints, fingerprints(learner))
    weights = store.weights_of(result).name
    for step, recorded in enumerate(result.digests):
        for part, digest in recorded.items():
            if digests.get(part) != digest:
                tensor = "" if changed is None else f"; the first tensor that differs is {changed!r}"
                raise RunFolderError(
                    f"{place}: required digest {digest} of {part}, as recorded after step {step}, found "
                    f"{digests.get(part)} in {weights}; the part or the record was changed{tensor}."
                )
    if changed is not None:
        raise RunFolderError(f"{place}: required the tensor {changed!r} as it was stored, found another in {weights}.")
    return _verdict(name, place, len(digests), recheck(learner, evidence))


def _of_network(name: str, place: Path, backbone: Backbone | None) -> Verdict:
    n_columns = check_files(place)
    manifest = read_manifest(place)
    if manifest.proof is None:
        return Verdict(name, n_columns, None)
    evidence = read_evidence(place / manifest.proof, manifest.files[manifest.proof])
    if backbone is None:
        return Verdict(name, n_columns, None, unchecked=len(evidence.outputs))
    shapes = [(entry.input_shape, entry.output_shape[0]) for entry in manifest.columns]
    make = partial(_backbone_for, backbone, shapes)
    network = ProgressiveNetwork.load(place, make)
    with as_recorded(evidence) as device:
        columns = [network.to(device).column(k) for k in range(n_columns)]
        said = [outputs_of(columns, x) for x in evidence.inputs.values()]
        outputs = {f"column {k}": y for part in said for k, y in part.items()}
        if outputs.keys() != evidence.outputs.keys():
            raise RunFolderError(
                f"{place / manifest.proof}: required the outputs of {sorted(outputs)}, found those of "
                f"{sorted(evidence.outputs)}."
            )
        found = agreement(evidence, outputs, setting_of(device))
    return _verdict(name, place, n_columns, found)


def _backbone_for(backbone: Backbone, shapes: Sequence[tuple[tuple[int, ...], int]], column: int) -> nn.Module:
    return backbone(*shapes[column])


def _verdict(name: str, place: Path, parts: int, found: Agreement) -> Verdict:
    if found.broken:
        raise RunFolderError(
            f"{place}: required the recorded output of {found.broken[0]}, bit for bit in this setting, found another "
            "with the same digest; the record was changed, or the code of the backbone was."
        )
    return Verdict(name, parts, None, found.same_bits, found.elsewhere, found.largest)


def stored_learner(store: RunStore, result: RunResult, backbone: Backbone | None = None) -> Strategy:
    """The learner of a stored run as it was after the steps of `result`, on the CPU.

    Args:
        store: the run's folder.
        result: what the folder holds of the run.
        backbone: the backbone of the run, where it is not one of prognet's own.

    Raises:
        ConfigError: when a part of it cannot be made again, such as a backbone of somebody's own.
        RunFolderError: when the configuration is damaged.
        CheckpointError: when the tensors are missing, damaged, or do not fit.
    """
    try:
        learner = _rebuilt(result, backbone or _backbone_of(result))
    except PrognetError:
        raise
    except Exception as error:  # whatever a damaged configuration leads to
        raise RunFolderError(f"{store.folder}: required the configuration of a run, found {error!r}.") from error
    store.load_weights(learner, result)
    return learner


def _rebuilt(result: RunResult, backbone: Backbone) -> Strategy:
    """The networks of a run, untrained, as its configuration describes them."""
    strategy = strategy_from(result.config["strategy"], backbone)
    session = Session(
        training=Training(epochs=0),
        measurement=Measurement(),
        seed=result.seed,
        device=torch.device("cpu"),
        execution=Execution(**result.config["execution"]),  # bits depend on the layout
    )
    tasks = [outline_of(summary, _objective_of(summary)) for summary in result.tasks]
    return rebuild(strategy, tasks, result.schedule, session, result.choices)


def _objective_of(summary: TaskSummary) -> Objective:
    """What decides the networks of a task: its objective, where that is written down."""
    return Classification(summary.n_classes) if summary.objective is None else objective_from(summary.objective)


def _backbone_of(result: RunResult) -> Backbone:
    from prognet import backbones

    name, arguments = result.config["backbone"]["name"], result.config["backbone"]["arguments"]
    makers = {specification.name for specification in BackboneSpecification.__subclasses__()}
    if name not in makers:
        raise ConfigError(
            f"backbone: required one of prognet's own {sorted(makers)}, found {name!r} in the run's configuration; "
            f"give it yourself, on the command line with --backbone {name}."
        )
    backbone: Backbone = getattr(backbones, name)(**arguments)
    if describe_backbone(backbone)["arguments"] != arguments:
        raise ConfigError(f"backbone: required arguments of {name}, found {arguments!r} in the run's configuration.")
    return backbone
