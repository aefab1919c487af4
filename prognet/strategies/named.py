"""The strategies of the command line, by name: each a function from a backbone."""

from prognet.engine import LinearAdapter, MLPAdapter
from prognet.strategies.base import Backbone
from prognet.strategies.growth import PruneLaterals
from prognet.strategies.multitask import MultiTask
from prognet.strategies.progressive import Progressive
from prognet.strategies.shuffled import ShuffledAdapter
from prognet.strategies.sources import LastSources, TopSources
from prognet.strategies.start import Start


def progressive_scratch(backbone: Backbone) -> Progressive:
    """Progressive network whose columns begin from scratch, all laterals learned: U = 0, alpha = 1."""
    return Progressive(backbone, adapter=MLPAdapter(), start=Start(kind="scratch"), name="progressive-scratch")


def progressive_linear(backbone: Backbone) -> Progressive:
    """The same with linear laterals, equation 1 of Rusu et al. 2016."""
    return Progressive(backbone, adapter=LinearAdapter(), start=Start(kind="scratch"), name="progressive-linear")


def progressive_paper(backbone: Backbone) -> Progressive:
    """Progressive network with the initialisation of Rusu et al. 2016: random U, alpha = 0.1."""
    return Progressive(backbone, adapter=MLPAdapter.paper(), start=Start(kind="scratch"), name="progressive-paper")


def progressive_shuffled(backbone: Backbone) -> Progressive:
    """Control: the laterals of a progressive network read the features of another sample."""
    return Progressive(backbone, adapter=ShuffledAdapter(inner=MLPAdapter.transfer()), name="progressive-shuffled")


def progressive_last(backbone: Backbone) -> Progressive:
    """Progressive network whose columns read the latest column only: parameters grow linearly."""
    return Progressive(backbone, sources=LastSources(1), name="progressive-last")


def progressive_top1(backbone: Backbone) -> Progressive:
    """Progressive network whose columns read the one column that 3 nearest neighbours speak for."""
    return Progressive(backbone, sources=TopSources(1, by="knn"), name="progressive-top1")


def progressive_leep(backbone: Backbone) -> Progressive:
    """Progressive network whose columns read the one column that LEEP speaks for."""
    return Progressive(backbone, sources=TopSources(1, by="leep"), name="progressive-leep")


def progressive_nce(backbone: Backbone) -> Progressive:
    """Progressive network whose columns read the one column that NCE speaks for."""
    return Progressive(backbone, sources=TopSources(1, by="nce"), name="progressive-nce")


def progressive_logme(backbone: Backbone) -> Progressive:
    """Progressive network whose columns read the one column that LogME speaks for."""
    return Progressive(backbone, sources=TopSources(1, by="logme"), name="progressive-logme")


def progressive_hscore(backbone: Backbone) -> Progressive:
    """Progressive network whose columns read the one column that the H-score speaks for."""
    return Progressive(backbone, sources=TopSources(1, by="hscore"), name="progressive-hscore")


def progressive_cka(backbone: Backbone) -> Progressive:
    """Progressive network whose columns read the one column whose features are most aligned with the labels."""
    return Progressive(backbone, sources=TopSources(1, by="cka"), name="progressive-cka")


def progressive_pruned(backbone: Backbone) -> Progressive:
    """Progressive network that takes out laterals after training, for at most half a point of accuracy."""
    return Progressive(backbone, prune=PruneLaterals(drop=0.005), name="progressive-pruned")


def multitask_cumulative(backbone: Backbone) -> MultiTask:
    """A joint model of all tasks so far, from scratch at every step: the reference of intransigence."""
    return MultiTask(backbone, schedule="cumulative", name="multitask-cumulative")
