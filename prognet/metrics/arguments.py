"""What every metric asks of its arguments, checked once and copied, so that no metric can change its input."""

from numbers import Integral

import numpy as np
from numpy.typing import ArrayLike, NDArray

from prognet.errors import ConfigError
from prognet.results import Floats


def accuracy_matrix(R: ArrayLike, name: str = "R") -> Floats:
    """A checked copy of an accuracy matrix (steps, T).

    Raises:
        ConfigError: when it has another number of dimensions, no cell, or a value that is neither in [0, 1] nor NaN.
    """
    return _fractions(R, name, ("steps", "T"))


def accuracy_vector(values: ArrayLike, name: str, length: int | None = None) -> Floats:
    """A checked copy of one accuracy for each of `length` tasks (or any number of them).

    Raises:
        ConfigError: when the shape differs, it is empty, or a value is neither in [0, 1] nor NaN.
    """
    vector = _fractions(values, name, ("T" if length is None else str(length),))
    if length is not None and len(vector) != length:
        raise ConfigError(f"{name}: required {length} values, one for each task of R, found {len(vector)}.")
    return vector


def accuracy_value(value: float, name: str) -> float:
    """One checked accuracy, or area under a curve of accuracies.

    Raises:
        ConfigError: when it is neither in [0, 1] nor NaN.
    """
    return float(_fractions(value, name, ()))


def same_tasks(R: Floats, other: Floats, name: str) -> None:
    """Requires that two matrices are about equally many tasks.

    Raises:
        ConfigError: when they are not.
    """
    if R.shape[1] != other.shape[1]:
        raise ConfigError(
            f"{name}: required the {R.shape[1]} tasks of R, found {other.shape[1]}; compare runs on one stream."
        )


def learning_steps(R: Floats) -> NDArray[np.int64]:
    """For each task the first row of R with a value, (T,); the number of rows for a task that was never learned."""
    measured = ~np.isnan(R)
    return np.where(measured.any(axis=0), measured.argmax(axis=0), len(R)).astype(np.int64)


def mean(values: Floats) -> float:
    """The mean; NaN when there is no value or one of them is NaN."""
    return float(values.mean()) if values.size else float("nan")


def learning_curve(updates: ArrayLike, accuracy: ArrayLike) -> tuple[NDArray[np.int64], Floats]:
    """A checked copy of a learning curve: n strictly increasing numbers of updates and n accuracies.

    Raises:
        ConfigError: when it is no such curve.
    """
    values = accuracy_vector(accuracy, "accuracy")
    counts = np.array(updates, dtype=object)
    if counts.ndim != 1 or any(not isinstance(count, Integral) for count in counts):
        raise ConfigError(f"updates: required a sequence of whole numbers, found {updates!r}.")
    if len(counts) != len(values):
        raise ConfigError(f"updates: required one for each of the {len(values)} accuracies, found {len(counts)}.")
    if counts[0] < 0 or np.any(np.diff(counts) <= 0):
        raise ConfigError(f"updates: required strictly increasing numbers from 0 on, found {counts.tolist()}.")
    return counts.astype(np.int64), values


def _fractions(values: ArrayLike, name: str, axes: tuple[str, ...]) -> Floats:
    wanted = f"shape ({', '.join(axes)})" if axes else "one number"
    try:
        array = np.array(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{name}: required numbers of {wanted}, found {values!r} ({error}).") from error
    if array.ndim != len(axes) or array.size == 0:
        raise ConfigError(f"{name}: required {wanted} with at least one value, found shape {array.shape}.")
    wrong = ~(np.isnan(array) | ((array >= 0) & (array <= 1)))
    if wrong.any():
        raise ConfigError(
            f"{name}: required fractions in [0, 1] or NaN, found {array[wrong][0]}; divide percentages by 100, and do "
            "not pass a loss."
        )
    return array
