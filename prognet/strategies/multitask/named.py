"""Multi-task learning of the command line, by name: each a function from a backbone."""

from prognet.strategies.base import Backbone
from prognet.strategies.multitask.adversarial import Adversarial
from prognet.strategies.multitask.columns import CrossStitch, Soft
from prognet.strategies.multitask.gradients import IMTLG, MGDA, AlignedMTL, GradNorm, PCGrad, UPGrad
from prognet.strategies.multitask.losses import DWA, FAMO, RandomWeights, Uncertainty
from prognet.strategies.multitask.stems import Stems
from prognet.strategies.multitask.strategy import MultiTask
from prognet.strategies.multitask.units import Added, Attention, Concatenated, FiLM


def stems(backbone: Backbone) -> MultiTask:
    """A stem and a head of every task's own, all between them shared: for inputs of any shape."""
    return MultiTask(backbone, architecture=Stems(), name="multitask-stems")


def soft(backbone: Backbone) -> MultiTask:
    """A network per task, drawn to their mean: soft sharing."""
    return MultiTask(backbone, architecture=Soft(), name="multitask-soft")


def cross_stitch(backbone: Backbone) -> MultiTask:
    """A column per task, mixed at every site."""
    return MultiTask(backbone, architecture=CrossStitch(), name="multitask-cross-stitch")


def attention(backbone: Backbone) -> MultiTask:
    """A shared trunk, seen through masks of every task."""
    return MultiTask(backbone, architecture=Attention(), name="multitask-attention")


def adversarial(backbone: Backbone) -> MultiTask:
    """Shared and private columns, kept apart by an adversary."""
    return MultiTask(backbone, architecture=Adversarial(), name="multitask-adversarial")


def added(backbone: Backbone) -> MultiTask:
    """A shared trunk to whose features the task is added."""
    return MultiTask(backbone, architecture=Added(), name="multitask-added")


def concatenated(backbone: Backbone) -> MultiTask:
    """A shared trunk to whose features the task is concatenated."""
    return MultiTask(backbone, architecture=Concatenated(), name="multitask-concatenated")


def film(backbone: Backbone) -> MultiTask:
    """A shared trunk whose features the task scales and shifts."""
    return MultiTask(backbone, architecture=FiLM(), name="multitask-film")


def uncertainty(backbone: Backbone) -> MultiTask:
    """Hard sharing, losses weighted by a learned uncertainty."""
    return MultiTask(backbone, weighting=Uncertainty(), name="multitask-uncertainty")


def dwa(backbone: Backbone) -> MultiTask:
    """Hard sharing, dynamic weight average."""
    return MultiTask(backbone, weighting=DWA(), name="multitask-dwa")


def random(backbone: Backbone) -> MultiTask:
    """Hard sharing, random weights in every update: a litmus test."""
    return MultiTask(backbone, weighting=RandomWeights(), name="multitask-random")


def famo(backbone: Backbone) -> MultiTask:
    """Hard sharing, losses that are to fall at the same rate."""
    return MultiTask(backbone, weighting=FAMO(), name="multitask-famo")


def gradnorm(backbone: Backbone) -> MultiTask:
    """Hard sharing, gradients of matched lengths."""
    return MultiTask(backbone, weighting=GradNorm(), name="multitask-gradnorm")


def pcgrad(backbone: Backbone) -> MultiTask:
    """Hard sharing, gradients projected off those they conflict with."""
    return MultiTask(backbone, weighting=PCGrad(), name="multitask-pcgrad")


def mgda(backbone: Backbone) -> MultiTask:
    """Hard sharing, the shortest vector in the hull of the gradients."""
    return MultiTask(backbone, weighting=MGDA(), name="multitask-mgda")


def imtlg(backbone: Backbone) -> MultiTask:
    """Hard sharing, equal projections on all gradients."""
    return MultiTask(backbone, weighting=IMTLG(), name="multitask-imtlg")


def aligned(backbone: Backbone) -> MultiTask:
    """Hard sharing, gradients with aligned components."""
    return MultiTask(backbone, weighting=AlignedMTL(), name="multitask-aligned")


def upgrad(backbone: Backbone) -> MultiTask:
    """Hard sharing, the mean of gradients projected on the cone without conflict."""
    return MultiTask(backbone, weighting=UPGrad(), name="multitask-upgrad")


def proportional(backbone: Backbone) -> MultiTask:
    """Hard sharing, tasks sampled in proportion to their sizes."""
    return MultiTask(backbone, sampling=1.0, name="multitask-proportional")
