"""The evaluation harness: one run, and whole comparisons of runs."""

from prognet.evaluation.grid import Cell as Cell
from prognet.evaluation.grid import Outcome as Outcome
from prognet.evaluation.grid import grid as grid
from prognet.evaluation.harness import run as run
from prognet.evaluation.observer import Observer as Observer
from prognet.evaluation.verify import Verdict as Verdict
from prognet.evaluation.verify import verify as verify
