"""Random changes of clips and of the streams that go with them.

Parameters are drawn by `draw_...` from a generator, on the CPU; everything else is a pure function of them.
Clips are [T, H, W, C] in [0, 1], before they are normalised.
"""

from common.augmentation.flip import check_swap, flip_clip, flip_points, swap_points
from common.augmentation.jitter import JitterMode, apply_jitter, draw_jitter
from common.augmentation.photometric import (
    Photometric,
    apply_photometric,
    draw_photometric,
    mean_level,
    noise_of,
    unit_range,
)
from common.augmentation.temporal import TemporalMap, draw_hold, draw_roll

__all__ = [
    "JitterMode",
    "Photometric",
    "TemporalMap",
    "apply_jitter",
    "apply_photometric",
    "check_swap",
    "draw_hold",
    "draw_jitter",
    "draw_photometric",
    "draw_roll",
    "flip_clip",
    "flip_points",
    "mean_level",
    "noise_of",
    "swap_points",
    "unit_range",
]
