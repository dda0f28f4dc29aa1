"""Scores of density maps taken together: precision and recall of cells, calibration, movement."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np
import torch
from torch import Tensor

from common.metrics.calibration import expected_calibration_error
from common.metrics.ranking import IntArray, Threshold, _best, _step_area
from common.metrics.report import FloatArray, divide
from common.metrics.sparse_map import TargetMaps, cell_index
from common.metrics.sparse_map_frames import FrameScores

MASS_EDGES = (0.0, 1e-4, 1e-3, 0.003, 0.01, 0.03, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0)
Score: TypeAlias = Callable[[Tensor], float]

NEAR = 1.5  # cells: a target within them of the last input point has not moved


class Pooled(NamedTuple):
    """A score over all valid maps, and over those of each step ahead, float64 [T]; NaN where undefined."""

    value: float
    per_step: FloatArray


@dataclass(frozen=True, eq=False)
class CellRanking:
    """How many cells, lit and others, reach each distinct density of a lit cell.

    `thresholds` [M] fall; `hits` and `extra` int64 [T, M] count the lit and the other cells of each step with
    a density in [threshold, next higher threshold). It holds all that precision and recall need: between two
    densities of lit cells precision only falls.
    """

    thresholds: FloatArray
    hits: IntArray
    extra: IntArray

    @classmethod
    def of(cls, maps: TargetMaps) -> CellRanking:
        """Count the cells of all valid maps."""
        lit = maps.density.flatten(2).gather(2, maps.cell.unsqueeze(2)).squeeze(2)
        values = torch.unique(lit[maps.valid])
        size = len(values) + 1
        counts = torch.zeros(2, maps.steps * size, dtype=torch.int64, device=maps.density.device)
        for rows in maps.rows():
            place = torch.bucketize(rows.density, values, right=True) + size * rows.step.unsqueeze(1)
            counts[0] += place.flatten().bincount(minlength=counts.shape[1])
            counts[1] += place.gather(1, rows.cell.unsqueeze(1)).flatten().bincount(minlength=counts.shape[1])
        cells, hits = counts.view(2, maps.steps, size)[..., 1:].flip(-1).cpu().numpy()
        return cls(values.flip(0).double().cpu().numpy(), hits, cells - hits)

    def average_precision(self) -> Pooled:
        """Return the average precision over all (map, cell) pairs, sum of (R_n - R_(n-1)) P_n."""
        value = _step_area(self.hits.sum(0), self.extra.sum(0))
        return Pooled(float(value), _step_area(self.hits, self.extra))

    def best_f1(self, *, split: str) -> Threshold:
        """Return the threshold on the density with the largest F1; choose it on the validation split."""
        return _best(self.thresholds, self.hits.sum(0), self.extra.sum(0), split)


def f1_at(maps: TargetMaps, threshold: float) -> Pooled:
    """Return F1 of "density >= threshold" over all (map, cell) pairs; 0 where nothing reaches it."""
    lit = maps.density.flatten(2).gather(2, maps.cell.unsqueeze(2)).squeeze(2) >= threshold
    predicted = (maps.density >= threshold).sum((-2, -1))
    parts = [(part * maps.valid).sum(0).cpu().numpy() for part in (lit, predicted, maps.valid)]
    hits, reached, count = (part.astype(np.float64) for part in parts)
    overall = divide(2 * hits.sum(), reached.sum() + count.sum())
    return Pooled(float(overall), np.where(count > 0, divide(2 * hits, reached + count), np.nan))


def top_calibration_error(scores: FrameScores, *, bins: int = 15) -> Pooled:
    """Return the calibration error of the largest density as the chance that its cell is lit."""
    confidence, correct = scores.values["top_mass"], scores.values["rank"] == 0

    def error(keep: Tensor) -> float:
        return expected_calibration_error(confidence[keep].clamp(max=1.0), correct[keep], bins=bins)

    steps = range(scores.valid.shape[1])
    at = torch.arange(scores.valid.shape[1], device=scores.valid.device)
    each = np.array([error(scores.valid & (at == step)) for step in steps])
    return Pooled(error(scores.valid), each)


@dataclass(frozen=True, eq=False)
class MassReliability:
    """Predicted mass and lit cells in bins of cell density, float64 [T, bins]; `frames` [T] valid maps."""

    mass: FloatArray
    hits: FloatArray
    frames: FloatArray

    @classmethod
    def of(cls, maps: TargetMaps) -> MassReliability:
        """Gather all cells; a bin of MASS_EDGES is closed below, the last also above."""
        bins, device = len(MASS_EDGES) - 1, maps.density.device
        inner = torch.tensor(MASS_EDGES[1:-1], dtype=torch.float64, device=device)
        sums = torch.zeros(2, maps.steps * bins, dtype=torch.float64, device=device)
        for rows in maps.rows():
            density = rows.density.double()
            place = torch.bucketize(density, inner, right=True) + bins * rows.step.unsqueeze(1)
            sums[0] += place.flatten().bincount(density.flatten(), minlength=sums.shape[1])
            sums[1] += place.gather(1, rows.cell.unsqueeze(1)).flatten().bincount(minlength=sums.shape[1])
        mass, hits = sums.view(2, maps.steps, bins).cpu().numpy()
        return cls(mass, hits, maps.valid.sum(0).double().cpu().numpy())

    def error(self) -> Pooled:
        """Return the sum over bins of |mass - hits|, per map."""
        overall = divide(abs(self.mass.sum(0) - self.hits.sum(0)).sum(), self.frames.sum())
        return Pooled(float(overall), divide(abs(self.mass - self.hits).sum(-1), self.frames))


@dataclass(frozen=True, eq=False)
class Movement:
    """Distances in cells from the last input point, float64 [N, T]; NaN where a map is not valid.

    `step` is that of the target and `mean_step` that of the mean point. `cell_step` and `drawn_step` are
    those of the lit cell and of a cell drawn from the density, between cell centres, so that a true density
    has equal laws of both. `near` is the density's mass within `radius` of the last input point; a target has
    moved when its step is longer than that. Sequences without a finite last point are NaN.
    """

    step: Tensor
    mean_step: Tensor
    cell_step: Tensor
    drawn_step: Tensor
    near: Tensor
    radius: float = NEAR

    @classmethod
    def of(
        cls, maps: TargetMaps, mean_point: Tensor, last: Tensor, *, radius: float = NEAR, seed: int = 0
    ) -> Movement:
        """Measure from `last` [N, 2]; `mean_point` [N, T, 2] as in FrameScores. ValueError for shapes."""
        if last.shape != (maps.valid.shape[0], 2) or mean_point.shape != maps.target.shape:
            raise ValueError(
                f"last {list(last.shape)} and mean_point {list(mean_point.shape)} do not fit: "
                f"{[maps.valid.shape[0], 2]} and {list(maps.target.shape)} are expected"
            )
        origin = last.to(maps.density.device, torch.float64)
        known = maps.valid & torch.isfinite(origin).all(1, keepdim=True)
        mass, drawn = _around(maps, origin, radius, seed)
        start = _centre(cell_index(origin, maps.grid), maps.grid)
        return cls(
            step=_distance(maps.target.double(), origin, known),
            mean_step=_distance(mean_point, origin, known),
            cell_step=_distance(_centre(maps.cell, maps.grid), start, known),
            drawn_step=_distance(_centre(drawn, maps.grid), start, known),
            near=torch.where(known, mass, float("nan")),
            radius=radius,
        )

    @property
    def moved(self) -> Tensor:
        """Bool [N, T]; False where the step is unknown."""
        return self.step > self.radius

    def auc(self) -> Pooled:
        """Return the area under the ROC curve of 1 - `near` for having moved; ties count half."""
        return self._pool(lambda keep: _roc_area(1 - self.near[keep], self.moved[keep]))

    def ratio(self) -> Pooled:
        """Return the summed step of the mean point over that of the target, where it moved."""
        return self._pool(
            lambda keep: _quotient(self.mean_step[keep & self.moved], self.step[keep & self.moved])
        )

    def wasserstein(self) -> Pooled:
        """Return the Wasserstein-1 distance in cells between the lengths of true and of drawn steps."""
        return self._pool(lambda keep: _wasserstein(self.cell_step[keep], self.drawn_step[keep]))

    def _pool(self, score: Score) -> Pooled:
        known = ~self.step.isnan()
        at = torch.arange(known.shape[1], device=known.device)
        return Pooled(score(known), np.array([score(known & (at == step)) for step in range(known.shape[1])]))


def _around(maps: TargetMaps, origin: Tensor, radius: float, seed: int) -> tuple[Tensor, Tensor]:
    """Return the mass within `radius` of `origin`, [N, T], and drawn cells, int64 [N, T]."""
    height, width = maps.grid
    count = maps.valid.numel()
    uniform = torch.rand(count, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    uniform = uniform.to(origin.device)
    x, y = (torch.arange(side, device=origin.device) + 0.5 for side in (width, height))
    mass, drawn = origin.new_full((count,), float("nan")), torch.zeros_like(maps.cell).flatten()
    for rows in maps.rows():
        density, start = rows.density.double(), origin[rows.place // maps.steps]
        gap = torch.hypot((y - start[:, 1:]).unsqueeze(2), (x - start[:, :1]).unsqueeze(1)).flatten(1)
        mass[rows.place] = (density * (gap <= radius)).sum(1)
        cumulative = density.cumsum(1)
        mark = uniform[rows.place].unsqueeze(1) * cumulative[:, -1:]
        cell = torch.searchsorted(cumulative, mark, right=True).squeeze(1).clamp(max=height * width - 1)
        drawn[rows.place] = cell
    return mass.view(maps.valid.shape), drawn.view(maps.valid.shape)


def _centre(cell: Tensor, grid: tuple[int, int]) -> Tensor:
    return torch.stack([cell % grid[1], cell // grid[1]], -1).double() + 0.5


def _distance(points: Tensor, origin: Tensor, known: Tensor) -> Tensor:
    length = torch.linalg.vector_norm(points - origin.unsqueeze(1), dim=-1)
    return torch.where(known, length, float("nan"))


def _roc_area(scores: Tensor, positive: Tensor) -> float:
    values, truth = scores.cpu().numpy(), positive.cpu().numpy()
    distinct, place = np.unique(values, return_inverse=True)
    counts = np.bincount(place, minlength=len(distinct))
    hits = np.bincount(place[truth], minlength=len(distinct))
    others = counts - hits
    beaten = (hits * (others.cumsum() - 0.5 * others)).sum()
    return float(divide(beaten, np.float64(hits.sum()) * others.sum()))


def _quotient(numerator: Tensor, denominator: Tensor) -> float:
    return float(divide(numerator.sum().cpu().numpy(), denominator.sum().cpu().numpy()))


def _wasserstein(first: Tensor, second: Tensor) -> float:
    """Return the distance of two samples of equal size: the mean gap of their sorted values."""
    return float((first.sort().values - second.sort().values).abs().mean())
