from collections.abc import Callable

import pytest

from prognet.errors import ConfigError
from prognet.streams.schedules import Schedule, cumulative, joint, sequential


@pytest.mark.parametrize(
    ("make", "expected"),
    [(sequential, ((0,), (1,), (2,))), (joint, ((0, 1, 2),)), (cumulative, ((0,), (0, 1), (0, 1, 2)))],
)
def test_schedules_of_three_tasks(make: Callable[[int], Schedule], expected: Schedule) -> None:
    assert make(3) == expected


@pytest.mark.parametrize("make", [sequential, joint, cumulative])
def test_a_single_task_is_one_step(make: Callable[[int], Schedule]) -> None:
    assert make(1) == ((0,),)


@pytest.mark.parametrize("make", [sequential, joint, cumulative])
def test_no_task_is_refused(make: Callable[[int], Schedule]) -> None:
    with pytest.raises(ConfigError, match="n_tasks: required at least 1, found 0; give the number of tasks"):
        make(0)
