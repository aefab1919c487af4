"""The evaluation harness: one run, and whole comparisons of runs."""

from prognet.evaluation.harness import run as run
