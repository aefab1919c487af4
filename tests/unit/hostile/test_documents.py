"""Sealed documents, byte by byte, and every kind of record with its structure changed and its seal made anew."""

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prognet.analysed import ANALYSIS_FILE, read_analysis, write_analysis
from prognet.config import Training
from prognet.documents import record_from, value_from
from prognet.errors import ConfigError, JSONValueError, RunFolderError
from prognet.files import read_json, to_json, write_json
from prognet.manifest import MANIFEST_FILE, read_manifest, write_manifest
from prognet.related import (
    GEOMETRY_FILE,
    RELATEDNESS_FILE,
    read_geometry,
    read_relatedness,
    write_geometry,
    write_relatedness,
)
from prognet.results import RESULT_FILE, RunResult
from prognet.tuned import Choice, Tuned, read_tuned, write_tuned
from tests.helpers.analyses import make_analysis
from tests.helpers.gates import with_gates
from tests.helpers.hostile import VALUES, deep, flipped, hostile, mutated, refused
from tests.helpers.relations import make_geometry, make_relatedness
from tests.helpers.results import make_run
from tests.helpers.sealing import reseal, sealed, unsealed
from tests.unit.test_manifest import MANIFEST

SCHEMA = "prognet.test"
HEADER = {"schema": SCHEMA, "version": 1}
RUN = with_gates([make_run("progressive", n_tasks=2)])[0]


def read(path: Path) -> dict[str, Any]:
    return read_json(path, SCHEMA, 1)


def test_the_seal_is_the_sha256_of_what_stands_before_it(tmp_path: Path) -> None:
    """By hashlib and a split at the last comma, which know nothing of how it is written."""
    content = {"a": [1.5, None, "é"], "sha": {"sha256": "0" * 64}}
    write_json(tmp_path / "x.json", SCHEMA, 1, content)
    assert (tmp_path / "x.json").read_bytes() == sealed({**HEADER, **content})
    assert read(tmp_path / "x.json") == content
    assert json.loads((tmp_path / "x.json").read_text())["sha256"] != "0" * 64


@pytest.mark.parametrize("content", [{}, {"a": 1, "b": {"c": [0.1, "x"]}}, {"a": {"sha256": "0" * 64}}])
def test_every_flipped_bit_of_a_document_is_refused(tmp_path: Path, content: dict[str, Any]) -> None:
    path = tmp_path / "x.json"
    write_json(path, SCHEMA, 1, content)
    whole = path.read_bytes()
    for bit in range(8 * len(whole)):
        path.write_bytes(flipped(whole, bit))
        with pytest.raises(RunFolderError, match=str(path)):
            read(path)
    path.write_bytes(whole)
    assert read(path) == content


def test_every_truncation_of_a_document_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    write_json(path, SCHEMA, 1, {"a": 1, "b": [0.1, "x"]})
    whole = path.read_bytes()
    for size in range(len(whole)):
        path.write_bytes(whole[:size])
        with pytest.raises(RunFolderError, match=str(path)):
            read(path)


@pytest.mark.parametrize("tail", [b"\n", b" ", b"\0", b"x", b"{}"])
def test_a_byte_behind_the_end_is_refused(tmp_path: Path, tail: bytes) -> None:
    path = tmp_path / "x.json"
    write_json(path, SCHEMA, 1, {"a": 1})
    path.write_bytes(path.read_bytes() + tail)
    with pytest.raises(RunFolderError, match=str(path)):
        read(path)


