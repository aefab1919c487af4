"""The command line: parse, call, print. Options are made from the configuration classes; only a run imports torch."""

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from prognet.arguments import AnalyseArguments, ReportArguments, RunArguments, TuneArguments, VerifyArguments
from prognet.catalogue import BACKBONES, STRATEGIES, STREAMS, Entry, make_backbone, make_strategies, stream_maker
from prognet.errors import PrognetError, RunFolderError, UsageError, unknown_name
from prognet.recipes import OWN_DATA, RECIPES, Experiment, Recipe
from prognet.tuned import read_tuned, write_tuned
from prognet.version import __version__

if TYPE_CHECKING:
    from prognet.config import Training
    from prognet.strategies import Strategy

_USAGE = """\
prognet: progressive networks, and the harness in which they are compared

  prognet run NAME [options]     compare strategies on a stream, and write a report
  prognet tune NAME [options]    choose hyper-parameters on validation data, for `run --tuned`
  prognet report FOLDER          write the report of a run folder again
  prognet verify FOLDER          prove from the files that no frozen column has changed
  prognet analyse FOLDER         which earlier columns every column relies on, for `report`
  prognet list                   recipes, streams, strategies, backbones

`prognet run NAME --help` shows the options of a recipe or stream. To begin: prognet run demo
"""
_HELP = ("-h", "--help")
_NAMES = (*RECIPES, *OWN_DATA)


def main(arguments: Sequence[str] | None = None) -> int:
    """Carries out a command line -> the exit code: 0 done, 1 something failed, 2 refused, 130 stopped."""
    line = list(sys.argv[1:] if arguments is None else arguments)
    path = list(sys.path)
    try:
        code = _carry_out(line)
        sys.stdout.flush()
        return code
    except PrognetError as error:
        sys.stderr.write(f"prognet: {error}\n")
        return 2
    except SystemExit as stop:  # tyro has shown the help, or what it could not read
        return stop.code if isinstance(stop.code, int) else 2
    except KeyboardInterrupt:
        kept = {"run": "task", "analyse": "run"}.get("".join(line[:1]))
        goes_on = f"; every finished {kept} is kept: the same command goes on from there" if kept else ""
        sys.stderr.write(f"prognet: stopped{goes_on}.\n")
        return 130
    except BrokenPipeError:  # whoever read the output, such as `head`, has gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    finally:
        sys.path[:] = path


def run_command(line: Sequence[str]) -> int:
    """`prognet run`."""
    recipe, arguments = _parse(RunArguments, "run", line)
    experiment: Experiment = arguments.experiment
    tuned = {} if arguments.tuned is None else read_tuned(arguments.tuned)
    for name in [name for name in experiment.strategies if arguments.tuned and name not in tuned]:
        sys.stderr.write(
            f"prognet: {name}: {arguments.tuned} has no choice for it; it is trained as all would be without.\n"
        )
    tuned = {name: training for name, training in tuned.items() if name in experiment.strategies}
    from prognet.evaluation import grid
    from prognet.report import write_report
    from prognet.watch import Display

    strategies, unavailable = make_strategies(experiment.strategies, experiment.backbone)
    if arguments.fine_tuning is not None:
        strategy, training = _searched(arguments.fine_tuning, experiment)
        strategies, tuned = [*strategies, strategy], {**tuned, strategy.name: training}
    with Display(arguments.out, is_silent=not _is_first()) as display:
        outcome = grid(
            strategies,
            stream_maker(recipe.stream, experiment.options),
            out=arguments.out,
            seeds=range(experiment.seeds),
            orders=range(experiment.orders),
            training=experiment.training,
            tuned=tuned,
            measurement=experiment.measurement,
            execution=experiment.execution,
            device=experiment.device,
            threads=experiment.threads,
            observer=display,
            command=["prognet", "run", *line],
            unavailable=unavailable,
            workers=arguments.workers,
        )
    if not _is_first():
        return 1 if outcome.failed else 0
    for name, reason in [*unavailable.items(), *outcome.failed.items()]:
        sys.stderr.write(f"prognet: {name}: {reason}\n")
    if len(outcome.results):
        sys.stdout.write(f"report: {write_report(arguments.out)}\n")
    return 1 if outcome.failed else 0


