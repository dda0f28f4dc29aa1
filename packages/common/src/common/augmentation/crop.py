"""Random crops: a box of the frame, turned or not, drawn back to the whole frame."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Crop:
    """A box with the frame's proportions; the neutral one is the frame itself.

    `scale`: its side over the frame's. `x`, `y`: where it lies in the room this leaves, 0 left or top, 1
    right or bottom. `angle`: degrees by which the picture turns clockwise.
    """

    scale: float = 1.0
    x: float = 0.5
    y: float = 0.5
    angle: float = 0.0

    @property
    def is_neutral(self) -> bool:
        """Whether a frame stays as it is."""
        return self.scale == 1 and self.angle == 0

    def matrix(self, height: int, width: int) -> NDArray[np.float64]:
        """Return the map [2, 3] from a place (x, y, 1) of the result to the place it shows.

        Places are in pixels of a frame of `height` x `width` whose first pixel's centre is (0, 0).
        """
        turn = np.deg2rad(self.angle)
        cosine, sine = np.cos(turn), np.sin(turn)
        linear = self.scale * np.array([[cosine, sine], [-sine, cosine]])
        size = np.array([width, height])
        middle = (size - 1) / 2
        shown = middle + (np.array([self.x, self.y]) - 0.5) * (1 - self.scale) * size
        return np.column_stack([linear, shown - linear @ middle])


def draw_crop(rng: np.random.Generator, *, smallest: float, angle: float = 0.0) -> Crop:
    """Draw a crop of scale U(smallest, 1), anywhere, turned by U(-angle, angle) degrees.

    The same numbers are drawn whatever the strengths. ValueError for `smallest` outside (0, 1] and a negative
    `angle`.
    """
    if not 0 < smallest <= 1:
        raise ValueError(f"smallest is {smallest}: more than 0 and up to 1 is expected")
    if not angle >= 0:
        raise ValueError(f"angle is {angle}: 0 or more is expected")
    size, x, y, turn = (float(number) for number in rng.random(4))
    return Crop(1 - (1 - smallest) * size, x, y, angle * (2 * turn - 1))
