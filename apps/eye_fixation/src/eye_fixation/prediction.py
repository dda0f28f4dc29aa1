"""What is written of predicted densities: points in the recording's own units, spread, and draws."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from eye_fixation.geometry import Geometry, Origin, Units

Array: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]

LEVELS = (50, 90)
"""Percent of the mass in the regions whose areas are given."""
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Screen:
    """What the numbers of a recording mean, and the cells a side of the grid that covers the screen."""

    geometry: Geometry
    units: Units
    origin: Origin
    img_size: int

    def positions(self, cells: Tensor) -> Array:
        """Return positions [*, 2] (x, y) in cells as those of the recording, float64."""
        x, y = (cells.double() / self.img_size).unbind(-1)
        return np.stack(self.geometry.restored(x.numpy(), y.numpy(), self.units, self.origin), axis=-1)


@dataclass(frozen=True, eq=False)
class Prediction:
    """N windows and T_out horizons.

    `recording` names [N], `time_s` float64 [N, T_out] the middle of the predicted frame, `argmax` and `mean`
    [N, T_out, 2] the centre of the likeliest cell and the mean place in the recording's units, `max_mass` and
    `entropy_bits` [N, T_out], `area` int64 [N, T_out, 2] the cells of the smallest regions with 50 and 90 %
    of the mass, `samples` [N, T_out, n, 2] drawn from every density by itself, `density` float32
    [N, T_out, S, S]. In cells and NaN where unknown: `last` [N, 2], the last input gaze, and `true`
    [N, T_out, 2], the gaze of the predicted frame.
    """

    recording: NDArray[np.str_]
    time_s: Array
    argmax: Array
    mean: Array
    max_mass: Array
    entropy_bits: Array
    area: Ints
    samples: Array
    density: NDArray[np.float32]
    last: Array
    true: Array

    def __len__(self) -> int:
        return len(self.recording)


def argmax_point(density: Tensor) -> Tensor:
    """Return the centre (x, y) of the largest cell of densities [*, S, S] in cells, float64 [*, 2]."""
    best = density.flatten(-2).argmax(-1)
    size = density.shape[-1]
    return torch.stack([best % size, best // size], -1).double() + 0.5


def entropy_bits(density: Tensor) -> Tensor:
    """Return the entropy of densities [*, S, S], float64 [*]; uniform 32 x 32 is 10."""
    entropy: Tensor = torch.special.entr(density.double()).sum((-2, -1)) / math.log(2)
    return entropy


def region_area(density: Tensor, level: float) -> Tensor:
    """Return the cells of the smallest region of densities [*, S, S] with mass `level`, int64 [*]."""
    mass = density.flatten(-2).double().sort(dim=-1, descending=True).values.cumsum(-1)
    area: Tensor = 1 + (mass[..., :-1] < level - _ROUNDING).sum(-1)
    return area


def draw(density: Tensor, count: int, generator: torch.Generator) -> Tensor:
    """Return points [*, count, 2] (x, y) in cells of densities [*, S, S], uniform within a cell, float64."""
    rows, size = density.flatten(-2).flatten(0, -2), density.shape[-1]
    if not count:
        return torch.zeros(*density.shape[:-2], 0, 2, dtype=torch.float64)
    cells = torch.multinomial(rows, count, replacement=True, generator=generator)
    within = torch.rand(*cells.shape, 2, generator=generator, dtype=torch.float64)
    points = torch.stack([cells % size, cells // size], -1) + within
    return points.view(*density.shape[:-2], count, 2)
