"""Samplers that draw with replacement, samples of rare classes more often than others.

Samples with the same labels form a cell and are equally likely, so a draw is a cell and then any of its
samples, and an epoch that changes the probabilities costs a number per cell, not per sample. A label set
holds an int per sample, several sets one each; where a set has no label, its classes say nothing.
"""

from __future__ import annotations

import functools
import hashlib
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from common.balancing.samplers import CHUNK, KeyedSampler
from common.balancing.weights import water_filling
from common.engine.randomness import generator_for
from common.statistics import MAX_CLASSES, ClassStatistics, Counts, Shares

IGNORE_INDEX = -100
NO_LABEL = -1
RECALL_MEMORY = 0.9
LEAST_RECALL_WEIGHT, MOST_RECALL_WEIGHT = 0.1, 10.0


@dataclass(frozen=True, eq=False)
class Cells:
    """N samples sorted by their labels in T sets.

    `labels` int64 [C, T] are those of each cell, -1 where a set has none, `sizes` int64 [C] the samples of
    each, `order` int64 [N] the samples themselves, cell by cell.
    """

    labels: Counts
    sizes: Counts
    order: Counts

    @classmethod
    def of(cls, labels: Sequence[ArrayLike], ignore_index: int = IGNORE_INDEX) -> Cells:
        """Sort samples by label sets [N] each; ValueError for sets that do not fit or hold no label."""
        columns = [_column(values, number, ignore_index) for number, values in enumerate(labels)]
        if not columns or len({len(column) for column in columns}) > 1:
            raise ValueError(f"labels: sets of one length are expected, not {[len(c) for c in columns]}")
        code = np.zeros(len(columns[0]), dtype=np.int64)
        for column in columns:
            code = np.unique(code * (column.max() + 2) + column + 1, return_inverse=True)[1]
        sizes = np.bincount(code)
        # the smallest type, because NumPy sorts 8 and 16 bits in linear time
        order = np.argsort(code.astype(np.min_scalar_type(len(sizes))), kind="stable")
        first = order[np.cumsum(sizes) - sizes]
        return cls(np.stack([column[first] for column in columns], axis=1), sizes, order)

    def counts(self, number: int) -> Counts:
        """Return the samples per class [K] of label set `number`; K ends at its largest label."""
        column = self.labels[:, number]
        counts = np.zeros(column.max() + 1, dtype=np.int64)
        np.add.at(counts, column[column >= 0], self.sizes[column >= 0])
        return counts

    def spread(self, values: Shares) -> Shares:
        """Return values [C] of cells for every sample [N]."""
        spread = np.empty(len(self.order))
        spread[self.order] = np.repeat(values, self.sizes)
        return spread


def joint_labels(labels: Sequence[ArrayLike], ignore_index: int = IGNORE_INDEX) -> Counts:
    """Return one label per sample [N] for its combination of labels; ignored where one of them is missing."""
    cells = Cells.of(labels, ignore_index)
    complete = (cells.labels >= 0).all(axis=1)
    number = np.where(complete, np.cumsum(complete) - 1, ignore_index)
    joint = np.empty(len(cells.order), dtype=np.int64)
    joint[cells.order] = np.repeat(number, cells.sizes)
    return joint


