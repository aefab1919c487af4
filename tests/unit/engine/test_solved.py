"""Solved output laterals: silent while the column learns, the formula afterwards, and never trained."""

import copy
import pickle
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from prognet.engine import Adapter, LinearAdapter, MLPAdapter, ProgressiveNetwork
from prognet.engine.column import Column
from prognet.engine.laterals import MLPLateral
from prognet.engine.narrowing import laterals_of, remove_laterals
from prognet.engine.solved import SolvedLateral, reader_of, solved_laterals
from prognet.errors import CheckpointError
from tests.helpers.asserts import (
    assert_no_forgetting,
    assert_only_last_column_learns,
    assert_same_tensors,
    logits,
    snapshot,
)
from tests.helpers.asserts import learn as train
from tests.helpers.sealing import rehash

SOLVED = MLPAdapter(alpha=0.5, solved_output=True)
SGD = partial(torch.optim.SGD, lr=0.1, momentum=0.9, weight_decay=0.1)


def mlp(width: int = 7, n_classes: int = 3) -> nn.Sequential:
    return nn.Sequential(nn.Linear(6, width), nn.ReLU(), nn.Linear(width, 5), nn.ReLU(), nn.Linear(5, n_classes))


def normed(width: int = 7, n_classes: int = 3) -> nn.Sequential:
    layers = [nn.Linear(6, width), nn.BatchNorm1d(width), nn.ReLU(), nn.Dropout(0.3), nn.Linear(width, n_classes)]
    return nn.Sequential(*layers)


