"""What a reader finds: photos paired with their masks by stem."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from common.config import UserError
from uav_landing.labels import LabelTable

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".tif", ".tiff", ".bmp"})
MASK_SUFFIXES = frozenset({".png"})


@dataclass(frozen=True)
class PhotoPair:
    """A photo and its mask. `group` names a sequence folder whose photos belong together."""

    id: str
    image: Path
    mask: Path
    group: str | None = None


@dataclass(frozen=True)
class PhotoSet:
    """All photos of a data set, sorted by id, with the label table of their masks.

    `official` holds the published split (ids by split name), `landing_radius` pixels by photo id, `notes`
    lines to show the user. `color_tolerance` is the largest channel difference at which a mask colour is
    recognised.
    """

    format: str
    root: Path
    pairs: tuple[PhotoPair, ...]
    table: LabelTable
    official: dict[str, tuple[str, ...]] | None = None
    landing_radius: dict[str, float] | None = None
    notes: tuple[str, ...] = ()
    color_tolerance: int = 0

    @property
    def ids(self) -> tuple[str, ...]:
        """Photo ids in order."""
        return tuple(pair.id for pair in self.pairs)

    @cached_property
    def by_id(self) -> Mapping[str, PhotoPair]:
        """Photos by id."""
        return {pair.id: pair for pair in self.pairs}


@dataclass(frozen=True)
class Part:
    """One folder of images with its folder of masks.

    `name` tells equal stems of two parts apart. `image_end` and `mask_end` are cut off the stems before
    pairing.
    """

    name: str | None
    images: Path
    masks: Path
    image_end: str = ""
    mask_end: str = ""
    is_group: bool = False


def pair_parts(parts: Sequence[Part]) -> list[tuple[Part, PhotoPair]]:
    """Pair images and masks of every part by stem, sorted by id.

    A stem found in several parts becomes `<part>/<stem>`. UserError lists images without mask, masks without
    image and stems given twice within a part, up to 10 of each with the counts.
    """
    found = [(part, *files) for part in parts for files in _pair(part)]
    seen = Counter(stem for _, stem, _, _ in found)
    pairs = [
        (part, PhotoPair(_identify(part, stem, seen), image, mask, part.name if part.is_group else None))
        for part, stem, image, mask in found
    ]
    return sorted(pairs, key=lambda item: item[1].id)


def shorten(names: Sequence[str], limit: int = 10) -> str:
    """Return up to `limit` names, and how many more there are."""
    more = f", ... {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def _identify(part: Part, stem: str, seen: Mapping[str, int]) -> str:
    return f"{part.name}/{stem}" if seen[stem] > 1 else stem


def _pair(part: Part) -> list[tuple[str, Path, Path]]:
    images = _stems(part.images, IMAGE_SUFFIXES, part.image_end)
    masks = _stems(part.masks, MASK_SUFFIXES, part.mask_end)
    if not images and not masks:
        raise UserError(f"{part.images}: holds no photo")
    lone_images = sorted(set(images) - set(masks))
    lone_masks = sorted(set(masks) - set(images))
    if lone_images or lone_masks:
        raise UserError(
            f"{len(lone_images)} of {len(images)} images in {part.images} have no mask: "
            f"{shorten(lone_images)}; "
            f"{len(lone_masks)} of {len(masks)} masks in {part.masks} have no image: {shorten(lone_masks)}"
        )
    return [(stem, images[stem], masks[stem]) for stem in sorted(images)]


def _stems(folder: Path, suffixes: frozenset[str], end: str) -> dict[str, Path]:
    files = sorted(
        path for path in folder.iterdir() if path.suffix.lower() in suffixes and not path.name.startswith(".")
    )
    foreign = [path.name for path in files if not path.stem.endswith(end)]
    if foreign:
        raise UserError(f"{folder}: {len(foreign)} names do not end in {end}: {shorten(foreign)}")
    stems = {path.stem.removesuffix(end): path for path in files}
    if len(stems) < len(files):
        counts = Counter(path.stem for path in files)
        twice = [stem for stem, count in counts.items() if count > 1]
        raise UserError(f"{folder}: {len(twice)} stems are given twice: {shorten(twice)}")
    return stems
