"""Windows cover every row once."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rodent_behavior.windows import evaluation_windows, training_windows, window_starts

LENGTHS = st.tuples(st.integers(1, 400), st.integers(1, 200))


@pytest.mark.parametrize(
    ("length", "window", "starts"),
    [
        (360, 180, [0, 180]),
        (360, 240, [0, 120]),
        (360, 60, [0, 60, 120, 180, 240, 300]),
        (345, 180, [0, 165]),
        (345, 240, [0, 105]),
        (345, 345, [0]),
        (20, 180, [0]),
        (10, 4, [0, 3, 6]),
        (12, 5, [0, 4, 7]),
    ],
)
def test_golden_starts(length: int, window: int, starts: list[int]) -> None:
    assert window_starts(length, window) == starts


def test_golden_ownership() -> None:
    assert [tuple(w) for w in evaluation_windows(360, 240, False)] == [(0, 240, 0, 180), (120, 360, 180, 360)]
    assert [tuple(w) for w in evaluation_windows(360, 240, True)] == [(0, 240, 0, 240), (120, 360, 240, 360)]
    assert [tuple(w) for w in training_windows(345, 180)] == [(0, 180, 0, 180), (165, 345, 180, 345)]
    assert [tuple(w) for w in training_windows(20, 180)] == [(0, 20, 0, 20)]


@given(LENGTHS)
def test_every_row_once(sizes: tuple[int, int]) -> None:
    length, window = sizes
    for windows in (training_windows(length, window), evaluation_windows(length, window, True)):
        covered = np.concatenate([np.arange(w[2], w[3]) for w in windows])
        assert covered.tolist() == list(range(length))
        for start, stop, first, last in windows:
            assert 0 <= start <= first < last <= stop <= length
            assert stop - start == min(window, length)


@given(LENGTHS)
def test_a_row_is_scored_where_the_nearest_cut_is_farthest(sizes: tuple[int, int]) -> None:
    length, window = sizes
    windows = evaluation_windows(length, window, False)

    def distance(row: int, start: int, stop: int) -> int:
        left = row - start if start > 0 else length
        right = stop - 1 - row if stop < length else length
        return min(left, right)

    for row in range(length):
        inside = [w for w in windows if w.start <= row < w.stop]
        best = max(inside, key=lambda w: (distance(row, w.start, w.stop), -w.start))
        assert best.score_start <= row < best.score_stop


def test_bad_sizes_are_named() -> None:
    with pytest.raises(ValueError, match="length 0"):
        training_windows(0, 5)
    with pytest.raises(ValueError, match="window 0"):
        evaluation_windows(5, 0, False)
