"""Rare crops: the distribution drawn, the window, and exposure against crops of real label images."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from common.balancing.crops import RareCropSampler, measure_exposure, place_window, random_window

SHAPE, WINDOW = (48, 64), (12, 16)


def label_image(spots: list[tuple[int, int, int, int]]) -> NDArray[np.uint8]:
    """Class 0 on the left, 1 on the right, and squares (class, row, column, side) on top."""
    image = np.zeros(SHAPE, dtype=np.uint8)
    image[:, 40:] = 1
    for class_id, row, column, side in spots:
        image[row : row + side, column : column + side] = class_id
    return image


IMAGES = [
    label_image([(2, 5, 5, 4), (3, 30, 50, 3)]),
    label_image([(2, 40, 60, 2)]),
    label_image([(3, 20, 20, 6)]),
    label_image([]),
]
HISTOGRAMS = np.stack([np.bincount(image.ravel(), minlength=5) for image in IMAGES])
POSITIONS = [{c: np.argwhere(image == c) for c in range(4) if (image == c).any()} for image in IMAGES]


def sampler(**options: object) -> RareCropSampler:
    return RareCropSampler(HISTOGRAMS, POSITIONS, **({"classes": (2, 3), "temperature": 0.01} | options))  # type: ignore[arg-type]


def generator(seed: int = 0) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(key=seed))


def test_probabilities_are_the_softmax_by_hand() -> None:
    rule = RareCropSampler([[70, 20, 10]], [{0: [[0, 0]], 1: [[0, 1]], 2: [[0, 2]]}], temperature=0.1)  # type: ignore[list-item]
    raw = np.exp(np.array([0.3, 0.8, 0.9]) / 0.1)
    np.testing.assert_allclose(rule.probabilities, raw / raw.sum(), rtol=1e-12)


def test_a_high_temperature_is_uniform_and_a_low_one_takes_the_rarest() -> None:
    np.testing.assert_allclose(sampler(temperature=1e6).probabilities, [0, 0, 0.5, 0.5, 0], atol=1e-6)
    assert sampler(temperature=1e-5).probabilities[2] > 0.999


def test_draws_follow_class_image_and_pixel_probabilities() -> None:
    rule, rng, draws = sampler(), generator(), 50_000
    crops = [rule.draw(rng) for _ in range(draws)]
    table: dict[tuple[int, int], float] = {
        (2, 0): rule.probabilities[2] / 2,
        (2, 1): rule.probabilities[2] / 2,
        (3, 0): rule.probabilities[3] / 2,
        (3, 2): rule.probabilities[3] / 2,
    }
    seen = dict.fromkeys(table, 0)
    pixels: dict[tuple[int, int], int] = {}
    for crop in crops:
        seen[crop.class_id, crop.image] += 1
        if crop[:2] == (2, 1):
            pixels[crop.row, crop.column] = pixels.get((crop.row, crop.column), 0) + 1
    chi_square = sum((seen[k] - draws * p) ** 2 / (draws * p) for k, p in table.items())
    assert chi_square < 21.1  # p = 1e-4 at 3 degrees of freedom
    even = seen[2, 1] / 4
    assert sum((count - even) ** 2 / even for count in pixels.values()) < 21.1
    assert sorted(pixels) == [(40, 60), (40, 61), (41, 60), (41, 61)]


def test_drawn_pixels_are_of_the_drawn_class() -> None:
    rule, rng = sampler(classes=None), generator(1)
    for _ in range(500):
        crop = rule.draw(rng)
        assert IMAGES[crop.image][crop.row, crop.column] == crop.class_id


def test_small_and_absent_classes_are_left_out() -> None:
    rule = sampler(classes=(2, 3, 4), min_pixels=4)
    assert rule.left_out == (4,)
    assert rule.candidates[2].tolist() == [0]
    assert sampler(classes=(2, 3), min_pixels=16).left_out == (2,)
    assert sampler(classes=(2, 3), min_pixels=15).left_out == ()


def test_bad_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="more than 100 pixels"):
        sampler(min_pixels=100)
    with pytest.raises(ValueError, match="temperature 0"):
        sampler(temperature=0)
    with pytest.raises(ValueError, match="must be"):
        RareCropSampler(HISTOGRAMS, POSITIONS[:2])
    with pytest.raises(ValueError, match=r"positions\[1\] stores no pixel of class 2"):
        RareCropSampler(HISTOGRAMS, [POSITIONS[0], {}, *POSITIONS[2:]], classes=(2,))
    with pytest.raises(ValueError, match="outside the image"):
        place_window((48, 0), WINDOW, SHAPE, generator())


@given(st.data())
def test_the_window_holds_the_pixel_and_stays_inside(data: st.DataObject) -> None:
    shape = data.draw(st.tuples(st.integers(1, 40), st.integers(1, 40)))
    window = data.draw(st.tuples(st.integers(1, 50), st.integers(1, 50)))
    pixel = tuple(data.draw(st.integers(0, extent - 1)) for extent in shape)
    corner = place_window(pixel, window, shape, generator(data.draw(st.integers(0, 99))))  # type: ignore[arg-type]
    for place, first, size, extent in zip(pixel, corner, window, shape):
        assert first <= place < first + size
        assert first >= 0
        assert first + size <= extent or first == 0


def test_the_pixel_is_anywhere_in_the_window() -> None:
    rng = generator(2)
    corners = {place_window((24, 32), (3, 4), SHAPE, rng) for _ in range(500)}
    assert corners == {(top, left) for top in (22, 23, 24) for left in (29, 30, 31, 32)}
    anywhere = {random_window((47, 63), SHAPE, rng) for _ in range(100)}
    assert anywhere == {(0, 0), (0, 1), (1, 0), (1, 1)}
    assert random_window((100, 100), SHAPE, rng) == (0, 0)


def cropped(corner: tuple[int, int], image: int) -> NDArray[np.int64]:
    top, left = corner
    crop = IMAGES[image][top : top + WINDOW[0], left : left + WINDOW[1]]
    return np.bincount(crop.ravel(), minlength=5)


def test_exposure_agrees_with_crops_of_the_label_images() -> None:
    rule, rng, draws = sampler(), generator(3), 3000
    uniform, rare = np.zeros((draws, 5)), np.zeros((draws, 5))
    for row in range(draws):
        uniform[row] = cropped(random_window(WINDOW, SHAPE, rng), row % 4)
        crop = rule.draw(rng)
        rare[row] = cropped(place_window((crop.row, crop.column), WINDOW, SHAPE, rng), crop.image)
    exposure = measure_exposure(rule, [SHAPE] * 4, WINDOW, generator(4), fraction=0.5, draws=3000)
    area = WINDOW[0] * WINDOW[1]
    np.testing.assert_allclose(exposure.shares_uniform, uniform.mean(axis=0) / area, atol=0.03)
    np.testing.assert_allclose(exposure.shares_rare[:2], rare.mean(axis=0)[:2] / area, atol=0.05)
    np.testing.assert_allclose(exposure.shares_rare[2:], rare.mean(axis=0)[2:] / area, atol=0.005)
    np.testing.assert_allclose(exposure.contains_uniform, (uniform > 0).mean(axis=0), atol=0.05)
    np.testing.assert_allclose(exposure.contains_rare, (rare > 0).mean(axis=0), atol=0.05)
    assert (exposure.contains_rare >= rule.probabilities - 0.03).all()
    assert exposure.presented.sum() == pytest.approx(1)
    np.testing.assert_allclose(exposure.presented, (exposure.shares_uniform + exposure.shares_rare) / 2)
    assert exposure.presented[2] > 3 * exposure.shares_uniform[2]


def test_few_stored_pixels_stand_for_the_whole_class() -> None:
    rng = generator(5)
    thinned = [
        {
            c: pixels if len(pixels) <= 16 else pixels[rng.permutation(len(pixels))[:256]]
            for c, pixels in image.items()
        }
        for image in POSITIONS
    ]
    full = measure_exposure(sampler(), [SHAPE] * 4, WINDOW, generator(6), fraction=1, draws=1500)
    rule = RareCropSampler(HISTOGRAMS, thinned, classes=(2, 3), temperature=0.01)
    thin = measure_exposure(rule, [SHAPE] * 4, WINDOW, generator(6), fraction=1, draws=1500)
    np.testing.assert_allclose(thin.presented, full.presented, atol=0.04)


def test_classes_without_stored_pixels_are_spread_evenly() -> None:
    rule = RareCropSampler(HISTOGRAMS[:, :4], [{2: p[2]} if 2 in p else {} for p in POSITIONS], classes=(2,))
    exposure = measure_exposure(rule, [SHAPE] * 4, WINDOW, generator(7), fraction=0, draws=2000)
    natural = HISTOGRAMS[:, :4].sum(axis=0) / HISTOGRAMS.sum()
    np.testing.assert_allclose(exposure.presented, natural, atol=0.02)


def test_expected_crops_and_their_lines() -> None:
    exposure = measure_exposure(sampler(), [SHAPE] * 4, WINDOW, generator(8), fraction=0.25, draws=200)
    without, under = exposure.expected_crops(400)
    np.testing.assert_allclose(without, 400 * exposure.contains_uniform)
    np.testing.assert_allclose(under, 300 * exposure.contains_uniform + 100 * exposure.contains_rare)
    lines = exposure.lines(400, (2,), ["a", "b", "person", "d", "e"])
    assert "crops of 400" in lines[0]
    assert "person" in lines[1]
    assert f"{without[2]:.1f}" in lines[1]
    assert f"{under[2]:.1f}" in lines[1]


def test_exposure_arguments_are_checked() -> None:
    with pytest.raises(ValueError, match="fraction 2"):
        measure_exposure(sampler(), [SHAPE] * 4, WINDOW, generator(), fraction=2)
    with pytest.raises(ValueError, match="shapes holds 1"):
        measure_exposure(sampler(), [SHAPE], WINDOW, generator(), fraction=0.5)
