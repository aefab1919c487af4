"""Seeds that are trained together: architectures give what they give alone, weighted trainings go one by one."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from prognet.config import Execution, Training
from prognet.evaluation.replication import run_together
from prognet.results import RunResult
from prognet.strategies import MultiTask, Strategy
from prognet.strategies.multitask import Adversarial, Attention, CrossStitch, FiLM, Hard, Soft, Stems, UPGrad
from prognet.training import Session
from tests.helpers.runs import MEASUREMENT, PLAIN, quick_run, tensors
from tests.helpers.streams import make_stream

SEEDS = (4, 0)
TRAINING = Training(epochs=2, batch_size=16, lr=0.05, optimiser="sgd")


@pytest.mark.filterwarnings("ignore::prognet.errors.StackingWarning")
@pytest.mark.parametrize(
    "make",
    [
        lambda: MultiTask(PLAIN, architecture=Hard(shared=["3"])),
        lambda: MultiTask(PLAIN, architecture=Stems()),
        lambda: MultiTask(PLAIN, architecture=Soft(penalty=0.1)),
        lambda: MultiTask(PLAIN, architecture=CrossStitch()),
        lambda: MultiTask(PLAIN, architecture=Attention()),
        lambda: MultiTask(PLAIN, architecture=FiLM(descriptor=2)),
        lambda: MultiTask(PLAIN, architecture=Adversarial()),
        lambda: MultiTask(PLAIN, weighting=UPGrad()),
    ],
    ids=["hard", "stems", "soft", "stitch", "attention", "film", "adversarial", "weighted"],
)
def test_seeds_that_are_trained_together_are_those_that_are_trained_alone(make: Callable[[], Strategy]) -> None:
    stream = make_stream((2, 3))
    session = Session(
        training=TRAINING,
        measurement=MEASUREMENT,
        execution=Execution(stack=len(SEEDS)),
        seed=0,
        device=torch.device("cpu"),
    )
    for seed, found in zip(SEEDS, run_together(make(), [stream] * len(SEEDS), session, SEEDS, 1, None), strict=True):
        required = quick_run(make(), stream, training=TRAINING, seed=seed)
        assert isinstance(found, RunResult)
        theirs = tensors(required.learner)
        assert all(torch.allclose(tensor, theirs[name], atol=1e-4) for name, tensor in tensors(found.learner).items())
        assert np.allclose(found.accuracy, required.accuracy, atol=0.04)
