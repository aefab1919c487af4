"""How a trained network is fine-tuned: one frozen configuration for all that recipes have in common."""

from dataclasses import dataclass
from typing import Literal, get_args

from prognet.errors import ConfigError
from prognet.ranges import FACTOR, NOT_NEGATIVE, POSITIVE, SHARE, require_number
from prognet.strategies.specification import Specification, require_whole

Trunk = Literal["full", "frozen"]
Towards = Literal["uniform", "prediction"]
PretextName = Literal["autoencoder", "rotation"]

_SHARES = ("dropout", "smoothing")
_FACTORS = ("rate", "decay")
_PENALTIES = ("l2", "l1", "l2_sp", "head_l2", "head_l1")
_OF_A_TRUNK_THAT_LEARNS = {"rate": 1.0, "decay": 1.0, "unfreeze_every": None, "l2": 0.0, "l1": 0.0, "l2_sp": 0.0}


@dataclass(frozen=True, kw_only=True)
class FineTuning(Specification):
    """A recipe of fine-tuning; by default plain: everything goes on learning at one rate.

    It is followed by every task that begins from something learned: all but the first, and the first too where the
    network is pretrained. Stages are those of `prognet.engine.stages`, counted from the output down. What is *fresh* is
    the head, the stages that begin anew, and low-rank adapters; all else of the trunk is *kept*.

    Raises:
        ConfigError: when a value is out of its range, or says something about learning of a trunk that does not learn.
    """

    trunk: Trunk = "full"
    """`"full"`: all of it learns. `"frozen"`: features only; what is kept stays as it is, in evaluation mode, so that
    BatchNorm keeps its statistics too."""
    reinit: int = 0
    """Stages of the trunk, from the top, that begin anew."""
    rate: float = 1.0
    """Learning rate of what is kept, as a factor of that of the training."""
    decay: float = 1.0
    """Layer-wise decay: the rate of the trunk's top stage is multiplied by it once, that below twice, and so on."""
    unfreeze_every: int | None = None
    """Passes over the samples after which the next stage begins to learn, from the top; first only what is fresh does.
    What does not learn yet is in evaluation mode. None for all from the start."""
    l2: float = 0.0
    """Adds l2/2 ||w||² over what is kept."""
    l1: float = 0.0
    """Adds l1 ||w||₁ over what is kept."""
    l2_sp: float = 0.0
    """Adds l2_sp/2 ||w - w⁰||² over what is kept, where w⁰ is the start (Li et al. 2018, arXiv 1802.01483)."""
    head_l2: float = 0.0
    """Adds head_l2/2 ||w||² over what is fresh."""
    head_l1: float = 0.0
    """Adds head_l1 ||w||₁ over what is fresh."""
    dropout: float = 0.0
    """Rate of the dropout between trunk and head."""
    smoothing: float = 0.0
    """Mass of the target distribution that is moved away from the label, in the place of the training's."""
    towards: Towards = "uniform"
    """Where to: all of the task's own classes alike, or what the model itself predicts at that moment, taken as
    constant (soft bootstrapping, Reed et al. 2015, arXiv 1412.6596), where labels are not to be trusted whole."""
    negatives: int = 0
    """Inputs of earlier tasks that are kept, in equal shares, and learned as one further class, "none of these"."""
    scarce: int = 100
    """Samples a class below which a task is short of data, so that negatives are learned with it."""
    rank: int = 0
    """Inner width of low-rank adapters, with which a task changes the weights of a frozen trunk; 0 for none."""
    alpha: float = 1.0
    """The adapters' products are multiplied by alpha / rank."""
    merge: bool = False
    """Whether adapters are added to the trunk for good when a task has been learned; else each task keeps its own, and
    nothing is forgotten."""
    pretext: PretextName | None = None
    """What the trunk learns before the first task, from that task's inputs without labels: to code them, or to tell by
    which of four right angles they are turned."""
    pretext_updates: int = 500
    """How long."""
    pretrained: bool = False
    """Whether the backbone makes networks that have learned already, from a file."""

    def __post_init__(self) -> None:
        for name, kind in (("trunk", Trunk), ("towards", Towards)):
            if getattr(self, name) not in get_args(kind):
                raise ConfigError(f"{name}: required one of {get_args(kind)}, found {getattr(self, name)!r}.")
        if self.pretext not in (None, *get_args(PretextName)):
            raise ConfigError(f"pretext: required None or one of {get_args(PretextName)}, found {self.pretext!r}.")
        for name in ("reinit", "negatives", "scarce", "rank"):
            require_whole(name, getattr(self, name), 0)
        require_whole("pretext_updates", self.pretext_updates, 1)
        if self.unfreeze_every is not None:
            require_whole("unfreeze_every", self.unfreeze_every, 1)
        for name in _SHARES:
            require_number(name, getattr(self, name), SHARE)
        for name in _FACTORS:
            require_number(name, getattr(self, name), FACTOR)
        for name in _PENALTIES:
            require_number(name, getattr(self, name), NOT_NEGATIVE)
        require_number("alpha", self.alpha, POSITIVE)
        for name in ("merge", "pretrained"):
            if not isinstance(getattr(self, name), bool):
                raise ConfigError(f"{name}: required True or False, found {getattr(self, name)!r}.")
        self._check_together()

    def _check_together(self) -> None:
        if self.rank and self.reinit:
            raise ConfigError(
                f"reinit: required 0 beside adapters, which leave the trunk as it is, found {self.reinit}."
            )
        if self.trunk == "frozen" or self.rank:
            for name, idle in _OF_A_TRUNK_THAT_LEARNS.items():
                if getattr(self, name) != idle:
                    raise ConfigError(
                        f"{name}: required {idle} for a trunk that does not learn, found {getattr(self, name)!r}."
                    )

    @property
    def begins_learned(self) -> bool:
        """Whether the first task begins from something learned."""
        return self.pretrained or self.pretext is not None

    @property
    def keeps_trunk(self) -> bool:
        """Whether the trunk is never changed again once it has learned something."""
        return (self.trunk == "frozen" and not self.reinit and not self.rank) or (self.rank > 0 and not self.merge)
