"""What every command of the command line is given: the options are made from these classes."""

from dataclasses import dataclass, field
from pathlib import Path

from prognet.analysed import Look
from prognet.config import Workers
from prognet.recipes import Experiment


@dataclass(frozen=True, kw_only=True)
class RunArguments:
    """Compares strategies on a stream; a run that is finished is not run again, a killed one goes on."""

    experiment: Experiment
    out: Path
    """Folder of the runs and the report."""
    tuned: Path | None = None
    """A file that `prognet tune` wrote: each strategy is trained with its own choice."""
    fine_tuning: Path | None = None
    """A file that `prognet tune --fine-tuning` wrote: its recipe is compared too, as finetune-searched."""
    workers: Workers = field(default_factory=Workers)
    """What carries out the runs."""


@dataclass(frozen=True, kw_only=True)
class TuneArguments:
    """Chooses hyper-parameters for every strategy by a seeded search with one budget, on validation data."""

    experiment: Experiment
    out: Path
    """The file to write, e.g. tuned.json."""
    trials: int = 12
    """Settings tried for each strategy, the same for all; the first one is that of the recipe."""
    tasks: int = 3
    """The first tasks of the stream, on whose validation splits the settings are compared."""
    fine_tuning: Path | None = None
    """A second file to write, with a recipe of fine-tuning whose fields have been searched by as many trials."""


@dataclass(frozen=True, kw_only=True)
class ReportArguments:
    """Writes the report of a run folder again: report.html, figures and tables."""

    folder: Path
    """The folder that `prognet run` wrote to."""


@dataclass(frozen=True, kw_only=True)
class VerifyArguments:
    """Proves from the files of runs or saved networks that no frozen column has changed since it was frozen."""

    folder: Path
    """The folder that `prognet run` wrote to, or the directory of a saved network."""
    backbone: str | None = None
    """The backbone, as module:function, where it is not one of prognet's own."""


@dataclass(frozen=True, kw_only=True)
class AnalyseArguments:
    """Measures on which earlier columns every column relies, and how tasks are related, for the report."""

    folder: Path
    """The folder that `prognet run` wrote to."""
    root: Path | None = None
    """Where the data lie, for a stream that is not embedded: the folder of the data set or tasks, or the .npz file."""
    look: Look = field(default_factory=Look)
    """How the columns are looked at."""
    backbone: str | None = None
    """The backbone, as module:function, where it is not one of prognet's own."""
    device: str = "auto"
    """Where to compute: auto, cpu, cuda, cuda:1, mps."""
