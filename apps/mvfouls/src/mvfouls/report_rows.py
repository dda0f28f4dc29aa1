"""Rows of the run report: the numbers of the best model, and its classes by task."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.metrics import report
from mvfouls.judging import JudgedTask, Judgement, wilson
from mvfouls.labels import TASKS
from mvfouls.official import PartScores

Row = dict[str, Any]
OFFICIAL = {"os": "Offence and severity (official)", "action": "Action class (official)"}
TITLES = {name: name.replace("_", " ").capitalize() for name in TASKS}
_UNKNOWN = float("nan")


def summary_rows(judgement: Judgement) -> list[Row]:
    """Return {name, value, low, high, note} of the leaderboard value, its parts and every task's averages."""
    rows = list(_official_rows(judgement))
    for name, task in judgement.tasks.items():
        classes = f"{int(task.averaged.sum())} of {len(task.labels.classes)} classes occur"
        rows.append(_row(f"{name}_ba", task.ba, f"mean recall; {classes}"))
        rows.append(_row(f"{name}_macro_f1", task.macro_f1, f"mean F1; {classes}"))
    return rows


def _official_rows(judgement: Judgement) -> Iterator[Row]:
    """Yield what the leaderboard is made of first; no value of the published tool where it has none."""
    strict, compat = judgement.strict, judgement.compat
    if strict is None or compat is None or judgement.interval is None:
        return
    value, low, high = (float(end) for end in judgement.interval)
    yield _row("leaderboard", value, "mean of both balanced accuracies, strict", low, high)
    parts = {"os": (strict.os, strict.os_ba), "action": (strict.action, strict.action_ba)}
    for name, (part, ba) in parts.items():
        yield _row(f"{name}_ba", ba, f"mean recall of {part.present} of {len(part.names)} classes")
    if not math.isnan(compat.leaderboard):
        yield _row("leaderboard_compat", compat.leaderboard, "as the published tool computes it")
    for name, (part, _) in parts.items():
        yield _row(f"{name}_acc", part.accuracy, "share of actions; says little under imbalance")


def class_tables(judgement: Judgement) -> Iterator[tuple[str, str, list[Row], list[str]]]:
    """Yield (task, title, rows, columns) of the official parts and of every task."""
    if judgement.strict is not None:
        for name, part in (("os", judgement.strict.os), ("action", judgement.strict.action)):
            yield name, OFFICIAL[name], _part_rows(part), ["Recall"]
    for name, task in judgement.tasks.items():
        yield name, TITLES[name], _task_rows(task), ["Recall", "Precision", "F1"]


def _row(name: str, value: float, note: str, low: float = _UNKNOWN, high: float = _UNKNOWN) -> Row:
    return {"name": name, "value": value, "low": low, "high": high, "note": note}


def _part_rows(part: PartScores) -> list[Row]:
    recall = _with_interval(part.hits, part.count)
    return [
        {"id": place, "name": name, "support": int(part.count[place]), "Recall": recall[place]}
        for place, name in enumerate(part.names)
    ]


def _task_rows(task: JudgedTask) -> list[Row]:
    matrix = task.matrix
    hits, support, predicted = np.diagonal(matrix), report.support(matrix), report.predicted(matrix)
    recall, precision = _with_interval(hits, support), _with_interval(hits, predicted)
    f1 = report.f1(matrix)
    return [
        {
            "id": place,
            "name": name,
            "support": int(support[place]),
            "Recall": recall[place],
            "Precision": precision[place],
            "F1": {"value": float(f1[place]), "low": _UNKNOWN, "high": _UNKNOWN},
        }
        for place, name in enumerate(task.labels.classes)
    ]


def _with_interval(hits: NDArray[np.int64], count: NDArray[np.int64]) -> list[dict[str, float]]:
    low, high = wilson(hits, count)
    shares = report.divide(hits, count)
    return [
        {"value": float(value), "low": float(lower), "high": float(upper)}
        for value, lower, upper in zip(shares, low, high, strict=True)
    ]
