"""One bit turned over, or the end cut off, in every file of a run, of a saved network and of a saved stream."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest

from prognet.analysed import Look, Pairs
from prognet.config import Measurement, Training
from prognet.engine import ProgressiveNetwork
from prognet.engine.evidence import probe_inputs
from prognet.engine.folder import check_files
from prognet.errors import PrognetError
from prognet.evaluation import analyse, grid, verify
from prognet.evaluation.store import RunStore
from prognet.manifest import read_manifest
from prognet.results import RunResult, load_results
from prognet.strategies import Progressive
from prognet.streams.stream import Stream
from tests.helpers import zoo
from tests.helpers.data import blobs
from tests.helpers.hostile import files_below, flipped
from tests.helpers.runs import PLAIN

PLACE = Path("runs") / "progressive" / "order-0-seed-0"
LOOK = Look(samples=8, repeats=1, pairs=Pairs(pair_samples=8, tag_steps=1))
FILES = (
    "manifest.json",
    *(
        str(PLACE / name)
        for name in (
            "analysis.json",
            "gates-2.safetensors",
            "geometry.json",
            "proof-2.safetensors",
            "relatedness.json",
            "result.json",
            "state-2.safetensors",
        )
    ),
)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run with gates that learn, and its analysis."""
    folder = tmp_path_factory.mktemp("grid")
    measurement = Measurement(lca_updates=1, curve_points=1, gates=("confidence", "autoencoder"))
    grid(
        [Progressive(PLAIN)],
        lambda order: blobs((2, 2), seed=order),
        out=folder,
        seeds=(0,),
        training=Training(epochs=1, batch_size=64),
        measurement=measurement,
        device="cpu",
        threads=1,
    )
    assert [one.problem for one in analyse(folder, lambda run: blobs((2, 2)), look=LOOK, device="cpu")] == [None]
    return folder


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network of two columns with what they say."""
    folder = tmp_path_factory.mktemp("net")
    zoo.network(zoo.MLP, 2).save(folder, probe=probe_inputs((6,)))
    return folder


@pytest.fixture(scope="module")
def stream(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved stream of two tasks."""
    folder = tmp_path_factory.mktemp("stream")
    blobs((2, 2), per_class=2).save(folder)
    return folder


def bits(size: int, count: int, seed: int) -> Sequence[int]:
    """Bits of a file of `size` bytes: all of the first 16 bytes and the last 8, and `count` drawn from the others."""
    drawn = np.random.default_rng(seed).choice(8 * size, min(count, 8 * size), replace=False)
    return sorted({*range(min(128, 8 * size)), *range(max(0, 8 * (size - 8)), 8 * size), *drawn.tolist()})


def sizes(size: int, count: int) -> Sequence[int]:
    """Lengths to which a file of `size` bytes is cut: the shortest and longest ones, and some evenly between."""
    return sorted(
        {*range(min(12, size)), *range(max(0, size - 4), size), *np.linspace(0, size - 1, count, dtype=int).tolist()}
    )


def assert_found(path: Path, changed: Sequence[bytes], read: Callable[[], object], name: str = "") -> None:
    """Every change of a file is refused by its name; the file itself, as it was, is read."""
    whole = path.read_bytes()
    try:
        for content in changed:
            path.write_bytes(content)
            with pytest.raises(PrognetError) as caught:
                read()
            assert (name or path.name) in str(caught.value)
    finally:
        path.write_bytes(whole)
    read()


def read_run(folder: Path) -> None:
    """Everything that `prognet verify` reads before it computes anything."""
    from prognet.evaluation.task_records import check_records

    read_manifest(folder)
    store = RunStore(folder / PLACE)
    result = store.finished()
    assert result is not None
    store.check_files(result)
    check_records(store.folder)


def test_these_are_all_files_of_a_run(made: Path) -> None:
    assert [str(path.relative_to(made)) for path in files_below(made)] == list(FILES)


@pytest.mark.parametrize("name", FILES)
def test_every_flipped_bit_of_a_run_is_found(made: Path, name: str) -> None:
    path = made / name
    whole = path.read_bytes()
    changed = [flipped(whole, bit) for bit in bits(len(whole), 100, seed=1)]
    assert_found(path, changed, lambda: read_run(made))


