"""Landing metrics: numbers of one confusion matrix over all valid pixels of a split.

Matrices are int64 [4, 4] (or [..., 4, 4]), rows true landing class, columns predicted, in pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.metrics import report

CLASSES = 4
SAFE, CAUTION, DANGER = 1, 2, 3

COSTS = np.ones((CLASSES, CLASSES)) - np.eye(CLASSES)
"""Cost of predicting the column where the row is true; danger called safe is the dearest error."""
COSTS[DANGER, SAFE], COSTS[DANGER, CAUTION] = 5.0, 3.0
COSTS[CAUTION, SAFE], COSTS[CAUTION, DANGER] = 3.0, 1.2
COSTS[SAFE, DANGER] = 1.5

LOWER_IS_BETTER = frozenset({"expected_cost", "danger_as_safe", "danger_missed", "false_safe"})


def to_frame(matrix: NDArray[np.int64], class_ids: Sequence[int]) -> NDArray[np.int64]:
    """Place a matrix over the model's outputs into the frame of the four landing classes.

    `matrix` is [..., K, K], `class_ids` the landing class of each output; returns [..., 4, 4].
    """
    frame = np.zeros((*matrix.shape[:-2], CLASSES, CLASSES), dtype=np.int64)
    rows, columns = np.ix_(class_ids, class_ids)
    frame[..., rows, columns] = matrix
    return frame


def class_metrics(matrix: NDArray[np.int64]) -> dict[str, NDArray[Any]]:
    """Return `iou`, `accuracy` (recall), `precision`, `support` as arrays [..., 4]; NaN where undefined."""
    return {
        "iou": report.iou(matrix),
        "accuracy": report.recall(matrix),
        "precision": report.precision(matrix),
        "support": report.support(matrix),
    }


def _ratio(part: NDArray[np.float64], whole: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return part / whole, NaN where the whole is 0."""
    return np.asarray(np.divide(part, whole, out=np.full(np.shape(part), np.nan), where=whole > 0))


def summary_metrics(matrix: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
    """Return every whole-matrix metric; each value has the leading shape of `matrix`."""
    cells = matrix.astype(float)
    landing = matrix.copy()
    landing[..., 0, :] = 0
    true, predicted = cells.sum(-1), cells.sum(-2)
    known = cells[..., SAFE:, :]
    return {
        "miou": report.miou(matrix),
        "miou_observed": report.miou(matrix, "observed"),
        "miou_landing": report.miou(landing),
        "mean_accuracy": report.balanced_accuracy(matrix),
        "accuracy": report.accuracy(matrix),
        "danger_as_safe": _ratio(cells[..., DANGER, SAFE], true[..., DANGER]),
        "danger_missed": _ratio(cells[..., DANGER, SAFE] + cells[..., DANGER, CAUTION], true[..., DANGER]),
        "false_safe": _ratio(cells[..., DANGER, SAFE], predicted[..., SAFE]),
        "expected_cost": _ratio((known * COSTS[SAFE:]).sum((-2, -1)), known.sum((-2, -1))),
    }


def landing_metrics(matrix: NDArray[np.int64]) -> dict[str, float]:
    """Return every metric of one [4, 4] matrix under its flat name, such as `class_3_iou`."""
    flat = {
        f"class_{index}_{name}": float(values[index])
        for name, values in class_metrics(matrix).items()
        for index in range(CLASSES)
    }
    return flat | {name: float(value) for name, value in summary_metrics(matrix).items()}
