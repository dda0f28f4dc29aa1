"""Per-class and averaged metrics of confusion matrices, as pure functions.

Every function takes counts [..., K, K] (rows true, columns predicted; NumPy or torch) and works on all
leading dimensions at once: [..., K] per class, [...] for one number per matrix. A metric whose denominator
is 0 is NaN.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from torch import Tensor

    Matrix: TypeAlias = NDArray[Any] | Tensor

FloatArray: TypeAlias = NDArray[np.float64]
PerClass = Literal["precision", "recall", "f1", "iou"]
Kind = Literal["present", "observed", "all"]


def support(matrix: Matrix) -> NDArray[np.int64]:
    """Return how often each class is true, [..., K]."""
    return np.asarray(_counts(matrix).sum(-1))


def predicted(matrix: Matrix) -> NDArray[np.int64]:
    """Return how often each class is predicted, [..., K]."""
    return np.asarray(_counts(matrix).sum(-2))


def precision(matrix: Matrix) -> FloatArray:
    """Return TP / (TP + FP) per class; NaN if never predicted."""
    return divide(_hits(matrix), predicted(matrix))


def recall(matrix: Matrix) -> FloatArray:
    """Return TP / (TP + FN) per class; NaN if absent from the truth."""
    return divide(_hits(matrix), support(matrix))


def f1(matrix: Matrix) -> FloatArray:
    """Return 2 TP / (2 TP + FP + FN) per class; NaN if neither true nor predicted anywhere."""
    return divide(2 * _hits(matrix), support(matrix) + predicted(matrix))


def iou(matrix: Matrix) -> FloatArray:
    """Return TP / (TP + FP + FN) per class; NaN if neither true nor predicted anywhere."""
    hits = _hits(matrix)
    return divide(hits, support(matrix) + predicted(matrix) - hits)


_PER_CLASS: dict[str, Callable[[Matrix], FloatArray]] = {
    "precision": precision,
    "recall": recall,
    "f1": f1,
    "iou": iou,
}


def averaged_classes(matrix: Matrix, kind: Kind = "present") -> NDArray[np.bool_]:
    """Return which classes an average of this kind runs over, bool [..., K].

    present: true at least once. observed: true or predicted at least once. all: every class.
    """
    if kind == "present":
        return np.asarray(support(matrix) > 0)
    if kind == "observed":
        return np.asarray(support(matrix) + predicted(matrix) > 0)
    if kind == "all":
        return np.ones_like(support(matrix), dtype=np.bool_)
    raise ValueError(f"kind {kind!r} is not one of {', '.join(get_args(Kind))}")


def macro(matrix: Matrix, metric: PerClass = "f1", kind: Kind = "present") -> FloatArray:
    """Return the unweighted mean of a per-class metric over `averaged_classes`, an undefined value as 0.

    `observed` is scikit-learn's default and torchmetrics' macro, `all` is scikit-learn with every label
    listed and zero_division=0. NaN if no class is averaged. ValueError for an unknown metric or kind.
    """
    if metric not in _PER_CLASS:
        raise ValueError(f"metric {metric!r} is not one of {', '.join(_PER_CLASS)}")
    values = np.nan_to_num(_PER_CLASS[metric](matrix), nan=0.0)
    chosen = averaged_classes(matrix, kind)
    return divide((values * chosen).sum(-1), chosen.sum(-1))


def miou(matrix: Matrix, kind: Kind = "present") -> FloatArray:
    """Return the mean IoU of the whole data set."""
    return macro(matrix, "iou", kind)


def balanced_accuracy(matrix: Matrix) -> FloatArray:
    """Return the mean recall over the classes present."""
    return macro(matrix, "recall", "present")


def accuracy(matrix: Matrix) -> FloatArray:
    """Return the share of elements predicted right (pixel accuracy when elements are pixels)."""
    return divide(_hits(matrix).sum(-1), _total(matrix))


def weighted_f1(matrix: Matrix) -> FloatArray:
    """Return the mean F1 weighted by support."""
    weights = support(matrix)
    return divide((np.nan_to_num(f1(matrix), nan=0.0) * weights).sum(-1), weights.sum(-1))


def g_mean(matrix: Matrix) -> FloatArray:
    """Return the geometric mean of the recalls of the classes present. Source: Kubat and Matwin 1997."""
    present = averaged_classes(matrix, "present")
    with np.errstate(divide="ignore"):
        logs = np.log(np.where(present, np.nan_to_num(recall(matrix), nan=1.0), 1.0))
    return np.asarray(np.exp(divide(logs.sum(-1), present.sum(-1))))


def mcc(matrix: Matrix) -> FloatArray:
    """Return Matthews' correlation coefficient; 0 if all truth or all predictions are of one class.

    Source: Gorodkin 2004, equation 8. NaN for an empty matrix.
    """
    rows, columns = support(matrix), predicted(matrix)
    spread = _disagreement(rows, rows, matrix) * _disagreement(columns, columns, matrix)
    value = np.where(spread > 0, divide(_covariance(matrix), np.sqrt(spread)), 0.0)
    return np.asarray(np.where(_total(matrix) > 0, value, np.nan))


def kappa(matrix: Matrix) -> FloatArray:
    """Return Cohen's kappa; NaN if truth and predictions are all of one and the same class.

    Source: Cohen 1960, equation 1.
    """
    chance = _disagreement(support(matrix), predicted(matrix), matrix)
    return divide(_covariance(matrix), chance)


def misclassification_rate(matrix: Matrix, true: int, predicted: int) -> FloatArray:
    """Return the share of class `true` predicted as class `predicted`; NaN if the class is absent."""
    return divide(_counts(matrix)[..., true, predicted], support(matrix)[..., true])


def zero_performance_classes(matrix: Matrix) -> list[int]:
    """Return the classes of one matrix [K, K] that occur and are never found; an absent class is none."""
    return [int(index) for index in np.flatnonzero(recall(matrix) == 0)]


@dataclass(frozen=True, eq=False)
class ClassReport:
    """All metrics of one confusion matrix [K, K]; arrays are [K], NaN where a metric is undefined.

    `macro[metric][kind]` averages precision, recall, f1 and iou; `averaged[kind]` is the number of classes
    the average runs over.
    """

    support: NDArray[np.int64]
    predicted: NDArray[np.int64]
    precision: FloatArray
    recall: FloatArray
    f1: FloatArray
    iou: FloatArray
    macro: Mapping[str, Mapping[str, float]]
    averaged: Mapping[str, int]
    accuracy: float
    balanced_accuracy: float
    weighted_f1: float
    g_mean: float
    mcc: float
    kappa: float
    miou: float
    zero_performance: tuple[int, ...]

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON types, NaN as None."""
        return {name: _plain(value) for name, value in asdict(self).items()}


