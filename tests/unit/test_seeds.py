from hashlib import sha256

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from prognet.errors import ConfigError
from prognet.seeds import derive_seed

KEYS = st.lists(st.integers() | st.text(max_size=4), max_size=4)


def test_the_value_is_the_documented_hash_on_every_machine() -> None:
    # the first 8 bytes of SHA-256, little endian, without the lowest bit
    expected = int.from_bytes(sha256(b"int:0\x1fint:3\x1fstr:order").digest()[:8], "little") // 2
    assert derive_seed(0, 3, "order") == expected == 6822327909110730059


@given(st.integers(), KEYS)
@settings(deadline=None, max_examples=50)
def test_seeds_are_63_bit_and_repeatable(seed: int, keys: list[int | str]) -> None:
    assert 0 <= derive_seed(seed, *keys) < 2**63
    assert derive_seed(seed, *keys) == derive_seed(seed, *keys)


@given(KEYS, KEYS)
@settings(deadline=None, max_examples=100)
def test_different_purposes_get_different_streams(one: list[int | str], other: list[int | str]) -> None:
    assert (derive_seed(0, *one) == derive_seed(0, *other)) == (one == other)


def test_text_and_numbers_are_not_confused() -> None:
    assert derive_seed(0, 1) != derive_seed(0, "1")
    assert derive_seed(1, 11) != derive_seed(11, 1)


def test_a_separator_inside_a_key_collides_with_nothing() -> None:
    assert derive_seed(0, "a\x1fstr:b") != derive_seed(0, "a", "b")
    assert derive_seed(0, "a\\x1fstr:b") != derive_seed(0, "a\x1fstr:b")


def test_whole_numbers_of_numpy_count_as_the_int_they_equal() -> None:
    assert derive_seed(2, 5) == derive_seed(np.int64(2), np.uint8(5))  # type: ignore[arg-type]


def test_a_fraction_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"seed: required whole numbers and text as seed and keys, found 1\.5\."):
        derive_seed(0, 1.5)  # type: ignore[arg-type]
