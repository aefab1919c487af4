"""The commands that make the rows again."""

import shlex
from collections.abc import Sequence
from pathlib import PurePath

from prognet.report.facts import Manifest
from prognet.tuned import SEARCHED

PROGRAM = "prognet"


def whole_command(manifest: Manifest) -> str:
    """The command that made the folder, ready for a shell; empty when none was recorded."""
    return shlex.join(_from_program(manifest.get("command") or ()))


def row_command(manifest: Manifest, strategy: str) -> str:
    """The command that makes one row again, into a folder of its own: finished runs would not be run a second time."""
    command = _from_program(manifest.get("command") or ())
    if not command:
        return ""
    rest, _ = _without(command, "--strategies")
    for option in ("seeds", "orders"):  # a folder may hold more of them than its last command asked for
        if manifest.get(option):
            rest, _ = _without(rest, f"--{option}")
            rest += [f"--{option}", str(1 + max(manifest[option]))]
    rest, folder = _without(rest, "--out")
    again = ["--out", f"{folder[0].rstrip('/')}-{strategy}"] if folder else []
    if strategy == SEARCHED:  # which its file adds to those that are named
        return shlex.join([*rest, "--strategies", "finetune", *again])
    rest, _ = _without(rest, "--fine-tuning")
    return shlex.join([*rest, "--strategies", strategy, *again])


def _from_program(command: Sequence[str]) -> list[str]:
    """The arguments behind the program's own name, without the folders of the machine that it was installed in."""
    words = [str(word) for word in command]
    if words and (PurePath(words[0]).stem in (PROGRAM, "__main__", "cli") or words[0] == PROGRAM):
        words = words[1:]
    return [PROGRAM, *words] if words else []


def _without(words: Sequence[str], option: str) -> tuple[list[str], list[str]]:
    """The words without an option, and the option's values: all words up to the next option."""
    kept: list[str] = []
    values: list[str] = []
    inside = False
    for word in words:
        if word == option or word.startswith(f"{option}="):
            inside = word == option
            values += [] if inside else [word.partition("=")[2]]
        elif inside and not word.startswith("-"):
            values.append(word)
        else:
            inside = False
            kept.append(word)
    return kept, values
