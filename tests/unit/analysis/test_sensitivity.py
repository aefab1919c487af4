"""AFS and APS on networks in which it is known which column matters."""

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from prognet.analysis import average_fisher_sensitivity, average_perturbation_sensitivity
from prognet.analysis.sensitivity import critical_precision, fisher_traces
from prognet.engine import LinearAdapter, MLPAdapter, ProgressiveNetwork
from prognet.engine.sites import edited
from prognet.errors import ConfigError


def mlp() -> nn.Sequential:
    return nn.Sequential(nn.Linear(6, 12), nn.ReLU(), nn.Linear(12, 10), nn.ReLU(), nn.Linear(10, 3))


def cnn() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 4, 3),
        nn.ReLU(),
        nn.Conv2d(4, 5, 3),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(5, 3),
    )


def three_columns(dtype: torch.dtype = torch.float32) -> ProgressiveNetwork:
    """Three columns whose laterals all have an influence."""
    torch.manual_seed(0)
    net = ProgressiveNetwork(MLPAdapter(zero_init=False))
    for _ in range(3):
        net.add_column(mlp().to(dtype), torch.zeros(2, 6, dtype=dtype))
    return net


@pytest.fixture
def network() -> ProgressiveNetwork:
    return three_columns()


@pytest.fixture
def x() -> Tensor:
    return torch.randn(200, 6, generator=torch.Generator().manual_seed(1))


def predicted(net: ProgressiveNetwork, column: int, x: Tensor) -> Tensor:
    with torch.no_grad():
        logits: Tensor = net(x, column=column)
        return logits.argmax(1)


def test_the_shares_of_both_sum_to_one_at_every_site(network: ProgressiveNetwork, x: Tensor) -> None:
    fisher = average_fisher_sensitivity(network, 2, x)
    perturbation = average_perturbation_sensitivity(network, 2, x, predicted(network, 2, x), repeats=2)
    for found in (fisher, perturbation):
        assert found.sites == ("2", "4")
        assert found.columns == (0, 1, 2)
        assert found.shares.sum(axis=1) == pytest.approx([1, 1])
        assert (found.shares >= 0).all()
    assert (fisher.shares > 0).all()


def test_fisher_ranks_the_columns_as_perturbation_does() -> None:
    torch.manual_seed(3)
    net = ProgressiveNetwork(LinearAdapter(zero_init=False))
    for _ in range(3):
        net.add_column(mlp(), torch.zeros(2, 6))
    lateral = net.column(2).adapters["4"].get_parameter("U.weight")
    with torch.no_grad():
        lateral.normal_()
        lateral[:, :10] *= 4.0  # column 0 matters most
        lateral[:, 10:] *= 0.5  # column 1 less
        net.column(2).backbone.get_parameter("4.weight").mul_(0.01)  # the column itself least
    x = torch.randn(300, 6, generator=torch.Generator().manual_seed(2))
    fisher = average_fisher_sensitivity(net, 2, x).shares[1]
    perturbation = average_perturbation_sensitivity(net, 2, x, predicted(net, 2, x), repeats=3).shares[1]
    assert list(np.argsort(-fisher)) == [0, 1, 2]
    assert list(np.argsort(-perturbation)) == [0, 1, 2]


def test_a_column_that_is_not_read_has_no_share(x: Tensor) -> None:
    net = ProgressiveNetwork()  # U = 0: nothing is read yet
    for _ in range(3):
        net.add_column(mlp(), torch.zeros(2, 6))
    assert average_fisher_sensitivity(net, 2, x).shares.tolist() == [[0, 0, 1], [0, 0, 1]]
    found = average_perturbation_sensitivity(net, 2, x, predicted(net, 2, x), repeats=1)
    assert found.shares.tolist() == [[0, 0, 1], [0, 0, 1]]


def divergence(net: ProgressiveNetwork, column: int, x: Tensor, place: tuple[str, int], s: float, axes: int) -> float:
    """Mean KL divergence between the clean prediction and that under noise of s deviations of every feature."""
    name, index = place
    generator = torch.Generator().manual_seed(4)
    over = [0, 2, 3] if axes == 4 else [0]

    def noisy(h: Tensor) -> Tensor:
        deviation = h.std(dim=over, correction=0, keepdim=True)
        return h + s * deviation * torch.randn(h.shape, generator=generator, dtype=h.dtype)

    with torch.no_grad():
        clean = net(x, column=column).log_softmax(1)
        with edited(net.column(index).backbone, {name: noisy}):
            moved = net(x, column=column).log_softmax(1)
    return functional.kl_div(moved, clean, log_target=True, reduction="batchmean").item()


