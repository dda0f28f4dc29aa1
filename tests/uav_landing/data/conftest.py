"""Tiny data sets in the layouts of the real ones."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from uav_landing.config import DataConfig
from uav_landing.data.readers import PhotoSet, find_photos

IDS = (0, 1, 3, 8, 15, 17)


def write_photo(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


def make_scene(
    seed: int, height: int, width: int, ids: tuple[int, ...] = IDS
) -> tuple[np.ndarray, np.ndarray]:
    """Return a photo and a mask of 8 x 8 blocks; red holds the row, green the column, blue the fine id."""
    rng = np.random.default_rng(seed)
    blocks = rng.choice(ids, size=(-(-height // 8), -(-width // 8))).astype(np.uint8)
    labels = blocks.repeat(8, axis=0).repeat(8, axis=1)[:height, :width]
    rows, columns = np.mgrid[:height, :width].astype(np.uint8)
    return np.stack([rows, columns, labels * 10], axis=-1), labels


@pytest.fixture
def write_pair() -> Callable[..., None]:
    """Write a scene as photo and mask; the photo is lossless so that pixels can be compared."""

    def write(
        image: Path, mask: Path, *, seed: int = 0, shape: tuple[int, int] = (96, 128), **options: object
    ):
        photo, labels = make_scene(seed, *shape, **options)
        write_photo(image, photo)
        write_photo(mask, labels)

    return write


@pytest.fixture
def sdd_root(tmp_path: Path, write_pair: Callable[..., None]) -> Path:
    """Six photos of 96 x 128 in the Kaggle layout of the Semantic Drone Dataset."""
    root = tmp_path / "photos"
    for number in range(6):
        name = f"{number:03d}"
        write_pair(
            root / "original_images" / f"{name}.png",
            root / "label_images_semantic" / f"{name}.png",
            seed=number,
        )
    return root


@pytest.fixture
def photos(sdd_root: Path) -> PhotoSet:
    return find_photos(DataConfig(dataset_path=sdd_root))
