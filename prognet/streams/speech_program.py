"""Words spoken by espeak-ng, a program of its own (GPL): every word is one call, and always the same bytes.

espeak-ng ignores a variant without a word where it does not know it, and where the language is named by its tag
instead of the file of its voice: `fr-fr+m1` and `fr-fr+f2` are one sound, `fr+m1` and `fr+f2` are two. So what is there
is asked for first, and listened to.
"""

import io
import os
import re
import shutil
import subprocess
import wave
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch
from torch import Tensor

from prognet.errors import MissingDataError, StreamError

NAME = "espeak-ng"
RATE = 22050

_SECONDS = 20.0
_INSTALL = f"install it, for instance with `apt-get install {NAME}`, or load a stream that was saved where it is"


@dataclass(frozen=True, slots=True)
class Word:
    """A word as somebody says it."""

    text: str
    """What is said; numerals are read in the language."""
    language: str
    """The file of a voice of espeak-ng, without its folder, e.g. `"en"`."""
    variant: str
    """Whose voice, e.g. `"m1"` or `"f2"`: pitch, formants, roughness and how the sound is made."""
    speed: int
    """Words in a minute."""
    pitch: int
    """0 to 99."""

    def __str__(self) -> str:
        return f"{self.text!r} by {self.language}+{self.variant} at speed {self.speed} and pitch {self.pitch}"


@dataclass(frozen=True, slots=True)
class Program:
    """espeak-ng as it is installed."""

    path: str
    version: str

    def check(self, languages: Sequence[str], variants: Sequence[str]) -> None:
        """Refuses languages and variants that are not installed, and languages that have no variants.

        Raises:
            MissingDataError: when one is not there, or the first two variants of a language are the same sound.
            StreamError: when the program fails.
        """
        listed = [words[4] for line in self._listed("--voices") if len(words := line.split()) > 4]
        files = {path.rpartition("/")[2] for path in listed}
        spoken = files | {file.lower() for file in files}  # en-US has variants as en-us too
        known = {found for line in self._listed("--voices=variant") for found in re.findall(r"!v/(\S+)", line)}
        for kind, asked, there in (("languages", languages, spoken), ("variants", variants, known)):
            missing = [name for name in asked if name not in there]
            if missing:
                option = "" if kind == "languages" else "=variant"
                raise MissingDataError(
                    f"{kind}: required {kind} that {self.version} has, found {', '.join(missing)}; "
                    f"`{NAME} --voices{option}` shows the files of those that it has; another release may have more."
                )
        for language in languages:
            first, second = self.say_all([Word("0", language, variant, 150, 50) for variant in variants[:2]])
            if torch.equal(first, second):
                raise MissingDataError(
                    f"languages: required languages with variants, found the same sound for {language}+{variants[0]} "
                    f"and {language}+{variants[1]}; `{NAME} --voices` shows the names of files, which have them."
                )

    def say(self, word: Word) -> Tensor:
        """The waveform (N,) int16, at `RATE`, from before the first sound to the end of the last one.

        Raises:
            StreamError: when the program fails, takes too long, or says nothing.
        """
        voice = f"{word.language}+{word.variant}"
        options = ["-v", voice, "-s", str(word.speed), "-p", str(word.pitch), "-z", "--stdout"]
        found = _call(self.path, [*options, "--", word.text], str(word))
        try:
            with wave.open(io.BytesIO(found)) as file:  # the length in its header is not known when it is written
                form = (file.getframerate(), file.getnchannels(), file.getsampwidth())
                sound = bytearray(file.readframes(file.getnframes()))
        except (wave.Error, EOFError) as error:
            raise _failed(str(word), f"{len(found)} bytes that are no WAV file") from error
        if form != (RATE, 1, 2):
            raise _failed(str(word), f"a rate, channels and bytes of {form} in place of {(RATE, 1, 2)}")
        if not any(sound):
            raise _failed(str(word), "silence")
        return torch.frombuffer(sound[: len(sound) // 2 * 2], dtype=torch.int16)

    def say_all(self, words: Sequence[Word]) -> Iterable[Tensor]:
        """The waveforms of many words in their order, some spoken at the same time."""
        with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
            yield from pool.map(self.say, words)

    def _listed(self, option: str) -> list[str]:
        return _call(self.path, [option], option).decode(errors="replace").splitlines()


def find_program() -> Program:
    """The program on the PATH.

    Raises:
        MissingDataError: when there is none.
        StreamError: when it does not say its version.
    """
    path = shutil.which(NAME)
    if path is None:
        raise MissingDataError(f"{NAME}: required the program {NAME} on the PATH, found none; {_INSTALL}.")
    said = _call(path, ["--version"], "its version").decode(errors="replace")
    version = said.partition("Data at")[0].strip()  # what follows is a path of this machine
    if not version:
        raise _failed("its version", "nothing")
    return Program(path, version)


def _call(path: str, arguments: Sequence[str], what: str) -> bytes:
    try:
        done = subprocess.run([path, *arguments], stdin=subprocess.DEVNULL, capture_output=True, timeout=_SECONDS)
    except subprocess.TimeoutExpired as error:
        raise _failed(what, f"no end after {_SECONDS:g} seconds") from error
    except OSError as error:
        raise _failed(what, f"a program that cannot be started ({error})") from error
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip() or "no word about it"
        raise _failed(what, f"exit code {done.returncode}: {said}")
    return done.stdout


def _failed(what: str, found: str) -> StreamError:
    return StreamError(f"{NAME}: required {what}, found {found}; try `{NAME} --version`, and install it anew.")
