"""Distances to another label against a search over all pixels."""

import numpy as np
import pytest

from uav_landing.boundaries import away_from_boundaries, distance_to_other_label


def searched(labels: np.ndarray) -> np.ndarray:
    places = np.argwhere(np.ones(labels.shape, bool))
    distance = np.linalg.norm(places[:, None] - places[None], axis=-1)
    flat = labels.reshape(-1)
    distance[flat[:, None] == flat] = np.inf
    return distance.min(axis=1).reshape(labels.shape)


def test_equal_to_a_search() -> None:
    rng = np.random.default_rng(1)
    labels = rng.choice([0, 1, 3, 255], size=(3, 5)).astype(np.uint8).repeat(7, 0).repeat(6, 1)
    np.testing.assert_allclose(distance_to_other_label(labels), searched(labels), rtol=1e-5)


def test_one_label_has_no_boundary() -> None:
    labels = np.full((4, 5), 2, np.uint8)
    assert np.isinf(distance_to_other_label(labels)).all()
    assert away_from_boundaries(labels).all()


@pytest.mark.parametrize(("width", "margin"), [(1280, 3), (2560, 6), (960, 2)])
def test_tolerance_grows_with_the_photo(width: int, margin: int) -> None:
    labels = np.ones((8, width), np.uint8)
    labels[:, :100] = 2
    left_out = ~away_from_boundaries(labels)[0]
    assert np.flatnonzero(left_out).tolist() == list(range(100 - margin, 100 + margin))
    np.testing.assert_array_equal(away_from_boundaries(np.ascontiguousarray(labels.T))[:, 0], ~left_out)
