"""Stand-ins for the program that speaks: one that Python makes up, and executables that behave in various ways."""

import io
import shutil
import wave
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from math import pi
from pathlib import Path

import pytest
import torch
from torch import Tensor

from prognet.seeds import derive_seed
from prognet.streams.speech_program import NAME, RATE, Program, Word

needs_program = pytest.mark.skipif(shutil.which(NAME) is None, reason=f"the program {NAME} is not installed")


@dataclass(frozen=True, slots=True)
class Tones(Program):
    """Says every word as a tone of its own, and notes what it was asked for."""

    path: str = ""
    version: str = "tones 1"
    said: list[Word] = field(default_factory=list)
    checked: list[tuple[str, ...]] = field(default_factory=list)

    def check(self, languages: Sequence[str], variants: Sequence[str]) -> None:
        self.checked.extend([tuple(languages), tuple(variants)])

    def say_all(self, words: Sequence[Word]) -> Iterable[Tensor]:
        for word in words:
            self.said.append(word)
            yield tone(200 + derive_seed(0, str(word)) % 6000)


def tone(frequency: float, samples: int = 8000) -> Tensor:
    """A sine (samples,) int16 at the rate of the program."""
    times = torch.arange(samples, dtype=torch.float64) / RATE
    return (12000 * torch.sin(2 * pi * frequency * times)).to(torch.int16)


def wav(sound: Tensor, rate: int = RATE, channels: int = 1) -> bytes:
    """The bytes of a WAV file."""
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setnchannels(channels)
        writer.setsampwidth(sound.element_size())
        writer.setframerate(rate)
        writer.writeframes(sound.numpy().tobytes())
    return file.getvalue()


class FakeProgram:
    """A folder for the PATH with an executable of the program's name, which notes its arguments.

    Args:
        folder: where it lies.
        sound: what it writes when it is to speak.
        speak: a line of shell for that; the name of a file with `sound` is in `$sound`.
        version: a line of shell that says the version.
    """

    VOICES = (
        "Pty Language Age/Gender VoiceName File Other\n 5 de --/M German gmw/de\n 2 en-gb --/M English gmw/en (en 2)\n"
    )
    VARIANTS = (
        "Pty Language Age/Gender VoiceName File Other\n 5 variant --/M male1 !v/m1\n 5 variant --/F female2 !v/f2\n"
    )

    def __init__(
        self,
        folder: Path,
        sound: bytes = b"",
        speak: str = 'cat "$sound"',
        version: str = "echo 'eSpeak NG text-to-speech: 9.9  Data at: /a/path'",
    ) -> None:
        self.folder, self.log = folder, folder / "log"
        folder.mkdir()
        for name, content in (("sound", sound), ("voices", self.VOICES.encode()), ("variants", self.VARIANTS.encode())):
            (folder / name).write_bytes(content)
        lines = [
            "#!/bin/sh",
            "PATH=/usr/bin:/bin",
            f"here='{folder}'; sound=\"$here/sound\"",
            'echo "$*" >> "$here/log"',
            'case "$1" in',
            f"--version) {version} ;;",
            '--voices) cat "$here/voices" ;;',
            '--voices=variant) cat "$here/variants" ;;',
            f"*) {speak} ;;",
            "esac",
        ]
        (folder / NAME).write_text("\n".join(lines) + "\n", encoding="utf-8")
        (folder / NAME).chmod(0o755)

    @property
    def calls(self) -> list[str]:
        """The arguments of every call."""
        return self.log.read_text(encoding="utf-8").splitlines()
