"""Metrics on the segments of a label sequence: segment F1 and edit score (Lea et al. 2017).

A segment is a maximal run of one label in time. Sequences are [T], NumPy or torch, copied to the host.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, TypeAlias, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from common.metrics._sums import SummedMetric
from common.metrics.report import FloatArray, divide

if TYPE_CHECKING:
    Labels: TypeAlias = NDArray[Any] | Tensor

IntArray: TypeAlias = NDArray[np.int64]
Match = Literal["best", "first"]

THRESHOLDS = (0.1, 0.25, 0.3, 0.5)


class Segments(NamedTuple):
    """Runs in time order: `label`, first step `start`, and `stop` one past the last; three int64 [N]."""

    label: IntArray
    start: IntArray
    stop: IntArray


def segments(
    labels: Labels,
    *,
    valid: Labels | None = None,
    background: Sequence[int] = (0,),
    legacy_end: bool = False,
) -> Segments:
    """Return the segments of `labels` [T] that are not `background`.

    A step that is not `valid` [T] belongs to no segment and ends the one before it. `legacy_end` ends what
    reaches the end of the sequence, or such a step, one step early, as widely copied code does; a last
    segment of one step is then empty. ValueError for an empty or wrongly shaped sequence.
    """
    values, keep = _checked(labels, valid)
    change = np.flatnonzero((np.diff(values) != 0) | np.diff(keep)) + 1
    start = np.concatenate([[0], change]).astype(np.int64)
    stop = np.concatenate([change, [len(values)]]).astype(np.int64)
    if legacy_end:
        stop = stop - ~np.append(keep, False)[stop]
    chosen = keep[start] & ~np.isin(values[start], list(background))
    return Segments(values[start][chosen], start[chosen], stop[chosen])


def segment_counts(
    prediction: Segments,
    target: Segments,
    *,
    num_classes: int,
    thresholds: Sequence[float] = THRESHOLDS,
    match: Match = "best",
) -> IntArray:
    """Return true positives, false positives and false negatives per threshold and class, int64 [N, K, 3].

    `best`: predictions in time order take the true segment of their class with the largest intersection over
    union, the earliest of equals; a hit if that is at least the threshold and the segment is free (Lea et al.
    2017). `first` takes the earliest segment that fits and is free. Labels lie in 0..K-1. ValueError for
    thresholds outside (0, 1].
    """
    _check_choices(thresholds, match)
    found, true, overlap = _overlaps(prediction, target)
    if match == "best":
        order = np.lexsort((true, -overlap, found))
        chosen = order[np.unique(found[order], return_index=True)[1]]
        found, true, overlap = found[chosen], true[chosen], overlap[chosen]
    counts = np.zeros((len(thresholds), num_classes, 3), dtype=np.int64)
    for row, threshold in zip(counts, thresholds):
        fits = overlap >= threshold
        hit, taken = _taken(found[fits], true[fits], len(prediction.label), len(target.label))
        columns = (prediction.label[hit], prediction.label[~hit], target.label[~taken])
        row[:] = np.stack([np.bincount(labels, minlength=num_classes) for labels in columns], axis=1)
    return counts


def _overlaps(prediction: Segments, target: Segments) -> tuple[IntArray, IntArray, FloatArray]:
    """Return the pairs of predicted and true segments of one class that share steps, and their overlap.

    Three arrays, in the order of predictions and then of true segments. Runs do not overlap one another, so
    there are fewer pairs than segments on both sides together.
    """
    low = np.searchsorted(target.stop, prediction.start, side="right")
    number = np.maximum(np.searchsorted(target.start, prediction.stop, side="left") - low, 0)
    found = np.repeat(np.arange(len(low)), number)
    true = np.arange(len(found)) + np.repeat(low - (np.cumsum(number) - number), number)
    start = np.maximum(prediction.start[found], target.start[true])
    common = np.minimum(prediction.stop[found], target.stop[true]) - start
    union = (prediction.stop - prediction.start)[found] + (target.stop - target.start)[true] - common
    same = (prediction.label[found] == target.label[true]) & (common > 0)
    return found[same], true[same], common[same] / union[same]


def _taken(
    found: IntArray, true: IntArray, predictions: int, targets: int
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Return which predicted segments hit and which true ones are taken when pairs are formed in order."""
    hit, taken = np.zeros(predictions, bool), np.zeros(targets, bool)
    for first, second in zip(found.tolist(), true.tolist()):
        if not hit[first] and not taken[second]:
            hit[first] = taken[second] = True
    return hit, taken


