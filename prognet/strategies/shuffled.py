"""The control for information: laterals that read the sources' features of another sample."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from prognet.engine import Adapter, MLPAdapter, Site
from prognet.engine.laterals import Align, MLPLateral
from prognet.engine.solved import reader_of
from prognet.errors import ConfigError


@dataclass(frozen=True)
class ShuffledAdapter(Adapter):
    """An MLP adapter whose sources are permuted within the batch, in training and in evaluation.

    Parameters, operations and the distribution of the features stay; what they say about the sample is gone. No sample
    reads itself, unless it is alone in its batch.

    Raises:
        ConfigError: when `inner` is no MLPAdapter.
    """

    inner: MLPAdapter = field(default_factory=MLPAdapter)
    """The laterals that read the permuted sources."""

    def __post_init__(self) -> None:
        if isinstance(self.inner, dict):  # as JSON has it
            object.__setattr__(self, "inner", MLPAdapter(**self.inner))
        if not isinstance(self.inner, MLPAdapter):
            raise ConfigError(f"inner: required an MLPAdapter, found {self.inner!r}.")

    def build(self, senders: Sequence[Site], site: Site) -> nn.Module:
        lateral = self.inner.build(senders, site)
        reader = reader_of(lateral)
        assert isinstance(reader, MLPLateral)
        reader.align = ShuffledAlign(reader.align)
        return lateral


class ShuffledAlign(Align):
    """Brings the sources to the size at which they are joined, in another order of their samples."""

    def __init__(self, align: Align) -> None:
        super().__init__(align.sizes, align.spatial, align.flatten, tuple(align.norms))

    def join(self, sources: Sequence[Tensor] | Tensor) -> Tensor:
        """What `Align` makes of a permuted batch; what is prepared is in the order of the batch.

        The permutation is the same for all sources, and depends on the size of the batch alone: a random cycle.
        """
        joined = super().join(sources)
        n = len(joined)
        cycle = torch.randperm(n, generator=torch.Generator().manual_seed(n))  # (B,)
        order = torch.empty_like(cycle).scatter_(0, cycle, cycle.roll(1)).to(joined.device)  # (B,)
        return joined[order]
