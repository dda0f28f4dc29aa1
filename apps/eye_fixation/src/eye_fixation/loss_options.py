"""Settings of the losses and what they may be."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from common.config import UserError


@dataclass(frozen=True, kw_only=True)
class LossOptions:
    """Settings of the losses; each reads its own."""

    focal_alpha: float | Literal["balanced"] = 0.25
    """Weight of lit cells in the focal loss, 1 - alpha of the others. .25 weighs the rare class DOWN 3:1 on
    top of 1023:1; balanced is 1 - 1/(H W)."""
    focal_gamma: float = 2.0
    """Focusing exponent of the focal loss."""
    focal_weight: float = 1.0
    """Weight of the focal loss in the composite."""
    sparsity_weight: float = 0.8
    """Weight of the sparsity loss in the composite."""
    concentration_weight: float = 1.5
    """Weight of the concentration loss in the composite."""
    sparsity_penalty: float = 0.1
    """L1 weight w of the sparsity loss: a cell of probability pi gets max(0, pi - w/2), so w = 1 blanks every
    cell below .5 and w = .1 every cell below .05."""
    pos_weight: float | Literal["balanced"] = 100.0
    """Weight of lit cells in weighted_mse; balanced is H W - 1."""
    dice_smooth: float = 1.0
    """Added to both parts of the Dice fraction."""

    def check(self) -> None:
        """Raise a UserError that names the flag of a value out of range."""
        if not isinstance(self.focal_alpha, str):
            _check_flag("--focal-alpha", self.focal_alpha, 0, 1)
        for name in ("focal_gamma", "focal_weight", "sparsity_weight", "concentration_weight", "dice_smooth"):
            _check_flag("--" + name.replace("_", "-"), getattr(self, name), 0, math.inf)
        if not 0 <= self.sparsity_penalty < 2:
            raise UserError(
                f"--sparsity-penalty is {self.sparsity_penalty:g}: 0 <= value < 2 is expected, from 2 on the "
                "black frame is best whatever the target"
            )
        if not isinstance(self.pos_weight, str) and not 0 < self.pos_weight < math.inf:
            raise UserError(f"--pos-weight is {self.pos_weight}: a number above 0 or balanced is expected")

    def composite_weights(self) -> tuple[float, float, float]:
        """Return the three weights; UserError naming the flags when all are 0."""
        weights = (self.focal_weight, self.sparsity_weight, self.concentration_weight)
        if not any(weights):
            raise UserError(
                "--focal-weight, --sparsity-weight and --concentration-weight are all 0: one must be above"
            )
        return weights


def _check_flag(flag: str, value: float, low: float, high: float) -> None:
    if not (low <= value <= high and math.isfinite(value)):
        limits = f">= {low:g}" if high == math.inf else f"from {low:g} to {high:g}"
        raise UserError(f"{flag} is {value}: a number {limits} is expected")


def blanking_rule(penalty: float) -> str:
    """Return what an L1 weight on probabilities does, as a console line."""
    return (
        f"sparsity penalty {penalty:g}: a cell of probability pi gets max(0, pi - {penalty / 2:g}), "
        f"so every cell below {penalty / 2:g} is blanked"
    )