@pytest.mark.parametrize("name", FILES)
def test_every_truncation_of_a_run_is_found(made: Path, name: str) -> None:
    path = made / name
    whole = path.read_bytes()
    assert_found(path, [whole[:size] for size in sizes(len(whole), 30)], lambda: read_run(made))


@pytest.mark.parametrize("name", FILES)
def test_verify_fails_for_a_flipped_bit_in_any_file_and_for_nothing_else(made: Path, name: str, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(made, tmp_path / "copy"))
    path = folder / name
    whole = path.read_bytes()
    assert [verdict.problem for verdict in verify(folder)] == [None]
    for bit in (0, 8 * 12 + 3, 4 * len(whole), 8 * len(whole) - 1):
        path.write_bytes(flipped(whole, bit))
        problems = [verdict for verdict in verify(folder) if verdict.problem is not None]
        assert len(problems) == 1
        assert str(path) in str(problems[0].problem)
        assert problems[0].run == (name if name == "manifest.json" else str(PLACE))


@pytest.mark.parametrize("kind", ["weights", "proof", "manifest"])
def test_every_flipped_bit_and_truncation_of_a_network_is_found(network: Path, kind: str) -> None:
    (path,) = network.glob(f"{kind}*")
    whole = path.read_bytes()
    changed = [flipped(whole, bit) for bit in bits(len(whole), 100, seed=2)]
    changed += [whole[:size] for size in sizes(len(whole), 30)]

    def read() -> None:
        check_files(network)
        (verdict,) = verify(network)
        if verdict.problem is not None:
            raise PrognetError(verdict.problem)

    assert_found(path, changed, read)


@pytest.mark.parametrize("kind", ["weights", "manifest"])
def test_a_network_with_a_flipped_bit_is_not_loaded(network: Path, kind: str) -> None:
    (path,) = network.glob(f"{kind}*")
    whole = path.read_bytes()
    changed = [flipped(whole, bit) for bit in bits(len(whole), 100, seed=3)]
    assert_found(path, changed, lambda: ProgressiveNetwork.load(network, lambda k: zoo.MLP.build(2 + k)))


@pytest.mark.parametrize("kind", ["stream.json", "task-0-*", "task-1-*"])
def test_every_flipped_bit_and_truncation_of_a_stream_is_found(stream: Path, kind: str) -> None:
    (path,) = stream.glob(kind)
    whole = path.read_bytes()
    changed = [flipped(whole, bit) for bit in bits(len(whole), 200, seed=4)]
    changed += [whole[:size] for size in sizes(len(whole), 30)]
    assert_found(path, changed, lambda: Stream.load(stream))


def test_results_are_loaded_whole_or_not_at_all(made: Path) -> None:
    path = made / PLACE / "result.json"
    whole = path.read_bytes()
    changed = [flipped(whole, bit) for bit in bits(len(whole), 100, seed=5)]
    assert_found(path, changed, lambda: load_results(made), str(path))


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_all_bits_of_every_file_of_a_run_are_found(made: Path, name: str) -> None:
    """Exhaustively: each bit, one after the other."""
    path = made / name
    whole = path.read_bytes()
    found = 0
    try:
        for bit in range(8 * len(whole)):
            path.write_bytes(flipped(whole, bit))
            with pytest.raises(PrognetError, match=path.name):
                _read_one(made, path)
            found += 1
    finally:
        path.write_bytes(whole)
    assert found == 8 * len(whole)
    _read_one(made, path)


def _read_one(folder: Path, path: Path) -> None:
    """Only what concerns one file."""
    from prognet.engine.checkpoint import read_whole
    from prognet.evaluation.task_records import check_records

    if path.suffix == ".safetensors":
        result = RunResult.load(folder / PLACE / "result.json")
        read_whole(path, result.files[path.name])
    elif path.name == "manifest.json":
        read_manifest(folder)
    elif path.name == "result.json":
        RunResult.load(path)
    else:
        check_records(path.parent)
