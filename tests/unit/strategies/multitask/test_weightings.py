"""Every weighting on constructed losses against its published closed form, computed by hand or by another solver."""

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from math import exp, sqrt
from typing import Any, cast

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from torch import Tensor, nn

from prognet.errors import ConfigError, ControlUnavailableError
from prognet.strategies.multitask import (
    DWA,
    FAMO,
    IMTLG,
    MGDA,
    AlignedMTL,
    CAGrad,
    FixedWeights,
    GradNorm,
    NashMTL,
    PCGrad,
    RandomWeights,
    Uncertainty,
    UPGrad,
    Weighting,
)
from prognet.strategies.multitask.projection import project
from prognet.strategies.multitask.weighting import silenced, with_extra
from prognet.training.weighting import Balance

CPU = torch.device("cpu")
CONFLICT = [[1.0, 0.0], [-1.0, 1.0]]
ORTHOGONAL = [[1.0, 0.0], [0.0, 2.0]]


@dataclass
class Problem:
    """Losses l_t = rows_t theta + own_t + level_t at theta = 0: their gradients by theta are the rows, by own_t 1."""

    rows: Tensor
    levels: Tensor

    def __post_init__(self) -> None:
        self.theta = nn.Parameter(torch.zeros(self.rows.shape[1]))
        self.own = nn.ParameterList([nn.Parameter(torch.zeros(())) for _ in self.rows])

    @property
    def parameters(self) -> list[nn.Parameter]:
        return [self.theta, *self.own]

    def parts(self, present: Sequence[int] | None = None) -> dict[int, Tensor]:
        chosen = range(len(self.rows)) if present is None else present
        losses = {t: self.rows[t] @ self.theta + self.own[t] + self.levels[t] for t in chosen}
        return {t: loss / len(losses) for t, loss in losses.items()}

    def backward(self, balance: Balance, present: Sequence[int] | None = None, penalty: Tensor | None = None) -> Tensor:
        """The gradient by theta of one update, (P,); those by own parameters are in their places."""
        for parameter in self.parameters:
            parameter.grad = None
        balance.backward(self.parts(present), penalty, self.parameters)
        assert self.theta.grad is not None
        return self.theta.grad.clone()

    def own_gradients(self) -> list[float | None]:
        return [None if parameter.grad is None else float(parameter.grad) for parameter in self.own]


def problem(rows: Any, levels: Sequence[float] | None = None) -> Problem:
    matrix = torch.as_tensor(rows, dtype=torch.float32)
    return Problem(matrix, torch.tensor([1.0] * len(matrix) if levels is None else levels))


def start(weighting: Weighting, n: int = 2) -> Balance:
    return weighting.start(range(n), CPU)


def combined(weighting: Weighting, rows: Any, levels: Sequence[float] | None = None) -> list[float]:
    return problem(rows, levels).backward(start(weighting, len(rows))).tolist()


def approx(numbers: Sequence[float], tolerance: float = 1e-5) -> Any:
    return pytest.approx(list(numbers), abs=tolerance)


def random_rows(n: int, seed: int, width: int = 6) -> Tensor:
    return torch.randn(n, width, generator=torch.Generator().manual_seed(seed))


# Losses alone


def test_fixed_weights_are_factors_of_the_mean() -> None:
    case = problem(CONFLICT)
    assert case.backward(start(FixedWeights(weights=[1, 3]))).tolist() == approx([(1 - 3) / 2, 3 / 2])
    assert case.own_gradients() == [0.5, 1.5]
    assert combined(FixedWeights(), CONFLICT) == approx([0, 0.5])


def test_weights_1_0_are_the_first_task_alone() -> None:
    case = problem(CONFLICT)
    assert case.backward(start(FixedWeights(weights=[1, 0], match_scale=True))).tolist() == [1, 0]
    assert case.own_gradients() == [1, 0]