def report_from(matrix: Matrix) -> ClassReport:
    """Return the report of one matrix [K, K]; ValueError for another shape or negative counts."""
    counts = _counts(matrix)
    if counts.ndim != 2:
        raise ValueError(f"a report takes one matrix [K, K], not shape {counts.shape}")
    if (counts < 0).any():
        raise ValueError("a confusion matrix holds counts, found a negative entry")
    kinds: tuple[Kind, ...] = get_args(Kind)
    metrics: tuple[PerClass, ...] = get_args(PerClass)
    return ClassReport(
        support=support(counts),
        predicted=predicted(counts),
        precision=precision(counts),
        recall=recall(counts),
        f1=f1(counts),
        iou=iou(counts),
        macro={metric: {kind: float(macro(counts, metric, kind)) for kind in kinds} for metric in metrics},
        averaged={kind: int(averaged_classes(counts, kind).sum()) for kind in kinds},
        accuracy=float(accuracy(counts)),
        balanced_accuracy=float(balanced_accuracy(counts)),
        weighted_f1=float(weighted_f1(counts)),
        g_mean=float(g_mean(counts)),
        mcc=float(mcc(counts)),
        kappa=float(kappa(counts)),
        miou=float(miou(counts)),
        zero_performance=tuple(zero_performance_classes(counts)),
    )


def _counts(matrix: Matrix) -> NDArray[np.int64]:
    counts = matrix if isinstance(matrix, np.ndarray) else matrix.detach().cpu().numpy()
    if counts.ndim < 2 or counts.shape[-1] != counts.shape[-2]:
        raise ValueError(f"a confusion matrix is [..., K, K], not shape {counts.shape}")
    if not np.issubdtype(counts.dtype, np.integer):
        raise TypeError(f"a confusion matrix holds integer counts, not {counts.dtype}")
    return counts.astype(np.int64, copy=False)


def _hits(matrix: Matrix) -> NDArray[np.int64]:
    return np.diagonal(_counts(matrix), axis1=-2, axis2=-1)


def _total(matrix: Matrix) -> NDArray[np.int64]:
    return np.asarray(_counts(matrix).sum((-2, -1)))


def divide(numerator: NDArray[Any], denominator: NDArray[Any]) -> FloatArray:
    """Return the quotient, NaN where the denominator is 0."""
    out = np.full(np.broadcast_shapes(np.shape(numerator), np.shape(denominator)), np.nan)
    np.divide(numerator, denominator, out=out, where=np.asarray(denominator) != 0)
    return out


def _covariance(matrix: Matrix) -> FloatArray:
    """Return the sum over classes of TP TN - FP FN, as shares of the total squared, [...].

    It equals the textbook difference of accuracy and chance agreement without its cancellation.
    """
    rows, columns, hits, total = support(matrix), predicted(matrix), _hits(matrix), _total(matrix)[..., None]
    agreed = divide(hits, total) * divide(total - rows - columns + hits, total)
    confused = divide(rows - hits, total) * divide(columns - hits, total)
    return np.asarray((agreed - confused).sum(-1))


def _disagreement(first: NDArray[np.int64], second: NDArray[np.int64], matrix: Matrix) -> FloatArray:
    """Return how often independent draws from two class counts [..., K] differ, summed without cancelling."""
    total = _total(matrix)[..., None]
    return np.asarray((divide(first, total) * divide(total - second, total)).sum(-1))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, np.ndarray):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and np.isnan(value) else value
