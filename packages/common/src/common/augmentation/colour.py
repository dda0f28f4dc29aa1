"""Brightness, contrast and saturation of a clip as one affine map of its colours.

One map in place of three steps: a clip is read once, nothing is cut off between the steps, and the same
numbers serve 8-bit frames in memory and tensors on a device.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

LUMA = (0.299, 0.587, 0.114)
"""Shares of red, green and blue in the grey of a colour (ITU-R BT.601)."""


@dataclass(frozen=True)
class ColourChange:
    """Factors of brightness, contrast and saturation, 1 = none."""

    brightness: float = 1.0
    contrast: float = 1.0
    saturation: float = 1.0

    @property
    def is_neutral(self) -> bool:
        """Whether a clip stays as it is."""
        return self.brightness == 1 and self.contrast == 1 and self.saturation == 1

    @property
    def linear(self) -> NDArray[np.float64]:
        """The map [3, 3] of a colour: b c (s I + (1 - s) grey)."""
        grey = np.tile(LUMA, (3, 1))
        mixed = self.saturation * np.eye(3) + (1 - self.saturation) * grey
        return self.brightness * self.contrast * mixed

    @property
    def lift(self) -> float:
        """What is added to every channel, times the mean grey of the unchanged clip: b (1 - c)."""
        return self.brightness * (1 - self.contrast)


def draw_colour(rng: np.random.Generator, *, strength: float) -> ColourChange:
    """Draw the three factors from U(1 - strength, 1 + strength); ValueError for a strength outside [0, 1]."""
    if not 0 <= strength <= 1:
        raise ValueError(f"strength is {strength}: 0 to 1 is expected")
    factors = 1 + strength * (2 * rng.random(3) - 1)
    return ColourChange(*(float(factor) for factor in factors))
