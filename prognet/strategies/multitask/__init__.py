"""Multi-task learning on three axes: what tasks share, how their losses are weighted, how often each is sampled."""

from prognet.strategies.multitask.adversarial import Adversarial as Adversarial
from prognet.strategies.multitask.architecture import Architecture as Architecture
from prognet.strategies.multitask.architecture import Hard as Hard
from prognet.strategies.multitask.columns import CrossStitch as CrossStitch
from prognet.strategies.multitask.columns import Soft as Soft
from prognet.strategies.multitask.gradients import IMTLG as IMTLG
from prognet.strategies.multitask.gradients import MGDA as MGDA
from prognet.strategies.multitask.gradients import AlignedMTL as AlignedMTL
from prognet.strategies.multitask.gradients import CAGrad as CAGrad
from prognet.strategies.multitask.gradients import GradNorm as GradNorm
from prognet.strategies.multitask.gradients import NashMTL as NashMTL
from prognet.strategies.multitask.gradients import PCGrad as PCGrad
from prognet.strategies.multitask.gradients import UPGrad as UPGrad
from prognet.strategies.multitask.losses import DWA as DWA
from prognet.strategies.multitask.losses import FAMO as FAMO
from prognet.strategies.multitask.losses import FixedWeights as FixedWeights
from prognet.strategies.multitask.losses import RandomWeights as RandomWeights
from prognet.strategies.multitask.losses import Uncertainty as Uncertainty
from prognet.strategies.multitask.stems import Stems as Stems
from prognet.strategies.multitask.strategy import MultiTask as MultiTask
from prognet.strategies.multitask.units import Added as Added
from prognet.strategies.multitask.units import Attention as Attention
from prognet.strategies.multitask.units import Concatenated as Concatenated
from prognet.strategies.multitask.units import FiLM as FiLM
from prognet.strategies.multitask.weighting import Weighting as Weighting
