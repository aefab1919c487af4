"""The command line: parse, call, print. Options are made from the configuration classes; only a run imports torch."""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from prognet.catalogue import BACKBONES, STRATEGIES, STREAMS, Entry, lookup, make_backbone
from prognet.errors import ControlUnavailableError, PrognetError, unknown_name
from prognet.recipes import OWN_DATA, RECIPES, Experiment, Recipe
from prognet.tuned import read_tuned, write_tuned

if TYPE_CHECKING:
    from prognet.strategies import Strategy

_USAGE = """\
prognet: progressive networks, and the harness in which they are compared

  prognet run NAME [options]     compare strategies on a stream, and write a report
  prognet tune NAME [options]    choose hyper-parameters on validation data, for `run --tuned`
  prognet report FOLDER          write the report of a run folder again
  prognet verify FOLDER          prove from the files that no frozen column has changed
  prognet list                   recipes, streams, strategies, backbones

`prognet run NAME --help` shows the options of a recipe or stream. To begin: prognet run demo
"""


@dataclass(frozen=True, kw_only=True)
class RunArguments:
    """Compares strategies on a stream; a run that is finished is not run again, a killed one goes on."""

    experiment: Experiment
    out: Path
    """Folder of the runs and the report."""
    tuned: Path | None = None
    """A file that `prognet tune` wrote: each strategy is trained with its own choice."""


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


@dataclass(frozen=True, kw_only=True)
class VerifyArguments:
    """Proves from the files of a run folder that no frozen column has changed since it was frozen."""

    backbone: str | None = None
    """The backbone, as module:function, where it is not one of prognet's own."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Carries out a command line -> the exit code: 0 done, 1 something failed, 2 refused, 130 stopped."""
    line = list(sys.argv[1:] if arguments is None else arguments)
    sys.path.insert(0, "")  # so that a module:function beside the user is found
    try:
        if not line or line[0] in ("-h", "--help"):
            sys.stdout.write(_USAGE)
            return 0
        if line[0] not in _COMMANDS:
            raise unknown_name("command", line[0], _COMMANDS)
        return _COMMANDS[line[0]](line[1:])
    except PrognetError as error:
        sys.stderr.write(f"prognet: {error}\n")
        return 2
    except KeyboardInterrupt:
        sys.stderr.write("prognet: stopped; every finished task is kept: the same command goes on from there.\n")
        return 130


def run_command(line: Sequence[str]) -> int:
    """`prognet run`."""
    recipe, arguments = _parse(RunArguments, "run", line)
    experiment: Experiment = arguments.experiment
    tuned = {} if arguments.tuned is None else read_tuned(arguments.tuned)
    from prognet.evaluation import grid
    from prognet.report import write_report
    from prognet.watch import Display

    strategies, unavailable = _strategies(experiment)
    with Display(arguments.out) as display:
        outcome = grid(
            strategies,
            _stream_maker(recipe, experiment),
            out=arguments.out,
            seeds=range(experiment.seeds),
            orders=range(experiment.orders),
            training=experiment.training,
            tuned={name: training for name, training in tuned.items() if name in experiment.strategies},
            measurement=experiment.measurement,
            device=experiment.device,
            threads=experiment.threads,
            observer=display,
            command=["prognet", "run", *line],
            unavailable=unavailable,
        )
    for name, reason in [*unavailable.items(), *outcome.failed.items()]:
        sys.stderr.write(f"prognet: {name}: {reason}\n")
    if len(outcome.results):
        sys.stdout.write(f"report: {write_report(arguments.out)}\n")
    return 1 if outcome.failed else 0


def tune_command(line: Sequence[str]) -> int:
    """`prognet tune`."""
    recipe, arguments = _parse(TuneArguments, "tune", line)
    experiment: Experiment = arguments.experiment
    from prognet.evaluation.tune import tune
    from prognet.watch import Display

    strategies, _ = _strategies(experiment)
    with Display(arguments.out) as display:
        found = tune(
            strategies,
            _stream_maker(recipe, experiment)(0).first(arguments.tasks),
            training=experiment.training,
            measurement=experiment.measurement,
            trials=arguments.trials,
            seeds=range(experiment.seeds),
            device=experiment.device,
            threads=experiment.threads,
            observer=display,
        )
    write_tuned(arguments.out, found)
    for name, choice in found.choices.items():
        sys.stdout.write(f"{name}: {choice.describe()}\n")
    sys.stdout.write(f"written: {arguments.out}; use it with: prognet run {line[0]} --tuned {arguments.out}\n")
    return 0


