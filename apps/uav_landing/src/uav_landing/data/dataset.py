"""Training crops, whole photos for validation, and the class counts of a split."""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset, get_worker_info

from common.balancing.crops import RareCropSampler, place_window, random_window
from common.engine.randomness import SampleKey, generator_for
from common.statistics import ClassStatistics
from uav_landing.config import CropConfig
from uav_landing.data.masks import apply_lookup
from uav_landing.data.store import Store
from uav_landing.labels import IGNORE

if TYPE_CHECKING:
    from uav_landing.data.augment import Augmentation

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)

Pixels = NDArray[np.uint8]
Sample = dict[str, Any]


class Window(NamedTuple):
    """Where a crop is taken: the photo's place in `ids`, corner and size in store pixels.

    `rare` is the fine id it was drawn for, or None.
    """

    photo: int
    top: int
    left: int
    height: int
    width: int
    rare: int | None


class CropDataset(Dataset[Sample]):
    """Fresh random crops of stored photos: `crops_per_image` slots per photo, drawn anew every epoch.

    Sample i is slot i mod `crops_per_image` of photo i div `crops_per_image`; where it is cut and how it is
    augmented depend on (seed, epoch, photo, slot) alone. With `mosaic_p`, some are made of four photos.
    `lookup` uint8 [256] turns fine ids into targets, 255 ignored. With `rare`, a share of the slots is cut
    around one of its pixels instead, in any photo.

    A sample is {image: float32 [3, H, W] normalised, target: int64 [H, W], index: place of the photo in
    `ids`}.
    """

    def __init__(
        self,
        store: Store,
        ids: Sequence[str],
        lookup: NDArray[np.uint8],
        config: CropConfig,
        seed: int,
        rare: RareCropSampler | None = None,
    ) -> None:
        self.store, self.ids, self.lookup = store, tuple(ids), lookup
        self.config, self.seed, self.rare = config, seed, rare
        self._augment = _augmentation(config) if config.augment else None

    def __len__(self) -> int:
        return len(self.ids) * self.config.crops_per_image

    def __getitem__(self, key: SampleKey) -> Sample:
        _keep_opencv_single_threaded()
        rng = self._rng(key)
        window = self._draw(key, rng)
        if window.rare is None and self.config.mosaic_p and rng.random() < self.config.mosaic_p:
            image, labels = self._mosaic(window.photo, rng)
        else:
            image, labels = self._cut(window, self.config.input_size, rng)
        target = apply_lookup(np.ascontiguousarray(labels), self.lookup)
        return {
            "image": normalise(image),
            "target": torch.from_numpy(target).long(),
            "index": window.photo,
        }

    def _cut(self, window: Window, size: tuple[int, int], rng: np.random.Generator) -> tuple[Pixels, Pixels]:
        image, labels = cut(self.store, self.ids[window.photo], window, size)
        return (image, labels) if self._augment is None else self._augment(image, labels, rng)

    def _mosaic(self, photo: int, rng: np.random.Generator) -> tuple[Pixels, Pixels]:
        """Return a crop whose quarters come from `photo` and three photos drawn anew, each at its scale."""
        size = (self.config.input_size[0] // 2, self.config.input_size[1] // 2)
        photos = rng.permutation([photo, *rng.integers(len(self.ids), size=3).tolist()]).tolist()
        parts = [self._cut(self._random_window(each, size, rng), size, rng) for each in photos]
        image, labels = (
            np.concatenate([np.concatenate(row, axis=1) for row in (planes[:2], planes[2:])])
            for planes in zip(*parts)
        )
        return image, labels

    def window(self, key: SampleKey) -> Window:
        """Return where the crop of `key` is taken; of a mosaic, where it would be taken in one piece."""
        return self._draw(key, self._rng(key))

    @functools.cached_property
    def padded(self) -> tuple[str, ...]:
        """Photos smaller than the largest window: crops of these may be padded."""
        height, width = _window_size(self.config.input_size, self.config.scale_range[0])
        return tuple(
            photo
            for photo in self.ids
            if self.store.shape(photo)[0] < height or self.store.shape(photo)[1] < width
        )

    def _rng(self, key: SampleKey) -> np.random.Generator:
        photo, slot = divmod(key.index, self.config.crops_per_image)
        if not 0 <= photo < len(self.ids):
            raise IndexError(f"crop {key.index} of {len(self)}")
        # draws beyond the epoch, made to give every rank equally many, are laps of their own
        return generator_for(self.seed, "crop", key.epoch, photo, slot, key.draw // len(self))

    def _draw(self, key: SampleKey, rng: np.random.Generator) -> Window:
        size = self._scaled(self.config.input_size, rng)
        if self.rare is not None and rng.random() < self.config.rare_crop_fraction:
            crop = self.rare.draw(rng)
            shape = self.store.shape(self.ids[crop.image])
            top, left = place_window((crop.row, crop.column), size, shape, rng)
            return Window(crop.image, top, left, *size, crop.class_id)
        photo = key.index // self.config.crops_per_image
        return self._window_in(photo, size, rng)

    def _random_window(self, photo: int, size: tuple[int, int], rng: np.random.Generator) -> Window:
        return self._window_in(photo, self._scaled(size, rng), rng)

    def _scaled(self, size: tuple[int, int], rng: np.random.Generator) -> tuple[int, int]:
        low, high = self.config.scale_range
        return _window_size(size, math.exp(rng.uniform(math.log(low), math.log(high))))

    def _window_in(self, photo: int, size: tuple[int, int], rng: np.random.Generator) -> Window:
        top, left = random_window(size, self.store.shape(self.ids[photo]), rng)
        return Window(photo, top, left, *size, None)


class PhotoDataset(Dataset[Sample]):
    """Whole photos at store scale, for validation by sliding window with batches of one.

    A sample is {image: float32 [3, H, W] normalised, target: int64 [H, W], index: place of the photo in
    `ids`}.
    """

    def __init__(self, store: Store, ids: Sequence[str], lookup: NDArray[np.uint8]) -> None:
        self.store, self.ids, self.lookup = store, tuple(ids), lookup

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, key: SampleKey | int) -> Sample:
        _keep_opencv_single_threaded()
        index = key.index if isinstance(key, SampleKey) else key
        photo = self.ids[index]
        return {
            "image": normalise(self.store.image(photo)),
            "target": torch.from_numpy(apply_lookup(self.store.labels(photo), self.lookup)).long(),
            "index": index,
        }


def cut(store: Store, photo: str, window: Window, size: tuple[int, int]) -> tuple[Pixels, Pixels]:
    """Return RGB uint8 [H, W, 3] and fine ids uint8 [H, W] of a window, resized to `size` (H, W).

    Where the window leaves the photo at the bottom or right, the image is reflected and the labels are 255.
    Only the image is ever interpolated: area when it shrinks, linear when it grows; labels take the nearest
    pixel.
    """
    rows = slice(window.top, window.top + window.height)
    columns = slice(window.left, window.left + window.width)
    image = store.image(photo)[rows, columns]
    labels = store.labels(photo)[rows, columns]
    below, beside = window.height - labels.shape[0], window.width - labels.shape[1]
    if below or beside:
        image = np.asarray(cv2.copyMakeBorder(image, 0, below, 0, beside, cv2.BORDER_REFLECT_101))
        labels = np.pad(labels, ((0, below), (0, beside)), constant_values=IGNORE)
    if (window.height, window.width) != size:
        shrinks = window.height * window.width > size[0] * size[1]
        blend = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        image = np.asarray(cv2.resize(image, size[::-1], interpolation=blend))
        labels = np.asarray(cv2.resize(labels, size[::-1], interpolation=cv2.INTER_NEAREST))
    return np.ascontiguousarray(image), np.ascontiguousarray(labels)


def normalise(image: Pixels) -> Tensor:
    """Return RGB uint8 [H, W, 3] as float32 [3, H, W]: (value / 255 - mean) / std of ImageNet."""
    planes = np.empty((3, *image.shape[:2]), dtype=np.float32)
    for channel, (mean, std) in enumerate(zip(MEAN, STD)):
        values = ((np.arange(256) / 255 - mean) / std).astype(np.float32)
        cv2.LUT(np.ascontiguousarray(image[..., channel]), values, dst=planes[channel])
    return torch.from_numpy(planes)


def train_statistics(
    store: Store,
    ids: Sequence[str],
    lookup: NDArray[np.uint8],
    num_classes: int,
    *,
    names: Sequence[str] | None = None,
    split: str = "train",
) -> ClassStatistics:
    """Count the target pixels of the photos from the stored histograms; one group per photo."""
    fine = np.stack([store.histogram(photo) for photo in ids])
    groups = fine @ (lookup[:, None] == np.arange(num_classes)).astype(np.int64)
    return ClassStatistics.from_counts(
        groups.sum(axis=0),
        names=names,
        unit="pixel",
        split=split,
        ignored=int(fine[:, lookup == IGNORE].sum()),
        group_counts=groups,
    )


def _window_size(size: tuple[int, int], scale: float) -> tuple[int, int]:
    return max(1, round(size[0] / scale)), max(1, round(size[1] / scale))


def _augmentation(config: CropConfig) -> Augmentation:
    # two seconds of import, so only where crops are drawn, and before loader workers are forked
    from uav_landing.data.augment import Augmentation

    return Augmentation(config)


def _keep_opencv_single_threaded() -> None:
    """Loader workers are forked: OpenCV's thread pool does not survive that, and cores are taken already."""
    if get_worker_info() is not None:
        cv2.setNumThreads(0)