class WeightedSampler(KeyedSampler):
    """N draws with replacement per epoch from N samples; a subclass says how likely the cells' samples are.

    `labels` are T sets of int [N]. No sample is expected more than `max_repeat` times per epoch: what the
    cap takes goes to the others in proportion (water-filling). ValueError when max_repeat < 1.
    """

    def __init__(
        self,
        labels: Sequence[ArrayLike],
        *,
        max_repeat: float | None = None,
        seed: int,
        rank: int = 0,
        world: int = 1,
        ignore_index: int = IGNORE_INDEX,
    ) -> None:
        if max_repeat is not None and not max_repeat >= 1:
            raise ValueError(f"max_repeat is {max_repeat}: it must be >= 1, or None")
        self.cells = Cells.of(labels, ignore_index)
        self.max_repeat = max_repeat
        self._current: tuple[int, Shares] | None = None
        super().__init__(len(self.cells.order), block=CHUNK, seed=seed, rank=rank, world=world)

    @abstractmethod
    def cell_weights(self, epoch: int) -> Shares:
        """Return how likely a sample of each cell is in an epoch, > 0 [C], in any unit."""

    def probabilities(self, epoch: int | None = None) -> Shares:
        """Return the probability [N] of each sample in a draw of an epoch (None: the current one)."""
        return self.cells.spread(self._probabilities(self.epoch if epoch is None else epoch))

    def presented(self, statistics: ClassStatistics) -> Shares:
        """Return the label shares that the current epoch is expected to present.

        ValueError unless `statistics.group_counts` [N, K] tell the labels of each sample.
        """
        groups = statistics.group_counts
        if groups is None or len(groups) != self.length:
            raise ValueError(f"presented shares need group_counts of {self.length} samples")
        shown = self.probabilities() @ groups
        return np.asarray(shown / shown.sum())

    def presented_counts(self, labels: ArrayLike, num_classes: int, epoch: int | None = None) -> Shares:
        """Return the expected draws [K] of each class in an epoch, for any label set [N] of the samples."""
        column = np.asarray(labels)
        known = column >= 0
        drawn = self.probabilities(epoch)[known] * self.length
        return np.asarray(np.bincount(column[known], drawn, num_classes), dtype=np.float64)

    def _probabilities(self, epoch: int) -> Shares:
        if self._current is None or self._current[0] != epoch:
            cap = 1.0 if self.max_repeat is None else self.max_repeat / self.length
            each = water_filling(self.cell_weights(epoch), self.cells.sizes, cap=cap, total=1.0)
            self._current = epoch, each
        return self._current[1]

    def _block(self, epoch: int, number: int) -> Counts:
        sizes, each = self.cells.sizes, self._probabilities(epoch)
        upper = np.cumsum(each * sizes)
        place = generator_for(self.seed, "draws", epoch, number).random(CHUNK) * upper[-1]
        cell = np.searchsorted(upper, place, side="right")
        within = ((place - (upper - each * sizes)[cell]) / each[cell]).astype(np.int64)
        first = np.cumsum(sizes) - sizes
        drawn: Counts = self.cells.order[first[cell] + np.clip(within, 0, sizes[cell] - 1)]
        return drawn

    def _identity(self) -> tuple[int | str, ...]:
        return (self._cells_digest, str(self.max_repeat))

    @functools.cached_property
    def _cells_digest(self) -> str:
        digest = hashlib.blake2b(digest_size=16)
        for array in (self.cells.labels, self.cells.sizes, self.cells.order):
            digest.update(np.ascontiguousarray(array, dtype="<i8").tobytes())
        return digest.hexdigest()


@dataclass(frozen=True, kw_only=True)
class FactorSchedule:
    """How far rare classes are repeated: `start` to `end` over the first `epochs` epochs, then `end`.

    ValueError unless 1 <= start <= end and epochs >= 1.
    """

    start: float = 4.0
    end: float = 4.0
    epochs: int = 1

    def __post_init__(self) -> None:
        if not 1 <= self.start <= self.end:
            raise ValueError(f"factor goes from {self.start} to {self.end}: 1 <= start <= end is expected")
        if self.epochs < 1:
            raise ValueError(f"epochs is {self.epochs}: at least 1 is expected")

    def at(self, epoch: int) -> float:
        """Return the factor of an epoch, counted from 0."""
        if self.start == self.end:
            return self.start
        return self.start + (self.end - self.start) * min(epoch / self.epochs, 1.0)


class OversampleSampler(WeightedSampler):
    """Classes repeated up to a factor, which may grow with the epoch.

    Class c of set t is repeated r = min(factor, n_max / n_c) times; a sample counts as often as the largest r
    of its labels, 1 without any. A factor of 1 leaves the natural shares, infinity balances a single set.
    """

    kind = "oversample"

    def __init__(
        self,
        labels: Sequence[ArrayLike],
        *,
        factor: FactorSchedule,
        max_repeat: float | None = None,
        seed: int,
        rank: int = 0,
        world: int = 1,
        ignore_index: int = IGNORE_INDEX,
    ) -> None:
        self.factor = factor
        super().__init__(
            labels, max_repeat=max_repeat, seed=seed, rank=rank, world=world, ignore_index=ignore_index
        )

    def class_factors(self, number: int, epoch: int) -> Shares:
        """Return r [K] of label set `number`; 1 for a class without samples."""
        counts = self.cells.counts(number)
        return np.where(counts, np.minimum(self.factor.at(epoch), counts.max() / np.maximum(counts, 1)), 1.0)

    def cell_weights(self, epoch: int) -> Shares:
        """Return the largest factor among the labels of each cell."""
        weights = np.ones(len(self.cells.sizes))
        for number, label in enumerate(self.cells.labels.T):
            weights = np.maximum(weights, np.where(label >= 0, self.class_factors(number, epoch)[label], 1.0))
        return weights

    def _identity(self) -> tuple[int | str, ...]:
        return (*super()._identity(), repr(self.factor))


