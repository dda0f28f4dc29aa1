"""The changes of training clips that happen on the compute device, for all clips of a batch at once."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from common.augmentation.clip_tensors import (
    crop_clips,
    cut_out_clips,
    flip_clips,
    move_clips,
    noise_clips,
    recolour_clips,
)
from mvfouls.augment import FILL, ClipDraw, SampleDraw
from mvfouls.settings import AugmentSettings

MULTIPLE = 8
"""Heights and widths of scaled inputs are multiples of this."""


class InModelAugment:
    """Flip and noise, and with `on_device` also crop, colour, boxes and frame dropout; then the scale."""

    def __init__(self, settings: AugmentSettings) -> None:
        self.settings = settings

    @torch.no_grad()
    def __call__(self, clips: Tensor, draws: Sequence[SampleDraw]) -> Tensor:
        """Return float clips [N, 3, T, H, W] in [0, 1], those of each sample one after the other, changed.

        Nothing waits for the device. ValueError when the samples have another number of clips.
        """
        drawn = [clip for draw in draws for clip in draw.clips]
        if len(drawn) != len(clips):
            raise ValueError(f"{len(clips)} clips, but draws for {len(drawn)}")
        if self.settings.on_device:
            clips = _loader_stage(clips, drawn)
        if self.settings.in_model:
            clips = flip_clips(clips, [clip.flip for clip in drawn])
            clips = noise_clips(clips, [clip.noise for clip in drawn], [clip.noise_seed for clip in drawn])
        return scale_clips(clips, draws[0].scale) if draws else clips


def scale_clips(clips: Tensor, scale: float) -> Tensor:
    """Return clips [N, 3, T, H, W] with height and width times `scale`, rounded to multiples of 8."""
    if scale == 1:
        return clips
    count, channels, frames, height, width = clips.shape
    size = scaled(height, scale), scaled(width, scale)
    pictures = clips.reshape(count, channels * frames, height, width)
    resized = F.interpolate(pictures, size, mode="bilinear", align_corners=False, antialias=True)
    return resized.reshape(count, channels, frames, *size)


def scaled(size: int, scale: float) -> int:
    """Return a height or width times `scale`, as a multiple of 8 and at least 8; as it is for scale 1."""
    return size if scale == 1 else max(MULTIPLE, int(size * scale / MULTIPLE + 0.5) * MULTIPLE)


def _loader_stage(clips: Tensor, drawn: Sequence[ClipDraw]) -> Tensor:
    clips = crop_clips(clips, [clip.crop for clip in drawn])
    clips = recolour_clips(clips, [clip.colour for clip in drawn])
    clips = cut_out_clips(clips, [clip.boxes for clip in drawn], fill=FILL / 255)
    return move_clips(clips, [clip.hold for clip in drawn])
