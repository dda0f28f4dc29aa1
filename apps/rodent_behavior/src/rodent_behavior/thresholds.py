"""A level of probability for each behaviour: chosen on validation, reported where nothing was chosen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.metrics.ranking import best_f1_threshold
from rodent_behavior.judging import JudgedTrial
from rodent_behavior.objective import IGNORE

FITTED_ON = "val"


def fit_thresholds(judged: Sequence[JudgedTrial], temperature: float, names: Sequence[str]) -> dict[str, Any]:
    """Return `split` and `values`, for each class the probability from which its F1 is largest.

    None for a class that does not occur.
    """
    shown, target = _frames(judged, temperature)
    values = {}
    for index, name in enumerate(names):
        value = best_f1_threshold(shown[:, index], target == index, split=FITTED_ON).value
        values[name] = float(value) if np.isfinite(value) else None
    return {"split": FITTED_ON, "values": values}


def threshold_f1(
    judged: Sequence[JudgedTrial], temperature: float, thresholds: Mapping[str, Any], names: Sequence[str]
) -> dict[str, dict[str, float]]:
    """Return `threshold` and the `f1` of every class told from all others by it.

    Not-a-number for a class without a threshold, or that neither occurs nor is found.
    """
    shown, target = _frames(judged, temperature)
    rows = {}
    for index, name in enumerate(names):
        value = thresholds["values"][name]
        row = {"threshold": float("nan"), "f1": float("nan")}
        if value is not None:
            row = {"threshold": value, "f1": _f1(shown[:, index] >= value, target == index)}
        rows[name] = row
    return rows


def _frames(
    judged: Sequence[JudgedTrial], temperature: float
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Return probabilities [N, C] and classes [N] of the labelled frames."""
    shown = np.concatenate([trial.probabilities(temperature) for trial in judged])
    target = np.concatenate([trial.target for trial in judged])
    return shown[target != IGNORE], target[target != IGNORE]


def _f1(found: NDArray[np.bool_], true: NDArray[np.bool_]) -> float:
    named = int(found.sum()) + int(true.sum())
    return 2 * int((found & true).sum()) / named if named else float("nan")
