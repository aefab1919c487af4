"""The estimates of several columns are those of their features and outputs, taken once."""

import pytest
import torch
from torch import Tensor, nn

from prognet.analysis import h_score, label_alignment, leep, log_me, nce
from prognet.analysis.estimates import Estimate, estimates
from prognet.analysis.relatedness import knn_accuracy, penultimate_features
from prognet.analysis.ridge import ridge_fit
from prognet.engine import MLPAdapter, ProgressiveNetwork
from prognet.errors import ConfigError
from tests.helpers.asserts import assert_generator_untouched, assert_network_unchanged

NAMES: list[Estimate] = ["cka", "leep", "knn", "nce", "ridge", "hscore", "logme"]


def network(*, normed: bool = False) -> ProgressiveNetwork:
    torch.manual_seed(0)
    net = ProgressiveNetwork(MLPAdapter(zero_init=False))
    for width in (5, 7):
        norm = [nn.BatchNorm1d(width)] if normed else []
        net.add_column(nn.Sequential(nn.Linear(6, width), *norm, nn.ReLU(), nn.Linear(width, 3)), torch.zeros(2, 6))
    return net


def samples() -> tuple[Tensor, Tensor]:
    return torch.randn(30, 6, generator=torch.Generator().manual_seed(1)), torch.arange(30) % 4


def test_every_estimate_is_that_of_the_features_and_outputs() -> None:
    net, (x, y) = network(), samples()
    found = estimates(net, [1, 0], x, y, 5, NAMES, batch_size=7)
    assert list(found) == NAMES
    features = penultimate_features(net, [0, 1], x)
    with torch.no_grad():
        logits = {column: net(x, column=column) for column in (0, 1)}
    for place, column in enumerate((1, 0)):
        h, out = features[column], logits[column]
        expected: dict[Estimate, float] = {
            "knn": knn_accuracy(h, y),
            "ridge": -ridge_fit(h, y, 5).cross_entropy,
            "logme": log_me(h, y),
            "hscore": h_score(h, y),
            "cka": label_alignment(h, y),
            "leep": leep(out.softmax(1), y),
            "nce": nce(out.argmax(1), y),
        }
        for name in NAMES:
            assert found[name][place] == pytest.approx(expected[name], rel=1e-4), name


def test_looking_changes_nothing_and_draws_nothing() -> None:
    net, (x, y) = network(normed=True), samples()
    net.train()
    assert_network_unchanged(net, lambda: estimates(net, [0, 1], x, y, 4, ["leep", "nce"]))
    plain = network()
    assert_generator_untouched(lambda: estimates(plain, [0, 1], x, y, 4, NAMES))


def test_features_that_never_vary_come_last() -> None:
    net, (x, y) = network(), samples()
    for parameter in net.column(0).backbone.parameters():
        parameter.data.zero_()
    constant, other = estimates(net, [0, 1], x, y, 4, ["cka"])["cka"]
    assert constant == -1.0 < other


def test_outputs_that_are_no_logits_are_refused_for_leep_alone() -> None:
    net = ProgressiveNetwork()
    net.add_column(nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Conv2d(2, 2, 3)), torch.zeros(2, 1, 8, 8))
    x, y = torch.randn(8, 1, 8, 8), torch.arange(8) % 2
    with pytest.raises(
        ConfigError, match=r"column 0: required logits of classes \(N, C\) for LEEP and NCE, found outp"
    ):
        estimates(net, [0], x, y, 2, ["leep"])
    assert len(estimates(net, [0], x, y, 2, ["hscore", "cka"])) == 2
