"""The bridge to Avalanche: a progressive network as one of its modules, and a strategy that trains it.

    model = ProgressiveModule(prognet.backbones.mlp(hidden=(100, 100)))
    strategy = ProgressiveStrategy(model=model, optimizer=Adam(model.parameters(), lr=0.001), train_mb_size=64)
    for experience in benchmark.train_stream:
        strategy.train(experience)
        strategy.eval(benchmark.test_stream)

Importing it imports Avalanche.
"""

from prognet.avalanche.module import ProgressiveModule as ProgressiveModule
from prognet.avalanche.module import TaskPlace as TaskPlace
from prognet.avalanche.strategy import ProgressiveStrategy as ProgressiveStrategy
