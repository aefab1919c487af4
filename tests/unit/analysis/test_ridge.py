"""Ridge regression in closed form: held against a fit for every sample that is left out, in double precision."""

from itertools import product

import pytest
import torch
from torch import Tensor

from prognet.analysis.ridge import SCALES, RidgeFit, ridge_fit
from prognet.errors import ConfigError
from tests.helpers.asserts import assert_generator_untouched

PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0, 10.0, 100.0, 1000.0)


def plain(n: int, d: int, n_classes: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Noisy class centres (n, d), and the classes (n,)."""
    random = torch.Generator().manual_seed(seed)
    y = torch.arange(n) % n_classes
    centres = torch.randn(n_classes, d, generator=random, dtype=torch.float64)
    return 3 + centres[y] + 1.5 * torch.randn(n, d, generator=random, dtype=torch.float64), y


def case(name: str) -> tuple[Tensor, Tensor, int]:
    """Features (N, D), classes (N,) and the number of classes."""
    if name == "more samples":
        return *plain(30, 4, 3), 3
    if name == "more features":
        return *plain(9, 20, 2), 2
    if name == "as many":
        return *plain(12, 12, 4), 4
    if name == "a class without samples":
        return *plain(20, 5, 3), 5
    if name == "one sample of a class":
        X, y = plain(16, 3, 2)
        return X, torch.where(torch.arange(16) == 7, 2, y), 3
    if name == "two samples":
        return *plain(2, 6, 2), 2
    X, y = plain(24, 4, 3)
    if name == "repeated features":
        return torch.cat([X, X, X[:, :1]], 1), y, 3
    if name == "repeated samples":
        return X[torch.arange(24) // 2], y[torch.arange(24) // 2], 3
    assert name == "constant features"
    return torch.cat([X, torch.full((24, 2), 7.0, dtype=torch.float64), torch.zeros(24, 1)], 1), y, 3


CASES = (
    "more samples",
    "more features",
    "as many",
    "a class without samples",
    "one sample of a class",
    "two samples",
    "repeated features",
    "repeated samples",
    "constant features",
)


def solved(X: Tensor, Y: Tensor, absolute: float) -> tuple[Tensor, Tensor]:
    """W (C, D) and b (C,) of the least squares with the penalty on W alone, by the normal equations of [X, 1]."""
    extended = torch.cat([X, torch.ones(len(X), 1, dtype=X.dtype)], 1)
    penalty = absolute * torch.eye(extended.shape[1], dtype=X.dtype)
    penalty[-1, -1] = 0.0
    theta = torch.linalg.solve(extended.T @ extended + penalty, extended.T @ Y)  # (D + 1, C)
    return theta[:-1].T, theta[-1]


def one_hot(y: Tensor, n_classes: int) -> Tensor:
    return torch.eye(n_classes, dtype=torch.float64)[y]


def unit_of(X: Tensor) -> float:
    """The mean squared singular value of the centred features, from their squared norm."""
    return float((X - X.mean(0)).square().sum()) / min(X.shape)


def left_out_one_by_one(X: Tensor, y: Tensor, n_classes: int, absolute: float) -> Tensor:
    """(N, C): for every sample the regressed values of the fit to all others."""
    rows = []
    for index in range(len(X)):
        others = torch.arange(len(X)) != index
        W, b = solved(X[others], one_hot(y, n_classes)[others], absolute)
        rows.append(W @ X[index] + b)
    return torch.stack(rows)


def cross_entropy(logits: Tensor, y: Tensor) -> float:
    """The mean of log sum exp minus the logit of the class, in nats."""
    return float((torch.logsumexp(logits, 1) - logits[torch.arange(len(y)), y]).mean())


def exhaustive(X: Tensor, y: Tensor, n_classes: int) -> dict[tuple[float, float], float]:
    """The left-out cross-entropy of every penalty and scale."""
    unit = unit_of(X)
    regressed = {penalty: left_out_one_by_one(X, y, n_classes, penalty * unit) for penalty in PENALTIES}
    return {
        (penalty, scale): cross_entropy(scale * regressed[penalty], y) for penalty, scale in product(PENALTIES, SCALES)
    }


@pytest.mark.parametrize("name", CASES)
def test_left_out_logits_are_those_of_a_fit_to_all_others(name: str) -> None:
    X, y, n_classes = case(name)
    fit = ridge_fit(X, y, n_classes)
    required = fit.scale * left_out_one_by_one(X, y, n_classes, fit.penalty * unit_of(X))
    torch.testing.assert_close(fit.left_out, required, rtol=1e-5, atol=1e-6)
    assert fit.cross_entropy == pytest.approx(cross_entropy(required, y), rel=1e-6)
    assert fit.accuracy == float((required.argmax(1) == y).double().mean())


def test_a_sample_that_outweighs_all_others_is_left_out_exactly_too() -> None:
    X, y = plain(210, 205, 2)
    X[-1] *= 1e5  # its leverage is above 1 - 1e-6
    fit = ridge_fit(X, y, 2)
    W, b = solved(X[:-1], one_hot(y, 2)[:-1], fit.penalty * unit_of(X))
    torch.testing.assert_close(fit.left_out[-1], fit.scale * (W @ X[-1] + b), rtol=1e-3, atol=0.0)


@pytest.mark.parametrize("name", CASES)
def test_penalty_and_scale_are_the_best_of_all(name: str) -> None:
    X, y, n_classes = case(name)
    fit, every = ridge_fit(X, y, n_classes), exhaustive(X, y, n_classes)
    assert fit.cross_entropy == pytest.approx(min(every.values()), rel=1e-6)
    assert every[fit.penalty, fit.scale] == pytest.approx(min(every.values()), rel=1e-6)


@pytest.mark.parametrize("name", CASES)
def test_weight_and_bias_are_the_fit_to_all_samples(name: str) -> None:
    X, y, n_classes = case(name)
    fit = ridge_fit(X, y, n_classes)
    W, b = solved(X, one_hot(y, n_classes), fit.penalty * unit_of(X))
    required = fit.scale * (X @ W.T + b)
    torch.testing.assert_close(X @ fit.weight.T + fit.bias, required, rtol=1e-6, atol=1e-8)
    if X.shape[0] > X.shape[1]:
        torch.testing.assert_close(fit.weight, fit.scale * W, rtol=1e-5, atol=1e-8)


def test_the_best_differ_between_cases() -> None:
    fits = [ridge_fit(*case(name)) for name in CASES]
    assert len({fit.penalty for fit in fits}) > 2
    assert len({fit.scale for fit in fits}) > 1


def test_the_penalty_follows_the_scale_of_the_features() -> None:
    X, y, n_classes = case("more samples")
    fit, large = ridge_fit(X, y, n_classes), ridge_fit(1000 * X + 5, y, n_classes)
    assert (fit.penalty, fit.scale) == (large.penalty, large.scale)
    torch.testing.assert_close(fit.left_out, large.left_out)
    torch.testing.assert_close(fit.weight, 1000 * large.weight)


def test_two_samples_by_hand() -> None:
    # features 0, 2 and classes 0, 1: without one of the two the other's class is regressed with certainty
    fit = ridge_fit(torch.tensor([[0.0], [2.0]]), torch.tensor([0, 1]), 2)
    assert fit.accuracy == 0.0
    torch.testing.assert_close(fit.left_out, fit.scale * torch.tensor([[0.0, 1.0], [1.0, 0.0]]))
    assert fit.scale == min(SCALES)
    assert fit.cross_entropy == pytest.approx(float(torch.tensor(2.0).exp().log1p()))  # ln(1 + e^2)


def test_scales_can_be_given() -> None:
    X, y, n_classes = case("more samples")
    fit = ridge_fit(X, y, n_classes, scales=[3.0])
    assert fit.scale == 3.0
    assert fit.cross_entropy >= ridge_fit(X, y, n_classes).cross_entropy - 0.05


def test_useful_features_speak_for_themselves_and_noise_does_not() -> None:
    random = torch.Generator().manual_seed(0)
    y = torch.arange(60) % 3
    useful = 4 * torch.eye(3)[y] + 0.3 * torch.randn(60, 3, generator=random)
    noise = torch.randn(60, 40, generator=random)
    chance = float(torch.log(torch.tensor(3.0)))
    assert ridge_fit(useful, y, 3).cross_entropy < 0.05
    assert ridge_fit(useful, y, 3).accuracy == 1.0
    assert ridge_fit(noise, y, 3).cross_entropy > 0.9 * chance  # though the 40 features fit the 60 samples well
    fitted = ridge_fit(noise, y, 3)
    assert cross_entropy(noise @ fitted.weight.T + fitted.bias, y) < fitted.cross_entropy


def test_features_that_never_change_give_the_classes_their_shares() -> None:
    y = torch.tensor([0, 0, 0, 1])
    fit = ridge_fit(torch.full((4, 3), 2.5), y, 2)
    assert not fit.weight.any()
    torch.testing.assert_close(fit.bias, fit.scale * torch.tensor([0.75, 0.25]))
    torch.testing.assert_close(fit.left_out[0], fit.scale * torch.tensor([2 / 3, 1 / 3]))


def test_one_class_is_certain() -> None:
    fit = ridge_fit(torch.randn(5, 3), torch.zeros(5, dtype=torch.int64), 1)
    assert (fit.cross_entropy, fit.accuracy) == (0.0, 1.0)
    assert fit.weight.abs().max() < 1e-6
    torch.testing.assert_close(fit.bias, torch.tensor([fit.scale]))


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_the_numbers_have_the_type_of_the_features(dtype: torch.dtype) -> None:
    X, y, n_classes = case("more samples")
    fit = ridge_fit(X.to(dtype), y, n_classes)
    assert {tensor.dtype for tensor in (fit.weight, fit.bias, fit.left_out)} == {dtype}
    assert (fit.weight.shape, fit.bias.shape, fit.left_out.shape) == ((3, 4), (3,), (30, 3))


def test_single_precision_loses_nothing_inside() -> None:
    X, y, n_classes = case("repeated features")
    double = ridge_fit(X.float().double(), y, n_classes)
    single = ridge_fit(X.float(), y, n_classes)
    assert (single.penalty, single.scale, single.cross_entropy) == (
        double.penalty,
        double.scale,
        double.cross_entropy,
    )
    assert torch.equal(single.weight, double.weight.float())


def test_it_looks_and_changes_nothing() -> None:
    X, y, n_classes = case("more samples")
    X.requires_grad_(True)
    kept = X.detach().clone(), y.clone()
    found: list[RidgeFit] = []
    assert_generator_untouched(lambda: found.append(ridge_fit(X, y, n_classes)))
    assert torch.equal(X, kept[0])
    assert torch.equal(y, kept[1])
    assert not found[0].weight.requires_grad


@pytest.mark.parametrize(
    ("features", "y", "message"),
    [
        (
            torch.zeros(3, 2, 2),
            torch.zeros(3, dtype=torch.int64),
            "features: required (N, D) and classes (N,), found (3, 2, 2) and (3,).",
        ),
        (
            torch.zeros(3, 2),
            torch.zeros(4, dtype=torch.int64),
            "features: required (N, D) and classes (N,), found (3, 2) and (4,).",
        ),
        (
            torch.zeros(3, 2),
            torch.zeros(3, 1, dtype=torch.int64),
            "features: required (N, D) and classes (N,), found (3, 2) and (3, 1).",
        ),
        (
            torch.zeros(1, 2),
            torch.zeros(1, dtype=torch.int64),
            "features: required at least 2 samples to leave one out, found 1.",
        ),
        (
            torch.tensor([[1.0], [float("nan")]]),
            torch.tensor([0, 1]),
            "features: required finite numbers, found 1 of 2 samples with inf or nan; look at what the network makes "
            "of its inputs.",
        ),
    ],
)
def test_what_cannot_be_fitted_is_refused(features: Tensor, y: Tensor, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        ridge_fit(features, y, 2)
    assert str(caught.value) == message
