"""Lateral ablation on networks in which it is known what each source is worth."""

import pytest
import torch
from torch import Tensor, nn

from prognet.analysis import lateral_ablation
from prognet.engine import LinearAdapter, MLPAdapter, ProgressiveNetwork
from prognet.errors import ConfigError
from tests.helpers.asserts import assert_network_unchanged


class Pass(nn.Module):
    """Hands a part of the input on, in front of a site: the representation is the input itself, plus a constant."""

    def __init__(self, first: int, count: int, constant: float = 0.0) -> None:
        super().__init__()
        self.first, self.count = first, count
        self.constant = nn.Parameter(torch.tensor(constant))

    def forward(self, x: Tensor) -> Tensor:
        return x[:, self.first : self.first + self.count] + self.constant


def feature(index: int, constant: float = 0.0) -> nn.Sequential:
    return nn.Sequential(Pass(index, 1, constant), nn.Linear(1, 2))


def lateral(net: ProgressiveNetwork, column: int) -> nn.Parameter:
    return net.column(column).adapters["1"].get_parameter("U.weight")


@pytest.fixture
def x() -> Tensor:
    return torch.randn(400, 3, generator=torch.Generator().manual_seed(0))


@pytest.fixture
def reader() -> ProgressiveNetwork:
    """Column 2 says the sign of what column 1 hands on, and reads column 0 with no effect."""
    net = ProgressiveNetwork(LinearAdapter())
    for index in range(3):
        net.add_column(feature(index), torch.zeros(2, 3))
    with torch.no_grad():
        for parameter in net.column(2).backbone[1].parameters():  # type: ignore[index]
            parameter.zero_()
        lateral(net, 2)[1, 1] = 1.0  # (2 outputs, 2 sources)
    return net


def signs(x: Tensor) -> Tensor:
    return (x[:, 1] > 0).long()


def test_a_source_that_says_everything_costs_what_is_above_chance(reader: ProgressiveNetwork, x: Tensor) -> None:
    y = signs(x)
    found = lateral_ablation(reader, 2, x, y, reference=torch.tensor([[1.0], [-1.0]]).expand(2, 3), batch_size=64)
    share = (y == 0).double().mean().item()  # without the source both logits are equal: class 0 for all
    assert found.sites == ("1",)
    assert found.sources == (0, 1)
    assert found.accuracy == 1.0
    assert found.losses.tolist() == [[0.0, pytest.approx(1 - share)]]
    assert found.source_losses.tolist() == [0.0, pytest.approx(1 - share)]
    assert found.total_loss == pytest.approx(1 - share)


def test_zero_charges_a_constant_to_the_source_and_the_mean_does_not(x: Tensor) -> None:
    net = ProgressiveNetwork(LinearAdapter())
    net.add_column(feature(0, constant=5.0), torch.zeros(2, 3))
    net.add_column(feature(1), torch.zeros(2, 3))
    with torch.no_grad():
        net.column(1).backbone.get_parameter("1.weight").copy_(torch.tensor([[0.0], [1.0]]))
        net.column(1).backbone.get_parameter("1.bias").copy_(torch.tensor([0.0, -5.0]))
        lateral(net, 1)[1, 0] = 1.0  # logit 1 = x_1 - 5 + (x_0 + 5), so a source of constant 5 is expected
    y = (x[:, 0] + x[:, 1] > 0).long()
    by_mean = lateral_ablation(net, 1, x, y, reference=x)
    by_zero = lateral_ablation(net, 1, x, y, replacement="zero")
    assert by_mean.accuracy == by_zero.accuracy == 1.0
    assert by_mean.source_losses[0] == pytest.approx(0.25, abs=0.05)  # sign(x_1) is right in three of four cases
    assert by_zero.source_losses[0] == pytest.approx((y == 1).double().mean().item(), abs=0.01)


def test_sites_and_sources_are_told_apart() -> None:
    torch.manual_seed(1)
    net = ProgressiveNetwork(MLPAdapter(zero_init=False))
    for _ in range(3):
        net.add_column(
            nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU(), nn.Linear(8, 3)), torch.zeros(2, 3)
        )
    x = torch.randn(300, 3)
    with torch.no_grad():
        net.column(2).adapters["2"].get_parameter("U.weight").zero_()  # site "2" reads nothing
        net.column(2).adapters["4"].get_parameter("U.weight").mul_(3)
        net.column(2).adapters["4"].get_parameter("alpha")[0] = 0.0  # site "4" reads column 1 only
        y = net(x, 2).argmax(1)
    found = lateral_ablation(net, 2, x, y, reference=x)
    assert found.losses[0].tolist() == [0.0, 0.0]
    assert found.losses[1, 0] == 0.0
    assert found.losses[1, 1] > 0.03
    assert found.source_losses.tolist() == found.losses[1].tolist()
    assert found.total_loss == found.losses[1, 1]


