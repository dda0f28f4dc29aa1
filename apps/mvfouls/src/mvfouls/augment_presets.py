"""How strongly each named strength changes training clips."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Strength = Literal["none", "mild", "moderate", "aggressive", "extreme"]


@dataclass(frozen=True, kw_only=True)
class AugmentValues:
    """Strengths of the changes; the defaults change nothing. The names are those of `AugmentSettings`."""

    jitter: int = 0
    """Frames by which the window moves at most."""
    crop: float = 1.0
    """Smallest side of the crop, as a share."""
    colour: float = 0.0
    noise: float = 0.0
    """Largest standard deviation, in units of the range of a pixel."""
    frame_dropout: float = 0.0
    flip: float = 0.0
    rotation: float = 0.0
    """Degrees."""
    cutout: int = 0
    """Boxes."""


PRESETS: dict[Strength, AugmentValues] = {
    "none": AugmentValues(),
    "mild": AugmentValues(jitter=1, crop=0.9, colour=0.1, noise=0.01, frame_dropout=0.05, flip=0.5),
    "moderate": AugmentValues(jitter=2, crop=0.8, colour=0.2, noise=0.03, frame_dropout=0.1, flip=0.5),
    "aggressive": AugmentValues(jitter=3, crop=0.7, colour=0.3, noise=0.06, frame_dropout=0.2, flip=0.5),
    "extreme": AugmentValues(
        jitter=4,
        crop=0.6,
        colour=0.4,
        noise=0.08,
        frame_dropout=0.3,
        flip=0.5,
        rotation=8.0,
        cutout=2,
    ),
}
