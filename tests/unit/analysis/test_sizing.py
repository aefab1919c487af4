"""What columns need, to the digit: predicted from four columns without numbers, beside real networks and runs."""

from collections.abc import Sequence

import pytest
import torch
from torch import nn

import prognet
from prognet.analysis import column_costs
from prognet.backbones import cnn, mlp, resnet18, vit_tiny
from prognet.capacity import Capacity, Workload, run_capacity
from prognet.config import Measurement, Training
from prognet.engine import Adapter, LinearAdapter, MLPAdapter, ProgressiveNetwork, Site
from prognet.errors import ConfigError
from prognet.evaluation.costs import stored_bytes
from prognet.strategies.base import Backbone
from prognet.training import count_parameters
from tests.helpers.asserts import assert_generator_untouched
from tests.helpers.runs import from_scratch, quick_run
from tests.helpers.streams import make_stream

BACKBONES: dict[str, tuple[Backbone, tuple[int, ...]]] = {
    "mlp": (mlp(hidden=(7, 5)), (1, 4, 4)),
    "mlp, normed": (mlp(hidden=(6,), batch_norm=True, dropout=0.1), (1, 4, 4)),
    "cnn": (cnn(channels=(3, 4, 5), batch_norm=True), (3, 8, 8)),
    "resnet18": (resnet18(channels=4), (3, 16, 16)),
    "vit_tiny": (vit_tiny(patch=4, dim=8, depth=2, heads=2), (3, 8, 8)),
}
ADAPTERS: dict[str, Adapter] = {
    "linear": LinearAdapter(),
    "mlp": MLPAdapter(),
    "bottleneck": MLPAdapter(hidden=0.25),
    "paper": MLPAdapter.paper(),
    "transfer": MLPAdapter.transfer(),
}
TASKS, TRAINING = 5, Training(epochs=2, batch_size=16, lr=0.01)
MEASUREMENT = Measurement(lca_updates=2, curve_points=2, curve_samples=20, evaluation_batch_size=16, gates=())


SMALL = ("mlp", "mlp, normed", "cnn")


@pytest.mark.parametrize(
    ("name", "adapter"),
    [(name, adapter) for name in BACKBONES for adapter in ADAPTERS if name in SMALL or adapter in ("mlp", "linear")],
)
def test_parameters_and_bytes_are_those_of_real_networks(name: str, adapter: str) -> None:
    backbone, shape = BACKBONES[name]
    costs = column_costs(backbone, shape, 3, adapter=ADAPTERS[adapter])
    for most in (None, 0, 2) if name in SMALL else (None,):
        found = run_capacity(costs, Workload(tasks=TASKS, train=1, test=1, sources=most))
        network, parameters, sizes = ProgressiveNetwork(ADAPTERS[adapter]), [], []
        for k in range(TASKS):
            read = range(max(0, k - (TASKS if most is None else most)), k)
            network.add_column(backbone(shape, 3), torch.zeros(2, *shape), sources=list(read))
            parameters.append(count_parameters(network))
            sizes.append(stored_bytes(network))
        assert found.parameters.tolist() == parameters
        assert found.stored_bytes.tolist() == sizes


def predicted(backbone: Backbone, strategy: prognet.Progressive, most: int | None, is_default: bool) -> Capacity:
    return run_capacity(
        column_costs(backbone, (1, 8, 8), 3, adapter=strategy.adapter),
        Workload(
            tasks=4,
            train=40,
            test=30,
            validation=10,
            sources=most,
            compares_trunks=is_default,
            solves_output=is_default,
            training=TRAINING,
            measurement=MEASUREMENT,
        ),
    )


