"""The search for a recipe: seeded, judged on validation data alone, and reported."""

import json
from collections.abc import Sequence
from dataclasses import replace
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from prognet.config import Execution, Training
from prognet.errors import ConfigError, RunFolderError
from prognet.evaluation.recipe_search import SPACE, RecipeSearch, draw_recipes, read_recipe, search_recipe
from prognet.evaluation.tuning import draw_trials
from prognet.files import read_json, write_json
from prognet.metrics import average_accuracy
from prognet.strategies import FineTune, FineTuning
from prognet.streams import from_arrays
from prognet.streams.stream import Stream
from tests.helpers.commands import Recorder
from tests.helpers.data import blobs, with_split
from tests.helpers.runs import PLAIN, quick_run
from tests.helpers.streams import make_stream

TRAINING = Training(epochs=2, batch_size=16, lr=0.01)


def search(**changes: Any) -> RecipeSearch:
    stream = changes.pop("stream", None) or blobs((2, 3))
    return search_recipe(PLAIN, stream, **{"training": TRAINING, "trials": 3, "device": "cpu", **changes})


def test_the_first_trial_is_what_was_given_and_the_others_come_from_the_space() -> None:
    base = FineTuning(head_l1=0.5)
    found = list(draw_recipes(base, SPACE, 200))
    assert found[0] == base
    for name, choices in SPACE.items():
        assert {getattr(recipe, name) for recipe in found[1:]} == set(choices)
    assert all(recipe.head_l1 == 0.5 for recipe in found)
    assert found[:7] == list(draw_recipes(base, SPACE, 7))


def test_combinations_that_are_no_recipe_are_drawn_again() -> None:
    space = {"trunk": ("full", "frozen"), "decay": (1.0, 0.5)}
    found = {(recipe.trunk, recipe.decay) for recipe in draw_recipes(FineTuning(), space, 60)}
    assert found == {("full", 1.0), ("full", 0.5), ("frozen", 1.0)}
    with pytest.raises(ConfigError, match="space: required combinations that are recipes, found none in 100 draws"):
        list(draw_recipes(FineTuning(), {"trunk": ("frozen",), "decay": (0.5,)}, 2))
    with pytest.raises(ConfigError, match=r"space: required fields of a recipe, found \['lr'\]"):
        list(draw_recipes(FineTuning(), {"lr": (0.1,)}, 2))


def test_trials_have_the_trainings_of_every_other_search() -> None:
    found = search()
    assert [training for _, training in found.trials] == list(draw_trials(TRAINING, 3))
    assert [recipe for recipe, _ in found.trials] == list(draw_recipes(FineTuning(), SPACE, 3))


def test_trials_are_computed_as_is_asked_for() -> None:
    found: set[bool] = set()

    class Noting(nn.Linear):
        def forward(self, x: Tensor) -> Tensor:
            found.add(torch.are_deterministic_algorithms_enabled())
            return super().forward(x)

    def backbone(shape: Sequence[int], n_classes: int) -> nn.Module:
        return nn.Sequential(nn.Flatten(), Noting(prod(shape), 4), nn.ReLU(), nn.Linear(4, n_classes))

    search_recipe(backbone, blobs((2, 3)), training=TRAINING, trials=1, device="cpu")
    assert found == {False}
    found.clear()
    deterministic = Execution(deterministic=True)
    search_recipe(backbone, blobs((2, 3)), training=TRAINING, trials=1, device="cpu", execution=deterministic)
    assert found == {True}


def test_a_score_is_the_average_accuracy_on_the_validation_splits_and_the_best_is_kept() -> None:
    found = search(seeds=(4, 1), training=replace(TRAINING, lr=1e-7, epochs=6), trials=5)
    stream = Stream([replace(task, test=task.val) for task in blobs((2, 3))], name="blobs", seed=0)
    for (recipe, training), score in zip(found.trials, found.scores, strict=True):
        runs = [quick_run(FineTune(PLAIN, recipe=recipe), stream, training=training, seed=seed) for seed in (4, 1)]
        assert score == np.mean([average_accuracy(run.accuracy) for run in runs])
    best = list(found.scores).index(max(found.scores))
    assert best > 0  # the first trial hardly learns
    assert (found.recipe, found.training) == found.trials[best]
    assert found.score == found.scores[best]