@pytest.mark.parametrize("s", [0.02, 0.05, 0.1])
@pytest.mark.parametrize("place", [("2", 0), ("2", 2), ("4", 1), ("4", 2)])
def test_small_noise_moves_the_prediction_by_half_its_variance_times_the_trace(
    x: Tensor, place: tuple[str, int], s: float
) -> None:
    net = three_columns(torch.float64)
    many = x.double().repeat(200, 1)  # fresh noise for every copy
    trace = fisher_traces(net, 2, x.double())[place]
    assert divergence(net, 2, many, place, s, axes=2) == pytest.approx(s**2 / 2 * trace, rel=0.05)


def test_noise_on_pixels_goes_with_the_sum_of_squares_over_pixels() -> None:
    """Summing the gradients of a channel before squaring them would be off by a factor of several."""
    torch.manual_seed(7)
    net = ProgressiveNetwork(MLPAdapter(zero_init=False))
    for _ in range(2):
        net.add_column(cnn().double(), torch.zeros(2, 1, 8, 8, dtype=torch.float64))
    x = torch.randn(100, 1, 8, 8, dtype=torch.float64)
    traces = fisher_traces(net, 1, x)
    for place in (("2", 0), ("2", 1)):
        moved = divergence(net, 1, x.repeat(60, 1, 1, 1), place, 0.05, axes=4)
        assert moved == pytest.approx(0.05**2 / 2 * traces[place], rel=0.05)


def test_at_a_small_budget_of_divergence_the_shares_of_the_precisions_are_afs(x: Tensor) -> None:
    """With the divergence as performance and a small loss of it as the limit, APS is AFS: section A of the paper."""
    net = three_columns(torch.float64)
    many = x.double().repeat(200, 1)
    shares = average_fisher_sensitivity(net, 2, x.double()).shares
    for row, site in enumerate(("2", "4")):
        # the divergence grows with s^2, so the precision at a fixed one is proportional to it
        precision = np.array([divergence(net, 2, many, (site, index), 0.05, axes=2) for index in range(3)])
        assert precision / precision.sum() == pytest.approx(shares[row], rel=0.04)


def test_batches_do_not_matter(network: ProgressiveNetwork, x: Tensor) -> None:
    y = predicted(network, 2, x)
    for by_feature in (False, True):
        whole = average_fisher_sensitivity(network, 2, x, by_feature=by_feature, batch_size=200)
        parts = average_fisher_sensitivity(network, 2, x, by_feature=by_feature, batch_size=33)
        assert parts.shares == pytest.approx(whole.shares, rel=1e-4)
    found = [average_perturbation_sensitivity(network, 2, x, y, repeats=2, batch_size=b).shares for b in (200, 33)]
    assert found[0] == pytest.approx(found[1], abs=0.1)


def test_the_paper_s_formula_to_the_letter_averages_shares_of_features() -> None:
    # One site, two columns of two features: with logits z = W h + L g, h the own and g the source's features, the
    # Fisher value of a feature is its variance times E[p_0 p_1] (w_0 - w_1)^2. Only the weights decide.
    net = ProgressiveNetwork(LinearAdapter())
    for _ in range(2):
        backbone = nn.Sequential(nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False)).double()
        with torch.no_grad():
            backbone.get_parameter("0.weight").copy_(torch.eye(2))  # both columns hand the inputs on
        net.add_column(backbone, torch.zeros(2, 2, dtype=torch.float64))
    with torch.no_grad():
        net.column(1).backbone.get_parameter("1.weight").copy_(torch.tensor([[1.0, 1.0], [0.0, 0.0]]))
        net.column(1).adapters["1"].get_parameter("U.weight").copy_(torch.tensor([[1.0, 3.0], [0.0, 0.0]]))
    x = torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]], dtype=torch.float64)  # equal variances
    # values: source (1, 9), own (1, 1); the last site counts alone
    assert average_fisher_sensitivity(net, 1, x).shares == pytest.approx(np.array([[10 / 12, 2 / 12]]))
    by_feature = average_fisher_sensitivity(net, 1, x, by_feature=True)
    assert by_feature.shares == pytest.approx(np.array([[(1 / 2 + 9 / 10) / 2, (1 / 2 + 1 / 10) / 2]]))


