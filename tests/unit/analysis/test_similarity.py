"""CKA against formulas that share nothing with the code: feature space, and averages over tuples of samples."""

from itertools import permutations
from math import isnan, sqrt

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from prognet.analysis import column_similarity, linear_cka
from prognet.engine import MLPAdapter, ProgressiveNetwork
from prognet.errors import ConfigError
from tests.helpers.asserts import assert_network_unchanged

Array = np.ndarray


def draw(seed: int, n: int, *widths: int) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(n, width, generator=generator, dtype=torch.float64) + 2 for width in widths]


def by_features(a: Array, b: Array) -> float:
    """|a'b|^2 / (|a'a| |b'b|) of centred features: no kernel matrix."""
    a, b = a - a.mean(0), b - b.mean(0)
    norm = np.linalg.norm
    return float(norm(a.T @ b) ** 2 / (norm(a.T @ a) * norm(b.T @ b)))


def unbiased_hsic(a: Array, b: Array) -> float:
    """The U-statistic of Song et al. 2012 over all ordered tuples of four samples."""
    K, L = a @ a.T, b @ b.T
    n = len(K)
    pairs = np.mean([K[i, j] * L[i, j] for i, j in permutations(range(n), 2)])
    fours = np.mean([K[i, j] * L[q, r] for i, j, q, r in permutations(range(n), 4)])
    threes = np.mean([K[i, j] * L[i, q] for i, j, q in permutations(range(n), 3)])
    return float(pairs + fours - 2 * threes)


@pytest.mark.parametrize("widths", [(3, 5), (1, 7), (40, 60)])
def test_the_plain_estimator_is_the_one_in_feature_space(widths: tuple[int, int]) -> None:
    a, b = draw(0, 30, *widths)
    mixed = torch.cat([b, a[:, :1] * 3], dim=1)
    for other in (b, mixed):
        assert linear_cka(a, other) == pytest.approx(by_features(a.numpy(), other.numpy()), rel=1e-12)


@pytest.mark.parametrize("n", [4, 6, 8])
def test_the_debiased_estimator_is_the_average_over_tuples(n: int) -> None:
    a, b = draw(n, n, 3, 2)
    b = torch.cat([b, a[:, :1] ** 2], dim=1)
    x, y = a.numpy(), b.numpy()
    expected = unbiased_hsic(x, y) / sqrt(unbiased_hsic(x, x) * unbiased_hsic(y, y))
    assert linear_cka(a, b, debiased=True) == pytest.approx(expected, rel=1e-9)


def test_a_value_computed_by_hand() -> None:
    # centred a = (-1, 1), b = (-2, 2) and (3, -3): every kernel matrix is a multiple of the same one
    assert linear_cka(torch.tensor([[0.0], [2.0]]), torch.tensor([[1.0, 9.0], [5.0, 3.0]])) == pytest.approx(1)
    # K = outer of (1, -1, 0, 0), L = outer of (0, 0, 1, -1): orthogonal
    a, b = torch.tensor([[1.0], [-1.0], [0.0], [0.0]]), torch.tensor([[0.0], [0.0], [1.0], [-1.0]])
    assert linear_cka(a, b) == pytest.approx(0, abs=1e-15)
    # <(1, -1, 0), (1, 0, -1)>^2 / (2 * 2) = 1 / 4
    assert linear_cka(torch.tensor([[1.0], [-1.0], [0.0]]), torch.tensor([[1.0], [0.0], [-1.0]])) == pytest.approx(0.25)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    n=st.integers(5, 20),
    width=st.integers(1, 8),
    scale=st.floats(0.01, 100),
    debiased=st.booleans(),
)
def test_rotation_scale_shift_and_order_of_samples_do_not_matter(
    seed: int, n: int, width: int, scale: float, debiased: bool
) -> None:
    a, b = draw(seed, n, width, 4)
    b = torch.cat([b, a[:, :1]], dim=1)
    generator = torch.Generator().manual_seed(seed + 1)
    rotation, _ = torch.linalg.qr(torch.randn(width, width, generator=generator, dtype=torch.float64))
    order = torch.randperm(n, generator=generator)
    value = linear_cka(a, b, debiased=debiased)
    assert linear_cka(scale * a @ rotation - 3, b, debiased=debiased) == pytest.approx(value, abs=1e-8)
    assert linear_cka(a[order], b[order], debiased=debiased) == pytest.approx(value, abs=1e-8)
    assert linear_cka(b, a, debiased=debiased) == pytest.approx(value, abs=1e-12)
    assert linear_cka(a, a, debiased=debiased) == pytest.approx(1)
    assert -1e-12 - debiased <= value <= 1 + 1e-12


def test_another_linear_map_does_matter() -> None:
    a, b = draw(3, 50, 2, 2)
    b = a + 0.2 * b
    assert abs(linear_cka(a * torch.tensor([10.0, 0.1]), b) - linear_cka(a, b)) > 0.1


