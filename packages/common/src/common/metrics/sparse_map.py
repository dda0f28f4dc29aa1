"""Maps that predict one lit cell, as densities: conversion, calibration, and the targets beside them.

A map is [H, W]; cell (row, column) covers x in [column, column + 1) and y in [row, row + 1), points are
(x, y) in cells, and a cell's flat index is row x W + column.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, get_args

import torch
from torch import Tensor

from common.losses.sparse_map import OutputKind

FLOOR = 1e-6  # what a cell of a regression map weighs at least, before normalising
TAUS = (0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 1.0, 1.5, 2.0, 3.0, 5.0, 8.0, 12.0, 20.0)
FLOORS = (1e-4, 1e-3, 0.01, 0.03, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9, 1.0)
_ENTRIES_PER_CHUNK = 2**18
_SUM_TOLERANCE = 1e-3


def to_density(prediction: Tensor, output_kind: OutputKind) -> Tensor:
    """Return maps [*, H, W] as densities over their cells: not negative, sum 1; at least float32.

    bernoulli and categorical: softmax of the logits; for independent cells it is the exact law of the place,
    given that one cell is lit. regression: max(z, 0) + 1e-6, normalised. ValueError for another kind, fewer
    than two dimensions and for predictions that are not finite.
    """
    if output_kind not in get_args(OutputKind):
        raise ValueError(f"output_kind is {output_kind!r}: one of {', '.join(get_args(OutputKind))} expected")
    if prediction.dim() < 2:
        raise ValueError(f"prediction is {list(prediction.shape)}: [*, H, W] is expected")
    values = prediction if prediction.dtype == torch.float64 else prediction.float()
    if not bool(torch.isfinite(values).all()):
        raise ValueError("prediction holds NaN or inf: it is no density")
    rows = values.flatten(-2)
    if output_kind == "regression":
        rows = rows.clamp(min=0) + FLOOR
        return (rows / rows.sum(-1, keepdim=True)).view(prediction.shape)
    return rows.softmax(-1).view(prediction.shape)


def cell_index(points: Tensor, shape: tuple[int, int]) -> Tensor:
    """Return the flat cell, int64 [*], of points [*, 2] on a grid of `shape` (H, W).

    Coordinates are rounded down; what lies beyond the grid, or exactly on its end, falls into the border cell
    and NaN into cell 0.
    """
    height, width = shape
    whole = points.nan_to_num(nan=0.0).floor().long()
    return whole[..., 1].clamp(0, height - 1) * width + whole[..., 0].clamp(0, width - 1)


class Rows(NamedTuple):
    """Some valid maps, one per row: `place` int64 [F] among the N x T maps, `step` that place modulo T."""

    place: Tensor
    step: Tensor
    density: Tensor  # [F, K]
    cell: Tensor  # int64 [F]
    target: Tensor  # float64 [F, 2]


@dataclass(frozen=True, eq=False)
class TargetMaps:
    """Densities [N, T, H, W] of N sequences and T steps ahead, and where the lit point was.

    `target` [N, T, 2] is the point, `cell` int64 [N, T] its flat cell, `valid` bool [N, T] says which maps
    count; what stands at the others is never read.
    """

    density: Tensor
    target: Tensor
    valid: Tensor
    cell: Tensor

    @classmethod
    def of(cls, density: Tensor, target: Tensor, valid: Tensor | None = None) -> TargetMaps:
        """Check shapes and values; ValueError names what does not fit."""
        if density.dim() != 4 or target.shape != (*density.shape[:2], 2):
            raise ValueError(
                f"density {list(density.shape)} and target {list(target.shape)} do not fit: "
                "density is [N, T, H, W] and target [N, T, 2]"
            )
        if valid is None:
            valid = torch.ones(density.shape[:2], dtype=torch.bool)
        if valid.dtype != torch.bool or valid.shape != density.shape[:2]:
            raise ValueError(
                f"valid is {valid.dtype} {list(valid.shape)}: bool {list(density.shape[:2])} is expected"
            )
        valid, target = valid.to(density.device), target.to(density.device)
        if not bool(torch.isfinite(target[valid]).all()):
            raise ValueError("target holds NaN or inf at a valid map")
        _check_density(density.detach(), valid)
        height, width = density.shape[-2:]
        return cls(density.detach(), target, valid, cell_index(target, (height, width)))

    @property
    def grid(self) -> tuple[int, int]:
        """Height and width of a map, in cells."""
        return self.density.shape[-2], self.density.shape[-1]

    @property
    def steps(self) -> int:
        """T, the number of steps ahead."""
        return self.density.shape[1]

    def rows(self) -> Iterator[Rows]:
        """Yield all valid maps, a few at a time, so that float64 work on them stays small."""
        flat = self.density.flatten(2).flatten(0, 1)
        cells, points = self.cell.flatten(), self.target.flatten(0, 1)
        places = self.valid.flatten().nonzero().squeeze(1)
        for place in torch.split(places, _rows_per_chunk(flat.shape[1])):
            yield Rows(place, place % self.steps, flat[place], cells[place], points[place].double())


def _rows_per_chunk(cells: int) -> int:
    return max(1, _ENTRIES_PER_CHUNK // max(1, cells))


def _check_density(density: Tensor, valid: Tensor) -> None:
    total, least = density.sum((-2, -1), dtype=torch.float32), density.amin((-2, -1))
    wrong = valid & ~(((total - 1).abs() <= _SUM_TOLERANCE) & (least >= 0))
    if bool(wrong.any()):
        sequence, step = wrong.nonzero()[0].tolist()
        raise ValueError(
            f"density [{sequence}, {step}] sums to {float(total[sequence, step]):.6g}, its smallest value is "
            f"{float(least[sequence, step]):.3g}: cells are at least 0 and sum to 1 (see to_density)"
        )


@dataclass(frozen=True)
class Calibration:
    """q = (1 - floor) x norm(q0^tau) + floor / (H W): `tau` sharpens, `floor` mixes in the uniform map."""

    tau: float = 1.0
    floor: float = 0.0

    def __post_init__(self) -> None:
        if not self.tau > 0 or not 0 <= self.floor <= 1:
            raise ValueError(f"tau > 0 and floor in [0, 1] are expected, not {self.tau} and {self.floor}")

    def apply(self, density: Tensor) -> Tensor:
        """Return calibrated densities [*, H, W] in the type of `density`."""
        rows = density.flatten(-2)
        powers = rows if self.tau == 1.0 else (self.tau * rows.log()).softmax(-1)
        return ((1.0 - self.floor) * powers + self.floor / rows.shape[-1]).view(density.shape)

    def to_dict(self) -> dict[str, float]:
        """Return plain types; the floor is called lambda there."""
        return {"tau": self.tau, "lambda": self.floor}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Calibration:
        """Restore what `to_dict` returned."""
        return cls(tau=float(values["tau"]), floor=float(values["lambda"]))


def fit_calibration(density: Tensor, cell: Tensor, valid: Tensor | None = None) -> Calibration:
    """Return the calibration of TAUS x FLOORS with the largest mean log density of the lit cells.

    `density` [*, H, W], `cell` int64 [*] the flat lit cell, `valid` bool [*] the maps that count. Fit it on
    the validation split and report it elsewhere. Of equals: the tau nearest 1, then the smallest floor.
    ValueError for other shapes and without a valid map.
    """
    if cell.shape != density.shape[:-2] or (valid is not None and valid.shape != cell.shape):
        raise ValueError(
            f"density {list(density.shape)} and cell {list(cell.shape)} do not fit: "
            "density is [*, H, W], cell and valid are [*]"
        )
    keep = torch.ones_like(cell, dtype=torch.bool) if valid is None else valid.to(cell.device)
    rows, index = density.detach().flatten(-2)[keep.to(density.device)], cell[keep].to(density.device)
    if not len(rows):
        raise ValueError("no valid map: there is nothing to fit a calibration to")
    chunk = _rows_per_chunk(rows.shape[1])
    shares = [_powered(*part) for part in zip(torch.split(rows, chunk), torch.split(index, chunk))]
    floors = torch.tensor(FLOORS, dtype=torch.float64, device=density.device).view(-1, 1, 1)
    mixed = (1 - floors) * torch.cat(shares, 1) + floors / rows.shape[1]
    gains = mixed.log2().mean(-1).T.cpu()
    ties = (gains >= gains.max() - 1e-12).nonzero().tolist()
    tau, floor = min(
        ((TAUS[t], FLOORS[f]) for t, f in ties), key=lambda pair: (abs(math.log(pair[0])), pair[1])
    )
    return Calibration(tau, floor)


def _powered(rows: Tensor, cell: Tensor) -> Tensor:
    """Return norm(q^tau)[cell] for every tau of TAUS, float64 [taus, F]."""
    logs = rows.double().log()
    at = logs.gather(1, cell.unsqueeze(1)).squeeze(1)
    return torch.stack([(tau * at - (tau * logs).logsumexp(1)).exp() for tau in TAUS])
