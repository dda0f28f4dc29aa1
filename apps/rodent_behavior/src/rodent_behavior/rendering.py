"""Pictures of a generated mouse: six coloured blobs on a grey body, with the frame number as a bar code."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from rodent_behavior.skeleton import LEFT_FRONT, LEFT_HIND, MOUTH, RIGHT_FRONT, RIGHT_HIND, TAIL, Floats

Frame = NDArray[np.uint8]
Colour = tuple[int, int, int]

BLOBS: tuple[Colour, ...] = (
    (255, 255, 0),
    (255, 0, 255),
    (0, 255, 0),
    (0, 255, 255),
    (255, 60, 60),
    (80, 120, 255),
)
"""RGB of the keypoints in their order: yellow, magenta, green, cyan, red, blue."""
ARENA = 28
BODY: Colour = (105, 100, 95)
LIMB: Colour = (150, 140, 135)
BLOB_RADIUS = 2.6
"""Radius of a keypoint in px of a frame of 96 px; everything else grows with the frame too."""
HIP, CHEST = 6, 7
TRUNK = ((TAIL, HIP), (HIP, CHEST), (CHEST, MOUTH))
LIMBS = ((CHEST, LEFT_FRONT), (CHEST, RIGHT_FRONT), (HIP, LEFT_HIND), (HIP, RIGHT_HIND))

DIGITS = 16
"""Bits of the frame number in the bar code."""
CODE_ROWS, CODE_COLUMNS = 6, 4
CELLS = 24
"""Side of the frame in cells of the bar code."""
CHECK = 0b10100101
"""What the check byte of frame 0 reads, so that a black or white corner is no bar code."""
_SUBPIXEL = 4
"""Binary digits after the point in coordinates handed to the drawing functions."""


def draw_frame(xy: Floats, size: int) -> Frame:
    """Return the RGB picture [size, size, 3] of one pose `xy` [6, 2] in px."""
    picture = np.full((size, size, 3), ARENA, dtype=np.uint8)
    hip = 0.5 * xy[TAIL] + 0.25 * (xy[LEFT_HIND] + xy[RIGHT_HIND])
    chest = 0.5 * (xy[LEFT_FRONT] + xy[RIGHT_FRONT])
    points = np.rint(np.concatenate([xy, hip[None], chest[None]]) * 2**_SUBPIXEL).astype(int).tolist()
    unit = size / 96.0
    for bones, colour, width in ((TRUNK, BODY, 9.0), (LIMBS, LIMB, 2.0)):
        for start, stop in bones:
            line = (points[start], points[stop], colour, max(1, round(width * unit)))
            cv2.line(picture, *line, cv2.LINE_AA, _SUBPIXEL)
    radius = round(BLOB_RADIUS * unit * 2**_SUBPIXEL)
    for point, colour in reversed(list(zip(points, BLOBS))):
        cv2.circle(picture, point, radius, colour, cv2.FILLED, cv2.LINE_AA, _SUBPIXEL)
    return picture


def write_video(path: Path, frames: Iterable[Frame], *, size: int, fps: float) -> None:
    """Write RGB `frames` [size, size, 3] as an mp4 file (mp4v). OSError when the file cannot be opened."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), fps, (size, size))
    if not writer.isOpened():
        raise OSError(f"{path}: cannot be opened for writing")
    try:
        for frame in frames:
            writer.write(np.ascontiguousarray(frame[..., ::-1]))
    finally:
        writer.release()


def bar_code_area(height: int) -> tuple[int, int]:
    """Return height and width in px of the top left corner that holds the bar code of a frame."""
    cell = height / CELLS
    return int(np.ceil(CODE_ROWS * cell)), int(np.ceil(CODE_COLUMNS * cell))


def draw_bar_code(frame: Frame, number: int) -> None:
    """Draw `number` into the top left corner of `frame` [S, S, 3] in place; ValueError beyond 16 bits."""
    if not 0 <= number < 2**DIGITS:
        raise ValueError(f"number is {number}: 0 to {2**DIGITS - 1} is expected")
    bits = _bits(number)
    rows, columns = bar_code_area(len(frame))
    row = np.arange(rows) * CODE_ROWS // rows
    column = np.arange(columns) * CODE_COLUMNS // columns
    frame[:rows, :columns] = 255 * bits[row[:, None], column[None, :], None]


def read_bar_code(frame: NDArray[np.generic]) -> int:
    """Return the number in the corner of a square `frame` [S, S, 3] or [S, S] of any S.

    Values are 0 to 255 for integers, 0 to 1 for floats. ValueError when the corner holds no bar code.
    """
    values = np.asarray(frame, dtype=np.float64)
    grey = values.mean(axis=2) if values.ndim == 3 else values
    white = 255.0 if np.issubdtype(frame.dtype, np.integer) else 1.0
    cell = len(grey) / CELLS
    rows = ((np.arange(CODE_ROWS) + 0.5) * cell).astype(int)
    columns = ((np.arange(CODE_COLUMNS) + 0.5) * cell).astype(int)
    bits = (grey[np.ix_(rows, columns)] > white / 2).astype(np.uint8)
    number = int(bits.ravel()[:DIGITS] @ (1 << np.arange(DIGITS)))
    if not np.array_equal(bits, _bits(number)):
        raise ValueError("frame has no bar code in its top left corner")
    return number


def _bits(number: int) -> NDArray[np.uint8]:
    """Return the cells [rows, columns] of a frame number: its 16 bits, lowest first, and a check byte."""
    check = (number & 255) ^ (number >> 8) ^ CHECK
    word = number | check << DIGITS
    cells = word >> np.arange(CODE_ROWS * CODE_COLUMNS) & 1
    return cells.astype(np.uint8).reshape(CODE_ROWS, CODE_COLUMNS)
