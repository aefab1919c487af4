"""LEEP, NCE, LogME and H-score: values computed by hand, oracles that share nothing with the code, and their limits."""

from math import isnan, log, pi

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import Tensor
from torch.nn import functional

from prognet.analysis import h_score, label_alignment, leep, linear_cka, log_me, nce
from prognet.errors import ConfigError

Y4 = torch.tensor([0, 0, 1, 1])


def clusters(n: int = 60, n_classes: int = 3, width: int = 4, gap: float = 2.0, seed: int = 0) -> tuple[Tensor, Tensor]:
    random = torch.Generator().manual_seed(seed)
    y = torch.arange(n) % n_classes
    means = gap * torch.randn(n_classes, width, generator=random)
    return means[y] + torch.randn(n, width, generator=random), y


def test_leep_by_hand() -> None:
    p = torch.tensor([[0.75, 0.25], [0.5, 0.5], [0.25, 0.75], [0.5, 0.5]])
    # mass of the two columns: 2 and 2; P(0 | z) = 1.25 / 2, 0.75 / 2; P(1 | z) = 0.75 / 2, 1.25 / 2
    likelihoods = [0.75 * 0.625 + 0.25 * 0.375, 0.5, 0.25 * 0.375 + 0.75 * 0.625, 0.5]
    assert likelihoods == [0.5625, 0.5, 0.5625, 0.5]
    assert leep(p, Y4) == pytest.approx((2 * log(0.5625) + 2 * log(0.5)) / 4, rel=1e-12)


def test_leep_at_its_ends() -> None:
    assert leep(functional.one_hot(1 - Y4).double(), Y4) == 0.0  # each class of its own names one label
    flat = torch.full((4, 3), 1 / 3)
    assert leep(flat, Y4) == pytest.approx(log(0.5), rel=1e-6)  # nothing but the frequencies of the labels
    assert leep(flat, torch.tensor([0, 0, 0, 1])) == pytest.approx((3 * log(0.75) + log(0.25)) / 4, rel=1e-6)


def test_a_source_class_without_mass_is_left_out() -> None:
    p = torch.tensor([[0.75, 0.25], [0.5, 0.5], [0.25, 0.75], [0.5, 0.5]])
    with_empty = torch.cat([p[:, :1], torch.zeros(4, 1), p[:, 1:]], dim=1)
    assert leep(with_empty, Y4) == leep(p, Y4)
    assert leep(p, torch.tensor([7, 7, 9, 9])) == leep(p, Y4)  # names of labels play no part


def test_nce_by_hand() -> None:
    # of z = 0 two of three samples have label 0; of z = 1 all have label 1
    z, y = torch.tensor([0, 0, 0, 1]), torch.tensor([0, 0, 1, 1])
    entropy = -(2 / 3 * log(2 / 3) + 1 / 3 * log(1 / 3))
    assert nce(z, y) == pytest.approx(-0.75 * entropy, rel=1e-12)
    assert nce(torch.tensor([5, 5, 2, 2]), Y4) == 0.0
    assert nce(torch.zeros(4, dtype=torch.int64), Y4) == pytest.approx(log(0.5), rel=1e-12)


def test_nce_bounds_leep_of_sure_predictions() -> None:
    x, y = clusters()
    z = x[:, :3].argmax(1)
    assert leep(functional.one_hot(z, 4), y) == pytest.approx(nce(z, y), rel=1e-9)  # one column of mass zero


def test_logme_of_one_feature_by_hand() -> None:
    """With one feature the maximum is known: p = (f'y)^2 / f'f on it, the rest r over n - 1 directions."""
    f, y = torch.tensor([[3.0], [1.0], [-1.0], [-3.0]]), torch.tensor([0, 0, 1, 1])
    # f'f = 20; class 0: f'y = 4, p = 0.8, y'y = 2, r = 1.2; class 1: f'y = -4, the same
    evidence = -0.5 * (3 * log(2 * pi * 1.2 / 3) + log(2 * pi * 0.8) + 4)
    assert log_me(f, y) == pytest.approx(evidence / 4, rel=1e-6)


@pytest.mark.parametrize("width", [2, 5])
def test_logme_is_the_maximum_of_the_evidence(width: int) -> None:
    F, y = clusters(40, 3, width)

    def negative(logs: np.ndarray, target: np.ndarray) -> float:
        covariance = np.exp(logs[0]) * (F @ F.T).numpy() + np.exp(logs[1]) * np.eye(len(F))
        sign, determinant = np.linalg.slogdet(covariance)
        assert sign > 0
        return float(0.5 * (len(F) * log(2 * pi) + determinant + target @ np.linalg.solve(covariance, target)))

    best = []
    for label in range(3):
        target = (y == label).double().numpy()
        best.append(-minimize(negative, np.zeros(2), args=(target,), method="Nelder-Mead", tol=1e-10).fun)
    assert log_me(F, y) == pytest.approx(np.mean(best) / len(F), rel=1e-5)


def test_logme_where_something_vanishes() -> None:
    y = torch.tensor([0, 0, 1, 1])
    assert log_me(torch.zeros(4, 2), y) == pytest.approx(-0.5 * (log(2 * pi * 0.5) + 1), rel=1e-9)  # y'y / n = 1/2
    perfect = log_me(functional.one_hot(y).float(), y)
    assert np.isfinite(perfect)
    assert perfect > log_me(functional.one_hot(y).float() + 0.3 * torch.eye(4)[:, :2], y)
    F, labels = clusters()
    assert log_me(F, labels * 5) == log_me(F, labels)  # labels without samples say nothing


