from dataclasses import replace
from math import isnan

import pytest
import torch
from torch import Tensor, nn

from prognet.config import Measurement
from prognet.streams.task import Samples
from prognet.training import evaluating, fit, outputs_of
from prognet.training.measuring import CurveRecorder, Split, mean_loss, measuring_points
from tests.helpers.plain import assert_equal_numbers, plain_accuracy, plain_loss, plain_network
from tests.helpers.runs import NORMED, PLAIN, TRAINING, make_session, modes
from tests.helpers.streams import make_byte_stream, make_stream, make_task

CPU = torch.device("cpu")


def points(total: int, lca_updates: int, curve_points: int) -> list[int]:
    return sorted(measuring_points(total, Measurement(lca_updates=lca_updates, curve_points=curve_points)))


def test_points_by_hand() -> None:
    assert points(30, 10, 4) == [*range(11), 15, 20, 25, 30]
    assert points(30, 0, 3) == [0, 10, 20, 30]
    assert points(10, 3, 2) == [0, 1, 2, 3, 6, 10]  # 3 + 7 / 2 = 6.5
    assert points(3, 10, 4) == [0, 1, 2, 3]
    assert points(5, 0, 0) == [0, 5]
    assert points(0, 10, 4) == [0]


def curve_of(measurement: Measurement, seed: int = 0) -> tuple[list[int], list[float], nn.Module]:
    task = make_task(0, 5)
    network = plain_network(NORMED, task)
    session = make_session(TRAINING, measurement, seed)
    record = fit(network, lambda inputs: {0: network(inputs[0])}, lambda x, label: network(x), [task], session)
    return list(record.curves[0].updates), list(record.curves[0].accuracy), network


def test_measuring_does_not_disturb_training() -> None:
    _, _, seldom = curve_of(Measurement(lca_updates=0, curve_points=0))
    updates, _, often = curve_of(Measurement(lca_updates=10, curve_points=50, evaluation_batch_size=7))
    assert updates == [0, 1, 2, 3, 4, 5, 6]
    assert_equal_numbers([often], [seldom])


def test_a_curve_begins_before_the_first_update_and_ends_with_the_last() -> None:
    updates, accuracy, network = curve_of(Measurement(lca_updates=2, curve_points=2))
    task = make_task(0, 5)
    assert updates == [0, 1, 2, 4, 6]
    assert accuracy[0] == plain_accuracy(plain_network(NORMED, task), task.test)
    assert accuracy[-1] == plain_accuracy(network, task.test)
    assert accuracy[0] != accuracy[-1]


def test_every_point_is_the_accuracy_at_its_update() -> None:
    _, dense, _ = curve_of(Measurement(lca_updates=6, curve_points=0))
    updates, sparse, _ = curve_of(Measurement(lca_updates=1, curve_points=3))
    assert updates == [0, 1, 2, 4, 6]  # 1 + 5 / 3 = 2.7 and 1 + 10 / 3 = 4.3
    assert sparse == [dense[update] for update in updates]


class Seen(nn.Module):
    """A network that keeps what it is asked to predict."""

    def __init__(self) -> None:
        super().__init__()
        self.batches: list[Tensor] = []

    def forward(self, x: Tensor) -> Tensor:
        self.batches.append(x.clone())
        return x.flatten(1)[:, :2]


def samples_seen(count: int, seed: int = 0, points: int = 1) -> list[Tensor]:
    """The samples of each point of a learning curve."""
    task, network = make_task(0, 2), Seen()
    recorder = CurveRecorder([task], 10, Measurement(curve_samples=count, evaluation_batch_size=100), seed, CPU)
    for update in range(points):
        recorder.measure(lambda x, label: network(x), update)
    return network.batches


def test_all_points_look_at_the_same_part_of_the_test_split() -> None:
    first, second = samples_seen(7, points=2)
    assert torch.equal(first, second)
    assert len(first) == 7
    known = {tuple(row.tolist()) for row in make_task(0, 2).test.x.flatten(1)}
    assert len({tuple(row.tolist()) for row in first.flatten(1)} & known) == 7  # different ones, of the test split


def test_the_part_depends_on_the_seed_and_not_on_the_global_generator() -> None:
    torch.manual_seed(3)
    (first,) = samples_seen(7)
    torch.manual_seed(4)
    assert torch.equal(samples_seen(7)[0], first)
    assert not torch.equal(samples_seen(7, seed=1)[0], first)


