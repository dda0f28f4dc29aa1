"""Boxes lie inside the frame and are as large as asked."""

import numpy as np
import pytest

from common.augmentation import draw_boxes, pixel_boxes
from common.engine.randomness import generator_for


def test_boxes_lie_inside_and_are_at_most_as_large_as_asked() -> None:
    boxes = draw_boxes(generator_for(1), 2000, largest=0.2)
    sides = boxes[:, 2:] - boxes[:, :2]
    assert boxes.min() >= 0
    assert boxes.max() <= 1
    assert sides.min() == pytest.approx(0.1, abs=0.001)
    assert sides.max() == pytest.approx(0.2, abs=0.001)
    assert boxes[:, 0].max() > 0.85
    assert draw_boxes(generator_for(1), 0, largest=0.2).shape == (0, 4)


def test_shares_become_pixels() -> None:
    boxes = np.array([[0.1, 0.5, 0.24, 0.76]])
    assert pixel_boxes(boxes, 100, 50).tolist() == [[10, 25, 24, 38]]


@pytest.mark.parametrize(("count", "largest"), [(-1, 0.2), (1, 1.2), (1, -0.1)])
def test_values_that_cannot_be(count: int, largest: float) -> None:
    with pytest.raises(ValueError, match=r"count is|largest is"):
        draw_boxes(generator_for(1), count, largest=largest)
