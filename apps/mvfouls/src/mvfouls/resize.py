"""Frames of any size brought to the height and width of the network's input."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from common.video import Pixels, resize_frame

if TYPE_CHECKING:
    from mvfouls.settings import Fit


def fit_frames(frames: Pixels, height: int, width: int, fit: Fit = "crop") -> Pixels:
    """Return uint8 frames [T, H, W, 3] as [T, height, width, 3]; each frame is resized on its own.

    crop: covers the target, what stands out is cut off on both sides; letterbox: lies inside it between black
    bars; stretch: changes the proportions. Frames of the right size are returned as they are.
    ValueError for another `fit`.
    """
    if fit not in ("crop", "letterbox", "stretch"):
        raise ValueError(f"fit is {fit!r}: one of crop, letterbox, stretch is expected")
    if frames.shape[1:3] == (height, width):
        return frames
    resized_height, resized_width = fitted_size(frames.shape[1], frames.shape[2], height, width, fit)
    result = np.zeros((len(frames), height, width, 3), np.uint8)
    for frame, place in zip(frames, result):
        _put(resize_frame(frame, resized_width, resized_height), place)
    return result


def fitted_size(source_height: int, source_width: int, height: int, width: int, fit: Fit) -> tuple[int, int]:
    """Return the height and width to which a picture is resized before what stands out is cut off."""
    if fit == "stretch":
        return height, width
    scales = height / source_height, width / source_width
    scale = max(scales) if fit == "crop" else min(scales)
    return max(1, round(source_height * scale)), max(1, round(source_width * scale))


def _put(frame: Pixels, place: Pixels) -> None:
    """Copy a frame into the middle of `place`, whichever of the two is larger on each axis."""
    cuts = []
    for size, room in zip(frame.shape[:2], place.shape[:2]):
        shared = min(size, room)
        cuts.append((slice((room - shared) // 2, (room + shared) // 2), (size - shared) // 2))
    (rows, top), (columns, left) = cuts
    target = place[rows, columns]
    target[:] = frame[top : top + target.shape[0], left : left + target.shape[1]]
