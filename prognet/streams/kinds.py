"""Objectives by name: how one that was written down is made again."""

from collections.abc import Callable, Mapping
from typing import Any

from prognet.errors import StreamError
from prognet.streams.boxes import Detection
from prognet.streams.numeric import MultiLabel, Regression
from prognet.streams.objectives import Classification, Objective


def objective_from(record: Mapping[str, Any]) -> Objective:
    """The objective that `Objective.record` wrote down.

    Raises:
        StreamError: when the record is none of a kind that is known here.
    """
    makers: dict[str, Callable[..., Objective]] = {
        "classification": Classification,
        "regression": Regression,
        "multi-label": MultiLabel,
        "detection": Detection,
    }
    values = {key: tuple(value) if isinstance(value, list) else value for key, value in record.items()}
    name = values.pop("name", None)
    if name not in makers:
        raise StreamError(f"objective: required one of {sorted(makers)}, found {name!r}; write it again.")
    try:
        return makers[name](**values)
    except (TypeError, ValueError) as error:
        raise StreamError(
            f"objective: required the fields of {name!r}, found {sorted(values)}; write it again."
        ) from error
