"""Weights from a file of one's own, for networks of other libraries; nothing is ever downloaded or unpickled."""

from collections.abc import Mapping
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load as load_tensors
from torch import Tensor, nn

from prognet.errors import CheckpointError


def load_weights(network: nn.Module, path: str, n_classes: int) -> None:
    """Fills a network with the tensors of a safetensors file; nothing is changed unless everything fits.

    An output layer for another number of classes keeps its fresh parameters: tensors that differ in their first
    dimension alone, which is `n_classes` in the network.

    Args:
        network: the network, with the names of the file in its `state_dict`.
        path: the file.
        n_classes: the number of logits of the network.

    Raises:
        CheckpointError: when the file is missing or damaged, or a name or shape does not fit.
    """
    saved, own = _read(Path(path)), network.state_dict()
    if saved.keys() != own.keys():
        missing, extra = sorted(own.keys() - saved.keys()), sorted(saved.keys() - own.keys())
        raise CheckpointError(
            f"weights: required the tensors of the network in {path}, found missing {missing[:3]}, unexpected "
            f"{extra[:3]}; save the state_dict of the same model with the same options."
        )
    fresh = {name for name in own if _is_other_head(own[name], saved[name], n_classes)}
    fitting = {name: tensor for name, tensor in saved.items() if name not in fresh}
    _check_shapes(path, own, fitting)
    network.load_state_dict(fitting, strict=False)


def _read(path: Path) -> dict[str, Tensor]:
    try:
        return load_tensors(path.read_bytes())
    except OSError as error:
        raise CheckpointError(f"weights: required a file that can be read, found {error}.") from error
    except SafetensorError as error:
        raise CheckpointError(
            f"weights: required a safetensors file, found another or a damaged one at {path} ({error}); write one with "
            "safetensors.torch.save_file(network.state_dict(), ...)."
        ) from error


def _is_other_head(own: Tensor, saved: Tensor, n_classes: int) -> bool:
    same_rank = own.ndim == saved.ndim > 0 and own.shape[1:] == saved.shape[1:]
    return same_rank and own.shape[0] == n_classes != saved.shape[0]


def _check_shapes(path: str, own: Mapping[str, Tensor], saved: Mapping[str, Tensor]) -> None:
    for name, tensor in saved.items():
        if tensor.shape != own[name].shape:
            raise CheckpointError(
                f"weights: required {tuple(own[name].shape)} for {name!r}, found {tuple(tensor.shape)} in {path}; they "
                "belong to other options, or to images of another size or number of channels."
            )
