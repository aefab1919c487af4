"""The strategies of the command line, by name: each a function from a backbone."""

from prognet.engine import LinearAdapter, MLPAdapter
from prognet.strategies.base import Backbone
from prognet.strategies.multitask import MultiTask
from prognet.strategies.progressive import Progressive


def progressive_linear(backbone: Backbone) -> Progressive:
    """Progressive network with linear laterals, equation 1 of Rusu et al. 2016."""
    return Progressive(backbone, adapter=LinearAdapter(), name="progressive-linear")


def progressive_paper(backbone: Backbone) -> Progressive:
    """Progressive network with the initialisation of Rusu et al. 2016: random U, alpha = 0.1."""
    return Progressive(backbone, adapter=MLPAdapter.paper(), name="progressive-paper")


def multitask_cumulative(backbone: Backbone) -> MultiTask:
    """A joint model of all tasks so far, from scratch at every step: the reference of intransigence."""
    return MultiTask(backbone, schedule="cumulative", name="multitask-cumulative")
