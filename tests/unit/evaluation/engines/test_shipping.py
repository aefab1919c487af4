import pickle
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch

from prognet.config import Execution
from prognet.errors import ConfigError
from prognet.evaluation.drawing import Streams
from prognet.evaluation.engines.shipping import StreamFiles, packed, stream_in, unpacked
from prognet.evaluation.work import Plan, Unit
from prognet.strategies import FineTune, Independent, Strategy
from prognet.streams.stream import Stream
from tests.helpers.data import blobs
from tests.helpers.runs import MEASUREMENT, PLAIN, TRAINING


def plan_of(*strategies: Strategy) -> Plan:
    return Plan(
        strategies={strategy.name: strategy for strategy in strategies},
        training=TRAINING,
        tuned={"finetune": replace(TRAINING, lr=0.5)},
        measurement=MEASUREMENT,
        execution=Execution(),
        device=torch.device("cpu"),
        threads=1,
        out=Path("runs/demo"),
    )


def test_a_plan_comes_back_as_it_was() -> None:
    plan = plan_of(FineTune(PLAIN), Independent(PLAIN))
    found = unpacked(packed(plan))
    assert replace(found, strategies={}) == replace(plan, strategies={})
    assert list(found.strategies) == ["finetune", "independent"]
    assert found.strategies["finetune"].backbone == PLAIN
    assert found.training_of("finetune").lr == 0.5
    assert found.training_of("independent") == TRAINING


def test_what_has_no_bytes_is_refused_with_its_name() -> None:
    with pytest.raises(ConfigError) as caught:
        packed(plan_of(FineTune(PLAIN), Independent(lambda shape, n_classes: PLAIN(shape, n_classes))))
    assert str(caught.value).startswith(
        "strategies: required what can be sent to another process, found in 'independent' "
    )
    assert str(caught.value).endswith("; make the backbone a function that stands in a module, or use jobs=1.")


def test_code_that_the_worker_lacks_is_named() -> None:
    content = pickle.dumps(FineTune(PLAIN)).replace(b"prognet.strategies.finetune", b"prognet.strategies.absently")
    with pytest.raises(ConfigError, match="found ModuleNotFoundError: No module named 'prognet.strategies.absently'"):
        unpacked(content)


def counted(made: list[int], order: int) -> Stream:
    made.append(order)
    return blobs((2, 3), seed=order)


def test_a_stream_lies_there_as_long_as_a_unit_needs_it(tmp_path: Path) -> None:
    made: list[int] = []
    units = [Unit(name, order, (0, 1), 4) for order in (0, 1) for name in ("finetune", "independent")]
    files = StreamFiles(tmp_path, Streams(partial(counted, made)), units)
    first, again = files.of(units[0]), files.of(units[1])
    assert first == again == [tmp_path / "0"] * 2
    assert made == [0]
    assert stream_in(first[0]).digest == blobs((2, 3), seed=0).digest
    assert stream_in(first[0]) is stream_in(first[1])
    files.released(units[0])
    assert first[0].exists()
    files.released(units[1])
    assert not first[0].exists()
    assert files.of(units[2]) == [tmp_path / "1"] * 2
    assert made == [0, 1]