class Tokens(nn.Module):
    """(B, 4, 6) -> (B, 4, 3): an output layer that returns tokens."""

    def __init__(self) -> None:
        super().__init__()
        self.embed, self.head = nn.Linear(6, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(torch.relu(self.embed(x)))
        return out


def x6(n: int = 10) -> Tensor:
    return torch.randn(n, 6, generator=torch.Generator().manual_seed(5))


def network(
    build: Callable[..., nn.Module] = mlp, adapter: Adapter = SOLVED, widths: Sequence[int] = (5, 7, 4, 6)
) -> ProgressiveNetwork:
    """Columns of these widths whose laterals are as they were drawn."""
    torch.manual_seed(0)
    net = ProgressiveNetwork(adapter)
    for width in widths:
        net.add_column(build(width), x6(2))
    return net


def solved_of(column: Column) -> SolvedLateral:
    ((_, lateral),) = solved_laterals(column)
    return lateral


def solve_at_random(lateral: SolvedLateral, seed: int = 1) -> None:
    random = torch.Generator().manual_seed(seed)
    shape = lateral.solved.weight.shape
    lateral.solve(torch.randn(shape, generator=random), torch.randn(shape[0], generator=random))


def solved_network(build: Callable[..., nn.Module] = mlp, widths: Sequence[int] = (5, 7, 4, 6)) -> ProgressiveNetwork:
    """The columns of `network` with numbers in every solved lateral."""
    torch.manual_seed(0)
    net = ProgressiveNetwork(SOLVED)
    for width in widths:
        index = net.add_column(build(width), x6(2))
        for _, lateral in solved_laterals(net.column(index)):
            solve_at_random(lateral, index)
    return net


def by_hand(net: ProgressiveNetwork, k: int, x: Tensor) -> tuple[Tensor, Tensor]:
    """U relu(V concat_j(alpha_j h_j) + c) and W concat_j h_j + d at the output layer of column k, by its tensors."""
    numbers = {name.removeprefix("adapters.4."): t for name, t in net.column(k).named_parameters()}
    with torch.no_grad():
        past = net.activations(x, net.column(k).sources)
        handed = [past[j]["4"] for j in net.column(k).sources]  # (B, 5) each
        scaled = torch.cat([alpha * h for alpha, h in zip(numbers["lateral.alpha"], handed, strict=True)], 1)
        hidden = (scaled @ numbers["lateral.V.weight"].T + numbers["lateral.V.bias"]).clamp_min(0)
        solved = torch.cat(handed, 1) @ numbers["solved.weight"].T + numbers["solved.bias"]
        return hidden @ numbers["lateral.U.weight"].T, solved


def learned_network() -> ProgressiveNetwork:
    """`solved_network` with numbers in the parts that learn, too."""
    net = solved_network()
    for name, parameter in net.named_parameters():
        if name.endswith("lateral.U.weight"):
            nn.init.normal_(parameter, generator=torch.Generator().manual_seed(4))
    return net


def test_in_evaluation_it_is_the_formula_and_in_training_the_solved_part_is_silent() -> None:
    net, x = learned_network(), x6()
    lateral = solved_of(net.column(3))
    learned, solved = by_hand(net, 3, x)
    assert learned.abs().max() > 0.1
    assert solved.abs().min() > 0
    with torch.no_grad():
        past = [net.activations(x, [0, 1, 2])[j]["4"] for j in range(3)]
        torch.testing.assert_close(lateral.eval()(past), learned + solved)
        torch.testing.assert_close(lateral.train()(past), learned)
        assert torch.equal(lateral.train()(past), lateral.lateral(past))
        assert torch.equal(lateral.features(past), torch.cat(past, 1))


def test_the_output_is_the_sum_of_both_classifiers_in_evaluation_only() -> None:
    net, silent, x = solved_network(), network(), x6()
    assert_same_tensors(snapshot(net.column(3).backbone), snapshot(silent.column(3).backbone))
    assert torch.equal(logits(net.train(), 3, x), logits(silent.train(), 3, x))
    own = net.column(3).backbone.eval()(x).detach()  # U is 0
    torch.testing.assert_close(logits(net.eval(), 3, x), own + by_hand(net, 3, x)[1])


@pytest.mark.parametrize("mode", [True, False])
@pytest.mark.parametrize("build", [mlp, normed])
def test_before_it_is_solved_the_column_is_the_independent_network(build: Callable[..., nn.Module], mode: bool) -> None:
    net, x = network(build), x6()
    plain = copy.deepcopy(net.column(3).backbone)
    net.train(mode)
    plain.train(mode)
    torch.manual_seed(3)
    own = net(x, 3)
    torch.manual_seed(3)
    assert torch.equal(own, plain(x))


def test_the_solved_part_begins_at_zero_whatever_the_learned_one_does() -> None:
    net = network(adapter=MLPAdapter(zero_init=False, solved_output=True))
    lateral, inner = solved_of(net.column(1)), net.column(1).lateral("2")
    assert not lateral.solved.weight.any()
    assert not lateral.solved.bias.any()
    assert isinstance(inner, MLPLateral)
    assert inner.U.get_parameter("weight").any()
    assert lateral.lateral.U.get_parameter("weight").any()


def test_only_the_output_layer_is_solved() -> None:
    net = network()
    kinds = {site.name: type(net.column(3).lateral(site.name)) for site in net.column(3).sites}
    assert kinds == {"2": MLPLateral, "4": SolvedLateral}
    assert [site.output for site in net.column(3).sites] == [False, True]
    assert list(solved_laterals(net.column(0))) == []
    assert [name for name, _ in solved_laterals(net.column(2))] == ["4"]


@pytest.mark.parametrize(
    ("build", "example", "sites", "adapter"),
    [
        (mlp, torch.zeros(2, 6), ["2"], SOLVED),
        (mlp, torch.zeros(2, 6), None, MLPAdapter()),
        (mlp, torch.zeros(2, 6), None, LinearAdapter()),
        (Tokens, torch.zeros(2, 4, 6), ["head"], SOLVED),
        (
            lambda: nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Conv2d(4, 3, 1)),
            torch.zeros(2, 1, 5, 5),
            None,
            SOLVED,
        ),
    ],
    ids=["output layer is no site", "learned", "linear", "tokens", "images"],
)
def test_elsewhere_laterals_are_learned(
    build: Callable[[], nn.Module], example: Tensor, sites: list[str] | None, adapter: Adapter
) -> None:
    net = ProgressiveNetwork(adapter)
    for _ in range(2):
        net.add_column(build(), example, sites)
    assert list(solved_laterals(net.column(1))) == []
    assert len(net.column(1).adapters)
    assert all(parameter.requires_grad for parameter in net.column(1).adapters.parameters())


