"""Weightings within the one training loop: what they change in a run, and what they do not."""

from itertools import islice
from math import isnan
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional

from prognet.config import Training
from prognet.errors import ConfigError, DivergedError
from prognet.strategies import MultiTask
from prognet.strategies.multitask import (
    DWA,
    FAMO,
    IMTLG,
    MGDA,
    Adversarial,
    AlignedMTL,
    FixedWeights,
    GradNorm,
    PCGrad,
    RandomWeights,
    Soft,
    Uncertainty,
    UPGrad,
    Weighting,
)
from prognet.training.batches import BatchSource, quotas
from tests.helpers.plain import plain_network
from tests.helpers.runs import NORMED, PLAIN, learn_all, make_session, network_of, quick_run, tensors
from tests.helpers.streams import make_stream

SGD = Training(epochs=3, batch_size=16, lr=0.1, optimiser="sgd")


def learned(weighting: Weighting | None, training: Training = SGD, **arguments: Any) -> Any:
    """A joint run on three tasks of unlike sizes."""
    stream = make_stream((2, 5, 3), [40, 60, 21])
    return learn_all(MultiTask(PLAIN, weighting=weighting, **arguments), stream, training)


def assert_close(found: Any, required: Any, tolerance: float = 1e-5) -> None:
    theirs = tensors(required)
    for name, tensor in tensors(found).items():
        assert torch.allclose(tensor, theirs[name], atol=tolerance), name


@pytest.mark.parametrize("sampling", [0.0, 0.5, 1.0])
def test_equal_weights_are_the_plain_mean_over_samples_however_tasks_are_sampled(sampling: float) -> None:
    assert_close(learned(FixedWeights(), sampling=sampling), learned(None, sampling=sampling))


@pytest.mark.parametrize("weighting", [PCGrad(match_scale=True), UPGrad(match_scale=True), GradNorm(match_scale=True)])
def test_at_matched_scale_networks_that_share_nothing_learn_as_with_the_mean(weighting: Weighting) -> None:
    """Own parameters of an aggregator are not as many times as fast as those of a mean as there are tasks."""
    plain = learned(None, architecture=Soft(penalty=0.0))
    assert_close(learned(weighting, architecture=Soft(penalty=0.0)), plain)
    fast = learned(type(weighting)(), Training(epochs=3, batch_size=16, lr=0.1 / 3, optimiser="sgd"), sampling=0.0)
    assert fast.records[0].updates == plain.records[0].updates


