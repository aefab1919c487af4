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
    "FineTune": "prognet.strategies",
    "HeadOnly": "prognet.strategies",
    "MultiTask": "prognet.strategies",
    "Independent": "prognet.strategies",
    "IndependentWide": "prognet.strategies",
    "Strategy": "prognet.strategies",
    "Training": "prognet.config",
    "Measurement": "prognet.config",
    "RunResult": "prognet.results",
    "Results": "prognet.results",
    "load_results": "prognet.results",
    "run": "prognet.evaluation",
    "grid": "prognet.evaluation",
    "verify": "prognet.evaluation",
    "PrognetError": "prognet.errors",
}
_MODULES = (
    "analysis",
    "backbones",
    "engine",
    "errors",
    "evaluation",
    "metrics",
    "report",
    "statistics",
    "strategies",
    "streams",
)

__all__ = [
    "FineTune",
    "HeadOnly",
    "Independent",
    "IndependentWide",
    "LinearAdapter",
    "MLPAdapter",
    "Measurement",
    "MultiTask",
    "PrognetError",
    "Progressive",
    "ProgressiveNetwork",
    "ProgressiveRandom",
    "Results",
    "RunResult",
    "Strategy",
    "Training",
    "__version__",
    "analysis",
    "backbones",
    "engine",
    "errors",
    "evaluation",
    "grid",
    "load_results",
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
        backbones,
        engine,
        errors,
        evaluation,
        metrics,
        report,
        statistics,
        strategies,
        streams,
    )
    from prognet.config import Measurement, Training
    from prognet.engine import LinearAdapter, MLPAdapter, ProgressiveNetwork
    from prognet.errors import PrognetError
    from prognet.evaluation import grid, run, verify
    from prognet.results import Results, RunResult, load_results
    from prognet.strategies import (
        FineTune,
        HeadOnly,
        Independent,
        IndependentWide,
        MultiTask,
        Progressive,
        ProgressiveRandom,
        Strategy,
    )


def __getattr__(name: str) -> Any:
    if name in _MODULES:
        return import_module(f"prognet.{name}")
    if name in _HOMES:
        return getattr(import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'prognet' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
