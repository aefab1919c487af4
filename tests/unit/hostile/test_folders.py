"""Folders of runs, networks and streams whose records were changed and sealed again, and tensors that are none."""

import json
import shutil
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import nn

from prognet.config import Training
from prognet.engine import ProgressiveNetwork
from prognet.engine.checkpoint import read_tensors
from prognet.engine.evidence import probe_inputs, read_evidence
from prognet.engine.folder import check_files
from prognet.errors import CheckpointError, PrognetError
from prognet.evaluation import analyse, verify
from prognet.evaluation.store import PROGRESS_FILE, RunStore
from prognet.results import RESULT_FILE
from prognet.strategies import FineTune, Progressive
from prognet.streams.stream import Stream
from tests.helpers import zoo
from tests.helpers.data import blobs, same_samples
from tests.helpers.hostile import hostile, mutated, refused
from tests.helpers.runs import PLAIN, quick_run
from tests.helpers.sealing import edit, rehash, reseal, unsealed

STREAM = blobs((2, 2), per_class=4)
TRAINING = Training(epochs=1, batch_size=64)


def build(k: int) -> nn.Module:
    return zoo.MLP.build(2 + k)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunStore:
    """A finished run of two columns."""
    folder = tmp_path_factory.mktemp("run")
    quick_run(Progressive(PLAIN), STREAM, out=folder, training=TRAINING)
    return RunStore.of(folder, "progressive", 0, 0)


@pytest.fixture(scope="module")
def begun(tmp_path_factory: pytest.TempPathFactory) -> RunStore:
    """A run that was stopped in its second step."""
    folder = tmp_path_factory.mktemp("begun")
    told: list[int] = []

    def stop(updates: int) -> None:
        told.append(updates)
        if len(told) == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        quick_run(FineTune(PLAIN), STREAM, out=folder, training=TRAINING, advance=stop)
    return RunStore.of(folder, "finetune", 0, 0)


@pytest.fixture(scope="module")
def network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A network of two columns with what they say."""
    folder = tmp_path_factory.mktemp("net")
    zoo.network(zoo.MLP, 2).save(folder, probe=probe_inputs((6,)))
    return folder


@pytest.fixture(scope="module")
def stream(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved stream."""
    folder = tmp_path_factory.mktemp("stream")
    STREAM.save(folder)
    return folder


@hostile(60)
@given(data=st.data())
def test_a_run_of_another_structure_is_verified_or_fails(run: RunStore, data: st.DataObject) -> None:
    path = run.folder / RESULT_FILE
    whole = path.read_bytes()
    try:
        reseal(path, data.draw(mutated(unsealed(path), 2)))
        (verdict,) = verify(run.folder)
        assert verdict.problem is None or verdict.problem.strip()
    finally:
        path.write_bytes(whole)


@hostile(20)
@given(data=st.data())
def test_a_run_of_another_structure_is_analysed_or_fails(run: RunStore, data: st.DataObject) -> None:
    path = run.folder / RESULT_FILE
    whole = path.read_bytes()
    try:
        reseal(path, data.draw(mutated(unsealed(path), 2)))
        (found,) = analyse(run.folder, lambda result: STREAM, device="cpu")
        assert found.problem is None or found.problem.strip()
    finally:
        path.write_bytes(whole)
        for name in ("analysis", "relatedness", "geometry"):
            (run.folder / f"{name}.json").unlink(missing_ok=True)