def test_what_learns_best_is_another_question_than_what_keeps_most() -> None:
    found = search(judged_by="learning", trials=2)
    stream = Stream([replace(task, test=task.val) for task in blobs((2, 3))], name="blobs", seed=0)
    for (recipe, training), score in zip(found.trials, found.scores, strict=True):
        matrix = quick_run(FineTune(PLAIN, recipe=recipe), stream, training=training).accuracy
        assert score == (matrix[0, 0] + matrix[1, 1]) / 2
    assert found.describe()["budget"]["chosen_by"] == "learning validation accuracy"


def test_no_test_sample_is_looked_at() -> None:
    changed = [with_split(task, "test", x=torch.full_like(task.test.x, 9.0)) for task in blobs((2, 3))]
    assert search(stream=Stream(changed, name="blobs", seed=0)) == search()


def test_the_budget_is_reported(tmp_path: Path) -> None:
    found = search(seeds=(0, 2))
    found.save(tmp_path / "recipe.json")
    document = read_json(tmp_path / "recipe.json", "prognet.recipe", 1, sealed=False)
    assert document["budget"] == {"trials": 3, "seeds": [0, 2], "chosen_by": "average validation accuracy"}
    assert [trial["score"] for trial in document["trials"]] == list(found.scores)
    assert read_recipe(tmp_path / "recipe.json") == (found.recipe, found.training)
    assert json.loads(json.dumps(found.describe()))["space"]["rate"] == [1.0, 0.3, 0.1]


def test_a_file_that_is_no_search_is_refused(tmp_path: Path) -> None:
    write_json(tmp_path / "recipe.json", "prognet.recipe", 1, {"recipe": {}, "training": {"augment": [], "lr": -1.0}})
    with pytest.raises(
        RunFolderError, match="recipe.json: training.lr: required a finite number above 0, found -1.0; mend"
    ):
        read_recipe(tmp_path / "recipe.json")


def test_everybody_is_told_how_a_search_for_a_recipe_goes() -> None:
    recorder = Recorder()
    found = search(trials=2, seeds=(0, 3), observer=recorder)
    one = 2 * (1 + 2)  # epochs times batches of at most 16 of 16 and 24 samples
    assert recorder.named("begin") == [(2 * 2 * one,)]
    assert recorder.named("start") == [
        (f"finetune-searched, trial {trial}, seed {seed}", one) for trial in (0, 1) for seed in (0, 3)
    ]
    assert recorder.updates == 2 * 2 * one
    assert found.summary().startswith("finetune-searched: ")


def test_a_summary_names_what_the_recipe_changes() -> None:
    found = replace(search(trials=1), recipe=FineTuning(decay=0.5, reinit=1))
    score = f"validation={found.score:.4f}"
    assert found.summary() == f"finetune-searched: reinit=1 decay=0.5 lr=1.00e-02 weight_decay=0 {score}"


def test_what_cannot_be_searched_is_refused() -> None:
    with pytest.raises(ConfigError, match="trials: required at least 1, found 0"):
        search(trials=0)
    with pytest.raises(ConfigError, match="seeds: required at least one, and none of them twice, found "):
        search(seeds=())
    with pytest.raises(ConfigError, match="stream: required a validation split in every task"):
        search(stream=make_stream((2, 2), n_val=0))
    wild = Training(epochs=2, batch_size=16, optimiser="sgd", lr=1e9)
    with pytest.raises(ConfigError, match="training: required a trial that does not diverge, found none of 1"):
        search(training=wild, trials=1)


def test_smoothing_is_not_searched_where_there_are_no_classes() -> None:
    x = torch.randn(40, 6, generator=torch.Generator().manual_seed(0))
    stream = from_arrays([(x, x[:, 0], x, x[:, 0])] * 2, kinds=["regression"] * 2, validation=0.2)
    found = search_recipe(PLAIN, stream, training=TRAINING, trials=4, device="cpu")
    assert "smoothing" not in found.space
    assert {recipe.smoothing for recipe, _ in found.trials} == {0.0}
