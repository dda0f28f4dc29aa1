"""Scores of every density map by itself: likelihood, rank of the lit cell, distances, coverage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from common.metrics.sparse_map import Rows, TargetMaps

LEAST = torch.finfo(torch.float32).tiny  # a density below it counts as it: -126 bits


@dataclass(frozen=True, eq=False)
class FrameScores:
    """Scores by name, float64 [N, T], NaN where `valid` bool [N, T] is False.

    `bits` log2 q[cell]; `nss` (q[cell] - mean) / population std, 0 for a constant map (Peters et al. 2005);
    `auc` share of the other cells with smaller q, ties half (Judd et al. 2009); `sauc` the same with all
    cells weighted, the lit one included as a tie; `recall_at_<k>` 1 if the lit cell is among the k largest,
    of equals the smaller index first; `rank` its place, from 0; `hit_<r>` 1 if the centre of the largest cell
    is within r cells of the target; `error_argmax`, `error_mean` distance in cells of the largest cell's
    centre and of the mean point to the target; `energy` E|X - g| - E|X - X'| / 2 over cell centres (Gneiting
    and Raftery 2007, eq. 22); `region_mass` the mass of the smallest highest-density region that reaches the
    lit cell, ties taken up to a seeded uniform share; `coverage_<p>` 1 if it is at most p percent; `top_mass`
    the largest q. `argmax_point` and `mean_point` [N, T, 2] are the two points.
    """

    valid: Tensor
    values: dict[str, Tensor]
    argmax_point: Tensor
    mean_point: Tensor


def frame_scores(
    maps: TargetMaps,
    *,
    weights: Tensor | None = None,
    ks: Sequence[int] = (1, 5, 10, 50),
    radii: Sequence[float] = (1, 2, 3),
    levels: Sequence[float] = (0.5, 0.9),
    seed: int = 0,
) -> FrameScores:
    """Return the scores of each valid map; no score depends on the other maps.

    `weights` [T, H, W], not negative, are those of `sauc`, which is NaN without them. ValueError for another
    shape of them.
    """
    shape = (maps.steps, *maps.grid)
    if weights is not None and weights.shape != shape:
        raise ValueError(f"weights are {list(weights.shape)}: {list(shape)}, [T, H, W], is expected")
    device = maps.density.device
    grid = _Grid(maps.grid, device)
    table = None if weights is None else weights.flatten(1).to(device, torch.float64)
    uniform = torch.rand(maps.valid.shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    uniform = uniform.to(device).flatten()
    if not bool(maps.valid.any()):
        raise ValueError("no valid map: there is nothing to score")
    columns: dict[str, Tensor] = {}
    for rows in maps.rows():
        density = rows.density.double()
        scores = _order_scores(density, rows, table, uniform[rows.place])
        scores |= _value_scores(density, rows) | grid.scores(density, rows.target)
        for name, part in scores.items():
            size = (maps.valid.numel(), *part.shape[1:])
            column = columns.setdefault(name, part.new_full(size, float("nan")))
            column[rows.place] = part
    return _gathered(maps.valid, columns, ks, radii, levels)


def _gathered(
    valid: Tensor,
    columns: dict[str, Tensor],
    ks: Sequence[int],
    radii: Sequence[float],
    levels: Sequence[float],
) -> FrameScores:
    values = {name: column.view(*valid.shape, *column.shape[1:]) for name, column in columns.items()}
    argmax, mean = values.pop("argmax_point"), values.pop("mean_point")
    values |= {f"recall_at_{k}": _flag(values["rank"] < k, valid) for k in ks}
    values |= {f"hit_{radius:g}": _flag(values["error_argmax"] <= radius, valid) for radius in radii}
    values |= {f"coverage_{100 * level:g}": _flag(values["region_mass"] <= level, valid) for level in levels}
    return FrameScores(valid, values, argmax, mean)


def _flag(true: Tensor, valid: Tensor) -> Tensor:
    return torch.where(valid, true.double(), float("nan"))


def _order_scores(density: Tensor, rows: Rows, weights: Tensor | None, uniform: Tensor) -> dict[str, Tensor]:
    """Return the scores that depend on which cells are above, equal to and below the lit one."""
    cells = density.shape[1]
    own = density.gather(1, rows.cell.unsqueeze(1))
    above, equal = density > own, density == own
    earlier = equal & (torch.arange(cells, device=density.device) < rows.cell.unsqueeze(1))
    larger, ties = above.sum(1), equal.sum(1)
    smaller = cells - larger - ties
    scores = {
        "rank": (larger + earlier.sum(1)).double(),
        "auc": (smaller + 0.5 * (ties - 1).double()) / (cells - 1),
        "region_mass": (density * above).sum(1) + uniform * own.squeeze(1) * ties,
    }
    if weights is not None:
        mine = weights[rows.step]
        below = mine.sum(1) - (mine * above).sum(1) - 0.5 * (mine * equal).sum(1)
        scores["sauc"] = below / mine.sum(1)
    return scores


def _value_scores(density: Tensor, rows: Rows) -> dict[str, Tensor]:
    own = density.gather(1, rows.cell.unsqueeze(1)).squeeze(1)
    top = density.amax(1)
    constant = top == density.amin(1)
    spread = density.std(1, correction=0).masked_fill(constant, 1.0)
    return {
        "bits": own.clamp(min=LEAST).log2(),
        "nss": ((own - density.mean(1)) / spread).masked_fill(constant, 0.0),
        "top_mass": top,
    }


class _Grid:
    """Cell centres, and what the exact energy score needs: distances of all displacements, transformed.

    E|X - X'| is the sum over displacements of the density's autocorrelation times their length; by Parseval
    that is a sum over frequencies of |Q|^2 times the transform of the lengths, with maps padded to twice
    their size so that no displacement wraps around.
    """

    def __init__(self, shape: tuple[int, int], device: torch.device) -> None:
        self.height, self.width = shape
        self.x = torch.arange(self.width, dtype=torch.float64, device=device) + 0.5
        self.y = torch.arange(self.height, dtype=torch.float64, device=device) + 0.5
        rows, columns = (torch.arange(2 * side, dtype=torch.float64, device=device) for side in shape)
        rows, columns = rows.minimum(2 * self.height - rows), columns.minimum(2 * self.width - columns)
        spectrum = torch.fft.rfft2(torch.hypot(rows.unsqueeze(1), columns)).real
        spectrum[:, 1:-1] *= 2  # rfft2 keeps one of each pair of conjugate columns
        self.spectrum = spectrum / (4 * self.height * self.width)

    def scores(self, density: Tensor, target: Tensor) -> dict[str, Tensor]:
        """Return points and distances of densities [F, K] against targets [F, 2]."""
        maps = density.view(-1, self.height, self.width)
        argmax = density.argmax(1)
        argmax_point = torch.stack([self.x[argmax % self.width], self.y[argmax // self.width]], 1)
        mean_point = torch.stack([maps.sum(1) @ self.x, maps.sum(2) @ self.y], 1)
        mean_point = mean_point / density.sum(1, keepdim=True)
        distance = torch.hypot((self.y - target[:, 1:]).unsqueeze(2), (self.x - target[:, :1]).unsqueeze(1))
        power = torch.view_as_real(torch.fft.rfft2(maps, s=(2 * self.height, 2 * self.width)))
        spread = (power.square().sum(-1) * self.spectrum).sum((1, 2))
        return {
            "argmax_point": argmax_point,
            "mean_point": mean_point,
            "error_argmax": torch.linalg.vector_norm(argmax_point - target, dim=1),
            "error_mean": torch.linalg.vector_norm(mean_point - target, dim=1),
            "energy": (maps * distance).sum((1, 2)) - 0.5 * spread,
        }
