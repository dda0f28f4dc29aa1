"""Keypoints of consecutive frames, the body scale that goes with them, and what later frames recall of them.

A point is one complex number x + iy: |a - b| is a distance, and b conj(a) / |a b| has the cosine and the sine
of the signed angle from a to b as its parts.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]
Points = NDArray[np.complex128]
Mask = NDArray[np.bool_]

SCALE_MEMORY = 900
"""Observations over which the causal body scale averages."""
MIN_ARM = 1e-6
"""Lengths up to this count as no length."""


@dataclass(frozen=True)
class Poses:
    """Keypoints of T frames: `points` [T, K] px, 0 where not `known`, `visibility` and `likelihood` [T, K].

    Visibility is 1 for a visible, 0.5 for a filled and 0 for a missing keypoint. `scaled` [T] is where the
    body scale is known and `inverse_scale` [T] 1 over it, 1 elsewhere.
    """

    points: Points
    known: Mask
    visibility: Floats
    likelihood: Floats
    scaled: Mask
    inverse_scale: Floats

    @classmethod
    def of(cls, xy: ArrayLike, visibility: ArrayLike, likelihood: ArrayLike, scale: ArrayLike) -> Poses:
        """Return the poses of `xy` [T, K, 2] px and `scale` [T] px, NaN where unknown.

        ValueError names shapes that do not fit.
        """
        positions = np.asarray(xy, dtype=np.float64)
        seen = np.asarray(visibility, dtype=np.float64)
        confidence = np.asarray(likelihood, dtype=np.float64)
        sizes = np.asarray(scale, dtype=np.float64)
        if positions.ndim != 3 or positions.shape[2] != 2:
            raise ValueError(f"xy is {list(positions.shape)}: [T, K, 2] is expected")
        if seen.shape != positions.shape[:2] or confidence.shape != positions.shape[:2]:
            raise ValueError(
                f"visibility is {list(seen.shape)} and likelihood {list(confidence.shape)}: "
                f"{list(positions.shape[:2])} is expected"
            )
        if sizes.shape != positions.shape[:1]:
            raise ValueError(f"scale is {list(sizes.shape)}: {list(positions.shape[:1])} is expected")
        known = seen > 0
        scaled = sizes > MIN_ARM
        return cls(
            np.where(known, as_points(positions), 0.0),
            known,
            seen,
            np.where(np.isnan(confidence), 0.0, confidence),
            scaled,
            1.0 / np.where(scaled, sizes, 1.0),
        )

    def __len__(self) -> int:
        return len(self.points)


@dataclass(frozen=True)
class Memory:
    """Quantities [T, n] of each frame that later frames compare theirs with, and where they are known."""

    values: Points
    known: Mask

    @classmethod
    def unknown(cls, frames: int, size: int) -> Memory:
        """Return the memory of frames in which nothing is known."""
        return cls(np.zeros((frames, size), dtype=np.complex128), np.zeros((frames, size), dtype=np.bool_))

    def before(self, lag: int) -> Memory:
        """Return the memory `lag` frames earlier, unknown for the first `lag` frames."""
        frames, size = self.values.shape
        start, kept = self.unknown(min(lag, frames), size), max(0, frames - lag)
        return Memory(
            np.concatenate([start.values, self.values[:kept]]),
            np.concatenate([start.known, self.known[:kept]]),
        )


class RunningScale:
    """Body scale from the observations so far: their mean, exponential after `SCALE_MEMORY` of them."""

    def __init__(self) -> None:
        self.value = float("nan")
        self.count = 0

    def update(self, length: float) -> float:
        """Take one axis length, NaN for none, and return the scale, NaN before the first observation."""
        if length != length:
            return self.value
        self.count += 1
        start = 0.0 if self.count == 1 else self.value
        self.value = start + (length - start) / min(self.count, SCALE_MEMORY)
        return self.value


def axis_length(xy: Floats, visibility: Floats, axis: tuple[int, int]) -> Floats:
    """Return the distance [T] between the two points of the body axis, NaN unless both are truly visible."""
    first, second = axis
    seen = np.minimum(visibility[:, first], visibility[:, second]) >= 1
    arms = np.where(seen[:, None], xy[:, first] - xy[:, second], np.nan)
    return np.hypot(arms[:, 0], arms[:, 1])


def as_points(xy: Floats) -> Points:
    """Return `xy` [..., 2] as complex numbers [...]."""
    return np.ascontiguousarray(xy).view(np.complex128)[..., 0]
