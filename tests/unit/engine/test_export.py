"""One column as a program: the same outputs without prognet, and nothing in the file that it does not need."""

import json
import re
import sys
import zipfile
from collections.abc import Callable, Sequence
from functools import cache
from io import BytesIO
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import torch
from torch import Tensor, nn

from prognet.engine import LinearAdapter, ProgressiveNetwork
from prognet.engine.evidence import reproducible
from prognet.errors import ConfigError, ExportError
from tests.helpers import zoo
from tests.helpers.asserts import assert_generator_untouched, assert_network_unchanged

TOLERANCE = 1e-5
"""For ONNX, absolute, at outputs of about 1 in single precision; another runtime adds in another order."""
BATCHES = (64, 1, 2, 7, 130)
USUAL = (zoo.MLP, zoo.LENET)
"""Dense and convolutional networks; token, recurrent and normalised ones take their time."""


def kinds(quick: Sequence[zoo.Kind], others: Sequence[zoo.Kind] = zoo.ZOO) -> pytest.MarkDecorator:
    """Parametrises a test over `quick`, and over the others as a slow test."""
    slow = [pytest.param(kind, id=kind.name, marks=pytest.mark.slow) for kind in others if kind not in quick]
    return pytest.mark.parametrize("kind", [*(pytest.param(kind, id=kind.name) for kind in quick), *slow])


def network(kind: zoo.Kind) -> ProgressiveNetwork:
    """Column 3 reads 2 and 0, and 2 reads 0; nothing reads 1. Statistics are learned."""
    net = ProgressiveNetwork(zoo.RANDOM)
    for k, sources in enumerate(([], [], [0], [2, 0])):
        net.add_column(kind.build(2 + k, k), kind.example(), sources=sources)
        net.train()(kind.example(seed=k), k)
    return net


@cache
def exported(kind: zoo.Kind) -> tuple[ProgressiveNetwork, bytes]:
    """A network, all of it frozen, and the content of the file of column 3."""
    net = network(kind)
    net.freeze()
    with TemporaryDirectory() as folder:
        return net, net.export(3, Path(folder) / "task.pt2").read_bytes()


def said(net: ProgressiveNetwork, column: int, x: Tensor) -> Tensor:
    """What the column says in evaluation mode, as it is said in an exported program: without fused attention."""
    with reproducible(x.device):
        y: Tensor = net.eval()(x, column)
    return y


def program(path: Path) -> nn.Module:
    return torch.export.load(path).module()


@kinds(USUAL)
def test_an_exported_program_says_the_same_bits(kind: zoo.Kind) -> None:
    net, content = exported(kind)
    module = torch.export.load(BytesIO(content)).module()
    for batch in BATCHES:
        x = kind.example(batch, seed=batch)
        with torch.no_grad():
            assert torch.equal(module(x), said(net, 3, x)), batch


@kinds([zoo.MLP], [zoo.MLP_NORM, zoo.LENET, zoo.RESNET, zoo.TRANSFORMER, zoo.RECURRENT])
def test_an_onnx_program_says_the_same_within_the_tolerance(kind: zoo.Kind, tmp_path: Path) -> None:
    for name in ("onnx", "onnxscript"):
        pytest.importorskip(name)
    runtime = pytest.importorskip("onnxruntime")
    net = network(kind)
    net.freeze()
    net.export(3, str(tmp_path / "task.onnx"))
    session = runtime.InferenceSession(tmp_path / "task.onnx", providers=["CPUExecutionProvider"])
    (given,), (returned,) = session.get_inputs(), session.get_outputs()
    assert (given.name, returned.name) == ("input", "output")
    assert given.shape[1:] == list(kind.input_shape)
    for batch in BATCHES:
        x = kind.example(batch, seed=batch)
        (found,) = session.run(None, {"input": x.numpy()})
        required = said(net, 3, x)
        assert found.shape == tuple(required.shape)
        assert (torch.from_numpy(found) - required).abs().max() < TOLERANCE


@kinds(USUAL)
def test_a_program_holds_what_the_column_needs_and_no_more(kind: zoo.Kind) -> None:
    """Each tensor in it moves the output, and all that it leaves out does not."""
    net, content = exported(kind)
    program = torch.export.load(BytesIO(content))
    kept = {*program.state_dict, *program.constants}
    alone, x = net.extract(3).eval(), kind.example()
    before = said(alone, 2, x)
    tensors = {f"network.{name}": tensor for name, tensor in [*alone.named_parameters(), *alone.named_buffers()]}
    assert kept < set(tensors)
    for name, tensor in tensors.items():
        own = tensor.detach().clone()
        tensor.data.add_(torch.linspace(0.5, 1.5, tensor.numel()).view_as(tensor).to(tensor.dtype))
        after = said(alone, 2, x)
        tensor.data.copy_(own)
        if not torch.equal(after, before):
            assert name in kept, name
        elif name in kept:
            assert re.search(r"key|in_proj_bias", name), name  # a bias of all keys moves no attention
    sources = [alone.column(k).sites[-1].name for k in range(2)]
    assert not [
        name for name in kept for k in range(2) if name.startswith(f"network.columns.{k}.backbone.{sources[k]}")
    ]