def f1_of_counts(counts: Labels) -> FloatArray:
    """Return 2 TP / (2 TP + FP + FN) of [..., 3] counts, [...]; NaN where all three are 0."""
    hits, extra, missed = np.moveaxis(np.asarray(counts), -1, 0)
    return divide(2 * hits, 2 * hits + extra + missed)


def concatenated_segment_f1(
    predictions: Sequence[Labels],
    targets: Sequence[Labels],
    *,
    threshold: float = 0.3,
    legacy_end: bool = False,
) -> float:
    """Return the F1 of older logs: sequences laid end to end, no background, greedy first match.

    For comparison only: segments run across the seams and the frequent class counts like the others.
    ValueError for lists or sequences of different lengths.
    """
    if len(predictions) != len(targets) or not targets:
        raise ValueError(f"{len(predictions)} predictions and {len(targets)} targets: as many, at least one")
    for prediction, target in zip(predictions, targets):
        _check_lengths(prediction, target)
    found, true = (
        segments(np.concatenate([_array(part) for part in parts]), background=(), legacy_end=legacy_end)
        for parts in (predictions, targets)
    )
    classes = int(max(found.label.max(), true.label.max())) + 1
    counts = segment_counts(found, true, num_classes=classes, thresholds=(threshold,), match="first")
    return float(f1_of_counts(counts.sum(axis=(0, 1))))


def edit_score(prediction: Sequence[int] | IntArray, target: Sequence[int] | IntArray) -> float:
    """Return 100 (1 - d / n), d the Levenshtein distance of two lists of segment labels, n the longer length.

    Two empty lists agree: 100. Source: Lea et al. 2016, section 4.
    """
    longest = max(len(prediction), len(target))
    if not longest:
        return 100.0
    return 100.0 * (1 - levenshtein(np.asarray(prediction), np.asarray(target)) / longest)


def levenshtein(first: NDArray[Any], second: NDArray[Any]) -> int:
    """Return the least number of insertions, deletions and replacements between two sequences."""
    steps = np.arange(len(second) + 1)
    row = steps
    for index, item in enumerate(first):
        best = np.concatenate([[index + 1], np.minimum(row[1:] + 1, row[:-1] + (second != item))])
        row = np.minimum.accumulate(best - steps) + steps
    return int(row[-1])


@dataclass(frozen=True, eq=False)
class SegmentReport:
    """Segment F1 of a data set; N thresholds, K classes, NaN where no segment was true or predicted.

    `counts` int64 [N, K, 3] are true positives, false positives and false negatives; `f1` [N] is that of
    their sums over classes, `class_f1` [N, K] that of each class.
    """

    thresholds: tuple[float, ...]
    counts: IntArray
    f1: FloatArray
    class_f1: FloatArray

    def at(self, threshold: float) -> float:
        """Return the F1 at one of the thresholds; ValueError for another."""
        return float(self.f1[self.thresholds.index(threshold)])


