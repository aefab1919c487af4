from pathlib import Path

import numpy as np

from prognet.evaluation.engines.tally import NOT_BEGUN, begin_tally, counter_at, read_tally


def open_files() -> int:
    """How many this process has open, where the system tells; a listing is one of them."""
    folder = Path("/proc/self/fd")
    return len(list(folder.iterdir())) if folder.exists() else 0


def test_every_place_counts_by_itself_and_from_zero(tmp_path: Path) -> None:
    tally = tmp_path / "tally"
    begin_tally(tally, 3)
    assert read_tally(tally) == [NOT_BEGUN] * 3
    first, last = counter_at(tally, 0), counter_at(tally, 2)
    assert read_tally(tally) == [0, NOT_BEGUN, 0]
    last(5)
    first(1)
    last(2)
    assert read_tally(tally) == [1, NOT_BEGUN, 7]
    counter_at(tally, 2)  # its unit is begun again
    assert read_tally(tally) == [1, NOT_BEGUN, 0]


def test_large_numbers_fit_and_no_file_stays_open(tmp_path: Path) -> None:
    tally = tmp_path / "tally"
    begin_tally(tally, 2)
    before = open_files()
    advance = counter_at(tally, 1)
    for _ in range(3):
        advance(2**40)
    assert read_tally(tally) == [NOT_BEGUN, 3 * 2**40]
    assert tally.stat().st_size == 2 * np.dtype(np.int64).itemsize
    assert open_files() == before