def test_uncertainty_is_its_formula() -> None:
    case, balance = problem(CONFLICT, [3.0, 0.5]), start(Uncertainty(lr=0.1))
    assert case.backward(balance).tolist() == approx([0.5 - 0.5, 0.5])  # exp(0) / 2 each
    # ds = (1 - l exp(-s)) / 2 is -1 for l = 3 and 1/4 for l = 1/2: a step of Adam moves s by +- lr
    weights = [exp(-0.1) / 2, exp(0.1) / 2]
    assert case.backward(balance).tolist() == approx([weights[0] - weights[1], weights[1]])
    assert case.own_gradients() == approx(weights)


def test_the_uncertainty_of_an_absent_task_stays() -> None:
    case, balance = problem(CONFLICT, [3.0, 0.5]), start(Uncertainty(lr=0.1))
    assert case.backward(balance, present=[0]).tolist() == approx([0.5, 0])
    case.backward(balance)
    assert case.own_gradients() == approx([exp(-0.1) / 2, 0.5])


def test_uncertainty_does_not_explode_where_a_loss_goes_to_0() -> None:
    case, balance = problem(CONFLICT, [1e-6, 1.0]), start(Uncertainty(lr=0.01))
    for _ in range(200):
        case.backward(balance)
    weight, other = (float(gradient or 0) for gradient in case.own_gradients())
    assert other < weight < exp(0.01 * 200) / 2  # at most a step of Adam an update, whatever the optimiser of the rest


def test_dwa_is_its_formula() -> None:
    balance = start(DWA(temperature=2.0))
    for levels in ([2.0, 1.0], [1.0, 0.9]):  # one batch a pass: uniform weights of 1 each
        case = problem(CONFLICT, levels)
        assert case.backward(balance).tolist() == approx([0, 1])
        balance.after_pass()
    case = problem(CONFLICT, [0.7, 0.7])
    case.backward(balance)
    first, second = exp(0.5 / 2), exp(0.9 / 2)  # r = 1 / 2, 0.9 / 1
    assert case.own_gradients() == approx([2 * first / (first + second), 2 * second / (first + second)])


def test_dwa_takes_the_mean_over_a_pass() -> None:
    balance = start(DWA(temperature=1.0))
    for levels in ([1.0, 4.0], [3.0, 4.0]):
        problem(CONFLICT, levels).backward(balance)
    balance.after_pass()
    problem(CONFLICT, [1.0, 4.0]).backward(balance)
    balance.after_pass()
    case = problem(CONFLICT)
    case.backward(balance)
    assert case.own_gradients() == approx([2 * exp(0.5) / (exp(0.5) + exp(1)), 2 * exp(1) / (exp(0.5) + exp(1))])


def test_random_weights_are_the_softmax_of_normal_draws() -> None:
    case = problem(CONFLICT)
    for seed in (0, 1):
        torch.manual_seed(seed)
        case.backward(start(RandomWeights()))
        torch.manual_seed(seed)
        assert case.own_gradients() == approx(torch.randn(2).softmax(0).tolist())


def test_famo_is_its_formula() -> None:
    case, balance = problem(CONFLICT, [2.0, 0.5]), start(FAMO(lr=0.1, decay=0))
    case.backward(balance)
    assert case.own_gradients() == approx([0.2, 0.8])  # z / l = 1/4, 1; normalised
    # log l falls by log 2 and 0: the derivative by the logits is z (delta - mean delta), positive for the first
    balance.after_step(lambda: {0: torch.tensor(0.5), 1: torch.tensor(0.25)})  # halves of the losses 1 and 0.5
    case.backward(balance)
    z = [exp(-0.1) / (exp(-0.1) + exp(0.1)), exp(0.1) / (exp(-0.1) + exp(0.1))]
    whole = z[0] / 2 + z[1] / 0.5
    assert case.own_gradients() == approx([z[0] / 2 / whole, z[1] / 0.5 / whole])


# Gradients


def test_pcgrad_projects_conflicting_gradients_off_each_other() -> None:
    # g1 - (g1 g2 / |g2|^2) g2 = (1/2, 1/2), g2 - (g2 g1 / |g1|^2) g1 = (0, 1)
    assert combined(PCGrad(), CONFLICT) == approx([0.5, 1.5])
    assert combined(PCGrad(), ORTHOGONAL) == approx([1, 2])


