"""Boxes that hide a part of every frame of a clip."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def draw_boxes(rng: np.random.Generator, count: int, *, largest: float) -> NDArray[np.float64]:
    """Draw `count` boxes (top, left, bottom, right) as shares of the frame: [count, 4].

    Each side is U(largest / 2, largest), every box lies inside the frame. ValueError for a negative `count`
    and for `largest` outside [0, 1].
    """
    if count < 0:
        raise ValueError(f"count is {count}: 0 or more is expected")
    if not 0 <= largest <= 1:
        raise ValueError(f"largest is {largest}: 0 to 1 is expected")
    sides = largest * rng.uniform(0.5, 1, (count, 2))
    corners = rng.random((count, 2)) * (1 - sides)
    return np.concatenate([corners, corners + sides], axis=1)


def pixel_boxes(boxes: NDArray[np.float64], height: int, width: int) -> NDArray[np.int64]:
    """Return boxes [..., 4] in pixels of a frame: rows top to bottom - 1, columns left to right - 1."""
    size = np.array([height, width, height, width])
    pixels: NDArray[np.int64] = np.floor(boxes * size + 0.5).astype(np.int64)
    return pixels
