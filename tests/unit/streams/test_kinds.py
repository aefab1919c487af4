import pytest
import torch

from prognet.errors import StreamError
from prognet.streams.boxes import Detection
from prognet.streams.kinds import objective_from
from prognet.streams.numeric import MultiLabel, Regression
from prognet.streams.objectives import Classification, Objective

EVERY = (
    Classification(3),
    Regression.of(torch.tensor([[0.1, 5.0], [0.7, 9.0]])),
    MultiLabel(4),
    Detection(2, (32, 48), (8.5, 11.0), (1.0, 1.5)),
)


@pytest.mark.parametrize("objective", EVERY, ids=lambda objective: type(objective).__name__)
def test_an_objective_is_made_again_from_its_record(objective: Objective) -> None:
    record = objective.record()
    assert record is not None
    assert objective_from(record) == objective


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(StreamError, match=r"objective: required one of \['classification', .*found 'ranking'"):
        objective_from({"name": "ranking"})


def test_missing_fields_are_refused() -> None:
    with pytest.raises(StreamError, match=r"objective: required the fields of 'regression', found \['mean'\]"):
        objective_from({"name": "regression", "mean": [0.0]})
