"""The shuffled control: the same laterals, which read another sample."""

import copy
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from prognet.catalogue import STRATEGIES, lookup
from prognet.config import Training
from prognet.engine import MLPAdapter, ProgressiveNetwork
from prognet.engine.adapters import adapter_from
from prognet.engine.laterals import Align, MLPLateral
from prognet.engine.solved import SolvedLateral, reader_of, solved_laterals
from prognet.errors import ConfigError
from prognet.strategies import Progressive, ShuffledAdapter, Start, describe_strategy, strategy_from
from prognet.strategies.shuffled import ShuffledAlign
from tests.helpers.asserts import assert_generator_untouched, assert_same_tensors, logits, snapshot
from tests.helpers.runs import PLAIN, quick_run
from tests.helpers.streams import make_stream

TRAINING = Training(epochs=2, batch_size=16, lr=0.02)
STREAM = make_stream()
INNERS = (
    MLPAdapter(),
    MLPAdapter(alpha=0.5, zero_init=False, hidden=0.5),
    MLPAdapter.paper(),
    MLPAdapter.transfer(),
)


def mlp(width: int = 7) -> nn.Sequential:
    return nn.Sequential(nn.Linear(6, width), nn.ReLU(), nn.Linear(width, 5), nn.ReLU(), nn.Linear(5, 3))


def cnn(width: int = 4) -> nn.Sequential:
    layers = [nn.Conv2d(1, width, 3), nn.ReLU(), nn.Conv2d(width, 5, 3, stride=2), nn.ReLU(), nn.Flatten()]
    return nn.Sequential(*layers, nn.Linear(20, 3))


def network(inner: MLPAdapter, shuffled: bool, images: bool = False) -> ProgressiveNetwork:
    """Three columns whose laterals are at work, with the same numbers whether shuffled or not."""
    torch.manual_seed(0)
    net = ProgressiveNetwork(ShuffledAdapter(inner) if shuffled else inner)
    example = torch.zeros(2, 1, 7, 7) if images else torch.zeros(2, 6)
    for width in (5, 7, 4):
        net.add_column((cnn if images else mlp)(width), example)
    with torch.no_grad():
        for parameter in net.column(2).adapters.parameters():
            parameter.add_(torch.randn_like(parameter) / 3)
    return net.eval()


def inputs(n: int, images: bool = False) -> Tensor:
    return torch.randn(n, *((1, 7, 7) if images else (6,)), generator=torch.Generator().manual_seed(n))


def order_of(n: int) -> Tensor:
    """The sample that each of a batch of n reads."""
    order: Tensor = ShuffledAlign(Align([1]))([torch.arange(n)])
    return order


@pytest.mark.parametrize("n", [2, 3, 7, 16, 64, 255])
def test_every_sample_reads_another_one_and_every_one_is_read(n: int) -> None:
    order = order_of(n)
    assert not (order == torch.arange(n)).any()
    assert torch.equal(order.sort().values, torch.arange(n))
    assert torch.equal(order, order_of(n))
    assert n < 7 or len(set((order - torch.arange(n)).remainder(n).tolist())) > 2  # no mere shift


def test_a_sample_alone_reads_itself() -> None:
    assert order_of(1).tolist() == [0]


@pytest.mark.parametrize("images", [False, True])
@pytest.mark.parametrize("inner", INNERS)
def test_the_laterals_read_the_features_of_other_samples(inner: MLPAdapter, images: bool) -> None:
    net, plain, x = network(inner, True, images), network(inner, False, images), inputs(12, images)
    order = order_of(12)
    past = [net.activations(x, [0])[0], net.activations(x, [0, 1])[1]]
    with torch.no_grad():
        handed = [{site: h[order] for site, h in received.items()} for received in past]
        required, _ = plain.column(2)(x, handed)
    torch.testing.assert_close(logits(net, 2, x), required)
    assert not torch.allclose(logits(plain, 2, x), required, atol=1e-3)
    assert torch.equal(logits(net, 0, x), logits(plain, 0, x))


@pytest.mark.parametrize("mode", [True, False])
def test_it_shuffles_in_both_modes_and_draws_nothing(mode: bool) -> None:
    net, x = network(MLPAdapter(), True), inputs(12)
    net.train(mode)
    assert_generator_untouched(lambda: logits(net, 2, x))
    assert torch.equal(logits(net, 2, x), logits(net, 2, x))
    assert not torch.allclose(logits(net, 2, x), logits(network(MLPAdapter(), False), 2, x), atol=1e-3)


