"""Noise on points moves the visible ones only."""

import numpy as np
import pytest

from common.augmentation import apply_jitter, draw_jitter
from common.engine.randomness import generator_for


def test_offsets_per_frame_or_per_window() -> None:
    frame = draw_jitter(generator_for(1), 4000, 3, std=0.02, mode="frame")
    window = draw_jitter(generator_for(1), 4000, 3, std=0.02, mode="window")
    assert frame.shape == (4000, 3, 2)
    assert window.shape == (1, 3, 2)
    np.testing.assert_allclose(frame.std(axis=0), 0.02, rtol=0.05)
    np.testing.assert_allclose(frame.mean(axis=0), 0, atol=0.002)


def test_only_visible_points_move_and_stay_inside() -> None:
    points = np.array([[[0.5, 0.5], [0.95, 0.02], [-0.04, 1.03]]])
    offsets = np.array([[[0.1, -0.1], [0.1, -0.1], [0.0, 0.0]]], np.float32)
    moved = apply_jitter(points, offsets, np.array([[True, True, False]]))
    np.testing.assert_allclose(moved, [[[0.6, 0.4], [1.0, 0.0], [-0.04, 1.03]]], rtol=1e-6)
    np.testing.assert_allclose(
        apply_jitter(points * [640, 480], offsets, np.array([[True, True, False]]), extent=(640, 480)),
        moved * [640, 480],
        rtol=1e-6,
    )


def test_values_that_cannot_be() -> None:
    with pytest.raises(ValueError, match="std is -1"):
        draw_jitter(generator_for(1), 2, 2, std=-1, mode="frame")
    with pytest.raises(ValueError, match="mode is 'clip'"):
        draw_jitter(generator_for(1), 2, 2, std=1, mode="clip")  # type: ignore[arg-type]
