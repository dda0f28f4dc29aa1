"""Brightness, contrast and noise: one draw per clip, within [0, 1], nothing at strength 0."""

import numpy as np
import pytest

from common.augmentation import (
    Photometric,
    apply_photometric,
    draw_photometric,
    mean_level,
    noise_of,
    unit_range,
)
from common.engine.randomness import generator_for

CLIP = np.array([[0.1, 0.5], [0.6, 0.8]], np.float32)


def random_clip(frames: int = 150) -> np.ndarray:
    return generator_for(1, "clip").integers(0, 256, (frames, 4, 5, 3), dtype=np.uint8)


def test_hand_computed_values() -> None:
    np.testing.assert_allclose(
        apply_photometric(CLIP, Photometric(brightness=1.5)), [[0.15, 0.75], [0.9, 1.0]], rtol=1e-6
    )
    # mean 0.5: (0.1 - 0.5) 1.4 + 0.5 = -0.06 -> 0
    np.testing.assert_allclose(
        apply_photometric(CLIP, Photometric(contrast=1.4)), [[0.0, 0.5], [0.64, 0.92]], rtol=1e-6
    )
    # the mean of the brightened and clipped clip is 0.7
    np.testing.assert_allclose(
        apply_photometric(CLIP, Photometric(brightness=1.5, contrast=0.5)),
        [[0.425, 0.725], [0.8, 0.85]],
        rtol=1e-6,
    )
    assert mean_level(CLIP, Photometric(brightness=1.5)) == pytest.approx(0.7, rel=1e-6)


def test_neutral_parameters_change_no_bit_and_inputs_stay_as_they_are() -> None:
    assert apply_photometric(CLIP, Photometric()) is CLIP
    pixels = random_clip()
    np.testing.assert_array_equal(apply_photometric(pixels, Photometric()), pixels.astype(np.float32) / 255)
    before = CLIP.copy()
    apply_photometric(CLIP, Photometric(0.5, 1.5, 0.1, 3))
    mean_level(CLIP, Photometric(0.5))
    np.testing.assert_array_equal(CLIP, before)


def test_noise_is_float32_of_the_asked_size_and_follows_its_key() -> None:
    grey = np.full((20, 8, 8, 3), 0.5, np.float32)
    noisy = apply_photometric(grey, Photometric(noise_std=0.02, noise_key=5))
    assert noisy.dtype == np.float32
    assert (noisy - grey).std() == pytest.approx(0.02, rel=0.05)
    assert abs((noisy - grey).mean()) < 0.002
    assert not np.array_equal(noisy[0], noisy[1])
    np.testing.assert_array_equal(noisy, apply_photometric(grey, Photometric(noise_std=0.02, noise_key=5)))
    assert not np.array_equal(noisy, apply_photometric(grey, Photometric(noise_std=0.02, noise_key=6)))


def test_results_stay_within_range() -> None:
    changed = apply_photometric(random_clip(), Photometric(1.3, 1.9, 0.5, 1))
    assert (changed.min(), changed.max()) == (0, 1)


def test_parts_of_a_clip_change_like_the_whole() -> None:
    clip, params = random_clip(), Photometric(1.2, 1.3, 0.05, 9)
    level, noise = mean_level(clip, params), noise_of(params)
    parts = [apply_photometric(clip[a : a + 37], params, level=level, noise=noise) for a in range(0, 150, 37)]
    np.testing.assert_array_equal(np.concatenate(parts), apply_photometric(clip, params))


def test_floats_and_pixels_give_the_same() -> None:
    clip, params = random_clip(), Photometric(0.8, 1.2, 0.02, 4)
    np.testing.assert_array_equal(
        apply_photometric(clip, params), apply_photometric(unit_range(clip), params)
    )


def test_draws_follow_strength_and_probability() -> None:
    rng = generator_for(4, "draws")
    draws = [
        draw_photometric(
            rng, brightness=0.2, contrast=0.3, noise_std=0.02, brightness_p=0.5, contrast_p=0.5, noise_p=0.3
        )
        for _ in range(3000)
    ]
    for name, strength in (("brightness", 0.2), ("contrast", 0.3)):
        factors = np.array([getattr(draw, name) for draw in draws])
        active = factors[factors != 1]
        assert len(active) / 3000 == pytest.approx(0.5, abs=0.04)
        assert active.min() == pytest.approx(1 - strength, abs=0.01)
        assert active.max() == pytest.approx(1 + strength, abs=0.01)
        assert active.mean() == pytest.approx(1, abs=0.01)
    assert np.mean([draw.noise_std > 0 for draw in draws]) == pytest.approx(0.3, abs=0.035)
    assert len({draw.noise_key for draw in draws}) == 3000


def test_strength_zero_is_neutral_and_leaves_the_other_draws() -> None:
    def draw(brightness: float) -> Photometric:
        return draw_photometric(generator_for(8), brightness=brightness, contrast=0.3, noise_std=0.1)

    assert draw_photometric(generator_for(8)).is_neutral
    off, on = draw(0.0), draw(0.2)
    assert off.brightness == 1 != on.brightness
    assert (off.contrast, off.noise_key) == (on.contrast, on.noise_key)


@pytest.mark.parametrize("name", ["brightness", "contrast", "noise_std", "noise_p"])
def test_values_that_cannot_be(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} is -0.1"):
        draw_photometric(generator_for(1), **{name: -0.1})
    with pytest.raises(ValueError, match=r"brightness is 1\.5"):
        draw_photometric(generator_for(1), brightness=1.5)
