"""Features that have been made once, kept in files: one for each language, with a digest of what it holds.

A file is named by everything that decides its content, the release of the program included, so another setting never
meets it.
"""

import json
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors import torch as safetensors
from torch import Tensor

from prognet.engine.digest import tensor_bytes
from prognet.errors import StreamError
from prognet.files import write_atomically


def place_of(root: Path, language: str, decided_by: Mapping[str, Any]) -> Path:
    """The file of a language below `root`; `decided_by` is everything on which its content depends."""
    key = sha256(json.dumps({"language": language, **decided_by}, sort_keys=True).encode()).hexdigest()
    return root / f"spoken-{language}-{key[:16]}.safetensors"


def keep(place: Path, features: Tensor) -> None:
    """Writes `features` (N, *shape), atomically.

    Raises:
        UnwritableError: when it cannot be written.
    """
    content = safetensors.save({"features": features}, metadata={"sha256": _digest(features)})
    write_atomically(place, content)


def recall(place: Path, shape: tuple[int, ...]) -> Tensor | None:
    """The features that `keep` wrote, None where there are none.

    Raises:
        StreamError: when the file is damaged.
    """
    if not place.exists():
        return None
    try:
        with safe_open(place, "pt") as file:
            features: Tensor = file.get_tensor("features")
            said = (file.metadata() or {}).get("sha256")
    except (SafetensorError, OSError) as error:
        raise _damaged(place, str(error)) from error
    if tuple(features.shape) != shape or _digest(features) != said:
        raise _damaged(place, "other ones")
    return features


def _digest(features: Tensor) -> str:
    return sha256(tensor_bytes(features)).hexdigest()


def _damaged(place: Path, found: str) -> StreamError:
    return StreamError(f"{place}: required features as they were written, found {found}; delete it to have it remade.")
