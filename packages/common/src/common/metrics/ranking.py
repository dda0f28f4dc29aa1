"""Metrics of scores rather than decisions: average precision and the threshold with the best F1."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from common.metrics._sums import SummedMetric, class_rows
from common.metrics.report import FloatArray, divide

if TYPE_CHECKING:
    Array: TypeAlias = NDArray[Any] | Tensor

IntArray: TypeAlias = NDArray[np.int64]

BINS = 4096
LARGEST_LOGIT = 16.0


def average_precision(scores: Array, positive: Array) -> float:
    """Return the area under the precision-recall steps, sum of (R_n - R_(n-1)) P_n; NaN without a positive.

    `scores` [N] rise with confidence, `positive` [N] is 0 or 1. Equal scores form one step, so their order
    does not matter. ValueError for other shapes and for NaN scores.
    """
    _, hits, extra = _steps(scores, positive)
    return float(_step_area(hits, extra))


@dataclass(frozen=True)
class Threshold:
    """A decision threshold, score >= `value`, with the `f1` it reached on the `split` it was chosen on."""

    value: float
    f1: float
    split: str

    def to_dict(self) -> dict[str, Any]:
        """Return plain types."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Threshold:
        """Restore what `to_dict` returned."""
        return cls(**values)


def best_f1_threshold(scores: Array, positive: Array, *, split: str) -> Threshold:
    """Return the threshold among `scores` [N] with the largest F1 of `positive` [N]; of equals the highest.

    Choose it on the validation split and report it elsewhere. Value and F1 are NaN without a positive.
    ValueError as in `average_precision`.
    """
    values, hits, extra = _steps(scores, positive)
    return _best(values, hits, extra, split)


def _steps(scores: Array, positive: Array) -> tuple[FloatArray, IntArray, IntArray]:
    """Return falling distinct scores [M] with the positives and the negatives that have each, int64 [M]."""
    values, truth = (_array(part) for part in (scores, positive))
    if values.ndim != 1 or truth.shape != values.shape:
        raise ValueError(f"scores are {list(values.shape)} and positive {list(truth.shape)}: both are [N]")
    if np.isnan(values).any():
        raise ValueError("scores hold NaN: it has no rank")
    if not np.isin(truth, (0, 1)).all():
        raise ValueError("positive holds other values than 0 and 1")
    distinct, place = np.unique(values, return_inverse=True)
    number = np.bincount(place, minlength=len(distinct))
    hits = np.bincount(place[truth.astype(bool)], minlength=len(distinct))
    return distinct[::-1].astype(np.float64), hits[::-1], (number - hits)[::-1]


def _step_area(hits: IntArray, extra: IntArray) -> FloatArray:
    """Return the average precision of positives and negatives per falling step, [..., M] to [...]."""
    found = hits.cumsum(-1)
    precision = np.nan_to_num(divide(found, found + extra.cumsum(-1)), nan=0.0)
    return divide((hits * precision).sum(-1), hits.sum(-1))


def _best(values: FloatArray, hits: IntArray, extra: IntArray, split: str) -> Threshold:
    found = hits.cumsum()
    if not hits.sum():
        return Threshold(float("nan"), float("nan"), split)
    f1 = 2 * found / (hits.sum() + found + extra.cumsum())
    best = int(f1.argmax())
    return Threshold(float(values[best]), float(f1[best]), split)


@dataclass(frozen=True, eq=False)
class RankingReport:
    """Average precision of each class against the rest, float64 [K]; NaN for a class that is never true.

    The exact value, of scores before they fell into bins, lies between `low` and `high`; `mean` is that of
    the classes present.
    """

    average_precision: FloatArray
    low: FloatArray
    high: FloatArray
    mean: float


