"""What must be finite in a training: losses, validation losses, and at the end the parameters."""

from math import isfinite
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from prognet.errors import DivergedError

if TYPE_CHECKING:
    from prognet.training.loop import Run


def check_losses(run: "Run", losses: Tensor, first: int) -> None:
    """Checks the losses (U,) of the updates from `first` on; waits for the device.

    Raises:
        DivergedError: when one of them is not finite; names the first such update.
    """
    finite = torch.isfinite(losses).cpu()
    if not finite.all():
        place = int((~finite).nonzero()[0])
        raise _diverged(run, f"a finite loss, found {losses[place].item()} at update {first + place}")


def check_validation(run: "Run", loss: float) -> None:
    """Checks a loss on the validation splits.

    Raises:
        DivergedError: when it is not finite.
    """
    if not isfinite(loss):
        raise _diverged(run, f"a finite validation loss, found {loss} after update {run.updates - 1}")


def check_parameters(run: "Run") -> None:
    """Checks what has been trained, at the end: no loss has seen the last update; waits for the device once.

    Raises:
        DivergedError: when a number in it is not finite; names the first parameter with such numbers.
    """
    named = [(name, parameter) for name, parameter in run.module.named_parameters() if parameter.requires_grad]
    if not named:
        return
    finite = torch.stack([parameter.detach().isfinite().all() for _, parameter in named]).cpu()
    if not finite.all():
        name, parameter = named[int((~finite).nonzero()[0])]
        wrong = parameter.numel() - int(parameter.detach().isfinite().sum())
        found = f"{wrong} of {parameter.numel()} numbers of {name!r} that are not, after update {run.updates - 1}"
        raise _diverged(run, f"finite parameters, found {found}")


def _diverged(run: "Run", what: str) -> DivergedError:
    return DivergedError(
        f"training of tasks {list(run.tasks)}: required {what} of {run.budget.updates}; use a smaller lr than "
        f"{run.training.lr}, or clip_norm."
    )
