"""Visibility and gap filling."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from rodent_behavior.dlc import read_dlc
from rodent_behavior.keypoints import fill_gaps, gap_lengths, visible
from rodent_behavior.settings import IndexSettings


@dataclass(frozen=True)
class Tracked:
    xy: NDArray[np.float64]
    likelihood: NDArray[np.float64]


def test_visible_needs_likelihood_numbers_and_a_place_in_the_frame() -> None:
    xy = np.array(
        [[50, 50], [50, 50], [np.nan, 50], [-5, 50], [-5.1, 50], [50, 210], [50, 210.1], [np.inf, 1]]
    )
    likelihood = np.array([0.9, 0.8999, 1, 1, 1, 1, 1, 1])
    shown = visible(Tracked(xy[:, None], likelihood[:, None]), 0.9, 100, 200)
    assert shown[:, 0].tolist() == [True, False, False, True, False, True, False, False]
    assert not visible(Tracked(xy[:1, None], np.full((1, 1), np.nan)), 0.0, 100, 200).any()


def test_short_gaps_are_interpolated_and_long_ones_left() -> None:
    shown = np.array([0, 1, 0, 0, 1, 0, 0, 0, 1, 0], dtype=bool)[:, None]
    xy = np.where(shown[..., None], np.arange(10.0)[:, None, None] * [2.0, -4.0], 99.0)
    points, visibility = fill_gaps(xy, shown, 2, causal=False)
    assert visibility.dtype == np.float32
    assert visibility[:, 0].tolist() == [0, 1, 0.5, 0.5, 1, 0, 0, 0, 1, 0]
    assert points[:5, 0].tolist() == [[0, 0], [2, -4], [4, -8], [6, -12], [8, -16]]
    assert points[5:8].tolist() == [[[0, 0]]] * 3


def test_causal_filling_holds_the_last_point() -> None:
    shown = np.array([0, 1, 0, 0, 0, 1, 0], dtype=bool)[:, None]
    xy = np.arange(14.0).reshape(7, 1, 2)
    points, visibility = fill_gaps(xy, shown, 2, causal=True)
    assert visibility[:, 0].tolist() == [0, 1, 0.5, 0.5, 0, 1, 0.5]
    assert points[:, 0, 0].tolist() == [0, 2, 2, 2, 0, 10, 10]
    later = xy.copy()
    later[4:] = -1
    np.testing.assert_array_equal(fill_gaps(later, shown, 2, causal=True)[0][:4], points[:4])


@given(st.lists(st.booleans(), min_size=1, max_size=40), st.integers(0, 6), st.booleans())
def test_filling_agrees_with_a_loop_over_frames(flags: list[bool], max_gap: int, causal: bool) -> None:
    shown = np.array(flags)[:, None]
    xy = np.random.default_rng(0).normal(size=(len(flags), 1, 2))
    points, visibility = fill_gaps(xy, shown, max_gap, causal)
    seen = [frame for frame, flag in enumerate(flags) if flag]
    for frame, flag in enumerate(flags):
        before = max((s for s in seen if s < frame), default=None)
        after = min((s for s in seen if s > frame), default=None)
        if flag:
            expected, level = xy[frame, 0], 1.0
        elif causal and before is not None and frame - before <= max_gap:
            expected, level = xy[before, 0], 0.5
        elif not causal and before is not None and after is not None and after - before - 1 <= max_gap:
            part = (frame - before) / (after - before)
            expected, level = (1 - part) * xy[before, 0] + part * xy[after, 0], 0.5
        else:
            expected, level = np.zeros(2), 0.0
        assert visibility[frame, 0] == level
        np.testing.assert_allclose(points[frame, 0], expected, atol=1e-12)


def test_gap_lengths() -> None:
    assert gap_lengths(np.array([0, 1, 0, 0, 1, 0], dtype=bool)).tolist() == [1, 2, 1]
    assert gap_lengths(np.ones(3, dtype=bool)).tolist() == []
    assert gap_lengths(np.zeros(3, dtype=bool)).tolist() == [3]
    with pytest.raises(ValueError, match="max_gap"):
        fill_gaps(np.zeros((1, 1, 2)), np.ones((1, 1), dtype=bool), -1, False)


def test_golden_visibility(pain_assay: IndexSettings) -> None:
    (path,) = pain_assay.videos.glob("*.csv")
    pose = read_dlc(path, pain_assay.kp_names)
    shown = visible(pose, 0.9, 512, 512)
    np.testing.assert_allclose(shown.mean(axis=0), [0.8509, 1, 0.5787, 0.6991, 0.9481, 0.9306], atol=5e-5)
    assert shown.all(axis=1).reshape(3, 360).sum(axis=1).tolist() == [360, 76, 48]
    gaps = np.concatenate([gap_lengths(shown[:, k]) for k in range(6)])
    short = gaps[gaps <= 15]
    assert (len(gaps), np.median(gaps), len(short), gaps.sum(), short.sum()) == (161, 2, 152, 1072, 511)
    both = shown[:, 0] & shown[:, 1]
    distance = np.linalg.norm(pose.xy[both, 0] - pose.xy[both, 1], axis=1)
    assert np.median(distance) == pytest.approx(216.019, abs=5e-4)
