"""Decoding of photos to RGB and of masks to fine ids, strict about what a file holds.

Nothing is guessed: a truncated or 16-bit file is an error, a colour mask is decoded by colour and never read
as grey, and a value outside the label table is reported, never turned into a class.
"""

from __future__ import annotations

import functools
import logging
import struct
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, UnidentifiedImageError

from common.config import UserError
from uav_landing.data.photos import PhotoPair
from uav_landing.labels import IGNORE, LabelTable

Pixels = NDArray[np.uint8]

logger = logging.getLogger(__name__)

ORIENTATION = 0x0112
QUARTER_TURNS = (5, 6, 7, 8)
BITS_PER_SAMPLE = 258
BLOCK_PIXELS = 1 << 22

# photos and maps are as large as they are; set once, because readers are threads
Image.MAX_IMAGE_PIXELS = None


@dataclass(frozen=True)
class UnknownLabels:
    """Values (ids, or colours) of a mask that its label table does not hold, each with its pixels."""

    path: Path
    kind: Literal["id", "colour"]
    values: tuple[tuple[int | tuple[int, int, int], int], ...]
    size: int

    @property
    def pixels(self) -> int:
        """Unknown pixels of the mask."""
        return sum(count for _, count in self.values)


def describe_unknown(reports: Sequence[UnknownLabels], table: LabelTable, limit: int = 10) -> str:
    """Return a message: the commonest unknown values with pixels, share of these masks and 5 files."""
    counts: dict[int | tuple[int, int, int], int] = {}
    files: dict[int | tuple[int, int, int], list[str]] = {}
    for report in reports:
        for value, count in report.values:
            counts[value] = counts.get(value, 0) + count
            files.setdefault(value, []).append(str(report.path))
    size = sum(report.size for report in reports)
    ranked = sorted(counts, key=lambda value: -counts[value])
    lines = [f"{sum(counts.values())} pixels of {len(reports)} masks are not in label table {table.name}:"]
    for value in ranked[:limit]:
        share = 100 * counts[value] / size
        kind = "id" if isinstance(value, int) else "colour"
        lines.append(
            f"  {kind} {value}: {counts[value]} pixels, {share:.4f} %, in {', '.join(files[value][:5])}"
            + (f" and {len(files[value]) - 5} more" if len(files[value]) > 5 else "")
        )
    if len(ranked) > limit:
        lines.append(f"  and {len(ranked) - limit} more values")
    return "\n".join(lines)


def read_image(pair: PhotoPair) -> Pixels:
    """Return the photo as RGB uint8 [H, W, 3], upright by its EXIF orientation."""
    return load_photo(pair.image)


def load_photo(path: Path) -> Pixels:
    """Return an image file as RGB uint8 [H, W, 3], upright; an alpha channel is dropped.

    UserError names the file when it is missing, truncated, not an image, 16-bit or single-channel.
    """
    with _opened(path) as image:
        _require_8_bit(path, image)
        if image.mode not in ("RGB", "RGBA", "P"):
            raise UserError(f"{path}: 3 channels of 8 bits are expected, found {_describe(image)}")
        upright = ImageOps.exif_transpose(image)
        return np.array(upright if upright.mode == "RGB" else upright.convert("RGB"))


def photo_shape(path: Path) -> tuple[int, int]:
    """Return (height, width) of the upright photo from its header alone."""
    with _opened(path) as image:
        width, height = image.size
        # asked without exif in the header, a PNG is decoded to its end in search of it
        turned = "exif" in image.info and image.getexif().get(ORIENTATION) in QUARTER_TURNS
    return (width, height) if turned else (height, width)


