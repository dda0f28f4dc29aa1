"""Every official number of several runs and its difference to a baseline, from resamples that all share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from common.metrics.group_bootstrap import (
    GroupResamples,
    GroupSums,
    holm,
    percentile_interval,
    two_sided_p,
)
from common.metrics.report import divide
from mvfouls.console import FEW_RED
from mvfouls.judging import LEVEL, RESAMPLES, leaderboard_interval, wilson
from mvfouls.labels import OFFICIAL_ACTIONS, OFFICIAL_OS
from mvfouls.official import OfficialScores

Floats = NDArray[np.float64]

LEADERBOARD = "leaderboard"
TITLES = {
    LEADERBOARD: "LB",
    "os_ba": "OS BA",
    "action_ba": "action BA",
    "os_acc": "OS acc",
    "action_acc": "action acc",
}
"""The numbers over all classes."""
CLASSES = (*(("os", name) for name in OFFICIAL_OS), *(("action", name) for name in OFFICIAL_ACTIONS))
"""The classes of both parts, in the order of the columns."""
KEYS = (*TITLES, *(f"{part}_recall/{name}" for part, name in CLASSES))
FEWEST = FEW_RED
"""Actions of a class from which on differences of its recall get an interval and a p."""
_OS, _PARTS = len(OFFICIAL_OS), len(CLASSES)
_EXACT = 12
"""Decimals that are no rounding error, so that equal numbers differ by exactly 0."""


class Value(NamedTuple):
    """A number, a share, with the ends of its interval; NaN where nothing can be said."""

    value: float
    low: float
    high: float


class Difference(NamedTuple):
    """A difference to the baseline with the ends of its paired interval.

    `p` is that of no difference, `p_holm` the same adjusted for the number of runs. `gained` actions are
    right here and wrong in the baseline, `lost` the other way round; None for a mean over classes or seeds.
    """

    value: float
    low: float
    high: float
    p: float
    p_holm: float | None = None
    gained: int | None = None
    lost: int | None = None


@dataclass(frozen=True, eq=False)
class Group:
    """Runs that differ in their seed alone: mean and standard deviation [17] over them, NaN for one run.

    The ends of the interval [17] are those of the mean, over actions; another choice of seeds is not in it.
    """

    members: tuple[int, ...]
    mean: Floats
    sd: Floats
    low: Floats
    high: Floats
    differences: Mapping[str, Difference] | None
    """To the baseline's group; None for that group."""


