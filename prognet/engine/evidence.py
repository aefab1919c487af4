"""What frozen columns say to a fixed batch, and the fingerprints of all tensors, stored for a later proof.

The bits of an output depend on more than the column: on device, versions, threads, batch size, memory layout and
gradient mode. So outputs are computed under `reproducible`, with a fixed batch, and stored with the setting in which
that was: under an equal setting the same bits are required, elsewhere the largest difference is told.
"""

import json
import platform
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as tensors_to_bytes
from torch import Tensor

from prognet.documents import value_from
from prognet.engine.checkpoint import MALFORMED, read_whole
from prognet.engine.column import Column
from prognet.engine.digest import fingerprint
from prognet.engine.sites import Activations, same_device
from prognet.errors import CheckpointError
from prognet.files import write_atomically
from prognet.recorded import check_threads

SCHEMA, VERSION = "prognet.proof", 1
N_PROBES = 64
_STEP = 32.0  # generated inputs are whole multiples of 1/32, so that a byte holds one

Setting = Mapping[str, Any]
"""Where outputs were computed, as JSON values."""


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """What a file of proof holds; parts are named by whoever stores them."""

    fingerprints: Mapping[str, str] = field(default_factory=dict)
    """The fingerprint of every tensor at the time of storing, by name."""
    inputs: Mapping[str, Tensor] = field(default_factory=dict)
    """Batches of probe inputs (B, *input_shape), by name."""
    outputs: Mapping[str, Tensor] = field(default_factory=dict)
    """What each part said to its batch, (B, *output_shape), by name of the part."""
    settings: Mapping[str, Setting] = field(default_factory=dict)
    """Where each part said it."""


@dataclass(frozen=True, slots=True)
class Agreement:
    """How outputs that were computed anew agree with stored ones."""

    same_bits: int
    """Parts with equal bits."""
    elsewhere: int
    """Parts with other bits that were stored under another setting."""
    largest: float
    """The largest absolute difference of these."""
    broken: tuple[str, ...]
    """Parts with other bits although the setting is the same."""


def probe_inputs(input_shape: Sequence[int]) -> Tensor:
    """The fixed batch (64, *input_shape) of pseudo-random numbers about as large as normalised data, float32."""
    noise = torch.randn(N_PROBES, *input_shape, generator=torch.Generator().manual_seed(0))
    return (noise * _STEP).round().clamp(-128, 127).to(torch.int8).float() / _STEP


@contextmanager
def reproducible(device: torch.device) -> Iterator[None]:
    """Within the block: no gradients, no autocast, no fused attention, and deterministic convolutions on CUDA."""
    fast = torch.backends.mha.get_fastpath_enabled()
    tf32 = torch.backends.cudnn.allow_tf32
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with (
            torch.no_grad(),
            torch.autocast(device.type, enabled=False),
            torch.backends.cudnn.flags(enabled=True, benchmark=False, deterministic=True, allow_tf32=tf32),
        ):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


def outputs_of(columns: Sequence[Column], x: Tensor) -> dict[int, Tensor]:
    """What columns say to inputs (B, *input_shape) in evaluation mode, on the CPU, by index; nothing is changed.

    Args:
        columns: the columns of a network, in its order, all on one device. Where they see inputs of several shapes,
            those that see another one than that of x are left out.
        x: the inputs.
    """
    apart = len({column.input_shape for column in columns}) > 1
    seeing = {k: column for k, column in enumerate(columns) if not apart or column.input_shape == tuple(x.shape[1:])}
    modes = {module: module.training for column in columns for module in column.modules()}
    x = same_device(columns[0].backbone, x).contiguous().clone() if columns else x  # aligned, as a slice may not be
    outputs: dict[int, Tensor] = {}
    past: dict[int, Activations] = {}
    try:
        with reproducible(x.device):
            for k, column in seeing.items():
                y, past[k] = column.eval()(x, [past[source] for source in column.sources])
                outputs[k] = y.cpu()
    finally:
        for module, mode in modes.items():
            module.training = mode
    return outputs


def setting_of(device: torch.device) -> Setting:
    """What the bits of an output depend on besides the column and its input."""
    setting: dict[str, Any] = {
        "device": device.type,
        "torch": torch.__version__,
        "matmul_precision": torch.get_float32_matmul_precision(),
    }
    if device.type == "cuda":
        return setting | {
            "model": torch.cuda.get_device_name(device),
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),  # type: ignore[no-untyped-call]
            "tf32": torch.backends.cudnn.allow_tf32,
        }
    capability = torch.backends.cpu.get_cpu_capability()
    return setting | {"model": _processor(), "capability": capability, "threads": torch.get_num_threads()}