def test_h_score_of_one_feature_by_hand() -> None:
    # deviations -1.5 .. 1.5, variance 1.25; means -1 and 1, variance 1; one feature is never shrunk
    f = torch.tensor([[0.0], [1.0], [2.0], [3.0]])
    assert h_score(f, Y4) == pytest.approx(0.8, rel=1e-12)
    assert h_score(f * 100 - 3, Y4, regularised=False) == pytest.approx(0.8, rel=1e-12)


def test_h_score_with_the_shrinkage_of_ledoit_and_wolf() -> None:
    F, y = clusters(30, 3, 4)
    X = (F.double() - F.double().mean(0)).numpy()
    n, d = X.shape
    S = X.T @ X / n
    mu = np.trace(S) / d
    distance = ((S - mu * np.eye(d)) ** 2).sum()
    noise = min(sum(((np.outer(x, x) - S) ** 2).sum() for x in X) / n**2, distance)  # Ledoit & Wolf 2004
    a = noise / distance
    means = np.stack([X[y.numpy() == c].mean(0) for c in range(3)])[y.numpy()]
    expected = (1 - a) * np.trace(np.linalg.inv((1 - a) * S + a * mu * np.eye(d)) @ (means.T @ means / n))
    assert 0.01 < a < 0.9
    assert h_score(F, y) == pytest.approx(expected, rel=1e-9)


def test_h_score_at_its_ends() -> None:
    y = torch.arange(30) % 3
    points = torch.randn(3, 5, generator=torch.Generator().manual_seed(0))[y]
    assert h_score(points, y, regularised=False) == pytest.approx(2.0, rel=1e-6)  # classes - 1
    assert h_score(torch.ones(30, 2), y) == 0.0
    noise = torch.randn(30, 60, generator=torch.Generator().manual_seed(1))
    assert h_score(noise, y, regularised=False) == pytest.approx(2.0, rel=1e-6)  # more features than samples say all
    assert h_score(noise, y) < 0.5  # and shrunk they do not


def test_alignment_with_labels_is_cka_with_their_indicator() -> None:
    F, y = clusters()
    assert label_alignment(F, y) == linear_cka(F, functional.one_hot(y).float(), debiased=True)


def test_alignment_is_not_biased_where_samples_are_few() -> None:
    random, labels = torch.Generator().manual_seed(3), torch.arange(20) % 2
    draws = [torch.randn(20, 200, generator=random) for _ in range(40)]
    plain = [linear_cka(few, functional.one_hot(labels).float()) for few in draws]
    assert np.mean(plain) > 0.2  # nothing is there to be found
    assert abs(np.mean([label_alignment(few, labels) for few in draws])) < 0.03


@pytest.mark.parametrize("measure", [log_me, h_score, label_alignment])
def test_measures_of_features_prefer_the_ones_that_tell_classes_apart(measure: object) -> None:
    far, y = clusters(gap=3.0)
    near, _ = clusters(gap=0.3)
    shuffled = y[torch.randperm(len(y), generator=torch.Generator().manual_seed(0))]
    assert measure(far, y) > measure(near, y)  # type: ignore[operator]
    assert measure(far, y) > measure(far, shuffled)  # type: ignore[operator]


def test_measures_change_nothing_and_do_not_depend_on_order() -> None:
    F, y = clusters()
    kept, order = F.clone(), torch.randperm(len(y), generator=torch.Generator().manual_seed(0))
    for measure in (log_me, h_score, label_alignment):
        assert measure(F, y) == pytest.approx(measure(F[order], y[order]), rel=1e-6)
    p = F.softmax(1)
    assert leep(p, y) == pytest.approx(leep(p[order], y[order]), rel=1e-9)
    assert torch.equal(F, kept)


def test_what_cannot_be_measured_is_refused() -> None:
    F, y = clusters()
    with pytest.raises(ConfigError, match=r"probabilities: required rows that sum to 1, found others; apply softmax"):
        leep(F, y)
    with pytest.raises(
        ConfigError, match=r"features: required \(n, D\) and classes \(n,\), found \(60, 4\) and \(3,\)"
    ):
        h_score(F, y[:3])
    with pytest.raises(ConfigError, match="features: required at least 2 samples, found 1"):
        log_me(F[:1], y[:1])
    broken = F.clone()
    broken[0, 0] = float("nan")
    with pytest.raises(ConfigError, match="features: required finite numbers, found inf or nan"):
        log_me(broken, y)


@pytest.mark.parametrize(("n", "D"), [(10, 16), (30, 64), (30, 10)])
def test_one_class_has_no_evidence(n: int, D: int) -> None:
    torch.manual_seed(0)
    assert isnan(log_me(torch.randn(n, D), torch.zeros(n, dtype=torch.int64)))


def test_constant_features_take_part_in_the_shrinkage() -> None:
    # Ibrahim et al. 2021: (1 - a) tr(S_a^-1 S_B), S_a = (1 - a) S + a tr(S) / D 1, over all D features
    from sklearn.covariance import ledoit_wolf

    torch.manual_seed(0)
    y = torch.arange(60) % 3
    live = torch.randn(60, 4) + torch.nn.functional.one_hot(y, 4)
    h = torch.cat([live, torch.zeros(60, 6)], dim=1)
    F = (h.double() - h.double().mean(0)).numpy()
    S, a = ledoit_wolf(F, assume_centered=True)
    means = np.stack([F[y.numpy() == c].mean(axis=0) for c in range(3)])[y.numpy()]
    expected = (1 - a) * np.trace(np.linalg.inv(S) @ (means.T @ means / 60))
    assert h_score(h, y) == pytest.approx(expected, rel=1e-9)
    assert h_score(torch.full((60, 3), 2.0), y) == 0
