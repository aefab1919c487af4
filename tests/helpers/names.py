"""Names of tests that are the same in every process, so that several can share a suite."""

import re


def without_addresses(value: object) -> str:
    """The text of a value, without places in memory."""
    return re.sub(r" at 0x[0-9a-f]+", "", str(value))
