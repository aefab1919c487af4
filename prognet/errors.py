"""The errors of prognet.

Every error is a `PrognetError` and, at the same time, the builtin error that it specialises, so that callers may catch
either. A message names the argument, what was required, what was found, and the remedy.
"""

from collections.abc import Iterable
from difflib import get_close_matches


class PrognetError(Exception):
    """Base of every error that prognet raises on purpose."""


class ConfigError(PrognetError, ValueError):
    """A setting that cannot be carried out, found before any work starts."""


class UsageError(PrognetError, ValueError):
    """A command line that cannot be carried out as it stands."""


class UnknownNameError(PrognetError, LookupError):
    """A name that the catalogue (streams, strategies, backbones, recipes) does not have."""


class SiteError(PrognetError, ValueError):
    """A site that breaks the contract: one call a forward pass, one tensor in, one tensor out."""


class FrozenColumnError(PrognetError, RuntimeError):
    """A frozen column has changed, or something tried to change it."""


class CheckpointError(PrognetError, ValueError):
    """A saved network that is damaged, foreign, or does not fit the modules it is loaded into."""


class ExportError(PrognetError, RuntimeError):
    """A column that cannot be expressed in the form in which it was to be exported, or packages that this needs."""


class StreamError(PrognetError, ValueError):
    """Data that cannot be a stream of tasks."""


class MissingDataError(PrognetError, FileNotFoundError):
    """A data set that is not where it was said to be."""


class UnlearnedTaskError(PrognetError, LookupError):
    """A prediction asked for a task that the strategy has not learned."""


class ControlUnavailableError(PrognetError, TypeError):
    """A control experiment that this backbone does not allow; the message says why."""


class DivergedError(PrognetError, ArithmeticError):
    """Training produced a loss that is not a finite number."""


class RunFolderError(PrognetError, OSError):
    """A run folder that cannot be read, written, or continued."""


class UnwritableError(RunFolderError):
    """A file that cannot be written, because the disk is full or the folder is not ours: no further run can be kept."""


class LockedError(RunFolderError):
    """A folder in which another process is at work."""


class MemoryExhaustedError(PrognetError, MemoryError):
    """A run that needs more memory than the device or the machine has; the message says what to reduce."""


class RunError(PrognetError, RuntimeError):
    """A run of a comparison that was ended by an error of other code; the message says where its traceback is."""


class CompileError(PrognetError, RuntimeError):
    """An update that torch cannot compile as a whole."""


class DeterminismError(PrognetError, RuntimeError):
    """An operation that torch cannot compute with the same bits every time, in a run that asks for that."""


class JSONValueError(PrognetError, TypeError):
    """A value for which JSON has no form, in a configuration or a document to be written."""


class NotStackableError(PrognetError, RuntimeError):
    """Runs that cannot be trained together; they are then trained one by one."""


class WorkerLostError(PrognetError, RuntimeError):
    """A process or machine that carried out a run has died, again and again."""


class DisagreementError(PrognetError, RuntimeError):
    """Processes that share a run have come to different numbers; the message names the process."""


class AdapterSizeWarning(UserWarning):
    """The adapters of a column are larger than the column itself."""


class ClusterWarning(UserWarning):
    """A cluster that has lost a worker, or has no machine for a run at present."""


class HostMemoryWarning(UserWarning):
    """The samples of a task are larger than what may lie on the device."""


class CompileWarning(UserWarning):
    """A part of a training is not compiled, since too many versions of it would be needed."""


def unknown_name(kind: str, name: str, known: Iterable[str]) -> UnknownNameError:
    """The error for a name that is not known, with the nearest known one as a suggestion.

    Args:
        kind: what is named, e.g. `"strategy"`.
        name: the name that was given.
        known: the names that there are.
    """
    names = sorted(known)
    close = get_close_matches(str(name), names, n=1, cutoff=0.5)
    hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(names) or 'none'}."
    return UnknownNameError(f"{kind}: {name!r} is not known; {hint}")


class StackingWarning(UserWarning):
    """Runs that were to be trained together are trained one by one; the message says why."""