def report_command(line: Sequence[str]) -> int:
    """`prognet report`."""
    from prognet.report import write_report

    sys.stdout.write(f"report: {write_report(_folder('report', line))}\n")
    return 0


def verify_command(line: Sequence[str]) -> int:
    """`prognet verify`."""
    import tyro

    folder = _folder("verify", line[:1])
    arguments = tyro.cli(VerifyArguments, args=line[1:], prog="prognet verify FOLDER")
    from prognet.evaluation import verify

    verdicts = []
    for verdict in verify(folder, None if arguments.backbone is None else make_backbone(arguments.backbone)):
        verdicts.append(verdict)
        state = f"{verdict.parts} frozen parts unchanged" if verdict.problem is None else f"FAILED: {verdict.problem}"
        sys.stdout.write(f"{verdict.run}: {state}\n")
    failed = sum(verdict.problem is not None for verdict in verdicts)
    sys.stdout.write(f"{len(verdicts) - failed} of {len(verdicts)} runs verified\n")
    return 1 if failed else 0


def list_command(line: Sequence[str]) -> int:
    """`prognet list`."""
    recipes = {name: Entry("", (maker.__doc__ or "").splitlines()[0]) for name, maker in [("demo", RECIPES["demo"])]}
    sections = {"recipes": recipes, "streams": STREAMS, "strategies": STRATEGIES, "backbones": BACKBONES}
    for title, entries in sections.items():
        sys.stdout.write(f"{title}\n")
        sys.stdout.writelines(f"  {name:<22}{entry.summary}\n" for name, entry in entries.items())
    return 0


_COMMANDS: Mapping[str, Callable[[Sequence[str]], int]] = MappingProxyType(
    {
        "run": run_command,
        "tune": tune_command,
        "report": report_command,
        "verify": verify_command,
        "list": list_command,
    }
)


def _parse(kind: type[Any], command: str, line: Sequence[str]) -> tuple[Recipe, Any]:
    """The recipe that the line names, and the line's options over the recipe's defaults."""
    import tyro

    names = [*RECIPES, *OWN_DATA]
    if not line or line[0] in ("-h", "--help"):
        sys.stdout.write(f"usage: prognet {command} NAME [options]; prognet {command} NAME --help shows the options.\n")
        sys.stdout.write(f"names: {', '.join(names)}\n")
        raise SystemExit(0 if line else 2)
    if line[0] not in names:
        raise unknown_name("recipe or stream", line[0], names)
    recipe = RECIPES[line[0]]() if line[0] in RECIPES else _own_data(line[0], tyro.MISSING)
    default = kind(experiment=recipe.experiment, out=tyro.MISSING if command == "tune" else Path("runs") / line[0])
    arguments = tyro.cli(
        kind,
        args=line[1:],
        default=default,
        prog=f"prognet {command} {line[0]}",
        config=(tyro.conf.OmitArgPrefixes, tyro.conf.AvoidSubcommands),
    )
    for name in arguments.experiment.strategies:
        if name not in STRATEGIES:
            raise unknown_name("strategy", name, STRATEGIES)
    return recipe, arguments


def _own_data(name: str, missing: Any) -> Recipe:
    options: Any = OWN_DATA[name]
    required = {"from-npz": "path", "from-folder": "root"}[name]
    return Recipe(name, Experiment(options=options(**{required: missing})))


def _stream_maker(recipe: Recipe, experiment: Experiment) -> Callable[[int], Any]:
    builder = lookup("stream", recipe.stream, STREAMS)
    options = {item: getattr(experiment.options, item) for item in asdict(experiment.options)}
    return lambda order: builder(**options, seed=order)


def _strategies(experiment: Experiment) -> tuple[list["Strategy"], dict[str, str]]:
    """The strategies that were asked for, and why the others are unavailable."""
    backbone = make_backbone(experiment.backbone)
    strategies: list[Strategy] = []
    unavailable: dict[str, str] = {}
    for name in experiment.strategies:
        try:
            strategies.append(lookup("strategy", name, STRATEGIES)(backbone))
        except ControlUnavailableError as error:
            unavailable[name] = str(error)
    return strategies, unavailable


def _folder(command: str, line: Sequence[str]) -> Path:
    if len(line) != 1 or line[0] in ("-h", "--help"):
        sys.stdout.write(f"usage: prognet {command} FOLDER\n")
        raise SystemExit(0 if line and line[0] in ("-h", "--help") else 2)
    return Path(line[0])
