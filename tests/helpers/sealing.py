"""Sealed documents made by other means than the package's: what a buggy tool, or somebody hostile, would write."""

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any


def sealed(document: Any) -> bytes:
    """A document with its seal: the SHA-256 of all lines but the last two, which hold the digest and the bracket."""
    lines = json.dumps({**document, "sha256": ""}, indent=1).split("\n")
    body = "\n".join([*lines[:-2], ""])
    return f'{body} "sha256": "{hashlib.sha256(body.encode()).hexdigest()}"\n}}\n'.encode()


def unsealed(path: Path) -> dict[str, Any]:
    """The fields of a document, without its seal."""
    document: dict[str, Any] = json.loads(path.read_text())
    document.pop("sha256", None)
    return document


def reseal(path: Path, document: Any) -> None:
    """Writes another document in place of a sealed one."""
    path.write_bytes(sealed(document))


def edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Changes a sealed document, and seals it again."""
    document = unsealed(path)
    change(document)
    reseal(path, document)


def rehash(path: Path) -> None:
    """Records anew, in a sealed document, the SHA-256 of the files beside it: what somebody thorough would do."""

    def renew(document: dict[str, Any]) -> None:
        document["files"] = {
            name: hashlib.sha256((path.parent / name).read_bytes()).hexdigest() for name in document["files"]
        }

    edit(path, renew)
