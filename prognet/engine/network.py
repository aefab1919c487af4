"""The progressive network: columns in the order in which they were added, all but the newest one frozen."""

from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Self

from torch import Tensor, nn

from prognet.engine.adapters import Adapter, MLPAdapter
from prognet.engine.column import Column
from prognet.engine.export import export_column
from prognet.engine.folder import load_columns, save_columns
from prognet.engine.joining import check_inputs, check_new, common
from prognet.engine.prepared import Prepared
from prognet.engine.probe import Sites, probe
from prognet.engine.sites import Activations
from prognet.engine.size import warn_of_size
from prognet.errors import ConfigError, FrozenColumnError, SiteError


class ProgressiveNetwork(nn.Module):
    """A progressive network (Rusu et al. 2016, arXiv 1606.04671) of any `nn.Module`s.

    It knows no tasks and no data. A column is added for every task; the earlier columns are frozen by that, and the new
    one reads them through small adapters at its sites. Learning trains the parameters of the newest column only.

        net = ProgressiveNetwork()
        k = net.add_column(backbone, example=x)
        y = net(x, column=k)
    """

    def __init__(self, adapter: Adapter | None = None) -> None:
        """An empty network.

        Args:
            adapter: the lateral connections of every column that names no other; by default `MLPAdapter()`.
        """
        super().__init__()
        self.adapter = adapter if adapter is not None else MLPAdapter()
        self.columns = nn.ModuleList()

    def __len__(self) -> int:
        """The number of columns."""
        return len(self.columns)

    @property
    def input_shape(self) -> tuple[int, ...] | None:
        """The input shape of all columns; None without columns, or where they see inputs of several shapes."""
        return common([column.input_shape for column in self._all()])

    def alike(self, input_shape: Sequence[int]) -> tuple[int, ...]:
        """The columns that see inputs of this shape: those that a new column of this shape can read."""
        return tuple(k for k in range(len(self)) if self.column(k).input_shape == tuple(input_shape))

    def add_column(
        self,
        backbone: nn.Module,
        example: Tensor,
        sites: Sites = None,
        *,
        adapter: Adapter | None = None,
        sources: Sequence[int] | None = None,
    ) -> int:
        """Freezes all columns and adds a new one, which can learn.

        Args:
            backbone: a network from one tensor to one tensor; it becomes part of the column.
            example: an input batch (B, *input_shape); the columns that it reads see inputs of the same shape.
            sites: names or globs of the sites, `"leaves"` or `"blocks"`; None for the defaults of `probe`.
            adapter: the lateral connections of this column; None for those of the network.
            sources: the columns it reads, by index; None for all.

        Returns:
            The index of the new column.

        Raises:
            SiteError: when a site breaks the contract, is unknown, or does not fit the source columns, or when these
                see inputs of another shape.
            ConfigError: when `sources` or `backbone` are not what they must be; the network is unchanged by any error.
        """
        check_new(self, backbone, example)
        sources = tuple(range(len(self))) if sources is None else self._checked(sources)
        shape = tuple(example.shape[1:])
        check_inputs([column.input_shape for column in self._all()], sources, shape)
        found = probe(backbone, example, sites)
        if not found.sites and sources:
            raise SiteError(
                f"sites: required at least one site in the backbone, found none by default ({dict(found.skipped)}); "
                "name some with `sites=`."
            )
        senders = [self.column(source).sites for source in sources]
        column = Column(backbone, found.sites, senders, adapter or self.adapter, sources)
        column.input_shape, column.output_shape = shape, found.output_shape
        warn_of_size([self.column(index) for index in range(len(self))], column)
        self.freeze()
        self.columns.append(column)
        return len(self) - 1

    def forward(self, x: Tensor, column: int, past: Prepared | None = None) -> Tensor:
        """The output of one column.

        Args:
            x: the input, (B, *input_shape).
            column: the index of the column, counted from 0.
            past: what `prepare` made of the same input, where that is known; then no other column is run.

        Returns:
            The output (B, *output_shape of the column), for a classifier its logits.

        Raises:
            ConfigError: when there is no such column.
        """
        wanted = self.column(column)
        y, _ = wanted(x, self.prepare(x, column) if past is None else past)
        out: Tensor = y
        return out

    def prepare(self, x: Tensor, column: int) -> Prepared:
        """What the sources of a column, being frozen, hand over to it whenever they see x (B, *input_shape)."""
        wanted = self.column(column)
        activations = self.activations(x, wanted.sources)
        return wanted.prepare([activations[source] for source in wanted.sources])

    def activations(self, x: Tensor, columns: Sequence[int]) -> dict[int, Activations]:
        """What the sites of `columns`, and of all columns they read, receive on the input x (B, *input_shape)."""
        found: dict[int, Activations] = {}
        for index in self.closure(columns):
            column = self.column(index)
            _, found[index] = column(x, [found[source] for source in column.sources])
        return found

    def closure(self, columns: Sequence[int]) -> tuple[int, ...]:
        """`columns` and all columns that these read, directly or through others, in ascending order."""
        found = set(columns)
        for index in range(max(found, default=-1), -1, -1):
            if index in found:
                found.update(self.column(index).sources)
        return tuple(sorted(found))

    def column(self, index: int) -> Column:
        """The column with this index, counted from 0.

        Raises:
            ConfigError: when there is none.
        """
        if type(index) is not int or not 0 <= index < len(self):
            raise ConfigError(
                f"column: required an index from 0 to {len(self) - 1}, found {index!r}; add a column first."
            )
        column = self.columns[index]
        assert isinstance(column, Column)
        return column

    def freeze(self) -> None:
        """Freezes every column, also against an earlier `requires_grad_(True)`."""
        for column in self._all():
            column.freeze()

    def check_frozen(self) -> None:
        """Checks that no frozen column could learn, and that none has been written into since it was frozen.

        Raises:
            FrozenColumnError: when a parameter has been unfrozen, a mode was changed, or a tensor has other numbers;
                the message names the first one.
        """
        for index, column in enumerate(self._all()):
            if (problem := column.problem()) is not None:
                raise FrozenColumnError(f"column {index}: {problem}")

    def requires_grad_(self, requires_grad: bool = True) -> Self:
        """As in torch, but frozen columns stay as they are."""
        super().requires_grad_(requires_grad)
        for column in self._all():
            if column.frozen:
                column.requires_grad_(False)
        return self

    def digest(self, column: int) -> str:
        """SHA-256, in hexadecimal, over all that decides the output of a column: its parameters, buffers, structure,
        sites and adapters, and the same of every column it reads. Independent of device and of training mode.

        Raises:
            ConfigError: when there is no such column.
            FrozenColumnError: when a frozen column that it covers could learn.
        """
        self.column(column)
        kept = self.closure([column])
        return self._digests(kept)[column]

    def digests(self) -> dict[int, str]:
        """The digest of every column, each computed once; as `digest`."""
        return self._digests(range(len(self)))

    def extract(self, column: int) -> "ProgressiveNetwork":
        """A network of its own that holds one column and what this one reads, directly or through others, no more.

        Its columns are those of `closure([column])` in the same order, numbered anew from 0, so that the wanted one is
        the last. They are copies, with the outputs and the digests of the originals.

        Raises:
            ConfigError: when there is no such column.
        """
        self.column(column)
        kept = self.closure([column])
        network = ProgressiveNetwork(self.adapter)
        network.training = self.training
        for index in kept:
            part = deepcopy(self.column(index))
            part.renumber({source: number for number, source in enumerate(kept)})
            network.columns.append(part)
        return network

    def export(self, column: int, path: str | Path, example: Tensor | None = None) -> Path:
        """Writes the function of one column, in evaluation mode, for use without prognet and with any batch size.

        The file holds what the column needs and nothing else: of the columns it reads only the layers that decide its
        output. It computes on the CPU until it is moved.

        Args:
            column: the index of the column.
            path: a file that ends in `.pt2`, for torch.export, or `.onnx` (needs `pip install prognet[onnx]`).
            example: an input batch (B, *input_shape), B > 1, where the input is not of the parameters' own type.

        Returns:
            The path.

        Raises:
            ConfigError: when there is no such column, or the path has another ending.
            ExportError: when the column cannot be expressed in that form, or its packages are missing.
        """
        network = self.extract(column)
        network.freeze()
        return export_column(network.eval().to("cpu"), len(network) - 1, Path(path), example)

    def save(self, directory: str | Path, probe: Tensor | Sequence[Tensor] | None = None) -> None:
        """Writes the network into a directory: weights as safetensors, and `manifest.json`, which names them.

        Args:
            directory: where to; a network that was saved there before is replaced, and is whole until then.
            probe: inputs (B, *input_shape), best 64 of them, that are stored with what every column says to them in
                evaluation mode, so that `prognet verify` can compute it anew; a batch of each shape, where columns see
                inputs of several shapes.

        Raises:
            ConfigError: when a probe fits no column, or the columns of an earlier one.
            RunFolderError: when it cannot be written; what was there before is still there.
        """
        save_columns(Path(directory), self.columns, self.adapter, probe)

    @staticmethod
    def load(directory: str | Path, build: Callable[[int], nn.Module]) -> "ProgressiveNetwork":
        """Reads a network that `save` wrote; no pickle is involved.

        Args:
            directory: where it was saved.
            build: makes the backbone of a column by its index, with any weights.

        Raises:
            CheckpointError: when the files are damaged, or do not fit the backbones.
        """
        adapter, columns = load_columns(Path(directory), build)
        network = ProgressiveNetwork(adapter)
        network.columns = columns
        return network

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> Self:
        for column in self._all():  # all of them before any is changed
            column.refuse_other_type(fn)
        return super()._apply(fn, recurse)  # type: ignore[no-any-return,no-untyped-call]

    def _all(self) -> list[Column]:
        return [self.column(index) for index in range(len(self))]

    def _digests(self, indices: Sequence[int]) -> dict[int, str]:
        """The digests of columns that hold the sources of each other."""
        digests: dict[int, str] = {}
        for index in indices:
            column = self.column(index)
            if (problem := column.unfrozen()) is not None:
                raise FrozenColumnError(f"column {index}: {problem}")
            digests[index] = column.digest([digests[source] for source in column.sources])
        return digests

    def _checked(self, sources: Sequence[int]) -> tuple[int, ...]:
        for source in sources:
            self.column(source)
        if len(set(sources)) != len(sources):
            raise ConfigError(f"sources: required each column once, found {list(sources)}.")
        return tuple(sorted(sources))


def frozen_digests(network: ProgressiveNetwork) -> Mapping[str, str]:
    """The digest of every frozen column, by the name `"column <index>"`."""
    return {f"column {k}": digest for k, digest in network.digests().items() if network.column(k).frozen}
