"""prognet: progressive networks, and the harness in which they are compared.

Every name is resolved on first use, so that `import prognet` costs nothing and imports no torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from prognet.version import __version__

_HOMES = {
    "ProgressiveNetwork": "prognet.engine",
    "LinearAdapter": "prognet.engine",
    "MLPAdapter": "prognet.engine",
    "Progressive": "prognet.strategies",
    "ProgressiveRandom": "prognet.strategies",
    "FeatureAlignment": "prognet.strategies",
    "FineTune": "prognet.strategies",
    "FineTuning": "prognet.strategies",
    "HeadOnly": "prognet.strategies",
    "MultiTask": "prognet.strategies",
    "Independent": "prognet.strategies",
    "IndependentWide": "prognet.strategies",
    "AllSources": "prognet.strategies",
    "LastSources": "prognet.strategies",
    "TopSources": "prognet.strategies",
    "CopyTune": "prognet.strategies",
    "Start": "prognet.strategies",
    "ConstantWidth": "prognet.strategies",
    "RootWidth": "prognet.strategies",
    "FittedWidth": "prognet.strategies",
    "PruneLaterals": "prognet.strategies",
    "Strategy": "prognet.strategies",
    "TaskAgnostic": "prognet.gates",
    "Training": "prognet.config",
    "Execution": "prognet.config",
    "Workers": "prognet.config",
    "Measurement": "prognet.config",
    "RunResult": "prognet.results",
    "Results": "prognet.results",
    "load_results": "prognet.results",
    "run": "prognet.evaluation",
    "grid": "prognet.evaluation",
    "verify": "prognet.evaluation",
    "analyse": "prognet.evaluation",
    "PrognetError": "prognet.errors",
}
_MODULES = (
    "analysis",
    "avalanche",
    "backbones",
    "capacity",
    "engine",
    "errors",
    "evaluation",
    "gates",
    "meta",
    "metrics",
    "report",
    "statistics",
    "strategies",
    "streams",
)

__all__ = [
    "AllSources",
    "ConstantWidth",
    "CopyTune",
    "Execution",
    "FeatureAlignment",
    "FineTune",
    "FineTuning",
    "FittedWidth",
    "HeadOnly",
    "Independent",
    "IndependentWide",
    "LastSources",
    "LinearAdapter",
    "MLPAdapter",
    "Measurement",
    "MultiTask",
    "PrognetError",
    "Progressive",
    "ProgressiveNetwork",
    "ProgressiveRandom",
    "PruneLaterals",
    "Results",
    "RootWidth",
    "RunResult",
    "Start",
    "Strategy",
    "TaskAgnostic",
    "TopSources",
    "Training",
    "Workers",
    "__version__",
    "analyse",
    "analysis",
    "avalanche",
    "backbones",
    "capacity",
    "engine",
    "errors",
    "evaluation",
    "gates",
    "grid",
    "load_results",
    "meta",
    "metrics",
    "report",
    "run",
    "statistics",
    "strategies",
    "streams",
    "verify",
]

if TYPE_CHECKING:
    from prognet import (
        analysis,
        avalanche,
        backbones,
        capacity,
        engine,
        errors,
        evaluation,
        gates,
        meta,
        metrics,
        report,
        statistics,
        strategies,
        streams,
    )
    from prognet.config import Execution, Measurement, Training, Workers
    from prognet.engine import LinearAdapter, MLPAdapter, ProgressiveNetwork
    from prognet.errors import PrognetError
    from prognet.evaluation import analyse, grid, run, verify
    from prognet.gates import TaskAgnostic
    from prognet.results import Results, RunResult, load_results
    from prognet.strategies import (
        AllSources,
        ConstantWidth,
        CopyTune,
        FeatureAlignment,
        FineTune,
        FineTuning,
        FittedWidth,
        HeadOnly,
        Independent,
        IndependentWide,
        LastSources,
        MultiTask,
        Progressive,
        ProgressiveRandom,
        PruneLaterals,
        RootWidth,
        Start,
        Strategy,
        TopSources,
    )


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"prognet.{name}")
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'prognet' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
