import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from torch import nn

from prognet.backbones import cnn
from prognet.catalogue import BACKBONES
from prognet.config import Training
from prognet.errors import RunFolderError
from prognet.evaluation import Verdict, grid, verify
from prognet.strategies import FineTune, HeadOnly, Independent, MultiTask, Progressive, ProgressiveRandom
from tests.helpers.commands import Recorder, content
from tests.helpers.data import blobs
from tests.helpers.runs import KINDS, MEASUREMENT, NORMED, PLAIN, quick_run
from tests.helpers.sealing import edit, rehash
from tests.helpers.streams import make_stream

TRAINING = Training(epochs=1, batch_size=32, lr=0.01)
FIRST = "runs/progressive/order-0-seed-0"
SECOND = "runs/progressive/order-0-seed-1"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three strategies with two seeds, two tasks each."""
    folder = tmp_path_factory.mktemp("runs")
    grid(
        [Progressive(PLAIN), Independent(PLAIN), FineTune(PLAIN)],
        lambda order: blobs((2, 3), seed=order),
        out=folder,
        seeds=(0, 1),
        training=TRAINING,
        measurement=MEASUREMENT,
        device="cpu",
    )
    return folder


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "copy"))


def problems(folder: Path, backbone: Any = None) -> dict[str, str]:
    """The runs that failed, with the reason; all others have been verified."""
    verdicts = list(verify(folder, backbone))
    assert len(verdicts) == 6
    return {verdict.run: verdict.problem for verdict in verdicts if verdict.problem is not None}


def test_an_intact_folder_is_verified_and_left_as_it_is(folder: Path) -> None:
    before = content(folder)
    assert list(verify(folder)) == [
        Verdict("runs/finetune/order-0-seed-0", 0, None),
        Verdict("runs/finetune/order-0-seed-1", 0, None),
        Verdict("runs/independent/order-0-seed-0", 2, None, same_bits=2),
        Verdict("runs/independent/order-0-seed-1", 2, None, same_bits=2),
        Verdict(FIRST, 2, None, same_bits=2),
        Verdict(SECOND, 2, None, same_bits=2),
    ]
    assert content(folder) == before


def test_a_single_run_is_verified_by_its_own_folder(folder: Path) -> None:
    assert list(verify(str(folder / FIRST))) == [Verdict(".", 2, None, same_bits=2)]


@pytest.mark.parametrize("kind", KINDS)
def test_every_strategy_can_be_verified(tmp_path: Path, kind: str) -> None:
    result = quick_run(KINDS[kind](NORMED), make_stream(), out=tmp_path)
    (verdict,) = verify(tmp_path)
    assert (verdict.problem, verdict.parts) == (None, len(result.digests[-1]))


def test_the_frozen_parts_are_those_one_expects(tmp_path: Path) -> None:
    for number, strategy in enumerate([ProgressiveRandom(PLAIN), HeadOnly(PLAIN), MultiTask(PLAIN)]):
        quick_run(strategy, make_stream(), out=tmp_path / str(number))
    parts = [next(verify(tmp_path / str(number))).parts for number in range(3)]
    assert parts[0] == 5  # three columns, and two random ones before the second and the third
    assert parts[1] > 0
    assert parts[2] == 0


def test_an_image_backbone_is_rebuilt_from_its_arguments(tmp_path: Path) -> None:
    stream = make_stream((2, 2), shape=(1, 8, 8))
    quick_run(Progressive(cnn(channels=(2, 3))), stream, out=tmp_path)
    assert list(verify(tmp_path)) == [Verdict(FIRST, 2, None, same_bits=2)]


@pytest.mark.parametrize("offset", [-1, -200, 700])
def test_a_flipped_bit_in_the_weights_is_found(folder: Path, offset: int) -> None:
    path = folder / FIRST / "state-2.safetensors"
    changed = bytearray(path.read_bytes())
    changed[offset] ^= 1
    path.write_bytes(changed)
    found = problems(folder)
    assert list(found) == [FIRST]
    assert found[FIRST].startswith(f"{path}: required a whole safetensors file, found a damaged one (its SHA-256 is ")
    assert found[FIRST].endswith(f"; remove the folder {folder / FIRST} and run the same command again.")


def test_the_changed_column_is_named(folder: Path) -> None:
    from safetensors.torch import load_file, save_file

    path = folder / FIRST / "state-2.safetensors"
    tensors = load_file(path)
    name = next(name for name in tensors if name.startswith("columns.network.columns.1."))
    tensors[name].view(-1)[0] += 1
    save_file(tensors, path)
    rehash(folder / FIRST / "result.json")
    found = problems(folder)
    assert list(found) == [FIRST]
    assert re.search(
        r"required digest [0-9a-f]{64} of column 1, as recorded after step 1, found [0-9a-f]{64} in "
        r"state-2\.safetensors; the part or the record was changed; the first tensor that differs is "
        rf"'{re.escape(name)}'\.",
        found[FIRST],
    )


def test_an_edited_digest_is_found(folder: Path) -> None:
    edit(folder / FIRST / "result.json", lambda document: document["digests"][0].update({"column 0": "0" * 64}))
    found = problems(folder)
    assert list(found) == [FIRST]
    assert f"required digest {'0' * 64} of column 0, as recorded after step 0, found" in found[FIRST]


@pytest.mark.parametrize(
    "change",
    [
        lambda document: document.update(digests=[{}, {}]),
        lambda document: document["digests"][1].pop("column 0"),
        lambda document: document["digests"][1].update({"column 2": "0" * 64}),
    ],
)
def test_a_record_that_lacks_or_adds_something_is_no_proof(folder: Path, change: Callable[[Any], object]) -> None:
    edit(folder / FIRST / "result.json", change)
    found = problems(folder)
    assert list(found) == [FIRST]
    assert "required a record of ['column 0', 'column 1'] after the last step, found" in found[FIRST]


@pytest.mark.parametrize("n", [0, 1, 3])
def test_a_record_of_other_steps_is_no_proof(folder: Path, n: int) -> None:
    edit(folder / FIRST / "result.json", lambda document: document.update(digests=[document["digests"][-1]] * n))
    found = problems(folder)
    assert list(found) == [FIRST]
    assert f"result.json: digests: required a record of each of 2 steps, found {n}; remove the folder" in found[FIRST]


def test_weights_of_another_run_are_found(folder: Path) -> None:
    ours, theirs = (folder / run / "state-2.safetensors" for run in (FIRST, SECOND))
    other = theirs.read_bytes()
    theirs.write_bytes(ours.read_bytes())
    ours.write_bytes(other)
    assert list(problems(folder)) == [FIRST, SECOND]
    for run in (FIRST, SECOND):
        rehash(folder / run / "result.json")
    found = problems(folder)
    assert list(found) == [FIRST, SECOND]
    assert all("of column 0, as recorded after step 0, found" in problem for problem in found.values())


def test_missing_weights_are_named(folder: Path) -> None:
    (folder / FIRST / "state-2.safetensors").unlink()
    found = problems(folder)
    assert list(found) == [FIRST]
    assert found[FIRST] == (
        f"{folder / FIRST / 'state-2.safetensors'}: required a safetensors file, found none; remove the folder "
        f"{folder / FIRST} and run the same command again."
    )


def test_damaged_weights_are_named(folder: Path) -> None:
    path = folder / FIRST / "state-2.safetensors"
    path.write_bytes(path.read_bytes()[:-8])
    found = problems(folder)
    assert list(found) == [FIRST]
    assert found[FIRST].startswith(f"{path}: required a whole safetensors file, found a damaged one")


@pytest.mark.parametrize("text", ["{", '{"schema": "prognet.result", "version": 1}', "[]"])
def test_a_damaged_result_is_named(folder: Path, text: str) -> None:
    (folder / FIRST / "result.json").write_text(text)
    found = problems(folder)
    assert list(found) == [FIRST]
    assert found[FIRST].startswith(f"{folder / FIRST / 'result.json'}: required")


def no_strategy(document: dict[str, Any]) -> None:
    del document["config"]["strategy"]


def no_backbone(document: dict[str, Any]) -> None:
    document["config"]["backbone"] = "mlp"


def wrong_width(document: dict[str, Any]) -> None:
    document["config"]["backbone"]["arguments"]["hidden"] = [10**15]


def wrong_arguments(document: dict[str, Any]) -> None:
    document["config"]["backbone"]["arguments"] = {"hidden": 3}


def no_list_of_arguments(document: dict[str, Any]) -> None:
    document["config"]["backbone"]["arguments"] = [1]


def wrong_schedule(document: dict[str, Any]) -> None:
    document["schedule"] = [[0], [7]]


def wrong_adapter(document: dict[str, Any]) -> None:
    document["config"]["strategy"]["arguments"]["adapter"] = {"kind": "os.system"}


def foreign_strategy(document: dict[str, Any]) -> None:
    document["config"]["strategy"]["kind"] = "os:system"


def more_arguments(document: dict[str, Any]) -> None:
    document["config"]["strategy"]["arguments"]["backbone"] = "mlp"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (no_strategy, "required the configuration of a run, found KeyError('strategy')"),
        (no_backbone, "config.backbone: required an object, found 'mlp'; remove the folder"),
        (wrong_width, "required the configuration of a run, found RuntimeError("),
        (wrong_arguments, "hidden: required a sequence of whole numbers, e.g. (64,), found 3."),
        (no_list_of_arguments, "config.backbone.arguments: required an object, found [1]"),
        (wrong_schedule, "schedule[1]: required different labels of 2 tasks, found (7,)"),
        (wrong_adapter, "adapter"),
        (foreign_strategy, "strategy: required one of ["),
        (foreign_strategy, "found 'os:system'; a strategy of one's own can be rebuilt by its author only."),
        (more_arguments, "strategy: required the arguments of Progressive, found"),
    ],
)
def test_a_damaged_configuration_fails_alone(
    folder: Path, change: Callable[[dict[str, Any]], None], message: str
) -> None:
    edit(folder / FIRST / "result.json", change)
    found = problems(folder)
    assert list(found) == [FIRST]
    assert message in found[FIRST]


def test_no_code_that_a_folder_names_is_run(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_trap.py").write_text("from pathlib import Path\nPath('trapped').touch()\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    for name in ("my_trap:build", "my_trap", "os:system", "load_module", "describe_backbone", "__loader__"):
        named: dict[str, Any] = {"name": name, "arguments": {}}
        edit(folder / FIRST / "result.json", lambda document, named=named: document["config"].update(backbone=named))  # type: ignore[misc]
        found = problems(folder)
        assert list(found) == [FIRST]
        assert found[FIRST] == (
            f"backbone: required one of prognet's own {sorted(BACKBONES)}, found {name!r} in the "
            f"run's configuration; give it yourself, on the command line with --backbone {name}."
        )
    assert "my_trap" not in sys.modules
    assert not (tmp_path / "trapped").exists()


def own(input_shape: tuple[int, ...], n_classes: int) -> nn.Module:
    return nn.Sequential(nn.Linear(input_shape[0], 4), nn.Tanh(), nn.Linear(4, n_classes))


def other(input_shape: tuple[int, ...], n_classes: int) -> nn.Module:
    return nn.Sequential(nn.Linear(input_shape[0], 3), nn.Tanh(), nn.Linear(3, n_classes))


def test_a_backbone_of_ones_own_has_to_be_given(tmp_path: Path) -> None:
    quick_run(Progressive(own), blobs((2, 2)), out=tmp_path)
    (verdict,) = verify(tmp_path)
    assert verdict.parts == 0
    assert f"found '{__name__}:own' in the run's configuration; give it yourself" in str(verdict.problem)
    assert list(verify(tmp_path, own)) == [Verdict(FIRST, 2, None, same_bits=2)]
    (verdict,) = verify(tmp_path, other)
    assert "state-2.safetensors: required" in str(verdict.problem)


def test_an_unfinished_run_is_verified_as_far_as_it_got(tmp_path: Path) -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    recorder = Recorder(at=3, do=stop)
    with pytest.raises(KeyboardInterrupt):
        quick_run(Progressive(PLAIN), blobs((2, 2, 2)), out=tmp_path, training=TRAINING, advance=recorder.advance)
    assert (tmp_path / FIRST / "progress.json").exists()
    assert list(verify(tmp_path)) == [Verdict(FIRST, 2, None, same_bits=2)]


def test_a_folder_without_runs_is_refused(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "nowhere"):
        with pytest.raises(RunFolderError) as caught:
            list(verify(folder))
        assert str(caught.value) == f"folder: required at least one run or saved network below {folder}, found none."
