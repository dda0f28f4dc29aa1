"""Random changes of training clips: drawn per sample from its key, applied in the loader or on the device.

Everything is drawn in the loader, so a sample changes alike wherever the change happens and however many
workers there are. Order: index shift -> crop and rotation -> colour -> boxes -> frame dropout, in
`change_frames` or, on the device, in `InModelAugment` -> flip -> noise -> scale of the batch -> normalisation
by the network.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from common.augmentation import (
    ColourChange,
    Crop,
    TemporalMap,
    draw_boxes,
    draw_colour,
    draw_crop,
    draw_dropout,
    pixel_boxes,
)
from common.augmentation.colour import LUMA
from common.engine.randomness import SampleKey, sample_rng
from common.video import Pixels
from mvfouls.settings import AugmentSettings

SCALES = (0.75, 0.875, 1.0)
"""Scales of the input among which multi-scale training chooses for each batch."""
LARGEST_BOX = 0.2
"""Largest side of a box that hides a part of the frame, as a share."""
FILL = 128
"""Grey of such a box."""
LARGEST_DROPOUT = 0.5
SMALLEST_CROP = 0.1
LEANINGS = {"1.0": 0.46, "2.0": 0.48, "3.0": 0.50, "4.0": 0.53, "5.0": 0.56}
"""Mean of the strength less one half, by severity; nearly equal, so that the strength gives no class away."""
NO_LEANING = 0.50
CONCENTRATION = 4.0

Rng = Callable[[str], np.random.Generator]


@dataclass(frozen=True, eq=False)
class ClipDraw:
    """What is done to one clip of T frames, the same in every frame; `boxes` [K, 4] as of `draw_boxes`."""

    crop: Crop
    colour: ColourChange
    boxes: NDArray[np.float64]
    hold: TemporalMap
    flip: bool
    noise: float
    noise_seed: int


@dataclass(frozen=True, eq=False)
class SampleDraw:
    """What is done to one sample; the default is what evaluation does: nothing.

    `shift`: frames by which every view's window moves. `strength`: by which the strengths of the changes were
    multiplied. `scale`: of height and width; `collate` makes it that of the first sample of the batch.
    """

    shift: int = 0
    strength: float = 1.0
    scale: float = 1.0
    clips: tuple[ClipDraw, ...] = field(default=())


def draw_sample(
    settings: AugmentSettings, *, seed: int, key: SampleKey, views: int, frames: int, severity: str
) -> SampleDraw:
    """Draw what is done to a sample of `views` clips of `frames` frames.

    Each change of each view has its own stream, so switching one off leaves the others as they were.
    """

    def rng(stream: str) -> np.random.Generator:
        return sample_rng(seed, key, f"augment {stream}")

    strength = draw_strength(rng("strength"), severity) if settings.severity_aware else 1.0
    scaled = at_strength(settings, strength)
    flip = bool(rng("flip").random() < settings.flip)
    clips = tuple(_draw_clip(scaled, rng, view, frames, flip) for view in range(views))
    shift = int(rng("jitter").integers(-settings.jitter, settings.jitter + 1))
    scale = float(rng("scale").choice(SCALES)) if settings.multi_scale else 1.0
    return SampleDraw(shift, strength, scale, clips)


def draw_strength(rng: np.random.Generator, severity: str) -> float:
    """Draw the strength 1/2 + Beta(4 u, 4 (1 - u)) of a sample: from 1/2 to 3/2, u nearly 1/2 for all."""
    lean = LEANINGS.get(severity, NO_LEANING)
    return 0.5 + float(rng.beta(CONCENTRATION * lean, CONCENTRATION * (1 - lean)))


def at_strength(settings: AugmentSettings, strength: float) -> AugmentSettings:
    """Return settings whose colour, noise, frame dropout and crop are `strength` times as strong."""
    if strength == 1:
        return settings
    return replace(
        settings,
        colour=min(settings.colour * strength, 1.0),
        noise=settings.noise * strength,
        frame_dropout=min(settings.frame_dropout * strength, LARGEST_DROPOUT),
        crop=max(1 - (1 - settings.crop) * strength, SMALLEST_CROP),
    )


def _draw_clip(settings: AugmentSettings, rng: Rng, view: int, frames: int, flip: bool) -> ClipDraw:
    noise = rng(f"noise {view}")
    return ClipDraw(
        crop=draw_crop(rng(f"crop {view}"), smallest=settings.crop, angle=settings.rotation),
        colour=draw_colour(rng(f"colour {view}"), strength=settings.colour),
        boxes=draw_boxes(rng(f"cutout {view}"), settings.cutout, largest=LARGEST_BOX),
        hold=draw_dropout(rng(f"dropout {view}"), frames, probability=settings.frame_dropout),
        flip=flip,
        noise=settings.noise * float(noise.random()),
        noise_seed=int(noise.integers(2**63)),
    )


def change_frames(frames: Pixels, draw: ClipDraw) -> Pixels:
    """Return uint8 RGB frames [T, H, W, 3] cropped, turned, recoloured, with boxes and repeated frames.

    Colours are computed as fractions and rounded once. What changes nothing returns `frames` themselves.
    """
    changed = _cropped(frames, draw.crop)
    changed = _recoloured(changed, draw.colour)
    changed = _hidden(changed, draw.boxes)
    return changed if draw.hold.is_identity else draw.hold.apply(changed)


def _cropped(frames: Pixels, crop: Crop) -> Pixels:
    if crop.is_neutral:
        return frames
    height, width = frames.shape[1:3]
    matrix = crop.matrix(height, width)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    result = np.empty_like(frames)
    for frame, place in zip(frames, result):
        cv2.warpAffine(
            frame, matrix, (width, height), dst=place, flags=flags, borderMode=cv2.BORDER_REPLICATE
        )
    return result


def _recoloured(frames: Pixels, change: ColourChange) -> Pixels:
    if change.is_neutral:
        return frames
    tall = np.ascontiguousarray(frames).reshape(-1, *frames.shape[2:])
    grey = float(np.dot(cv2.mean(tall)[:3], LUMA))
    colours = np.column_stack([change.linear, np.full(3, change.lift * grey)])
    return np.asarray(cv2.transform(tall, colours), np.uint8).reshape(frames.shape)


def _hidden(frames: Pixels, boxes: NDArray[np.float64]) -> Pixels:
    if not len(boxes):
        return frames
    result = frames.copy()
    for top, left, bottom, right in pixel_boxes(boxes, *frames.shape[1:3]):
        result[:, top:bottom, left:right] = FILL
    return result
