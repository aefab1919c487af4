"""Learning an initialisation: it beats a random one after a few steps, alone and as the start of a strategy."""

from pathlib import Path
from statistics import fmean
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, mse_loss

from prognet.backbones import mlp
from prognet.config import Training
from prognet.errors import ConfigError, DivergedError
from prognet.meta import Episodes, FewShot, MetaLearning, adapt, learn_start, meta_learn, sine_episodes
from prognet.meta.learning import head_names
from prognet.strategies import CopyTune, FineTune, FineTuning, Independent, Progressive, Start
from tests.helpers.runs import PLAIN, assert_same_tensors, quick_run, tensors
from tests.helpers.streams import make_stream, make_task

TASKS = [make_task(label, 3, 60) for label in range(10, 14)]
FEW = FewShot(tasks=TASKS, ways=3, shots=2, queries=4)


def sine_network() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(1, 40), nn.ReLU(), nn.Linear(40, 40), nn.ReLU(), nn.Linear(40, 1))


def loss_after(network: nn.Module, meta: MetaLearning, steps: int, count: int = 40) -> float:
    """The mean loss on the query samples of new sines after some steps on ten samples each."""
    episodes = sine_episodes(count, torch.Generator().manual_seed(99))
    found = []
    for x, y, query_x, query_y in zip(episodes.x, episodes.y, episodes.query_x, episodes.query_y, strict=True):
        with torch.no_grad():
            found.append(mse_loss(adapt(network, x, y, meta, steps=steps, criterion=mse_loss)(query_x), query_y).item())
    return fmean(found)


@pytest.mark.parametrize(
    "meta",
    [
        MetaLearning(method="maml", inner_rate=0.02, inner_steps=3, outer_rate=3e-3, rounds=200, episodes=12),
        MetaLearning(method="anil", inner_rate=0.02, inner_steps=3, outer_rate=3e-3, rounds=200, episodes=12),
        MetaLearning(method="reptile", inner_rate=0.02, inner_steps=10, rounds=200, episodes=12),
    ],
    ids=lambda meta: meta.method,
)
def test_a_learned_start_fits_new_sines_better_after_a_few_steps(meta: MetaLearning) -> None:
    network = sine_network()
    before = loss_after(network, meta, 5)
    record = meta_learn(network, sine_episodes, meta, criterion=mse_loss)
    assert loss_after(network, meta, 5) < 0.5 * before
    assert fmean(record.losses[-30:]) < 0.5 * fmean(record.losses[:30])
    assert (len(record.losses), record.episodes, record.samples) == (200, 2400, 2400 * 30)


def test_one_round_of_reptile_goes_its_share_of_the_way() -> None:
    meta = MetaLearning(method="reptile", inner_rate=0.05, inner_steps=1, outer_rate=0.25, rounds=1, episodes=1)
    network, start = sine_network(), sine_network()
    meta_learn(network, sine_episodes, meta, criterion=mse_loss, seed=3)
    seen: list[Any] = []

    def noting(count: int, generator: torch.Generator) -> Any:
        seen.append(sine_episodes(count, generator))
        return seen[-1]

    meta_learn(sine_network(), noting, meta, criterion=mse_loss, seed=3)
    x, y = (tensor[0] for tensor in seen[0].together())
    mse_loss(start(x), y).backward()  # type: ignore[no-untyped-call]
    for found, p in zip(network.parameters(), start.parameters(), strict=True):
        assert p.grad is not None
        torch.testing.assert_close(found, p.detach() - 0.25 * 0.05 * p.grad, rtol=1e-4, atol=1e-6)


def test_the_head_alone_adapts_by_anil_and_all_is_learned() -> None:
    meta = MetaLearning(method="anil", rounds=2, inner_rate=0.05)
    network, x = PLAIN((1, 4, 4), 3), TASKS[0].train.x[:6]
    before = tensors(network)
    meta_learn(network, FEW.draw, meta)
    assert all(not torch.equal(tensor, before[name]) for name, tensor in tensors(network).items())
    learner = adapt(network, x, TASKS[0].train.y[:6], meta)
    moved = {name for name, tensor in tensors(learner).items() if not torch.equal(tensor, tensors(network)[name])}
    assert moved == {"5.weight", "5.bias"} == set(head_names(network, x))


