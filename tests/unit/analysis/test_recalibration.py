"""BatchNorm statistics measured anew, against the mean and variance computed by hand."""

import pytest
import torch
from torch import Tensor, nn

from prognet.analysis.recalibration import recalibrate, recalibrated
from prognet.engine import ProgressiveNetwork


@pytest.fixture
def x() -> Tensor:
    return 3 + 2 * torch.randn(60, 4, generator=torch.Generator().manual_seed(0))


def normed() -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Dropout(0.5), nn.Linear(5, 3)).eval()


def test_one_batch_gives_its_own_mean_and_variance(x: Tensor) -> None:
    net = normed()
    assert recalibrate(net, lambda: net(x)) == 1
    h = net[0](x).detach()
    torch.testing.assert_close(net.get_buffer("1.running_mean"), h.mean(0))
    torch.testing.assert_close(net.get_buffer("1.running_var"), h.var(0))


def test_what_was_tracked_before_counts_for_nothing(x: Tensor) -> None:
    net = normed().train()
    net(5 * x)
    net.eval()
    recalibrate(net, lambda: net(x))
    torch.testing.assert_close(net.get_buffer("1.running_mean"), net[0](x).detach().mean(0))


def test_several_batches_count_alike_whatever_the_momentum(x: Tensor) -> None:
    net = normed()
    recalibrate(net, lambda: [net(part) for part in torch.split(x, 20)])
    parts = [net[0](part).detach() for part in torch.split(x, 20)]
    torch.testing.assert_close(net.get_buffer("1.running_mean"), torch.stack([h.mean(0) for h in parts]).mean(0))
    torch.testing.assert_close(net.get_buffer("1.running_var"), torch.stack([h.var(0) for h in parts]).mean(0))


def test_modes_momenta_and_dropout_are_left_alone(x: Tensor) -> None:
    net = normed()
    calls: list[bool] = []
    recalibrate(net, lambda: calls.append(net[3].training or net.training))
    assert calls == [False]
    assert not any(part.training for part in net.modules())
    norm = net[1]
    assert isinstance(norm, nn.BatchNorm1d)
    assert norm.momentum == 0.1
    with pytest.raises(ZeroDivisionError):
        recalibrate(net, lambda: 1 // 0)
    assert not norm.training
    assert norm.momentum == 0.1


def test_a_frozen_column_is_recalibrated_within_the_block_only(x: Tensor) -> None:
    network = ProgressiveNetwork()
    network.add_column(normed(), x)
    network.freeze()
    digest, y = network.digest(0), network(x, 0)
    with recalibrated(network.column(0), lambda: network(x, 0)) as count:
        assert count == 1
        assert network.digest(0) != digest
        assert not torch.equal(network(x, 0), y)
    network.check_frozen()
    assert network.digest(0) == digest
    assert torch.equal(network(x, 0), y)


def test_without_running_statistics_nothing_is_run(x: Tensor) -> None:
    net = nn.Sequential(nn.Linear(4, 5), nn.BatchNorm1d(5, track_running_stats=False), nn.LayerNorm(5))
    assert recalibrate(net, lambda: pytest.fail("was run")) == 0
