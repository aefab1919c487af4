"""Calling espeak-ng: against stand-ins that fail in every way, and against the program where it is installed."""

import subprocess
from pathlib import Path

import pytest
import torch

from prognet.errors import MissingDataError, StreamError
from prognet.streams import speech_program
from prognet.streams.speech import DIGITS, HELD_OUT, LANGUAGES, PITCHES, SPEEDS, VOICES
from prognet.streams.speech_mel import FrontEnd
from prognet.streams.speech_program import NAME, RATE, Program, Word, find_program
from tests.helpers.speech import FakeProgram, needs_program, tone, wav

WORD = Word("7", "de", "m1", 150, 40)
SAID = "'7' by de+m1 at speed 150 and pitch 40"
ANEW = "; try `espeak-ng --version`, and install it anew."


def installed(monkeypatch: pytest.MonkeyPatch, fake: FakeProgram) -> Program:
    monkeypatch.setenv("PATH", str(fake.folder))
    return find_program()


def refused(fake: FakeProgram, monkeypatch: pytest.MonkeyPatch) -> str:
    program = installed(monkeypatch, fake)
    with pytest.raises(StreamError) as caught:
        program.say(WORD)
    return str(caught.value)


def test_a_word_is_asked_for_and_heard(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeProgram(tmp_path / "bin", wav(tone(440)))
    program = installed(monkeypatch, fake)
    assert program == Program(str(fake.folder / NAME), "eSpeak NG text-to-speech: 9.9")
    assert torch.equal(program.say(WORD), tone(440))
    assert fake.calls == ["--version", "-v de+m1 -s 150 -p 40 -z --stdout -- 7"]


def test_a_length_that_is_not_known_when_the_header_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sound = bytearray(wav(tone(440)))
    sound[4:8], sound[40:44] = bytes.fromhex("24f0ff7f"), bytes.fromhex("00f0ff7f")  # as espeak-ng has it
    assert torch.equal(installed(monkeypatch, FakeProgram(tmp_path / "bin", bytes(sound))).say(WORD), tone(440))


def test_text_is_no_option_and_no_shell_reads_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeProgram(tmp_path / "bin", wav(tone(440)))
    installed(monkeypatch, fake).say(Word("-x; touch it", "de", "m1", 150, 40))
    assert fake.calls[-1].endswith("-- -x; touch it")
    assert not list(tmp_path.rglob("it"))


def test_many_words_are_heard_in_their_order(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeProgram(tmp_path / "bin", speak='for text; do :; done; cat "$here/$text"')  # the last argument
    for name, frequency in zip("abcdef", (200, 300, 400, 500, 600, 700), strict=True):
        (fake.folder / name).write_bytes(wav(tone(frequency)))
    program = installed(monkeypatch, fake)
    heard = list(program.say_all([Word(name, "de", "m1", 150, 40) for name in "fadbec"]))
    assert all(torch.equal(one, tone(f)) for one, f in zip(heard, (700, 200, 500, 300, 600, 400), strict=True))


def test_without_the_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MissingDataError) as caught:
        find_program()
    assert str(caught.value) == (
        "espeak-ng: required the program espeak-ng on the PATH, found none; install it, for instance with "
        "`apt-get install espeak-ng`, or load a stream that was saved where it is."
    )


def test_a_program_that_does_not_say_its_version(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(StreamError) as caught:
        installed(monkeypatch, FakeProgram(tmp_path / "bin", version=":"))
    assert str(caught.value) == f"espeak-ng: required its version, found nothing{ANEW}"


@pytest.mark.parametrize(
    ("speak", "found"),
    [
        ("echo 'no such voice' >&2; exit 3", "exit code 3: no such voice"),
        ("exit 1", "exit code 1: no word about it"),
        (":", "0 bytes that are no WAV file"),
        ("echo hello", "6 bytes that are no WAV file"),
        ("echo RIFFzzzzWAVEdata", "17 bytes that are no WAV file"),
    ],
)
def test_a_program_that_fails(speak: str, found: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = refused(FakeProgram(tmp_path / "bin", speak=speak), monkeypatch)
    assert said == f"espeak-ng: required {SAID}, found {found}{ANEW}"


@pytest.mark.parametrize(
    ("sound", "found"),
    [
        (wav(torch.zeros(500, dtype=torch.int16)), "silence"),
        (wav(tone(440)[:0]), "silence"),
        (wav(tone(440), rate=16000), "a rate, channels and bytes of (16000, 1, 2) in place of (22050, 1, 2)"),
        (wav(tone(440), channels=2), "a rate, channels and bytes of (22050, 2, 2) in place of (22050, 1, 2)"),
    ],
)
def test_a_sound_that_is_none(sound: bytes, found: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = refused(FakeProgram(tmp_path / "bin", sound), monkeypatch)
    assert said == f"espeak-ng: required {SAID}, found {found}{ANEW}"


def test_a_program_that_does_not_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program = installed(monkeypatch, FakeProgram(tmp_path / "bin", speak="exec sleep 60"))
    monkeypatch.setattr(speech_program, "_SECONDS", 0.2)
    with pytest.raises(StreamError) as caught:
        program.say(WORD)
    assert str(caught.value) == f"espeak-ng: required {SAID}, found no end after 0.2 seconds{ANEW}"


def test_a_program_that_cannot_be_started(tmp_path: Path) -> None:
    (tmp_path / NAME).write_bytes(b"\x00")
    with pytest.raises(StreamError, match=r"^espeak-ng: required '7' by .*, found a program that cannot be started \("):
        Program(str(tmp_path / NAME), "none").say(WORD)


def test_languages_and_voices_are_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeProgram(tmp_path / "bin", speak='cat "$here/$2"')
    for name, frequency in (("de+m1", 200), ("de+f2", 300), ("en+m1", 400), ("en+f2", 400)):
        (fake.folder / name).write_bytes(wav(tone(frequency)))
    program = installed(monkeypatch, fake)
    program.check(["de"], ["m1", "f2"])
    with pytest.raises(MissingDataError) as caught:
        program.check(["de", "xx", "en-gb"], ["m1", "f2"])  # the second is a tag, the file is called en
    assert str(caught.value) == (
        "languages: required languages that eSpeak NG text-to-speech: 9.9 has, found xx, en-gb; "
        "`espeak-ng --voices` shows the files of those that it has; another release may have more."
    )
    with pytest.raises(MissingDataError) as caught:
        program.check(["de"], ["m1", "f9", "M1", "male1"])  # in other letters it would be ignored
    assert str(caught.value).startswith(
        "variants: required variants that eSpeak NG text-to-speech: 9.9 has, found f9, M1, male1; "
        "`espeak-ng --voices=variant` shows"
    )
    with pytest.raises(MissingDataError) as caught:
        program.check(["de", "en"], ["m1", "f2"])
    assert str(caught.value) == (
        "languages: required languages with variants, found the same sound for en+m1 and en+f2; "
        "`espeak-ng --voices` shows the names of files, which have them."
    )


@needs_program
def test_the_program_has_every_voice_and_refuses_others() -> None:
    program = find_program()
    program.check(LANGUAGES, [*VOICES, *HELD_OUT])
    with pytest.raises(MissingDataError, match="found m99;"):
        program.check(LANGUAGES, ["m99"])


@needs_program
def test_the_same_word_has_the_same_bytes_and_everything_about_it_matters() -> None:
    words = [
        WORD,
        Word("8", "de", "m1", 150, 40),
        Word("7", "it", "m1", 150, 40),
        Word("7", "de", "m1", 160, 40),
        Word("7", "de", "m1", 150, 60),
        *(Word("7", "de", voice, 150, 40) for voice in (*VOICES, *HELD_OUT) if voice != "m1"),
    ]
    program = find_program()
    first, second = list(program.say_all(words)), list(program.say_all(words))
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))
    assert len({one.numpy().tobytes() for one in first}) == len(words)


@needs_program
def test_no_digit_is_longer_than_the_front_end_hears() -> None:
    words = [Word(digit, language, "m3", SPEEDS[0], PITCHES[0]) for language in LANGUAGES for digit in DIGITS]
    for word, sound in zip(words, find_program().say_all(words), strict=True):
        loud = torch.nonzero(sound.abs() > 0.02 * sound.abs().max())
        assert len(loud) / RATE > 0.1
        assert int(loud[-1]) < FrontEnd().samples, word


@needs_program
def test_the_ten_digits_are_ten_words_in_every_language() -> None:
    phonemes = {
        language: [
            subprocess.run([NAME, "-v", language, "-x", "-q", digit], capture_output=True, check=True).stdout.strip()
            for digit in DIGITS
        ]
        for language in LANGUAGES
    }
    assert all(len(set(words)) == 10 for words in phonemes.values())
    assert len({tuple(words) for words in phonemes.values()}) == len(LANGUAGES)
    for language in set(LANGUAGES) - {"en"}:  # no numeral is read in English
        assert not set(phonemes[language]) & set(phonemes["en"])
