"""What every backbone checks before it builds."""

from collections.abc import Sequence
from math import isfinite, prod

from prognet.errors import ConfigError


def require_whole(argument: str, value: object, least: int = 1) -> None:
    """Raises ConfigError unless `value` is a whole number, at least `least`."""
    if not isinstance(value, int) or isinstance(value, bool) or value < least:
        raise ConfigError(f"{argument}: required a whole number, at least {least}, found {value!r}.")


def require_units(argument: str, values: object) -> None:
    """Raises ConfigError unless `values` are numbers of units, one at least: one for each hidden layer."""
    if not isinstance(values, Sequence) or isinstance(values, str | bytes):
        raise ConfigError(f"{argument}: required a sequence of whole numbers, e.g. (64,), found {values!r}.")
    if not values:
        raise ConfigError(f"{argument}: required the units of at least one hidden layer, found none; give e.g. (64,).")
    for value in values:
        require_whole(argument, value)


def require_rate(argument: str, value: object) -> None:
    """Raises ConfigError unless `value` is a dropout rate in [0, 1)."""
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < 1:
        raise ConfigError(f"{argument}: required a number in [0, 1), found {value!r}.")


def features_of(input_shape: Sequence[int], n_classes: int) -> int:
    """The number of values in one sample of any shape.

    Raises:
        ConfigError: when the shape is empty or not made of sizes, or `n_classes` is no number of classes.
    """
    require_whole("n_classes", n_classes)
    if not input_shape:
        raise ConfigError("input_shape: required the shape of one sample, found (); give e.g. (64,) or (1, 28, 28).")
    for size in input_shape:
        require_whole("input_shape", size)
    return prod(input_shape)


def image_of(input_shape: Sequence[int], n_classes: int, smallest: int) -> tuple[int, int, int]:
    """The (channels, height, width) of one sample that is an image.

    Args:
        input_shape: shape of one sample, channels first.
        n_classes: number of classes.
        smallest: the least height and width, in pixels.

    Raises:
        ConfigError: when a sample is not an image, or a side is smaller than that.
    """
    features_of(input_shape, n_classes)
    if len(input_shape) != 3:
        raise ConfigError(
            f"input_shape: required an image (channels, height, width), found {tuple(input_shape)}; reshape the "
            "samples, or use prognet.backbones.mlp, which takes any shape."
        )
    channels, height, width = input_shape
    if min(height, width) < smallest:
        raise ConfigError(
            f"input_shape: required sides of at least {smallest} pixels, found {height} x {width}; enlarge the images, "
            "or use a backbone that shrinks them less."
        )
    return channels, height, width


def scaled(units: int, width: float) -> int:
    """`units` times `width`, rounded, and at least 1.

    Raises:
        ConfigError: when `width` is not a finite number above 0.
    """
    if not (isfinite(width) and width > 0):
        raise ConfigError(f"width: required a finite number above 0, found {width!r}.")
    return max(1, round(units * width))
