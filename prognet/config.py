"""How to train, what to measure and how to compute: frozen values, checked when they are made.

They are shared by every strategy of a comparison; the command line is made from them.
"""

from dataclasses import dataclass
from typing import Literal, get_args

from prognet.errors import ConfigError
from prognet.ranges import is_number

Optimiser = Literal["adam", "adamw", "sgd", "rmsprop"]
Schedule = Literal["constant", "cosine", "linear"]
Augmentation = Literal["flip", "crop"]
Heads = Literal["per-task", "shared"]
GateName = Literal["confidence", "entropy", "autoencoder"]
GateSteps = Literal["last", "every"]
Precision = Literal["float32", "bfloat16"]
Compilation = Literal["none", "default", "graphs"]
FeaturePrecision = Literal["float32", "bfloat16", "float16"]
EngineName = Literal["processes", "ray"]


@dataclass(frozen=True, kw_only=True)
class Training:
    """How every task is learned; the same for all strategies of a comparison.

    Raises:
        ConfigError: when a value is out of its range.
    """

    epochs: int = 10
    """Passes over the training split of each task; without effect where the number of updates is given."""
    updates: int | None = None
    """Updates of each task, whatever its size; the last pass may be cut short. None trains for epochs."""
    first_updates: int | None = None
    """Updates of the first task of a stream, where it is learned better than the others; None treats it alike."""
    batch_size: int = 64
    """Samples in a mini-batch at most; an epoch is divided evenly, so that none is much smaller."""
    first_batch_size: int | None = None
    """Samples in a mini-batch while the first task of a stream is learned alone; None for batch_size."""
    optimiser: Optimiser = "adam"
    """A fresh optimiser is made for every task; the default is Adam (fused or foreach where torch offers it)."""
    lr: float = 1e-3
    """Learning rate at the start of a task."""
    momentum: float = 0.0
    """Momentum of sgd and rmsprop; the Adam family keeps its own defaults."""
    weight_decay: float = 0.0
    """L2 penalty (adam, sgd, rmsprop) or decoupled decay (adamw)."""
    schedule: Schedule = "constant"
    """Learning rate over the updates of a task: constant, or down to zero as a cosine or a line."""
    label_smoothing: float = 0.0
    """Mass of the target distribution spread uniformly over the task's own classes."""
    clip_norm: float | None = None
    """Largest L2 norm of a gradient step; None leaves gradients as they are."""
    augment: tuple[Augmentation, ...] = ()
    """What happens to images while they are learned, drawn anew for every image: flip mirrors one half of them from
    left to right; crop shifts each by up to an eighth of its size, with black where nothing is left."""
    patience: int | None = None
    """Early stopping: epochs without a lower loss on the *validation* split before training stops and the best
    parameters are restored; None trains for all epochs."""

    def __post_init__(self) -> None:
        _require(_whole(self.epochs) and self.epochs >= 0, "epochs", "a whole number, at least 0", self.epochs)
        _require(
            _whole(self.batch_size) and self.batch_size >= 1,
            "batch_size",
            "a whole number, at least 1",
            self.batch_size,
        )
        for name in ("updates", "first_updates", "first_batch_size"):
            value = getattr(self, name)
            _require(value is None or (_whole(value) and value >= 1), name, "None or a whole number, at least 1", value)
        _require(self.optimiser in get_args(Optimiser), "optimiser", f"one of {get_args(Optimiser)}", self.optimiser)
        _require(is_number(self.lr) and self.lr > 0, "lr", "a finite number above 0", self.lr)
        _require(is_number(self.momentum) and 0 <= self.momentum < 1, "momentum", "a number in [0, 1)", self.momentum)
        _require(
            is_number(self.weight_decay) and self.weight_decay >= 0,
            "weight_decay",
            "a finite number, at least 0",
            self.weight_decay,
        )
        _require(self.schedule in get_args(Schedule), "schedule", f"one of {get_args(Schedule)}", self.schedule)
        _require(
            is_number(self.label_smoothing) and 0 <= self.label_smoothing < 1,
            "label_smoothing",
            "a number in [0, 1)",
            self.label_smoothing,
        )
        _require(
            self.clip_norm is None or (is_number(self.clip_norm) and self.clip_norm > 0),
            "clip_norm",
            "None or a finite number above 0",
            self.clip_norm,
        )
        _require(
            self.patience is None or (_whole(self.patience) and self.patience >= 1),
            "patience",
            "None or a whole number, at least 1",
            self.patience,
        )
        _require(
            _some_of(self.augment, Augmentation),
            "augment",
            f"a tuple of {get_args(Augmentation)}, none of them twice",
            self.augment,
        )


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """What the harness measures beside the accuracy matrix.

    Raises:
        ConfigError: when a value is out of its range.
    """

    lca_updates: int = 10
    """beta of LCA: the learning curve is measured after each of the first `beta` mini-batches."""
    curve_points: int = 12
    """Further points of the learning curve, spread evenly over the remaining updates of a task."""
    curve_samples: int = 1000
    """Test samples per point of a learning curve, the first ones of a seeded permutation."""
    evaluation_batch_size: int = 256
    """Samples in a batch of an evaluation; fixed, because bits may depend on it."""
    gates: tuple[GateName, ...] = ("confidence", "entropy")
    """Gates that choose the task where no label is given; the accuracy without labels is measured for each."""
    gate_steps: GateSteps = "last"
    """When: after the last step, where T tasks take T^2 evaluations, or after every step."""

    def __post_init__(self) -> None:
        for name in ("lca_updates", "curve_points"):
            value = getattr(self, name)
            _require(_whole(value) and value >= 0, name, "a whole number, at least 0", value)
        for name in ("curve_samples", "evaluation_batch_size"):
            value = getattr(self, name)
            _require(_whole(value) and value >= 1, name, "a whole number, at least 1", value)
        _require(
            _some_of(self.gates, GateName),
            "gates",
            f"a tuple of {get_args(GateName)}, none of them twice",
            self.gates,
        )
        _require(self.gate_steps in get_args(GateSteps), "gate_steps", f"one of {get_args(GateSteps)}", self.gate_steps)


