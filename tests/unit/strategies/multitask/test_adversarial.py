"""Shared and private columns: the reversed gradient, what is penalised, and which way it pulls."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from prognet.config import Training
from prognet.errors import ConfigError
from prognet.strategies import MultiTask
from prognet.strategies.multitask import Adversarial
from prognet.strategies.multitask.adversarial import overlap, reversed_gradient
from tests.helpers.plain import plain_network
from tests.helpers.runs import PLAIN, learn_all
from tests.helpers.streams import make_stream


def untrained(settings: Adversarial | None = None) -> Any:
    architecture = Adversarial() if settings is None else settings
    return learn_all(MultiTask(PLAIN, architecture=architecture), make_stream(), Training(epochs=0)).shared


def batch() -> dict[int, Tensor]:
    return {task.label: task.train.x[: 8 + task.label] for task in make_stream()}


def gradients(loss: Tensor, module: nn.Module) -> Tensor:
    found = torch.autograd.grad(loss, list(module.parameters()), retain_graph=True)
    return torch.cat([gradient.flatten() for gradient in found])


def test_a_reversed_gradient_is_minus_the_gradient() -> None:
    x = torch.randn(4, 3, requires_grad=True)
    weight = torch.randn(3, 2)
    (plain,) = torch.autograd.grad((x @ weight).tanh().sum(), x)
    out = reversed_gradient(x)
    assert torch.equal(out, x)
    (reverse,) = torch.autograd.grad((out @ weight).tanh().sum(), x)
    assert torch.equal(reverse, -plain)


def test_the_discriminator_learns_and_the_shared_column_unlearns() -> None:
    model, inputs = untrained(Adversarial(adversary=1.0, orthogonality=0.0)), batch()
    penalty = model.predict_together(inputs).penalty
    y = torch.tensor([0] * 8 + [1] * 9 + [2] * 10)
    plain = cross_entropy(model.discriminator(model.shared.features(torch.cat(list(inputs.values())))), y)
    assert float(penalty.detach()) == pytest.approx(float(plain.detach()))
    assert torch.allclose(gradients(penalty, model.shared.trunk), -gradients(plain, model.shared.trunk), atol=1e-7)
    assert torch.allclose(gradients(penalty, model.discriminator), gradients(plain, model.discriminator), atol=1e-7)


def test_the_overlap_by_hand() -> None:
    S, P = torch.tensor([[3.0, 0.0], [0.0, 2.0]]), torch.tensor([[0.0, 5.0], [0.0, 1.0]])
    # rows of length 1: S' P = [[0, 1], [0, 1]], of which the square sum is 2, over 2 * 2
    assert float(overlap(S, P)) == pytest.approx(0.5)
    assert float(overlap(S, torch.zeros(2, 2))) == 0
    same = torch.tensor([[1.0, 0.0], [2.0, 0.0]])
    assert float(overlap(same, same)) == pytest.approx(1)
    images = torch.randn(4, 2, 3, 3)
    assert float(overlap(images, images)) == pytest.approx(float(overlap(images.flatten(1), images.flatten(1))))


def test_the_penalty_is_the_sum_of_both() -> None:
    inputs, penalties = batch(), {}
    for factors in ((0.0, 0.0), (0.3, 0.0), (0.0, 0.7), (0.3, 0.7)):
        model = untrained(Adversarial(adversary=factors[0], orthogonality=factors[1]))
        penalties[factors] = float(model.predict_together(inputs).penalty.detach())
    assert penalties[0.0, 0.0] == 0
    assert penalties[0.3, 0.7] == pytest.approx(penalties[0.3, 0.0] + penalties[0.0, 0.7])
    apart = [overlap(model.shared.features(x), model.trunks[str(t)](x)) for t, x in inputs.items()]
    assert penalties[0.0, 0.7] == pytest.approx(0.7 * float(torch.stack(apart).mean().detach()), rel=1e-5)


def test_the_output_is_that_of_one_head_on_both_columns() -> None:
    model, x = untrained(), make_stream()[1].test.x
    shared, private = model.shared.features(x), model.trunks["1"](x)
    first, second = model.shared.head_for(1), model.heads["1"]
    both = nn.Linear(12, 5)
    with torch.no_grad():
        both.weight.copy_(torch.cat([first.weight, second.weight], dim=1))
        both.bias.copy_(first.bias + second.bias)
        assert torch.allclose(model.predict(x, 1), both(torch.cat([shared, private], dim=1)), atol=1e-6)


def test_private_columns_begin_with_numbers_of_their_own() -> None:
    model: Any = untrained()
    weights = [model.shared.trunk[1].weight, *(trunk[1].weight for trunk in model.trunks.values())]
    assert torch.equal(weights[0], plain_network(PLAIN, make_stream()[0]).get_parameter("1.weight"))
    for index, weight in enumerate(weights):
        assert not any(torch.equal(weight, other) for other in weights[:index])


@pytest.mark.parametrize("name", ["adversary", "orthogonality"])
@pytest.mark.parametrize("value", [-0.1, float("inf"), "x"])
def test_bad_arguments_are_refused(name: str, value: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        Adversarial(**{name: value})
    assert str(caught.value) == f"{name}: required a finite number, at least 0, found {value!r}."
