"""Simulated gaze whose best possible prediction is known: each step depends on the present cell alone.

The gaze moves on S x S cells; coordinates are in cells, x to the right and y down, and a cell is named by its
number row * S + column. A step is normal with a mean and a variance of its own for each cell, clipped at the
border, so cells form a Markov chain and nothing can beat the rows of the powers of its transition matrix.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.special import ndtr, xlogy
from torch import Tensor

Floats: TypeAlias = NDArray[np.float64]
Kind: TypeAlias = Literal["field", "smooth"]

KINDS: tuple[Kind, ...] = ("field", "smooth")
START_SPREAD = 4.5
"""Standard deviation, in cells, of the first frame about the centre of the grid."""
INSIDE = 1 - 1e-6
"""Largest coordinate as a share of the grid side, so that it is in the last cell."""


@dataclass(frozen=True)
class Simulator:
    """A Markov chain of gaze cells and paths that follow it.

    `field`: short steps in four cells of ten, long ones elsewhere, and a random drift, all drawn from `seed`.
    `smooth`: one variance everywhere and a drift towards the centre, no random number. `split` (0 train,
    1 val, 2 test) draws a field of its own, None the one that all splits share; that of split 0 is the shared
    one. ValueError names an argument out of range.
    """

    kind: Kind = "field"
    seed: int = 0
    img_size: int = 32
    split: int | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind is {self.kind!r}: field or smooth is expected")
        for name, value, least in (("seed", self.seed, 0), ("img_size", self.img_size, 2)):
            if value < least:
                raise ValueError(f"{name} is {value}: at least {least} is expected")

    @cached_property
    def centers(self) -> Floats:
        """Centres (x, y) of the cells, [S, S, 2] by row and column."""
        middles = np.arange(self.img_size) + 0.5
        return np.stack(np.meshgrid(middles, middles), axis=-1)

    @cached_property
    def steps(self) -> tuple[Floats, Floats]:
        """Mean and variance of the step (x, y) from each cell, in cells, [S, S, 2] each."""
        side = self.img_size
        inward = (side / 2 - self.centers) / side
        if self.kind == "smooth":
            return 4.95 * inward, np.full_like(inward, 9.0)
        entropy = [self.seed, 0] if self.split is None else [self.seed, 0, self.split]
        random = np.random.default_rng(entropy)
        drift = random.standard_normal((side, side, 2))
        short = random.random((side, side)) < 0.4
        small = random.uniform(0.01, 0.15, (side, side, 2))
        large = random.uniform(10.0, 20.0, (side, side, 2))
        return 9 * (0.55 * inward + 0.2925 * drift), np.where(short[..., None], small, large)

    @cached_property
    def transition(self) -> Floats:
        """Chance of each cell after each cell, [S*S, S*S], rows sum to 1."""
        mean, variance = self.steps
        return _cell_law(self.centers + mean, np.sqrt(variance), self.img_size).reshape(self.img_size**2, -1)

    @cached_property
    def start(self) -> Floats:
        """Chance of each cell in the first frame, [S*S]."""
        middle = np.full(2, self.img_size / 2)
        return _cell_law(middle, np.full(2, START_SPREAD), self.img_size).ravel()

    def sample(self, count: int, length: int, split: int) -> NDArray[np.float32]:
        """Return `count` paths of `length` frames, float32 [count, length, 2] (x, y) in cells.

        The paths of a split (0 train, 1 val, 2 test) are the first ones of any larger count of that length.
        ValueError names a count, length or split out of range.
        """
        for name, value, least in (("count", count, 1), ("length", length, 1), ("split", split, 0)):
            if value < least:
                raise ValueError(f"{name} is {value}: at least {least} is expected")
        mean, variance = self.steps
        landing, spread = self.centers + mean, np.sqrt(variance)
        noise = np.random.default_rng([self.seed, 1 + split]).standard_normal((count, length, 2))
        paths = np.empty(noise.shape, dtype=np.float32)
        paths[:, 0] = self._inside(self.img_size / 2 + START_SPREAD * noise[:, 0])
        for frame in range(1, length):
            # The cell is that of the rounded coordinate: a reader of the file must see the state that acted.
            column, row = paths[:, frame - 1].astype(np.int64).T
            paths[:, frame] = self._inside(landing[row, column] + spread[row, column] * noise[:, frame])
        return paths

    def oracle(self, cells: NDArray[np.int64], horizon: int) -> Floats:
        """Return the law of the cell `horizon` frames after each of `cells` [N], [N, S*S].

        ValueError for a horizon below 1.
        """
        if horizon < 1:
            raise ValueError(f"horizon is {horizon}: at least 1 is expected")
        while len(self._powers) < horizon:
            self._powers.append(self._powers[-1] @ self.transition)
        return self._powers[horizon - 1][cells]

    def tables(self) -> dict[str, Tensor]:
        """Return `transition` [S*S, S*S] and `start` [S*S] as float32 tensors, as files hold them."""
        return {name: torch.from_numpy(getattr(self, name)).float() for name in ("transition", "start")}

    @cached_property
    def _powers(self) -> list[Floats]:
        return [self.transition]

    def _inside(self, points: Floats) -> Floats:
        return points.clip(0.0, self.img_size * INSIDE)


def oracle_bits(simulator: Simulator, *, in_len: int = 10, out_len: int = 10) -> Floats:
    """Return the expected bits, log2 q[cell], of the best prediction at each horizon, [out_len].

    Exact: the law of the last input cell times the negative entropy of each row of the transition's power. No
    model can have more. ValueError for lengths below 1.
    """
    cells = np.arange(simulator.img_size**2)
    last = _law_at(simulator, in_len)
    return np.array([last @ _negentropy(simulator.oracle(cells, h)) for h in _horizons(out_len)])


def history_free_bits(simulator: Simulator, *, in_len: int = 10, out_len: int = 10) -> Floats:
    """Return the expected bits of the law of each target frame alone, the inputs unseen, [out_len]."""
    return np.array([_negentropy(_law_at(simulator, in_len + h)) for h in _horizons(out_len)])


def _horizons(out_len: int) -> range:
    if out_len < 1:
        raise ValueError(f"out_len is {out_len}: at least 1 is expected")
    return range(1, out_len + 1)


def _law_at(simulator: Simulator, frame: int) -> Floats:
    """Return the law of the cell in a frame counted from 1, [S*S]."""
    if frame < 1:
        raise ValueError(f"in_len is {frame}: at least 1 is expected")
    law = simulator.start
    for _ in range(frame - 1):
        law = law @ simulator.transition
    return law


def _negentropy(law: Floats) -> Floats:
    """Return sum p log2 p over the last axis."""
    total: Floats = xlogy(law, law).sum(axis=-1) / np.log(2)
    return total


def _cell_law(mean: Floats, spread: Floats, side: int) -> Floats:
    """Return the chance of each cell under normal laws [*, 2] (x, y), tails in the border, [*, S, S]."""
    below = ndtr((np.arange(1, side) - mean[..., None]) / spread[..., None])
    edges = [(0, 0)] * mean.ndim
    chances = np.diff(np.pad(below, [*edges, (1, 1)], constant_values=((0, 1),)), axis=-1)
    columns, rows = chances[..., 0, :], chances[..., 1, :]
    law: Floats = rows[..., :, None] * columns[..., None, :]
    return law
