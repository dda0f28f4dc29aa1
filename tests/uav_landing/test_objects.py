"""Counting of dangerous objects by hand and against scipy's components."""

import numpy as np
import pytest
from scipy import ndimage

from uav_landing.objects import count_objects

PERSON, CAR = 15, 17


def canvas() -> np.ndarray:
    return np.full((60, 80), 3, np.uint8)


def test_pixels_and_objects_by_hand() -> None:
    labels, danger = canvas(), np.zeros((60, 80), bool)
    labels[2:7, 2:7] = PERSON  # 25 pixels, 13 found: an object, found
    danger[2:7, 2:4] = True
    danger[2:5, 4] = True
    labels[20:25, 2:7] = PERSON  # 25 pixels, 12 found: an object, missed
    danger[20:25, 2:4] = True
    danger[20:22, 4] = True
    labels[40:44, 2:8] = PERSON  # 24 pixels: too small for an object
    labels[30:40, 40:50] = CAR
    danger[30:40, 40:45] = True  # exactly half
    danger[50:, 60:] = True  # false alarm on safe ground
    counts = count_objects(labels, danger, [PERSON, CAR, 18])
    assert counts[0].tolist() == [[25, 74 - 25], [1, 1]]
    assert counts[1].tolist() == [[50, 50], [1, 0]]
    assert counts[2].tolist() == [[0, 0], [0, 0]]


def test_corners_connect() -> None:
    labels = canvas()
    labels[10:14, 10:14] = PERSON
    labels[14:18, 14:18] = PERSON
    assert count_objects(labels, labels == PERSON, [PERSON])[0, 1].tolist() == [1, 0]


@pytest.mark.parametrize("seed", range(3))
def test_equal_to_scipy(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = np.where(rng.random((20, 30)) < 0.35, PERSON, 1).astype(np.uint8).repeat(3, 0).repeat(3, 1)
    danger = rng.random(labels.shape) < 0.5
    components, number = ndimage.label(labels == PERSON, structure=np.ones((3, 3)))
    index = np.arange(1, number + 1)
    sizes = ndimage.sum_labels(np.ones_like(components), components, index)
    shares = ndimage.mean(danger, components, index)
    found, missed = ((sizes >= 25) & (shares >= 0.5)).sum(), ((sizes >= 25) & (shares < 0.5)).sum()
    assert missed
    assert found
    assert count_objects(labels, danger, [PERSON])[0, 1].tolist() == [found, missed]