def test_whoever_edits_a_file_is_told_what_to_do(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    write_json(path, SCHEMA, 1, {"a": 1})
    seal = json.loads(path.read_text())["sha256"]
    path.write_text(path.read_text().replace('"a": 1', '"a": 2'))
    with pytest.raises(RunFolderError) as caught:
        read_json(path, SCHEMA, 1, remedy="begin again")
    assert str(caught.value).startswith(
        f"{path}: required the content with SHA-256 {seal}, as its last line says, found "
    )
    assert str(caught.value).endswith("; the file was edited or is damaged: begin again.")
    path.write_text(json.dumps({**HEADER, "a": 2}))
    with pytest.raises(RunFolderError) as caught:
        read(path)
    assert str(caught.value) == (
        f"{path}: required a last line with the SHA-256 of what stands before it, found none; the file was edited or "
        "is damaged: put a copy back, or remove the file and make it again."
    )


def test_a_file_that_may_be_edited_needs_no_seal_and_has_none(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    write_json(path, SCHEMA, 1, {"a": 1}, sealed=False)
    assert json.loads(path.read_text()) == {**HEADER, "a": 1}
    path.write_text(path.read_text().replace('"a": 1', '"a": 2'))
    assert read_json(path, SCHEMA, 1, sealed=False) == {"a": 2}
    with pytest.raises(RunFolderError, match="required a last line with the SHA-256"):
        read(path)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"a": 1, "a": 2}', "a key that occurs twice in one object"),
        ('{"b": {"a": 1, "a": 1}}', "a key that occurs twice in one object"),
        ('{"a": NaN}', "a number that is not finite: NaN"),
        ('{"a": -Infinity}', "a number that is not finite: -Infinity"),
        ('{"a": 1e999}', "a number that is not finite: 1e999"),
        ('{"a": "\\ud800"}', "surrogates not allowed"),
        ('{"\\udfff": 1}', "surrogates not allowed"),
        ('{"a": ' + "[" * 70 + "]" * 70 + "}", "more than 64 levels"),
        ('{"a": ' + "[" * 100_000 + "]" * 100_000 + "}", "recursion"),
        ('{"a": ' + "9" * 5000 + "}", "integer string conversion"),
    ],
)
def test_what_two_readers_could_understand_differently_is_refused(tmp_path: Path, text: str, reason: str) -> None:
    path = tmp_path / "x.json"
    path.write_text(f'{{"schema": "{SCHEMA}", "version": 1, ' + text[1:])
    for is_sealed in (True, False):
        with pytest.raises(
            RunFolderError, match=f"{path}: required a {SCHEMA} file, found unreadable content"
        ) as caught:
            read_json(path, SCHEMA, 1, sealed=is_sealed)
        assert reason in str(caught.value)


@pytest.mark.parametrize("key", ["schema", "version", "sha256"])
def test_a_key_that_every_document_has_is_refused_before_anything_is_written(tmp_path: Path, key: str) -> None:
    with pytest.raises(JSONValueError, match=rf"content: required other keys .*, found \['{key}'\]"):
        write_json(tmp_path / "x.json", SCHEMA, 1, {key: 1})
    assert not list(tmp_path.iterdir())


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    write_json(path, SCHEMA, 1, {"a": "x" * 100})
    assert read_json(path, SCHEMA, 1, largest=path.stat().st_size)
    with pytest.raises(RunFolderError, match=r"unreadable content \(more than 50 bytes\)"):
        read_json(path, SCHEMA, 1, largest=50)