def test_mgda_is_the_closed_form_of_two_tasks() -> None:
    assert combined(MGDA(), ORTHOGONAL) == approx([0.8, 0.4])  # gamma = (g2 - g1) g2 / |g1 - g2|^2 = 4 / 5
    assert combined(MGDA(), [[1.0, 0.0], [3.0, 1.0]]) == approx([1, 0])  # the shortest vector is an end
    for seed in range(5):
        first, second = rows = random_rows(2, seed)
        gamma = float(((second - first) @ second / (first - second).square().sum()).clamp(0, 1))
        assert combined(MGDA(), rows) == approx((gamma * first + (1 - gamma) * second).tolist())


def test_mgda_does_not_stand_still_for_a_task_without_samples() -> None:
    """A zero row in its place would be the shortest vector of all."""
    case = problem([[1.0, 0.0], [0.0, 2.0], [5.0, 5.0]])
    assert case.backward(start(MGDA(), 3), present=[0, 1]).tolist() == approx([0.8, 0.4])
    assert case.own_gradients() == [1, 1, None]


@pytest.mark.parametrize("seed", range(5))
def test_imtlg_has_equal_projections_on_all_unit_gradients(seed: int) -> None:
    assert combined(IMTLG(), ORTHOGONAL) == approx([2 / 3, 2 / 3])
    rows = random_rows(3, seed)
    found = torch.tensor(combined(IMTLG(), rows))
    projections = torch.nn.functional.normalize(rows, dim=1) @ found
    assert projections.tolist() == approx([float(projections[0])] * 3, 1e-3)


def test_aligned_mtl_scales_all_components_to_the_smallest() -> None:
    assert combined(AlignedMTL(), [[3.0, 0.0], [0.0, 1.0]]) == approx([0.5, 0.5])
    rows = random_rows(3, 0)
    U, S, Vh = torch.linalg.svd(rows, full_matrices=False)
    assert combined(AlignedMTL(), rows) == approx((S[-1] * U @ Vh).mean(dim=0).tolist(), 1e-4)


def test_upgrad_by_hand() -> None:
    assert combined(UPGrad(), CONFLICT) == approx([0.25, 0.75])  # the mean of (1/2, 1/2) and (0, 1)
    assert combined(UPGrad(), ORTHOGONAL) == approx([0.5, 1])  # without a conflict the mean


@pytest.mark.parametrize("n", [2, 3, 5])
@pytest.mark.parametrize("seed", range(4))
def test_upgrad_is_the_mean_of_projections_found_by_another_solver(n: int, seed: int) -> None:
    rows = random_rows(n, seed, width=4)
    J = rows.double().numpy()
    assert (J @ J.T).min() < 0  # there is a conflict
    cone = {"type": "ineq", "fun": lambda d: J @ d, "jac": lambda d: J}
    found = [
        minimize(lambda d, g=g: ((d - g) ** 2).sum(), np.zeros(4), jac=lambda d, g=g: 2 * (d - g), constraints=[cone]).x
        for g in J
    ]
    assert combined(UPGrad(), rows) == approx(np.mean(found, axis=0).tolist(), 1e-4)


def test_projections_of_nothing_and_of_dependent_rows_are_found() -> None:
    eye = torch.eye(2)
    assert torch.equal(project(eye, torch.zeros(2, 2)), eye)
    opposite = torch.tensor([[1.0, -1.0], [-1.0, 1.0]])  # g and -g: the cone is what is orthogonal to both
    weights = project(eye, opposite)
    assert (weights @ opposite @ weights.T).abs().max() < 1e-9
    assert (weights >= eye - 1e-9).all()


