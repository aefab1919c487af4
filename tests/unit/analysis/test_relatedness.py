"""Evidence on columns: features of the output layer, and k nearest neighbours."""

import pytest
import torch
from sklearn.model_selection import LeaveOneOut, cross_val_score
from sklearn.neighbors import KNeighborsClassifier
from torch import Tensor, nn

from prognet.analysis.relatedness import knn_accuracy, penultimate_features
from prognet.engine import MLPAdapter, ProgressiveNetwork
from prognet.errors import ConfigError
from tests.helpers.asserts import assert_network_unchanged


class Tokens(nn.Module):
    """Logits for every token, averaged at the very end: the output layer reads tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(torch.relu(self.embed(x)))
        return out


def test_the_features_are_what_the_output_layer_receives() -> None:
    torch.manual_seed(0)
    net = ProgressiveNetwork(MLPAdapter(zero_init=False))
    for width in (5, 7):
        net.add_column(
            nn.Sequential(nn.Linear(6, width), nn.ReLU(), nn.Linear(width, 4), nn.ReLU(), nn.Linear(4, 3)), x6()
        )
    found = penultimate_features(net, [0, 1], x6(), batch_size=4)
    with torch.no_grad():
        past = net.activations(x6(), [0, 1])
    assert list(found) == [0, 1]
    for column in (0, 1):  # with the laterals of column 1 at work
        torch.testing.assert_close(found[column], past[column]["4"])


def test_the_output_layer_need_not_be_a_site() -> None:
    torch.manual_seed(0)
    net = ProgressiveNetwork()
    backbone = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3))
    net.add_column(backbone, x6(), ["2"])
    with torch.no_grad():
        torch.testing.assert_close(penultimate_features(net, [0], x6())[0], backbone[:4](x6()))


def test_images_are_averaged_over_pixels_and_tokens_over_positions() -> None:
    torch.manual_seed(0)
    images, tokens = torch.randn(5, 1, 6, 6), torch.randn(5, 4, 6)
    last_is_convolution = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 3, 1))
    of_tokens = Tokens()
    for backbone, x, required in (
        (last_is_convolution, images, last_is_convolution[:2](images).mean((2, 3))),
        (of_tokens, tokens, torch.relu(of_tokens.embed(tokens)).mean(1)),
    ):
        net = ProgressiveNetwork()
        net.add_column(backbone, x)
        torch.testing.assert_close(penultimate_features(net, [0], x)[0], required.detach())


def test_looking_changes_nothing() -> None:
    torch.manual_seed(0)
    net = ProgressiveNetwork(MLPAdapter(zero_init=False))
    for _ in range(2):
        net.add_column(nn.Sequential(nn.Linear(6, 5), nn.BatchNorm1d(5), nn.ReLU(), nn.Linear(5, 3)), x6())
    net.train()
    assert_network_unchanged(net, lambda: penultimate_features(net, [0, 1], x6()))


@pytest.mark.parametrize("n_classes", [2, 5])
def test_neighbours_vote_as_in_scikit_learn(n_classes: int) -> None:
    random = torch.Generator().manual_seed(n_classes)
    y = torch.arange(60) % n_classes
    features = torch.randn(n_classes, 4, generator=random)[y] + torch.randn(60, 4, generator=random)
    scaled = (features - features.mean(0)) / features.std(0, correction=0)
    # weights by distance decide a tie of three classes for the nearest, and nothing else here
    theirs = cross_val_score(KNeighborsClassifier(3), scaled.numpy(), y.numpy(), cv=LeaveOneOut()).mean()
    ours = knn_accuracy(features * torch.tensor([1.0, 100.0, 0.01, 1.0]) + 5, y)
    assert 0.3 < ours < 0.95
    assert ours == pytest.approx(theirs, abs=0.0 if n_classes == 2 else 0.1)


def test_a_vote_by_hand() -> None:
    features = torch.tensor([[0.0], [1.0], [2.1], [3.3]])
    # neighbours of each, the nearest first: 0 1 2 | 0 2 3 | 1 3 0 | 2 1 0
    assert knn_accuracy(features, torch.tensor([0, 0, 0, 1])) == 0.75  # all say 0
    assert knn_accuracy(features, torch.tensor([0, 0, 1, 1])) == 0.0  # two of the other class for each
    # three classes among three neighbours: the nearest decides
    assert knn_accuracy(features, torch.tensor([0, 0, 1, 2])) == 0.5  # the first two are right
    assert knn_accuracy(features[:2], torch.tensor([1, 1])) == 1.0
    assert knn_accuracy(torch.ones(4, 2), torch.tensor([0, 0, 0, 0])) == 1.0  # constant features do no harm


def test_what_cannot_be_looked_at_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"features: required \(N, D\) and classes \(N,\) of at least two samples"):
        knn_accuracy(torch.zeros(1, 2), torch.zeros(1, dtype=torch.int64))
    net = ProgressiveNetwork()
    net.add_column(nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3)), x6())
    with pytest.raises(ConfigError, match="x: required at least one input, found none"):
        penultimate_features(net, [0], x6()[:0])
    doubled = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3), nn.Softmax(dim=1))
    net.add_column(doubled, x6())
    with pytest.raises(ConfigError, match="column 1: required an output layer, whose input are the features"):
        penultimate_features(net, [0, 1], x6())


def x6() -> Tensor:
    return torch.randn(10, 6, generator=torch.Generator().manual_seed(1))
