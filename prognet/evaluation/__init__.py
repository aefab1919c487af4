"""The evaluation harness: one run, and whole comparisons of runs."""

from prognet.evaluation.analysing import Analysed as Analysed
from prognet.evaluation.analysing import analyse as analyse
from prognet.evaluation.comparing import Outcome as Outcome
from prognet.evaluation.comparing import grid as grid
from prognet.evaluation.harness import run as run
from prognet.evaluation.observer import Observer as Observer
from prognet.evaluation.proof import Verdict as Verdict
from prognet.evaluation.proof import verify as verify
from prognet.evaluation.work import Cell as Cell
