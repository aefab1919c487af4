"""Strategies: progressive networks, what they are compared with, and the controls of every transfer claim."""

from prognet.strategies.alignment import FeatureAlignment as FeatureAlignment
from prognet.strategies.base import Strategy as Strategy
from prognet.strategies.copytune import CopyTune as CopyTune
from prognet.strategies.describe import describe_strategy as describe_strategy
from prognet.strategies.describe import strategy_from as strategy_from
from prognet.strategies.finetune import FineTune as FineTune
from prognet.strategies.finetune import HeadOnly as HeadOnly
from prognet.strategies.finetune_recipe import FineTuning as FineTuning
from prognet.strategies.growth import ConstantWidth as ConstantWidth
from prognet.strategies.growth import FittedWidth as FittedWidth
from prognet.strategies.growth import PruneLaterals as PruneLaterals
from prognet.strategies.growth import RootWidth as RootWidth
from prognet.strategies.independent import Independent as Independent
from prognet.strategies.independent import IndependentWide as IndependentWide
from prognet.strategies.multitask import MultiTask as MultiTask
from prognet.strategies.progressive import Progressive as Progressive
from prognet.strategies.progressive import ProgressiveRandom as ProgressiveRandom
from prognet.strategies.shuffled import ShuffledAdapter as ShuffledAdapter
from prognet.strategies.sources import AllSources as AllSources
from prognet.strategies.sources import LastSources as LastSources
from prognet.strategies.sources import TopSources as TopSources
from prognet.strategies.start import Start as Start
from prognet.strategies.start_pretext import pretext_start as pretext_start
from prognet.strategies.wrapped import Wrapped as Wrapped
from prognet.strategies.wrapped import wrapped as wrapped
