"""Intervals and tests of means over grouped data, from resamples that all models share.

Sequences of one group depend on each other, so groups are drawn, not sequences; where a model was trained
several times its runs are drawn too. One set of draws serves all models: their differences are paired.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.metrics.report import FloatArray, divide

FEWEST_GROUPS = 5
FEWEST_RUNS = 3


@dataclass(frozen=True, eq=False)
class GroupSums:
    """Sums and counts of C columns per run and group, float64 [R, G, C]; a mean is sum / count."""

    sums: FloatArray
    counts: FloatArray

    def __post_init__(self) -> None:
        if self.sums.ndim != 3 or self.sums.shape != self.counts.shape or not self.sums.shape[0]:
            raise ValueError(
                f"sums {self.sums.shape} and counts {self.counts.shape} do not fit: both are [R, G, C], R > 0"
            )

    def run_means(self) -> FloatArray:
        """Return the mean of each run over all groups, [R, C]; NaN without a count."""
        return divide(self.sums.sum(1), self.counts.sum(1))

    def means(self) -> FloatArray:
        """Return the mean over runs, [C]."""
        return np.asarray(self.run_means().mean(0))


def group_sums(sums: FloatArray, counts: FloatArray, group: NDArray[Any]) -> GroupSums:
    """Add up sequences to groups: `sums`, `counts` [R, N, C] and group ids [N], in the order of the ids.

    ValueError for other shapes and for NaN, which is left out by a sum and a count of 0.
    """
    if sums.ndim != 3 or counts.shape != sums.shape or group.shape != sums.shape[1:2]:
        raise ValueError(
            f"sums {sums.shape}, counts {counts.shape} and group {group.shape} do not fit: "
            "[R, N, C] twice and [N] are expected"
        )
    if not (np.isfinite(sums).all() and np.isfinite(counts).all()):
        raise ValueError("sums or counts hold NaN or inf")
    order = np.argsort(group, kind="stable")
    starts = np.unique(group[order], return_index=True)[1]
    return GroupSums(*(np.add.reduceat(part[:, order], starts, axis=1) for part in (sums, counts)))


class GroupResamples:
    """`n` draws of `groups` groups with replacement, and of runs after them.

    Runs are drawn only where there are at least FEWEST_RUNS of them: fewer say nothing about their spread.
    Models with equally many runs share the draws of runs. ValueError with fewer than FEWEST_GROUPS groups,
    for which no interval means anything. Source: Efron and Tibshirani 1993, chapters 8 and 13.
    """

    def __init__(self, groups: int, *, n: int = 2000, seed: int = 0) -> None:
        if groups < FEWEST_GROUPS:
            raise ValueError(f"no interval: {groups} groups, at least {FEWEST_GROUPS} are needed")
        if n < 1:
            raise ValueError(f"n is {n}: at least 1 resample is needed")
        self.groups = groups
        self.n = n
        self._seed = seed
        generator = np.random.default_rng([seed, 0])
        shares = np.full(groups, 1.0 / groups)
        self._draws = generator.multinomial(groups, shares, size=n).astype(np.float64)

    def means(self, data: GroupSums) -> FloatArray:
        """Return the mean of each resample, [n, C]; NaN where it drew no count."""
        runs, groups, columns = data.sums.shape
        if groups != self.groups:
            raise ValueError(f"data has {groups} groups: {self.groups} are expected")
        weights = self._run_weights(runs)
        total = np.zeros((self.n, columns))
        for run in range(runs):
            means = divide(self._draws @ data.sums[run], self._draws @ data.counts[run])
            drawn = weights[:, run, None]
            total += np.where(drawn > 0, drawn * means, 0.0)
        return total

    def _run_weights(self, runs: int) -> FloatArray:
        """Return the share of each run in each resample, [n, R]."""
        if runs < FEWEST_RUNS:
            return np.full((self.n, runs), 1.0 / runs)
        generator = np.random.default_rng([self._seed, runs])
        return generator.multinomial(runs, np.full(runs, 1.0 / runs), size=self.n) / runs


def percentile_interval(values: FloatArray, level: float = 0.95) -> FloatArray:
    """Return the lower and upper end, [2, C], of the middle `level` of resampled values [n, C].

    NaN is left out; a column of NaN has none. ValueError for a level outside (0, 1).
    """
    if not 0 < level < 1:
        raise ValueError(f"level lies in (0, 1), not {level}")
    ends = np.full((2, values.shape[1]), np.nan)
    known = ~np.isnan(values).all(0)
    tail = (1.0 - level) / 2.0
    if known.any():
        ends[:, known] = np.nanquantile(values[:, known], [tail, 1.0 - tail], axis=0)
    return ends


def two_sided_p(differences: FloatArray) -> float:
    """Return the two-sided p-value of "no difference" from resampled differences [n]; NaN without any.

    Twice the smaller share of resamples on one side of 0, those at 0 on both; the observed sample counts as
    one more resample, so p is never 0. Source: Davison and Hinkley 1997, section 4.4.
    """
    known = differences[~np.isnan(differences)]
    if not len(known):
        return float("nan")
    fewest = min(int((known <= 0).sum()), int((known >= 0).sum()))
    return min(1.0, 2.0 * (fewest + 1) / (len(known) + 1))


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted for their number; NaN stays and does not count. Source: Holm 1979."""
    adjusted = [float("nan")] * len(p_values)
    order = sorted((p, place) for place, p in enumerate(p_values) if not np.isnan(p))
    largest = 0.0
    for done, (p, place) in enumerate(order):
        largest = max(largest, min(1.0, p * (len(order) - done)))
        adjusted[place] = largest
    return adjusted
