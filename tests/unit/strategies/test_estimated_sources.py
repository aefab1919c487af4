"""Sources that an estimate of relatedness names: by name on the command line, stored with the run, rebuilt from it."""

from pathlib import Path
from typing import get_args

import pytest
import torch

from prognet.analysis.estimates import Estimate
from prognet.catalogue import STRATEGIES, resolve
from prognet.evaluation import verify
from prognet.strategies import Progressive, TopSources
from prognet.strategies.specification import specification_from
from prognet.streams import from_arrays
from tests.helpers.runs import PLAIN, quick_run
from tests.helpers.streams import make_stream

NAMED = {"leep": "progressive-leep", "nce": "progressive-nce", "logme": "progressive-logme"}
NAMED |= {"hscore": "progressive-hscore", "cka": "progressive-cka", "knn": "progressive-top1"}


@pytest.mark.parametrize("by", NAMED)
def test_an_estimate_has_its_name_on_the_command_line(by: str) -> None:
    strategy: Progressive = resolve(STRATEGIES[NAMED[by]].target)(PLAIN)
    assert strategy.growth.sources == TopSources(1, by=by)  # type: ignore[arg-type]
    assert strategy.name == NAMED[by]


@pytest.mark.parametrize("by", get_args(Estimate))
def test_a_choice_by_any_estimate_is_verified_without_data(by: Estimate, tmp_path: Path) -> None:
    sources = TopSources(1, by=by)
    assert specification_from(TopSources, "sources", sources.describe()) == sources
    result = quick_run(Progressive(PLAIN, sources=sources), make_stream((2, 3, 4)), out=tmp_path)
    choice = result.choices[2]
    best = max(range(2), key=lambda index: (choice["evidence"][index], index))
    assert choice["sources"] == [best]
    assert result.learner.columns.network.column(2).sources == (best,)
    (verdict,) = verify(tmp_path)
    assert (verdict.problem, verdict.parts) == (None, 3)


def test_three_samples_are_too_few_for_cka_alone() -> None:
    stream = make_stream((2, 2, 2), [20, 20, 3])
    by_cka = quick_run(Progressive(PLAIN, sources=TopSources(1, by="cka")), stream)
    assert by_cka.choices[2]["evidence"] == [0.0, 1.0]  # the latest
    by_score = quick_run(Progressive(PLAIN, sources=TopSources(1, by="hscore")), stream)
    assert by_score.choices[2]["evidence"] != [0.0, 1.0]


@pytest.mark.parametrize("by", ["leep", "nce"])
def test_outputs_that_are_no_classes_say_nothing_about_classes(by: Estimate, tmp_path: Path) -> None:
    x = torch.randn(40, 6, generator=torch.Generator().manual_seed(0))
    classes, numbers, labels = x[:, :3].argmax(1), x[:, 0] * 5, (x[:, :2] > 0).float()
    stream = from_arrays(
        [(x, y, x, y) for y in (numbers, classes, labels, classes)],
        kinds=["regression", "classification", "multi-label", "classification"],
    )
    result = quick_run(Progressive(PLAIN, sources=TopSources(1, by=by)), stream, out=tmp_path)
    assert result.choices[1]["evidence"] == [None]
    assert [value is None for value in result.choices[3]["evidence"]] == [True, False, True]
    assert result.choices[3]["sources"] == [1]
    (verdict,) = verify(tmp_path)
    assert verdict.problem is None