def tune_command(line: Sequence[str]) -> int:
    """`prognet tune`."""
    recipe, arguments = _parse(TuneArguments, "tune", line)
    experiment: Experiment = arguments.experiment
    _require_file("out", arguments.out)
    if arguments.fine_tuning is not None:
        _require_file("fine-tuning", arguments.fine_tuning)
        if arguments.fine_tuning == arguments.out:
            raise UsageError(f"fine-tuning: required another file than --out, found {arguments.out} twice.")
    from prognet.evaluation.tuning import tune
    from prognet.watch import Display

    strategies, unavailable = make_strategies(experiment.strategies, experiment.backbone)
    stream = stream_maker(recipe.stream, experiment.options)(0).first(arguments.tasks)
    settings: dict[str, Any] = {
        "training": experiment.training,
        "execution": experiment.execution,
        "trials": arguments.trials,
        "seeds": range(experiment.seeds),
        "device": experiment.device,
        "threads": experiment.threads,
    }
    with Display(arguments.out) as display:
        found = tune(strategies, stream, measurement=experiment.measurement, observer=display, **settings)
    sys.stderr.writelines(f"prognet: {name}: {reason}\n" for name, reason in unavailable.items())
    sys.stdout.writelines(f"{name}: {choice.describe()}\n" for name, choice in found.choices.items())
    write_tuned(arguments.out, found)
    sys.stdout.write(f"written: {arguments.out}; use it with: prognet run {line[0]} --tuned {arguments.out}\n")
    if arguments.fine_tuning is not None:
        from prognet.evaluation.recipe_search import search_recipe

        with Display(arguments.fine_tuning) as display:
            search = search_recipe(make_backbone(experiment.backbone), stream, observer=display, **settings)
        sys.stdout.write(f"{search.summary()}\n")
        search.save(arguments.fine_tuning)
        sys.stdout.write(f"written: {arguments.fine_tuning}; use it with: --fine-tuning {arguments.fine_tuning}\n")
    return 0


def report_command(line: Sequence[str]) -> int:
    """`prognet report`."""
    arguments = _read(ReportArguments, "report", line)
    from prognet.report import damaged_files, write_report

    sys.stdout.write(f"report: {write_report(arguments.folder)}\n")
    damaged = damaged_files(arguments.folder)
    sys.stderr.writelines(f"prognet: left out: {problem}\n" for problem in damaged.values())
    return 1 if damaged else 0


def verify_command(line: Sequence[str]) -> int:
    """`prognet verify`."""
    arguments = _read(VerifyArguments, "verify", line)
    from prognet.evaluation import verify

    verdicts = []
    for verdict in verify(arguments.folder, arguments.backbone and make_backbone(arguments.backbone)):
        verdicts.append(verdict)
        sys.stdout.write(f"{verdict.run}: {verdict.summary}\n")
    failed = sum(verdict.problem is not None for verdict in verdicts)
    sys.stdout.write(f"{len(verdicts) - failed} of {len(verdicts)} runs verified\n")
    return 1 if failed else 0


def analyse_command(line: Sequence[str]) -> int:
    """`prognet analyse`."""
    arguments = _read(AnalyseArguments, "analyse", line)
    from prognet.catalogue import stream_again
    from prognet.evaluation import analyse
    from prognet.watch import Display

    with Display(arguments.folder, unit="columns") as display:
        found = list(
            analyse(
                arguments.folder,
                lambda run: stream_again(run.config, arguments.root),
                look=arguments.look,
                backbone=arguments.backbone and make_backbone(arguments.backbone),
                device=arguments.device,
                observer=display,
            )
        )
    for run in found:
        sys.stdout.write(f"{run.run}: {f'columns analysed: {run.columns}' if run.problem is None else run.problem}\n")
    sys.stdout.write(f"show them with: prognet report {arguments.folder}\n")
    return 1 if any(run.failed for run in found) else 0