@dataclass(frozen=True, kw_only=True)
class Execution:
    """How a run is computed: what changes its speed, and of its numbers the rounding.

    Raises:
        ConfigError: when a value is out of its range.
    """

    precision: Precision = "float32"
    """Of products and convolutions, in training and evaluation: `"bfloat16"` is torch's autocast. Parameters, losses
    and metrics stay in single precision."""
    channels_last: bool = False
    """Whether the weights of 2-d convolutions lie with their channels last, which is faster on some hardware."""
    compile: Compilation = "none"
    """Whether torch.compile makes the forward pass, the loss and the gradients of an update; `"graphs"` replays them as
    CUDA graphs. It takes seconds to minutes a task, and pays in long trainings."""
    data_memory: int = 4096
    """MiB of a device other than the CPU for the training samples of one task; a larger split stays in host memory, and
    its batches are gathered there ahead of time."""
    feature_memory: int = 1024
    """MiB on the device for what frozen columns hand over, computed once a task; what needs more is computed in every
    update, as with 0."""
    feature_precision: FeaturePrecision = "float32"
    """In which it is kept. The smaller types take half of the memory, and round what the laterals read."""
    deterministic: bool = False
    """Whether torch may only use kernels that give the same bits every time. On CUDA two runs differ without it; on the
    CPU only where several threads add into one tensor. An operation without such a kernel ends the run."""
    stack: int = 1
    """Seeds of a comparison that are trained together, with their parameters one above the other: faster for small
    networks, and on devices that a single one does not fill. One run by itself has no use for it."""

    def __post_init__(self) -> None:
        for name in ("data_memory", "feature_memory"):
            value = getattr(self, name)
            _require(_whole(value) and value >= 0, name, "a whole number of MiB, at least 0", value)
        words = (("precision", Precision), ("feature_precision", FeaturePrecision), ("compile", Compilation))
        for name, kind in words:
            value = getattr(self, name)
            _require(value in get_args(kind), name, f"one of {get_args(kind)}", value)
        _require(_whole(self.stack) and self.stack >= 1, "stack", "a whole number of seeds, at least 1", self.stack)
        together = self.stack == 1 or self.compile == "none"
        _require(together, "stack", f"1 with compile={self.compile!r}, since a stack is not compiled", self.stack)
        for name in ("channels_last", "deterministic"):
            _require(isinstance(getattr(self, name), bool), name, "True or False", getattr(self, name))


@dataclass(frozen=True, kw_only=True)
class Workers:
    """What carries out the runs of a comparison; their numbers do not depend on it.

    Raises:
        ConfigError: when a value is out of its range, or means nothing to the engine.
    """

    jobs: int = 1
    """Runs that go on at once on this machine, each in a process of its own; several GPUs are shared out among them."""
    engine: EngineName = "processes"
    """Processes of this machine, or a Ray cluster (extra ray), which decides how many runs go on at once."""
    address: str | None = None
    """Of a running Ray cluster, as host:port, or auto for the one of this machine; None starts one that ends with the
    comparison."""
    cpus_per_run: float = 1.0
    """Cores that Ray sets aside for a run; together with the memory of its machine they limit how many go on there."""
    gpus_per_run: float = 0.0
    """GPUs that Ray sets aside for a run; 0.25 lets four runs share one."""

    def __post_init__(self) -> None:
        _require(_whole(self.jobs) and self.jobs >= 1, "jobs", "a whole number, at least 1", self.jobs)
        _require(self.engine in get_args(EngineName), "engine", f"one of {get_args(EngineName)}", self.engine)
        _require(is_number(self.cpus_per_run) and self.cpus_per_run > 0, "cpus_per_run", "above 0", self.cpus_per_run)
        _require(
            is_number(self.gpus_per_run) and self.gpus_per_run >= 0, "gpus_per_run", "at least 0", self.gpus_per_run
        )
        if self.engine == "ray":
            _require(self.jobs == 1, "jobs", "1 with engine='ray', which goes by cpus_per_run", self.jobs)
        else:
            rest = {"address": None, "cpus_per_run": 1.0, "gpus_per_run": 0.0}
            for name, default in rest.items():
                value = getattr(self, name)
                _require(value == default, name, f"{default} without engine='ray'", value)


def _some_of(values: object, kind: object) -> bool:
    """Whether it is a tuple of different ones among the words of a literal type."""
    words = get_args(kind)
    return isinstance(values, tuple) and all(value in words for value in values) and len(set(values)) == len(values)


def _whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _require(condition: bool, argument: str, required: str, found: object) -> None:
    if not condition:
        raise ConfigError(f"{argument}: required {required}, found {found!r}.")