def test_gradnorm_by_hand() -> None:
    case, balance = problem([[1.0, 0.0], [0.0, 3.0]]), start(GradNorm(alpha=0.0, lr=0.1))
    assert case.backward(balance).tolist() == approx([1, 3])
    assert case.own_gradients() == [1, 1]
    # |1 - 2| + |3 - 2|: the first weight grows by lr, the second falls
    assert case.backward(balance).tolist() == approx([1.1, 0.9 * 3])
    assert case.own_gradients() == approx([1.1, 0.9])


def test_gradnorm_makes_gradients_equally_long_or_longer_for_the_slower_task() -> None:
    for alpha, ratio in ((0.0, 1.0), (1.0, 2.0)):
        balance = start(GradNorm(alpha=alpha, lr=0.002))
        problem([[1.0, 0.0], [0.0, 3.0]], [1.0, 1.0]).backward(balance)
        for _ in range(2000):
            found = problem([[1.0, 0.0], [0.0, 3.0]], [0.25, 0.5]).backward(balance)
        assert float(found[1] / found[0]) == pytest.approx(ratio, rel=0.03)


# All of them

GRADIENTS: tuple[type[Weighting], ...] = (PCGrad, MGDA, IMTLG, AlignedMTL, UPGrad, GradNorm)
LOSSES: tuple[type[Weighting], ...] = (FixedWeights, Uncertainty, DWA, RandomWeights, FAMO)


@pytest.mark.parametrize("kind", GRADIENTS)
def test_at_matched_scale_a_combined_gradient_is_as_long_as_the_mean(kind: type[Weighting]) -> None:
    rows = random_rows(3, 3)
    case = problem(rows)
    plain = torch.tensor(combined(kind(), rows))
    found = case.backward(start(kind(match_scale=True), 3))
    assert float(found.norm()) == pytest.approx(float(rows.mean(dim=0).norm()), rel=1e-5)
    assert torch.allclose(found / found.norm(), plain / plain.norm(), atol=1e-5)
    assert sum(gradient or 0 for gradient in case.own_gradients()) == pytest.approx(1)


@pytest.mark.parametrize("kind", LOSSES)
def test_at_matched_scale_weights_add_up_to_1(kind: type[Weighting]) -> None:
    case, balance = problem(CONFLICT, [2.0, 1.0]), start(kind(match_scale=True))
    case.backward(balance)
    assert sum(gradient or 0 for gradient in case.own_gradients()) == pytest.approx(1)


def test_sum_like_and_mean_like_steps_are_the_same_at_matched_scale() -> None:
    lengths = [problem(ORTHOGONAL).backward(start(kind())).norm() for kind in (PCGrad, UPGrad)]
    assert float(lengths[0] / lengths[1]) == pytest.approx(2)
    matched = [problem(ORTHOGONAL).backward(start(kind(match_scale=True))) for kind in (PCGrad, UPGrad, FixedWeights)]
    assert torch.allclose(matched[0], matched[1], atol=1e-6)
    assert torch.allclose(matched[0], matched[2], atol=1e-6)


def test_a_combined_gradient_of_nothing_stays_nothing_at_matched_scale() -> None:
    assert combined(MGDA(match_scale=True), [[1.0, 0.0], [-1.0, 0.0]]) == [0, 0]


@pytest.mark.parametrize("kind", [*GRADIENTS, *LOSSES])
def test_one_task_alone_keeps_its_direction(kind: type[Weighting]) -> None:
    found = torch.tensor(combined(kind(), [[3.0, 4.0]]))
    assert torch.allclose(found / found.norm(), torch.tensor([0.6, 0.8]))


@pytest.mark.parametrize("kind", [*GRADIENTS, *LOSSES])
def test_a_penalty_is_added_after_the_weighting(kind: type[Weighting]) -> None:
    case = problem(CONFLICT, [2.0, 1.0])
    torch.manual_seed(0)
    without = case.backward(start(kind()))
    torch.manual_seed(0)
    penalty = (case.theta * torch.tensor([10.0, 20.0])).sum() + case.own[0] * 5
    own = case.own_gradients()
    assert torch.allclose(case.backward(start(kind()), penalty=penalty), without + torch.tensor([10.0, 20.0]))
    assert case.own_gradients() == approx([(own[0] or 0) + 5, own[1] or 0])


