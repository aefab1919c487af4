"""Strategies: progressive networks, what they are compared with, and the controls of every transfer claim."""

from prognet.strategies.base import Strategy as Strategy
from prognet.strategies.describe import describe_strategy as describe_strategy
from prognet.strategies.describe import strategy_from as strategy_from
from prognet.strategies.finetune import FineTune as FineTune
from prognet.strategies.finetune import HeadOnly as HeadOnly
from prognet.strategies.independent import Independent as Independent
from prognet.strategies.independent import IndependentWide as IndependentWide
from prognet.strategies.multitask import MultiTask as MultiTask
from prognet.strategies.progressive import Progressive as Progressive
from prognet.strategies.progressive import ProgressiveRandom as ProgressiveRandom
