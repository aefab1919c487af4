"""The stream of spoken digits: with a stand-in for the program, and with the program where it is installed."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import torch

from prognet.backbones import cnn
from prognet.catalogue import stream_again, stream_maker
from prognet.cli import main
from prognet.config import Training
from prognet.errors import ConfigError, MissingDataError, StreamError
from prognet.evaluation import grid
from prognet.options import SpokenDigits
from prognet.strategies import Independent
from prognet.streams import PerSeed, speech
from prognet.streams.speech import (
    DIGITS,
    HELD_OUT,
    LANGUAGES,
    PITCHES,
    SPEEDS,
    TEST_PITCHES,
    TEST_SPEEDS,
    VOICES,
    spoken_digits,
    words_of,
)
from prognet.streams.speech_program import find_program
from prognet.streams.stream import Stream
from tests.helpers.data import same_samples
from tests.helpers.runs import MEASUREMENT
from tests.helpers.speech import Tones, needs_program

TWO = ("en", "de")


@pytest.fixture
def tones(monkeypatch: pytest.MonkeyPatch) -> Tones:
    """The stand-in, which every stream of the test uses."""
    program = Tones()
    monkeypatch.setattr(speech, "find_program", lambda: program)
    return program


def small(**changes: Any) -> Stream:
    arguments: dict[str, Any] = {"per_class": 2, "first_per_class": 4, "test": 3, "languages": TWO, **changes}
    return spoken_digits(**arguments)


def test_a_rich_first_language_and_poor_ones(tones: Tones) -> None:
    stream = small(languages=("en", "de", "it"))
    assert [task.name for task in stream] == ["en", "de", "it"]
    for task, count in zip(stream, (4, 2, 2), strict=True):
        assert torch.bincount(task.train.y).tolist() == [count] * 10
        assert torch.bincount(task.test.y).tolist() == [3] * 10
        assert (task.input_shape, task.classes, len(task.val)) == ((1, 32, 40), DIGITS, 0)
        assert task.train.x.dtype == torch.float32
        assert task.train.x.min() >= -80
        assert task.train.x.max() == 0
        assert task.head == task.label
    assert (stream.name, stream.seed, stream.draw) == ("spoken-digits", 0, 0)
    assert stream.arguments == {
        "per_class": 2,
        "first_per_class": 4,
        "test": 3,
        "validation": 0.0,
        "heads": "per-task",
        "languages": ["en", "de", "it"],
        "task_order": "natural",
    }


def test_the_words_that_are_drawn_are_the_ones_that_are_said(tones: Tones) -> None:
    small()
    assert tones.checked == [TWO, (*VOICES, *HELD_OUT)]
    assert Counter(word.language for word in tones.said) == {"en": 70, "de": 50}
    assert len(set(tones.said)) == 120
    trained = [word for word in tones.said if word.variant in VOICES]
    tested = [word for word in tones.said if word.variant in HELD_OUT]
    assert Counter((word.language, word.text) for word in trained) == {
        **{("en", digit): 4 for digit in DIGITS},
        **{("de", digit): 2 for digit in DIGITS},
    }
    assert {word.speed for word in trained} == set(SPEEDS)
    assert {word.pitch for word in trained} == set(PITCHES)
    assert {word.speed for word in tested} == set(TEST_SPEEDS)
    assert {word.pitch for word in tested} == set(TEST_PITCHES)


def test_nothing_of_the_test_split_is_in_training() -> None:
    for ours, theirs in ((VOICES, HELD_OUT), (SPEEDS, TEST_SPEEDS), (PITCHES, TEST_PITCHES)):
        assert not set(map(str, ours)) & set(map(str, theirs))
    words = words_of("de")
    assert len(words) == len(set(words)) == 10 * 60 + 10 * 16
    assert {word.text for word in words} == set(DIGITS)


def test_a_label_is_the_digit_that_was_said(tones: Tones) -> None:
    task = small(first_per_class=60, test=16, languages=("de",))[0]
    words = words_of("de")
    assert [*task.train.y.tolist(), *task.test.y.tolist()] == [DIGITS.index(word.text) for word in words]
    assert tones.said == words  # all of them, in this order


def test_a_draw_changes_the_training_subset_and_nothing_else(tones: Tones) -> None:
    first, second = small(draw=0), small(draw=1)
    assert first.arguments == second.arguments
    assert (first.draw, second.draw) == (0, 1)
    for one, other in zip(first, second, strict=True):
        assert same_samples(one.test, other.test)
        assert torch.equal(one.train.y, other.train.y)
        assert not torch.equal(one.train.x, other.train.x)
    assert first.digest == small(draw=0).digest != second.digest
    drawn = PerSeed(lambda order, seed: small(seed=order, draw=seed))
    assert drawn(3, 1).draw == 1
    assert same_samples(drawn(3, 1)[1].train, second[1].train)


def test_a_task_does_not_depend_on_its_place(tones: Tones) -> None:
    forth = small(languages=("en", "de", "it"), per_class=4)
    back = small(languages=("it", "de", "en"), per_class=4)
    for place in range(3):
        assert same_samples(forth[place].train, back[2 - place].train)
        assert same_samples(forth[place].test, back[2 - place].test)


def test_a_seeded_order_keeps_the_first_language(tones: Tones) -> None:
    orders = [
        [task.name for task in small(per_class=1, test=1, languages=LANGUAGES, task_order="seeded", seed=seed)]
        for seed in range(4)
    ]
    assert {order[0] for order in orders} == {"en"}
    assert all(sorted(order) == sorted(LANGUAGES) for order in orders)
    assert len({tuple(order) for order in orders}) > 1


def test_networks_see_numbers_about_zero(tones: Tones) -> None:
    stream = small()
    assert stream[0].normalisation == stream[1].normalisation
    seen = stream[0].normalisation(stream[0].train.x)
    assert seen.mean().item() == pytest.approx(0, abs=0.01)
    assert seen.std().item() == pytest.approx(1, abs=0.01)


def test_validation_samples_come_from_training(tones: Tones) -> None:
    task = small(validation=0.5)[0]
    assert torch.bincount(task.train.y).tolist() == torch.bincount(task.val.y).tolist() == [2] * 10
    whole = {x.numpy().tobytes() for x in small()[0].train.x}
    assert {x.numpy().tobytes() for split in (task.train, task.val) for x in split.x} == whole


def test_one_head_for_all(tones: Tones) -> None:
    assert [task.head for task in small(heads="shared")] == [0, 0]


def test_words_are_spoken_once_where_they_are_kept(tones: Tones, tmp_path: Path) -> None:
    without = small()
    asked = len(tones.said)
    first = small(root=tmp_path)
    assert len(tones.said) - asked == 2 * 760  # every word of both
    second = small(root=str(tmp_path), draw=1)
    assert len(tones.said) - asked == 2 * 760
    assert first.digest == without.digest
    assert second.digest == small(draw=1).digest
    assert first.arguments == without.arguments
    names = sorted(path.name for path in tmp_path.iterdir())
    assert [name.rpartition("-")[0] for name in names] == ["spoken-de", "spoken-en"]


def test_another_release_of_the_program_speaks_anew(
    tones: Tones, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small(root=tmp_path, languages=("de",))
    newer = Tones(version="tones 2")
    monkeypatch.setattr(speech, "find_program", lambda: newer)
    small(root=tmp_path, languages=("de",))
    assert len(newer.said) == 760
    assert len(list(tmp_path.iterdir())) == 2


def test_a_damaged_file_is_refused_and_remade_when_it_is_gone(tones: Tones, tmp_path: Path) -> None:
    stream = small(root=tmp_path, languages=("de",))
    place = next(tmp_path.iterdir())
    content = bytearray(place.read_bytes())
    content[-1] ^= 1
    place.write_bytes(content)
    with pytest.raises(StreamError, match="delete it to have it remade"):
        small(root=tmp_path, languages=("de",))
    place.unlink()
    assert small(root=tmp_path, languages=("de",)).digest == stream.digest


def test_a_saved_stream_needs_no_program(tones: Tones, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = small(draw=2)
    stream.save(tmp_path / "spoken")
    monkeypatch.undo()
    monkeypatch.setenv("PATH", "")
    again = Stream.load(tmp_path / "spoken")
    assert (again.digest, again.draw, again.arguments) == (stream.digest, 2, stream.arguments)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"per_class": 61}, "per_class: required 1 to 60 samples of a class, found 61; ask for fewer."),
        ({"first_per_class": 0}, "first_per_class: required 1 to 60 samples of a class, found 0; ask for fewer."),
        ({"test": 17}, "test: required 1 to 16 samples of a class, found 17; ask for fewer."),
        ({"test": True}, "test: required 1 to 16 samples of a class, found True; ask for fewer."),
        ({"draw": None}, "draw: required a whole number, found None; give for instance 0."),
        (
            {"languages": ("de", "de")},
            "languages: required one or more names, none of them twice, found ('de', 'de'); for instance en de "
            "fr es it.",
        ),
        ({"languages": ()}, "languages: required one or more names, none of them twice, found ()"),
        ({"languages": "de"}, "languages: required one or more names, none of them twice, found 'de'"),
        ({"task_order": "random"}, "task_order: required 'seeded' or 'natural', found 'random'"),
        ({"validation": 1.0}, "validation: required a fraction in [0, 1), found 1.0"),
        ({"heads": "none"}, "heads: required one of"),
    ],
)
def test_arguments_out_of_range_are_refused_before_a_word_is_said(
    changes: dict[str, Any], message: str, tones: Tones
) -> None:
    with pytest.raises(ConfigError) as caught:
        small(**changes)
    assert str(caught.value).startswith(message)
    assert tones.said == []


def test_without_the_program_nothing_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    with pytest.raises(MissingDataError, match="required the program espeak-ng on the PATH, found none; install it"):
        spoken_digits()
    assert main(["run", "spoken-digits", "--out", "out", "--root", "words"]) == 2
    assert "apt-get install espeak-ng" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_a_comparison_draws_for_every_seed_and_its_streams_can_be_made_again(tones: Tones, tmp_path: Path) -> None:
    words = tmp_path / "words"
    chosen = SpokenDigits(languages=TWO, per_class=1, first_per_class=2, test=2, root=words)
    outcome = grid(
        [Independent(cnn(channels=(2, 3)))],
        stream_maker("spoken-digits", chosen),
        out=tmp_path / "out",
        seeds=range(2),
        training=Training(updates=1),
        measurement=MEASUREMENT,
        device="cpu",
        threads=1,
    )
    assert not outcome.failed
    assert [(run.seed, run.config["draw"]) for run in outcome.results] == [(0, 0), (1, 1)]
    digests = [stream_again(run.config, words).digest for run in outcome.results]
    assert digests == [small(per_class=1, first_per_class=2, test=2, draw=draw).digest for draw in (0, 1)]
    assert digests[0] != digests[1]


@needs_program
def test_real_digits_are_the_same_again() -> None:
    stream = small(per_class=1, first_per_class=1, test=1)
    assert small(per_class=1, first_per_class=1, test=1).digest == stream.digest


@needs_program
@pytest.mark.parametrize("language", LANGUAGES)
def test_every_way_to_say_a_digit_is_another_sound(language: str) -> None:
    words = [word for word in words_of(language) if word.text == "0"]
    sounds = {sound.numpy().tobytes() for sound in find_program().say_all(words)}
    assert len(sounds) == len(words) == 60 + 16


@needs_program
def test_real_digits_of_other_voices_are_recognised() -> None:
    task = small(first_per_class=6, test=4, languages=("de",))[0]
    train, test = (task.normalisation(split.x).mean(dim=3).flatten(1) for split in (task.train, task.test))
    nearest = task.train.y[torch.cdist(test, train).argmin(dim=1)]  # by spectrum alone, whatever the time
    assert (nearest == task.test.y).double().mean() > 0.3  # of ten classes; the voices are in no training sample