@pytest.mark.parametrize("kind", GRADIENTS)
def test_without_shared_parameters_every_task_has_its_own_gradient(kind: type[Weighting]) -> None:
    own = [nn.Parameter(torch.ones(2)), nn.Parameter(torch.ones(2))]
    parts: Mapping[int, Tensor] = {t: (t + 1) * parameter.sum() / 2 for t, parameter in enumerate(own)}
    start(kind()).backward(parts, None, own)
    assert [parameter.grad.tolist() for parameter in own if parameter.grad is not None] == [[1, 1], [2, 2]]


def test_a_parameter_that_nothing_reaches_gets_no_gradient() -> None:
    case, idle = problem(CONFLICT), nn.Parameter(torch.ones(2))
    start(PCGrad()).backward(case.parts(), None, [*case.parameters, idle])
    assert idle.grad is None


def test_the_length_of_steps_is_noted() -> None:
    case, balance = problem(ORTHOGONAL), start(PCGrad())
    assert np.isnan(balance.mean_norm())
    for scale in (1, 3):
        case.rows = torch.tensor(ORTHOGONAL) * scale
        case.backward(balance)
        balance.note_norm(case.parameters)
    # own gradients are 1 each: sqrt(1 + 4 + 2), sqrt(9 + 36 + 2)
    assert balance.mean_norm() == pytest.approx((sqrt(7) + sqrt(47)) / 2)