@hostile(40)
@given(data=st.data())
def test_a_run_goes_on_from_a_changed_progress_or_is_refused(
    begun: RunStore, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    out = tmp_path_factory.mktemp("resumed")
    store = RunStore.of(out, "finetune", 0, 0)
    shutil.copytree(begun.folder, store.folder)
    reseal(store.folder / PROGRESS_FILE, data.draw(mutated(unsealed(store.folder / PROGRESS_FILE), 2)))
    before = torch.get_num_threads()
    found = refused(lambda: quick_run(FineTune(PLAIN), STREAM, out=out, training=TRAINING), store.folder)
    assert torch.get_num_threads() == before
    assert found is None or len(found.schedule) == 2


@hostile(120)
@given(data=st.data())
def test_a_network_of_another_structure_is_the_same_network_or_is_refused(network: Path, data: st.DataObject) -> None:
    path = network / "manifest.json"
    whole, digests = path.read_bytes(), ProgressiveNetwork.load(network, build).digests()
    try:
        reseal(path, data.draw(mutated(unsealed(path), 2)))
        found = refused(lambda: ProgressiveNetwork.load(network, build), network)
        assert found is None or found.digests() == digests
        refused(lambda: check_files(network), network)
        assert len(list(verify(network, PLAIN))) == 1
    finally:
        path.write_bytes(whole)


@hostile(120)
@given(data=st.data())
def test_a_stream_of_another_structure_is_read_as_it_says_or_is_refused(stream: Path, data: st.DataObject) -> None:
    path = stream / "stream.json"
    whole = path.read_bytes()
    try:
        changed = data.draw(mutated(unsealed(path), 2))
        reseal(path, changed)
        found = refused(lambda: Stream.load(stream), path)
        if found is not None:
            header = (found.name, found.heads, found.seed, found.draw, dict(found.arguments))
            assert header == tuple(changed[key] for key in ("name", "heads", "seed", "draw", "arguments"))
            for task, record in zip(found, changed["tasks"], strict=True):
                assert (task.name, list(task.classes)) == (record["name"], record["classes"])
                assert same_samples(task.train, STREAM[task.label].train)
    finally:
        path.write_bytes(whole)


def header_of(path: Path) -> dict[str, Any]:
    """The header of a safetensors file."""
    content = path.read_bytes()
    (size,) = struct.unpack("<Q", content[:8])
    header: dict[str, Any] = json.loads(content[8 : 8 + size])
    return header


def with_header(path: Path, header: dict[str, Any]) -> bytes:
    """A safetensors file with another header before the same numbers."""
    content = path.read_bytes()
    (size,) = struct.unpack("<Q", content[:8])
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + content[8 + size :]


@hostile(120)
@given(data=st.data())
def test_tensors_under_another_header_are_refused_or_hold_the_same_bytes(
    network: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    (path,) = network.glob("weights-*")
    other = tmp_path_factory.getbasetemp() / "weights.safetensors"
    other.write_bytes(with_header(path, data.draw(mutated(header_of(path), 2))))
    found = refused(lambda: read_tensors(other), other)
    if found is not None:
        numbers = sum(tensor.numel() * tensor.element_size() for tensor in found.values())
        assert numbers <= other.stat().st_size


@hostile(120)
@given(data=st.data())
def test_a_proof_under_another_header_is_refused_or_read(
    network: Path, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    (path,) = network.glob("proof-*")
    other = tmp_path_factory.getbasetemp() / "proof.safetensors"
    header = header_of(path)
    inner = json.loads(header["__metadata__"]["prognet"])
    header["__metadata__"]["prognet"] = json.dumps(data.draw(mutated(inner, 2)))
    other.write_bytes(with_header(path, header))
    found = refused(lambda: read_evidence(other), other)
    assert found is None or found.outputs.keys() == {"column 0", "column 1"}


@pytest.mark.parametrize(
    "content",
    [
        struct.pack("<Q", 2**63),
        struct.pack("<Q", 2**64 - 1) + b"{}",
        struct.pack("<Q", 100_000_001) + b"{" * 50,
        struct.pack("<Q", 2) + b"[]",
        struct.pack("<Q", 4) + b"null",
        b'\x08\0\0\0\0\0\0\0{"a":{}}',
    ],
)
def test_absurd_headers_are_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(content)
    for read in (read_tensors, read_evidence):
        with pytest.raises(CheckpointError, match=str(path)):
            read(path)


@pytest.mark.parametrize(
    "entries",
    [
        {"a": ("F32", [2], [0, 8]), "b": ("F32", [2], [4, 12])},
        {"a": ("F32", [2], [8, 0])},
        {"a": ("F32", [2**62, 4], [0, 8])},
        {"a": ("F32", [2], [0, 2**63])},
        {"a": ("F32", [-2], [0, 8])},
        {"a": ("F32", [2], [4, 12])},
        {"a": ("P32", [2], [0, 8])},
        {"a": ("F32", [2], [0, 8]), "b": ("F32", [2], [0, 8])},
    ],
)
def test_tensors_that_overlap_or_leave_their_file_are_refused(tmp_path: Path, entries: dict[str, Any]) -> None:
    path = tmp_path / "x.safetensors"
    described = {name: {"dtype": d, "shape": s, "data_offsets": o} for name, (d, s, o) in entries.items()}
    text = json.dumps(described).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + bytes(12))
    with pytest.raises(CheckpointError, match=str(path)):
        read_tensors(path)


def test_tensors_of_another_type_or_shape_do_not_become_a_network(network: Path, tmp_path: Path) -> None:
    for change in ("type", "shape", "more", "fewer"):
        folder = Path(shutil.copytree(network, tmp_path / change))
        (path,) = folder.glob("weights-*")
        tensors = load_file(path)
        name = sorted(tensors)[0]
        tensors[name] = tensors[name].double() if change == "type" else tensors[name].flatten()[None, None]
        if change == "more":
            tensors["columns.9.x"] = torch.zeros(1)
        if change == "fewer":
            del tensors[name]
        save_file(tensors, path)
        rehash(folder / "manifest.json")
        with pytest.raises(CheckpointError, match=str(folder)):
            ProgressiveNetwork.load(folder, build)
        with pytest.raises(CheckpointError, match=str(folder)):
            check_files(folder)


@pytest.mark.parametrize(
    "name", ["../../secret", "/etc/passwd", "..", "state-1.safetensors\0", "a/state-1.safetensors"]
)
def test_no_name_in_a_record_leads_out_of_its_folder(
    run: RunStore, network: Path, stream: Path, tmp_path: Path, name: str
) -> None:
    """Nothing is opened that a record names elsewhere: there is a file there, and it is not read."""
    places = [Path(shutil.copytree(place, tmp_path / "in" / place.name)) for place in (run.folder, network, stream)]
    (tmp_path / "secret").write_bytes((places[0] / "state-2.safetensors").read_bytes())
    edit(places[0] / RESULT_FILE, lambda d: d["files"].update({name: d["files"]["state-2.safetensors"]}))
    edit(places[1] / "manifest.json", lambda d: d.update(weights=name, files={**d["files"], name: "0" * 64}))
    edit(places[2] / "stream.json", lambda d: d["tasks"][0].update(file=name))
    (verdict,) = verify(places[0])
    assert "result.json: files: required names such as state-1.safetensors, found" in str(verdict.problem)
    for load in (lambda: check_files(places[1]), lambda: ProgressiveNetwork.load(places[1], build)):
        with pytest.raises(CheckpointError, match="manifest.json: weights: required a name such as weights-0"):
            load()
    with pytest.raises(PrognetError, match=r"stream.json: tasks\[0\].file: required a name such as task-0-"):
        Stream.load(places[2])
