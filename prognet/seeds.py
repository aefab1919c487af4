"""Random streams that do not disturb each other.

Every random number in prognet comes from a generator whose seed is derived from (seed, task, purpose). Building an
adapter therefore never shifts an initialisation, and two strategies with one seed see the same batches.
"""

from hashlib import sha256
from operator import index

from prognet.errors import ConfigError


def derive_seed(seed: int, *keys: int | str) -> int:
    """A 63-bit seed for one purpose, e.g. `derive_seed(0, 3, "order")`.

    The keys are joined unambiguously and hashed with SHA-256, so the value is the same on every machine and in every
    process, and no two purposes share a random stream. Whole numbers of numpy count as the int that they equal.

    Raises:
        ConfigError: when the seed or a key is neither a whole number nor text.
    """
    return int.from_bytes(sha256("\x1f".join(map(_text, (seed, *keys))).encode()).digest()[:8], "little") >> 1


def _text(key: int | str) -> str:
    if isinstance(key, str):
        return f"str:{key.encode('unicode_escape').decode()}"  # escaped, lest a key contain the separator
    try:
        return f"int:{index(key)}"
    except TypeError as error:
        raise ConfigError(f"seed: required whole numbers and text as seed and keys, found {key!r}.") from error
