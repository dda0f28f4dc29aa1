"""Videos whose frames carry their number as a row of black and white blocks."""

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

BITS = 10


def coded_frame(number: int, width: int, height: int) -> NDArray[np.uint8]:
    """Return an RGB frame: its number in binary over the upper half, red and blue below."""
    frame = np.zeros((height, width, 3), np.uint8)
    side = width // BITS
    for bit in range(BITS):
        frame[: height // 2, bit * side : (bit + 1) * side] = 255 * (number >> bit & 1)
    frame[height // 2 :, : width // 2] = (220, 30, 30)
    frame[height // 2 :, width // 2 :] = (30, 30, 220)
    return frame


def write_coded(
    path: Path, frames: int, width: int = 80, height: int = 48, *, fps: float = 30, code: str = "mp4v"
) -> Path:
    """Write a video of `frames` coded frames and return its path."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*code), fps, (width, height))
    for number in range(frames):
        writer.write(cv2.cvtColor(coded_frame(number, width, height), cv2.COLOR_RGB2BGR))
    writer.release()
    return path


def read_codes(frames: NDArray[np.generic], *, left: int = 0, top: int = 0, width: int = 80) -> list[int]:
    """Return the numbers that frames [T, H, W, 3] of that width, from `left` and `top` on, carry."""
    side = width / BITS
    columns = (left + side * (np.arange(BITS) + 0.5)).astype(int)
    bright = frames[:, top + 4, columns, 1] > (127 if frames.dtype == np.uint8 else 0.5)
    return [int(number) for number in bright @ (1 << np.arange(BITS))]