@pytest.mark.parametrize("build", [mlp, normed])
def test_the_solved_part_has_no_gradient_and_is_not_trained_and_the_other_is(build: Callable[..., nn.Module]) -> None:
    net, x = solved_network(build), x6()
    lateral = solved_of(net.column(3))
    before = snapshot(lateral.solved)
    assert set(before) == {"weight", "bias"}
    assert_only_last_column_learns(net, x, SGD)  # all parameters in the optimiser, weight decay at work
    assert_same_tensors(before, snapshot(lateral.solved))
    net.eval()(x, 3).sum().backward()
    assert all(parameter.grad is None for parameter in lateral.solved.parameters())
    trained = [name for name, parameter in lateral.named_parameters() if parameter.requires_grad]
    assert trained == ["lateral.alpha", "lateral.V.weight", "lateral.V.bias", "lateral.U.weight"]


@pytest.mark.parametrize("build", [mlp, normed])
def test_training_is_that_of_a_column_without_a_solved_part(build: Callable[..., nn.Module]) -> None:
    nets = [network(build, adapter, (5, 7)) for adapter in (SOLVED, MLPAdapter(alpha=0.5))]
    solve_at_random(solved_of(nets[0].column(1)))
    for net in nets:
        torch.manual_seed(1)
        train(net, 1, x6(), SGD, steps=4)
    assert_same_tensors(snapshot(nets[0].column(1).backbone), snapshot(nets[1].column(1).backbone))
    inner = reader_of(solved_of(nets[0].column(1)))
    learned = nets[1].column(1).lateral(nets[1].column(1).sites[-1].name)
    assert inner is not None
    assert learned is not None
    assert_same_tensors(snapshot(inner), snapshot(learned))


@pytest.mark.parametrize("build", [mlp, normed])
def test_nothing_is_forgotten_when_a_solved_column_is_frozen(build: Callable[..., nn.Module]) -> None:
    net, x = solved_network(build), x6()

    def grow() -> None:
        k = net.add_column(build(5), x6(2))
        solve_at_random(solved_of(net.column(k)))
        train(net, k, x, SGD)

    net.freeze()
    assert_no_forgetting(net, range(4), x, grow)


def test_a_later_column_in_training_reads_what_the_solved_column_says_in_evaluation() -> None:
    net, x = solved_network(), x6()
    k = net.add_column(nn.Sequential(nn.Linear(6, 4), nn.ReLU(), nn.Linear(4, 2)), x6(2), ["2"], sources=[])
    required = logits(net.eval(), 3, x)
    net.train()
    assert not solved_of(net.column(3)).training
    assert torch.equal(logits(net, 3, x), required)
    assert net.column(k).training


def test_the_digest_changes_when_it_is_solved_and_with_every_tensor() -> None:
    net = network()
    lateral = solved_of(net.column(3))
    digests = [net.digest(3)]
    solve_at_random(lateral)
    digests.append(net.digest(3))
    for parameter in lateral.parameters():
        with torch.no_grad():
            parameter.view(-1)[0] += 1
        digests.append(net.digest(3))
    assert len(set(digests)) == 8
    assert network(adapter=MLPAdapter(alpha=0.5)).digest(3) not in digests  # the same numbers, but learned


@pytest.mark.parametrize("build", [mlp, normed])
def test_copies_and_files_hold_it(build: Callable[..., nn.Module], tmp_path: Path) -> None:
    net, x = solved_network(build), x6()
    train(net, 3, x, SGD)
    net.eval()
    net.save(tmp_path, probe=x)
    loaded = ProgressiveNetwork.load(tmp_path, build=lambda k: build((5, 7, 4, 6)[k]))
    for twin in (copy.deepcopy(net), pickle.loads(pickle.dumps(net)), loaded):
        assert_same_tensors(snapshot(twin), snapshot(net))
        assert twin.digests() == net.digests()
        assert all(torch.equal(logits(twin.eval(), k, x), logits(net, k, x)) for k in range(4))
        assert not any(parameter.requires_grad for parameter in solved_of(twin.column(3)).solved.parameters())
        solve_at_random(solved_of(twin.column(3)), 9)
        assert not torch.equal(logits(twin, 3, x), logits(net, 3, x))
        assert twin.digest(3) != net.digest(3)


