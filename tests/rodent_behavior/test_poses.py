"""The causal body scale and shifted poses."""

import math

import numpy as np
import pytest

from rodent_behavior.poses import SCALE_MEMORY, Memory, Poses, RunningScale, axis_length


def test_running_scale_is_the_mean_of_what_was_seen():
    scale = RunningScale()
    given = [math.nan, 10.0, math.nan, 20.0, 60.0]
    taken = [scale.update(length) for length in given]
    assert math.isnan(taken[0])
    assert taken[1:] == pytest.approx([10, 10, 15, 30])


def test_running_scale_forgets_after_its_memory():
    scale = RunningScale()
    for _ in range(SCALE_MEMORY + 50):
        scale.update(1.0)
    assert scale.update(901.0) == pytest.approx(2.0)


def test_axis_length_needs_both_points_seen():
    xy = np.array([[(0.0, 0.0), (3.0, 4.0)]] * 3)
    lengths = axis_length(xy, np.array([(1.0, 1.0), (1.0, 0.5), (0.0, 1.0)]), (0, 1))
    assert lengths == pytest.approx([5, np.nan, np.nan], nan_ok=True)


def test_memory_before_shifts_and_marks_the_start_unknown():
    values = np.arange(6.0).reshape(3, 2) + 1j
    earlier = Memory(values, np.ones((3, 2), dtype=bool)).before(2)
    assert earlier.known.tolist() == [[False, False], [False, False], [True, True]]
    assert np.array_equal(earlier.values[2], values[0])
    late = Memory(values, np.ones((3, 2), dtype=bool)).before(7)
    assert late.values.shape == (3, 2)
    assert not late.known.any()


def test_poses_hide_what_is_missing():
    xy = np.array([[(3.0, 4.0), (np.nan, 1.0)]] * 2)
    poses = Poses.of(xy, [(0.5, 0.0)] * 2, [(0.7, np.nan)] * 2, [8.0, np.nan])
    assert poses.points.tolist() == [[3 + 4j, 0]] * 2
    assert poses.likelihood.tolist() == [[0.7, 0]] * 2
    assert poses.scaled.tolist() == [True, False]
    assert poses.inverse_scale[0] == pytest.approx(0.125)
