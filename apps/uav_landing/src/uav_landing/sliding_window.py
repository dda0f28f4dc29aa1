"""Class probabilities of a whole photo from overlapping tiles, at the photo's own scale."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import torch
from torch import Tensor, nn

WEIGHT_FLOOR = 1e-3


class Orientation(NamedTuple):
    """How a tile is shown to the network: a left-right flip or not, then quarter turns."""

    flip: bool
    turns: int


UPRIGHT = Orientation(flip=False, turns=0)
SYMMETRIES = tuple(Orientation(flip, turns) for flip in (False, True) for turns in range(4))


class Window(NamedTuple):
    """One pass through the network: a box of the photo, its orientation, and its share of the result.

    The weights run along the rows and columns of the tile as the network sees it. Over all windows they
    add up to 1 at every pixel.
    """

    rows: slice
    columns: slice
    orientation: Orientation
    row_weights: Tensor
    column_weights: Tensor


def tile_starts(length: int, tile: int, overlap: float) -> list[int]:
    """Return the first pixel of each tile along one axis; the last tile ends at the border.

    There are ceil((length - tile) / stride) + 1 tiles, stride = floor(tile * (1 - overlap)); one, starting
    at 0, on an axis shorter than a tile. Raises ValueError for an overlap that leaves no stride.

    >>> tile_starts(853, 512, 0.5)
    [0, 256, 341]
    """
    stride = math.floor(tile * (1 - overlap) + 1e-9)  # 320 * (1 - 0.9) is 31.999999999999993
    if not 0 <= overlap < 1 or stride < 1:
        raise ValueError(f"overlap: tiles of {tile} px cannot overlap by {overlap}")
    last = max(length - tile, 0)
    return [*range(0, last, stride), last]


@torch.no_grad()
def predict_photo(
    model: nn.Module,
    image: Tensor,
    tile: tuple[int, int],
    overlap: float,
    batch: int,
    num_classes: int,
    device: torch.device,
    autocast: torch.dtype | None = None,
    tta: bool = False,
) -> Tensor:
    """Return the probabilities num_classes x H x W (float32, on `device`) of one normalised photo 3 x H x W.

    Tiles of `tile` (height, width) pixels, `batch` at a time, are blended by their softmax with separable
    raised-cosine weights. A photo smaller than a tile is continued by reflection. `tta` averages over the
    eight flips and quarter turns. `model` returns logits or a tuple that begins with them. The photo may
    stay in host memory: only tiles and the result are on `device`.
    Raises ValueError for a model in training mode, an empty batch or an overlap that leaves no stride.
    """
    if model.training:
        raise ValueError("model: call eval() before predicting")
    if batch < 1:
        raise ValueError(f"batch: must be at least 1, not {batch}")
    height, width = image.shape[-2:]
    windows = list(lay_out((height, width), tile, overlap, SYMMETRIES if tta else (UPRIGHT,), device))
    blended = torch.zeros(num_classes, height, width, device=device)
    for first in range(0, len(windows), batch):
        group = windows[first : first + batch]
        tiles = torch.stack([_cut(image, window, tile) for window in group]).to(device)
        for window, probabilities in zip(group, _probabilities(model, tiles, autocast), strict=True):
            blended[:, window.rows, window.columns] += _share(probabilities, window)
    return blended


def lay_out(
    photo: tuple[int, int],
    tile: tuple[int, int],
    overlap: float,
    orientations: Sequence[Orientation],
    device: torch.device,
) -> Iterator[Window]:
    """Yield the windows that cover a photo once per orientation, as a grid on the photo so oriented."""
    for orientation in orientations:
        shown = photo if orientation.turns % 2 == 0 else photo[::-1]
        columns = list(_axis(shown[1], tile[1], overlap, device))
        for row_span, row_weights in _axis(shown[0], tile[0], overlap, device):
            for column_span, column_weights in columns:
                box = _on_photo(row_span, column_span, shown, orientation)
                yield Window(*box, orientation, row_weights / len(orientations), column_weights)


def _axis(length: int, tile: int, overlap: float, device: torch.device) -> Iterator[tuple[slice, Tensor]]:
    """Yield each tile's span along one axis with its blending weights, which add up to 1 at every pixel."""
    phase = (torch.arange(tile, dtype=torch.float64) + 0.5) * (2 * math.pi / tile)
    bump = (0.5 - 0.5 * torch.cos(phase)).clamp(min=WEIGHT_FLOOR)[:length]
    spans = [slice(start, start + len(bump)) for start in tile_starts(length, tile, overlap)]
    total = torch.zeros(length, dtype=torch.float64)
    for span in spans:
        total[span] += bump
    for span in spans:
        yield span, (bump / total[span]).to(device, torch.float32)


def _on_photo(
    rows: slice, columns: slice, shown: tuple[int, int], orientation: Orientation
) -> tuple[slice, slice]:
    """Return where a box of the oriented photo, of size `shown`, lies in the upright one."""
    height, width = shown
    for _ in range(orientation.turns):
        rows, columns = columns, slice(height - rows.stop, height - rows.start)
        height, width = width, height
    if orientation.flip:
        columns = slice(width - columns.stop, width - columns.start)
    return rows, columns


def _cut(image: Tensor, window: Window, tile: tuple[int, int]) -> Tensor:
    """Return the oriented tile 3 x tile height x tile width, continued by reflection if the photo ends."""
    piece = image[:, window.rows, window.columns]
    if window.orientation.flip:
        piece = piece.flip(-1)
    piece = piece.rot90(window.orientation.turns, (-2, -1))
    for axis in (1, 2):
        if piece.shape[axis] < tile[axis - 1]:
            piece = piece.index_select(axis, _reflected(piece.shape[axis], tile[axis - 1], piece.device))
    return piece


def _reflected(length: int, size: int, device: torch.device) -> Tensor:
    """Return `size` indices that run to and fro over `length` pixels without repeating the border."""
    period = max(2 * (length - 1), 1)
    position = torch.arange(size, device=device) % period
    return torch.minimum(position, period - position) if length > 1 else position


def _probabilities(model: nn.Module, tiles: Tensor, autocast: torch.dtype | None) -> Tensor:
    precision: AbstractContextManager[object] = nullcontext()
    if autocast is not None:
        precision = torch.autocast(tiles.device.type, dtype=autocast)
    with precision:
        output = model(tiles)
    logits: Tensor = output if isinstance(output, Tensor) else output[0]
    return logits.float().softmax(dim=1)


def _share(probabilities: Tensor, window: Window) -> Tensor:
    """Return the weighted probabilities of one tile, cut to the photo and turned upright."""
    rows, columns = window.row_weights, window.column_weights
    share = probabilities[:, : len(rows), : len(columns)] * (rows[:, None] * columns)
    share = share.rot90(-window.orientation.turns, (-2, -1))
    return share.flip(-1) if window.orientation.flip else share
