"""Random changes of clips and of the streams that go with them.

Parameters are drawn by `draw_...` from a generator, on the CPU; everything else is a pure function of them.
Clips are [T, H, W, C] in [0, 1], before they are normalised; `common.augmentation.clip_tensors` applies the
same changes to batches [N, C, T, H, W] on a device.
"""

from common.augmentation.colour import ColourChange, draw_colour
from common.augmentation.crop import Crop, draw_crop
from common.augmentation.cutout import draw_boxes, pixel_boxes
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
from common.augmentation.temporal import TemporalMap, draw_dropout, draw_hold, draw_roll

__all__ = [
    "ColourChange",
    "Crop",
    "JitterMode",
    "Photometric",
    "TemporalMap",
    "apply_jitter",
    "apply_photometric",
    "check_swap",
    "draw_boxes",
    "draw_colour",
    "draw_crop",
    "draw_dropout",
    "draw_hold",
    "draw_jitter",
    "draw_photometric",
    "draw_roll",
    "flip_clip",
    "flip_points",
    "mean_level",
    "noise_of",
    "pixel_boxes",
    "swap_points",
    "unit_range",
]
