"""What a run must be, checked before any work starts."""

import re
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy

from prognet.backbones import describe_backbone
from prognet.config import Training
from prognet.errors import ConfigError
from prognet.files import shown
from prognet.strategies import Strategy
from prognet.streams.schedules import Schedule, cumulative, joint, sequential
from prognet.streams.stream import Stream

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_LONGEST_NAME = 100

SCHEDULES: Mapping[str, Callable[[int], Schedule]] = {
    "sequential": sequential,
    "joint": joint,
    "cumulative": cumulative,
}
"""The steps over a number of tasks, by the name that a strategy gives to its schedule."""


def check_request(strategy: object, stream: Stream, training: Training, seed: object) -> None:
    """Refuses what cannot be run.

    Raises:
        ConfigError: when the strategy is none, or has learned before, when early stopping has nothing to look at, when
            there are no images to augment, when the seed is no whole number, or when the strategy cannot learn these
            tasks as it was asked to.
    """
    _check_strategy(strategy)
    _check_validation(stream, training)
    _check_images(stream, training)
    if not isinstance(seed, int) or isinstance(seed, bool) or seed < 0:
        raise ConfigError(f"seed: required a whole number, at least 0, found {seed!r}.")
    if isinstance(strategy, Strategy):
        deepcopy(strategy).prepare([task.outline() for task in stream])


def _check_images(stream: Stream, training: Training) -> None:
    for task in stream:
        if training.augment and len(task.input_shape) != 3:
            raise ConfigError(
                f"augment: required images (C, H, W), found inputs {task.input_shape} in task {task.label} "
                f"({task.name!r}); leave it out."
            )


def check_comparable(strategies: Sequence[Strategy]) -> None:
    """Checks the strategies of a comparison.

    Raises:
        ConfigError: when there is none, one is no strategy, a name occurs twice, or their backbones are not the same.
    """
    for strategy in strategies:
        _check_strategy(strategy)
    names = [strategy.name for strategy in strategies]
    require_distinct("strategies", names)
    backbones = [describe_backbone(strategy.backbone) for strategy in strategies]
    for name, backbone in zip(names, backbones, strict=True):
        if backbone != backbones[0]:
            raise ConfigError(f"strategies: required one backbone, found {backbone} in {name!r}, not {backbones[0]}.")


def require_distinct(argument: str, values: Sequence[object]) -> None:
    """Raises ConfigError unless there is a value, and none of them twice."""
    if not values or len(set(values)) != len(values):
        raise ConfigError(f"{argument}: required at least one, and none of them twice, found {list(values)}.")


def _check_strategy(strategy: object) -> None:
    if not isinstance(strategy, Strategy):
        raise ConfigError(f"strategy: required a Strategy, found a {type(strategy).__name__}.")
    name: object = strategy.name
    if not isinstance(name, str) or not _NAME.fullmatch(name) or len(name) > _LONGEST_NAME:
        raise ConfigError(
            f"strategy.name: required letters, digits, '.', '-' and '_', beginning with a letter or digit, found "
            f"{shown(name)}; it names a folder, with {_LONGEST_NAME} characters at most."
        )
    if strategy.schedule not in SCHEDULES:
        raise ConfigError(f"strategy.schedule: required one of {sorted(SCHEDULES)}, found {strategy.schedule!r}.")
    if strategy.records:
        raise ConfigError(
            f"strategy: required one that has learned nothing, found {strategy.name!r} after {len(strategy.records)} "
            "trainings; make a new one for every run."
        )


def _check_validation(stream: Stream, training: Training) -> None:
    if training.patience is None:
        return
    for task in stream:
        if not len(task.val):
            raise ConfigError(
                f"patience: required a validation split in every task, found none in task {task.label} "
                f"({task.name!r}); make the stream with one, or leave patience out to train for all epochs."
            )


def schedule_of(strategy: Strategy, stream: Stream) -> Schedule:
    """The steps in which a strategy learns a stream."""
    return SCHEDULES[strategy.schedule](len(stream))
