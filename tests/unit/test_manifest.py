import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from prognet.errors import RunFolderError
from prognet.manifest import Manifest, merge_manifest, read_manifest, write_manifest
from tests.helpers.sealing import sealed

MANIFEST = Manifest(
    command=["prognet", "run", "demo"],
    stream={"name": "blobs", "heads": "per-task", "arguments": {"n": 2}},
    data={"0": "abc"},
    backbone={"name": "mlp", "arguments": {"hidden": [8]}},
    training={"epochs": 2, "lr": 0.1},
    measurement={"lca_updates": 3},
    execution={"feature_memory": 5},
    tuned={"progressive": {"epochs": 2, "lr": 0.5}},
    strategies=["progressive", "finetune"],
    seeds=[0, 2],
    orders=[0],
    unavailable={"independent-wide": "no width"},
    failed={"finetune, order 0, seed 0": "DivergedError: lr"},
    environment={"torch": "2"},
    created="2024-01-01T00:00:00+00:00",
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    write_manifest(tmp_path, MANIFEST)
    return tmp_path


def test_what_was_written_is_read(folder: Path) -> None:
    assert read_manifest(folder) == MANIFEST
    document = json.loads((folder / "manifest.json").read_text())
    assert (document["schema"], document["version"]) == ("prognet.folder", 3)


def test_an_empty_folder_takes_any_comparison(tmp_path: Path) -> None:
    assert merge_manifest(tmp_path, MANIFEST) is MANIFEST
    assert list(tmp_path.iterdir()) == []


def test_a_comparison_is_made_larger(folder: Path) -> None:
    new = replace(
        MANIFEST,
        command=["prognet", "run", "more"],
        strategies=["independent", "finetune"],
        seeds=[1, 0],
        orders=[3],
        data={"3": "def"},
        tuned={"independent": {"epochs": 9}},
        unavailable={"other": "why"},
        failed={},
        environment={"torch": "3"},
        created="2030-01-01T00:00:00+00:00",
    )
    assert merge_manifest(folder, new) == Manifest(
        command=["prognet", "run", "more"],
        stream=MANIFEST.stream,
        data={"0": "abc", "3": "def"},
        backbone=MANIFEST.backbone,
        training=MANIFEST.training,
        measurement=MANIFEST.measurement,
        execution=MANIFEST.execution,
        tuned={"progressive": {"epochs": 2, "lr": 0.5}, "independent": {"epochs": 9}},
        strategies=["progressive", "finetune", "independent"],
        seeds=[0, 1, 2],
        orders=[0, 3],
        unavailable={"independent-wide": "no width", "other": "why"},
        failed={"finetune, order 0, seed 0": "DivergedError: lr"},
        environment={"torch": "3"},
        created="2024-01-01T00:00:00+00:00",
    )
    assert read_manifest(folder) == MANIFEST  # merging writes nothing


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        ({"stream": {**MANIFEST.stream, "name": "other"}}, "stream.name = 'other', found 'blobs'"),
        ({"stream": {**MANIFEST.stream, "arguments": {"n": 3}}}, "stream.arguments = {'n': 3}, found {'n': 2}"),
        ({"data": {"0": "def", "3": "abc"}}, "data.0 = 'def', found 'abc'"),
        ({"backbone": {"name": "cnn", "arguments": {"hidden": [8]}}}, "backbone.name = 'cnn', found 'mlp'"),
        ({"training": {"epochs": 2, "lr": 0.2}}, "training.lr = 0.2, found 0.1"),
        ({"training": {"epochs": 2}}, "training.lr = None, found 0.1"),
        ({"measurement": {"lca_updates": 3, "new": 1}}, "measurement.new = 1, found None"),
        ({"tuned": {}}, "tuned.progressive.epochs = None, found 2"),
        ({"tuned": {**MANIFEST.tuned, "finetune": {"lr": 0.5}}}, "tuned.finetune.lr = 0.5, found None"),
    ],
)
def test_another_comparison_is_refused_by_the_first_difference(
    folder: Path, changes: dict[str, Any], difference: str
) -> None:
    with pytest.raises(RunFolderError) as caught:
        merge_manifest(folder, replace(MANIFEST, **changes))
    path = folder / "manifest.json"
    assert str(caught.value) == f"{path}: required a comparison with {difference}; choose another folder."


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "required a prognet.folder file, found unreadable content"),
        ('{"schema": "prognet.result", "version": 1}', "required schema 'prognet.folder', found 'prognet.result'"),
        ('{"schema": "prognet.folder", "version": 2}', "required version 3 of prognet.folder, found 2"),
        (
            '{"schema": "prognet.folder", "version": 3}',
            "required a last line with the SHA-256 of what stands before it",
        ),
        (sealed({"schema": "prognet.folder", "version": 3}).decode(), "command: required a value, found none; remove"),
        (
            sealed({"schema": "prognet.folder", "version": 3, "novelty": 1}).decode(),
            "found 'novelty'; remove the file and run the same command again, which writes it anew.",
        ),
    ],
)
def test_another_file_is_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(RunFolderError, match=re.escape(message)):
        read_manifest(tmp_path)
    with pytest.raises(RunFolderError, match=re.escape(message)):
        merge_manifest(tmp_path, MANIFEST)
    assert (tmp_path / "manifest.json").read_text() == text


def test_a_missing_manifest_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="manifest.json: required a prognet.folder file, found none"):
        read_manifest(tmp_path)


def test_a_manifest_notes_when_it_was_made() -> None:
    made = Manifest(
        stream={},
        backbone={},
        training={},
        measurement={},
        execution={},
        strategies=[],
        seeds=[],
        orders=[],
        environment={},
    ).created
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\+00:00", made)
