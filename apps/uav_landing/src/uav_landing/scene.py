"""The canvas generated scenes are drawn on: a picture and its fine-id labels, always painted together."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

Mask = NDArray[np.bool_]
Point = tuple[int, int]
Color = tuple[float, float, float]

VOID, PAVED, DIRT, GRASS, GRAVEL, WATER, ROCKS, POOL, PLANTS, ROOF, WALL, WINDOW, DOOR = range(13)
FENCE, FENCE_POLE, PERSON, DOG, CAR, BICYCLE, TREE, BALD_TREE, MARKER, OBSTACLE = range(13, 23)
SAFE_IDS = (PAVED, DIRT, GRASS, GRAVEL)
CAUTION_IDS = (ROCKS, PLANTS, ROOF, MARKER)
SHADOW = 0.62
COARSE = 4
SOFT_EDGE, SOFT_SHADOW = 4, 8
GROUND_REACH = 200
_LANDING = np.full(24, 3, np.uint8)
_LANDING[list(SAFE_IDS)] = 1
_LANDING[list(CAUTION_IDS)] = 2


class Canvas:
    """A growing scene, or a window of one that shares its memory.

    `image` is float32 RGB 0..255 [H, W, 3], `labels` uint8 fine ids [H, W]; `rows` [H, 1] and `columns`
    [1, W] number the pixels; points are (x, y).
    """

    def __init__(
        self, image: NDArray[np.float32], labels: NDArray[np.uint8], rng: np.random.Generator
    ) -> None:
        self.image, self.labels, self.rng = image, labels, rng
        self.height, self.width = labels.shape
        self.rows = np.arange(self.height, dtype=np.float32)[:, None]
        self.columns = np.arange(self.width, dtype=np.float32)[None]

    @classmethod
    def lawn(cls, size: tuple[int, int], rng: np.random.Generator) -> Canvas:
        """Return a canvas of grass."""
        canvas = cls(np.zeros((*size, 3), np.float32), np.full(size, GRASS, np.uint8), rng)
        canvas.image[:] = canvas.grass()
        return canvas

    def around(self, at: Point, reach: int) -> tuple[Canvas, Point]:
        """Return the window up to `reach` pixels around `at`, and where `at` lies in it."""
        left, top = max(at[0] - reach, 0), max(at[1] - reach, 0)
        window = (slice(top, at[1] + reach + 1), slice(left, at[0] + reach + 1))
        return Canvas(self.image[window], self.labels[window], self.rng), (at[0] - left, at[1] - top)

    def noise(self, cell: float) -> NDArray[np.float32]:
        """Return smooth noise of mean 0 and deviation about 1 whose blobs are `cell` pixels wide."""
        shape = (int(self.height / cell) + 3, int(self.width / cell) + 3)
        coarse = self.rng.standard_normal(shape).astype(np.float32)
        size = (self.width, self.height)
        return np.asarray(cv2.resize(coarse, size, interpolation=cv2.INTER_CUBIC), np.float32)

    def textured(self, color: Color, *, fine: float, coarse: float, cell: float = 60) -> NDArray[np.float32]:
        """Return a full-size texture around `color`: grain of deviation `fine`, blotches of `coarse`."""
        shade = fine * self.noise(1.5) + coarse * self.noise(cell)
        return three([shade + np.float32(channel) for channel in color])

    def grass(self) -> NDArray[np.float32]:
        """Return lawn with mowing stripes and drier spots."""
        angle = self.rng.uniform(0, np.pi)
        along = self.columns * np.cos(angle) + self.rows * np.sin(angle)
        lawn = self.textured((92, 132, 58), fine=9, coarse=6, cell=90)
        lawn += three([5 * np.sign(np.sin(along / 16))] * 3)
        dry = three([0.5 * np.clip(self.noise(120) - 0.6, 0, 1)] * 3)
        return lawn + (np.full_like(lawn, (150, 140, 80)) - lawn) * dry

    def paving(self) -> NDArray[np.float32]:
        """Return grey slabs with dark joints, turned at random."""
        angle, slab = self.rng.uniform(0, np.pi), self.rng.uniform(16, 26)
        across = self.columns * np.cos(angle) + self.rows * np.sin(angle)
        along = -self.columns * np.sin(angle) + self.rows * np.cos(angle)
        slabs = self.textured((168, 163, 156), fine=5, coarse=5)
        row = np.floor(across / slab)
        along = along + slab / 2 * row
        joints = (across - slab * row < 1.6) | (along - slab * 1.5 * np.floor(along / (slab * 1.5)) < 1.6)
        slabs[joints] -= 38
        return slabs

    def gravel(self) -> NDArray[np.float32]:
        """Return speckled stone chips."""
        chips = self.textured((176, 165, 148), fine=6, coarse=4)
        return chips + three([26 * np.clip(self.noise(2.5), -1.5, 1.5)] * 3)

    def dirt(self) -> NDArray[np.float32]:
        """Return bare brown earth."""
        return self.textured((139, 108, 76), fine=8, coarse=10, cell=25)

    def paint(self, mask: Mask, texture: NDArray[np.float32] | Color, label: int | None) -> None:
        """Paint `texture` where `mask` is, with soft edges, and label it; label None leaves the labels."""
        if not mask.any():
            return
        box = surroundings(mask, SOFT_EDGE)
        image, near = self.image[box], mask[box].astype(np.float32)
        soft = np.asarray(cv2.GaussianBlur(near, (0, 0), 0.8), np.float32)
        values = np.asarray(texture, np.float32)
        wanted = values[box] if values.ndim == 3 else np.full_like(image, values)
        self.image[box] = image + (wanted - image) * three([soft] * 3)
        if label is not None:
            self.labels[mask] = label

    def shadow(self, mask: Mask, reach: int) -> None:
        """Darken the ground `reach` pixels to the lower right of `mask`."""
        if not mask.any():
            return
        shift = np.array([[1, 0, reach], [0, 1, reach * 0.7]], np.float32)
        box = surroundings(mask, reach + SOFT_SHADOW)
        near = mask[box].astype(np.float32)
        moved = cv2.warpAffine(near, shift, near.shape[::-1])
        soft = cv2.GaussianBlur(moved, (0, 0), 1.5) * (1 - near)
        self.image[box] *= three([1 - (1 - SHADOW) * soft] * 3)

    def polygon(self, points: NDArray[np.float64]) -> Mask:
        """Return the mask of a filled polygon of (x, y) corners."""
        mask = np.zeros((self.height, self.width), np.uint8)
        cv2.fillPoly(mask, [np.round(points).astype(np.int32)], 1)
        return mask.astype(bool)

    def rectangle(self, centre: Point, length: float, width: float, angle: float) -> Mask:
        """Return the mask of a turned rectangle."""
        return self.polygon(corners(centre, length, width, angle))

    def disc(self, centre: tuple[float, float], radius: float) -> Mask:
        """Return the mask of a disc, at least one pixel."""
        mask = np.zeros((self.height, self.width), np.uint8)
        cv2.circle(mask, (round(centre[0]), round(centre[1])), max(round(radius), 1), 1, -1)
        return mask.astype(bool)

    def line(self, start: tuple[float, float], end: tuple[float, float], thickness: int) -> Mask:
        """Return the mask of a straight stroke."""
        mask = np.zeros((self.height, self.width), np.uint8)
        ends = [(round(x), round(y)) for x, y in (start, end)]
        cv2.line(mask, ends[0], ends[1], 1, thickness)
        return mask.astype(bool)

    def blob(self, centre: Point, radius: float, *, wobble: float = 0.25, corners_: int = 14) -> Mask:
        """Return the mask of a roundish irregular area."""
        turns = np.linspace(0, 2 * np.pi, corners_, endpoint=False)
        reach = radius * (1 + wobble * self.rng.standard_normal(corners_).clip(-1.5, 1.5))
        points = np.stack([centre[0] + reach * np.cos(turns), centre[1] + reach * np.sin(turns)], 1)
        soft = cv2.GaussianBlur(self.polygon(points).astype(np.float32), (0, 0), max(radius * 0.12, 1))
        return soft > 0.5

    def ground_area(self) -> None:
        """Lay an irregular area of gravel, dirt or paving on the ground."""
        window, middle = self.around(self.place(), GROUND_REACH)
        kinds = ((GRAVEL, window.gravel), (DIRT, window.dirt), (PAVED, window.paving))
        label, texture = kinds[int(self.rng.integers(3))]
        area = window.blob(middle, self.rng.uniform(70, 150), wobble=0.15)
        window.paint(area & window.safe, texture(), label)

    def path(self, label: int) -> None:
        """Lay a bent paved way from one side to the other."""
        xs = np.linspace(-20, self.width + 20, 6)
        ys = self.rng.uniform(0.2, 0.8) * self.height + 70 * self.rng.standard_normal(6).cumsum() / 2
        points = np.stack([xs, ys], 1)
        if self.rng.random() < 0.5:
            points = points[:, ::-1] * (self.width / self.height, self.height / self.width)
        mask = np.zeros((self.height, self.width), np.uint8)
        cv2.polylines(mask, [points.astype(np.int32)], False, 1, int(self.rng.integers(60, 95)))
        self.paint(mask.astype(bool), self.paving(), label)

    def place(self) -> Point:
        """Return a random (x, y)."""
        return int(self.rng.integers(self.width)), int(self.rng.integers(self.height))

    def free_place(self, room: float = 0) -> Point:
        """Return a random (x, y) on safe ground with `room` pixels around it, else a roomiest one."""
        safe = _LANDING[self.labels[::COARSE, ::COARSE]] == 1
        distance = (
            COARSE
            * cv2.distanceTransform(np.pad(safe.astype(np.uint8), 1), cv2.DIST_L2, cv2.DIST_MASK_3)[
                1:-1, 1:-1
            ]
        )
        places = np.flatnonzero(distance >= min(max(room, 1), float(distance.max())))
        row, column = divmod(int(places[self.rng.integers(len(places))]), distance.shape[1])
        return column * COARSE, row * COARSE

    @property
    def safe(self) -> Mask:
        """Return where the ground is safe."""
        return np.asarray(_LANDING[self.labels] == 1)

    def landing_share(self, landing: int) -> float:
        """Return the share of pixels that are safe (1), caution (2) or danger (3)."""
        return float((_LANDING[self.labels[::COARSE, ::COARSE]] == landing).mean())

    def seams(self, share: float) -> None:
        """Turn `share` of the pixels into void, along borders between regions, 1-3 px wide."""
        edges = np.zeros(self.labels.shape, bool)
        edges[:, 1:] |= self.labels[:, 1:] != self.labels[:, :-1]
        edges[1:] |= self.labels[1:] != self.labels[:-1]
        wide = cv2.dilate((edges & (self.noise(40) > 1)).astype(np.uint8), np.ones((2, 2), np.uint8))
        candidates = np.flatnonzero((edges | wide.astype(bool)).ravel())
        gaps = self.noise(18).ravel()[candidates]
        chosen = candidates[np.argsort(gaps)[: round(share * self.labels.size)]]
        self.labels.ravel()[chosen] = VOID

    def finish(self) -> NDArray[np.uint8]:
        """Return the picture as a camera would give it: uneven light, slight blur and noise."""
        light = three([1 + 0.06 * self.noise(400)] * 3)
        blurred = cv2.GaussianBlur(self.image * light, (0, 0), 0.6)
        noisy = blurred + 2.5 * self.rng.standard_normal(self.image.shape, np.float32)
        return noisy.clip(0, 255).astype(np.uint8)


def three(channels: list[NDArray[np.float32]]) -> NDArray[np.float32]:
    """Return channels [H, W] as float32 [H, W, 3]; numpy broadcasts slowly over a last axis of 3."""
    return np.asarray(cv2.merge(channels), dtype=np.float32)


def surroundings(mask: Mask, margin: int) -> tuple[slice, slice]:
    """Return the rows and columns of the smallest box around `mask`, `margin` pixels wider on each side."""
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    return (
        slice(max(int(rows[0]) - margin, 0), int(rows[-1]) + margin + 1),
        slice(max(int(columns[0]) - margin, 0), int(columns[-1]) + margin + 1),
    )


def corners(centre: tuple[float, float], length: float, width: float, angle: float) -> NDArray[np.float64]:
    """Return the four (x, y) corners of a turned rectangle."""
    along = np.array([np.cos(angle), np.sin(angle)]) * length / 2
    across = np.array([-np.sin(angle), np.cos(angle)]) * width / 2
    middle = np.asarray(centre, float)
    return np.array(
        [middle + along + across, middle + along - across, middle - along - across, middle - along + across]
    )
