"""A strategy as a stored run left it, but for its numbers."""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from typing import Any

from prognet.strategies import Strategy
from prognet.streams.schedules import Schedule
from prognet.streams.task import Task
from prognet.training import Session


def rebuild(
    strategy: Strategy,
    tasks: Sequence[Task],
    steps: Schedule,
    session: Session,
    choices: Sequence[Mapping[str, Any]] = (),
) -> Strategy:
    """A strategy with everything that it builds in `steps`, untrained: ready for the tensors of a stored run.

    Args:
        strategy: one that has learned nothing; a copy is returned.
        tasks: the tasks of the stream, or their outlines.
        steps: the steps of the schedule that were finished.
        session: the settings of the run.
        choices: what the strategy decided from data at each of the steps; without, it decides from no data.
    """
    learner = deepcopy(strategy)
    learner.prepare([task.outline() for task in tasks])
    for step, group in enumerate(steps):
        choice = choices[step] if step < len(choices) else None
        learner.session = replace(session.without_training(), step=step, choice=choice)
        learner.learn([tasks[label].outline() for label in group])
    learner.records.clear()
    return learner
