"""Label counts per class: the one input of weights, margins, priors, samplers, biases and the budget."""

from __future__ import annotations

import functools
import hashlib
import json
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

logger = logging.getLogger(__name__)

Unit = Literal["sample", "half sample", "frame", "pixel", "segment", "clip", "image"]
"""What is counted; `half sample`: a label shared by two classes is one for each, any other one two."""
Counts = NDArray[np.int64]
Shares = NDArray[np.float64]

SCHEMA = 1
MAX_CLASSES = 4096
DENSE_UNITS = ("frame", "pixel")
WIDEST_HISTOGRAM = 1 << 16


class Interval(NamedTuple):
    """A confidence interval per class, both ends float64 [K]; NaN where it is undefined."""

    low: Shares
    high: Shares


@dataclass(frozen=True, kw_only=True, eq=False)
class ClassStatistics:
    """How often each class was seen in one split, and in which groups (samples, images or videos).

    `counts` is int64 [K] in `unit`, `group_counts` int64 [G, K] or None, `ignored` the number of labels that
    equal the ignore index; they belong to no share. Arrays are read-only. ValueError names the field and the
    entry when counts are negative, not integers, or disagree with `group_counts`.
    """

    counts: Counts
    names: tuple[str, ...] | None = None
    unit: Unit = "sample"
    split: str = "train"
    ignored: int = 0
    group_counts: Counts | None = None

    def __post_init__(self) -> None:
        counts = _as_counts(self.counts, "counts", 1)
        if not 1 <= len(counts) <= MAX_CLASSES:
            raise ValueError(f"counts holds {len(counts)} classes: 1 to {MAX_CLASSES} are allowed")
        if self.names is not None and len(self.names) != len(counts):
            raise ValueError(f"names holds {len(self.names)} entries for {len(counts)} classes")
        if self.unit not in get_args(Unit):
            raise ValueError(f"unit is {self.unit!r}: one of {', '.join(get_args(Unit))} is expected")
        if self.ignored < 0:
            raise ValueError(f"ignored is {self.ignored}: it must be >= 0")
        object.__setattr__(self, "counts", counts)
        object.__setattr__(self, "names", None if self.names is None else tuple(map(str, self.names)))
        if self.group_counts is not None:
            groups = _as_counts(self.group_counts, "group_counts", 2)
            if groups.shape[1] != len(counts) or not np.array_equal(groups.sum(axis=0), counts):
                raise ValueError("group_counts [G, K] must add up to counts [K] over its groups")
            object.__setattr__(self, "group_counts", groups)

    @classmethod
    def from_counts(
        cls,
        counts: ArrayLike,
        *,
        names: Sequence[str] | None = None,
        unit: Unit = "sample",
        split: str = "train",
        ignored: int = 0,
        group_counts: ArrayLike | None = None,
    ) -> ClassStatistics:
        """Build from integers [K], and [G, K] when counts per group are known."""
        return cls(
            counts=_as_counts(counts, "counts", 1),
            names=None if names is None else tuple(names),
            unit=unit,
            split=split,
            ignored=ignored,
            group_counts=None if group_counts is None else _as_counts(group_counts, "group_counts", 2),
        )

    @classmethod
    def from_labels(
        cls,
        labels: ArrayLike,
        num_classes: int,
        ignore_index: int = -100,
        *,
        names: Sequence[str] | None = None,
        unit: Unit = "sample",
        split: str = "train",
    ) -> ClassStatistics:
        """Count integer labels of any shape; ValueError names a label that is no class and not ignored."""
        counts, ignored = count_labels(labels, num_classes, ignore_index)
        return cls.from_counts(counts, names=names, unit=unit, split=split, ignored=ignored)

    @classmethod
    def from_groups(
        cls,
        groups: Iterable[ArrayLike],
        num_classes: int,
        ignore_index: int = -100,
        *,
        names: Sequence[str] | None = None,
        unit: Unit = "pixel",
        split: str = "train",
    ) -> ClassStatistics:
        """Count the labels of every group (an image, a video); errors carry the group's number from 0."""
        rows, ignored = [], 0
        for number, labels in enumerate(groups):
            row, skipped = count_labels(labels, num_classes, ignore_index, f"group {number}")
            rows.append(row)
            ignored += skipped
        if not rows:
            raise ValueError("groups is empty: there is nothing to count")
        table = np.stack(rows)
        return cls.from_counts(
            table.sum(axis=0), names=names, unit=unit, split=split, ignored=ignored, group_counts=table
        )

    def merge(self, other: ClassStatistics) -> ClassStatistics:
        """Add the counts of two parts of one split and join their groups, exactly."""
        for name in ("num_classes", "unit", "names", "split"):
            mine, theirs = getattr(self, name), getattr(other, name)
            if mine != theirs:
                raise ValueError(f"statistics with different {name} cannot be merged: {mine} and {theirs}")
        if (self.group_counts is None) != (other.group_counts is None):
            raise ValueError("group_counts is known on one side of the merge only")
        counts = [a + b for a, b in zip(self.counts.tolist(), other.counts.tolist())]
        groups = None
        if self.group_counts is not None and other.group_counts is not None:
            groups = np.concatenate([self.group_counts, other.group_counts])
        return ClassStatistics.from_counts(
            counts,
            names=self.names,
            unit=self.unit,
            split=self.split,
            ignored=self.ignored + other.ignored,
            group_counts=groups,
        )

    def all_reduce(self) -> ClassStatistics:
        """Merge over all ranks in rank order; without a process group return this object."""
        from torch import distributed

        if not (distributed.is_available() and distributed.is_initialized()):
            return self
        parts: list[Any] = [None] * distributed.get_world_size()
        distributed.all_gather_object(parts, self.to_dict())
        return functools.reduce(ClassStatistics.merge, map(ClassStatistics.from_dict, parts))

    @property
    def num_classes(self) -> int:
        """K, absent classes included."""
        return len(self.counts)

    @property
    def support(self) -> int:
        """Number of counted labels, exact beyond 2^53; ignored labels are not part of it."""
        return sum(self.counts.tolist())

    @property
    def present(self) -> NDArray[np.bool_]:
        """Which classes [K] have at least one label; ValueError when none has."""
        present = self.counts > 0
        if not present.any():
            raise ValueError(f"no class of split {self.split!r} has a label: counts are all 0")
        return present

    @property
    def prior(self) -> Shares:
        """Share of each class [K]; 0 for absent ones."""
        seen, total = self.present, self.support
        return np.array([count / total if here else 0.0 for count, here in zip(self.counts.tolist(), seen)])

    @property
    def majority(self) -> int:
        """Id of the most frequent class (the lowest id of equals)."""
        return int(np.argmax(np.where(self.present, self.counts, -1)))

    @property
    def minority(self) -> int:
        """Id of the rarest class that is present (the lowest id of equals)."""
        return int(np.argmin(np.where(self.present, self.counts, np.iinfo(np.int64).max)))

    @property
    def ratio(self) -> float:
        """Imbalance: largest over smallest count of the present classes; 1 when only one is present."""
        if np.count_nonzero(self.present) == 1:
            logger.warning(
                "only %s is present in split %r: ratio is 1", self.label(self.majority), self.split
            )
        return int(self.counts[self.majority]) / int(self.counts[self.minority])

    @property
    def presence_counts(self) -> Counts:
        """Number of groups [K] that contain each class."""
        groups = self._groups("presence_counts")
        return np.asarray(np.count_nonzero(groups > 0, axis=0), dtype=np.int64)

    @functools.cached_property
    def sha256(self) -> str:
        """Fingerprint of every field, equal on every machine."""
        head = [SCHEMA, self.num_classes, self.names, self.unit, self.split, self.ignored]
        digest = hashlib.sha256(json.dumps(head).encode())
        digest.update(self.counts.astype("<i8").tobytes())
        if self.group_counts is not None:
            digest.update(b"groups" + self.group_counts.astype("<i8").tobytes())
        return digest.hexdigest()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, ClassStatistics) and self.sha256 == other.sha256

    def __hash__(self) -> int:
        return hash(self.sha256)

    def label(self, index: int) -> str:
        """Return how messages call a class: `class 3 (name)`."""
        return f"class {index}" if self.names is None else f"class {index} ({self.names[index]})"

    def bias_init(self, head: Literal["softmax", "sigmoid"] = "softmax") -> Shares:
        """Return initial biases [K] of a last layer that then predicts the prior.

        `softmax`: log pi_c; `sigmoid`: log(pi_c / (1 - pi_c)) (Lin et al. 2017, section 4.1), where a class
        that holds every label is taken to be half a label short of all. Absent classes get the smallest
        value.
        """
        if head not in ("softmax", "sigmoid"):
            raise ValueError(f"head is {head!r}: softmax or sigmoid is expected")
        present, total = self.present, self.support
        rest = [total if head == "softmax" else max(total - count, 0.5) for count in self.counts.tolist()]
        bias = np.zeros(self.num_classes)
        bias[present] = np.log(self.counts[present] / np.array(rest)[present])
        bias[~present] = bias[present].min()
        return bias

    def bootstrap(
        self, fn: Callable[[Counts], ArrayLike], n: int = 1000, level: float = 0.95, seed: int = 0
    ) -> Interval:
        """Return the percentile interval of `fn(counts)` when the groups are drawn anew, with replacement.

        `fn` takes int64 [K] and returns float [K]; a NaN (a class without label in a resample has no weight)
        is left out of that class's percentiles. Fewer than two groups give NaN. Efron 1979.
        """
        if n < 1 or not 0 < level < 1:
            raise ValueError(f"n is {n} and level {level}: n >= 1 and 0 < level < 1 are expected")
        groups = self._groups("bootstrap")
        undefined = np.full(self.num_classes, np.nan)
        if len(groups) < 2:
            logger.warning("bootstrap needs two groups or more, there is %d: no interval", len(groups))
            return Interval(undefined, undefined)
        rng = np.random.Generator(np.random.Philox(key=seed))
        values = np.stack([np.asarray(fn(_resample(groups, rng)), dtype=np.float64) for _ in range(n)])
        low, high = undefined.copy(), undefined.copy()
        known = ~np.isnan(values).all(axis=0)
        tails = [50 - 50 * level, 50 + 50 * level]
        low[known], high[known] = np.nanpercentile(values[:, known], tails, axis=0)
        return Interval(low, high)

    def advice(self) -> list[tuple[str, str]]:
        """Return (level, text) hints on how to train with this imbalance; level is info or warning."""
        hints = [
            ("warning", f"{self.label(int(index))} has no label in split {self.split!r}")
            for index in np.flatnonzero(~self.present)
        ]
        if np.count_nonzero(self.present) == 1:
            return [
                *hints,
                ("warning", f"only {self.label(self.majority)} is present: nothing can be learned"),
            ]
        dense = self.unit in DENSE_UNITS
        return [*hints, ("info", f"ratio {self.ratio:.1f}:1 per {self.unit}: {_remedy(self.ratio, dense)}")]

    def to_dict(self) -> dict[str, Any]:
        """Return plain types for JSON, with a schema number."""
        return {
            "schema": SCHEMA,
            "counts": self.counts.tolist(),
            "names": None if self.names is None else list(self.names),
            "unit": self.unit,
            "split": self.split,
            "ignored": self.ignored,
            "group_counts": None if self.group_counts is None else self.group_counts.tolist(),
            "sha256": self.sha256,
        }

    @classmethod
    def from_dict(cls, state: Mapping[str, Any]) -> ClassStatistics:
        """Restore `to_dict`; ValueError on another schema or a fingerprint that does not fit the counts."""
        if state.get("schema") != SCHEMA:
            raise ValueError(f"statistics schema is {state.get('schema')!r}: {SCHEMA} is expected")
        fields = ("names", "unit", "split", "ignored", "group_counts")
        missing = {"counts", "sha256", *fields} - state.keys()
        if missing:
            raise ValueError(f"statistics lack {', '.join(sorted(missing))}")
        statistics = cls.from_counts(state["counts"], **{name: state[name] for name in fields})
        if statistics.sha256 != state["sha256"]:
            raise ValueError(f"statistics were altered: sha256 is {statistics.sha256}, not {state['sha256']}")
        return statistics

    def _groups(self, member: str) -> Counts:
        if self.group_counts is None:
            raise ValueError(f"{member} needs group_counts: build the statistics with from_groups")
        return self.group_counts


