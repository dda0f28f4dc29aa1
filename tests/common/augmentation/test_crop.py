"""A crop shows the box it says."""

import numpy as np
import pytest

from common.augmentation import Crop, draw_crop
from common.engine.randomness import generator_for


def shown(crop: Crop, x: float, y: float, height: int = 100, width: int = 200) -> list[float]:
    return (crop.matrix(height, width) @ [x, y, 1]).tolist()


def test_the_neutral_crop_shows_every_place_where_it_is() -> None:
    np.testing.assert_array_equal(Crop().matrix(37, 53), [[1, 0, 0], [0, 1, 0]])
    assert Crop(1.0, 0.1, 0.9).is_neutral
    np.testing.assert_allclose(Crop(1.0, 0.1, 0.9).matrix(37, 53), [[1, 0, 0], [0, 1, 0]], atol=1e-12)


@pytest.mark.parametrize(
    ("crop", "corner"),
    [(Crop(0.5, 0, 0), (0, 0)), (Crop(0.5, 1, 1), (100, 50)), (Crop(0.5, 0.5, 0), (50, 0))],
)
def test_corners_of_the_result_are_corners_of_the_box(crop: Crop, corner: tuple[float, float]) -> None:
    # edges of pixels, half a pixel outside of their centres
    assert shown(crop, -0.5, -0.5) == pytest.approx([corner[0] - 0.5, corner[1] - 0.5])
    assert shown(crop, 199.5, 99.5) == pytest.approx([corner[0] + 99.5, corner[1] + 49.5])


def test_a_turn_is_clockwise_about_the_middle_and_keeps_lengths() -> None:
    crop = Crop(angle=90.0)
    assert shown(crop, 99.5, 49.5) == pytest.approx([99.5, 49.5])
    # what stood above the middle stands to the right of it
    assert shown(crop, 99.5 + 10, 49.5) == pytest.approx([99.5, 49.5 - 10])


def test_draws_reach_the_whole_range_and_nothing_beyond() -> None:
    rng = generator_for(1, "crop")
    crops = [draw_crop(rng, smallest=0.6, angle=8) for _ in range(4000)]
    for name, low, high in (("scale", 0.6, 1), ("x", 0, 1), ("y", 0, 1), ("angle", -8, 8)):
        values = np.array([getattr(crop, name) for crop in crops])
        assert low <= values.min()
        assert values.max() <= high
        assert values.min() == pytest.approx(low, abs=0.01 * (high - low))
        assert values.max() == pytest.approx(high, abs=0.01 * (high - low))
        assert values.mean() == pytest.approx((low + high) / 2, abs=0.03 * (high - low))


def test_strength_zero_is_neutral_and_leaves_the_other_draws() -> None:
    assert draw_crop(generator_for(2), smallest=1.0).is_neutral
    straight, turned = (
        draw_crop(generator_for(2), smallest=0.7),
        draw_crop(generator_for(2), smallest=0.7, angle=5),
    )
    assert (straight.scale, straight.x, straight.y) == (turned.scale, turned.x, turned.y)
    assert straight.angle == 0 != turned.angle


@pytest.mark.parametrize(("smallest", "angle"), [(0.0, 0.0), (1.1, 0.0), (0.5, -1.0)])
def test_values_that_cannot_be(smallest: float, angle: float) -> None:
    with pytest.raises(ValueError, match=r"smallest is|angle is"):
        draw_crop(generator_for(1), smallest=smallest, angle=angle)
