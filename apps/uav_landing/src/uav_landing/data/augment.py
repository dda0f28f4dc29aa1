"""Augmentation of a crop and its labels, drawn from the crop's own generator."""

from __future__ import annotations

import os
import random

import numpy as np
from numpy.typing import NDArray

from uav_landing.config import CropConfig

# read once, on import: without it the package looks for a newer version over the network
os.environ["NO_ALBUMENTATIONS_UPDATE"] = "1"

import albumentations as A

Pixels = NDArray[np.uint8]

LIMIT = 0.2
HUE_LIMIT = 8
"""In OpenCV's units of 2 degrees."""
SATURATION_LIMIT = 30
"""Of 255."""


class HalfTurn(A.RandomRotate90):  # type: ignore[misc,unused-ignore]
    """A turn by 0 or 180 degrees, which keeps the shape of a crop that is not square."""

    def get_params(self) -> dict[str, int]:
        """Return the number of quarter turns."""
        return {"factor": 2 * self.py_random.randint(0, 1)}


class Augmentation:
    """Horizontal flip, quarter turn, brightness and contrast, hue and saturation, each with its probability.

    A turn is drawn from 0, 90, 180 and 270 degrees, for crops that are not square from 0 and 180.
    """

    def __init__(self, config: CropConfig) -> None:
        height, width = config.input_size
        turn = A.RandomRotate90 if height == width else HalfTurn
        jitter = A.HueSaturationValue(
            hue_shift_limit=HUE_LIMIT,
            sat_shift_limit=SATURATION_LIMIT,
            val_shift_limit=0,
            p=config.color_jitter_p,
        )
        self._compose = A.Compose(
            [
                A.HorizontalFlip(p=config.hflip_p),
                turn(p=config.rot90_p),
                A.RandomBrightnessContrast(
                    brightness_limit=LIMIT, contrast_limit=LIMIT, p=config.brightness_contrast_p
                ),
                *([jitter] if config.color_jitter_p else []),
            ],
            seed=0,
        )

    def __call__(self, image: Pixels, labels: Pixels, rng: np.random.Generator) -> tuple[Pixels, Pixels]:
        """Return the augmented RGB uint8 [H, W, 3] and labels [H, W].

        All transforms draw from one stream: seeding the composition instead would give each transform the
        same first number, so that a turned crop would always be flipped too.
        """
        self._compose.set_random_state(rng, random.Random(int(rng.integers(2**63))))
        result = self._compose(image=image, mask=labels)
        return result["image"], result["mask"]
