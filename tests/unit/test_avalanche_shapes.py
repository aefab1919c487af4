"""A progressive network in Avalanche where experiences have inputs of several shapes."""

import pytest
import torch

from prognet.avalanche import ProgressiveModule
from tests.helpers.runs import PLAIN
from tests.helpers.shapes import COLOUR, GREY, SHAPES, mixed_stream


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_columns_read_those_of_their_own_shape_and_answer_its_inputs() -> None:
    module = ProgressiveModule(PLAIN, seed=0)
    for task, experience in zip(mixed_stream(), mixed_stream().benchmark.train_stream, strict=True):
        module.train()
        module.adaptation(experience)
        module(task.normalisation(task.train.x), task.label).sum().backward()
    module.eval()
    assert [module.network.column(k).sources for k in range(4)] == [(), (), (0,), (1,)]
    for shape in (GREY, COLOUR):
        outputs = module(torch.zeros(5, *shape), None)
        assert list(outputs) == [label for label in range(4) if SHAPES[label] == shape]