def test_only_the_reading_is_cut() -> None:
    """Column 1 goes on reading column 0, and column 2 reads column 1 as it is."""
    net = ProgressiveNetwork(LinearAdapter())
    for index in range(3):
        net.add_column(nn.Sequential(Pass(index, 1), nn.Linear(1, 2), nn.Linear(2, 2)), torch.zeros(2, 3))
    x = torch.randn(300, 3, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        for column, lateral_sites in ((1, ("1",)), (2, ("2",))):
            for name, parameter in net.column(column).named_parameters():
                if "backbone" in name and "0." not in name:
                    parameter.zero_()
            for site in lateral_sites:
                net.column(column).adapters[site].get_parameter("U.weight").zero_()
        net.column(1).adapters["1"].get_parameter("U.weight")[0, 0] = 1.0  # column 1 hands on what column 0 says
        net.column(2).adapters["2"].get_parameter("U.weight")[1, 2] = 1.0  # column 2 reads it from column 1
    y = (x[:, 0] > 0).long()
    found = lateral_ablation(net, 2, x, y, reference=x)
    assert found.accuracy == 1.0
    assert found.source_losses[0] == 0.0
    assert found.source_losses[1] > 0.3


def normed() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten(), nn.Linear(64, 2)
    )


def test_recalibration_takes_the_shift_out_of_a_zeroed_source() -> None:
    """A lateral that adds a large constant in front of a BatchNorm says nothing, and zero charges it all the same."""
    torch.manual_seed(3)
    net = ProgressiveNetwork(LinearAdapter(zero_init=False))
    x = torch.randn(200, 1, 8, 8)
    net.add_column(normed(), x[:2])
    with torch.no_grad():
        net.column(0).backbone.get_parameter("0.weight").zero_()
        net.column(0).backbone.get_parameter("0.bias").fill_(20.0)  # hands on a constant
    net.add_column(normed(), x[:2])
    net.train()
    for _ in range(40):
        net(x, 1)  # the statistics of the BatchNorm, laterals included
    net.eval()
    with torch.no_grad():
        net.column(1).adapters["6"].get_parameter("U.weight").zero_()
        logits = net(x, 1)
        net.column(1).backbone.get_parameter("6.bias")[0] += (logits[:, 1] - logits[:, 0]).median()
        y = net(x, 1).argmax(1)
    stale = lateral_ablation(net, 1, x, y, replacement="zero")
    fresh = lateral_ablation(net, 1, x, y, reference=x, replacement="zero", recalibrate=True)
    mean = lateral_ablation(net, 1, x, y, reference=x)
    assert stale.source_losses[0] > 0.3
    assert fresh.source_losses[0] < 0.05
    assert mean.source_losses[0] < 0.01


def test_looking_changes_nothing_and_batches_do_not_matter(x: Tensor) -> None:
    torch.manual_seed(4)
    net = ProgressiveNetwork(MLPAdapter(zero_init=False))
    for _ in range(3):
        net.add_column(nn.Sequential(nn.Linear(3, 6), nn.BatchNorm1d(6), nn.ReLU(), nn.Linear(6, 3)), x[:2])
    net.train()
    with torch.no_grad():
        y = net(x, 2).argmax(1)
    one = lateral_ablation(net, 2, x, y, reference=x, batch_size=400)
    assert_network_unchanged(net, lambda: lateral_ablation(net, 2, x, y, reference=x, recalibrate=True))
    many = lateral_ablation(net, 2, x, y, reference=x, batch_size=37)
    assert many.losses == pytest.approx(one.losses)


def test_a_column_without_sources_has_nothing_to_lose(reader: ProgressiveNetwork, x: Tensor) -> None:
    found = lateral_ablation(reader, 0, x, signs(x), reference=x)
    assert found.losses.shape == (1, 0)
    assert found.source_losses.shape == (0,)
    assert found.total_loss == 0.0


def test_what_cannot_be_measured_is_refused(reader: ProgressiveNetwork, x: Tensor) -> None:
    y = signs(x)
    with pytest.raises(ConfigError, match="reference: required training inputs for their mean or for recalibration"):
        lateral_ablation(reader, 2, x, y)
    with pytest.raises(ConfigError, match="reference: required training inputs"):
        lateral_ablation(reader, 2, x, y, replacement="zero", recalibrate=True)
    with pytest.raises(ConfigError, match="replacement: required 'mean' or 'zero', found 'median'"):
        lateral_ablation(reader, 2, x, y, replacement="median")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="y: required one class for each of at least one input, found 3 for 400"):
        lateral_ablation(reader, 2, x, y[:3], reference=x)
    with pytest.raises(ConfigError, match="column: required an index from 0 to 2, found 3"):
        lateral_ablation(reader, 3, x, y, reference=x)