def test_features_of_unequal_columns_are_not_compared() -> None:
    net = ProgressiveNetwork()
    for width in (4, 5):
        net.add_column(nn.Sequential(nn.Linear(3, width), nn.ReLU(), nn.Linear(width, 2)), torch.zeros(2, 3))
    with pytest.raises(ConfigError, match=r"by_feature: required columns of one width at site '2', found \[4, 5\]"):
        average_fisher_sensitivity(net, 1, torch.randn(5, 3), by_feature=True)


@pytest.mark.parametrize(("threshold", "expected"), [(1e-2, 1e2), (0.5, 2.0), (30.0, 1 / 30)])
def test_the_critical_noise_is_found_between_the_strengths_that_are_tried(threshold: float, expected: float) -> None:
    """Performance 1 - s^2 / (2 threshold) halves at s^2 = threshold."""
    asked: list[float] = []

    def performance(s2: float) -> float:
        asked.append(s2)
        return max(0.0, 1 - s2 / (2 * threshold))

    assert critical_precision(performance, 0.5) == pytest.approx(expected, rel=0.05)
    assert len(asked) < 10


def test_a_representation_that_no_noise_harms_and_one_that_any_harms() -> None:
    assert critical_precision(lambda s2: 0.9, 0.5) == 0
    assert critical_precision(lambda s2: 0.1, 0.5) == pytest.approx(1e4)


def test_the_trace_of_a_linear_classifier_is_the_one_computed_by_hand() -> None:
    # One site, two classes, logits z = W h: with p = softmax(z), d log p_y / d h = W_y - sum_c p_c W_c, so for two
    # classes E_y[g^2] = p_0 p_1 (W_0 - W_1)^2, unit by unit.
    torch.manual_seed(5)
    backbone = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    net = ProgressiveNetwork()
    net.add_column(backbone.double(), torch.zeros(2, 3, dtype=torch.float64))
    x = torch.randn(50, 3, dtype=torch.float64)
    with torch.no_grad():
        h = backbone[1](backbone[0](x))
        p = net(x, column=0).softmax(1)
        W = backbone.get_parameter("2.weight")
        expected = (h.var(0, correction=0) * (p[:, :1] * p[:, 1:]) * (W[0] - W[1]) ** 2).sum() / len(x)
    assert fisher_traces(net, 0, x)[("2", 0)] == pytest.approx(expected.item(), rel=1e-12)


def test_images_are_measured_by_channel() -> None:
    torch.manual_seed(6)
    net = ProgressiveNetwork(MLPAdapter(zero_init=False))
    for _ in range(2):
        net.add_column(cnn(), torch.zeros(2, 1, 8, 8))
    found = average_fisher_sensitivity(net, 1, torch.randn(20, 1, 8, 8))
    assert found.sites == ("2", "6")
    assert found.shares.sum(axis=1) == pytest.approx([1, 1])
    assert (found.shares > 0).all()


def test_looking_changes_nothing(network: ProgressiveNetwork, x: Tensor) -> None:
    network.train()
    before, outputs = network.digests(), network(x, column=2)
    average_fisher_sensitivity(network, 2, x)
    average_perturbation_sensitivity(network, 2, x, predicted(network, 2, x), repeats=1)
    assert network.digests() == before
    assert network.training
    assert torch.equal(network(x, column=2), outputs)
    assert all(parameter.grad is None for parameter in network.parameters())


def test_what_cannot_be_measured_is_refused(network: ProgressiveNetwork, x: Tensor) -> None:
    with pytest.raises(ConfigError, match="x: required at least two inputs, found 1"):
        average_fisher_sensitivity(network, 2, x[:1])
    with pytest.raises(ConfigError, match="column: required an index from 0 to 2, found 3"):
        average_fisher_sensitivity(network, 3, x)
    with pytest.raises(ConfigError, match="drop: required a number between 0 and 1, found 1"):
        average_perturbation_sensitivity(network, 2, x, predicted(network, 2, x), drop=1)
    with pytest.raises(ConfigError, match="y: required labels that the column predicts better than chance"):
        average_perturbation_sensitivity(network, 2, x, (predicted(network, 2, x) + 1) % 3)
