"""Base learning rates of heads and blocks, by what is open; schedules and warm-ups multiply them."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace


@dataclass(frozen=True, kw_only=True)
class RateConfig:
    """Base rates of a run that freezes. ValueError names a bad field."""

    lr: float = 2e-4
    """Rate of everything when neither `gradual` nor `discriminative` is on."""
    head_lr: float = 1e-3
    """Rate of the heads while no block is open (`gradual`), or always (`discriminative` alone)."""
    backbone_lr: float = 1e-5
    """Rate of open blocks with `gradual` or `discriminative`."""
    gradual: bool = True
    """Two states: heads at head_lr until a block is open, then at a multiple of the blocks' rate."""
    discriminative: bool = False
    """head_lr and backbone_lr without `gradual`; block d, counted from the heads, at layer_decay^d."""
    layer_decay: float = 0.9
    phase2_backbone_lr_scale_factor: float = 1.0
    """Multiplies backbone_lr (`gradual`)."""
    phase2_head_lr_ratio: float = 5.0
    """Rate of the heads over the rate of the blocks once a block is open (`gradual`)."""
    phase1_plateau_patience: int = 3
    """Epochs without a new best, no block being open, before the heads' rate falls (`gradual`)."""
    phase1_plateau_factor: float = 0.2
    warmup_epochs: float = 3
    """Length of the rise of an opened block's rate from a tenth; 0 = none."""
    multipliers: tuple[tuple[str, float], ...] = ()
    """(block, factor) of blocks whose rate is another multiple of the common one."""

    def __post_init__(self) -> None:
        positive = ("lr", "head_lr", "backbone_lr", "phase2_backbone_lr_scale_factor", "phase2_head_lr_ratio")
        values = {name: float(getattr(self, name)) for name in positive}
        values |= {f"multipliers of {block}": factor for block, factor in self.multipliers}
        for name, value in values.items():
            if not (math.isfinite(value) and value > 0):
                raise ValueError(f"{name} must be positive, got {value}")
        if not 0 < self.layer_decay <= 1:
            raise ValueError(f"layer_decay must be in (0, 1], got {self.layer_decay}")
        if not 0 < self.phase1_plateau_factor < 1:
            raise ValueError(f"phase1_plateau_factor must be in (0, 1), got {self.phase1_plateau_factor}")
        if self.phase1_plateau_patience < 1:
            raise ValueError(
                f"phase1_plateau_patience must be at least 1, got {self.phase1_plateau_patience}"
            )
        if self.warmup_epochs < 0:
            raise ValueError(f"warmup_epochs must not be negative, got {self.warmup_epochs}")


def block_rate(config: RateConfig, depth: int, block: str) -> float:
    """Return the base rate of an open block; `depth` counts blocks from the heads, from 0."""
    rate = config.lr
    if config.gradual:
        rate = config.backbone_lr * config.phase2_backbone_lr_scale_factor
    elif config.discriminative:
        rate = config.backbone_lr
    if config.discriminative:
        rate *= config.layer_decay**depth
    return rate * dict(config.multipliers).get(block, 1.0)


def head_rate(config: RateConfig, *, any_open: bool, reductions: int = 0, min_lr: float = 0.0) -> float:
    """Return the base rate of the heads after `reductions` plateaus without an open block.

    The reduced rate does not fall below `min_lr`.
    """
    if not config.gradual:
        return config.head_lr if config.discriminative else config.lr
    if any_open:
        return config.phase2_head_lr_ratio * config.backbone_lr * config.phase2_backbone_lr_scale_factor
    floor = min(min_lr, config.head_lr)
    return max(floor, config.head_lr * config.phase1_plateau_factor**reductions)


def block_warmup(epochs: float, length: float) -> float:
    """Return the factor of a block opened `epochs` ago: linear from 0.1 to 1 at `length`, then 1."""
    if epochs >= length:
        return 1.0
    return 0.1 + 0.9 * epochs / length


@dataclass(frozen=True)
class HeadPlateau:
    """How often the heads, training alone, went without a new best for a patience."""

    best: float = -math.inf
    stale: int = 0
    reductions: int = 0

    def after(self, metric: float, patience: int) -> HeadPlateau:
        """Return the count after one more epoch whose metric (higher is better) is given."""
        if metric > self.best:
            return replace(self, best=metric, stale=0)
        if self.stale + 1 < patience:
            return replace(self, stale=self.stale + 1)
        return replace(self, stale=0, reductions=self.reductions + 1)
