"""Domain-incremental tasks out of one data set: every task has all classes and its own view of the pixels."""

from math import cos, radians, sin

import torch
from torch import Tensor
from torch.nn import functional

from prognet.streams.parts import Dataset, Order, Settings, check_n_tasks, generator, make_task, ordered
from prognet.streams.task import Samples, Task

_CHUNK = 4096  # images rotated at once, a bound on the memory of their float copies


def permuted(data: Dataset, n_tasks: int, settings: Settings) -> tuple[Task, ...]:
    """Tasks that see the pixels in an order of their own (Goodfellow et al. 2013; Kirkpatrick et al. 2017).

    Task 0 sees them as they are; every further task has a permutation seeded by (seed, task).

    Raises:
        ConfigError: when `n_tasks` is below 1.
    """
    check_n_tasks(n_tasks)
    n_pixels = data.train.x[0, 0].numel()
    natural = torch.arange(n_pixels)
    permutations = [
        torch.randperm(n_pixels, generator=generator(settings.seed, label, "permutation")) if label else natural
        for label in range(n_tasks)
    ]
    return tuple(
        make_task(
            label,
            f"permuted {label}",
            data.classes,
            Samples(permute_pixels(data.train.x, permutation), data.train.y),
            Samples(permute_pixels(data.test.x, permutation), data.test.y),
            settings,
            data.normalisation,
        )
        for label, permutation in enumerate(permutations)
    )


def rotated(data: Dataset, n_tasks: int, settings: Settings, task_order: Order = "seeded") -> tuple[Task, ...]:
    """Tasks that see the images turned by an angle of their own.

    The angles are spread evenly over the half circle, `180 * k / n_tasks` degrees for k = 0 .. n_tasks - 1: the range
    of GEM (Lopez-Paz and Ranzato 2017) without chance in the distances.

    Args:
        data: the data set.
        n_tasks: number of tasks.
        settings: seed, validation and heads.
        task_order: the angles in an order seeded by `settings.seed`, or ascending.

    Raises:
        ConfigError: when `n_tasks` or `task_order` cannot be carried out.
    """
    check_n_tasks(n_tasks)
    angles = [180 * k / n_tasks for k in ordered(n_tasks, task_order, "task_order", settings.seed, "task order")]
    return tuple(
        make_task(
            label,
            f"rotated {angle:.4g}",
            data.classes,
            Samples(rotate(data.train.x, angle), data.train.y),
            Samples(rotate(data.test.x, angle), data.test.y),
            settings,
            data.normalisation,
        )
        for label, angle in enumerate(angles)
    )


def permute_pixels(x: Tensor, permutation: Tensor) -> Tensor:
    """Images (N, C, H, W) with pixel `permutation[i]` at place i, (H * W,), the same in every channel and image."""
    return x.flatten(2)[:, :, permutation].view_as(x)


def rotate(x: Tensor, degrees: float) -> Tensor:
    """Images (N, C, H, W) turned counter-clockwise about their centre; same shape and type.

    Bilinear, with zeros beyond the border; bytes are rounded to the nearest. No turn leaves every bit as it is.
    """
    if degrees == 0 or not len(x):
        return x.clone()
    return torch.cat([_rotate(chunk, degrees) for chunk in torch.split(x, _CHUNK)])


def _rotate(x: Tensor, degrees: float) -> Tensor:
    height, width = x.shape[2:]
    c, s = cos(radians(degrees)), sin(radians(degrees))
    # grid_sample asks for each output pixel where it comes from, with both axes scaled to [-1, 1]
    inverse = torch.tensor([[[c, -s * height / width, 0.0], [s * width / height, c, 0.0]]])  # (1, 2, 3)
    grid = functional.affine_grid(inverse, [1, 1, height, width], align_corners=False)  # (1, H, W, 2)
    stacked = x.reshape(1, -1, height, width).to(torch.float32)  # all images as channels of one: one grid serves all
    turned = functional.grid_sample(stacked, grid, mode="bilinear", padding_mode="zeros", align_corners=False)
    if x.dtype == torch.uint8:
        turned = turned.round().clamp(0, 255)
    return turned.view_as(x).to(x.dtype)
