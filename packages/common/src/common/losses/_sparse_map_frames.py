"""Maps with few lit cells: which frames count, where their targets lie, how far every cell is from them."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from common.losses._reduction import check_choice, divide, full_precision
from common.losses.config import Reduction

Per = Literal["cell", "frame", "positive"]
"""What a mean divides by: cells of the counted frames, counted frames that hold a target, lit cells."""


@dataclass(frozen=True)
class Maps:
    """Checked maps [*, H, W] in full precision, 0 in frames that do not count; `valid` None counts all."""

    pred: Tensor
    target: Tensor
    valid: Tensor | None

    @classmethod
    def of(cls, pred: Tensor, target: Tensor, valid: Tensor | None) -> Maps:
        """Check and clean the maps; ValueError names the shapes that do not fit."""
        if pred.shape != target.shape or pred.dim() < 3:
            raise ValueError(
                f"pred is {list(pred.shape)} and target is {list(target.shape)}: "
                "maps of one shape [B, *, H, W] are expected"
            )
        pred = full_precision(pred)
        target = target.to(pred.dtype)
        if valid is None:
            return cls(pred, target, None)
        if valid.dim() == 0 or valid.dim() > pred.dim() - 2 or valid.shape != pred.shape[: valid.dim()]:
            raise ValueError(
                f"valid is {list(valid.shape)} but maps are {list(pred.shape)}: "
                "it covers leading axes, not rows and columns"
            )
        valid = valid.bool()
        keep = valid.view(*valid.shape, *[1] * (pred.dim() - valid.dim()))
        return cls(torch.where(keep, pred, 0), torch.where(keep, target, 0), valid)

    @classmethod
    def of_target(cls, target: Tensor, valid: Tensor | None) -> Maps:
        """Check and clean targets alone."""
        return cls.of(target, target, valid)

    def counted(self) -> Tensor | None:
        """Return which frames count, bool [*]; None when all do."""
        if self.valid is None:
            return None
        frames = self.pred.shape[:-2]
        return self.valid.view(*self.valid.shape, *[1] * (len(frames) - self.valid.dim())).expand(frames)

    def lit(self) -> Tensor:
        """Return which counted frames have target mass, bool [*]."""
        return self.target.sum(dim=(-2, -1)) > 0

    def count(self, per: Per) -> Tensor:
        """Return the divisor of a mean as a float64 scalar, without looking at predictions."""
        if per == "positive":
            return (self.target > 0).sum().double()
        if per == "frame":
            return self.lit().sum().double()
        if self.valid is None:
            return self.target.new_full((), self.target.numel(), dtype=torch.float64)
        return self.valid.sum().double() * math.prod(self.pred.shape[self.valid.dim() :])

    def reduce(self, losses: Tensor, reduction: Reduction, per: Per, count: Tensor | None = None) -> Tensor:
        """Reduce what each cell adds to the loss [*, H, W]; `count` replaces the divisor of `per`.

        `none` keeps the cells, `sum` adds them, `mean` and `valid_mean` divide the sum.
        """
        check_choice("reduction", reduction, get_args(Reduction))
        counted = self.lit() if per == "frame" else self.counted()
        if reduction == "none":
            return losses if counted is None else torch.where(counted[..., None, None], losses, 0)
        frames = losses.sum(dim=(-2, -1))
        total = (frames if counted is None else torch.where(counted, frames, 0)).sum()
        if reduction == "sum":
            return total
        return divide(total, self.count(per) if count is None else count)


def center_of_mass(target: Tensor) -> tuple[Tensor, Tensor]:
    """Return row and column [*] of the centre of mass of `target` [*, H, W] >= 0; 0, 0 for an empty map.

    Row i and column j stand for the centre of their cell.
    """
    rows, columns = target.sum(dim=-1), target.sum(dim=-2)
    mass = rows.sum(dim=-1)
    row = (rows * positions(target, -2)).sum(dim=-1)
    column = (columns * positions(target, -1)).sum(dim=-1)
    return divide(row, mass), divide(column, mass)


def positions(maps: Tensor, axis: int) -> Tensor:
    """Return 0, 1, ... along an axis of `maps`, in their dtype."""
    return torch.arange(maps.shape[axis], device=maps.device, dtype=maps.dtype)


def offsets(target: Tensor) -> tuple[Tensor, Tensor]:
    """Return signed distances in cells to the centre of mass: of rows [*, H, 1] and of columns [*, 1, W]."""
    row, column = center_of_mass(target)
    down = positions(target, -2) - row.unsqueeze(-1)
    right = positions(target, -1) - column.unsqueeze(-1)
    return down.unsqueeze(-1), right.unsqueeze(-2)


def squared_distance(target: Tensor, to: Literal["center_of_mass", "nearest"]) -> Tensor:
    """Return each cell's squared distance in cells to the centre of mass or the nearest lit cell."""
    check_choice("to", to, ("center_of_mass", "nearest"))
    if to == "nearest":
        return _to_nearest(target)
    down, right = offsets(target)
    return down.square() + right.square()


def _to_nearest(target: Tensor) -> Tensor:
    """Exact distance transform, first along rows, then along columns (Felzenszwalb and Huttenlocher 2012)."""
    height, width = target.shape[-2:]
    column, row = positions(target, -1), positions(target, -2)
    across = (column[:, None] - column).square()
    far = float(height**2 + width**2)
    in_row = torch.where((target > 0).unsqueeze(-2), across, far).amin(dim=-1)
    down = (row[:, None] - row).square().unsqueeze(-1)
    return (in_row.unsqueeze(-3) + down).amin(dim=-2)


def gaussian_map(target: Tensor, sigma: float, *, cut: float | None = None) -> Tensor:
    """Return a Gaussian of peak 1 round the lit cell of each frame of `target` [*, H, W].

    `sigma` is in cells; cells farther than `cut` sigma are 0. A frame without target mass has no cell to
    stand round: what is returned there means nothing. ValueError for sigma <= 0 and, looked at on the CPU
    only, for a frame with several lit cells (elsewhere the Gaussian stands round their centre of mass).
    """
    if not sigma > 0:
        raise ValueError(f"sigma is {sigma}: sigma > 0 is expected")
    if target.device.type == "cpu":
        _check_one_cell(target)
    down, right = offsets(target)
    scale = -0.5 / sigma**2
    peak = (down.square() * scale).exp() * (right.square() * scale).exp()
    if cut is None:
        return peak
    return torch.where(down.square() + right.square() <= (cut * sigma) ** 2, peak, 0)


def _check_one_cell(target: Tensor) -> None:
    rows, columns = target.sum(dim=-1), target.sum(dim=-2)
    if target.numel() and not bool(
        ((rows.amax(-1) == rows.sum(-1)) & (columns.amax(-1) == columns.sum(-1))).all()
    ):
        raise ValueError("target has a frame with several lit cells: a Gaussian needs one per frame")