def test_weights_1_0_train_one_task_only() -> None:
    """The trunk learns what it learns where the other task's loss is not there, the other head nothing."""
    found = learned(FixedWeights(weights=[0, 1, 0]))
    stream = make_stream((2, 5, 3), [40, 60, 21])
    for label in (0, 2):
        head: Any = network_of(found, label)[1]
        assert torch.equal(head.weight, plain_network(PLAIN, stream[label]).get_parameter("5.weight"))
    trunk, head = network_of(found, 1)
    own, plain = ([*plain_network(PLAIN, stream[label]).children()] for label in (0, 1))
    alone = nn.Sequential(*own[:-1], plain[-1])  # trained on its part of the joint batches, in plain torch
    optimiser = torch.optim.SGD(alone.parameters(), lr=SGD.lr)
    sizes = [len(task.train) for task in stream]
    n_batches = -(-sum(sizes) // SGD.batch_size)
    rounds = BatchSource(list(stream), quotas(sizes, 0.0), n_batches, 0, torch.device("cpu"), 2**40).rounds()
    for batch in islice(rounds, n_batches * SGD.epochs):
        optimiser.zero_grad()
        share = len(batch[1].y) / sum(len(part.y) for part in batch.values())
        (share * functional.cross_entropy(alone(batch[1].x), batch[1].y)).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    learned_parameters = [*trunk.parameters(), *head.parameters()]
    assert all(
        torch.allclose(one, other, atol=1e-6) for one, other in zip(learned_parameters, alone.parameters(), strict=True)
    )
    assert not torch.equal(head.weight, plain_network(PLAIN, stream[1]).get_parameter("5.weight"))


def test_random_numbers_of_a_weighting_come_from_the_seed_of_the_run() -> None:
    for weighting in (RandomWeights(), PCGrad()):
        torch.manual_seed(1)
        first = tensors(learned(weighting))
        torch.manual_seed(2)
        second = tensors(learned(weighting))
        assert all(torch.equal(first[name], second[name]) for name in first)


def test_the_length_of_gradients_is_recorded_where_losses_are_weighted() -> None:
    assert isnan(learned(None).records[0].gradient_norm)
    lengths = {
        weighting: learned(weighting).records[0].gradient_norm
        for weighting in (FixedWeights(), PCGrad(), PCGrad(match_scale=True))
    }
    assert lengths[PCGrad()] > 2 * lengths[FixedWeights()]
    assert lengths[PCGrad(match_scale=True)] == pytest.approx(lengths[FixedWeights()], rel=0.3)


def test_the_length_of_gradients_is_a_number_of_every_step_of_the_result() -> None:
    stream = make_stream((2, 2, 2))
    for schedule in ("joint", "cumulative"):
        strategy = MultiTask(PLAIN, weighting=PCGrad(), schedule=schedule)
        result = quick_run(strategy, stream)
        lengths = [record.gradient_norm for record in result.learner.records]
        assert [cost.gradient_norm for cost in result.costs] == pytest.approx(lengths)
        assert len(set(lengths)) == len(result.schedule)
    assert all(isnan(cost.gradient_norm) for cost in quick_run(MultiTask(PLAIN), stream).costs)


def test_operations_of_all_passes_are_counted() -> None:
    stream = make_stream((3, 3))
    flops = {
        weighting: quick_run(MultiTask(PLAIN, weighting=weighting), stream).costs[0].training_flops
        for weighting in (None, FixedWeights(), FAMO(), PCGrad())
    }
    forward = 2 * (16 * 8 + 8 * 6 + 6 * 3) * 2 * 80  # two epochs of 80 samples, two operations a weight
    assert flops[FixedWeights()] == flops[None]
    assert flops[FAMO()] == flops[None] + forward  # the batch once more, after the update
    assert flops[PCGrad()] > flops[None] + forward / 2  # a backward pass for each task


def test_dwa_looks_back_at_two_passes() -> None:
    mean = learned(FixedWeights(match_scale=True), Training(epochs=2, batch_size=16, lr=0.1, optimiser="sgd"))
    dwa = learned(DWA(match_scale=True), Training(epochs=2, batch_size=16, lr=0.1, optimiser="sgd"))
    assert_close(dwa, mean)
    assert not torch.equal(
        tensors(learned(DWA(match_scale=True)))["shared.trunk.1.weight"],
        tensors(learned(FixedWeights(match_scale=True)))["shared.trunk.1.weight"],
    )


def test_a_weighting_begins_anew_in_every_step() -> None:
    """The last step of a cumulative run is the joint run."""
    stream = make_stream()
    cumulative = quick_run(MultiTask(NORMED, weighting=GradNorm(), schedule="cumulative"), stream)
    joint = quick_run(MultiTask(NORMED, weighting=GradNorm()), stream)
    found, required = tensors(cumulative.learner), tensors(joint.learner)
    assert all(torch.equal(found[name], required[name]) for name in required)


def test_a_weighting_learns_nothing_of_the_model_and_holds_no_parameter_of_it() -> None:
    found, required = learned(Uncertainty()), learned(None)
    assert found.records[0].trainable == required.records[0].trainable
    assert tensors(found).keys() == tensors(required).keys()


def test_a_task_that_is_missing_in_a_batch_is_refused_by_weightings_that_compare_all() -> None:
    stream = make_stream((2, 2), [200, 3])
    with pytest.raises(ConfigError, match="required samples of every task in every batch for FAMO, found none of"):
        learn_all(MultiTask(PLAIN, weighting=FAMO(), sampling=1.0), stream, SGD)
    for weighting in (Uncertainty(), UPGrad(), PCGrad()):
        learn_all(MultiTask(PLAIN, weighting=weighting, sampling=1.0), stream, SGD)
    learn_all(MultiTask(PLAIN, weighting=FAMO()), stream, SGD)


def test_outputs_have_the_width_of_their_task() -> None:
    """Heads of different width are never padded, so that no arg-max falls on a unit that is none of the task's."""
    for architecture in (None, Adversarial()):
        strategy = learned(UPGrad(), architecture=architecture)
        widths = [strategy.predict(torch.randn(3, 1, 4, 4), label).shape[1] for label in range(3)]
        assert widths == [2, 5, 3]


@pytest.mark.parametrize(
    "kind", [FixedWeights, Uncertainty, RandomWeights, PCGrad, MGDA, IMTLG, AlignedMTL, UPGrad, GradNorm]
)
@pytest.mark.parametrize("lr", [1e6, 1e30])
def test_a_weighted_run_that_diverges_says_so(kind: type[Weighting], lr: float) -> None:
    with pytest.raises(DivergedError, match="required (a finite loss|finite)"):
        learned(kind(), Training(epochs=8, batch_size=16, lr=lr, optimiser="sgd"))


def test_a_second_look_at_a_batch_moves_no_running_statistics() -> None:
    stream, training = make_stream((2, 2)), Training(epochs=2, batch_size=16)
    counts = {}
    for weighting in (None, FAMO()):
        strategy = learn_all(MultiTask(NORMED, weighting=weighting), stream, training)
        counts[weighting] = [int(n) for name, n in strategy.named_buffers() if name.endswith("num_batches_tracked")]
    assert counts[FAMO()] == counts[None]
    assert set(counts[None]) == {strategy.records[0].updates}


def test_gradients_are_clipped_after_the_weighting() -> None:
    clipped = learned(PCGrad(), Training(epochs=1, batch_size=1000, lr=1.0, optimiser="sgd", clip_norm=1e-3))
    start = learned(PCGrad(), Training(epochs=0))
    before = tensors(start)
    moved = torch.cat([(tensor - before[name]).flatten() for name, tensor in tensors(clipped).items()])
    assert float(moved.norm()) == pytest.approx(1e-3, rel=1e-3)
    assert make_session().training.clip_norm is None
