"""Fit the baselines: tables from the training split, weights and smoothing by the bits of validation."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.signal import fftconvolve
from torch import Tensor

from common.config import UserError
from eye_fixation.baselines import (
    Array,
    Baseline,
    Center,
    CenterBias,
    ConstantVelocity,
    HistoryKernel,
    Human,
    Inputs,
    LinearAR,
    Oracle,
    Persistence,
    Uniform,
    read_inputs,
    valid_points,
)
from eye_fixation.frames import cells_of

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]

PRIOR_COUNT, PRIOR_SIGMA = 0.5, 0.7
KERNEL_COUNT = 1e-3
CUT = 4.0
"""Reach of every smoothing in units of its sigma."""
RIDGE = 1.0
PERSISTENCE_WEIGHTS = np.arange(1, 100) / 100
KERNEL_SIGMAS = (0.7, 1.0, 1.5, 2.5)
KERNEL_WEIGHTS = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.98])


class Gaze(Protocol):
    """Sequences of one split: `coordinates` [N, T, 2] (x, y) in cells and `mask` [N, T]."""

    @property
    def coordinates(self) -> Array: ...

    @property
    def mask(self) -> Array: ...


class _Split(NamedTuple):
    """One split: what the baselines read of its inputs, and points and validity of all its frames."""

    name: str
    inputs: Inputs
    points: Tensor
    valid: Tensor
    in_len: int

    def horizon(self, horizon: int) -> Tensor:
        """Return the sequences that can be fitted at a horizon counted from 0."""
        chosen = (self.valid[:, self.in_len + horizon] & self.inputs.known).nonzero()[:, 0]
        if not len(chosen):
            raise UserError(
                f"baselines: no sequence of {self.name} has a valid input frame and a valid target frame"
                f" {horizon + 1}: more sequences are needed"
            )
        return chosen

    def moves(self, horizon: int, side: int) -> tuple[Ints, Ints]:
        """Return cells (row, column) of the last input and the target frame, [M, 2] each."""
        chosen = self.horizon(horizon)
        target = cells_of(self.points[chosen, self.in_len + horizon], side)
        return self.inputs.cell[chosen].flip(-1).numpy(), target.flip(-1).numpy()


class _Data(NamedTuple):
    """What every fit reads."""

    train: _Split
    val: _Split
    prior: Floats
    out_len: int
    transition: Tensor | None

    @property
    def side(self) -> int:
        return len(self.prior)

    @property
    def common(self) -> tuple[Tensor, int]:
        """Prior and number of horizons, as the baselines take them."""
        return torch.from_numpy(self.prior), self.out_len

    @property
    def uniform(self) -> tuple[Tensor, int]:
        """The same without a preference for any cell."""
        return torch.full_like(self.common[0], 1 / self.side**2), self.out_len


def fit_baselines(
    train: Gaze,
    val: Gaze,
    *,
    in_len: int,
    out_len: int,
    img_size: int,
    names: Sequence[str] | None = None,
    groups: bool = False,
    transition: Array | None = None,
) -> dict[str, Baseline]:
    """Return the baselines `names` by name; None: all that can be had.

    Reads the first `in_len` + `out_len` frames of each sequence. `groups`: sequences of one group share an
    image, which `human` needs; `transition` [S*S, S*S]: law of simulated gaze, which `oracle` needs. Tables
    come from `train`, weights and smoothing from `val`. ValueError for a name that is unknown or lacks what
    it needs, for lengths below 1 and shapes that do not fit; UserError where a horizon has no valid frame.
    """
    fits = {name: fit for name, fit in FITS.items() if groups or name != Human.name}
    if transition is None:
        del fits[Oracle.name]
    unknown = [name for name in names or () if name not in fits]
    if unknown:
        raise ValueError(f"names holds {unknown[0]!r}: one of {', '.join(fits)} is expected")
    law = None if transition is None else torch.as_tensor(transition)
    if law is not None and law.shape != (img_size**2, img_size**2):
        raise ValueError(f"transition is {list(law.shape)}: {img_size**2} rows and columns are expected")
    first, second = (
        _split(name, gaze, in_len, out_len, img_size) for name, gaze in (("train", train), ("val", val))
    )
    data = _Data(first, second, fit_center_bias(first.points, first.valid, img_size), out_len, law)
    return {name: fits[name](data) for name in names or fits}


def fit_center_bias(points: Tensor, valid: Tensor, img_size: int) -> Floats:
    """Return the smoothed histogram of valid points [N, T, 2] in cells, [S, S] (row, column), sum 1."""
    column, row = cells_of(points[valid], img_size).T.numpy()
    counts = _histogram(np.stack([row, column]), img_size) + PRIOR_COUNT
    smooth: Floats = gaussian_filter(counts, PRIOR_SIGMA, mode="reflect", truncate=CUT)
    smooth /= smooth.sum()
    return smooth


def _split(name: str, gaze: Gaze, in_len: int, out_len: int, img_size: int) -> _Split:
    for length, said in ((in_len, "in_len"), (out_len, "out_len")):
        if length < 1:
            raise ValueError(f"{said} is {length}: at least 1 is expected")
    points, valid = (part.cpu() for part in valid_points(gaze.coordinates, gaze.mask, img_size))
    frames = in_len + out_len
    if points.shape[1] < frames:
        raise ValueError(f"{name} has {points.shape[1]} frames: in_len + out_len = {frames} are expected")
    inputs = read_inputs(points[:, :in_len], valid[:, :in_len], img_size)
    return _Split(name, inputs, points[:, :frames], valid[:, :frames], in_len)


def _histogram(cells: Ints, side: int) -> Floats:
    """Return how often each cell (row, column) of [2, M] occurs, float64 [side, side]."""
    return (
        np.bincount(cells[0] * side + cells[1], minlength=side * side).reshape(side, side).astype(np.float64)
    )


def _fit_persistence(data: _Data) -> Persistence:
    weights = [_persistence_weight(data, horizon) for horizon in range(data.out_len)]
    return Persistence(*data.common, weight=torch.tensor(weights, dtype=torch.float64))


def _persistence_weight(data: _Data, horizon: int) -> float:
    last, target = data.val.moves(horizon, data.side)
    stayed = (last == target).all(axis=1).astype(np.float64)
    place, _ = _best(PERSISTENCE_WEIGHTS, stayed, data.prior[target[:, 0], target[:, 1]])
    return float(PERSISTENCE_WEIGHTS[place])


def _best(weights: Floats, moved: Floats, prior: Floats) -> tuple[int, float]:
    """Return the first weight w with the most bits of w moved + (1 - w) prior, by its place, and the bits."""
    bits = np.log2(weights[:, None] * moved + (1 - weights[:, None]) * prior).mean(axis=1)
    place = int(bits.argmax())
    return place, float(bits[place])


def _fit_linear(data: _Data) -> LinearAR:
    fitted = [_ridge(data.train, horizon) for horizon in range(data.out_len)]
    slope, intercept = (torch.stack(parts) for parts in zip(*fitted))
    return LinearAR(*data.common, slope=slope, intercept=intercept)


def _ridge(train: _Split, horizon: int) -> tuple[Tensor, Tensor]:
    """Return slope [2 T_in, 2] and intercept [2] of the points at a horizon on the inputs; intercept free."""
    chosen = train.horizon(horizon)
    inputs, targets = train.inputs.held[chosen].flatten(1), train.points[chosen, train.in_len + horizon]
    middle, target = inputs.mean(0), targets.mean(0)
    inputs = inputs - middle
    penalty = RIDGE * torch.eye(inputs.shape[1], dtype=torch.float64)
    slope = torch.linalg.solve(inputs.T @ inputs + penalty, inputs.T @ (targets - target))
    return slope, target - middle @ slope


def _fit_kernel(data: _Data) -> HistoryKernel:
    fitted = [_kernel_at(data, horizon) for horizon in range(data.out_len)]
    kernels, weights, sigmas = zip(*fitted)
    return HistoryKernel(
        *data.common,
        kernel=torch.from_numpy(np.stack(kernels)),
        weight=torch.tensor(weights, dtype=torch.float64),
        sigma=torch.tensor(sigmas, dtype=torch.float64),
    )


def _kernel_at(data: _Data, horizon: int) -> tuple[Floats, float, float]:
    """Return kernel, weight and sigma with the most bits on val."""
    side = data.side
    last, target = data.train.moves(horizon, side)
    counts = _histogram((target - last).T + side - 1, 2 * side - 1)
    last, target = data.val.moves(horizon, side)
    prior = data.prior[target[:, 0], target[:, 1]]
    most, chosen = -np.inf, (counts, 0.0, 0.0)
    for sigma in KERNEL_SIGMAS:
        kernel = _kernel(counts, sigma)
        place, bits = _best(KERNEL_WEIGHTS, _moved(kernel, data.prior, last, target), prior)
        if bits > most:
            most, chosen = bits, (kernel, float(KERNEL_WEIGHTS[place]), sigma)
    return chosen


def _kernel(counts: Floats, sigma: float) -> Floats:
    """Return the law of the displacement from its histogram; the peak of gaze that stays is not smeared."""
    middle = len(counts) // 2
    moved = counts.copy()
    moved[middle, middle] = 0.0
    kernel: Floats = gaussian_filter(moved, sigma, mode="constant", truncate=CUT) + KERNEL_COUNT
    kernel[middle, middle] += counts[middle, middle]
    kernel /= kernel.sum()
    return kernel


def _moved(kernel: Floats, prior: Floats, last: Ints, target: Ints) -> Floats:
    """Return the mass at `target` of the kernel centred at `last` times prior^.5, sum 1 over cells, [M]."""
    side, likely = len(prior), np.sqrt(prior)
    inside = slice(side - 1, 2 * side - 1)
    mass: Floats = fftconvolve(likely, kernel[::-1, ::-1])[inside, inside]
    step = target - last + side - 1
    weight = kernel[step[:, 0], step[:, 1]] * likely[target[:, 0], target[:, 1]]
    moved: Floats = weight / mass[last[:, 0], last[:, 1]]
    return moved


def _fit_oracle(data: _Data) -> Oracle:
    assert data.transition is not None
    return Oracle(*data.common, transition=data.transition)


FITS: Mapping[str, Callable[[_Data], Baseline]] = {
    Uniform.name: lambda data: Uniform(*data.uniform),
    Center.name: lambda data: Center(*data.uniform),
    Persistence.name: _fit_persistence,
    ConstantVelocity.name: lambda data: ConstantVelocity(*data.common),
    LinearAR.name: _fit_linear,
    CenterBias.name: lambda data: CenterBias(*data.common),
    HistoryKernel.name: _fit_kernel,
    Human.name: lambda data: Human(*data.common),
    Oracle.name: _fit_oracle,
}