def count_labels(
    labels: ArrayLike, num_classes: int, ignore_index: int = -100, where: str = "labels"
) -> tuple[Counts, int]:
    """Return the labels per class, int64 [K], and how many equal `ignore_index`.

    ValueError with `where`, the value and its number of occurrences when a label is neither a class nor
    ignored.
    """
    flat = np.asarray(labels).reshape(-1)
    if flat.dtype.kind not in "iub" and flat.size:
        raise ValueError(f"{where}: labels are {flat.dtype}, integers are expected")
    values, numbers = _histogram(flat)
    skipped = values == ignore_index
    inside = (values >= 0) & (values < num_classes) & ~skipped
    outside = ~inside & ~skipped
    if outside.any():
        found = ", ".join(f"{v} ({n} times)" for v, n in zip(values[outside][:5], numbers[outside][:5]))
        raise ValueError(
            f"{where}: label {found} is outside 0..{num_classes - 1} and not ignore_index {ignore_index}"
        )
    counts = np.zeros(num_classes, dtype=np.int64)
    counts[values[inside]] = numbers[inside]
    return counts, int(numbers[skipped].sum())


def _histogram(flat: NDArray[Any]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    if not flat.size:
        return np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64)
    low, high = int(flat.min()), int(flat.max())
    if high - low > WIDEST_HISTOGRAM:
        values, numbers = np.unique(flat, return_counts=True)
        return values.astype(np.int64), numbers.astype(np.int64)
    shifted = flat if low == 0 else flat.astype(np.int64) - low
    numbers = np.bincount(shifted)
    seen = np.flatnonzero(numbers)
    return seen + low, numbers[seen]