def list_command(line: Sequence[str]) -> int:
    """`prognet list`."""
    if line:
        raise UsageError(f"list: required nothing more, found {' '.join(line)}; it shows everything at once.")
    own = {name: make for name, make in RECIPES.items() if name not in STREAMS}
    recipes = {name: Entry("", (make.__doc__ or "").splitlines()[0]) for name, make in own.items()}
    sections = {"recipes": recipes, "streams": STREAMS, "strategies": STRATEGIES, "backbones": BACKBONES}
    for title, entries in sections.items():
        sys.stdout.write(f"{title}\n")
        sys.stdout.writelines(f"  {name:<24}{entry.summary}\n" for name, entry in entries.items())
    return 0


_COMMANDS: Mapping[str, Callable[[Sequence[str]], int]] = MappingProxyType(
    {
        "run": run_command,
        "tune": tune_command,
        "report": report_command,
        "verify": verify_command,
        "analyse": analyse_command,
        "list": list_command,
    }
)


def _carry_out(line: Sequence[str]) -> int:
    if not line or line[0] in _HELP or (line[0] in ("run", "tune", "list") and line[1:] and line[1] in _HELP):
        sys.stdout.write(f"{_USAGE}NAME is one of {', '.join(_NAMES)}.\n")
        return 0
    if line == ["--version"]:
        sys.stdout.write(f"prognet {__version__}\n")
        return 0
    if line[0] not in _COMMANDS:
        raise unknown_name("command", line[0], _COMMANDS)
    if line[0] != "run" and (count := os.environ.get("WORLD_SIZE", "1")) != "1":
        raise UsageError(f"{line[0]}: required one process, found {count} of torchrun, which can share `run` only.")
    return _COMMANDS[line[0]](line[1:])


def _require_file(option: str, path: Path) -> None:
    if path.is_dir():
        raise RunFolderError(f"{option}: required the name of a file, found the folder {path}; add a file name.")


def _searched(path: Path, experiment: Experiment) -> "tuple[Strategy, Training]":
    """The strategy that follows the recipe of a file, and how it is trained."""
    from prognet.evaluation.recipe_search import read_recipe
    from prognet.strategies import FineTune
    from prognet.tuned import SEARCHED

    recipe, training = read_recipe(path)
    return FineTune(make_backbone(experiment.backbone), recipe=recipe, name=SEARCHED), training


def _is_first() -> bool:
    """Whether this process speaks for those that torchrun has started."""
    return os.environ.get("RANK", "0") == "0"


def _read(kind: type[Any], command: str, line: Sequence[str]) -> Any:
    import tyro

    config = (tyro.conf.PositionalRequiredArgs, tyro.conf.OmitArgPrefixes)
    return tyro.cli(kind, args=line, prog=f"prognet {command}", config=config)


def _parse(kind: type[Any], command: str, line: Sequence[str]) -> tuple[Recipe, Any]:
    """The recipe that the line names, and the line's options over the recipe's defaults."""
    import tyro

    if not line or line[0].startswith("-"):
        found = line[0] if line else "nothing"
        raise UsageError(f"{command}: required a name first, one of {', '.join(_NAMES)}; found {found}.")
    if line[0] not in _NAMES:
        raise unknown_name("recipe or stream", line[0], _NAMES)
    recipe = RECIPES[line[0]]() if line[0] in RECIPES else _own_data(line[0], tyro.MISSING)
    default = kind(experiment=recipe.experiment, out=tyro.MISSING if command == "tune" else Path("runs") / line[0])
    config = (tyro.conf.OmitArgPrefixes, tyro.conf.AvoidSubcommands)
    arguments = tyro.cli(kind, args=line[1:], default=default, prog=f"prognet {command} {line[0]}", config=config)
    for name in arguments.experiment.strategies:
        if name not in STRATEGIES:
            raise unknown_name("strategy", name, STRATEGIES)
    return recipe, arguments


def _own_data(name: str, missing: Any) -> Recipe:
    options: Any = OWN_DATA[name]
    required = {"from-npz": "path", "from-folder": "root"}[name]
    return Recipe(name, Experiment(options=options(**{required: missing})))
