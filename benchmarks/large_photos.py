"""Generated photos of 24 Mpx in the layout of the documented data set."""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from uav_landing.synthetic import make_scene

Pixels = NDArray[np.uint8]

SHAPE = (4000, 6000)
SMALL_SHAPE = (640, 960)
DIFFERENT = 4
NOISE = 6.0
JPEG_QUALITY = 92


def shape(small: bool) -> tuple[int, int]:
    """Return the (height, width) of a photo."""
    return SMALL_SHAPE if small else SHAPE


def make_photo(index: int, size: tuple[int, int]) -> tuple[Pixels, Pixels]:
    """Return RGB [H, W, 3] with sensor noise and fine ids [H, W]: an enlarged generated scene."""
    image, labels = _scene(index)
    height, width = size
    large = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR)
    noise = np.empty(large.shape, dtype=np.int8)
    cv2.setRNGSeed(index)
    cv2.randn(noise, np.zeros(3), np.full(3, NOISE))
    noisy = cv2.add(large, noise, dtype=cv2.CV_8U)
    return np.asarray(noisy), np.asarray(cv2.resize(labels, (width, height), interpolation=cv2.INTER_NEAREST))


def write_photos(root: Path, count: int, size: tuple[int, int]) -> Path:
    """Write `count` pairs under `root` and return it; beyond the fourth they are links to the first ones."""
    images, masks = root / "original_images", root / "label_images_semantic"
    for folder in (images, masks):
        folder.mkdir(parents=True)
    for index in range(count):
        names = images / f"{index:03d}.jpg", masks / f"{index:03d}.png"
        if index >= DIFFERENT:
            for name in names:
                os.link(name.with_stem(f"{index % DIFFERENT:03d}"), name)
            continue
        image, labels = make_photo(index, size)
        cv2.imwrite(str(names[0]), image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        cv2.imwrite(str(names[1]), labels)
    return root


@cache
def _scene(index: int) -> tuple[Pixels, Pixels]:
    return make_scene(0, index)
