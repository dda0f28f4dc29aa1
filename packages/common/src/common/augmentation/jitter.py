"""Noise on the coordinates of points."""

from __future__ import annotations

from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

JitterMode = Literal["frame", "window"]


def draw_jitter(
    rng: np.random.Generator, frames: int, points: int, *, std: float, mode: JitterMode
) -> NDArray[np.float32]:
    """Draw offsets N(0, std): [frames, points, 2] for mode `frame`, [1, points, 2] for `window`.

    ValueError for a negative `std` and an unknown mode.
    """
    if not std >= 0:
        raise ValueError(f"std is {std}: 0 or more is expected")
    if mode not in get_args(JitterMode):
        raise ValueError(f"mode is {mode!r}: one of {', '.join(get_args(JitterMode))} is expected")
    shape = (frames if mode == "frame" else 1, points, 2)
    return rng.standard_normal(shape, np.float32) * np.float32(std)


def apply_jitter(
    points: NDArray[Any], offsets: NDArray[np.float32], visible: NDArray[np.bool_], *, extent: ArrayLike = 1.0
) -> NDArray[Any]:
    """Return points [T, K, 2] moved by offsets x extent and clipped to [0, extent] where `visible` [T, K].

    `extent` is the image's size in the unit of the points, one number or (width, height).
    """
    size = np.asarray(extent, dtype=points.dtype)
    moved = np.clip(points + offsets * size, 0, size)
    return np.where(visible[..., None], moved, points)
