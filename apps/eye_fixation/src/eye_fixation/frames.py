"""Gaze positions as pictures of one active pixel per frame, and the cells they fall into."""

from __future__ import annotations

import torch
from torch import Tensor

ORDERS = ("xy", "yx")


def create_sparse_frames(
    coordinates: Tensor, fixation_mask: Tensor, img_size: int = 32, coord_order: str = "xy"
) -> Tensor:
    """Return float32 (N, T, 1, S, S) with one pixel of 1 per valid frame, on the device of the coordinates.

    `coordinates` (N, T, 2) are in cells, 0 to S; `fixation_mask` (N, T) is above 0 where the gaze is valid.
    The pixel is [row, column] = (floor(y), floor(x)), a coordinate of exactly S in the last cell. Frames that
    are masked, not finite, or outside 0 to S stay empty. Raises ValueError for other shapes, types or orders.
    """
    _check(coordinates, fixation_mask, img_size)
    if coord_order not in ORDERS:
        raise ValueError(f"coord_order {coord_order!r}: one of {', '.join(ORDERS)} is expected")
    if coord_order == "yx":
        coordinates = coordinates.flip(-1)
    count, length = fixation_mask.shape
    cells = cells_of(coordinates, img_size).reshape(-1, 2)
    active = inside(coordinates, img_size) & (fixation_mask > 0)
    frames = torch.zeros(count * length, img_size * img_size, device=coordinates.device)
    place = cells[:, 1:] * img_size + cells[:, :1]
    frames.scatter_(1, place, active.reshape(-1, 1).float())
    return frames.reshape(count, length, 1, img_size, img_size)


def cells_of(coordinates: Tensor, img_size: int) -> Tensor:
    """Return int64 [*, 2], the (column, row) of coordinates [*, 2] in cells: floor, kept within 0 to S - 1.

    Positions that are not finite give an arbitrary cell; `inside` tells which to trust.
    """
    cells = torch.nan_to_num(coordinates).floor().clamp(0, img_size - 1)
    return cells.long()


def inside(coordinates: Tensor, img_size: int) -> Tensor:
    """Return bool [*]: both coordinates of [*, 2] are finite and from 0 to S inclusive."""
    return ((coordinates >= 0) & (coordinates <= img_size)).all(-1)


def gaussian_frames(coordinates: Tensor, mask: Tensor, img_size: int, sigma: float) -> Tensor:
    """Return float32 (N, T, 1, S, S), a Gaussian of peak 1 on the cell of every valid frame.

    `coordinates` (N, T, 2) as (x, y) and `sigma` are in cells; frames that `create_sparse_frames` leaves
    empty are empty. Raises ValueError for other shapes and for a sigma that is not positive.
    """
    _check(coordinates, mask, img_size)
    if not sigma > 0:
        raise ValueError(f"sigma {sigma}: a positive number is expected")
    grid = torch.arange(img_size, device=coordinates.device)
    by_cell = torch.exp((grid - grid[:, None]).float().square() / (-2 * sigma**2))
    profiles = by_cell[cells_of(coordinates, img_size)]
    active = inside(coordinates, img_size) & (mask > 0)
    columns, rows = profiles.unbind(-2)
    rows = rows * active[..., None]
    return (rows[..., :, None] * columns[..., None, :])[:, :, None]


def _check(coordinates: Tensor, mask: Tensor, img_size: int) -> None:
    if coordinates.ndim != 3 or coordinates.shape[-1] != 2:
        raise ValueError(f"coordinates {tuple(coordinates.shape)}: (N, T, 2) is expected")
    if not coordinates.is_floating_point():
        raise ValueError(f"coordinates {coordinates.dtype}: a floating point type is expected")
    if mask.shape != coordinates.shape[:2]:
        raise ValueError(
            f"fixation_mask {tuple(mask.shape)} does not fit coordinates {tuple(coordinates.shape)}"
        )
    if img_size < 1:
        raise ValueError(f"img_size {img_size}: at least 1 is expected")
