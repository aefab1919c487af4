"""The recipes of the command line."""

import pytest

from prognet.catalogue import STRATEGIES, lookup
from prognet.strategies import FeatureAlignment, FineTune, FineTuning
from tests.helpers.runs import NORMED, quick_run
from tests.helpers.streams import make_stream

RECIPES = {
    "finetune-layerwise": FineTuning(decay=0.65),
    "finetune-gradual": FineTuning(unfreeze_every=1),
    "finetune-l2sp": FineTuning(l2_sp=0.01, head_l2=0.01),
    "finetune-reinit": FineTuning(reinit=1, rate=0.1),
    "finetune-smooth": FineTuning(smoothing=0.1, towards="prediction", dropout=0.2),
    "finetune-lora": FineTuning(rank=8, alpha=8.0),
}


@pytest.mark.parametrize("name", RECIPES)
def test_a_name_stands_for_its_recipe(name: str) -> None:
    strategy = lookup("strategy", name, STRATEGIES)(NORMED)
    assert isinstance(strategy, FineTune)
    assert (strategy.name, strategy.recipe) == (name, RECIPES[name])
    result, plain = quick_run(strategy, make_stream((3, 2))), quick_run(FineTune(NORMED), make_stream((3, 2)))
    assert result.curves[0] == plain.curves[0]  # the first task is learned plainly
    assert (
        result.curves[1].accuracy != plain.curves[1].accuracy
        or result.metrics["cross_entropy"][1, 1] != (plain.metrics["cross_entropy"][1, 1])
    )


def test_alignment_by_name() -> None:
    frozen, joint = (lookup("strategy", name, STRATEGIES)(NORMED) for name in ("aligned", "aligned-joint"))
    assert isinstance(frozen, FeatureAlignment)
    assert (frozen.source, frozen.schedule) == ("frozen", "sequential")
    assert (joint.source, joint.schedule) == ("joint", "joint")
