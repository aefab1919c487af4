import json
from math import nan
from pathlib import Path
from typing import Any

import pytest

from prognet.config import Training
from prognet.errors import RunFolderError
from prognet.tuned import Choice, Tuned, read_tuned, write_tuned

FIRST = Training(epochs=3, lr=0.01)
SECOND = Training(epochs=3, lr=0.1, weight_decay=1e-4, optimiser="sgd", clip_norm=1.0, augment=("flip",))
TUNED = Tuned(
    stream={"name": "blobs", "arguments": {"n": 2}, "order": 0, "tasks": 2},
    seeds=[0, 1],
    trials=[FIRST, SECOND],
    choices={
        "finetune": Choice(FIRST, 0.5, [0.5, nan]),
        "progressive": Choice(SECOND, 0.75, [0.25, 0.75]),
    },
)


def changed(path: Path, **values: Any) -> Path:
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    write_tuned(tmp_path / "below" / "tuned.json", TUNED)
    return tmp_path / "below" / "tuned.json"


def test_what_was_written_is_read(file: Path) -> None:
    assert read_tuned(file) == {"finetune": FIRST, "progressive": SECOND}


def test_the_file_holds_the_whole_search(file: Path) -> None:
    document = json.loads(file.read_text())
    assert (document["schema"], document["version"]) == ("prognet.tuned", 1)
    assert document["stream"] == {"name": "blobs", "arguments": {"n": 2}, "order": 0, "tasks": 2}
    assert document["budget"] == {"trials": 2, "seeds": [0, 1], "chosen_by": "average validation accuracy"}
    assert [trial["lr"] for trial in document["trials"]] == [0.01, 0.1]
    assert document["strategies"]["finetune"]["scores"] == [0.5, None]  # a trial that diverged
    assert document["strategies"]["progressive"]["score"] == 0.75


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"schema": "prognet.result"}, "required schema 'prognet.tuned', found 'prognet.result'"),
        ({"version": 2}, "required version 1 of prognet.tuned, found 2"),
        ({"strategies": []}, "strategies: required an object, found []; mend the field, or make the file with"),
        ({"strategies": {"finetune": {}}}, "strategies.finetune.training: required an object, found None"),
        (
            {"strategies": {"finetune": {"training": {"rate": 1}}}},
            "strategies.finetune.training.rate: required one of the fields ['augment', ",
        ),
        ({"strategies": {"finetune": {"training": {"lr": "1"}}}}, "training.lr: required a number, found '1'"),
        (
            {"strategies": {"finetune": {"training": {"lr": -1}}}},
            "strategies.finetune.training.lr: required a finite number above 0, found -1.0; mend the field",
        ),
    ],
)
def test_another_file_is_refused(file: Path, values: dict[str, Any], message: str) -> None:
    with pytest.raises(RunFolderError) as caught:
        read_tuned(changed(file, **values))
    assert str(caught.value).startswith(f"{file}: ")
    assert message in str(caught.value)


def test_a_file_may_be_edited_by_hand_and_names_only_what_it_changes(file: Path) -> None:
    assert "sha256" not in json.loads(file.read_text())
    changed(file, strategies={"finetune": {"training": {"lr": 0.25}}})
    assert read_tuned(file) == {"finetune": Training(lr=0.25)}


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunFolderError, match="required a prognet.tuned file, found none"):
        read_tuned(tmp_path / "tuned.json")


def test_a_choice_in_one_line() -> None:
    assert TUNED.choices["progressive"].describe() == "lr=1.00e-01 weight_decay=0.0001 validation=0.7500"