def test_adapting_is_gradient_descent_on_a_copy() -> None:
    network, x, y = PLAIN((1, 4, 4), 3), TASKS[0].train.x[:6], TASKS[0].train.y[:6]
    before = tensors(network)
    found = adapt(network, x, y, MetaLearning(inner_rate=0.3, inner_steps=2))
    assert_same_tensors(tensors(network), before)
    optimiser = torch.optim.SGD(network.parameters(), lr=0.3)
    for _ in range(2):
        optimiser.zero_grad()
        cross_entropy(network(x), y).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    for ours, theirs in zip(found.parameters(), network.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_the_seed_decides_and_nothing_else_is_drawn() -> None:
    found = []
    state = torch.get_rng_state()
    for seed in (0, 0, 1):
        with torch.random.fork_rng():
            network = sine_network()
        meta_learn(network, sine_episodes, MetaLearning(rounds=2, inner_rate=0.01), criterion=mse_loss, seed=seed)
        found.append(tensors(network))
    assert torch.equal(torch.get_rng_state(), state)
    assert_same_tensors(found[0], found[1])
    assert not torch.equal(found[0]["0.weight"], found[2]["0.weight"])


def test_few_shot_patterns_are_told_apart_better_from_a_learned_start(tmp_path: Path) -> None:
    meta = MetaLearning(method="maml", inner_rate=0.1, inner_steps=3, rounds=60, outer_rate=0.01)
    backbone = mlp(hidden=(32,))
    begun, _ = learn_start(backbone, TASKS, meta, tmp_path / "start.safetensors", ways=3, shots=2, queries=4)
    torch.manual_seed(1)
    networks = {"random": backbone((1, 4, 4), 3), "learned": begun((1, 4, 4), 3)}
    right: dict[str, list[float]] = {name: [] for name in networks}
    for episode in range(30):
        few = FewShot(tasks=[make_task(50 + episode, 3, 60)], ways=3, shots=2, queries=4)
        drawn = few.draw(1, torch.Generator().manual_seed(episode))
        for name, network in networks.items():
            with torch.no_grad():
                said: Tensor = adapt(network, drawn.x[0], drawn.y[0], meta)(drawn.query_x[0]).argmax(1)
            right[name].append((said == drawn.query_y[0]).double().mean().item())
    assert fmean(right["learned"]) > fmean(right["random"]) + 0.05


def test_a_learned_start_is_that_of_columns_and_of_fine_tuning(tmp_path: Path) -> None:
    meta = MetaLearning(rounds=3)
    begun, record = learn_start(PLAIN, TASKS, meta, tmp_path / "start.safetensors", ways=3, shots=2, queries=4)
    assert record.episodes == 24
    learned = tensors(begun((1, 4, 4), 3))
    stream = make_stream((3, 5))
    training = {"training": Training(epochs=0)}
    for strategy in (
        Independent(begun),
        Progressive(begun, start=Start(kind="scratch")),
        CopyTune(begun, start=Start(kind="scratch")),
        FineTune(begun, recipe=FineTuning(pretrained=True, decay=0.5)),
    ):
        found = quick_run(strategy, stream, **training).learner
        trunks = [
            value for name, value in tensors(found).items() if name.endswith(("backbone.1.weight", "trunk.1.weight"))
        ]
        assert trunks
        assert all(torch.equal(value, learned["1.weight"]) for value in trunks)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"method": "fomaml"}, "method: required one of ('reptile', 'maml', 'anil'), found 'fomaml'."),
        ({"rounds": 0}, "rounds: required a whole number, at least 1, found 0."),
        ({"inner_rate": 0.0}, "inner_rate: required a finite number above 0, found 0.0."),
        ({"inner_rate": "x"}, "inner_rate: required a finite number above 0, found 'x'."),
        ({"inner_rate": None}, "inner_rate: required a finite number above 0, found None."),
        ({"outer_rate": float("inf")}, "outer_rate: required a finite number above 0, found inf."),
        (
            {"first_order": True},
            "first_order: required False for reptile, which has no second derivatives, found True.",
        ),
    ],
)
def test_what_cannot_be_is_refused(arguments: Any, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        MetaLearning(**arguments)
    assert str(caught.value) == message


def test_divergence_is_told() -> None:
    with pytest.raises(DivergedError, match="meta-learning: required a finite loss, found"):
        meta_learn(sine_network(), sine_episodes, MetaLearning(inner_rate=1e6, rounds=5), criterion=mse_loss)


@pytest.mark.parametrize("method", ["maml", "anil", "reptile"])
def test_what_requires_no_gradient_stays(method: Any) -> None:
    meta, x = MetaLearning(method=method, rounds=2, inner_rate=0.05), TASKS[0].train.x[:6]
    network = PLAIN((1, 4, 4), 3)
    network.get_submodule("1").requires_grad_(False)
    before = tensors(network)
    meta_learn(network, FEW.draw, meta)
    moved = {name for name, tensor in tensors(network).items() if not torch.equal(tensor, before[name])}
    assert moved == {name for name, _ in network.named_parameters()} - {"1.weight", "1.bias"}
    assert all(p.grad is None for p in network.parameters())
    learner = tensors(adapt(network, x, TASKS[0].train.y[:6], meta))
    assert torch.equal(learner["1.weight"], before["1.weight"])
    assert not torch.equal(learner["5.weight"], tensors(network)["5.weight"])


def test_the_inner_loop_leaves_frozen_parameters_out() -> None:
    """The first round of Reptile goes where plain gradient descent goes that leaves them as they are."""
    meta = MetaLearning(inner_rate=0.05, inner_steps=3, outer_rate=1.0, rounds=1, episodes=1)
    network, other = sine_network(), sine_network()
    episodes = sine_episodes(1, torch.Generator().manual_seed(0), shots=10, queries=20)
    for net in (network, other):
        net[0].requires_grad_(False)
    optimiser = torch.optim.SGD([p for p in other.parameters() if p.requires_grad], lr=0.05)
    x, y = (tensor[0] for tensor in episodes.together())
    for part, target in zip(x.chunk(3), y.chunk(3), strict=True):
        optimiser.zero_grad()
        mse_loss(other(part), target).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
    meta_learn(network, lambda count, _: episodes, meta, criterion=mse_loss)
    for found, required in zip(network.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(found, required, rtol=1e-4, atol=1e-6)


def test_a_network_that_learns_nothing_is_refused() -> None:
    network = sine_network().requires_grad_(False)
    with pytest.raises(ConfigError, match="network: required a parameter that requires a gradient, found none"):
        meta_learn(network, sine_episodes, MetaLearning(rounds=1), criterion=mse_loss)
    network[0].requires_grad_(True)
    with pytest.raises(ConfigError, match="network: required an output layer that learns, .* found '4' frozen"):
        meta_learn(network, sine_episodes, MetaLearning(method="anil", rounds=1), criterion=mse_loss)


@pytest.mark.parametrize(
    ("method", "samples", "message"),
    [
        ("maml", (2, 0), "draw: required episodes with samples to be judged by for maml, found none"),
        ("anil", (2, 0), "draw: required episodes with samples to be judged by for anil, found none"),
        ("reptile", (0, 2), "draw: required episodes with samples to learn from, found none"),
    ],
)
def test_episodes_without_samples_are_refused(method: Any, samples: tuple[int, int], message: str) -> None:
    x = [torch.ones(2, count, 1) for count in samples]
    with pytest.raises(ConfigError, match=message):
        meta_learn(
            sine_network(),
            lambda count, _: Episodes(x[0], x[0], x[1], x[1]),
            MetaLearning(method=method, rounds=1),
            criterion=mse_loss,
        )


def test_reptile_needs_no_queries() -> None:
    few = FewShot(tasks=TASKS, ways=3, shots=2, queries=0)
    assert meta_learn(PLAIN((1, 4, 4), 3), few.draw, MetaLearning(rounds=1, episodes=2)).samples == 12


def test_anil_needs_an_output_layer() -> None:
    network = nn.Sequential(nn.Linear(1, 1), nn.ReLU())
    with pytest.raises(ConfigError, match="network: required an output layer, which alone moves"):
        meta_learn(network, sine_episodes, MetaLearning(method="anil", rounds=1), criterion=mse_loss)