@hostile(100)
@given(content=st.binary(max_size=200))
def test_any_bytes_are_refused(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any.json"
    path.write_bytes(content)
    assert refused(lambda: read(path), path) is None


@hostile(150)
@given(
    content=st.dictionaries(
        st.text(max_size=5),
        st.recursive(
            st.none()
            | st.booleans()
            | st.integers(-(2**70), 2**70)
            | st.floats(allow_nan=False, allow_infinity=False)
            | st.text(),
            lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
            max_leaves=10,
        ),
        max_size=4,
    )
)
def test_whatever_can_be_written_is_read_back(
    tmp_path_factory: pytest.TempPathFactory, content: dict[str, Any]
) -> None:
    path = tmp_path_factory.getbasetemp() / "whole.json"
    kept = {key: value for key, value in content.items() if key not in ("schema", "version", "sha256")}
    write_json(path, SCHEMA, 1, kept)
    assert read(path) == kept
    assert path.read_bytes() == sealed({**HEADER, **kept})


def write_tuned_file(folder: Path) -> Path:
    path = folder / "tuned.json"
    choice = Choice(Training(epochs=3, lr=0.01, augment=("flip",), clip_norm=1.0), 0.5, [0.5])
    write_tuned(path, Tuned(stream={}, seeds=[0], trials=[choice.training], choices={"finetune": choice}))
    return path


def write_manifest_file(folder: Path) -> Path:
    write_manifest(folder, MANIFEST)
    return folder / MANIFEST_FILE


def plain_tuned(folder: Path) -> dict[str, Any]:
    return {name: asdict(training) for name, training in read_tuned(folder / "tuned.json").items()}


KINDS: dict[str, tuple[Callable[[Path], Path], Callable[[Path], Any]]] = {
    "result": (lambda folder: RUN.save(folder), lambda folder: RunResult.load(folder / RESULT_FILE)),
    "manifest": (
        write_manifest_file,
        lambda folder: read_manifest(folder),
    ),
    "analysis": (
        lambda folder: write_analysis(folder, make_analysis(make_run("progressive", n_tasks=3))),
        lambda folder: read_analysis(folder),
    ),
    "relatedness": (
        lambda folder: write_relatedness(folder, make_relatedness(make_run("progressive", n_tasks=3))),
        lambda folder: read_relatedness(folder),
    ),
    "geometry": (
        lambda folder: write_geometry(folder, make_geometry(make_run("progressive", n_tasks=2))),
        lambda folder: read_geometry(folder),
    ),
}
FILES = (RESULT_FILE, MANIFEST_FILE, ANALYSIS_FILE, RELATEDNESS_FILE, GEOMETRY_FILE)


def as_document(found: Any) -> Any:
    """What was read, as JSON again."""
    from prognet.results import result_to_json

    return result_to_json(found) if isinstance(found, RunResult) else to_json(asdict(found))


def check(folder: Path, kind: str, changed: dict[str, Any]) -> None:
    """The record is refused by the name of its file, or says exactly what its file says."""
    write, load = KINDS[kind]
    path = write(folder)
    reseal(path, changed)
    found = refused(lambda: load(folder), path)
    if found is not None:
        said = {key: value for key, value in changed.items() if key not in ("schema", "version")}
        assert as_document(found) == said


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("records")


def documents(kind: str, times: int = 2) -> st.SearchStrategy[dict[str, Any]]:
    import tempfile

    with tempfile.TemporaryDirectory() as place:
        return mutated(unsealed(KINDS[kind][0](Path(place))), times)


@hostile(300)
@given(changed=documents("result"))
def test_a_result_of_another_structure(folder: Path, changed: dict[str, Any]) -> None:
    check(folder, "result", changed)


@hostile(100)
@given(changed=documents("manifest"))
def test_a_manifest_of_another_structure(folder: Path, changed: dict[str, Any]) -> None:
    check(folder, "manifest", changed)


@hostile(100)
@given(changed=documents("analysis"))
def test_an_analysis_of_another_structure(folder: Path, changed: dict[str, Any]) -> None:
    check(folder, "analysis", changed)


@hostile(60)
@given(changed=documents("relatedness"))
def test_a_relatedness_of_another_structure(folder: Path, changed: dict[str, Any]) -> None:
    check(folder, "relatedness", changed)


@hostile(60)
@given(changed=documents("geometry"))
def test_a_geometry_of_another_structure(folder: Path, changed: dict[str, Any]) -> None:
    check(folder, "geometry", changed)


@hostile(150)
@given(data=st.data())
def test_a_search_that_was_edited(folder: Path, data: st.DataObject) -> None:
    path = write_tuned_file(folder)
    changed = data.draw(mutated(json.loads(path.read_text()), 2))
    path.write_text(json.dumps(changed))
    found = refused(lambda: plain_tuned(folder), path)
    for name, training in (found or {}).items():
        said = changed["strategies"][name]["training"]
        assert {key: training[key] for key in said} == {
            **said,
            **({"augment": tuple(said["augment"])} if "augment" in said else {}),
        }


@hostile(80)
@given(value=st.sampled_from(VALUES), field=st.sampled_from(sorted(asdict(Training()))))
def test_a_field_of_a_record_is_named(value: Any, field: str) -> None:
    try:
        found = record_from(Training, {field: value}, "strategies.x", partial=True)
    except (JSONValueError, ConfigError) as error:
        assert str(error).startswith(f"strategies.x.{field}")
    else:
        assert getattr(found, field) == (tuple(value) if isinstance(value, list) else value)


@pytest.mark.parametrize("kind", [int, float, str, bool, tuple[int, ...]])
@pytest.mark.parametrize("value", [deep(3), {"a": 1}])
def test_containers_are_no_scalars(kind: Any, value: Any) -> None:
    with pytest.raises(JSONValueError, match=r"x(\[0\])?: required "):
        value_from(kind, value, "x")
