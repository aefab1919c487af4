"""The steps of meta-learning against derivatives by hand, by finite differences, and by an unrolled computation."""

from collections.abc import Mapping

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import mse_loss

from prognet.errors import ConfigError
from prognet.meta import Episodes, adapted, loss_with, meta_gradient, reptile_direction

DOUBLE = torch.float64


def quadratic(parameters: Mapping[str, Tensor], x: Tensor, y: Tensor) -> Tensor:
    """0.5 c (w - y)^2 with c = x: the gradient is c (w - y)."""
    return (0.5 * x * (parameters["w"] - y) ** 2).mean()


def number(value: float) -> Tensor:
    return torch.tensor([value], dtype=DOUBLE)


def test_the_inner_loop_is_gradient_descent() -> None:
    # c = 2, target 1, rate 0.1: w - 1 shrinks by 1 - 0.2 a step
    found = adapted(quadratic, {"w": number(3.0)}, [(number(2.0), number(1.0))] * 3, 0.1)
    assert found["w"].item() == pytest.approx(1 + 2 * 0.8**3, abs=1e-12)


def test_reptile_by_hand_on_quadratics() -> None:
    # two episodes: curvatures 1 and 4, targets 0 and 1; four samples, so two a step; rate 0.1, w = 2
    x = torch.tensor([[1.0, 1.0], [4.0, 4.0]], dtype=DOUBLE)
    y = torch.tensor([[0.0, 0.0], [1.0, 1.0]], dtype=DOUBLE)
    direction, loss = reptile_direction(quadratic, {"w": number(2.0)}, Episodes(x, y, x, y), 0.1, 2)
    first, second = 2 * 0.9**2, 1 + 1 * 0.6**2
    assert direction["w"].item() == pytest.approx((first - 2 + second - 2) / 2, abs=1e-12)
    assert loss.item() == pytest.approx((0.5 * first**2 + 0.5 * 4 * (second - 1) ** 2) / 2, abs=1e-12)


def test_the_steps_of_reptile_see_different_samples() -> None:
    x, y = torch.ones(1, 2, dtype=DOUBLE), torch.tensor([[0.0, 1.0]], dtype=DOUBLE)
    query = torch.ones(1, 1, dtype=DOUBLE), torch.tensor([[5.0]], dtype=DOUBLE)
    direction, _ = reptile_direction(quadratic, {"w": number(2.0)}, Episodes(x, y, *query), 0.1, 3)
    w = 2.0
    for target in (0.0, 1.0, 5.0):
        w -= 0.1 * (w - target)
    assert direction["w"].item() == pytest.approx(w - 2, abs=1e-12)


def test_reptile_goes_on_from_the_first_sample_where_there_are_more_steps_than_samples() -> None:
    x, y = torch.ones(1, 2, dtype=DOUBLE), torch.tensor([[0.0, 1.0]], dtype=DOUBLE)
    query = torch.ones(1, 1, dtype=DOUBLE), torch.tensor([[5.0]], dtype=DOUBLE)
    direction, _ = reptile_direction(quadratic, {"w": number(2.0)}, Episodes(x, y, *query), 0.1, 5)
    w = 2.0
    for target in (0.0, 1.0, 5.0, 0.0, 1.0):
        w -= 0.1 * (w - target)
    assert direction["w"].item() == pytest.approx(w - 2, abs=1e-12)


def test_maml_by_hand_on_a_quadratic() -> None:
    # L(w) = c/2 (w - s)^2 and L'(w) = d/2 (w - t)^2; one step at rate a: w' = w - a c (w - s)
    # dL'/dw = d (w' - t) (1 - a c), and d (w' - t) where the gradient is taken as constant
    a, c, d, s, t, w = 0.1, 3.0, 2.0, 0.5, -1.0, 2.0
    episodes = Episodes(*(torch.tensor([[v]], dtype=DOUBLE) for v in (c, s, d, t)))
    end = w - a * c * (w - s)
    full, loss = meta_gradient(quadratic, {"w": number(w)}, episodes, a, 1)
    first, _ = meta_gradient(quadratic, {"w": number(w)}, episodes, a, 1, first_order=True)
    assert full["w"].item() == pytest.approx(d * (end - t) * (1 - a * c), abs=1e-12)
    assert first["w"].item() == pytest.approx(d * (end - t), abs=1e-12)
    assert loss.item() == pytest.approx(0.5 * d * (end - t) ** 2, abs=1e-12)


def network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(2, 5), nn.Tanh(), nn.Linear(5, 4), nn.Tanh(), nn.Linear(4, 1)).to(DOUBLE)


def some_episodes(count: int = 3) -> Episodes:
    random = torch.Generator().manual_seed(1)
    shapes = [(count, 6, 2), (count, 6, 1), (count, 4, 2), (count, 4, 1)]
    return Episodes(*(torch.randn(shape, generator=random, dtype=DOUBLE) for shape in shapes))


def values_of(net: nn.Module) -> dict[str, Tensor]:
    return {name: p.detach().clone() for name, p in net.named_parameters()}


