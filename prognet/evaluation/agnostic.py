"""Accuracy without task labels: the gates of a run, beside the learner and without any influence on it."""

from collections.abc import Sequence
from dataclasses import replace
from time import perf_counter

import numpy as np
import torch
from torch import Tensor, nn

from prognet.config import GateName
from prognet.gates import GATES, Gate
from prognet.inference import Counts, GateRecord
from prognet.results import RunResult
from prognet.strategies import Strategy
from prognet.streams.objectives import Classification
from prognet.streams.task import Task
from prognet.training import Predict, Session, computing, count_parameters, evaluating
from prognet.training.batches import on_device
from prognet.training.measuring import single


class Gates(nn.ModuleDict):
    """The gates of a run by name, and the tasks that they know. Their tensors are stored beside the learner's."""

    def __init__(self, names: Sequence[GateName]) -> None:
        super().__init__({name: GATES[name]() for name in names})
        self._known: set[int] = set()

    def learn(self, tasks: Sequence[Task], session: Session) -> None:
        """Shows the gates those tasks that they do not know yet; what they know of the others stays as it is."""
        for task in tasks:
            if task.label not in self._known:
                self._known.add(task.label)
                for gate in self._gates().values():
                    gate.learn(task, session.seed, session.device)

    def after_step(
        self, result: RunResult, learner: Strategy, stream: Sequence[Task], session: Session, is_last: bool
    ) -> RunResult:
        """The result of a step with what the gates make of it; their time counts as evaluation.

        Args:
            result: after the step, without its gates.
            learner: after the step.
            stream: all tasks.
            session: of the step.
            is_last: whether it is the last step of the schedule.
        """
        if not self:
            return result
        started = perf_counter()
        self.learn([stream[label] for label in result.schedule[-1]], session)
        rows: dict[str, tuple[list[float], Counts | None]] = {}
        if is_last or session.measurement.gate_steps == "every":
            rows |= self._measure(learner, stream, sorted(self._known), session)
        unmeasured = ([float("nan")] * len(stream), None)
        gates = {
            name: _extended(result.gates.get(name), stream, *rows.get(name, unmeasured), count_parameters(gate))
            for name, gate in self._gates().items()
        }
        *before, cost = result.costs
        seconds = cost.evaluation_seconds + perf_counter() - started
        return replace(result, gates=gates, costs=(*before, replace(cost, evaluation_seconds=seconds)))

    def _measure(
        self, learner: Strategy, stream: Sequence[Task], learned: Sequence[int], session: Session
    ) -> dict[str, tuple[list[float], Counts | None]]:
        accuracy = {name: [float("nan")] * len(stream) for name in self}
        confusion = {name: np.zeros((len(stream), len(stream)), dtype=np.int64) for name in self}
        with evaluating(learner), computing(session):
            for label in learned:
                counted = infer(learner.predict, self._gates(), stream, label, learned, session)
                for name, (counts, correct) in counted.items():
                    confusion[name][label] = counts
                    accuracy[name][label] = correct / len(stream[label].test)
        return {name: (accuracy[name], confusion[name]) for name in self}

    def _gates(self) -> dict[str, Gate]:
        return {name: gate for name, gate in self.items() if isinstance(gate, Gate)}


def gates_for(names: Sequence[GateName], stream: Sequence[Task]) -> Gates:
    """New gates; none where a task of the stream is no classification, since outputs are then no logits."""
    return Gates(names if all(isinstance(task.objective, Classification) for task in stream) else ())


@torch.no_grad()
def infer(
    predict: Predict,
    gates: dict[str, Gate],
    stream: Sequence[Task],
    true: int,
    learned: Sequence[int],
    session: Session,
) -> dict[str, tuple[Counts, int]]:
    """What every gate chooses for the test inputs of one task; the true label and targets only count what was right.

    Args:
        predict: the outputs of one task, in evaluation mode.
        gates: by name.
        stream: all tasks.
        true: label of the task whose test split is used.
        learned: labels of the tasks to choose from; those with inputs of another shape are none.
        session: the settings.

    Returns:
        By name of the gate: how often each task was chosen (T,), and how many predictions were right.
    """
    task = stream[true]
    learned = [label for label in learned if stream[label].input_shape == task.input_shape]
    names = _numbered(stream)
    data = on_device(task.test, session.device)
    chosen: dict[str, list[Tensor]] = {name: [] for name in gates}
    right = dict.fromkeys(gates, 0)
    size = session.measurement.evaluation_batch_size
    for x, y in zip(torch.split(data.x, size), torch.split(data.y, size), strict=True):
        inputs = task.normalisation(x.clone())  # one for all of this shape: it says nothing about the task
        outputs = {label: single(predict(inputs.clone(), label)) for label in learned}  # it may write into its input
        found = {label: names[label].to(x.device)[outputs[label].argmax(dim=1)] for label in learned}  # (B,) each
        truth = names[true].to(x.device)[y]  # (B,)
        for name, gate in gates.items():
            choice = gate.choose(inputs, outputs)  # (B,)
            correct = sum((choice == label) & (found[label] == truth) for label in learned)
            right[name] += int(torch.as_tensor(correct).sum())
            chosen[name].append(choice.cpu())
    return {
        name: (torch.bincount(torch.cat(parts), minlength=len(stream)).numpy(), right[name])
        for name, parts in chosen.items()
    }


def _numbered(stream: Sequence[Task]) -> list[Tensor]:
    """For each task (n_classes,): a number for the name of each class, the same wherever the name is the same."""
    numbers = {name: index for index, name in enumerate(dict.fromkeys(n for task in stream for n in task.classes))}
    return [torch.tensor([numbers[name] for name in task.classes]) for task in stream]


def _extended(
    record: GateRecord | None, stream: Sequence[Task], accuracy: list[float], counts: Counts | None, parameters: int
) -> GateRecord:
    row = np.asarray([accuracy], dtype=np.float64)  # (1, T)
    names = [name for task in stream for name in task.classes]
    return GateRecord(
        accuracy=row if record is None else np.concatenate([record.accuracy, row]),
        confusion=(*(record.confusion if record else ()), counts),
        parameters=(*(record.parameters if record else ()), parameters),
        shared_names=len(set(names)) < len(names),
    )