@pytest.mark.parametrize("most", [None, 2])
@pytest.mark.parametrize(
    ("name", "is_default"), [("mlp", True), ("mlp", False), ("cnn", False)], ids=["default", "scratch", "images"]
)
def test_operations_and_tables_are_those_of_a_run(name: str, is_default: bool, most: int | None) -> None:
    backbone = mlp(hidden=(7, 5)) if name == "mlp" else cnn(channels=(2, 3, 4))
    sources = None if most is None else prognet.LastSources(most)
    strategy = (prognet.Progressive if is_default else from_scratch)(backbone, sources=sources)
    stream = make_stream((3, 3, 3, 3), shape=(1, 8, 8))
    run = quick_run(strategy, stream, training=TRAINING, measurement=MEASUREMENT)
    found = predicted(backbone, strategy, most, is_default)
    plain = column_costs(backbone, (1, 8, 8), 3).forward_flops.alone
    again = [
        40 * plain * (choice.get("start") == "copy") for choice in run.choices
    ]  # a copied trunk is looked at twice
    assert found.parameters.tolist() == [cost.parameters for cost in run.costs]
    assert (found.training_flops + again).tolist() == [cost.training_flops for cost in run.costs]
    assert found.prediction_flops.tolist() == list(run.costs[-1].forward_flops)
    assert found.updates.tolist() == [cost.updates for cost in run.costs]
    assert [cost.trainable for cost in run.costs] == [
        trained - solved for trained, solved in zip(found.trained, solved_in(run.learner), strict=True)
    ]


def solved_in(learner: nn.Module | None) -> list[int]:
    """The parameters of each column that are solved, not trained."""
    assert isinstance(learner, prognet.Progressive)
    network = learner.columns.network
    parts = [network.column(k).adapters.named_parameters() for k in range(len(network))]
    return [sum(p.numel() for name, p in part if ".solved." in name) for part in parts]


def test_the_table_is_as_large_as_predicted() -> None:
    from prognet.strategies.columns import reading_of
    from prognet.training.features import Shelf
    from tests.helpers.runs import make_session

    backbone, task = mlp(hidden=(7, 5)), make_stream((3, 3, 3), shape=(1, 8, 8))[0]
    network = ProgressiveNetwork()
    for _ in range(3):
        network.add_column(backbone((1, 8, 8), 3), torch.zeros(2, 1, 8, 8))
    reading = reading_of(network, 2)
    assert reading is not None
    shelf = Shelf(reading, make_session())
    tables = [shelf.table_of(task, samples) for samples in (task.train, task.test, task.val)]
    size = sum(h.untyped_storage().nbytes() for table in tables if table is not None for h in table.rows.tensors)
    work = Workload(tasks=3, train=len(task.train), test=len(task.test), validation=len(task.val))
    assert run_capacity(column_costs(backbone, (1, 8, 8), 3), work).feature_bytes[2] == size > 0


def test_nothing_is_drawn_and_nothing_is_made() -> None:
    """Four columns of a full ResNet-18 would have more than 50 million parameters."""
    found = []
    assert_generator_untouched(lambda: found.append(column_costs(resnet18(), (3, 32, 32), 10)))
    assert found[0].parameters.alone == 11_173_962
    assert found[0].tensors.each == 0


class Pairs(Adapter):
    """One matrix for every pair of sources: no line in their number."""

    def build(self, senders: Sequence[Site], site: Site) -> nn.Module:
        return PairsLateral(len(senders) ** 2, site.out_shape[-1])

    def describe(self) -> dict[str, object]:
        return {"kind": "Pairs", "arguments": {}}


class PairsLateral(nn.Module):
    def __init__(self, n_pairs: int, n_out: int) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.zeros(n_pairs, n_out))

    def forward(self, sources: Sequence[torch.Tensor]) -> torch.Tensor:
        return self.weights.sum(0).expand(len(sources[0]), -1)


def test_an_adapter_that_grows_otherwise_is_refused() -> None:
    with pytest.raises(
        ConfigError, match="adapter: required one of which every further source adds the same parameters"
    ):
        column_costs(mlp(hidden=(4,)), (6,), 2, adapter=Pairs())