def unrolled(
    net: nn.Sequential, episodes: Episodes, rate: float, steps: int, inner: list[str], create_graph: bool = True
) -> tuple[dict[str, Tensor], float]:
    """The same with `torch.autograd.grad`, a plain loop over episodes, and the network written out."""
    start = {name: p.detach().clone().requires_grad_(True) for name, p in net.named_parameters()}

    def said(p: Mapping[str, Tensor], x: Tensor) -> Tensor:
        h = torch.tanh(x @ p["0.weight"].T + p["0.bias"])
        h = torch.tanh(h @ p["2.weight"].T + p["2.bias"])
        return h @ p["4.weight"].T + p["4.bias"]

    total = torch.zeros((), dtype=DOUBLE)
    for x, y, qx, qy in zip(episodes.x, episodes.y, episodes.query_x, episodes.query_y, strict=True):
        own: dict[str, Tensor] = dict(start)
        for _ in range(steps):
            loss = ((said(own, x) - y) ** 2).mean()
            moves = torch.autograd.grad(loss, [own[name] for name in inner], create_graph=create_graph)
            own = {**own, **{n: own[n] - rate * g for n, g in zip(inner, moves, strict=True)}}
        total = total + ((said(own, qx) - qy) ** 2).mean() / len(episodes)
    gradient = torch.autograd.grad(total, list(start.values()))
    return dict(zip(start, gradient, strict=True)), total.item()


@pytest.mark.parametrize("steps", [1, 3])
@pytest.mark.parametrize("inner", [None, ["4.weight", "4.bias"]], ids=["maml", "anil"])
@pytest.mark.parametrize("first_order", [False, True])
def test_the_meta_gradient_is_the_unrolled_one(steps: int, inner: list[str] | None, first_order: bool) -> None:
    net, episodes = network(), some_episodes()
    found, loss = meta_gradient(
        loss_with(net, mse_loss), values_of(net), episodes, 0.3, steps, inner=inner, first_order=first_order
    )
    moving = inner or [name for name, _ in net.named_parameters()]
    required, value = unrolled(net, episodes, 0.3, steps, moving, create_graph=not first_order)
    assert found.keys() == required.keys()
    for name in required:
        torch.testing.assert_close(found[name], required[name], rtol=1e-10, atol=1e-12)
    assert loss.item() == pytest.approx(value, rel=1e-12)


def test_the_meta_gradient_is_that_of_finite_differences() -> None:
    net, episodes, h = network(), some_episodes(), 1e-5
    loss, values = loss_with(net, mse_loss), values_of(net)
    found, _ = meta_gradient(loss, values, episodes, 0.3, 3)
    for name, entry in (("0.weight", (1, 0)), ("2.bias", (2,)), ("4.weight", (0, 3))):
        said = []
        for way in (h, -h):
            moved = {key: value.clone() for key, value in values.items()}
            moved[name][entry] += way
            said.append(meta_gradient(loss, moved, episodes, 0.3, 3)[1].item())
        assert found[name][entry].item() == pytest.approx((said[0] - said[1]) / (2 * h), rel=1e-6)


@pytest.mark.parametrize(
    "norm",
    [nn.LayerNorm(4), nn.GroupNorm(1, 4), nn.RMSNorm(4), nn.BatchNorm1d(4, track_running_stats=False)],
    ids=lambda norm: type(norm).__name__,
)
def test_the_meta_gradient_goes_through_the_statistics_of_a_norm(norm: nn.Module) -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(2, 4), norm, nn.Tanh(), nn.Linear(4, 1)).to(DOUBLE)
    episodes, h = some_episodes(), 1e-5
    loss, values = loss_with(net, mse_loss), values_of(net)
    found, _ = meta_gradient(loss, values, episodes, 0.3, 2)
    said = []
    for way in (h, -h):
        moved = {key: value.clone() for key, value in values.items()}
        moved["0.weight"][1, 0] += way
        said.append(meta_gradient(loss, moved, episodes, 0.3, 2)[1].item())
    assert found["0.weight"][1, 0].item() == pytest.approx((said[0] - said[1]) / (2 * h), rel=1e-6)


def test_the_first_order_variant_is_another_direction() -> None:
    net, episodes = network(), some_episodes()
    full, first = (
        meta_gradient(loss_with(net, mse_loss), values_of(net), episodes, 0.3, 3, first_order=flag)[0]
        for flag in (False, True)
    )
    assert all(not torch.allclose(full[name], first[name], rtol=1e-3) for name in full)


def test_what_does_not_move_in_the_inner_loop_stays() -> None:
    net = network()
    values, x = values_of(net), torch.randn(6, 2, dtype=DOUBLE)
    found = adapted(loss_with(net, mse_loss), values, [(x, x[:, :1])] * 2, 0.1, inner=["4.weight", "4.bias"])
    assert list(found) == list(values)
    moved = {name for name in values if not torch.equal(found[name], values[name])}
    assert moved == {"4.weight", "4.bias"}


def test_nothing_is_changed_and_gradients_stay_out() -> None:
    net = network()
    before = values_of(net)
    meta_gradient(loss_with(net, mse_loss), dict(net.named_parameters()), some_episodes(), 0.3, 2)
    reptile_direction(loss_with(net, mse_loss), values_of(net), some_episodes(), 0.3, 2)
    assert all(torch.equal(p, before[name]) and p.grad is None for name, p in net.named_parameters())


def test_running_statistics_are_refused() -> None:
    net = nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3))
    with pytest.raises(
        ConfigError, match=r"network: required one without running statistics, found a BatchNorm1d at '1'"
    ):
        loss_with(net, mse_loss)
    loss_with(nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3, track_running_stats=False)), mse_loss)
