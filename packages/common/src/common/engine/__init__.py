"""The training engine: `common.engine.fit.fit` drives a `Task` over `Loaders` as a `FitConfig` says.

The names below are loaded when first used, so that importing one part of the engine stays cheap. The function
`fit` is not among them because it shares its name with its module.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from common.engine.distributed import World, join_world
    from common.engine.fit import Summary
    from common.engine.loading import Batches, Loaders, make_loader
    from common.engine.saving import ResumeError
    from common.engine.settings import FitConfig, OptimizerConfig
    from common.engine.state import Provenance
    from common.engine.step import TrainingError
    from common.engine.task import EpochReport, Headline, LossTerm, Task

__all__ = [
    "Batches",
    "EpochReport",
    "FitConfig",
    "Headline",
    "Loaders",
    "LossTerm",
    "OptimizerConfig",
    "Provenance",
    "ResumeError",
    "Summary",
    "Task",
    "TrainingError",
    "World",
    "join_world",
    "make_loader",
]

_MODULES = {
    "distributed": ("World", "join_world"),
    "fit": ("Summary",),
    "loading": ("Batches", "Loaders", "make_loader"),
    "saving": ("ResumeError",),
    "settings": ("FitConfig", "OptimizerConfig"),
    "state": ("Provenance",),
    "step": ("TrainingError",),
    "task": ("EpochReport", "Headline", "LossTerm", "Task"),
}


def __getattr__(name: str) -> Any:
    for module, names in _MODULES.items():
        if name in names:
            return getattr(import_module(f"{__name__}.{module}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
