"""Augmentation of a whole batch on the device; every image has a draw of its own, from torch's generator there."""

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from prognet.config import Augmentation


def augmented(x: Tensor, names: Sequence[Augmentation]) -> Tensor:
    """Images (B, C, H, W) of any type -> images of the same shape and type, changed as `names` say, in that order."""
    for name in names:
        x = _AUGMENTATIONS[name](x)
    return x


def _flip(x: Tensor) -> Tensor:
    """Every image mirrored from left to right with probability 1/2."""
    chosen = torch.rand(len(x), device=x.device) < 0.5  # (B,)
    return torch.where(chosen.view(-1, 1, 1, 1), x.flip(-1), x)


def _crop(x: Tensor) -> Tensor:
    """Every image shifted by up to an eighth of its height and width, with zeros where nothing is left."""
    n, _, height, width = x.shape
    down, right = height // 8, width // 8
    padded = functional.pad(x, [right, right, down, down])
    rows = torch.randint(2 * down + 1, (n, 1), device=x.device) + torch.arange(height, device=x.device)  # (B, H)
    columns = torch.randint(2 * right + 1, (n, 1), device=x.device) + torch.arange(width, device=x.device)  # (B, W)
    images = torch.arange(n, device=x.device).view(-1, 1, 1)
    return padded.movedim(1, -1)[images, rows.unsqueeze(2), columns.unsqueeze(1)].movedim(-1, 1)


_AUGMENTATIONS: Mapping[Augmentation, Callable[[Tensor], Tensor]] = {"flip": _flip, "crop": _crop}