def read_mask(path: Path, table: LabelTable, tolerance: int = 0) -> tuple[Pixels, UnknownLabels | None]:
    """Return fine ids uint8 [H, W], 255 where the value is not in `table`, and a report of such values.

    One channel holds ids. Three or four channels hold colours, matched to the nearest table colour within the
    Chebyshev distance `tolerance`; a tie is unknown. Equal channels hold ids unless their values are no ids
    of the table but its greys. A palette holds ids if every index used is an id, else its colours count.
    UserError names the file when it is unreadable, truncated, 16-bit, float or has another number of
    channels.
    """
    with _opened(path) as image:
        _require_8_bit(path, image)
        if image.mode in ("RGB", "RGBA"):
            return _from_channels(path, np.asarray(image)[..., :3], table, tolerance)
        if image.mode not in ("L", "P", "1"):
            raise UserError(
                f"{path}: ids in 1 channel or colours in 3 are expected, found {_describe(image)}"
            )
        plane = np.array(image, dtype=np.uint8)
        if image.mode == "P":
            colors = np.zeros((256, 3), dtype=np.uint8)
            palette = np.array(image.getpalette("RGB"), dtype=np.uint8).reshape(-1, 3)
            colors[: len(palette)] = palette
            return _from_plane(path, plane, table, colors, tolerance)
        if image.mode == "L" and (bits := _png_bits(path) or 8) < 8:
            plane //= 255 // (2**bits - 1)
        return _ids_or_unknown(path, plane, table)


def read_pair(
    pair: PhotoPair, table: LabelTable, tolerance: int
) -> tuple[Pixels, Pixels, UnknownLabels | None]:
    """Return photo, fine ids and unknown labels; UserError when photo and mask differ in height or width."""
    image = read_image(pair)
    labels, unknown = read_mask(pair.mask, table, tolerance)
    if image.shape[:2] != labels.shape:
        raise UserError(
            f"{pair.id}: photo {pair.image} is {_size(image)} (height x width), "
            f"mask {pair.mask} is {_size(labels)}"
        )
    return image, labels, unknown


