"""Which strategy opens blocks, with which settings, and the timetables of those that go by the clock."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from common.freezing.blocks import Block

Strategy = Literal[
    "none", "fixed", "adaptive", "progressive", "gradient_guided", "advanced", "schedule", "closed"
]


@dataclass(frozen=True, kw_only=True)
class FreezingConfig:
    """Which blocks train when. ValueError names a bad field.

    Epochs are completed epochs; metrics are fractions, higher is better.
    """

    strategy: Strategy = "none"
    """none: all train from the start; closed: the set of the start stays; schedule: as listed."""
    open_blocks: int = 0
    """closed: blocks nearest the heads that train from the start."""
    schedule: tuple[tuple[int, str], ...] = ()
    """schedule: (completed epochs, block)."""
    phase1_epochs: int = 8
    """fixed, progressive: epochs of the heads alone."""
    phase2_epochs: int = 15
    """fixed: length of gradual opening."""
    unfreeze_blocks: int = 3
    """fixed: number of blocks to open."""
    adaptive_patience: int = 3
    """adaptive: epochs without improvement before the next block opens."""
    adaptive_min_improvement: float = 0.001
    importance_threshold: float = 0.01
    """gradient_guided: least importance of a block to open."""
    unfreeze_patience: int | None = None
    """Fewest epochs between openings; None: 2 (gradient_guided, advanced) or 1 (progressive)."""
    max_layers_per_step: int = 1
    """Blocks per opening (progressive, gradient_guided, advanced)."""
    sampling_epochs: int = 2
    """gradient_guided: probes before the first decision."""
    base_importance_threshold: float = 0.002
    """advanced: least importance at the start of the run; it falls to half."""
    performance_threshold: float = 0.001
    """advanced: a smaller gain is none; also the margin of rollback and plateau."""
    rollback_patience: int = 2
    """advanced: epochs after an opening at whose end it is judged."""
    gradient_momentum: float = 0.9
    """Momentum of the mean importance (gradient_guided, advanced)."""
    analysis_window: int = 2
    """advanced: epochs over which a gain is taken, and quiet time after an event."""
    enable_rollback: bool = True
    enable_dependency_analysis: bool = True
    """advanced: a block opens only when all blocks nearer the heads are open."""
    validation_plateau_patience: int = 2
    """Epochs without a new best that make a plateau (gradient_guided, advanced)."""
    emergency_unfreeze_epoch: int = 4
    """Epochs after which too few open blocks are an emergency (adaptive, gradient_guided, advanced)."""
    min_unfreeze_layers: int = 1
    """Fewest open blocks at that moment; 0 = no emergency."""
    emergency_unfreeze_gradual: bool = True
    """Open the smallest pieces instead of whole blocks in an emergency."""

    def __post_init__(self) -> None:
        if self.strategy not in get_args(Strategy):
            raise ValueError(
                f"strategy must be one of {', '.join(get_args(Strategy))}, got {self.strategy!r}"
            )
        for name, least in _LEAST.items():
            value = getattr(self, name)
            if not (value is None or (math.isfinite(value) and value >= least)):
                raise ValueError(f"{name} must be at least {least}, got {value}")
        if not 0 <= self.gradient_momentum < 1:
            raise ValueError(f"gradient_momentum must be in [0, 1), got {self.gradient_momentum}")
        if early := [entry for entry in self.schedule if entry[0] < 1]:
            raise ValueError(
                f"schedule: {early[0][1]} opens after {early[0][0]} epochs; at least 1 is needed"
            )


_LEAST: dict[str, int] = {
    "open_blocks": 0,
    "phase1_epochs": 1,
    "phase2_epochs": 0,
    "unfreeze_blocks": 0,
    "adaptive_patience": 1,
    "adaptive_min_improvement": 0,
    "importance_threshold": 0,
    "unfreeze_patience": 1,
    "max_layers_per_step": 1,
    "sampling_epochs": 1,
    "base_importance_threshold": 0,
    "performance_threshold": 0,
    "rollback_patience": 1,
    "analysis_window": 2,
    "validation_plateau_patience": 1,
    "emergency_unfreeze_epoch": 1,
    "min_unfreeze_layers": 0,
}

TIMED = frozenset({"fixed", "progressive", "schedule"})
PROBED = frozenset({"gradient_guided", "advanced"})
"""Strategies that ask for the importance of blocks."""
GUIDED = PROBED | {"adaptive"}
"""Strategies that watch the metric, and therefore may get stuck: they have an emergency."""
OPENING = TIMED | GUIDED
"""Strategies that open blocks during the run."""


def settle_phases(
    epochs: int, phase1: int | None = None, phase2: int | None = None
) -> tuple[int, int, list[str]]:
    """Return both phases' epochs and lines about what was adapted; None stands for a phase that was not set.

    The run's `epochs` win: phases nobody set shrink in proportion 8 : 15, otherwise the second one is cut or
    extended. Raises ValueError when a given first phase leaves nothing for the second.
    """
    if phase1 is None and phase2 is None:
        if epochs >= 23:
            return 8, 15, []
        first = max(1, epochs * 8 // 23)
        return first, epochs - first, [f"phases of {first} and {epochs - first} epochs instead of 8 and 15"]
    if phase1 is not None and phase1 >= epochs:
        raise ValueError(f"phase1_epochs {phase1} must be less than epochs {epochs}")
    first = min(8, max(1, epochs - 1)) if phase1 is None else phase1
    second = 15 if phase2 is None else phase2
    rest = epochs - first
    if second == rest:
        return first, rest, []
    verb = "cut" if second > rest else "extended"
    return first, rest, [f"phase 2 is {verb} from {second} to {rest} epochs: {epochs} epochs are run"]


def check_config(config: FreezingConfig, blocks: Sequence[Block]) -> None:
    """Raise ValueError naming the field of `config` that does not fit `blocks`."""
    for name in ("open_blocks", "unfreeze_blocks", "min_unfreeze_layers"):
        if getattr(config, name) > len(blocks) and _reads(config, name):
            raise ValueError(
                f"{name} {getattr(config, name)} is more than the {len(blocks)} blocks there are"
            )
    names = [block.name for block in blocks]
    for _, name in config.schedule:
        if name not in names:
            raise ValueError(f"schedule: unknown block {name!r}; known are {', '.join(names)}")


def _reads(config: FreezingConfig, name: str) -> bool:
    readers = {"open_blocks": {"closed"}, "unfreeze_blocks": {"fixed"}, "min_unfreeze_layers": GUIDED}
    return config.strategy in readers[name]


def timetable(config: FreezingConfig, blocks: Sequence[Block], epochs: int) -> list[tuple[int, str]]:
    """Return the (completed epochs, block) at which a timed strategy opens blocks."""
    first, names = config.phase1_epochs, [block.name for block in blocks]
    if config.strategy == "schedule":
        return list(config.schedule)
    if config.strategy == "fixed":
        count = config.unfreeze_blocks
        interval = max(1, config.phase2_epochs // (2 * max(1, count)))
        return [(first + number * interval, name) for number, name in enumerate(names[:count])]
    interval = max(math.ceil(epochs / (2 * len(blocks))), config.unfreeze_patience or 1)
    together = config.max_layers_per_step
    return [(first + number // together * interval, name) for number, name in enumerate(names)]