@pytest.mark.parametrize("images", [False, True])
@pytest.mark.parametrize("inner", INNERS)
def test_parameters_are_those_of_the_inner_adapter(inner: MLPAdapter, images: bool) -> None:
    net, plain = network(inner, True, images), network(inner, False, images)
    found, required = snapshot(net), snapshot(plain)
    assert [tensor.shape for tensor in found.values()] == [tensor.shape for tensor in required.values()]
    assert all(torch.equal(a, b) for a, b in zip(found.values(), required.values(), strict=True))
    assert net.digest(2) != plain.digest(2)
    assert net.digest(0) == plain.digest(0)
    kinds = {type(reader_of(net.column(2).lateral(site.name))) for site in net.column(2).sites}
    assert kinds == {MLPLateral}
    assert bool(list(solved_laterals(net.column(2)))) == inner.solved_output


def test_what_is_solved_reads_other_samples_too() -> None:
    net = network(MLPAdapter.transfer(), True)
    ((_, lateral),) = solved_laterals(net.column(2))
    assert isinstance(lateral, SolvedLateral)
    sources = [torch.randn(6, 5), torch.randn(6, 5)]
    assert torch.equal(lateral.features(sources), torch.cat(sources, 1)[order_of(6)])


@pytest.mark.parametrize("inner", INNERS)
def test_a_description_in_json_is_the_adapter(inner: MLPAdapter) -> None:
    adapter = ShuffledAdapter(inner)
    description = json.loads(json.dumps(adapter.describe()))
    assert description["kind"] == "ShuffledAdapter"
    assert set(description["arguments"]) == {"inner"}
    again = adapter_from(description)
    assert again == adapter
    assert isinstance(again, ShuffledAdapter)
    assert again.inner == inner
    strategy = Progressive(PLAIN, adapter=adapter)
    rebuilt = strategy_from(json.loads(json.dumps(describe_strategy(strategy))), PLAIN)
    assert isinstance(rebuilt, Progressive)
    assert rebuilt.adapter == adapter


def test_what_is_no_adapter_to_shuffle_is_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        ShuffledAdapter("mlp")  # type: ignore[arg-type]
    assert str(caught.value) == "inner: required an MLPAdapter, found 'mlp'."
    with pytest.raises(ConfigError, match="adapter: required the arguments of ShuffledAdapter"):
        adapter_from({"kind": "ShuffledAdapter", "arguments": {"inner": {"width": 3}}})


def test_networks_are_copied_saved_and_loaded(tmp_path: Path) -> None:
    net, x = network(MLPAdapter.transfer(), True), inputs(12)
    net.freeze()
    net.save(tmp_path)
    loaded = ProgressiveNetwork.load(tmp_path, build=lambda k: mlp((5, 7, 4)[k])).eval()
    for again in (loaded, copy.deepcopy(net)):
        assert_same_tensors(snapshot(again), snapshot(net))
        assert again.digests() == net.digests()
        assert torch.equal(logits(again, 2, x), logits(net, 2, x))


def test_a_run_is_verified_by_a_process_that_has_not_seen_it(tmp_path: Path) -> None:
    strategy = lookup("strategy", "progressive-shuffled", STRATEGIES)(PLAIN)
    assert isinstance(strategy.adapter, ShuffledAdapter)
    assert quick_run(strategy, STREAM, training=TRAINING, out=tmp_path).strategy == "progressive-shuffled"
    code = "import sys; from prognet.evaluation import verify; print([v.problem for v in verify(sys.argv[1])])"
    done = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, check=False)
    assert (done.stdout, done.stderr) == ("[None]\n", "")


def test_in_a_run_it_costs_what_the_laterals_cost() -> None:
    start = Start(kind="scratch")
    runs = [
        quick_run(Progressive(PLAIN, adapter=adapter, start=start), STREAM, training=TRAINING)
        for adapter in (ShuffledAdapter(MLPAdapter.transfer()), MLPAdapter.transfer())
    ]
    for found, required in zip(runs[0].costs, runs[1].costs, strict=True):
        for name in ("parameters", "added", "trainable", "updates", "forward_flops", "stored_bytes"):
            assert getattr(found, name) == getattr(required, name), name
        assert found.training_flops == pytest.approx(required.training_flops, rel=0.01)  # ridge keeps the best so far
    for k in (1, 2):  # what it reads says nothing: as good as guessing
        classes = STREAM[k].n_classes
        assert runs[0].choices[k]["lateral"]["cross_entropy"] > 0.85 * float(torch.tensor(classes).log())
        assert runs[1].choices[k]["lateral"]["cross_entropy"] < runs[0].choices[k]["lateral"]["cross_entropy"]