class SegmentF1(SummedMetric):
    """Segment F1 at several thresholds: hits and misses of every sequence summed, then F1.

    `background` classes form no segments; with an empty `background` every class counts. Steps whose target
    is `ignore_index` cut segments. `segments` and `segment_counts` explain the other arguments. ValueError
    for thresholds outside (0, 1] and classes outside 0..K-1.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        thresholds: Sequence[float] = THRESHOLDS,
        background: Sequence[int] = (0,),
        match: Match = "best",
        legacy_end: bool = False,
        ignore_index: int = -100,
    ) -> None:
        _check_choices(thresholds, match)
        _check_background(num_classes, background)
        self.num_classes = num_classes
        self.thresholds = tuple(thresholds)
        self.background = tuple(background)
        self.match: Match = match
        self.legacy_end = legacy_end
        self.ignore_index = ignore_index
        settings = {
            "num_classes": num_classes,
            "thresholds": list(thresholds),
            "background": list(background),
            "match": match,
            "legacy_end": legacy_end,
            "ignore_index": ignore_index,
        }
        counts = torch.zeros(len(self.thresholds), num_classes, 3, dtype=torch.int64)
        super().__init__(settings, {"counts": counts})

    def update(self, prediction: Labels, target: Labels, valid: Labels | None = None) -> None:
        """Add one sequence: labels [T] against labels [T]; ValueError for other shapes, labels or T = 0."""
        keep = _valid_steps(prediction, target, valid, self.ignore_index)
        found, true = (
            _class_segments(labels, keep, self.num_classes, self.background, self.legacy_end)
            for labels in (prediction, target)
        )
        counts = segment_counts(
            found, true, num_classes=self.num_classes, thresholds=self.thresholds, match=self.match
        )
        state = self._sums["counts"]
        state += torch.from_numpy(counts).to(state.device)

    def compute(self) -> SegmentReport:
        """Return F1 and counts at every threshold."""
        counts = self._sums["counts"].cpu().numpy().copy()
        return SegmentReport(self.thresholds, counts, f1_of_counts(counts.sum(axis=1)), f1_of_counts(counts))


class EditScore(SummedMetric):
    """The mean edit score over sequences; `background` and ignored steps as in `SegmentF1`.

    A sequence without any step that counts is left out.
    """

    def __init__(
        self, num_classes: int, *, background: Sequence[int] = (0,), ignore_index: int = -100
    ) -> None:
        _check_background(num_classes, background)
        self.num_classes = num_classes
        self.background = tuple(background)
        self.ignore_index = ignore_index
        settings = {
            "num_classes": num_classes,
            "background": list(background),
            "ignore_index": ignore_index,
        }
        super().__init__(settings, {"score_and_sequences": torch.zeros(2, dtype=torch.float64)})

    def update(self, prediction: Labels, target: Labels, valid: Labels | None = None) -> None:
        """Add one sequence: labels [T] against labels [T]; ValueError as in `SegmentF1.update`."""
        keep = _valid_steps(prediction, target, valid, self.ignore_index)
        found, true = (
            _class_segments(labels, keep, self.num_classes, self.background, False)
            for labels in (prediction, target)
        )
        if keep.any():
            state = self._sums["score_and_sequences"]
            state += state.new_tensor([edit_score(found.label, true.label), 1.0])

    def compute(self) -> float:
        """Return the mean in 0..100; NaN without a sequence."""
        score, sequences = self._sums["score_and_sequences"].tolist()
        return score / sequences if sequences else float("nan")


def _class_segments(
    labels: Labels, keep: NDArray[np.bool_], num_classes: int, background: Sequence[int], legacy_end: bool
) -> Segments:
    values = _array(labels)
    stray = keep & ((values < 0) | (values >= num_classes))
    if stray.any():
        step = int(np.flatnonzero(stray)[0])
        raise ValueError(f"label {values[step]} at step {step} is not in 0..{num_classes - 1}")
    return segments(values, valid=keep, background=background, legacy_end=legacy_end)


def _valid_steps(
    prediction: Labels, target: Labels, valid: Labels | None, ignore_index: int
) -> NDArray[np.bool_]:
    _check_lengths(prediction, target)
    values, keep = _checked(target, valid)
    return np.asarray(keep & (values != ignore_index))


def _checked(labels: Labels, valid: Labels | None) -> tuple[IntArray, NDArray[np.bool_]]:
    values = _array(labels)
    if values.ndim != 1 or not len(values):
        raise ValueError(f"labels are {list(values.shape)}: [T] with at least one step is expected")
    if not np.issubdtype(values.dtype, np.integer):
        raise ValueError(f"labels are {values.dtype}: integer class ids are expected")
    keep = np.ones(len(values), bool) if valid is None else _array(valid).astype(bool)
    if keep.shape != values.shape:
        raise ValueError(f"valid is {list(keep.shape)} but labels are {list(values.shape)}")
    return values.astype(np.int64), keep


def _array(values: Labels) -> NDArray[Any]:
    return values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)


def _check_lengths(prediction: Labels, target: Labels) -> None:
    if prediction.shape != target.shape:
        raise ValueError(f"prediction is {list(prediction.shape)} but target is {list(target.shape)}")


def _check_choices(thresholds: Sequence[float], match: str) -> None:
    for value in thresholds:
        if not 0 < value <= 1:
            raise ValueError(f"threshold is {value}: 0 < threshold <= 1 is expected")
    if match not in get_args(Match):
        raise ValueError(f"match is {match!r}: one of {', '.join(get_args(Match))} is expected")


def _check_background(num_classes: int, background: Sequence[int]) -> None:
    if num_classes < 1:
        raise ValueError(f"num_classes must be at least 1, not {num_classes}")
    for label in background:
        if not 0 <= label < num_classes:
            raise ValueError(f"background holds {label}: 0 to {num_classes - 1} is expected")
