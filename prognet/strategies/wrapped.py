"""Avalanche's own strategies in this harness, so that every comparison can include them.

The network is the one of `FineTune`: a trunk with a head per task. Batches, optimiser, learning rate, curves and costs
are those of the one training loop; the update itself is Avalanche's, see `driven.py`.
"""

from collections.abc import Mapping, Sequence
from functools import partial
from types import MappingProxyType
from typing import Any

from torch import Tensor, nn

from prognet.errors import ConfigError, unknown_name
from prognet.ranges import NOT_NEGATIVE, is_number, require_number
from prognet.strategies.base import Backbone, Strategy, example_of, require_one_input, single
from prognet.strategies.driven import Agent, AvalancheRun, Method
from prognet.strategies.heads import SharedTrunk
from prognet.streams.objectives import Classification
from prognet.streams.task import Task
from prognet.training import fit
from prognet.training.budget import budget_of

METHODS: Mapping[str, Method] = MappingProxyType(
    {
        "Naive": Method("", {}),
        "EWC": Method("EWCPlugin", {"ewc_lambda": 1e6}, passes=1),
        "LwF": Method("LwFPlugin", {"alpha": 1.0, "temperature": 2.0}),
        "SI": Method("SynapticIntelligencePlugin", {"si_lambda": 10.0, "eps": 1e-7}),
        "MAS": Method("MASPlugin", {"lambda_reg": 0.01, "alpha": 0.5}, passes=1),
        "Replay": Method("ReplayPlugin", {"mem_size": 200}),
        "AGEM": Method("AGEMPlugin", {"patterns_per_experience": 50, "sample_size": 64}),
    }
)
"""The strengths are the best of a coarse grid on two orders of Split-Digits that no table here is made of."""


class Wrapped(Strategy):
    """A strategy of Avalanche, over a trunk with a head per task.

    What a method remembers (importances, an old network, samples) is no part of the stored tensors: a run that was
    killed begins again, and a copy of a learner predicts but cannot learn.
    """

    kind = "Wrapped"
    resumable = False
    shareable = False

    def __init__(
        self,
        backbone: Backbone,
        *,
        method: str,
        options: Mapping[str, int | float] | None = None,
        name: str | None = None,
    ) -> None:
        """
        Args:
            backbone: makes the network; it is split at its output layer.
            method: one of `METHODS`.
            options: hyper-parameters of the method that differ from its defaults, under Avalanche's names.
            name: the name in results and figures; by default the method's in small letters.

        Raises:
            UnknownNameError: when there is no such method, or it has no such option; with a suggestion.
            ConfigError: when an option is out of its range.
        """
        if method not in METHODS:
            raise unknown_name("method", method, METHODS)
        super().__init__(backbone, method.lower() if name is None else name)
        self.method = method
        self.options = {**METHODS[method].defaults, **_checked(method, options or {})}
        self.shared = SharedTrunk()
        self._agent: Agent | None = None

    def prepare(self, tasks: Sequence[Task]) -> None:
        require_one_input(tasks, self)
        for task in tasks:
            self._require_classification(task)

    def learn(self, tasks: Sequence[Task]) -> None:
        task, session = single(tasks, self), self.current_session()
        self._require_classification(task)
        is_trained = budget_of(session.training, tasks).updates > 0  # not while a stored run is rebuilt
        if is_trained and self._agent is None and self.shared.trunk is not None:
            raise ConfigError(
                f"strategy: required {self.name!r} as it learned the tasks before, found a copy, which has forgotten "
                "what the method remembers; begin again from the first task."
            )
        self.shared.add(task, self.build(task), example_of(task))
        make_run = None
        if is_trained:
            self._agent = self._agent or Agent(METHODS[self.method], self.options, self.shared, session)
            make_run = partial(AvalancheRun, self._agent)
        parts = nn.ModuleList([*self.shared.parts_of(task.label)[:1], *self.shared.heads.values()])
        forward = self.shared.predict_together
        self.records.append(fit(parts, forward, self.predict, tasks, session, make_run=make_run))

    def predict(self, x: Tensor, task_label: int) -> Tensor:
        return self.shared.predict(x, task_label)

    def kept_bytes(self) -> int:
        return 0 if self._agent is None else self._agent.kept_bytes()

    def arguments(self) -> Mapping[str, Any]:
        return {"method": self.method, "options": dict(self.options)}

    def _require_classification(self, task: Task) -> None:
        if not isinstance(task.objective, Classification):
            raise ConfigError(
                f"tasks: required classification for {self.name!r}, found {type(task.objective).__name__} in task "
                f"{task.label}; Avalanche's strategies know no other loss."
            )

    def __getstate__(self) -> dict[str, Any]:
        return {**vars(self), "_agent": None}


def wrapped(
    method: str,
    backbone: Backbone,
    options: Mapping[str, int | float] | None = None,
    *,
    name: str | None = None,
) -> Wrapped:
    """A strategy of Avalanche by its name there, for instance `wrapped("EWC", backbone, {"ewc_lambda": 10.0})`.

    Args:
        method: one of `METHODS`: "Naive", "EWC", "LwF", "SI", "MAS", "Replay", "AGEM".
        backbone: makes the network; it is split at its output layer.
        options: hyper-parameters of the method that differ from its defaults, under Avalanche's names.
        name: the name in results and figures; by default the method's in small letters.

    Raises:
        UnknownNameError: when there is no such method, or it has no such option; with a suggestion.
        ConfigError: when an option is out of its range.
    """
    return Wrapped(backbone, method=method, options=options, name=name)


ewc = partial(wrapped, "EWC")
lwf = partial(wrapped, "LwF")
si = partial(wrapped, "SI")
mas = partial(wrapped, "MAS")
replay = partial(wrapped, "Replay")
agem = partial(wrapped, "AGEM")


def _checked(method: str, options: Mapping[str, int | float]) -> dict[str, int | float]:
    """The options, of the types of the defaults."""
    unknown = [name for name in options if name not in METHODS[method].defaults]
    if unknown:
        raise unknown_name(f"option of {method}", unknown[0], METHODS[method].defaults)
    return {name: _number(name, value, METHODS[method].defaults[name]) for name, value in options.items()}


def _number(name: str, value: Any, default: float) -> int | float:
    if isinstance(default, int):
        if not is_number(value) or value < 1 or value != int(value):
            raise ConfigError(f"{name}: required a whole number, at least 1, found {value!r}.")
        return int(value)
    require_number(name, value, NOT_NEGATIVE)
    return float(value)
