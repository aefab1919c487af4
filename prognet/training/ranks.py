"""The processes that share a run, as one of them sees the others.

Every process does the same work in the same order, but for its share of every batch. What they tell each other are
collective calls of torch.distributed: each of them is made by all processes, or by none.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from prognet import errors
from prognet.engine.digest import first_difference
from prognet.errors import DisagreementError, PrognetError

_LONGEST_NAME = 200  # bytes


@dataclass(frozen=True, slots=True)
class Ranks:
    """The processes of a run; by default there is one."""

    index: int = 0
    """Which of them this one is, from 0. The first one reads and writes the files."""
    count: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    """Where the tensors lie that they send each other."""

    @property
    def is_first(self) -> bool:
        """Whether this process is the one that reads and writes files."""
        return self.index == 0

    @property
    def is_alone(self) -> bool:
        """Whether there are no others."""
        return self.count == 1

    def every(self, numbers: Tensor) -> Tensor:
        """What each process has: from (n,) in each to (count, n), the same in all, on the device of `numbers`."""
        if self.is_alone:
            return numbers[None]
        own = numbers.to(self.device).contiguous()
        found = [torch.empty_like(own) for _ in range(self.count)]
        dist.all_gather(found, own)
        return torch.stack(found).to(numbers.device)

    def total(self, numbers: Tensor) -> Tensor:
        """The sum over the processes, the same bits in all, on the device of `numbers`."""
        if self.is_alone:
            return numbers
        found = numbers.to(self.device).clone(memory_format=torch.contiguous_format)
        dist.all_reduce(found)
        return found.to(numbers.device)

    def from_first(self, tensors: Sequence[Tensor]) -> None:
        """Writes the numbers of the first process into the tensors of all others."""
        if self.is_alone:
            return
        with torch.no_grad():
            for tensor in tensors:
                sent = tensor.detach().to(self.device).contiguous()
                dist.broadcast(sent, src=0)
                if not self.is_first:
                    tensor.copy_(sent)

    def first_does(self, work: Callable[[], Any]) -> Any:
        """Lets the first process do something, and tells all of them what came of it.

        Args:
            work: done in the first process only; it returns JSON values.

        Returns:
            What it returned, in every process.

        Raises:
            PrognetError: the error of the first process, in every process.
        """
        if self.is_alone:
            return work()
        said: dict[str, Any] = {}
        if self.is_first:
            try:
                said["value"] = work()
            except PrognetError as error:
                said.update(error=type(error).__name__, text=str(error))
                self._said_by_first(json.dumps(said).encode())
                raise
        said = json.loads(self._said_by_first(json.dumps(said).encode()))
        if "error" in said:
            of_first: PrognetError = getattr(errors, said["error"], PrognetError)(said["text"])
            raise of_first
        return said["value"]

    def agree(self, what: str, parts: Mapping[str, str]) -> None:
        """Compares what each process has with what the first one has.

        Args:
            what: what is compared, in words.
            parts: a text for each part of it, by name; fingerprints where it is large.

        Raises:
            DisagreementError: in every process, when one differs; it names the first such process and part.
        """
        if self.is_alone:
            return
        text = json.dumps(dict(parts)).encode()
        digests = self.every(torch.frombuffer(bytearray(sha256(text).digest()), dtype=torch.uint8))  # (count, 32)
        different = (digests != digests[0]).any(dim=1)
        if not different.any():
            return
        name = first_difference(json.loads(self._said_by_first(text)), dict(parts)) or ""
        padded = name.encode()[:_LONGEST_NAME].ljust(_LONGEST_NAME)
        names = self.every(torch.frombuffer(bytearray(padded), dtype=torch.uint8))
        process = int(different.nonzero()[0])
        named = bytes(names[process].tolist()).decode(errors="replace").strip()
        raise DisagreementError(
            f"process {process}: required {what} as in process 0, found another {named!r}; use the same program, data, "
            "versions, threads and kind of device for all processes, and go on from the last finished step."
        )

    def _said_by_first(self, message: bytes) -> bytes:
        """The message of the first process, in every process."""
        size = torch.tensor([len(message)], device=self.device)
        dist.broadcast(size, src=0)
        content = message if self.is_first else bytes(int(size))
        sent = torch.frombuffer(bytearray(content), dtype=torch.uint8).to(self.device)
        dist.broadcast(sent, src=0)
        return sent.cpu().numpy().tobytes()


def current_ranks(device: torch.device) -> Ranks:
    """The processes of torch.distributed, which somebody has brought together, or this one alone.

    Args:
        device: that of the run in this process.
    """
    if not dist.is_available() or not dist.is_initialized():
        return Ranks()
    return Ranks(dist.get_rank(), dist.get_world_size(), device)
