"""A gate that learns what the inputs of each task look like: Expert Gate, with one small auto-encoder a task."""

from math import prod
from typing import final

import torch
from torch import Tensor, nn
from torch.nn import functional

from prognet.errors import ConfigError, UnlearnedTaskError
from prognet.gates.base import Gate
from prognet.ranges import is_number
from prognet.seeds import derive_seed
from prognet.streams.task import Task
from prognet.training import seeded

_MOST_UNITS = 100
_SHARE = 2
_CHUNK = 1024


@final
class AutoEncoderGate(Gate):
    """One undercomplete auto-encoder a task; the lowest reconstruction error chooses (Aljundi et al. 2017, section 3).

    As there: inputs are standardised and squashed by a sigmoid, encoded by one layer with ReLU and decoded by one with
    a sigmoid, and the cross-entropy of the reconstruction is both loss and error. Errors of different auto-encoders can
    be compared only on one scale, so all of them share one standardisation, for which the paper takes the statistics of
    ImageNet: here it is one mean and one deviation over all values of the training inputs of the first task, which
    later tasks do not change; where inputs differ in shape, of the first task of each shape. Features of unlike scales
    should have been brought to one before, as for any network. A task's auto-encoder is trained when the task has been
    learned, by Adam on batches drawn with replacement, and frozen.

    Raises:
        ConfigError: when an argument is out of its range.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self, *, units: int | None = None, updates: int = 1000, batch_size: int = 64, lr: float = 0.001
    ) -> None:
        """
        Args:
            units: width of the code; None for half the values of an input, 100 at most.
            updates: the whole budget of training, in mini-batches, the same for every task.
            batch_size: samples of a mini-batch.
            lr: learning rate of Adam.
        """
        super().__init__()
        for name, value in (("units", units), ("updates", updates), ("batch_size", batch_size)):
            if value is not None and (type(value) is not int or value < 1):
                raise ConfigError(f"{name}: required a whole number, at least 1, found {value!r}.")
        if not is_number(lr) or not 0 < lr < 1:
            raise ConfigError(f"lr: required a number between 0 and 1, found {lr!r}.")
        self.units, self.updates, self.batch_size, self.lr = units, updates, batch_size, lr
        self.coders = nn.ModuleDict()
        self._first_shape: tuple[int, ...] | None = None

    def learn(self, task: Task, seed: int, device: torch.device) -> None:
        """Trains an auto-encoder on the training inputs of the task.

        Raises:
            ConfigError: when the code is not smaller than the input, or the task has an auto-encoder already.
        """
        key = str(task.label)
        if key in self.coders:
            raise ConfigError(f"task: required a new one, found task {task.label}, whose auto-encoder is frozen.")
        if self._first_shape is None:
            self._first_shape = task.input_shape
        if not hasattr(self, self._scale_names(task.input_shape)[0]):
            self._standardise_by(task, device)
        n_values = prod(task.input_shape)
        with seeded(derive_seed(seed, task.label, "auto-encoder"), device):
            coder = _auto_encoder(n_values, self._units(n_values)).to(device)
            if len(task.train):
                self._train(coder, task, device)
        self.coders[key] = coder.requires_grad_(False).eval()

    def evidence(self, x: Tensor, outputs: Tensor, task_label: int) -> Tensor:
        """The negative of the reconstruction error, (B,): cross-entropy in nats, mean over the input values.

        Raises:
            UnlearnedTaskError: when the task has no auto-encoder.
        """
        key = str(task_label)
        if key not in self.coders:
            raise UnlearnedTaskError(
                f"task_label: required one of the tasks {sorted(map(int, self.coders))}, which have an auto-encoder, "
                f"found {task_label}; call `learn` with it first."
            )
        target = self._prepared(x)
        return -_errors(self.coders[key], target).mean(dim=1)

    def _units(self, n_values: int) -> int:
        if self.units is None:
            return max(1, min(_MOST_UNITS, n_values // _SHARE))
        if self.units >= n_values:
            raise ConfigError(f"units: required fewer than the {n_values} values of an input, found {self.units}.")
        return self.units

    def _scale_names(self, shape: tuple[int, ...]) -> tuple[str, str]:
        """What the buffers of mean and deviation are called for inputs of a shape."""
        own = "" if shape == self._first_shape else f"_{'x'.join(map(str, shape))}"
        return f"mean{own}", f"std{own}"

    def _standardise_by(self, task: Task, device: torch.device) -> None:
        """Notes mean and deviation of all values of the task's training inputs; the deviation of a constant is 1."""
        mean_name, std_name = self._scale_names(task.input_shape)
        total = torch.zeros(2, dtype=torch.float64)
        for chunk in torch.split(task.train.x, _CHUNK):
            x = task.normalisation(chunk).double()
            total += torch.stack([x.sum(), (x * x).sum()]).cpu()
        mean, square = total / max(1, task.train.x.numel())
        std = (square - mean * mean).clamp(min=0).sqrt()
        self.register_buffer(mean_name, mean.float().to(device))
        self.register_buffer(std_name, torch.where(std > 0, std, 1.0).float().to(device))

    def _prepared(self, x: Tensor) -> Tensor:
        """(B, *input_shape) -> (B, n_values), standardised and squashed to (0, 1)."""
        mean, std = (getattr(self, name) for name in self._scale_names(tuple(x.shape[1:])))
        return torch.sigmoid((x - mean) / std).flatten(1)

    def _train(self, coder: nn.Module, task: Task, device: torch.device) -> None:
        data = task.train.x.to(device)
        optimiser = torch.optim.Adam(coder.parameters(), lr=self.lr)
        with torch.enable_grad():
            for _ in range(self.updates):
                chosen = torch.randint(len(data), (self.batch_size,))  # (B,), drawn on the CPU, whatever the device
                loss = _errors(coder, self._prepared(task.normalisation(data[chosen.to(device)]))).mean()
                optimiser.zero_grad(set_to_none=True)
                loss.backward()  # type: ignore[no-untyped-call]
                optimiser.step()


def _auto_encoder(n_values: int, units: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(n_values, units), nn.ReLU(), nn.Linear(units, n_values))


def _errors(coder: nn.Module, target: Tensor) -> Tensor:
    """(B, n_values): the cross-entropy of each value's reconstruction."""
    return functional.binary_cross_entropy_with_logits(coder(target), target, reduction="none")
