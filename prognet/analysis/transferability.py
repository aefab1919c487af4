"""How much a trained network knows about a new task, from its features and outputs there: four published estimates.

Each needs one pass of the network over training samples of the new task, and no training. All are larger where more is
known. They were made to rank networks for one task; between tasks with other numbers of classes they do not compare.
"""

from math import log, pi

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from prognet.analysis.similarity import linear_cka
from prognet.errors import ConfigError
from prognet.results import Floats

_PRIOR = 1e-12
"""Of LogME's two precisions, so that a target that is fitted without error has a finite evidence."""


def leep(probabilities: Tensor, y: Tensor) -> float:
    """LEEP: the log-likelihood of the new labels where the network's own classes are all that is known of a sample.

    Formula: (1/n) sum_i log sum_z P(y_i | z) p_iz, with P(y, z) = (1/n) sum_{i: y_i = y} p_iz (Nguyen et al. 2020,
    arXiv 2002.12462, eq. 2). A class z that gets no mass from any sample has no P(y | z) and is left out.

    Args:
        probabilities: p, what the network makes of the new samples over its own classes, (n, Z), rows that sum to 1.
        y: the new classes (n,).

    Returns:
        In nats, at most 0.

    Raises:
        ConfigError: when the shapes do not fit, or rows are no probabilities.
    """
    _check(probabilities, y, "probabilities")
    p = probabilities.detach().cpu().double()  # (n, Z)
    if bool((p < 0).any()) or not torch.allclose(p.sum(1), torch.ones(len(p), dtype=p.dtype), atol=1e-4):
        raise ConfigError("probabilities: required rows that sum to 1, found others; apply softmax to logits first.")
    p = p[:, p.sum(0) > 0]
    _, labels = torch.unique(y.detach().cpu(), return_inverse=True)  # (n,)
    joint = torch.zeros(int(labels.max()) + 1, p.shape[1], dtype=p.dtype).index_add_(0, labels, p)  # (C, Z)
    conditional = joint / joint.sum(0)  # (C, Z)
    return float((conditional[labels] * p).sum(1).log().mean())


def nce(z: Tensor, y: Tensor) -> float:
    """NCE: how much the network's predicted class says about the new label, minus all that there is to say.

    Formula: -H(Y | Z) = I(Z; Y) - H(Y), of the empirical distribution (Tran et al. 2019, arXiv 1908.08142).

    Args:
        z: the class of its own that the network predicts, (n,).
        y: the new classes (n,).

    Returns:
        In nats, at most 0; 0 where the predicted class decides the label.

    Raises:
        ConfigError: when the shapes do not fit.
    """
    from scipy.stats import entropy
    from sklearn.metrics import mutual_info_score

    _check(z[:, None] if z.ndim == 1 else z, y, "z")
    labels = y.detach().cpu().numpy()
    counts = np.unique(labels, return_counts=True)[1]
    found = mutual_info_score(labels, z.detach().cpu().numpy().reshape(len(labels)))
    return min(0.0, float(found - entropy(counts)))


def log_me(features: Tensor, y: Tensor) -> float:
    """LogME: the evidence of Bayesian linear regressions from the features to one-hot labels, a sample and a class.

    Formula: mean over classes of max_{alpha, beta} log p(y_c | F, alpha, beta) / n, without intercept, the precisions
    alpha of the weights and beta of the noise at the maximum (You et al. 2021, arXiv 2102.11005). Computed by
    scikit-learn's `BayesianRidge`. A class that no sample has, or every one, says nothing and is left out.

    Args:
        features: F, (n, D), at least two samples, finite.
        y: the new classes (n,).

    Returns:
        In nats, a log density: it may be positive; NaN where all samples are of one class.

    Raises:
        ConfigError: when the shapes do not fit, there are too few samples, or a feature is not finite.
    """
    from sklearn.linear_model import BayesianRidge

    F, labels = _features(features, y)
    evidences: list[float] = []
    classes = np.unique(labels)
    if len(classes) == 1:
        return float("nan")
    for label in classes:
        target = (labels == label).astype(np.float64)
        if not F.any():  # nothing but noise about zero
            evidences.append(-len(F) / 2 * (log(2 * pi * float(target.mean())) + 1))
            continue
        ridge = BayesianRidge(
            fit_intercept=False,
            compute_score=True,
            max_iter=1000,
            tol=1e-6,
            alpha_1=0.0,
            alpha_2=_PRIOR,
            lambda_1=0.0,
            lambda_2=_PRIOR,
        )
        evidences.append(float(ridge.fit(F, target).scores_[-1]))
    return float(np.mean(evidences) / len(F))


