"""Repetition of rare classes: every bout of one is drawn again, with an expected exposure that is exact."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from common.balancing.weights import repeat_factors as common_repeat_factors
from common.config import UserError
from rodent_behavior.labels import Actions, Bout, bouts, count_classes
from rodent_behavior.windows import training_windows

Shares = NDArray[np.float64]


class BoutItem(NamedTuple):
    """An extra window: label rows `start` to `stop` - 1 of trial number `trial`, loss on `loss_start` on.

    It is drawn `repeats` times per epoch in the mean, because of a bout of class `label`. A bout longer than
    the window has several items, all numbered `bout`.
    """

    trial: int
    start: int
    stop: int
    loss_start: int
    loss_stop: int
    label: int
    bout: int
    repeats: float


def repeat_factors(counts: ArrayLike, *, threshold: float, cap: float) -> Shares:
    """Return min(threshold / share, cap) for classes of share < threshold, 1 for the others, float64 [C].

    `counts` [C] are the labelled training frames. Common repeat factors (LVIS, Gupta 2019) with power 1 on
    shares of frames. UserError when threshold is outside 0..1 (1 excluded) or cap < 1.
    """
    if not 0 <= threshold < 1:
        raise UserError(f"--rare_threshold_share {threshold} must be >= 0 and < 1")
    if not cap >= 1:
        raise UserError(f"--rare_boost_cap {cap} must be >= 1")
    number = np.asarray(counts, dtype=np.float64)
    shares = number / max(number.sum(), 1.0)
    return common_repeat_factors(shares, threshold=threshold, power=1, cap=cap)


def bout_items(
    actions: Sequence[Actions], factors: Shares, *, window: int, margin: int
) -> tuple[BoutItem, ...]:
    """Return an item for every bout of a class with a factor above 1, in order of trial and row.

    `actions` are the merged ids [rows] of the training trials. The item's window of `window` rows is centred
    on the bout and kept inside the trial; its loss covers the bout and at most `margin` rows on either side.
    """
    if margin < 0:
        raise UserError(f"--rare_margin {margin} must be >= 0")
    items: list[BoutItem] = []
    number = 0
    for trial, labels in enumerate(actions):
        for bout in bouts(labels):
            if factors[bout.label] > 1:
                repeats = float(factors[bout.label]) - 1
                for span in _windows(bout, len(labels), window, margin):
                    items.append(BoutItem(trial, *span, bout.label, number, repeats))
                number += 1
    return tuple(items)


def exposure(
    actions: Sequence[Actions], items: Sequence[BoutItem], times: ArrayLike, num_classes: int
) -> Shares:
    """Return the frames of each class [C] that carry loss in an epoch which draws item n `times[n]` times."""
    shown = count_classes(actions, num_classes).astype(np.float64)
    for item, time in zip(items, np.asarray(times, dtype=np.float64)):
        shown += time * _frames(actions, item, num_classes)
    return shown


@dataclass(frozen=True, kw_only=True, eq=False)
class Repetition:
    """What is repeated in training: counts, factors and expected frames per class [C], and the items."""

    names: tuple[str, ...]
    threshold: float
    counts: NDArray[np.int64]
    factors: Shares
    items: tuple[BoutItem, ...]
    expected: Shares

    @classmethod
    def plan(
        cls,
        actions: Sequence[Actions],
        names: Sequence[str],
        *,
        threshold: float,
        cap: float,
        window: int,
        margin: int,
    ) -> Repetition:
        """Plan the repetition of the training trials; UserError as `repeat_factors` and `bout_items`."""
        counts = count_classes(actions, len(names))
        factors = repeat_factors(counts, threshold=threshold, cap=cap)
        items = bout_items(actions, factors, window=window, margin=margin)
        expected = exposure(actions, items, [item.repeats for item in items], len(names))
        return cls(
            names=tuple(names), threshold=threshold, counts=counts, factors=factors, items=items,
            expected=expected,
        )  # fmt: skip

    @property
    def shares(self) -> Shares:
        """Share of each class in the labelled frames [C]."""
        return np.asarray(self.counts / max(int(self.counts.sum()), 1))

    @property
    def presented(self) -> Shares:
        """Expected share of each class in the frames that carry loss [C]."""
        return np.asarray(self.expected / max(float(self.expected.sum()), 1.0))

    @property
    def rare(self) -> NDArray[np.bool_]:
        """Which classes are present with a share below the threshold [C]."""
        return np.asarray((self.counts > 0) & (self.shares < self.threshold))

    def lines(self) -> list[str]:
        """Return the tables of the console: frames before and after, rare classes, what is added."""
        rare = [name for name, flag in zip(self.names, self.rare) if flag]
        return [
            "Class frames before and after repetition (expected per epoch):",
            *self._table(),
            f"Rare classes (< {100 * self.threshold:.1f}%): [{', '.join(rare)}]",
            "Rare class replication totals:",
            *self._totals(),
        ]

    def _table(self) -> list[str]:
        columns = ("Count", "Share", "Rare", "Factor", "Draws", "After", "ShareAfter")
        width = max(16, *(len(name) for name in self.names))
        head = f"{'Class':{width}} " + " ".join(f"{name:>10}" for name in columns)
        draws_of = np.zeros(len(self.names))
        for item in self.items:
            draws_of[item.label] += item.repeats
        return [head] + [
            f"{name:{width}} {self.counts[index]:10d} {self.shares[index]:10.4f} "
            f"{'yes' if self.rare[index] else 'no':>10} {self.factors[index]:10.3f} {draws_of[index]:10.1f} "
            f"{self.expected[index]:10.1f} {self.presented[index]:10.4f}"
            for index, name in enumerate(self.names)
        ]

    def _totals(self) -> list[str]:
        lines = []
        for index in np.flatnonzero(self.factors > 1).tolist():
            added = float((self.factors[index] - 1) * self.counts[index])
            number = len({item.bout for item in self.items if item.label == index})
            lines.append(f"  {self.names[index]}: +{added:.0f} frames in {number} bouts")
        return lines or ["  none"]


def _windows(bout: Bout, length: int, window: int, margin: int) -> list[tuple[int, int, int, int]]:
    """Return (start, stop, loss_start, loss_stop) of the windows of one bout."""
    spans = []
    for part in training_windows(bout.stop - bout.start, window):
        first, last = bout.start + part.loss_start, bout.start + part.loss_stop
        start = min(max((first + last - window) // 2, 0), max(length - window, 0))
        stop = min(start + window, length)
        before = margin if first == bout.start else 0
        after = margin if last == bout.stop else 0
        spans.append((start, stop, max(first - before, start), min(last + after, stop)))
    return spans


def _frames(actions: Sequence[Actions], item: BoutItem, num_classes: int) -> NDArray[np.int64]:
    return count_classes([actions[item.trial][item.loss_start : item.loss_stop]], num_classes)
