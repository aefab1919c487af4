"""One column as a program that needs no prognet: through torch.export, as `.pt2`, or as ONNX.

Tracing runs the hooks of the sites like any Python, so the program has the laterals as plain operations. It is traced
twice: after the first time everything that the output does not depend on is dropped, such as the output layers of
source columns, and with it its parameters.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any
from warnings import catch_warnings, filterwarnings

import torch
from torch import Tensor, nn

from prognet.engine.evidence import reproducible
from prognet.errors import ConfigError, ExportError
from prognet.files import write_atomically

if TYPE_CHECKING:
    from torch.export import ExportedProgram


class TaskFunction(nn.Module):
    """One column of a network as a module from one tensor to one tensor."""

    def __init__(self, network: nn.Module, column: int) -> None:
        super().__init__()
        self.network, self.column = network, column

    def forward(self, x: Tensor) -> Tensor:
        """Input (B, *input_shape) -> output (B, *output_shape)."""
        y: Tensor = self.network(x, self.column)
        return y


def export_column(network: nn.Module, column: int, path: Path, example: Tensor | None) -> Path:
    """Writes the function of a column of a network in evaluation mode, on the CPU.

    Args:
        network: a progressive network.
        column: the index of the column.
        path: the file; its ending says which form.
        example: an input batch of at least two; None for one of the parameters' type.

    Raises:
        ConfigError: when the ending is not known.
        ExportError: when the column cannot be expressed in that form, or packages are missing.
    """
    if path.suffix not in _FORMS:
        raise ConfigError(f"path: required a file that ends in one of {sorted(_FORMS)}, found {path.name!r}.")
    x = _example(network, column) if example is None else example.detach().cpu()
    with _quiet(), reproducible(x.device):
        try:
            content = _FORMS[path.suffix](_pruned(_traced(TaskFunction(network, column).eval(), x), x), x)
        except ImportError as error:
            raise ExportError(
                f"path: required the packages for {path.suffix}, found {error}; pip install 'prognet[onnx]'."
            ) from error
        except Exception as error:  # whatever the two exporters raise
            raise ExportError(
                f"column: required operations that {path.suffix} can express for every batch size, found "
                f"{type(error).__name__}: {error}"
            ) from error
    write_atomically(path, content)
    return path


def _traced(module: nn.Module, x: Tensor) -> "ExportedProgram":
    from torch.export import Dim, export

    return export(module, (x,), dynamic_shapes=({0: Dim("batch")},))


def _pruned(program: "ExportedProgram", x: Tensor) -> "ExportedProgram":
    """The same program without parameters and buffers that its output does not depend on."""
    module = program.module()
    module.graph.eliminate_dead_code()
    used = {node.target for node in module.graph.nodes if node.op == "get_attr"}
    own = [*module.named_parameters(remove_duplicate=False), *module.named_buffers(remove_duplicate=False)]
    for name in [name for name, _ in own if name not in used]:
        place, _, leaf = name.rpartition(".")
        delattr(module.get_submodule(place), leaf)
    module.recompile()
    return _traced(module, x)


def _to_pt2(program: "ExportedProgram", x: Tensor) -> bytes:
    from torch.export import save

    content = BytesIO()
    save(program, content)
    return content.getvalue()


def _to_onnx(program: "ExportedProgram", x: Tensor) -> bytes:
    import onnx  # noqa: F401  # torch would ask for it later, and less clearly
    import onnxscript  # noqa: F401

    written: Any = torch.onnx.export(
        program, (x,), dynamo=True, verbose=False, input_names=["input"], output_names=["output"]
    )
    content: bytes = written.model_proto.SerializeToString()
    return content


_FORMS = MappingProxyType[str, Callable[["ExportedProgram", Tensor], bytes]]({".pt2": _to_pt2, ".onnx": _to_onnx})


def _example(network: nn.Module, column: int) -> Tensor:
    shape: Any = network.get_submodule(f"columns.{column}").input_shape
    dtype = next((p.dtype for p in network.parameters() if p.is_floating_point()), torch.get_default_dtype())
    return torch.zeros(2, *shape, dtype=dtype)


@contextmanager
def _quiet() -> Iterator[None]:
    """Without the warnings of the exporters about themselves, and about the flat weights of recurrent layers."""
    with catch_warnings():
        filterwarnings("ignore", message="The tensor attributes? .* assigned during export")
        filterwarnings("ignore", category=DeprecationWarning)
        filterwarnings("ignore", category=FutureWarning)
        yield
