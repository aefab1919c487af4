"""The proof again, from the files: that no frozen part of any run has changed since it was frozen."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from prognet.backbones import BackboneSpecification, describe_backbone
from prognet.config import Measurement, Training
from prognet.errors import ConfigError, PrognetError, RunFolderError
from prognet.evaluation.harness import rebuild
from prognet.evaluation.store import PROGRESS_FILE, RunStore
from prognet.results import RESULT_FILE, RunResult
from prognet.strategies import Strategy, strategy_from
from prognet.strategies.base import Backbone
from prognet.streams.objectives import Classification
from prognet.streams.task import outline_of
from prognet.training import Session


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of the proof of one run."""

    run: str
    """The run's folder, relative to the one that was verified."""
    parts: int
    """Frozen parts whose digest was computed anew."""
    problem: str | None
    """What does not hold; None when everything does."""


def verify(folder: str | Path, backbone: Backbone | None = None) -> Iterator[Verdict]:
    """Rebuilds the networks of every run below `folder`, loads their tensors and compares every recorded digest.

    Nothing in a folder names code that is run: a backbone that is not one of prognet's own has to be given.

    Args:
        folder: a run folder.
        backbone: the backbone of the runs, where it is not one of prognet's own.

    Returns:
        One verdict for each run, in turn.

    Raises:
        RunFolderError: when there is no run below the folder.
    """
    root = Path(folder)
    places = sorted({path.parent for name in (RESULT_FILE, PROGRESS_FILE) for path in root.rglob(name)})
    if not places:
        raise RunFolderError(f"folder: required at least one run below {root}, found none.")
    for place in places:
        try:
            yield Verdict(str(place.relative_to(root)), _verified_parts(place, backbone), None)
        except PrognetError as error:
            yield Verdict(str(place.relative_to(root)), 0, str(error))


def _verified_parts(place: Path, backbone: Backbone | None) -> int:
    store = RunStore(place)
    result = store.finished() or store.progress()
    if result is None:
        raise RunFolderError(f"{place}: required a finished step, found none.")
    digests = _digests_from_files(store, result, backbone)
    names = [list(recorded) for recorded in result.digests[-1:]]
    if len(result.digests) != len(result.schedule) or names != [list(digests)]:
        raise RunFolderError(
            f"{place}: required a record of {list(digests)} after each of {len(result.schedule)} steps, found "
            f"{names} after the last of {len(result.digests)}; the record was changed."
        )
    for step, recorded in enumerate(result.digests):
        for name, digest in recorded.items():
            if digests.get(name) != digest:
                raise RunFolderError(
                    f"{place}: required digest {digest} of {name}, as recorded after step {step}, found "
                    f"{digests.get(name)} in {store.weights_of(result).name}; the part or the record was changed."
                )
    return len(digests)


def _digests_from_files(store: RunStore, result: RunResult, backbone: Backbone | None) -> dict[str, str]:
    try:
        learner = _rebuilt(result, backbone or _backbone_of(result))
    except PrognetError:
        raise
    except Exception as error:  # whatever a damaged configuration leads to
        raise RunFolderError(f"{store.folder}: required the configuration of a run, found {error!r}.") from error
    store.load_weights(learner, result)
    return dict(learner.frozen_digests())


def _rebuilt(result: RunResult, backbone: Backbone) -> Strategy:
    """The networks of a run, untrained, as its configuration describes them."""
    strategy = strategy_from(result.config["strategy"], backbone)
    session = Session(
        training=Training(epochs=0), measurement=Measurement(), seed=result.seed, device=torch.device("cpu")
    )
    tasks = [outline_of(summary, Classification(summary.n_classes)) for summary in result.tasks]
    return rebuild(strategy, tasks, result.schedule, session, result.choices)


def _backbone_of(result: RunResult) -> Backbone:
    from prognet import backbones

    name, arguments = result.config["backbone"]["name"], result.config["backbone"]["arguments"]
    makers = {specification.name for specification in BackboneSpecification.__subclasses__()}
    if name not in makers:
        raise ConfigError(
            f"backbone: required one of prognet's own {sorted(makers)}, found {name!r} in the run's configuration; "
            f"give it yourself, on the command line with --backbone {name}."
        )
    backbone: Backbone = getattr(backbones, name)(**arguments)
    if describe_backbone(backbone)["arguments"] != arguments:
        raise ConfigError(f"backbone: required arguments of {name}, found {arguments!r} in the run's configuration.")
    return backbone