def agreement(stored: Evidence, found: Mapping[str, Tensor], setting: Setting) -> Agreement:
    """Compares outputs that were computed under `setting` with the stored ones of the same parts."""
    same, broken, differences = 0, [], []
    for name, output in found.items():
        required = stored.outputs[name]
        if _same_bits(required, output):
            same += 1
        elif stored.settings[name] == setting:
            broken.append(name)
        else:
            differences.append(largest_difference(required, output))
    return Agreement(same, len(differences), max(differences, default=0.0), tuple(broken))


def largest_difference(a: Tensor, b: Tensor) -> float:
    """The largest absolute difference of two outputs; infinite where their shapes are not the same, or one is NaN."""
    if a.shape != b.shape:
        return float("inf")
    difference = (a.double() - b.double()).abs()
    return float(torch.nan_to_num(difference, nan=float("inf")).max()) if difference.numel() else 0.0


def write_evidence(path: Path, evidence: Evidence) -> str:
    """Writes evidence into one file, atomically: safetensors with a JSON document in its header -> its SHA-256.

    Raises:
        UnwritableError: when it cannot be written.
    """
    content = evidence_to_bytes(evidence)
    write_atomically(path, content)
    return sha256(content).hexdigest()


def evidence_to_bytes(evidence: Evidence) -> bytes:
    """The content of the file of some evidence."""
    inputs = {name: _compact(x) for name, x in evidence.inputs.items()}
    document = {
        "schema": SCHEMA,
        "version": VERSION,
        "fingerprints": dict(evidence.fingerprints),
        "settings": {name: dict(setting) for name, setting in evidence.settings.items()},
        "bytes": [name for name, x in inputs.items() if x.dtype != evidence.inputs[name].dtype],
    }
    tensors = {f"inputs/{name}": x for name, x in inputs.items()}
    tensors |= {f"outputs/{name}": y.detach().cpu().contiguous() for name, y in evidence.outputs.items()}
    return tensors_to_bytes(tensors, {"prognet": json.dumps(document)})


def read_evidence(path: Path, digest: str | None = None) -> Evidence:
    """Reads what `write_evidence` wrote.

    Args:
        path: the file.
        digest: the SHA-256 that it has to have; None for any.

    Raises:
        CheckpointError: when the file is missing or damaged, of another schema or version, or another one than that
            with the SHA-256.
    """
    if not path.exists():
        raise CheckpointError(f"{path}: required a file of proof, found none.")
    if digest is not None:
        read_whole(path, digest)
    try:
        with safe_open(path, "pt") as file:
            document = json.loads((file.metadata() or {}).get("prognet", "{}"))
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # no mapping
        found = document.get("schema"), document.get("version")
        if found == (SCHEMA, VERSION):
            return _evidence(document, tensors)
    except (OSError, SafetensorError, AttributeError, RecursionError, *MALFORMED) as error:
        raise CheckpointError(f"{path}: required a whole file of proof, found a damaged one ({error!r}).") from error
    raise CheckpointError(f"{path}: required {SCHEMA} version {VERSION}, found {found[0]} version {found[1]}.")


def _evidence(document: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> Evidence:
    groups: dict[str, dict[str, Tensor]] = {"inputs": {}, "outputs": {}}
    for name, tensor in tensors.items():
        group, _, key = name.partition("/")
        small = group == "inputs" and key in document["bytes"]
        groups[group][key] = tensor.float() / _STEP if small else tensor
    settings = {name: dict(document["settings"][name]) for name in groups["outputs"]}
    for name, setting in settings.items():
        check_threads(setting, f"settings.{name}")
    fingerprints = value_from(Mapping[str, str], document["fingerprints"], "fingerprints")
    return Evidence(fingerprints=fingerprints, settings=settings, **groups)


def _compact(x: Tensor) -> Tensor:
    """Inputs as they are stored: one byte a number where that loses no bit, as in `probe_inputs`."""
    plain = x.detach().cpu().contiguous().clone()
    if plain.dtype != torch.float32:
        return plain
    small = (plain * _STEP).nan_to_num().clamp(-128, 127).to(torch.int8)
    return small if _same_bits(small.float() / _STEP, plain) else plain


def _same_bits(a: Tensor, b: Tensor) -> bool:
    return fingerprint(a) == fingerprint(b)


def _processor() -> str:
    """The model of the CPU, as far as the system tells it."""
    table = Path("/proc/cpuinfo")
    lines = table.read_text(encoding="utf-8", errors="replace").splitlines() if table.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
