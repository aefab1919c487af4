"""Units that change what a site receives: the identity at the start, and each by its formula."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from prognet.config import Training
from prognet.engine.sites import Rewriting, Site, attach_rewriting
from prognet.errors import ConfigError, SiteError
from prognet.strategies import MultiTask
from prognet.strategies.multitask import (
    IMTLG,
    MGDA,
    Added,
    AlignedMTL,
    Architecture,
    Attention,
    Concatenated,
    FiLM,
    Hard,
    PCGrad,
    UPGrad,
    Weighting,
)
from prognet.strategies.multitask.units import Addition, Concatenation, Mask, Modulation, Unit
from prognet.training import Penalised, fit
from tests.helpers.runs import NORMED, PLAIN, learn_all, make_session
from tests.helpers.streams import make_stream

VECTORS = Site("v", (4,), (3,), "last")
TOKENS = Site("t", (5, 4), (5, 4), "last")
IMAGES = Site("i", (4, 3, 2), (6, 3, 2), "first")
SITES = pytest.mark.parametrize("site", [VECTORS, TOKENS, IMAGES], ids=lambda site: site.name)
KINDS: tuple[Architecture, ...] = (
    Attention(),
    Added(),
    Added(descriptor=3),
    Concatenated(),
    FiLM(),
    FiLM(descriptor=3),
)
ONE_HOT: dict[str, Architecture] = {"hard": Hard(), "added": Added(), "film": FiLM()}
EACH = pytest.mark.parametrize("architecture", KINDS, ids=repr)


def untrained(architecture: Architecture, backbone: Any = PLAIN) -> Any:
    return learn_all(MultiTask(backbone, architecture=architecture), make_stream(), Training(epochs=0))


def units(site: Site) -> list[Unit]:
    kinds = (Addition, Concatenation, Modulation)
    return [Mask(site, 3), *(kind(site, 3, features) for kind in kinds for features in (3, None))]


def descriptions(seed: int = 5) -> Tensor:
    """Of three tasks, (3, 3)."""
    return torch.randn(3, 3, generator=torch.Generator().manual_seed(seed))


def features(site: Site, batch: int = 7) -> Tensor:
    return torch.randn(batch, *site.in_shape, generator=torch.Generator().manual_seed(0))


def randomise(module: nn.Module, seed: int = 1) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))


@SITES
def test_every_unit_begins_as_the_identity_bit_for_bit(site: Site) -> None:
    h = features(site)
    for unit in units(site):
        for task in range(3):
            assert torch.equal(unit.change(h, task, descriptions()[task]), h), unit


@SITES
def test_units_by_their_formulas(site: Site) -> None:
    h, generator = features(site), torch.Generator().manual_seed(2)
    rows = h.flatten(1) if site is VECTORS else h.movedim(1, -1) if site is IMAGES else h  # features last
    z, other = descriptions()[1:]
    for unit, formula in (
        (Mask(site, 3), lambda u: 2 * torch.sigmoid(rows @ u.gates[1].weight.T + u.gates[1].bias) * rows),
        (Addition(site, 3, 3), lambda u: rows + u.shift.W[0] @ z),
        (Concatenation(site, 3, 3), lambda u: rows @ u.A.weight.T + u.shift.W[0] @ z),
        (Modulation(site, 3, 3), lambda u: (1 + u.scale.W[0] @ z) * rows + u.shift.W[0] @ z),
        (Addition(site, 3, None), lambda u: rows + u.shift.W[1]),
        (Concatenation(site, 3, None), lambda u: rows @ u.A.weight.T + u.shift.W[1]),
        (Modulation(site, 3, None), lambda u: (1 + u.scale.W[1]) * rows + u.shift.W[1]),
    ):
        with torch.no_grad():
            for parameter in unit.parameters():
                parameter.copy_(torch.randn(parameter.shape, generator=generator))
            required = formula(unit)
            found = unit.change(h, 1, z)
            assert torch.allclose(found.movedim(1, -1) if site is IMAGES else found, required, atol=1e-5), unit
            assert not torch.allclose(found, unit.change(h, 2, other))


def test_addition_and_concatenation_are_one_function_class() -> None:
    """V [h, z] = V1 h + V2 z: what a layer makes of a concatenation, another one makes of a sum, and the other way."""
    h, layer = features(VECTORS).double(), nn.Linear(4, 3).double()
    z = descriptions().double()
    added, concatenated = Addition(VECTORS, 3, 3).double(), Concatenation(VECTORS, 3, 3).double()
    (W,), (V,), A = added.shift.W, concatenated.shift.W, concatenated.A.weight
    randomise(added, 3)
    with torch.no_grad():
        V.copy_(W)
        for task in range(3):
            assert torch.allclose(layer(added.change(h, task, z[task])), layer(concatenated.change(h, task, z[task])))
        randomise(concatenated, 4)
        other = nn.Linear(4, 3).double()
        other.weight.copy_(layer.weight @ A)
        other.bias.copy_(layer.bias)
        W.copy_(torch.linalg.solve(A, V))  # L A W = L V
        for task in range(3):
            assert torch.allclose(other(added.change(h, task, z[task])), layer(concatenated.change(h, task, z[task])))


@EACH
@pytest.mark.parametrize("backbone", [PLAIN, NORMED], ids=["plain", "normed"])
def test_units_at_the_identity_are_hard_sharing_bit_for_bit(architecture: Architecture, backbone: Any) -> None:
    found, required = untrained(architecture, backbone), untrained(Hard(), backbone)
    for task in make_stream():
        with torch.no_grad():
            assert torch.equal(found.predict(task.test.x, task.label), required.predict(task.test.x, task.label))


@EACH
def test_units_held_at_the_identity_learn_what_hard_sharing_learns(architecture: Architecture) -> None:
    stream, training = make_stream((2, 5, 3), [40, 60, 21]), Training(epochs=3, batch_size=16, lr=0.01)
    model = untrained(architecture).shared
    for parameter in model.units.parameters():
        parameter.requires_grad_(False)
    fit(model, model.predict_together, model.predict, list(stream), make_session(training))
    hard = learn_all(MultiTask(PLAIN), stream, training)
    for task in stream:
        with torch.no_grad():
            found, required = model.predict(task.test.x, task.label), hard.predict(task.test.x, task.label)
            assert torch.allclose(found, required, atol=1e-5)


@EACH
def test_every_task_changes_features_in_its_own_way(architecture: Architecture) -> None:
    strategy, x = untrained(architecture), make_stream()[0].test.x
    model = strategy.shared
    randomise(model.units)
    if isinstance(architecture, FiLM | Added) and architecture.descriptor is not None:
        randomise(model.descriptions)
    seen: list[Tensor] = []
    handle = model.shared.trunk[3].register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    with torch.no_grad():
        for label in range(3):
            model.predict(x, label)
        model.predict_together({2: x, 0: x})
    handle.remove()
    assert not torch.allclose(seen[0], seen[1])
    assert not torch.allclose(seen[0], seen[2])
    assert torch.allclose(seen[3], torch.cat([seen[2], seen[0]]), atol=1e-5)


def test_sites_can_be_chosen() -> None:
    assert untrained(FiLM()).shared.names == ["3", "5"]
    assert untrained(FiLM(sites=["5"])).shared.names == ["5"]
    assert untrained(Attention(sites="leaves")).shared.names == ["3", "5"]


def test_one_hot_descriptions_do_not_learn_and_learned_ones_do() -> None:
    assert [name for name, _ in untrained(Added()).named_parameters() if "descriptions" in name] == []
    learned = untrained(Added(descriptor=3))
    assert [p.shape for name, p in learned.named_parameters() if "descriptions" in name] == [(3,)] * 3
    sizes = {name: sum(p.numel() for p in untrained(kind).parameters()) for name, kind in ONE_HOT.items()}
    column = 3 * (8 + 6)  # a number for each task and feature that a site receives
    assert sizes["film"] - sizes["added"] == sizes["added"] - sizes["hard"] == column


@EACH
@pytest.mark.parametrize("weighting", [PCGrad(), MGDA(), IMTLG(), AlignedMTL(), UPGrad()], ids=repr)
def test_what_a_task_owns_has_its_own_gradient_under_every_weighting(
    architecture: Architecture, weighting: Weighting
) -> None:
    strategy, stream, labels = MultiTask(PLAIN, architecture=architecture, weighting=weighting), make_stream(), range(3)
    learn_all(strategy, stream, Training(epochs=0))
    model, generator = strategy.shared, torch.Generator().manual_seed(7)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    said = model.predict_together({label: stream[label].train.x[:5] for label in labels})
    assert not isinstance(said, Penalised)
    parts = {
        label: scale * stream[label].objective.loss(said[label], stream[label].train.y[:5])
        for label, scale in zip(labels, (0.001, 1.0, 30.0), strict=True)
    }
    own = [(label, parameter) for label in labels for parameter in model.own_parameters(label)]
    required = [torch.autograd.grad(3 * parts[label], parameter, retain_graph=True)[0] for label, parameter in own]
    strategy._balance(labels, torch.device("cpu")).backward(parts, None, list(model.parameters()))
    assert len(own) > 0
    for (_, parameter), gradient in zip(own, required, strict=True):
        assert parameter.grad is not None
        assert torch.equal(parameter.grad, gradient)


@pytest.mark.parametrize("kind", [Added, Concatenated, FiLM])
def test_bad_arguments_are_refused(kind: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        kind(descriptor=0)
    assert str(caught.value) == "descriptor: required a whole number, at least 1, found 0."


# The hooks behind it


def doubling(backbone: nn.Module, names: list[str]) -> Rewriting:
    rewriting = Rewriting(lambda name, h, context: h * context)
    attach_rewriting(backbone, names, rewriting)
    return rewriting


def test_what_a_site_receives_is_rewritten_within_a_call_and_in_no_other() -> None:
    backbone = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2))
    x = torch.randn(5, 3)
    plain = backbone(x)
    rewriting = doubling(backbone, ["2"])
    assert torch.equal(backbone(x), plain)
    assert torch.equal(rewriting.run(backbone, x, 2.0, ["2"]), backbone[2](2 * backbone[:2](x)))
    assert torch.equal(backbone(x), plain)


def test_a_site_that_is_not_called_once_is_refused() -> None:
    inner = nn.Linear(3, 3)
    twice = nn.Sequential(inner, inner)
    with pytest.raises(SiteError) as caught:
        doubling(twice, ["0"]).run(twice, torch.randn(2, 3), 2.0, ["0"])
    assert str(caught.value) == "site '0': required one call a forward pass, found a second one."
    backbone = nn.Sequential(nn.Linear(3, 3))
    with pytest.raises(SiteError) as caught:
        doubling(backbone, ["0"]).run(backbone, torch.randn(2, 3), 2.0, ["0", "gone"])
    assert str(caught.value) == ("sites ['gone']: required one call a forward pass, found none; choose other sites.")