class MixtureSampler(WeightedSampler):
    """A label set at random, then a class of it, then a sample of the class.

    A class of n_c samples is chosen with n_c^power / sum of n^power over the classes present (Kang 2020,
    eq. 1): 0 balances the classes, .5 is the square root, 1 the natural shares. A sample without a label in
    any set is as likely as the least likely other one. `joint_labels` balances combinations of labels.
    """

    kind = "mixture"

    def __init__(
        self,
        labels: Sequence[ArrayLike],
        *,
        power: float = 0.0,
        max_repeat: float | None = None,
        seed: int,
        rank: int = 0,
        world: int = 1,
        ignore_index: int = IGNORE_INDEX,
    ) -> None:
        self.power = power
        super().__init__(
            labels, max_repeat=max_repeat, seed=seed, rank=rank, world=world, ignore_index=ignore_index
        )

    def cell_weights(self, epoch: int) -> Shares:
        """Return the probability of a sample, up to the share of samples without a label."""
        weights = np.zeros(len(self.cells.sizes))
        for number, label in enumerate(self.cells.labels.T):
            counts = self.cells.counts(number)
            seen, each = counts > 0, np.zeros(len(counts))
            each[seen] = counts[seen] ** (self.power - 1.0) / np.sum(counts[seen] ** float(self.power))
            weights += np.where(label >= 0, each[label], 0.0)
        return np.where(weights > 0, weights, weights[weights > 0].min())

    def _identity(self) -> tuple[int | str, ...]:
        return (*super()._identity(), str(self.power))


class RecallSampler(WeightedSampler):
    """Samples of a class are drawn in proportion to clip((1 / recall)^power, 0.1, 10).

    `observe` takes the recalls [K] of each training epoch into a moving average (0.9 of the past), to be
    called between epochs; until then, and for a class never seen, the weight is 1. A sample without a label
    gets the smallest weight. The averages are part of the state and not of the fingerprint.
    """

    kind = "recall"

    def __init__(
        self,
        labels: ArrayLike,
        num_classes: int,
        *,
        power: float = 1.0,
        max_repeat: float | None = None,
        seed: int,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        super().__init__([labels], max_repeat=max_repeat, seed=seed, rank=rank, world=world)
        if self.cells.labels.max() >= num_classes:
            raise ValueError(f"labels reach {self.cells.labels.max()}: there are {num_classes} classes")
        self.power = power
        self.recall: Shares = np.full(num_classes, np.nan)

    def observe(self, recall: ArrayLike) -> None:
        """Add the recalls [K] of an epoch, NaN where nothing was seen; ValueError outside 0..1."""
        values = np.asarray(recall, dtype=np.float64)
        known = ~np.isnan(values)
        if values.shape != self.recall.shape or not ((values[known] >= 0) & (values[known] <= 1)).all():
            raise ValueError(f"recall must be {len(self.recall)} numbers in 0..1, not {values}")
        past = np.where(np.isnan(self.recall), values, self.recall)
        self.recall = np.where(known, RECALL_MEMORY * past + (1 - RECALL_MEMORY) * values, self.recall)
        self._current = None

    def class_weights(self) -> Shares:
        """Return the weight [K] of a sample of each class."""
        with np.errstate(divide="ignore"):
            weights = np.power(1 / self.recall, self.power)
        weights = np.clip(weights, LEAST_RECALL_WEIGHT, MOST_RECALL_WEIGHT)
        return np.where(np.isnan(self.recall), 1.0, weights)

    def cell_weights(self, epoch: int) -> Shares:
        """Return the weight of each cell's class."""
        label, weights = self.cells.labels[:, 0], self.class_weights()
        return np.where(label >= 0, weights[label], weights[label[label >= 0]].min())

    def state_dict(self, position: int | None = None) -> dict[str, Any]:
        """Return the place in the epoch and the averages, None where there is none."""
        recall = [None if np.isnan(value) else value for value in self.recall.tolist()]
        return super().state_dict(position) | {"recall": recall}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        super().load_state_dict(state)
        self.recall = np.array([np.nan if value is None else value for value in state["recall"]])
        self._current = None

    def _identity(self) -> tuple[int | str, ...]:
        return (*super()._identity(), str(self.power))


def _column(values: ArrayLike, number: int, ignore_index: int) -> Counts:
    """Return labels as int64 with -1 where there is none."""
    column = np.asarray(values)
    if column.ndim != 1 or column.dtype.kind not in "iu":
        raise ValueError(f"labels[{number}]: integers [N] are expected, not {column.dtype} {column.shape}")
    column = column.astype(np.int64)
    missing = column == ignore_index
    stray = column[~missing & ((column < 0) | (column >= MAX_CLASSES))]
    if len(stray):
        raise ValueError(f"labels[{number}] holds {stray[0]}: class ids or {ignore_index} are expected")
    if missing.all():
        raise ValueError(f"labels[{number}]: no sample has a label")
    return np.where(missing, NO_LABEL, column)
