"""What the frozen columns of a learner say to a fixed batch: recorded when they are frozen, and computed anew later."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from prognet.engine import ProgressiveNetwork
from prognet.engine.digest import fingerprints
from prognet.engine.evidence import Agreement, Evidence, agreement, outputs_of, probe_inputs, setting_of
from prognet.errors import FrozenColumnError
from prognet.strategies import Strategy


def record(learner: Strategy, before: Evidence) -> Evidence:
    """The fingerprints of all tensors, and of every frozen column what it says to 64 probe inputs.

    A column is recorded once, in the step in which it was frozen; on the CPU it has to say the same bits ever after.

    Args:
        learner: a strategy after a step.
        before: what was recorded after the step before.

    Raises:
        FrozenColumnError: when a frozen column says something else than it said then, in the same setting on the CPU.
    """
    inputs, outputs = _said(learner, before)
    setting = setting_of(device_of(learner))
    old = {name: y for name, y in outputs.items() if name in before.outputs}
    broken = agreement(before, old, setting).broken
    if broken and setting["device"] == "cpu":
        raise FrozenColumnError(
            f"{learner.name}: required the same output bits of {broken[0]} as when it was frozen, found others with "
            "the same digest; something that is no tensor has changed, such as a hook or a private attribute."
        )
    return Evidence(
        fingerprints=fingerprints(learner),
        inputs=inputs,
        outputs={name: before.outputs.get(name, y) for name, y in outputs.items()},
        settings={name: before.settings.get(name, setting) for name in outputs},
    )


def recheck(learner: Strategy, evidence: Evidence) -> Agreement:
    """Computes anew what was recorded, on the device of the record where there is one, and compares it.

    Args:
        learner: the strategy, filled with the stored tensors; it is moved to that device.
        evidence: what was recorded.

    Raises:
        FrozenColumnError: when other columns are frozen than were recorded.
    """
    with as_recorded(evidence) as device:
        _, outputs = _said(learner.to(device), evidence)
        if outputs.keys() != evidence.outputs.keys():
            raise FrozenColumnError(
                f"{learner.name}: required the frozen columns {sorted(evidence.outputs)} of the record, found "
                f"{sorted(outputs)}."
            )
        return agreement(evidence, outputs, setting_of(device))


@contextmanager
def as_recorded(evidence: Evidence) -> Iterator[torch.device]:
    """Within the block, as many CPU threads as in the record -> its device, or the CPU where there is none such."""
    setting = next(iter(evidence.settings.values()), {})
    threads = torch.get_num_threads()
    torch.set_num_threads(int(setting.get("threads", threads)))
    try:
        yield torch.device("cuda" if setting.get("device") == "cuda" and torch.cuda.is_available() else "cpu")
    finally:
        torch.set_num_threads(threads)


def device_of(module: nn.Module) -> torch.device:
    """Where a module is; the CPU for one without parameters."""
    return next((parameter.device for parameter in module.parameters()), torch.device("cpu"))


def _said(learner: Strategy, before: Evidence) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """The probe inputs by shape, and the outputs of every frozen column by its name in the learner."""
    inputs: dict[str, Tensor] = {}
    outputs: dict[str, Tensor] = {}
    for path, network in learner.named_modules():
        if not isinstance(network, ProgressiveNetwork):
            continue
        columns = [network.column(k) for k in range(len(network))]
        for shape in dict.fromkeys(column.input_shape for column in columns):
            name = "x".join(map(str, shape))
            inputs[name] = before.inputs[name] if name in before.inputs else probe_inputs(shape)
            said = outputs_of(columns, inputs[name])
            outputs |= {f"{path}.columns.{k}": y for k, y in said.items() if columns[k].frozen}
    return inputs, outputs
