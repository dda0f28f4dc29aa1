"""How far the beginnings of predicted bouts lie from the true ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

from common.metrics.temporal import Segments, segments
from rodent_behavior.judging import JudgedTrial
from rodent_behavior.labels import LabelMap
from rodent_behavior.objective import IGNORE

MATCH_IOU = 0.3
"""Overlap from which a predicted bout counts as the true one."""


class Onset(NamedTuple):
    """Beginnings of a predicted bout and of the true one that it matches, in frames of the trial."""

    label: int
    found: int
    true: int


def matched_onsets(found: Segments, true: Segments, *, iou: float = MATCH_IOU) -> Iterator[Onset]:
    """Yield the beginnings of bouts matched as segment F1 matches them.

    Predictions in time order take the true bout of their class with the largest intersection over union, the
    earliest of equals, if that is at least `iou` and no earlier prediction has it.
    """
    taken: set[int] = set()
    for label, start, stop in zip(*(part.tolist() for part in found), strict=True):
        common = np.minimum(true.stop, stop) - np.maximum(true.start, start)
        union = (true.stop - true.start) + (stop - start) - common
        overlap = np.where(true.label == label, common / union, 0.0)
        best = int(overlap.argmax()) if len(overlap) else -1
        if best >= 0 and overlap[best] >= iou and best not in taken:
            taken.add(best)
            yield Onset(label, start, int(true.start[best]))


def onset_errors(judged: Sequence[JudgedTrial], labels: LabelMap) -> dict[str, dict[str, float]]:
    """Return `median_ms`, the median absolute error of matched onsets, and their number by behaviour.

    The median is not-a-number for a behaviour without a matched bout.
    """
    errors: dict[int, list[float]] = {index: [] for index in range(len(labels.names))}
    for trial in judged:
        found, true = (
            segments(values, background=(labels.background,), valid=trial.target != IGNORE)
            for values in (trial.predicted, trial.target)
        )
        for onset in matched_onsets(found, true):
            errors[onset.label].append(1000 * abs(onset.found - onset.true) / trial.index.fps)
    return {
        name: {
            "median_ms": float(np.median(errors[index])) if errors[index] else float("nan"),
            "matched": len(errors[index]),
        }
        for index, name in enumerate(labels.names)
        if index != labels.background
    }