def test_the_file_holds_no_number_of_a_column_that_is_not_read() -> None:
    """Column 1 of the network is in no closure."""
    net, content = exported(zoo.MLP)
    unread = net.column(1).backbone.get_parameter("0.weight").detach().numpy().tobytes()
    read = net.column(2).backbone.get_parameter("0.weight").detach().numpy().tobytes()
    with zipfile.ZipFile(BytesIO(content)) as archive:
        contents = [archive.read(name) for name in archive.namelist()]
    assert any(read in part for part in contents)
    assert not any(unread in part for part in contents)


def test_a_column_without_sources_is_its_backbone(tmp_path: Path) -> None:
    net, x = network(zoo.LENET), zoo.LENET.example()
    net.export(1, tmp_path / "task.pt2")
    exported = torch.export.load(tmp_path / "task.pt2")
    assert len(exported.state_dict) == len(list(net.column(1).backbone.parameters()))
    with torch.no_grad():
        assert torch.equal(exported.module()(x), net.column(1).backbone(x))


def test_exporting_changes_nothing(tmp_path: Path) -> None:
    net = network(zoo.MLP_NORM).train()
    assert_generator_untouched(lambda: assert_network_unchanged(net, lambda: net.export(3, tmp_path / "task.pt2")))
    assert not net.column(3).frozen
    assert torch.backends.mha.get_fastpath_enabled()
    assert [path.name for path in tmp_path.iterdir()] == ["task.pt2"]


def test_double_precision_and_inputs_of_another_type(tmp_path: Path) -> None:
    net = ProgressiveNetwork(LinearAdapter(zero_init=False))
    wide = zoo.MLP.example().double()
    for k in range(2):
        net.add_column(zoo.MLP.build(3, k).double(), wide)
    net.export(1, tmp_path / "double.pt2")
    with torch.no_grad():
        assert torch.equal(program(tmp_path / "double.pt2")(wide), said(net, 1, wide))
    words = ProgressiveNetwork(zoo.RANDOM)
    ids = torch.arange(12).view(4, 3)
    for k in range(2):
        torch.manual_seed(k)
        words.add_column(nn.Sequential(nn.Embedding(12, 5), nn.Flatten(), nn.Linear(15, 6), nn.Linear(6, 3)), ids)
    words.export(1, tmp_path / "words.pt2", example=ids)
    with torch.no_grad():
        assert torch.equal(program(tmp_path / "words.pt2")(ids[:3]), said(words, 1, ids[:3]))


class Branching(nn.Module):
    """A network whose path depends on its data."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(6, 4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        return self.last(h if h.sum() > 0 else -h)  # type: ignore[no-any-return]


@pytest.mark.parametrize(
    ("action", "message"),
    [
        (lambda net, path: net.export(2, path / "a.pt2"), "column: required an index from 0 to 1, found 2"),
        (lambda net, path: net.export(1, path / "a.pt"), "path: required a file that ends in one of ['.onnx', '.pt2']"),
        (lambda net, path: net.export(1, path / "a"), "found 'a'."),
    ],
)
def test_wrong_arguments_are_refused(
    action: Callable[[ProgressiveNetwork, Path], object], message: str, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=re.escape(message)):
        action(zoo.network(zoo.MLP, 2), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_cannot_be_traced_is_refused(tmp_path: Path) -> None:
    net = ProgressiveNetwork()
    net.add_column(Branching(), zoo.MLP.example())
    with pytest.raises(
        ExportError, match=r"column: required operations that \.pt2 can express for every batch size, f"
    ):
        net.export(0, tmp_path / "task.pt2")
    assert list(tmp_path.iterdir()) == []


def test_missing_packages_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(ExportError, match=re.escape("pip install 'prognet[onnx]'.")):
        zoo.network(zoo.MLP, 1).export(0, tmp_path / "task.onnx")


def test_the_program_has_no_trace_of_prognet() -> None:
    """It is loaded by torch alone: every operation is one of torch's own."""
    _, content = exported(zoo.MLP)
    with zipfile.ZipFile(BytesIO(content)) as archive:
        (model,) = [name for name in archive.namelist() if name.endswith("models/model.json")]
        graph = json.loads(archive.read(model))["graph_module"]["graph"]
    assert {node["target"].split(".")[0] for node in graph["nodes"]} <= {"torch", "_operator"}
