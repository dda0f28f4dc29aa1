"""Mirror images exchange left and right points."""

import numpy as np
import pytest

from common.augmentation import check_swap, flip_clip, flip_points, swap_points

SWAP = (0, 2, 1)


def test_points_are_mirrored_and_change_places() -> None:
    points = np.array([[[0.5, 0.1], [0.2, 0.4], [0.9, 0.6]]])
    mirrored = flip_points(points, SWAP)
    np.testing.assert_allclose(mirrored, [[[0.5, 0.1], [0.1, 0.6], [0.8, 0.4]]])
    assert points[0, 1, 0] == 0.2
    np.testing.assert_allclose(flip_points(points * 640, SWAP, extent=640), mirrored * [640, 640])
    np.testing.assert_allclose(flip_points(mirrored, SWAP), points)


def test_values_of_points_change_places() -> None:
    np.testing.assert_array_equal(swap_points(np.array([[1, 2, 3]]), SWAP), [[1, 3, 2]])
    np.testing.assert_array_equal(swap_points(np.array([[1], [2], [3]]), SWAP, axis=0), [[1], [3], [2]])


def test_a_marked_pixel_lands_where_its_point_does() -> None:
    clip = np.zeros((1, 2, 5, 3), np.uint8)
    clip[0, 1, 1] = 255
    assert np.argwhere(flip_clip(clip)[0, :, :, 0]).tolist() == [[1, 3]]
    centre = flip_points(np.array([[[1.5, 1.5]]]), (0,), extent=5)
    assert centre.tolist() == [[[3.5, 1.5]]]


@pytest.mark.parametrize("swap", [(1, 2, 0), (0, 1), (0, 1, 1), (0, 1, 3)])
def test_a_table_that_pairs_nothing_is_refused(swap: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match="swap is"):
        check_swap(swap, 3)