def test_a_changed_file_is_noticed(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    net = solved_network()
    net.freeze()
    net.save(tmp_path)
    (path,) = tmp_path.glob("weights-*.safetensors")
    stored = load_file(path)
    stored["columns.2.adapters.4.solved.bias"][0] += 1
    save_file(stored, path)
    with pytest.raises(CheckpointError, match="found a damaged one \\(its SHA-256 is"):
        ProgressiveNetwork.load(tmp_path, build=lambda k: mlp((5, 7, 4, 6)[k]))
    rehash(tmp_path / "manifest.json")
    with pytest.raises(CheckpointError, match=r"first difference: tensor 'adapters\.4\.solved\.bias'"):
        ProgressiveNetwork.load(tmp_path, build=lambda k: mlp((5, 7, 4, 6)[k]))


def test_a_solved_network_is_one_graph_of_the_compiler() -> None:
    net, x = solved_network(widths=(5, 7)).eval(), x6()
    compiled: Any = torch.compile(net, fullgraph=True, backend="eager")
    with torch.no_grad():
        torch.testing.assert_close(compiled(x, 1), net(x, 1))


@pytest.mark.parametrize("build", [mlp, normed])
@pytest.mark.parametrize("lost", [0, 1, 2])
def test_without_a_source_it_is_the_one_that_reads_the_mean_of_that_source(
    build: Callable[..., nn.Module], lost: int
) -> None:
    net, x = solved_network(build), x6()
    net.eval()
    column, site = net.column(3), net.column(3).sites[-1].name
    lateral = solved_of(column)
    past = net.activations(x, [0, 1, 2])
    mean = past[lost][site].mean(0)
    filled = {**past, lost: {**past[lost], site: mean.expand_as(past[lost][site])}}
    with torch.no_grad():
        required, _ = column(x, [filled[j] for j in range(3)])
    whole = logits(net, 3, x)
    senders = {j: net.column(j).sites for j in range(3)}
    remove_laterals(column, senders, [(site, lost)], {(site, lost): mean})
    smaller = solved_of(column)
    assert column.reads[site] == tuple(j for j in range(3) if j != lost)
    torch.testing.assert_close(logits(net, 3, x), required)
    assert not torch.allclose(required, whole, atol=1e-3)
    assert not smaller.training
    assert not any(parameter.requires_grad for parameter in smaller.solved.parameters())
    assert all(parameter.requires_grad for parameter in smaller.lateral.parameters())
    sizes = [sum(parameter.numel() for parameter in part.parameters()) for part in (lateral, smaller)]
    width = column.sites[-1].in_shape[0]
    # inputs of V and of W, and an alpha
    assert sizes[0] - sizes[1] == (width + 3) * net.column(lost).sites[-1].in_shape[0] + 1


def test_a_narrowed_one_can_be_solved_again_saved_and_silenced(tmp_path: Path) -> None:
    net, x = solved_network(), x6()
    column = net.column(3)
    senders = {j: net.column(j).sites for j in range(3)}
    remove_laterals(column, senders, [("4", 0), ("4", 2), ("2", 0), ("2", 2)])
    assert column.sources == (1,)
    solve_at_random(solved_of(column), 8)
    net.freeze()
    net.save(tmp_path)
    again = ProgressiveNetwork.load(tmp_path, build=lambda k: mlp((5, 7, 4, 6)[k]))
    assert again.digests() == net.digests()
    assert torch.equal(logits(again.eval(), 3, x), logits(net.eval(), 3, x))
    other = solved_network()
    remove_laterals(other.column(3), senders, laterals_of(other.column(3)))
    assert list(solved_laterals(other.column(3))) == []
    assert torch.equal(logits(other.eval(), 3, x), other.column(3).backbone(x))