class ScoreHistogram(SummedMetric):
    """Scores of positives and of negatives per class, in bins of the log odds of softmax(logits).

    `bins` of equal width cover log odds of -16 to 16; what lies beyond is in the first or last. Scores of one
    bin count as equal. Memory does not grow with the data, and counts are whole numbers.
    """

    def __init__(self, num_classes: int, *, bins: int = BINS, ignore_index: int = -100) -> None:
        if num_classes < 2 or bins < 2:
            raise ValueError(f"num_classes and bins must be at least 2, not {num_classes} and {bins}")
        self.num_classes = num_classes
        self.bins = bins
        self.ignore_index = ignore_index
        counts = torch.zeros(num_classes, 2, bins, dtype=torch.int64)
        settings = {"num_classes": num_classes, "bins": bins, "ignore_index": ignore_index}
        super().__init__(settings, {"counts": counts})

    def update(self, logits: Tensor, target: Tensor, valid: Tensor | None = None) -> None:
        """Add logits [B, K, *], or log probabilities, with labels [B, *]; ValueError for others."""
        rows, labels, keep = class_rows(logits, target, self.num_classes, self.ignore_index, valid)
        self._follow(rows.device)
        place = ((_log_odds(rows) + LARGEST_LOGIT) * (self.bins / (2 * LARGEST_LOGIT))).floor()
        place = place.nan_to_num(nan=0.0).clamp(0, self.bins - 1).long()
        positive = F.one_hot(labels, self.num_classes)
        histogram = torch.arange(self.num_classes, device=rows.device) * 2 + positive
        index = (histogram * self.bins + place).flatten()
        self._sums["counts"].view(-1).index_add_(0, index, keep.long().repeat_interleave(self.num_classes))

    def compute(self) -> RankingReport:
        """Return the average precision of each class and the bounds of its error from the bins."""
        extra, hits = self._falling()
        found, wrong = hits.cumsum(-1), extra.cumsum(-1)
        value = _step_area(hits, extra)
        total = hits.sum(-1)
        best = np.nan_to_num(divide(found, found + wrong - extra), nan=0.0)
        low = divide(_worst_hits(hits, found - hits, wrong).sum(-1), total)
        present = total > 0
        mean = float(value[present].mean()) if present.any() else float("nan")
        return RankingReport(value, low, divide((hits * best).sum(-1), total), mean)

    def thresholds(self, *, split: str) -> tuple[Threshold, ...]:
        """Return for each class the probability, a bin's lower edge, with the best F1 against the rest.

        Choose them on the validation split. In the lowest bin the threshold is 0.
        """
        extra, hits = self._falling()
        edges = np.arange(self.bins)[::-1] * (2 * LARGEST_LOGIT / self.bins) - LARGEST_LOGIT
        probability = 1 / (1 + np.exp(-edges))
        probability[-1] = 0.0
        return tuple(_best(probability, hits[c], extra[c], split) for c in range(self.num_classes))

    def _falling(self) -> tuple[IntArray, IntArray]:
        """Return negatives and positives per bin from the highest score down, int64 [K, bins] each."""
        counts = self._sums["counts"].cpu().numpy()[..., ::-1]
        return counts[:, 0], counts[:, 1]


def _worst_hits(hits: IntArray, before: IntArray, wrong: IntArray) -> FloatArray:
    """Return the summed precision of each bin's positives if its negatives came first.

    The i-th of h positives after a others and w negatives has precision (a + i) / (a + i + w); the sum over i
    is h - w (digamma(a + h + w + 1) - digamma(a + w + 1)).
    """
    start = torch.from_numpy((before + wrong + 1).astype(np.float64))
    harmonic = torch.digamma(start + torch.from_numpy(hits.copy())) - torch.digamma(start)
    return np.asarray(hits - wrong * harmonic.numpy())


def _log_odds(logits: Tensor) -> Tensor:
    """Return log p - log(1 - p) of each class, p = softmax of `logits` [N, K]."""
    log_p = logits.log_softmax(dim=1)
    return log_p - torch.log(-torch.expm1(log_p))


def _array(values: Array) -> NDArray[Any]:
    return values.detach().cpu().numpy() if isinstance(values, Tensor) else np.asarray(values)
