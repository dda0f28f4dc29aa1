"""Frames of a video as the square input of an image network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from common.video import Pixels, resize_frame

ResizeMode = Literal["letterbox", "stretch"]


@dataclass(frozen=True)
class Resize:
    """Make a frame [H, W, 3] of any shape a square [size, size, 3].

    letterbox: the longer side becomes `size`, the rest is black on both sides alike; stretch: distort.
    """

    size: int
    mode: ResizeMode = "letterbox"

    def __post_init__(self) -> None:
        if self.size < 1:
            raise ValueError(f"size is {self.size}: 1 or more is expected")
        if self.mode not in ("letterbox", "stretch"):
            raise ValueError(f"mode is {self.mode!r}: letterbox or stretch is expected")

    @property
    def name(self) -> str:
        """What frames of this form are stored under."""
        return f"{self.mode} {self.size}"

    def __call__(self, frame: Pixels) -> Pixels:
        if self.mode == "stretch":
            return resize_frame(frame, self.size, self.size)
        left, top, width, height = self.picture(frame.shape[1], frame.shape[0])
        square = np.zeros((self.size, self.size, 3), np.uint8)
        square[top : top + height, left : left + width] = resize_frame(frame, width, height)
        return square

    def picture(self, width: int, height: int) -> tuple[int, int, int, int]:
        """Return left, top, width and height of a `width` x `height` frame's picture within the square."""
        if self.mode == "stretch":
            return 0, 0, self.size, self.size
        scale = self.size / max(width, height)
        wide, high = max(round(width * scale), 1), max(round(height * scale), 1)
        return (self.size - wide) // 2, (self.size - high) // 2, wide, high


def to_input(clip: NDArray[np.float32]) -> Tensor:
    """Return a clip [T, H, W, 3] in [0, 1] as the tensor [T, 3, H, W] that a backbone takes."""
    return torch.from_numpy(np.ascontiguousarray(clip.transpose(0, 3, 1, 2)))
