"""Brightness, contrast and saturation in one map: the same as one after the other."""

import numpy as np
import pytest
import torch
from torchvision.transforms.v2 import functional as oracle

from common.augmentation import ColourChange, draw_colour
from common.augmentation.clip_tensors import recolour_clips
from common.engine.randomness import generator_for

CLIP = 0.3 + 0.3 * torch.rand(1, 3, 2, 4, 5, generator=torch.Generator().manual_seed(1))
"""Values that no change below takes out of [0, 1]."""


def by_steps(change: ColourChange) -> torch.Tensor:
    """Change the frames, laid side by side as one picture, with torchvision."""
    picture = CLIP[0].transpose(1, 2).flatten(2)
    picture = oracle.adjust_brightness(picture, change.brightness)
    picture = oracle.adjust_contrast(picture, change.contrast)
    picture = oracle.adjust_saturation(picture, change.saturation)
    return picture.unflatten(2, (2, 5)).transpose(1, 2)[None]


@pytest.mark.parametrize(
    "change",
    [ColourChange(1.2), ColourChange(1, 0.7), ColourChange(1, 1, 1.4), ColourChange(0.8, 1.3, 0.6)],
)
def test_one_map_is_the_three_steps_of_torchvision(change: ColourChange) -> None:
    # torchvision rounds the share of red to .2989
    torch.testing.assert_close(recolour_clips(CLIP, [change]), by_steps(change), atol=2e-4, rtol=0)


def test_hand_computed_values() -> None:
    change = ColourChange(0.5, 2.0, 0.0)
    # no saturation: every channel is the grey .299 r + .587 g + .114 b, times 1/2 and 2
    np.testing.assert_allclose(change.linear @ [1, 0, 0], [0.299] * 3)
    assert change.lift == -0.5
    np.testing.assert_array_equal(ColourChange().linear, np.eye(3))
    assert ColourChange().lift == 0


def test_draws_follow_the_strength() -> None:
    rng = generator_for(1, "colour")
    changes = [draw_colour(rng, strength=0.3) for _ in range(3000)]
    for name in ("brightness", "contrast", "saturation"):
        factors = np.array([getattr(change, name) for change in changes])
        assert factors.min() == pytest.approx(0.7, abs=0.005)
        assert factors.max() == pytest.approx(1.3, abs=0.005)
        assert factors.mean() == pytest.approx(1, abs=0.015)
    assert draw_colour(rng, strength=0.0).is_neutral
    with pytest.raises(ValueError, match=r"strength is 1\.2"):
        draw_colour(rng, strength=1.2)
