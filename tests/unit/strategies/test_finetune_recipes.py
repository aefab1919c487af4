"""Recipes of fine-tuning, each field against something that is written once more, or known beforehand."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, dropout

from prognet.backbones import cnn, mlp
from prognet.config import Training
from prognet.engine.digest import tensors_of
from prognet.engine.stages import Stage, stages_of
from prognet.errors import ConfigError
from prognet.strategies import FineTune, FineTuning, HeadOnly
from prognet.strategies.finetune_updates import TunedParts, begin_anew
from prognet.training import Penalised, Procedure
from prognet.training.optimisers import make_optimiser
from tests.helpers.plain import assert_equal_numbers, plain_batches, plain_network, plain_orders
from tests.helpers.runs import (
    NORMED,
    PLAIN,
    TRAINING,
    assert_same_tensors,
    learn_all,
    network_of,
    quick_run,
    tensors,
    with_session,
)
from tests.helpers.streams import make_stream, make_task

DEEP = mlp(hidden=(8, 7, 6), batch_norm=True)
"""Three stages below the head: 1, 4 and 7, each with the norm behind it."""
STAGES = (("1", "2"), ("4", "5"), ("7", "8"))
STREAM = make_stream((5, 3))
SGD = Training(epochs=1, batch_size=64, lr=0.1, optimiser="sgd")
"""One update a task."""


def learned(recipe: FineTuning | None, training: Training = TRAINING, backbone: Any = DEEP) -> tuple[Any, Any]:
    """The strategy after the first task, with its tensors then, and after the second one."""
    strategy = FineTune(backbone, recipe=recipe)
    with_session(strategy).learn([STREAM[0]])
    before = tensors(strategy.shared.trunk or nn.Module())
    with_session(strategy, training).learn([STREAM[1]])
    return strategy, before


def parts_of(recipe: FineTuning, backbone: Any = DEEP) -> TunedParts:
    """Trunk and head of a fresh network as a task finds them."""
    network = plain_network(backbone, STREAM[0])
    stages = stages_of(network, STREAM[0].train.x[:2])[:-1]
    trunk, head = network[:-1], network[-1]  # type: ignore[index]
    return TunedParts(recipe, trunk, head, stages, None)


def changed(strategy: FineTune, before: Mapping[str, Tensor]) -> set[str]:
    """The layers of the trunk of which a tensor has changed."""
    assert strategy.shared.trunk is not None
    return {name.split(".")[0] for name, t in tensors_of(strategy.shared.trunk) if not torch.equal(t, before[name])}


@pytest.mark.parametrize("backbone", [NORMED, cnn(channels=(3, 4), batch_norm=True)], ids=["mlp", "cnn"])
def test_the_plain_recipe_is_fine_tuning_bit_for_bit(backbone: Any) -> None:
    plain = quick_run(FineTune(backbone), STREAM)
    found = quick_run(FineTune(backbone, recipe=FineTuning()), STREAM)
    assert_same_tensors(tensors(found.learner), tensors(plain.learner))
    assert found.curves == plain.curves
    assert found.digests == plain.digests == ({}, {})


def test_a_frozen_trunk_is_head_only_bit_for_bit() -> None:
    control = quick_run(HeadOnly(NORMED), make_stream())
    found = quick_run(FineTune(NORMED, recipe=FineTuning(trunk="frozen")), make_stream())
    assert_same_tensors(tensors(found.learner), tensors(control.learner))
    assert found.digests == control.digests
    assert [cost.trainable for cost in found.costs] == [cost.trainable for cost in control.costs]


def test_a_frozen_trunk_keeps_its_statistics_and_its_dropout_off() -> None:
    strategy, before = learned(FineTuning(trunk="frozen"), backbone=NORMED)
    assert any("running_mean" in name for name in before)
    assert_same_tensors(tensors(strategy.shared.trunk), before)
    assert not any(part.training for part in strategy.shared.trunk.modules())


def test_stages_that_begin_anew_learn_above_a_frozen_trunk() -> None:
    strategy, before = learned(FineTuning(trunk="frozen", reinit=1))
    assert changed(strategy, before) == {"7", "8"}
    assert strategy.frozen_digests() == {}  # they begin anew with every task


def test_the_top_stages_begin_anew_as_their_layers_do() -> None:
    network = plain_network(DEEP, STREAM[0])
    stages = stages_of(network, STREAM[0].train.x[:2])[:-1]
    trunk = network[:-1]  # type: ignore[index]
    with torch.no_grad():
        for part in (5, 8):
            trunk[part].running_mean.fill_(3.0)
    before = tensors(trunk)
    torch.manual_seed(5)
    TunedParts(FineTuning(reinit=2), trunk, network[-1], stages, None)  # type: ignore[index]
    torch.manual_seed(5)
    four, seven = nn.Linear(8, 7), nn.Linear(7, 6)
    after = tensors(trunk)
    assert_same_tensors(
        {name: after[name] for name in after if name[0] == "1"}, {n: before[n] for n in before if n[0] == "1"}
    )
    for name, layer in (("4", four), ("7", seven)):
        assert torch.equal(after[f"{name}.weight"], layer.weight)
        assert torch.equal(after[f"{name}.bias"], layer.bias)
    assert not after["5.running_mean"].any()
    assert not after["8.running_mean"].any()


def test_attention_begins_anew_as_it_is_made() -> None:
    """Its own reset sets the bias of its output layer, which has a reset of its own."""
    torch.manual_seed(5)
    network, fresh = nn.Module(), nn.MultiheadAttention(8, 2)
    network.attention = nn.MultiheadAttention(8, 2)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.fill_(3.0)
    torch.manual_seed(5)
    modules, parameters = dict(network.named_modules()), dict(network.named_parameters())
    begin_anew(network, Stage(modules=tuple(filter(None, modules)), parameters=tuple(parameters)))
    assert_same_tensors(tensors(network.attention), tensors(fresh))
    assert not fresh.out_proj.bias.any()


def test_the_rates_fall_from_the_head_down() -> None:
    parts = parts_of(FineTuning(rate=0.5, decay=0.2))
    optimiser = make_optimiser(list(parts.learning.parameters()), SGD, parts.procedure.groups)
    names = {id(parameter): name for name, parameter in parts.learning.named_parameters()}
    found = {names[id(p)]: group["lr"] for group in optimiser.param_groups for p in group["params"]}
    assert len(found) == len(names) == 14
    wanted = {"1": 0.1 * 0.5 * 0.2**3, "2": 0.1 * 0.5 * 0.2**3, "4": 0.1 * 0.5 * 0.2**2, "5": 0.1 * 0.5 * 0.2**2}
    wanted |= {"7": 0.1 * 0.5 * 0.2, "8": 0.1 * 0.5 * 0.2}
    for name, lr in found.items():
        assert lr == pytest.approx(wanted[name.split(".")[1]] if name.startswith("0.") else 0.1, rel=1e-12), name


def test_one_update_of_sgd_at_falling_rates_is_the_one_by_hand() -> None:
    recipe = FineTuning(rate=0.5, decay=0.2, reinit=1)
    strategy = FineTune(DEEP, recipe=recipe)
    with_session(strategy).learn([STREAM[0]])
    trunk = strategy.shared.trunk
    assert isinstance(trunk, nn.Sequential)
    starts: list[dict[str, Tensor]] = []
    grads: dict[str, Tensor] = {}

    def note(module: nn.Module, args: Any) -> None:
        if module.training:
            starts.append({name: p.detach().clone() for name, p in trunk.named_parameters()})
            for name, p in trunk.named_parameters():
                p.register_hook(lambda grad, name=name: grads.__setitem__(name, grad.clone()))  # type: ignore[no-untyped-call]

    handle = trunk.register_forward_pre_hook(note)
    with_session(strategy, SGD).learn([STREAM[1]])
    handle.remove()
    assert len(starts) == 1
    factor = {"1": 0.5 * 0.2**3, "2": 0.5 * 0.2**3, "4": 0.5 * 0.2**2, "5": 0.5 * 0.2**2, "7": 1.0, "8": 1.0}
    for name, after in trunk.named_parameters():
        wanted = starts[0][name] - 0.1 * factor[name.split(".")[0]] * grads[name]
        torch.testing.assert_close(after, wanted, rtol=1e-6, atol=1e-8)
        assert name.endswith("bias") or not torch.equal(after, starts[0][name])  # a bias before a norm has no effect


@pytest.mark.parametrize(("every", "passes"), [(1, 1), (1, 2), (1, 3), (1, 4), (2, 2), (2, 3), (2, 5)])
def test_stages_unfreeze_from_the_top(every: int, passes: int) -> None:
    recipe = FineTuning(unfreeze_every=every)
    strategy, before = learned(recipe, replace(TRAINING, epochs=passes))
    unfrozen = min(3, (passes - 1) // every)
    assert changed(strategy, before) == {layer for stage in STAGES[3 - unfrozen :] for layer in stage}
    assert all(parameter.requires_grad for parameter in strategy.parameters())


def test_what_has_not_been_unfrozen_computes_as_in_evaluation() -> None:
    strategy = FineTune(NORMED, recipe=FineTuning(unfreeze_every=1))
    with_session(strategy).learn([STREAM[0]])
    trunk = strategy.shared.trunk
    assert isinstance(trunk, nn.Sequential)
    seen: list[tuple[bool, ...]] = []

    def note(module: nn.Module, args: Any) -> None:
        if module.training:
            seen.append(tuple(trunk[index].training for index in (1, 2, 4, 5, 6, 8)))

    handle = trunk.register_forward_pre_hook(note)
    with_session(strategy, replace(TRAINING, epochs=3, batch_size=64)).learn([STREAM[1]])
    handle.remove()
    off, on = (False,) * 3, (True,) * 3
    assert seen == [off + off, off + on, on + on]


def test_a_backbones_own_frozen_layers_stay_frozen() -> None:
    def half_frozen(shape: Any, n_classes: int) -> nn.Module:
        network = PLAIN(shape, n_classes)
        network[1].requires_grad_(False)
        return network

    for recipe in (FineTuning(unfreeze_every=1), FineTuning(l2=0.1, decay=0.5)):
        strategy, before = learned(recipe, replace(TRAINING, epochs=4), half_frozen)
        assert changed(strategy, before) == {"3"}
        assert not any(parameter.requires_grad for parameter in strategy.shared.trunk[1].parameters())


def test_penalties_have_the_gradients_of_their_formulas() -> None:
    recipe = FineTuning(l2=0.3, l1=0.2, l2_sp=0.7, head_l2=0.5, head_l1=0.1, reinit=1)
    parts = parts_of(recipe)
    start = tensors(parts.trunk)
    with torch.no_grad():
        for parameter in parts.trunk.parameters():
            parameter.add_(torch.linspace(-0.3, 0.4, parameter.numel()).view_as(parameter))
    penalty = parts.penalty()
    assert penalty is not None
    penalty.backward()  # type: ignore[no-untyped-call]
    total = 0.0
    for name, w in parts.trunk.named_parameters():
        if name[0] in "78":
            wanted, value = 0.5 * w + 0.1 * w.sign(), 0.25 * (w**2).sum() + 0.1 * w.abs().sum()
        else:
            wanted = 0.3 * w + 0.2 * w.sign() + 0.7 * (w - start[name])
            value = 0.15 * (w**2).sum() + 0.2 * w.abs().sum() + 0.35 * ((w - start[name]) ** 2).sum()
        assert w.grad is not None
        torch.testing.assert_close(w.grad, wanted.detach(), rtol=1e-5, atol=1e-7)
        total += value.item()
    for w in parts.head.parameters():
        assert w.grad is not None
        torch.testing.assert_close(w.grad, (0.5 * w + 0.1 * w.sign()).detach(), rtol=1e-5, atol=1e-7)
        total += (0.25 * (w**2).sum() + 0.1 * w.abs().sum()).item()
    assert penalty.item() == pytest.approx(total, rel=1e-5)


def test_where_nothing_is_kept_nothing_of_it_is_penalised() -> None:
    assert parts_of(FineTuning(l2=0.5, reinit=3)).penalty() is None
    parts = parts_of(FineTuning(l2=0.5, head_l2=0.2, reinit=3))
    fresh = [*parts.trunk.parameters(), *parts.head.parameters()]
    penalty = parts.penalty()
    assert penalty is not None
    assert penalty.item() == pytest.approx(0.1 * sum(w.square().sum().item() for w in fresh))


def test_training_towards_the_start_is_a_loop_written_by_hand() -> None:
    recipe, training = FineTuning(l2_sp=0.8, head_l2=0.3), replace(TRAINING, optimiser="sgd", lr=0.1)
    strategy = FineTune(PLAIN, recipe=recipe)
    with_session(strategy).learn([STREAM[0]])
    assert isinstance(strategy.shared.trunk, nn.Sequential)
    network = plain_network(PLAIN, STREAM[1])
    network[:-1].load_state_dict(strategy.shared.trunk.state_dict())  # type: ignore[index]
    start = {name: p.detach().clone() for name, p in network.named_parameters()}
    task = STREAM[1]
    for order in plain_orders(task, training.epochs):
        for chosen in plain_batches(order, training.batch_size):
            network.zero_grad()
            cross_entropy(network(task.train.x[chosen]), task.train.y[chosen]).backward()  # type: ignore[no-untyped-call]
            with torch.no_grad():
                for name, p in network.named_parameters():
                    assert p.grad is not None
                    pull = 0.3 * p if name.startswith("5") else 0.8 * (p - start[name])
                    p.sub_(0.1 * (p.grad + pull))
    with_session(strategy, training).learn([task])
    for found, wanted in zip(network_of(strategy, 1)[0].parameters(), network[:-1].parameters(), strict=True):  # type: ignore[index]
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-6)
    torch.testing.assert_close(strategy.shared.head_for(1).weight, network[-1].weight, rtol=1e-4, atol=1e-6)  # type: ignore[index]


def test_a_strong_pull_towards_the_start_holds_the_trunk_there() -> None:
    training = replace(TRAINING, optimiser="sgd", lr=0.01)
    moved = []
    for l2_sp in (0.0, 50.0):
        strategy, before = learned(FineTuning(l2_sp=l2_sp), training, PLAIN)
        after = tensors(strategy.shared.trunk)
        moved.append(sum((after[name] - before[name]).square().sum().item() for name in before))
    assert 0 < moved[1] < 0.6 * moved[0]


def test_what_holds_tensors_of_one_run_is_trained_alone() -> None:
    assert parts_of(FineTuning()).procedure == Procedure()
    for recipe in (FineTuning(dropout=0.1), FineTuning(l2_sp=0.1), FineTuning(head_l2=0.1)):
        assert parts_of(recipe).procedure == Procedure(alone=True)


def test_dropout_stands_between_trunk_and_head_while_learning_only() -> None:
    parts = parts_of(FineTuning(dropout=0.5), PLAIN)
    x = STREAM[0].train.x[:7]
    torch.manual_seed(3)
    found = parts.forward(parts.trunk)({0: x})
    torch.manual_seed(3)
    assert not isinstance(found, Penalised)
    assert torch.equal(found[0], parts.head(dropout(parts.trunk(x), 0.5)))
    strategy, _ = learned(FineTuning(dropout=0.5), backbone=PLAIN)
    assert torch.equal(strategy.predict(x, 1), strategy.predict(x, 1))
    plain, _ = learned(None, backbone=PLAIN)
    assert not torch.equal(strategy.predict(x, 1), plain.predict(x, 1))


def test_smoothing_by_the_recipe_is_that_of_the_training_and_only_for_what_is_fine_tuned() -> None:
    strategy = FineTune(NORMED, recipe=FineTuning(smoothing=0.2))
    with_session(strategy).learn([STREAM[0]])
    other = FineTune(NORMED)
    with_session(other).learn([STREAM[0]])
    assert_same_tensors(tensors(strategy), tensors(other))
    strategy.learn([STREAM[1]])
    with_session(other, replace(TRAINING, label_smoothing=0.2)).learn([STREAM[1]])
    assert_same_tensors(tensors(strategy), tensors(other))
    assert strategy.current_session().training == TRAINING


@pytest.mark.parametrize("recipe", [FineTuning(trunk="frozen"), FineTuning(rank=1)])
def test_a_trunk_that_is_kept_ends_learning_with_the_first_task(recipe: FineTuning) -> None:
    strategy = FineTune(PLAIN, recipe=recipe)
    with_session(strategy).learn([STREAM[0]])
    assert strategy.shared.trunk is not None
    assert not any(parameter.requires_grad for parameter in strategy.shared.trunk.parameters())


@pytest.mark.parametrize("backbone", [DEEP, cnn(channels=(3, 4), batch_norm=True)], ids=["mlp", "cnn"])
def test_adapters_leave_the_trunk_as_it_is_and_forget_nothing(backbone: Any) -> None:
    stream = make_stream()
    result = quick_run(FineTune(backbone, recipe=FineTuning(rank=2)), stream)
    first = quick_run(FineTune(backbone), make_stream((2,))).learner
    assert_same_tensors(tensors(result.learner.shared.trunk), tensors(first.shared.trunk))
    for label in range(3):
        assert (result.accuracy[label:, label] == result.accuracy[label, label]).all()
    assert [sorted(digests) for digests in result.digests] == [
        ["trunk"],
        ["adapters 1", "head 0", "head 1", "trunk"],
        ["adapters 1", "adapters 2", "head 0", "head 1", "head 2", "trunk"],
    ]
    assert all(part.count_nonzero() for part in result.learner.adapters["1"].B)
    sizes = [sum(p.numel() for p in result.learner.adapters[key].parameters()) for key in "12"]
    heads = [sum(p.numel() for p in result.learner.shared.head_for(label).parameters()) for label in (1, 2)]
    assert [cost.trainable for cost in result.costs[1:]] == [s + h for s, h in zip(sizes, heads, strict=True)]


def test_merged_adapters_say_what_they_said_before() -> None:
    stream = make_stream((5, 3))
    kept = learn_all(FineTune(DEEP, recipe=FineTuning(rank=2)), stream)
    merged = learn_all(FineTune(DEEP, recipe=FineTuning(rank=2, merge=True)), stream)
    assert isinstance(merged, FineTune)
    assert not len(merged.adapters)
    assert merged.frozen_digests() == {}
    x = stream[1].test.x
    with torch.no_grad():
        for strategy in (kept, merged):
            strategy.eval()
        assert torch.equal(merged.predict(x, 1), kept.predict(x, 1))
        assert not torch.equal(merged.predict(x, 0), kept.predict(x, 0))


def test_alpha_scales_what_adapters_add() -> None:
    found = [learned(FineTuning(rank=2, alpha=alpha), SGD)[0] for alpha in (1.0, 4.0)]
    # with B = 0 the first update of B is in proportion to alpha, and so W' - W is to its square
    for one, four in zip(found[0].adapters["1"].B, found[1].adapters["1"].B, strict=True):
        torch.testing.assert_close(4 * one, four, rtol=1e-4, atol=1e-7)


def test_a_shared_head_goes_on_learning_beside_adapters_and_is_not_claimed() -> None:
    stream = make_stream((3, 3), heads="shared")
    result = quick_run(FineTune(PLAIN, recipe=FineTuning(rank=1)), stream)
    assert [sorted(digests) for digests in result.digests] == [["trunk"], ["adapters 1", "trunk"]]


def test_the_first_task_is_fine_tuned_where_the_network_is_pretrained() -> None:
    strategy = FineTune(NORMED, recipe=FineTuning(trunk="frozen", pretrained=True))
    with_session(strategy).learn([STREAM[0]])
    fresh = plain_network(NORMED, STREAM[0])
    trunk = network_of(strategy, 0)[0]
    assert_equal_numbers([trunk], [fresh[:-1]])  # type: ignore[index]
    assert not any(part.training for part in trunk.modules())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"trunk": "half"}, "trunk: required one of ('full', 'frozen'), found 'half'."),
        ({"towards": "x"}, "towards: required one of ('uniform', 'prediction'), found 'x'."),
        ({"pretext": "x"}, "pretext: required None or one of ('autoencoder', 'rotation'), found 'x'."),
        ({"reinit": -1}, "reinit: required a whole number, at least 0, found -1."),
        ({"unfreeze_every": 0}, "unfreeze_every: required a whole number, at least 1, found 0."),
        ({"pretext_updates": 0}, "pretext_updates: required a whole number, at least 1, found 0."),
        ({"dropout": 1.0}, "dropout: required a number in [0, 1), found 1.0."),
        ({"decay": 0.0}, "decay: required a number above 0, at most 1, found 0.0."),
        ({"l2_sp": float("inf")}, "l2_sp: required a finite number, at least 0, found inf."),
        ({"l1": "x"}, "l1: required a finite number, at least 0, found 'x'."),
        ({"rate": True}, "rate: required a number above 0, at most 1, found True."),
        ({"smoothing": float("nan")}, "smoothing: required a number in [0, 1), found nan."),
        ({"merge": 1}, "merge: required True or False, found 1."),
        ({"alpha": 0.0}, "alpha: required a finite number above 0, found 0.0."),
        ({"rank": 2, "reinit": 1}, "reinit: required 0 beside adapters, which leave the trunk as it is, found 1."),
        ({"rank": 2, "l2_sp": 0.1}, "l2_sp: required 0.0 for a trunk that does not learn, found 0.1."),
        ({"trunk": "frozen", "decay": 0.5}, "decay: required 1.0 for a trunk that does not learn, found 0.5."),
    ],
)
def test_what_cannot_be_a_recipe_is_refused(arguments: Any, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        FineTuning(**arguments)
    assert str(caught.value) == message


def test_more_stages_than_there_are_cannot_begin_anew() -> None:
    with pytest.raises(ConfigError, match="reinit: required at most 2, the stages of the trunk, found 3"):
        learned(FineTuning(reinit=3), backbone=PLAIN)


def test_a_layer_that_cannot_begin_anew_is_named() -> None:
    class Scale(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.factor = nn.Parameter(torch.ones(6))

        def forward(self, x: Tensor) -> Tensor:
            return x * self.factor

    def backbone(shape: Any, n_classes: int) -> nn.Module:
        return nn.Sequential(*PLAIN(shape, n_classes)[:-1], Scale(), nn.Linear(6, n_classes))

    with pytest.raises(ConfigError, match=r"reinit: .* found a Scale at '5' with parameters of its own"):
        learned(FineTuning(reinit=1), backbone=backbone)


def test_a_recipe_has_to_be_one() -> None:
    with pytest.raises(ConfigError, match="recipe: required one of"):
        FineTune(PLAIN, recipe="gradual")  # type: ignore[arg-type]


def test_nothing_is_trained_where_there_are_no_samples() -> None:
    strategy = FineTune(DEEP, recipe=FineTuning(rank=1))
    strategy.session = with_session(FineTune(DEEP)).current_session().without_training()
    strategy.learn([make_task(0, 3).outline()])
    strategy.learn([make_task(1, 2).outline()])
    assert sum(record.updates for record in strategy.records) == 0