def test_unrelated_features_look_alike_to_the_plain_estimator_only() -> None:
    a, b = draw(4, 60, 200, 200)
    assert linear_cka(a, b) > 0.7
    assert abs(linear_cka(a, b, debiased=True)) < 0.1


@pytest.mark.parametrize("debiased", [False, True])
def test_features_that_never_vary_have_no_similarity(debiased: bool) -> None:
    (a,) = draw(5, 10, 3)
    assert isnan(linear_cka(a, torch.full((10, 2), 0.1), debiased=debiased))


def images() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 3, 3),
        nn.ReLU(),
        nn.Conv2d(3, 4, 3),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, 3),
    )


def test_columns_are_compared_site_by_site() -> None:
    torch.manual_seed(6)
    net = ProgressiveNetwork(MLPAdapter(zero_init=False))
    for _ in range(3):
        net.add_column(images(), torch.zeros(2, 1, 7, 7))
    x = torch.randn(40, 1, 7, 7)
    found = column_similarity(net, (0, 1, 2), x, batch_size=13)
    flat = column_similarity(net, (0, 1, 2), x, features="flattened", debiased=True)
    assert found.sites == ("2", "6")
    assert found.columns == (0, 1, 2)
    assert found.values.shape == (2, 3, 3)
    with torch.no_grad():
        received = net.activations(x, [0, 1])
    one, two = (received[k]["2"] for k in (0, 1))
    pooled = by_features(one.mean((2, 3)).numpy().astype(float), two.mean((2, 3)).numpy().astype(float))
    assert found.values[0, 0, 1] == pytest.approx(pooled, rel=1e-5)
    assert flat.values[0, 0, 1] == pytest.approx(linear_cka(one.flatten(1), two.flatten(1), debiased=True), rel=1e-6)
    assert found.values == pytest.approx(found.values.transpose(0, 2, 1))
    assert found.values[:, range(3), range(3)] == pytest.approx(np.ones((2, 3)))


def test_tokens_are_pooled_over_tokens() -> None:
    class Tokens(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embed, self.mix, self.out = nn.Linear(3, 5), nn.Linear(5, 5), nn.Linear(5, 2)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.out(self.mix(self.embed(x)).mean(1))
            return out

    torch.manual_seed(7)
    net = ProgressiveNetwork()
    for _ in range(2):
        net.add_column(Tokens(), torch.zeros(2, 4, 3), sites=["mix"])
    x = torch.randn(20, 4, 3)
    with torch.no_grad():
        received = net.activations(x, [0, 1])
    expected = by_features(*(received[k]["mix"].mean(1).numpy().astype(float) for k in (0, 1)))
    assert column_similarity(net, (0, 1), x).values[0, 0, 1] == pytest.approx(expected, rel=1e-5)


def test_a_column_that_lacks_a_site_has_no_value_there() -> None:
    torch.manual_seed(8)
    net = ProgressiveNetwork()
    net.add_column(nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)), torch.zeros(2, 3))
    deep = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 2))
    net.add_column(deep, torch.zeros(2, 3), sources=())
    found = column_similarity(net, (0, 1), torch.randn(10, 3))
    assert found.sites == ("2", "4")
    assert np.isnan(found.values).tolist() == [[[False] * 2] * 2, [[True, True], [True, False]]]


def test_looking_changes_nothing() -> None:
    net = ProgressiveNetwork()
    for _ in range(2):
        net.add_column(images(), torch.zeros(2, 1, 7, 7))
    net.train()
    assert_network_unchanged(net, lambda: column_similarity(net, (0, 1), torch.randn(9, 1, 7, 7)))


def test_what_cannot_be_compared_is_refused() -> None:
    net = ProgressiveNetwork()
    net.add_column(images(), torch.zeros(2, 1, 7, 7))
    x = torch.randn(3, 1, 7, 7)
    with pytest.raises(ConfigError, match="x: required at least 4 samples, found 3"):
        column_similarity(net, (0,), x, debiased=True)
    with pytest.raises(ConfigError, match="x: required at least 2 samples, found 1"):
        linear_cka(torch.zeros(1, 2), torch.zeros(1, 2))
    with pytest.raises(ConfigError, match="features: required 'pooled' or 'flattened', found 'mean'"):
        column_similarity(net, (0,), x, features="mean")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="columns: required at least one, found none"):
        column_similarity(net, (), x)
    with pytest.raises(ConfigError, match=r"b: required features \(B, G\) beside \(3, 2\), found \(4, 2\)"):
        linear_cka(torch.zeros(3, 2), torch.zeros(4, 2))


@pytest.mark.parametrize("n", [4, 10, 50])
def test_labels_of_which_no_two_are_alike_have_no_debiased_likeness(n: int) -> None:
    torch.manual_seed(n)
    each = torch.eye(n)
    assert isnan(linear_cka(torch.randn(n, 5), each, debiased=True))
    assert isnan(linear_cka(each, torch.randn(n, 5), debiased=True))
    pair = torch.eye(n)[[0, 0, *range(2, n)]]  # two that are alike are something to be told
    assert not isnan(linear_cka(torch.randn(n, 5), pair, debiased=True))
