"""Spoken digits, a language a task: made on the spot by the program espeak-ng, as log-mel features.

The ten digits are given to the program as numerals, which it reads in the language of the voice. For training there are
`VOICES` times `SPEEDS` times `PITCHES`, 60 ways to say each digit; the test split has voices, speeds and pitches that
are in no training split: `HELD_OUT` times `TEST_SPEEDS` times `TEST_PITCHES`, 16 ways. A *draw* decides which of the
60 a task has; nothing else depends on it but the numbers by which the features are standardised.

A sample is a picture (1, 32, 40) of decibels below the loudest value of the word, frequencies by time, as `FrontEnd`
says; a network sees it standardised by mean and deviation over the training samples of the first language.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path

import torch
from torch import Tensor

from prognet.config import Heads
from prognet.errors import ConfigError
from prognet.streams.parts import Order, Settings, generator, make_task, ordered
from prognet.streams.speech_mel import FrontEnd, log_mel, mel_filters
from prognet.streams.speech_program import Program, Word, find_program
from prognet.streams.speech_store import keep, place_of, recall
from prognet.streams.stream import Stream
from prognet.streams.task import Normalisation, Samples

LANGUAGES = ("en", "de", "fr", "es", "it")
DIGITS = tuple("0123456789")
VOICES = ("m1", "m2", "m3", "m5", "m6", "m7", "f2", "f3", "f5", "klatt")
HELD_OUT = ("m4", "m8", "f1", "f4")
SPEEDS, TEST_SPEEDS = (130, 155, 180), (140, 170)
PITCHES, TEST_PITCHES = (35, 65), (40, 60)

_TEST = 5  # the seed of the order of the test samples, which is the same in every draw
_FRONT = FrontEnd()


def spoken_digits(
    per_class: int = 5,
    first_per_class: int = 60,
    *,
    root: str | Path | None = None,
    test: int = 16,
    seed: int = 0,
    draw: int = 0,
    validation: float = 0.0,
    heads: Heads = "per-task",
    languages: Sequence[str] = LANGUAGES,
    task_order: Order = "natural",
) -> Stream:
    """The digits in several languages, (1, 32, 40) float32; each task has ten classes and one language.

    Args:
        per_class: training samples of each class, of every task but the first; 60 are all that there are.
        first_per_class: training samples of each class of the first task.
        root: a folder to keep in it, for every language, all words once they have been spoken; without one only the
            words that are needed are spoken, anew for every stream.
        test: test samples of each class, of voices that are in no training split; 16 are all.
        seed: seed of the task order and of the validation split, if any.
        draw: seed of the training subset of every task.
        validation: fraction of each task's training samples that is held out; its voices are those of training.
        heads: an output head for each task, or one that all share.
        languages: files of voices of espeak-ng, without folder, the first task first.
        task_order: the languages as given, or in an order seeded by `seed`; the first one stays the first.

    Raises:
        MissingDataError: when the program is not installed, or lacks a language or a voice.
        ConfigError: when an argument is out of its range.
        StreamError: when the program fails, or a file below `root` is damaged.
    """
    settings = Settings(seed=seed, validation=validation, heads=heads)
    most, all_tests = len(_ways(True)), len(_ways(False))
    for argument, value, limit in (
        ("per_class", per_class, most),
        ("first_per_class", first_per_class, most),
        ("test", test, all_tests),
    ):
        _check_count(argument, value, limit)
    _check_draw(draw)
    _check_languages(languages)
    order = ordered(len(languages) - 1, task_order, "task_order", seed, "task order")
    names = [languages[0], *(languages[1 + index] for index in order)]
    spoken = _Spoken(_program(languages), None if root is None else Path(root))
    counts = [first_per_class, *[per_class] * (len(names) - 1)]
    splits = [_splits(spoken, name, count, test, draw) for name, count in zip(names, counts, strict=True)]
    normalisation = _normalisation(splits[0][0].x)
    return Stream(
        [make_task(label, name, DIGITS, *splits[label], settings, normalisation) for label, name in enumerate(names)],
        name="spoken-digits",
        heads=heads,
        seed=seed,
        draw=draw,
        arguments={
            "per_class": per_class,
            "first_per_class": first_per_class,
            "test": test,
            "validation": validation,
            "heads": heads,
            "languages": list(languages),
            "task_order": task_order,
        },
    )


@dataclass(frozen=True, slots=True)
class _Spoken:
    """Where features come from: a program, and a folder for those that there are already."""

    program: Program
    root: Path | None

    def features(self, language: str, chosen: Sequence[int]) -> Tensor:
        """The words of a language at these places among all of them -> (N, 1, mels, frames)."""
        words = words_of(language)
        if self.root is None:
            return self._made([words[place] for place in chosen])
        decided_by = {"program": self.program.version, "front": asdict(_FRONT), "words": [asdict(w) for w in words]}
        place = place_of(self.root, language, decided_by)
        everything = recall(place, (len(words), *_FRONT.shape))
        if everything is None:
            everything = self._made(words)
            keep(place, everything)
        return everything[list(chosen)]

    def _made(self, words: Sequence[Word]) -> Tensor:
        filters = mel_filters(_FRONT)
        return torch.stack([log_mel(sound, _FRONT, filters) for sound in self.program.say_all(words)])


def words_of(language: str) -> list[Word]:
    """Every word of a language: digit by digit, all ways to say it for training, then those for testing."""
    return [
        Word(digit, language, variant, speed, pitch)
        for training in (True, False)
        for digit, (variant, speed, pitch) in product(DIGITS, _ways(training))
    ]


def _ways(training: bool) -> list[tuple[str, int, int]]:
    return list(product(VOICES, SPEEDS, PITCHES) if training else product(HELD_OUT, TEST_SPEEDS, TEST_PITCHES))


def _splits(spoken: _Spoken, language: str, count: int, test: int, draw: int) -> tuple[Samples, Samples]:
    """The training and the test samples of a language."""
    most, all_tests = len(_ways(True)), len(_ways(False))
    train = _chosen(count, most, generator(draw, "spoken digits", language), 0)
    tested = _chosen(test, all_tests, generator(_TEST, "spoken digits", language), most * len(DIGITS))
    x = spoken.features(language, [*train, *tested])
    y = torch.arange(len(DIGITS))
    n = len(train)
    return Samples(x[:n], y.repeat_interleave(count)), Samples(x[n:], y.repeat_interleave(test))


def _chosen(count: int, most: int, random: torch.Generator, start: int) -> list[int]:
    """For each digit `count` of `most` places, ascending; those of digit 0 begin at `start`."""
    return [
        start + digit * most + way
        for digit in range(len(DIGITS))
        for way in torch.randperm(most, generator=random)[:count].sort().values.tolist()
    ]


def _normalisation(x: Tensor) -> Normalisation:
    """Mean and deviation over all values, rounded: more digits would mean nothing."""
    x = x.double()
    return Normalisation((round(x.mean().item(), 1),), (round(x.std().item(), 1),))


def _program(languages: Sequence[str]) -> Program:
    program = find_program()
    program.check(languages, (*VOICES, *HELD_OUT))
    return program


def _check_count(argument: str, value: int, most: int) -> None:
    if type(value) is not int or not 1 <= value <= most:
        raise ConfigError(f"{argument}: required 1 to {most} samples of a class, found {value!r}; ask for fewer.")


def _check_draw(draw: int) -> None:
    if type(draw) is not int:
        raise ConfigError(f"draw: required a whole number, found {draw!r}; give for instance 0.")


def _check_languages(languages: Sequence[str]) -> None:
    if isinstance(languages, str) or not languages or len(set(languages)) != len(languages):
        raise ConfigError(
            f"languages: required one or more names, none of them twice, found {languages!r}; for instance "
            f"{' '.join(LANGUAGES)}."
        )