class Comparison:
    """Official scores of several runs on the same actions; columns are in the order of `KEYS`.

    The actions are drawn with replacement, 2000 times by default, and each resample judges all runs. Classes
    without an action in a resample are left out of their mean. ValueError for scores of different actions and
    for fewer than five actions.
    """

    def __init__(
        self, scores: Sequence[OfficialScores], baseline: int, *, resamples: int = RESAMPLES, seed: int = 0
    ) -> None:
        if len({each.ids for each in scores}) != 1:
            raise ValueError("scores: of different actions")
        self.scores, self.baseline = tuple(scores), baseline
        self._resamples, self._seed = resamples, seed
        draws = GroupResamples(len(scores[0].ids), n=resamples, seed=seed)
        self._data = [_outcomes(each) for each in scores]
        self._points = [with_means(data.means()) for data in self._data]
        self._drawn = [with_means(draws.means(data)) for data in self._data]

    def counts(self) -> dict[str, int]:
        """Return how many actions each number rests on."""
        first = self.scores[0]
        classes = [*first.os.count.tolist(), *first.action.count.tolist()]
        return dict(zip(KEYS, [len(first.ids)] * len(TITLES) + classes, strict=True))

    def values(self, run: int) -> dict[str, Value]:
        """Return the numbers of a run.

        The leaderboard value has the interval of `evaluate`; shares of actions have Wilson's, as everywhere;
        the rest has the percentiles of the resamples.
        """
        scores = self.scores[run]
        ends = percentile_interval(self._drawn[run], LEVEL)
        columns = zip(KEYS, self._points[run], *ends, strict=True)
        found = {key: Value(float(value), float(low), float(high)) for key, value, low, high in columns}
        interval = leaderboard_interval(scores, resamples=self._resamples, seed=self._seed)
        found[LEADERBOARD] = Value(*map(float, interval))
        return found | self._shares(run)

    def differences(self) -> dict[int, dict[str, Difference]]:
        """Return the differences of every other run to the baseline."""
        others = [run for run in range(len(self.scores)) if run != self.baseline]
        found = {run: self._difference([run], [self.baseline], turned=self._turned(run)) for run in others}
        return _adjusted(found)

    def groups(self, members: Sequence[Sequence[int]]) -> list[Group]:
        """Return mean and spread of each group of runs, and its differences to the baseline's group."""
        own = next(place for place, runs in enumerate(members) if self.baseline in runs)
        others = {
            place: self._difference(runs, members[own]) for place, runs in enumerate(members) if place != own
        }
        found = _adjusted(others)
        return [self._group(runs, found.get(place)) for place, runs in enumerate(members)]

    def _group(self, runs: Sequence[int], differences: Mapping[str, Difference] | None) -> Group:
        points = np.stack([self._points[run] for run in runs])
        sd = points.std(axis=0, ddof=1) if len(runs) > 1 else np.full(len(KEYS), np.nan)
        low, high = percentile_interval(_mean(self._drawn, runs), LEVEL)
        return Group(tuple(runs), points.mean(axis=0), sd, low, high, differences)

    def _difference(
        self,
        runs: Sequence[int],
        baseline: Sequence[int],
        *,
        turned: Sequence[tuple[int | None, int | None]] = ((None, None),) * len(KEYS),
    ) -> dict[str, Difference]:
        value = _rounded(_mean(self._points, runs) - _mean(self._points, baseline))
        drawn = _rounded(_mean(self._drawn, runs) - _mean(self._drawn, baseline))
        drawn[:, [n < FEWEST for n in self.counts().values()]] = np.nan
        low, high = percentile_interval(drawn, LEVEL)
        return {
            key: Difference(
                float(value[k]), float(low[k]), float(high[k]), two_sided_p(drawn[:, k]), None, *turned[k]
            )
            for k, key in enumerate(KEYS)
        }

    def _shares(self, run: int) -> dict[str, Value]:
        """Return accuracies and recalls with Wilson's interval."""
        data = self._data[run]
        hits, counts = data.sums[0].sum(axis=0), data.counts[0].sum(axis=0)
        columns = zip(_SHARES, divide(hits, counts), *wilson(hits, counts), strict=True)
        return {key: Value(float(value), float(low), float(high)) for key, value, low, high in columns}

    def _turned(self, run: int) -> list[tuple[int | None, int | None]]:
        """Return how many actions only this run and only the baseline has right, in the order of `KEYS`."""
        change = self._data[run].sums[0] - self._data[self.baseline].sums[0]
        both = ((change > 0).sum(axis=0).tolist(), (change < 0).sum(axis=0).tolist())
        known = dict(zip(_SHARES, zip(*both, strict=True), strict=True))
        return [known.get(key, (None, None)) for key in KEYS]


_SHARES = (*KEYS[len(TITLES) :], "os_acc", "action_acc")
"""Numbers that are shares of actions: columns of `_outcomes`."""


def with_means(shares: Floats) -> Floats:
    """Return the numbers [..., 17] in the order of `KEYS` from recalls and accuracies [..., 14].

    A recall that is NaN is left out of its mean.
    """
    recall, accuracies = shares[..., :_PARTS], shares[..., _PARTS:]
    present = ~np.isnan(recall)
    known = np.where(present, recall, 0.0)
    parts = [
        divide(known[..., part].sum(-1), present[..., part].sum(-1))
        for part in (slice(_OS), slice(_OS, _PARTS))
    ]
    averages = np.stack([(parts[0] + parts[1]) / 2, *parts], axis=-1)
    return np.concatenate([averages, accuracies, recall], axis=-1)


def _outcomes(scores: OfficialScores) -> GroupSums:
    """Return hits and numbers of actions per action, both [1, N, 14]: of every class, then of both parts."""
    number = len(scores.ids)
    counts, hits = np.zeros((2, 1, number, _PARTS + 2))
    rows = np.arange(number)
    for part, first, total in ((scores.os, 0, _PARTS), (scores.action, _OS, _PARTS + 1)):
        for column in (part.truth + first, np.full(number, total)):
            counts[0, rows, column] = 1
            hits[0, rows, column] = part.hit
    return GroupSums(hits, counts)


def _mean(values: Sequence[Floats], runs: Sequence[int]) -> Floats:
    return np.asarray(np.mean([values[run] for run in runs], axis=0))


def _rounded(values: Floats) -> Floats:
    return np.asarray(np.round(values, _EXACT) + 0.0)


def _adjusted(found: Mapping[int, dict[str, Difference]]) -> dict[int, dict[str, Difference]]:
    """Return the differences with p of the leaderboard value adjusted for how many there are."""
    adjusted = holm([each[LEADERBOARD].p for each in found.values()])
    return {
        place: each | {LEADERBOARD: each[LEADERBOARD]._replace(p_holm=p)}
        for (place, each), p in zip(found.items(), adjusted, strict=True)
    }
