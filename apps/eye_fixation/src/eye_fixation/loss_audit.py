"""What each loss says of a network that knows nothing, of a near-perfect map and of a misplaced one.

One frame, one lit cell. A loss can teach where the cell is only if its ideal prediction costs less than every
constant map and than the same prediction elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from common.losses.sparse_map import (
    HeatmapCrossEntropyLoss,
    OutputKind,
    SparseDiceLoss,
    SparseMapLoss,
    gaussian_map,
)
from eye_fixation.losses import LOSSES, LossOptions, build_loss, loss_info

LOW, HIGH, STEP = -14.0, 8.0, 0.1
"""Constants of the curve."""
COLUMNS = (0.0, -2.0, -4.0, -6.0)
NEAR_PERFECT = (4.0, -6.0)
"""Logit on and off the cell of the near-perfect map."""
IDEAL = (12.0, -12.0)
"""The same of the ideal prediction of a logit."""
POOLED_FRAMES = 80
"""Frames of a batch, 8 sequences of 10, over which Dice is pooled; other losses are means over frames."""
MOVED = 2
"""Cells to the right by which the ideal prediction is moved."""

_BLACK = -1e4
_FLAT = 1e-9
_TOLERANCE = 1e-6
_TINY = 1e-12
_GOLDEN = (math.sqrt(5) - 1) / 2


@dataclass(frozen=True)
class BestConstant:
    """Where a network that ignores its input ends, and what the documented .5 threshold says of it.

    `logit` is -inf where ever lower is better and None where all constants cost the same; then nothing is
    said of probability, recall and precision.
    """

    logit: float | None
    loss: float
    sigmoid: float | None
    recall: float | None
    precision: float | None


@dataclass(frozen=True)
class LossAudit:
    """One loss on one frame; `curve` holds (constant, loss)."""

    name: str
    kind: OutputKind
    literal: bool
    best: BestConstant
    constants: Mapping[float, float]
    """Loss of the constant maps in `COLUMNS`."""
    near_perfect: float
    wrong_place: float
    """The near-perfect map with its blob an eighth of the side from the corner."""
    ideal: float
    ideal_moved: float
    curve: tuple[tuple[float, float], ...]

    def teaches_place(self) -> bool:
        """Return whether the ideal prediction beats every constant and itself moved."""
        return self.ideal < min(self.best.loss, self.ideal_moved, *(loss for _, loss in self.curve))


def constant_table(
    options: LossOptions | None = None, img_size: int = 32, names: Sequence[str] = tuple(LOSSES)
) -> tuple[LossAudit, ...]:
    """Return the audit of each named loss on a frame of `img_size` cells with its middle cell lit.

    UserError for an unknown name or a bad option, ValueError for a frame too small to move the blob in.
    """
    if img_size < 8:
        raise ValueError(f"img_size is {img_size}: at least 8 cells are expected")
    return tuple(_audit(name, options, img_size) for name in names)


def _audit(name: str, options: LossOptions | None, img_size: int) -> LossAudit:
    loss, info = build_loss(name, options, img_size), loss_info(name)
    middle, corner = img_size // 2, img_size // 8
    target = blob(img_size, middle, (1.0, 0.0))
    value = _judge(loss, target)
    ideal = ideal_prediction(loss, target)
    grid = [LOW + STEP * i for i in range(round((HIGH - LOW) / STEP) + 1)]
    curve = tuple((logit, value(torch.full_like(target, logit))) for logit in grid)
    return LossAudit(
        name=name,
        kind=info.kind,
        literal=info.literal,
        best=_best_constant(curve, lambda logit: value(torch.full_like(target, logit)), img_size**2),
        constants={logit: value(torch.full_like(target, logit)) for logit in COLUMNS},
        near_perfect=value(blob(img_size, middle, NEAR_PERFECT)),
        wrong_place=value(blob(img_size, corner, NEAR_PERFECT)),
        ideal=value(ideal),
        ideal_moved=value(ideal.roll(MOVED, dims=-1)),
        curve=curve,
    )


def blob(img_size: int, place: int, values: tuple[float, float]) -> Tensor:
    """Return a float64 map [S, S] with the first value at (place, place) and the second elsewhere."""
    on, off = values
    cells = torch.full((img_size, img_size), off, dtype=torch.float64)
    cells[place, place] = on
    return cells


def ideal_prediction(loss: SparseMapLoss, target: Tensor) -> Tensor:
    """Return the prediction [S, S] a loss asks for: the target, sure logits, or the log of a soft target."""
    if loss.output_kind == "regression":
        return target
    if isinstance(loss, HeatmapCrossEntropyLoss) and loss.sigma:
        heat = gaussian_map(target, loss.sigma, cut=3)
        return (heat / heat.sum()).clamp_min(_TINY).log()
    on, off = IDEAL
    return torch.where(target > 0, on, off).to(target.dtype)


def _judge(loss: SparseMapLoss, target: Tensor) -> Callable[[Tensor], float]:
    """Return the loss of a map [S, S] against `target`."""
    frames = POOLED_FRAMES if isinstance(loss, SparseDiceLoss) else 1
    shape = (frames, 1, *target.shape)
    truth = target.expand(shape)

    def value(pred: Tensor) -> float:
        with torch.no_grad():
            return float(loss(pred.expand(shape), truth))

    return value


def _best_constant(
    curve: Sequence[tuple[float, float]], value: Callable[[float], float], cells: int
) -> BestConstant:
    losses = [loss for _, loss in curve]
    lowest = min(losses)
    if max(losses) - lowest <= _FLAT * max(1.0, abs(lowest)):
        return BestConstant(None, lowest, None, None, None)
    place = losses.index(lowest)
    if place == 0 and value(_BLACK) < lowest:
        return BestConstant(-math.inf, value(_BLACK), 0.0, 0.0, 0.0)
    low, high = curve[max(place - 1, 0)][0], curve[min(place + 1, len(curve) - 1)][0]
    logit = _lowest_between(value, low, high)
    p = 1 / (1 + math.exp(-logit))
    lit = p > 0.5
    return BestConstant(logit, value(logit), p, float(lit), 1 / cells if lit else 0.0)


def _lowest_between(value: Callable[[float], float], low: float, high: float) -> float:
    """Return where a function with one dip is lowest, to 1e-6, by golden sections."""
    left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
    at_left, at_right = value(left), value(right)
    while high - low > 0.1 * _TOLERANCE:
        if at_left <= at_right:
            high, right, at_right = right, left, at_left
            left = high - _GOLDEN * (high - low)
            at_left = value(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + _GOLDEN * (high - low)
            at_right = value(right)
    middle = (low + high) / 2
    return middle if abs(middle) > _TOLERANCE else 0.0
