"""MultiMNIST: two digits in one image, of which one task names the left and another one the right.

Both tasks see the same images, with other labels: the classic case of tasks that compete for a shared network (Sabour
et al. 2017; as here, Sener and Koltun 2018). A digit lies at the top left of a canvas, another one 2 / 7 of its side
further down and to the right; of both the brighter one is seen at every pixel, and the canvas is brought back to the
size of one digit. Both digits of a pair are drawn from all of their split, each image once on the left and once on the
right at the most; both tasks hold out the same images. A *draw* decides the pairs, of the test split as well, so that
several draws show how much a result owes to them.
"""

from pathlib import Path

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from prognet.errors import ConfigError
from prognet.streams.digits import read_digits
from prognet.streams.parts import Dataset, Settings, generator, make_task, select, stratified
from prognet.streams.stream import Stream
from prognet.streams.task import Samples
from prognet.streams.torchvision_data import read_dataset

NAMES = ("left", "right")
_CHUNK = 4096  # canvases brought to size at once, a bound on the memory of their float copies


def multi_mnist(
    *,
    root: str | Path | None = None,
    download: bool = False,
    train: int | None = None,
    test: int | None = None,
    seed: int = 0,
    draw: int = 0,
    validation: float = 0.1,
) -> Stream:
    """Pairs of MNIST's digits, (1, 28, 28) in bytes, the second one 8 pixels further down and to the right.

    Args:
        root: the folder that holds `MNIST/raw`.
        download: whether torchvision may fetch missing files into `root`.
        train: pairs for training and validation; None for one for every training image.
        test: pairs for testing; None for one for every test image.
        seed: seed of the validation split.
        draw: seed of the pairs.
        validation: fraction of each task's training samples that is held out.

    Raises:
        MissingDataError: when the data are not there.
        ConfigError: when an argument is out of its range.
        StreamError: when the files are damaged.
    """
    data = read_dataset("MNIST", root, download)
    return _stream("multi-mnist", data, train, test, draw, Settings(seed=seed, validation=validation))


def multi_digits(
    *, train: int | None = None, test: int | None = None, seed: int = 0, draw: int = 0, validation: float = 0.1
) -> Stream:
    """Pairs of scikit-learn's digits, (1, 8, 8), the second one 2 pixels further down and to the right; embedded.

    Arguments and errors are those of `multi_mnist`.
    """
    return _stream("multi-digits", read_digits(), train, test, draw, Settings(seed=seed, validation=validation))


def overlaid(x: Tensor, left: Tensor, right: Tensor) -> Tensor:
    """Pairs of images in one image each.

    Args:
        x: images (N, C, H, W), bytes or floats.
        left: the images (M,) at the top left, as positions in `x`.
        right: those at the bottom right, 2 / 7 of H and W away (M,).

    Returns:
        (M, C, H, W), of the type of `x`.
    """
    pairs = zip(torch.split(left, _CHUNK), torch.split(right, _CHUNK), strict=True)
    return torch.cat([_overlaid(x[i], x[j]) for i, j in pairs])


def _overlaid(left: Tensor, right: Tensor) -> Tensor:
    n, channels, height, width = left.shape
    down, across = round(2 * height / 7), round(2 * width / 7)
    canvas = left.new_zeros(n, channels, height + down, width + across)
    canvas[..., :height, :width] = left
    canvas[..., down:, across:] = torch.maximum(canvas[..., down:, across:], right)
    small = interpolate(canvas.float(), size=(height, width), mode="bilinear", antialias=True)
    return small if left.dtype.is_floating_point else small.round().clamp(0, 255).to(left.dtype)


def _stream(name: str, data: Dataset, train: int | None, test: int | None, draw: int, settings: Settings) -> Stream:
    if type(draw) is not int:
        raise ConfigError(f"draw: required a whole number, found {draw!r}; give for instance 0.")
    trained, tested = _pairs("train", data.train, train, draw), _pairs("test", data.test, test, draw)
    # no image is learned from by one task and held out by the other
    kept, held = stratified(trained[0].y, settings.validation, generator(settings.seed, "validation"))
    tasks = [
        make_task(
            label,
            side,
            data.classes,
            select(trained[label], kept),
            tested[label],
            settings,
            data.normalisation,
            val=select(trained[label], held),
        )
        for label, side in enumerate(NAMES)
    ]
    arguments = {"train": train, "test": test, "validation": settings.validation}
    return Stream(tasks, name=name, heads=settings.heads, seed=settings.seed, draw=draw, arguments=arguments)


def _pairs(split: str, samples: Samples, count: int | None, draw: int) -> tuple[Samples, Samples]:
    """The same images twice, with the labels of the left digits and with those of the right ones."""
    most = len(samples)
    if count is not None and (type(count) is not int or not 1 <= count <= most):
        raise ConfigError(f"{split}: required 1 to {most} pairs, or None, found {count!r}; ask for fewer.")
    random = generator(draw, split)
    left, right = (torch.randperm(most, generator=random)[:count] for _ in NAMES)
    x = overlaid(samples.x, left, right)
    return Samples(x, samples.y[left]), Samples(x, samples.y[right])
