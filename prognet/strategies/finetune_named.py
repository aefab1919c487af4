"""Recipes of fine-tuning and of alignment on the command line, by name: each a function from a backbone."""

from prognet.strategies.alignment import FeatureAlignment
from prognet.strategies.base import Backbone
from prognet.strategies.finetune import FineTune
from prognet.strategies.finetune_recipe import FineTuning


def finetune_layerwise(backbone: Backbone) -> FineTune:
    """Rates that fall from the head down: every stage learns 0.65 times as fast as the one above it."""
    return FineTune(backbone, recipe=FineTuning(decay=0.65), name="finetune-layerwise")


def finetune_gradual(backbone: Backbone) -> FineTune:
    """The head first, then one more stage after every pass, from the top."""
    return FineTune(backbone, recipe=FineTuning(unfreeze_every=1), name="finetune-gradual")


def finetune_l2sp(backbone: Backbone) -> FineTune:
    """The trunk is held near its start, the head near zero."""
    return FineTune(backbone, recipe=FineTuning(l2_sp=0.01, head_l2=0.01), name="finetune-l2sp")


def finetune_reinit(backbone: Backbone) -> FineTune:
    """The top stage begins anew, what is below learns at a tenth of the rate."""
    return FineTune(backbone, recipe=FineTuning(reinit=1, rate=0.1), name="finetune-reinit")


def finetune_smooth(backbone: Backbone) -> FineTune:
    """Targets that are moved by a tenth towards the model's own prediction, and dropout before the head."""
    recipe = FineTuning(smoothing=0.1, towards="prediction", dropout=0.2)
    return FineTune(backbone, recipe=recipe, name="finetune-smooth")


def finetune_lora(backbone: Backbone) -> FineTune:
    """Low-rank adapters for every task on a trunk that is frozen after the first one: nothing is forgotten."""
    return FineTune(backbone, recipe=FineTuning(rank=8, alpha=8.0), name="finetune-lora")


def aligned_joint(backbone: Backbone) -> FeatureAlignment:
    """Alignment of features with a source that learns in the same step."""
    return FeatureAlignment(backbone, source="joint", name="aligned-joint")
