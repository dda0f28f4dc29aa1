"""Brightness, contrast and noise of a clip: one draw for all its frames, results kept within [0, 1]."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Clip = NDArray[np.float32]
AnyClip = NDArray[np.float32] | NDArray[np.uint8]

_CHUNK = 64
"""Frames converted at a time where no converted clip is kept."""


@dataclass(frozen=True)
class Photometric:
    """Factors of brightness and contrast (1 = none), deviation of the noise (0 = none) and its key."""

    brightness: float = 1.0
    contrast: float = 1.0
    noise_std: float = 0.0
    noise_key: int = 0

    @property
    def is_neutral(self) -> bool:
        """Whether a clip stays as it is."""
        return self.brightness == 1 and self.contrast == 1 and self.noise_std == 0


def draw_photometric(
    rng: np.random.Generator,
    *,
    brightness: float = 0.0,
    contrast: float = 0.0,
    noise_std: float = 0.0,
    brightness_p: float = 1.0,
    contrast_p: float = 1.0,
    noise_p: float = 1.0,
) -> Photometric:
    """Draw each change with its probability: factors from U(1 - strength, 1 + strength), noise or none.

    The same numbers are drawn whatever the strengths, so one strength does not change the others' draws.
    ValueError for a factor strength outside [0, 1], a negative deviation, a probability outside [0, 1].
    """
    for name, value in {
        "brightness": brightness, "contrast": contrast,
        "brightness_p": brightness_p, "contrast_p": contrast_p, "noise_p": noise_p,
    }.items():  # fmt: skip
        if not 0 <= value <= 1:
            raise ValueError(f"{name} is {value}: 0 to 1 is expected")
    if not noise_std >= 0:
        raise ValueError(f"noise_std is {noise_std}: 0 or more is expected")
    chances, spread = rng.random(3), rng.uniform(-1, 1, 2)
    return Photometric(
        brightness=1 + brightness * spread[0] if chances[0] < brightness_p else 1.0,
        contrast=1 + contrast * spread[1] if chances[1] < contrast_p else 1.0,
        noise_std=noise_std if chances[2] < noise_p else 0.0,
        noise_key=int(rng.integers(2**63)),
    )


def unit_range(clip: AnyClip) -> Clip:
    """Return a uint8 clip as float32 in [0, 1]; a float clip is in that range and stays as it is."""
    if clip.dtype != np.uint8:
        return clip.astype(np.float32, copy=False)
    return np.divide(clip, np.float32(255), dtype=np.float32)


def mean_level(clip: AnyClip, params: Photometric) -> float:
    """Return the mean over a whole clip after its brightness changed: the fixed point of the contrast."""
    total = sum(float(part.sum(dtype=np.float64)) for part in _brightened_parts(clip, params))
    return total / clip.size


def noise_of(params: Photometric) -> np.random.Generator:
    """Return the generator of a clip's noise; parts of the clip may draw from it one after the other."""
    return np.random.Generator(np.random.Philox(key=params.noise_key))


def apply_photometric(
    clip: AnyClip,
    params: Photometric,
    *,
    level: float | None = None,
    noise: np.random.Generator | None = None,
) -> Clip:
    """Return the changed clip [T, ...] as float32: brightness v u, contrast (v - m) u + m, then noise.

    Each result is clipped to [0, 1]; m is the mean of the brightened clip. A clip may be changed in parts
    with the `mean_level` and `noise_of` of the whole. Neutral parameters give the values unchanged.
    """
    values = unit_range(clip)
    if params.is_neutral:
        return values
    if values is clip:
        values = values.copy()
    if params.brightness != 1:
        _brighten(values, params)
    if params.contrast != 1:
        middle = np.float32(mean_level(clip, params) if level is None else level)
        values -= middle
        values *= np.float32(params.contrast)
        values += middle
        np.clip(values, 0, 1, out=values)
    if params.noise_std != 0:
        source = noise_of(params) if noise is None else noise
        values += source.standard_normal(values.shape, np.float32) * np.float32(params.noise_std)
        np.clip(values, 0, 1, out=values)
    return values


def _brighten(values: Clip, params: Photometric) -> None:
    values *= np.float32(params.brightness)
    np.clip(values, 0, 1, out=values)


def _brightened_parts(clip: AnyClip, params: Photometric) -> Iterator[Clip]:
    for start in range(0, len(clip), _CHUNK):
        part = unit_range(clip[start : start + _CHUNK])
        if params.brightness != 1:
            part = part.copy() if clip.dtype != np.uint8 else part
            _brighten(part, params)
        yield part
