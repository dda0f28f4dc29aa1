"""Mirror images: clips, and points whose left and right change places."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Scalar = TypeVar("Scalar", bound=np.generic)


def flip_clip(clip: NDArray[Scalar]) -> NDArray[Scalar]:
    """Return a clip [..., H, W, C] with left and right exchanged."""
    return clip[..., ::-1, :]


def flip_points(points: NDArray[Scalar], swap: Sequence[int], *, extent: float = 1.0) -> NDArray[Scalar]:
    """Return points [..., K, 2] of the mirror image: x -> extent - x, point k taken from point swap[k].

    `extent` is the width of the image in the unit of x. ValueError as in `check_swap`.
    """
    flipped = swap_points(points, swap, axis=-2)
    flipped[..., 0] = np.subtract(extent, flipped[..., 0])
    return flipped


def swap_points(values: NDArray[Scalar], swap: Sequence[int], axis: int = -1) -> NDArray[Scalar]:
    """Return a copy in which point k along `axis` is point swap[k]; ValueError as in `check_swap`."""
    check_swap(swap, values.shape[axis])
    return np.take(values, np.asarray(swap, dtype=np.intp), axis=axis)


def check_swap(swap: Sequence[int], points: int) -> None:
    """Raise a ValueError unless `swap` pairs each of `points` points with one that points back to it."""
    if sorted(swap) != list(range(points)) or any(swap[swap[k]] != k for k in range(points)):
        raise ValueError(f"swap is {list(swap)}: pairs among the numbers 0 to {points - 1} are expected")
