"""Windows of a trial: every labelled frame once in training and once in evaluation."""

from __future__ import annotations

import itertools
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class TrainingWindow(NamedTuple):
    """Label rows `start` to `stop` - 1 of a trial; the loss is taken on `loss_start` to `loss_stop` - 1."""

    start: int
    stop: int
    loss_start: int
    loss_stop: int


class EvaluationWindow(NamedTuple):
    """Label rows `start` to `stop` - 1; logits of `score_start` to `score_stop` - 1 come from here."""

    start: int
    stop: int
    score_start: int
    score_stop: int


def window_starts(length: int, window: int) -> list[int]:
    """Return the first rows of ceil(length / window) evenly spread windows; [0] when one holds the trial.

    Window k of n begins at floor(k (length - window) / (n - 1) + 0.5). ValueError when an argument is < 1.
    """
    if length < 1 or window < 1:
        raise ValueError(f"length {length} and window {window} must be >= 1")
    if window >= length:
        return [0]
    gaps = -(-length // window) - 1
    return [(2 * k * (length - window) + gaps) // (2 * gaps) for k in range(gaps + 1)]


def training_windows(length: int, window: int) -> list[TrainingWindow]:
    """Return the windows of a trial of `length` rows; a row's loss is taken in the first that contains it."""
    spans = _spans(length, window)
    edges = [0, *(stop for _, stop in spans)]
    return [TrainingWindow(start, stop, edges[k], stop) for k, (start, stop) in enumerate(spans)]


def evaluation_windows(length: int, window: int, causal: bool) -> list[EvaluationWindow]:
    """Return the windows of a trial and the rows each of them answers for.

    A row is scored where the nearest cut edge (a window end that is no trial end) is farthest away, the
    earlier window at a tie; a causal model sees no right edge, so there the first window with the row scores.
    """
    spans = _spans(length, window)
    inner = [
        first[1] if causal else _border(first, second, length) for first, second in itertools.pairwise(spans)
    ]
    edges = [0, *inner, length]
    return [EvaluationWindow(start, stop, edges[k], edges[k + 1]) for k, (start, stop) in enumerate(spans)]


def _spans(length: int, window: int) -> list[tuple[int, int]]:
    return [(start, min(start + window, length)) for start in window_starts(length, window)]


def _border(first: tuple[int, int], second: tuple[int, int], length: int) -> int:
    """Return the first row that the second of two neighbouring windows scores."""
    rows = np.arange(second[0], first[1])
    farther = np.flatnonzero(_distance(rows, second, length) > _distance(rows, first, length))
    return int(rows[farther[0]]) if len(farther) else first[1]


def _distance(rows: NDArray[np.int64], span: tuple[int, int], length: int) -> NDArray[np.int64]:
    """Return how many rows lie between each row and the nearest cut edge."""
    start, stop = span
    left = rows - start if start > 0 else np.full_like(rows, length)
    right = stop - 1 - rows if stop < length else np.full_like(rows, length)
    return np.minimum(left, right)
