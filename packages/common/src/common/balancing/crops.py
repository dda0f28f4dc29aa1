"""Crops around pixels of rare classes, and what such crops present to the loss."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from common.statistics import Counts, Shares

Positions = Sequence[Mapping[int, NDArray[np.integer]]]


class RareCrop(NamedTuple):
    """A pixel (row, column) of class `class_id` in image `image`; the crop must contain it."""

    class_id: int
    image: int
    row: int
    column: int


class RareCropSampler:
    """Draws a class, the rarer the likelier, then an image that holds it, then a pixel of it.

    `histograms` int64 [G, C] are the pixels per image and class, `positions[image][class]` stored pixels,
    int [M, 2] as (row, column). With f_c the share of class c in all pixels of `histograms`, P(c) =
    softmax((1 - f_c) / temperature) over the eligible classes (rare class sampling, Hoyer 2022); the image
    is uniform among those with more than `min_pixels` pixels of c, the pixel uniform among those stored.

    A class is eligible when it is in `classes` (None: all) and at least one image qualifies; `left_out`
    lists those asked for that are not. ValueError when no class is eligible or a qualifying image stores no
    pixel.
    """

    def __init__(
        self,
        histograms: ArrayLike,
        positions: Positions,
        *,
        classes: Sequence[int] | None = None,
        temperature: float = 0.01,
        min_pixels: int = 0,
    ) -> None:
        self.histograms: Counts = np.asarray(histograms, dtype=np.int64)
        self.positions = positions
        if self.histograms.ndim != 2 or len(positions) != len(self.histograms):
            raise ValueError(
                f"histograms {self.histograms.shape} must be [G, C], with G = {len(positions)} of positions"
            )
        if not temperature > 0 or min_pixels < 0:
            raise ValueError(f"temperature {temperature} must be > 0 and min_pixels {min_pixels} >= 0")
        asked = range(self.histograms.shape[1]) if classes is None else classes
        candidates = {c: np.flatnonzero(self.histograms[:, c] > min_pixels) for c in asked}
        self.candidates = {c: images for c, images in candidates.items() if len(images)}
        self.left_out = tuple(c for c in candidates if c not in self.candidates)
        if not self.candidates:
            raise ValueError(f"no image holds more than {min_pixels} pixels of a class of {list(asked)}")
        for class_id, images in self.candidates.items():
            self._require_positions(class_id, images)
        self.probabilities = self._softmax(temperature)
        self._ids = np.array(list(self.candidates))
        self._cumulative = np.cumsum(self.probabilities[self._ids])

    def draw(self, rng: np.random.Generator) -> RareCrop:
        """Draw one pixel that the crop must contain."""
        place = np.searchsorted(self._cumulative, rng.random() * self._cumulative[-1], side="right")
        class_id = int(self._ids[min(int(place), len(self._ids) - 1)])
        images = self.candidates[class_id]
        image = int(images[rng.integers(len(images))])
        stored = self.positions[image][class_id]
        row, column = stored[rng.integers(len(stored))]
        return RareCrop(class_id, image, int(row), int(column))

    def _require_positions(self, class_id: int, images: NDArray[np.intp]) -> None:
        for image in images.tolist():
            if not len(self.positions[image].get(class_id, ())):
                raise ValueError(f"positions[{image}] stores no pixel of class {class_id}, which it holds")

    def _softmax(self, temperature: float) -> Shares:
        shares = self.histograms.sum(axis=0) / self.histograms.sum()
        ids = np.array(list(self.candidates))
        scores = np.exp((shares[ids].min() - shares[ids]) / temperature)
        probabilities = np.zeros(len(shares))
        probabilities[ids] = scores / scores.sum()
        return probabilities


def place_window(
    pixel: tuple[int, int], window: tuple[int, int], shape: tuple[int, int], rng: np.random.Generator
) -> tuple[int, int]:
    """Return (top, left) of a window (height, width) of an image `shape` that contains `pixel` (row, column).

    The pixel lies at a random place of the window, which is then moved inside the image; along an axis where
    the image is smaller than the window it begins at 0, for the caller to pad. ValueError when the pixel
    lies outside.
    """
    corner = []
    for place, size, extent in zip(pixel, window, shape):
        if not 0 <= place < extent:
            raise ValueError(f"pixel {pixel} lies outside the image {shape}")
        first = place - int(rng.integers(size))
        corner.append(min(max(first, 0), max(extent - size, 0)))
    return corner[0], corner[1]


def random_window(
    window: tuple[int, int], shape: tuple[int, int], rng: np.random.Generator
) -> tuple[int, int]:
    """Return (top, left) of a window anywhere in the image, at 0 along an axis that is too small."""
    top, left = (int(rng.integers(max(extent - size, 0) + 1)) for size, extent in zip(window, shape))
    return top, left


@dataclass(frozen=True, kw_only=True)
class Exposure:
    """What a crop is expected to show, without the rule and with it: all float64 [C].

    `contains_*` is the probability that a crop holds a pixel of the class, `shares_*` the expected share of
    its labelled pixels; `fraction` of the crops follow the rule.
    """

    fraction: float
    contains_uniform: Shares
    contains_rare: Shares
    shares_uniform: Shares
    shares_rare: Shares

    @property
    def presented(self) -> Shares:
        """Expected label shares of the mixture, to be handed to class weights and the balance budget."""
        return self._mix(self.shares_uniform, self.shares_rare)

    def expected_crops(self, crops: int) -> tuple[Shares, Shares]:
        """Return the expected number of `crops` that contain each class, (without, with) the rule."""
        return crops * self.contains_uniform, crops * self._mix(self.contains_uniform, self.contains_rare)

    def lines(self, crops: int, classes: Sequence[int], names: Sequence[str] | None = None) -> list[str]:
        """Return one line per class of `classes`: expected crops per epoch without and with the rule."""
        without, under = self.expected_crops(crops)
        head = (
            f"crops of {crops} that contain a class: without rare crops -> with (fraction {self.fraction:g})"
        )
        rows = [
            f"  {c:4d} {'' if names is None else names[c]:<16} {without[c]:10.1f} -> {under[c]:10.1f}"
            for c in classes
        ]
        return [head, *rows]

    def _mix(self, uniform: Shares, rare: Shares) -> Shares:
        return (1 - self.fraction) * uniform + self.fraction * rare


def measure_exposure(
    sampler: RareCropSampler,
    shapes: Sequence[tuple[int, int]],
    window: tuple[int, int],
    rng: np.random.Generator,
    *,
    fraction: float,
    draws: int = 2000,
) -> Exposure:
    """Estimate from histograms and stored pixels alone what uniform and rare crops present.

    `draws` windows of each kind are placed; uniform ones have an image drawn uniformly. A window is taken to
    hold n_gc x (share of the stored pixels of class c in image g that lie inside) pixels of c, which is
    unbiased when the stored pixels are a uniform sample of the class. Where a class has pixels but none
    stored, its pixels are taken to be spread evenly, and the crop to contain it when at least half a pixel
    is expected. Containing is underestimated for a class that has more pixels than stored ones and touches
    the window with few of them. The relative error falls as 1 / sqrt(draws). Windows larger than the image
    hold all of it.
    """
    if not 0 <= fraction <= 1 or draws < 1:
        raise ValueError(f"fraction {fraction} must lie in 0..1 and draws {draws} be >= 1")
    if len(shapes) != len(sampler.histograms):
        raise ValueError(f"shapes holds {len(shapes)} images, histograms {len(sampler.histograms)}")
    images = [_Pixels(sampler, image, shape) for image, shape in enumerate(shapes)]
    uniform = _Tally(sampler.histograms.shape[1])
    rare = _Tally(sampler.histograms.shape[1])
    for _ in range(draws):
        image = int(rng.integers(len(images)))
        uniform.add(images[image].inside(random_window(window, shapes[image], rng), window))
        crop = sampler.draw(rng)
        corner = place_window((crop.row, crop.column), window, shapes[crop.image], rng)
        rare.add(images[crop.image].inside(corner, window))
    return Exposure(
        fraction=fraction,
        contains_uniform=uniform.contains / draws,
        contains_rare=rare.contains / draws,
        shares_uniform=uniform.shares / uniform.shares.sum(),
        shares_rare=rare.shares / rare.shares.sum(),
    )


class _Pixels:
    """The stored pixels of one image in flat arrays, each standing for `weight` pixels of its class."""

    def __init__(self, sampler: RareCropSampler, image: int, shape: tuple[int, int]) -> None:
        histogram, stored = sampler.histograms[image], sampler.positions[image]
        known = [int(c) for c in np.flatnonzero(histogram) if len(stored.get(int(c), ()))]
        sizes = [len(stored[c]) for c in known]
        places = [np.asarray(stored[c]) for c in known]
        pixels = np.concatenate([np.zeros((0, 2), dtype=np.int64), *places])
        self.rows, self.columns = pixels[:, 0], pixels[:, 1]
        self.classes = np.repeat(np.array(known, dtype=np.intp), sizes)
        self.weight = np.repeat(histogram[known] / np.maximum(sizes, 1), sizes)
        self.spread = np.where(np.isin(np.arange(len(histogram)), known), 0, histogram)
        self.shape = shape

    def inside(self, corner: tuple[int, int], window: tuple[int, int]) -> Shares:
        """Return the expected pixels [C] of each class in the window."""
        (top, left), (height, width) = corner, window
        hit = (self.rows >= top) & (self.rows < top + height)
        hit &= (self.columns >= left) & (self.columns < left + width)
        pixels = np.bincount(self.classes[hit], weights=self.weight[hit], minlength=len(self.spread))
        area = min(height, self.shape[0]) * min(width, self.shape[1]) / (self.shape[0] * self.shape[1])
        return np.asarray(pixels + area * self.spread)


class _Tally:
    """Sums over crops of the label shares and of which classes are contained."""

    def __init__(self, num_classes: int) -> None:
        self.contains, self.shares = np.zeros(num_classes), np.zeros(num_classes)

    def add(self, pixels: Shares) -> None:
        self.contains += pixels >= 0.5
        self.shares += pixels / max(float(pixels.sum()), 1.0)