def test_the_part_keeps_its_labels() -> None:
    task = make_task(0, 5)
    label_of = {tuple(x.flatten().tolist()): int(y) for x, y in zip(task.test.x, task.test.y, strict=True)}

    def perfect(x: Tensor, label: int) -> Tensor:
        return torch.eye(5)[[label_of[tuple(sample.flatten().tolist())] for sample in x]]

    recorder = CurveRecorder([task], 10, Measurement(curve_samples=7), 0, CPU)
    recorder.measure(perfect, 0)
    recorder.measure(lambda x, label: perfect(x, label).roll(1, dims=1), 1)
    assert recorder.values() == [(1.0, 0.0)]


def test_accuracies_are_exact_fractions() -> None:
    task = make_task(0, 2)
    recorder = CurveRecorder([task], 10, Measurement(), 0, CPU)
    recorder.measure(lambda x, label: torch.eye(2)[[0] * len(x)], 0)  # always class 0: half of 30
    recorder.measure(lambda x, label: torch.eye(2)[[0] * 10 + [1] * 20] if len(x) == 30 else x, 1)
    # labels alternate: 5 of the first 10 and 10 of the other 20 are right
    assert recorder.values() == [(0.5, 0.5)]
    other = Samples(task.test.x[:10], torch.tensor([0, 0, 0, 0, 0, 0, 0, 1, 1, 1]))
    recorder = CurveRecorder([replace(task, test=other)], 10, Measurement(), 0, CPU)
    recorder.measure(lambda x, label: torch.eye(2)[[0] * len(x)], 0)
    assert recorder.values() == [(0.7,)]  # and not 0.699999988, its neighbour in float32


def test_the_outputs_of_a_split_are_in_order_and_whole() -> None:
    task = make_task(0, 5)
    network = plain_network(PLAIN, task)
    sizes: list[int] = []

    def predict(x: Tensor, label: int) -> Tensor:
        sizes.append(len(x))
        out: Tensor = network(x)
        return out

    with evaluating(network):
        outputs = outputs_of(predict, task, task.test, CPU, 16)
        assert torch.equal(outputs, torch.cat([network(task.test.x[:16]), network(task.test.x[16:])]))
    assert sizes == [16, 14]


def test_outputs_are_of_normalised_samples() -> None:
    task = make_byte_stream()[0]
    outputs = outputs_of(lambda x, label: x, task, task.test, CPU, 16)
    assert torch.equal(outputs, task.normalisation(task.test.x))
    assert outputs.dtype == torch.float32


def test_a_network_that_writes_into_its_input_leaves_the_stream_alone() -> None:
    task = make_task(0, 2)
    before = task.test.x.clone()
    outputs_of(lambda x, label: x.relu_(), task, task.test, CPU, 16)
    assert torch.equal(task.test.x, before)


def test_mean_loss_weighs_every_sample_alike() -> None:
    stream = make_stream((2, 2))
    tasks = [replace(stream[0], val=stream[0].train), stream[1]]  # 40 and 10 samples
    network = plain_network(PLAIN, tasks[0])
    with evaluating(network):
        found = mean_loss(lambda x, label: network(x), [Split(task, task.val) for task in tasks], None, 16)
    required = (40 * plain_loss(network, tasks[0].val) + 10 * plain_loss(network, tasks[1].val)) / 50
    assert found == pytest.approx(required, rel=1e-6)


def test_mean_loss_leaves_out_tasks_without_validation_samples() -> None:
    with_some, without = make_task(0, 2), make_task(1, 2, n_val=0)
    network = plain_network(PLAIN, with_some)
    with evaluating(network):
        splits = [Split(task, task.val) for task in (with_some, without)]
        found = mean_loss(lambda x, label: network(x), splits, None, 16)
        assert isnan(mean_loss(lambda x, label: network(x), splits[1:], None, 16))
    assert found == pytest.approx(plain_loss(network, with_some.val), rel=1e-6)


def test_evaluating_restores_every_mode_of_its_own() -> None:
    network = plain_network(NORMED, make_task(0, 2)).train()
    network[2].eval()  # type: ignore[index]
    before = modes(network)
    with evaluating(network):
        assert not any(modes(network).values())
        assert not network(torch.zeros(2, 1, 4, 4)).requires_grad
    assert modes(network) == before
    assert network(torch.zeros(2, 1, 4, 4)).requires_grad


def test_evaluating_restores_after_an_error() -> None:
    network = nn.Dropout()
    with pytest.raises(KeyboardInterrupt), evaluating(network):
        raise KeyboardInterrupt
    assert network.training
    assert torch.is_grad_enabled()
