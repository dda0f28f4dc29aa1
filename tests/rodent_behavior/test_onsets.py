"""Onset errors, matched as segment F1 matches bouts."""

import math
from dataclasses import replace

import numpy as np
import torch
from rodent_pieces import ANY_TRIAL

from common.metrics.temporal import segment_counts, segments
from rodent_behavior.judging import JudgedTrial
from rodent_behavior.labels import LabelMap
from rodent_behavior.onsets import matched_onsets, onset_errors


def bout(length: int, *spans: tuple[int, int, int]) -> np.ndarray:
    actions = np.zeros(length, dtype=np.int64)
    for label, start, stop in spans:
        actions[start:stop] = label
    return actions


def judged(found: np.ndarray, true: np.ndarray, fps: float = 25.0) -> JudgedTrial:
    return JudgedTrial(replace(ANY_TRIAL, rows=len(true), fps=fps), torch.zeros(6, len(true)), true, found)


def test_the_median_is_over_matched_bouts_in_milliseconds() -> None:
    first = judged(
        bout(100, (1, 12, 20), (1, 39, 50), (2, 60, 70)), bout(100, (1, 10, 20), (1, 40, 50), (2, 66, 90))
    )
    second = judged(bout(60, (1, 15, 30)), bout(60, (1, 10, 30)), fps=50.0)
    errors = onset_errors([first, second], LabelMap.default())
    assert errors["paw_withdraw"] == {"median_ms": 80.0, "matched": 3}  # of 80, 40 and 100
    assert errors["paw_lick"]["matched"] == 0  # overlap 4 of 30 frames
    assert math.isnan(errors["paw_lick"]["median_ms"])
    assert "rest" not in errors


def test_a_bout_cut_by_an_unknown_frame_begins_anew() -> None:
    true = bout(40, (1, 10, 30))
    true[20] = -100
    errors = onset_errors([judged(bout(40, (1, 14, 30)), true)], LabelMap.default())
    assert errors["paw_withdraw"] == {"median_ms": 80.0, "matched": 2}  # 160 and 0 ms


def test_as_many_bouts_match_as_segment_f1_counts() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        true, found = (segments(np.repeat(rng.integers(0, 3, 12), 5)[rng.integers(4) :][:50]) for _ in "ab")
        hits = segment_counts(found, true, num_classes=3, thresholds=(0.3,))[0, :, 0]
        labels = [onset.label for onset in matched_onsets(found, true)]
        assert np.bincount(labels, minlength=3).tolist() == hits.tolist()