@pytest.mark.parametrize(("weighting", "name"), [(DWA(), "DWA"), (FAMO(), "FAMO"), (GradNorm(), "GradNorm")])
def test_weightings_that_compare_all_tasks_say_so(weighting: Weighting, name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        problem([[1.0], [2.0], [3.0]]).backward(start(weighting, 3), present=[1])
    assert str(caught.value) == (
        f"weighting: required samples of every task in every batch for {name}, found none of tasks [0, 2] in one; use "
        "sampling=0.0, a larger batch_size, or a weighting that leaves absent tasks out."
    )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Uncertainty(lr=0), "lr: required a finite number above 0, found 0."),
        (lambda: DWA(temperature=-1), "temperature: required a finite number above 0, found -1."),
        (lambda: FAMO(lr=0), "lr: required a finite number above 0, found 0."),
        (lambda: FAMO(decay=-0.1), "decay: required a finite number, at least 0, found -0.1."),
        (lambda: GradNorm(alpha=-1), "alpha: required a finite number, at least 0, found -1."),
        (lambda: GradNorm(alpha=float("inf")), "alpha: required a finite number, at least 0, found inf."),
        (lambda: GradNorm(lr=cast(Any, "a")), "lr: required a finite number above 0, found 'a'."),
        (lambda: GradNorm(lr=float("nan")), "lr: required a finite number above 0, found nan."),
        (lambda: CAGrad(c=-1), "c: required a finite number, at least 0, found -1."),
        (lambda: NashMTL(max_norm=-1), "max_norm: required a finite number, at least 0, found -1."),
    ],
)
def test_bad_arguments_are_refused(make: Any, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make()
    assert str(caught.value) == message


def test_a_missing_extra_is_named() -> None:
    def fail() -> None:
        raise ImportError("no solver")

    with pytest.raises(ControlUnavailableError) as caught:
        with_extra("CAGrad", "cagrad", fail)
    assert str(caught.value) == (
        "weighting: required the packages of torchjd[cagrad] for CAGrad, found no solver; pip install "
        "'torchjd[cagrad]', or choose another weighting."
    )


def test_cagrad_is_the_mean_at_c_0_and_improves_the_worst_otherwise() -> None:
    if find_spec("cvxpy") is None or find_spec("clarabel") is None:
        with pytest.raises(ControlUnavailableError, match="pip install 'torchjd.cagrad.'"):
            CAGrad()
        return
    rows = random_rows(3, 1)
    assert combined(CAGrad(c=0.0), rows) == approx(rows.mean(dim=0).tolist(), 1e-4)
    found, mean = torch.tensor(combined(CAGrad(c=0.5), rows)), rows.mean(dim=0)
    assert float((rows @ found).min()) > float((rows @ mean).min())
    assert float((found - mean).norm()) == pytest.approx(0.5 * float(mean.norm()), rel=1e-3)


def test_nash_is_the_bargaining_solution() -> None:
    if find_spec("cvxpy") is None or find_spec("ecos") is None:
        with pytest.raises(ControlUnavailableError, match="pip install 'torchjd.nash_mtl.'"):
            NashMTL()
        return
    rows = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    found = torch.tensor(combined(NashMTL(max_norm=0.0), rows))
    assert (rows @ found / torch.tensor([1.0, 2.0])).tolist() == approx([float(found[0])] * 2, 1e-2)  # a_t = 1 / |g_t|


def test_the_solver_of_nash_does_not_warn(monkeypatch: pytest.MonkeyPatch) -> None:
    """A stand-in for the optional packages, which says what cvxpy says of the programme of torchjd."""

    def aggregator(rows: Tensor) -> Tensor:
        warnings.warn("You are solving a parameterized problem that is not DPP. Because of that, ...", stacklevel=2)
        return rows.sum(dim=0)

    monkeypatch.setattr(NashMTL, "_aggregator", lambda self, n_tasks: aggregator)
    assert combined(NashMTL(), ORTHOGONAL) == approx([1.0, 2.0])


def test_other_warnings_are_heard() -> None:
    def combine(rows: Tensor) -> Tensor:
        warnings.warn("something else", stacklevel=1)
        return rows

    with pytest.warns(UserWarning, match="something else"):
        silenced(combine, "You are solving")(torch.zeros(1))


def test_famo_logs_are_of_losses_before_and_after() -> None:
    """The same relative fall of all losses leaves the weights as they are."""
    case, balance = problem(CONFLICT, [2.0, 1.0]), start(FAMO(decay=0.0))
    case.backward(balance)
    before = case.own_gradients()
    balance.after_step(lambda: {0: torch.tensor(0.5), 1: torch.tensor(0.25)})  # half of 1 and 0.5: both are halved
    case.backward(balance)
    assert case.own_gradients() == approx([float(gradient or 0) for gradient in before], 1e-4)


@pytest.mark.parametrize("length", [1e-10, 1e-18, 1e-20, 3e-38, 1e-43, 0.0])
def test_a_gradient_that_is_all_but_zero_leaves_upgrad_the_others(length: float) -> None:
    others = torch.tensor([[1.0, 0.0, 0.0], [-0.6, 0.8, 0.0]])  # in conflict
    J = torch.cat([others, torch.tensor([[-1.0, -1.0, 0.5]]) * length])
    G = J @ J.T
    weights = project(torch.eye(3) / 3, G)
    assert torch.isfinite(weights).all()
    combined = weights.sum(dim=0) @ J
    assert torch.isfinite(combined).all()
    assert combined.norm() < 1
    assert (others @ combined >= -1e-6).all()
    if length in (1e-10, 1e-18):  # small, and in conflict all the same
        assert J[2] @ combined >= -1e-3 * length
    if G[2, 2] == 0:  # as good as none: what is left is the projection of the other two
        alone = project(torch.eye(2) / 3, others @ others.T).sum(dim=0) @ others
        torch.testing.assert_close(combined, alone)


def test_squares_that_underflow_leave_upgrad_finite() -> None:
    # as met in a training: the length of a row is nothing in single precision, its products with others are not
    generator = torch.Generator().manual_seed(0)
    for _ in range(20):
        J = torch.randn(5, 40, generator=generator) * torch.tensor([[0.5], [2e-27], [0.4], [3e-43], [2e-31]])
        weights = project(torch.eye(5) / 5, J @ J.T)
        assert torch.isfinite(weights).all()
        assert (weights.sum(dim=0) @ J).norm() < 5
        assert weights.max() < 100