def histogram(labels: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Return pixels per value, int64 [256], of a uint8 map [H, W]."""
    total = np.zeros(256, dtype=np.int64)
    for block in _row_blocks(labels):
        # calcHist counts in float32, exact up to 2^24 pixels at a time
        total += cv2.calcHist([block], [0], None, [256], [0, 256]).reshape(-1).astype(np.int64)
    return total


def apply_lookup(labels: NDArray[np.uint8], lookup: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return lookup[labels] for a uint8 map [H, W] in one pass."""
    return np.asarray(cv2.LUT(labels, lookup), dtype=np.uint8)


@contextmanager
def _opened(path: Path) -> Iterator[Image.Image]:
    """Open an image of any size; whatever goes wrong while it is read becomes a UserError naming the file."""
    try:
        with Image.open(path) as image:
            yield image
    except UserError:
        raise
    except UnidentifiedImageError as error:
        raise UserError(f"{path}: is not an image, or is damaged") from error
    except (OSError, SyntaxError, ValueError, EOFError, struct.error) as error:
        raise UserError(f"{path}: cannot be read: {error}") from error


def _require_8_bit(path: Path, image: Image.Image) -> None:
    tags = getattr(image, "tag_v2", None)
    bits = max(tags.get(BITS_PER_SAMPLE, (8,))) if tags is not None else _png_bits(path) or 8
    if bits > 8 or image.mode.startswith(("I", "F")):
        raise UserError(f"{path}: 8 bits per channel are expected, found {_describe(image, bits)}")


def _png_bits(path: Path) -> int | None:
    with path.open("rb") as file:
        head = file.read(25)
    return head[24] if head.startswith(b"\x89PNG") and len(head) == 25 else None


def _describe(image: Image.Image, bits: int = 8) -> str:
    kind = {"F": "32-bit float", "I": "32-bit integer"}.get(image.mode, f"{bits}-bit")
    return f"{len(image.getbands())} channel(s), {kind} (mode {image.mode})"


def _size(array: Pixels) -> str:
    return f"{array.shape[0]} x {array.shape[1]}"


def _row_blocks(array: Pixels) -> Iterator[Pixels]:
    rows = max(1, BLOCK_PIXELS // max(1, array.shape[1]))
    return (array[start : start + rows] for start in range(0, len(array), rows))


def _from_channels(
    path: Path, pixels: Pixels, table: LabelTable, tolerance: int
) -> tuple[Pixels, UnknownLabels | None]:
    if any(_differ(block) for block in _row_blocks(pixels)):
        return _from_colors(path, pixels, table, tolerance)
    plane = np.ascontiguousarray(pixels[..., 0])
    used = np.flatnonzero(histogram(plane))
    grey = np.arange(256, dtype=np.uint8)[:, None].repeat(3, axis=1)
    if set(used.tolist()) <= set(table.ids):
        _say_equal_channels(path.parent)
        return plane, None
    if (match_colors(grey[used], table, tolerance) != IGNORE).all():
        return _from_colors(path, pixels, table, tolerance)
    _say_equal_channels(path.parent)
    return _ids_or_unknown(path, plane, table)


def _differ(block: Pixels) -> bool:
    return bool((block[..., 0] != block[..., 1]).any() or (block[..., 1] != block[..., 2]).any())


@functools.lru_cache(maxsize=64)
def _say_equal_channels(folder: Path) -> None:
    logger.info("masks in %s: three equal channels, read as ids", folder)


def _from_plane(
    path: Path, plane: Pixels, table: LabelTable, colors: Pixels, tolerance: int
) -> tuple[Pixels, UnknownLabels | None]:
    used = np.flatnonzero(histogram(plane))
    if set(used.tolist()) <= set(table.ids):
        return plane, None
    return _from_colors(path, colors[plane], table, tolerance)


def _ids_or_unknown(path: Path, plane: Pixels, table: LabelTable) -> tuple[Pixels, UnknownLabels | None]:
    known = np.full(256, IGNORE, dtype=np.uint8)
    known[list(table.ids)] = table.ids
    # ids without a gap need no histogram, a fifth of the reading time
    if plane.size and (known[: int(plane.max()) + 1] != IGNORE).all():
        return plane, None
    counts = histogram(plane)
    foreign = np.flatnonzero((counts > 0) & (known == IGNORE)).tolist()
    if not foreign:
        return plane, None
    values = tuple((value, int(counts[value])) for value in foreign)
    return apply_lookup(plane, known), UnknownLabels(path, "id", values, plane.size)


def _from_colors(
    path: Path, pixels: Pixels, table: LabelTable, tolerance: int
) -> tuple[Pixels, UnknownLabels | None]:
    labels = np.empty(pixels.shape[:2], dtype=np.uint8)
    exact = _exact_colors(table)
    foreign: dict[int, int] = {}
    done = 0
    for block in _row_blocks(pixels):
        codes = _codes(block)
        found = exact[codes]
        strange = found == IGNORE
        if strange.any():
            values, places, counts = np.unique(codes[strange], return_inverse=True, return_counts=True)
            nearest = match_colors(_colors(values), table, tolerance)
            found[strange] = nearest[places]
            for value, count in zip(values[nearest == IGNORE].tolist(), counts[nearest == IGNORE].tolist()):
                foreign[value] = foreign.get(value, 0) + count
        labels[done : done + len(block)] = found
        done += len(block)
    if not foreign:
        return labels, None
    named = tuple(
        ((code >> 16, code >> 8 & 255, code & 255), count) for code, count in sorted(foreign.items())
    )
    return labels, UnknownLabels(path, "colour", named, labels.size)


def match_colors(colors: Pixels, table: LabelTable, tolerance: int) -> Pixels:
    """Return the fine id of each colour [N, 3] within distance `tolerance`; 255 for a tie or none."""
    palette = np.array([item.rgb for item in table.classes], dtype=np.int16)
    ids = np.array(table.ids, dtype=np.uint8)
    result = np.full(len(colors), IGNORE, dtype=np.uint8)
    for start in range(0, len(colors), 1 << 16):
        part = colors[start : start + (1 << 16)].astype(np.int16)
        distance = np.abs(part[:, None] - palette).max(axis=2)
        nearest = distance.min(axis=1)
        clear = (nearest <= tolerance) & ((distance == nearest[:, None]).sum(axis=1) == 1)
        result[start : start + len(part)][clear] = ids[distance.argmin(axis=1)[clear]]
    return result


@functools.lru_cache(maxsize=2)
def _exact_colors(table: LabelTable) -> Pixels:
    """Return the fine id of every 24-bit colour code, 255 where the table has none."""
    lookup = np.full(1 << 24, IGNORE, dtype=np.uint8)
    for item in table.classes:
        red, green, blue = item.rgb
        lookup[red << 16 | green << 8 | blue] = item.id
    return lookup


def _codes(pixels: Pixels) -> NDArray[np.int32]:
    red, green, blue = (pixels[..., channel].astype(np.int32) for channel in range(3))
    return red << 16 | green << 8 | blue


def _colors(codes: NDArray[np.int32]) -> Pixels:
    return np.stack([codes >> 16, codes >> 8 & 255, codes & 255], axis=-1).astype(np.uint8)