def _as_counts(values: ArrayLike, argument: str, ndim: int) -> Counts:
    array = np.asarray(values)
    if array.size == 0 or array.ndim != ndim:
        raise ValueError(f"{argument} has shape {array.shape}: {ndim} dimensions and an entry are needed")
    if array.dtype.kind not in "iu":
        first = array.reshape(-1)[0]
        raise ValueError(f"{argument} is {array.dtype} ({first!r} first): integers below 2^63 are expected")
    bad = np.argwhere((array < 0) | (array > np.iinfo(np.int64).max))
    if len(bad):
        entry = tuple(bad[0].tolist())
        raise ValueError(f"{argument}{list(entry)} is {array[entry]}: 0 to 2^63 - 1 is expected")
    counts = array.astype(np.int64)
    counts.flags.writeable = False
    return counts


def _resample(groups: Counts, rng: np.random.Generator) -> Counts:
    times = np.bincount(rng.integers(len(groups), size=len(groups)), minlength=len(groups))
    total: Counts = times.astype(np.int64) @ groups
    return total


def _remedy(ratio: float, dense: bool) -> str:
    if ratio < 10:
        return "no balancing needed"
    if ratio <= 50:
        return "sqrt or effective_number weights, or logit adjustment"
    if ratio >= 1000:
        return (
            "initial bias from the prior, focal loss with balanced alpha, and an overlap loss or "
            "heat-map target; rare crops where labels are dense"
        )
    if ratio > 300 and dense:
        return "logit adjustment with sampling by segment"
    return "logit adjustment or vector scaling, or margins with deferred weights; a progressive sampler"