def h_score(features: Tensor, y: Tensor, *, regularised: bool = True) -> float:
    """H-score: the variance of the features between the new classes, in units of their whole variance.

    Formula: tr(S^-1 S_B), S the covariance of the features and S_B that of their class means, one a sample (Bao et al.
    2019). Regularised: (1 - a) tr(S_a^-1 S_B), S_a the covariance of Ledoit & Wolf with its shrinkage a (Ibrahim et
    al. 2021, arXiv 2110.06893), since S cannot be inverted where samples are few. Both covariances are divided by n;
    published code divides S_B by n - 1.

    Args:
        features: (n, D), at least two samples, finite.
        y: the new classes (n,).
        regularised: whether S is shrunk; otherwise its pseudo-inverse is taken.

    Returns:
        From 0 to min(D, classes - 1).

    Raises:
        ConfigError: when the shapes do not fit, there are too few samples, or a feature is not finite.
    """
    from sklearn.covariance import LedoitWolf

    F, labels = _features(features, y)
    if not F.std(axis=0).any():
        return 0.0
    centred = F - F.mean(axis=0)
    means = np.zeros_like(centred)
    for label in np.unique(labels):
        means[labels == label] = centred[labels == label].mean(axis=0)
    between = means.T @ means / len(F)  # (D, D)
    if not regularised:
        return float(np.trace(np.linalg.pinv(centred.T @ centred / len(F), hermitian=True) @ between))
    shrunk = LedoitWolf(assume_centered=True).fit(centred)
    inverse = np.linalg.pinv(shrunk.covariance_, hermitian=True)
    return float((1 - shrunk.shrinkage_) * np.trace(inverse @ between))


def label_alignment(features: Tensor, y: Tensor) -> float:
    """Debiased linear CKA between features and one-hot labels: how far samples of one class lie together.

    It is the centred kernel alignment with the ideal kernel (Cortes et al. 2012), with the unbiased estimator of
    `linear_cka`, which can fall below zero where there is nothing.

    Args:
        features: (n, D), at least four samples.
        y: the new classes (n,).

    Returns:
        At most 1; NaN where the features or the labels are the same for every sample, or no two labels are alike.

    Raises:
        ConfigError: when the shapes do not fit or there are too few samples.
    """
    _check(features, y, "features")
    _, labels = torch.unique(y, return_inverse=True)
    return linear_cka(features, functional.one_hot(labels).to(features.dtype), debiased=True)


def _features(features: Tensor, y: Tensor) -> tuple[Floats, Floats]:
    _check(features, y, "features")
    if len(features) < 2:
        raise ConfigError(f"features: required at least 2 samples, found {len(features)}.")
    F = features.detach().cpu().double().numpy()
    if not np.isfinite(F).all():
        raise ConfigError("features: required finite numbers, found inf or nan; look at what the network makes of x.")
    return F, y.detach().cpu().numpy()


def _check(values: Tensor, y: Tensor, name: str) -> None:
    if values.ndim != 2 or y.shape != values.shape[:1] or not len(y):
        raise ConfigError(
            f"{name}: required (n, D) and classes (n,), found {tuple(values.shape)} and {tuple(y.shape)}."
        )
