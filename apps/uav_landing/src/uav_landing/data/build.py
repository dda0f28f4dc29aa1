"""Builds the pixel store: every photo is read once, and the store appears complete or not at all."""

from __future__ import annotations

import logging
import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from common.config import UserError
from common.engine.randomness import generator_for
from uav_landing.config import StoreConfig
from uav_landing.data.files import HashMemory, digest_of, sync_folder, write_array, write_bytes, write_json
from uav_landing.data.masks import UnknownLabels, describe_unknown, histogram, photo_shape, read_pair
from uav_landing.data.photos import PhotoPair, PhotoSet
from uav_landing.labels import IGNORE

VERSION = 1
RESIZE_RULE = "image area, labels nearest"
POSITIONS = 1024
LONG_SIDE = 4096
BYTES_PER_PIXEL = 4
FILE_OVERHEAD = 1024
READERS = 4

Pixels = NDArray[np.uint8]
Policy = Literal["error", "ignore"]
Item = TypeVar("Item")
Result = TypeVar("Result")

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Plan:
    """What to store, where and at which scale; `key` depends on everything that decides the stored pixels."""

    photos: PhotoSet
    unknown_labels: Policy
    cache_dir: Path
    key: str
    scale: float
    photo_shapes: tuple[tuple[int, int], ...]
    max_bytes: float
    memory: HashMemory
    hashes: dict[Path, str]

    @property
    def folder(self) -> Path:
        """Folder of the finished store."""
        return self.cache_dir / self.key

    def bytes_at(self, scale: float) -> int:
        """Return the bytes on disk at a scale."""
        shapes = [scaled(shape, scale) for shape in self.photo_shapes]
        overhead = len(shapes) * (FILE_OVERHEAD + 8 * POSITIONS)
        return sum(height * width for height, width in shapes) * BYTES_PER_PIXEL + overhead


def make_plan(photos: PhotoSet, config: StoreConfig, unknown_labels: Policy) -> Plan:
    """Hash every file, choose scale and key. UserError on an unreadable photo or a scale outside (0, 1]."""
    cache_dir = config.cache_dir or photos.root.resolve().parent / ".uav_landing_store"
    shapes = tuple(photo_shape(pair.image) for pair in photos.pairs)
    scale = choose_scale(photos.format, shapes, config.store_scale)
    memory = HashMemory(cache_dir / "hashes.json")
    files = [path for pair in photos.pairs for path in (pair.image, pair.mask)]
    hashes = dict(zip(files, _in_threads(memory.sha256, files)))
    return Plan(
        photos=photos,
        unknown_labels=unknown_labels,
        cache_dir=cache_dir,
        key=_key(photos, unknown_labels, scale, hashes),
        scale=scale,
        photo_shapes=shapes,
        max_bytes=config.max_disk_gb * 1e9,
        memory=memory,
        hashes=hashes,
    )


def choose_scale(layout: str, shapes: Sequence[tuple[int, int]], setting: float | Literal["auto"]) -> float:
    """Return the store scale: auto halves photos of the Semantic Drone Dataset longer than 4096 px."""
    if setting == "auto":
        large = max(max(shape) for shape in shapes) > LONG_SIDE
        return 0.5 if large and layout in ("sdd", "sdd_tugraz") else 1.0
    if not 0 < setting <= 1:
        raise UserError(f"--store-scale {setting}: auto or a number in (0, 1] is expected")
    return float(setting)


def scaled(shape: tuple[int, int], scale: float) -> tuple[int, int]:
    """Return the (height, width) of a photo in a store of this scale."""
    return max(1, round(shape[0] * scale)), max(1, round(shape[1] * scale))


def build_store(plan: Plan, progress: Callable[[int, int], None] | None = None) -> None:
    """Build the store beside its place and rename it there; the caller holds the lock.

    UserError when it would exceed the disk limit or the free space, when a file cannot be read or written, or
    when labels are unknown; what was written by then is removed.
    """
    needed = plan.bytes_at(plan.scale)
    partial = plan.cache_dir / f"{plan.key}.partial"
    shutil.rmtree(partial, ignore_errors=True)
    _require_space(plan, needed)
    try:
        manifest = _write_photos(plan, partial, progress)
        _finish(plan, partial, manifest)
    except OSError as error:
        free = shutil.disk_usage(plan.cache_dir).free
        raise UserError(
            f"--cache-dir {plan.cache_dir}: cannot be written: {error.strerror or error}; "
            f"{needed:,} bytes are needed, {free:,} are free"
        ) from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


@dataclass
class _Record:
    """What storing one photo gave: its index entry, its files, or why it could not be stored."""

    pair: PhotoPair
    entry: dict[str, Any] = field(default_factory=dict)
    files: dict[str, dict[str, Any]] = field(default_factory=dict)
    unknown: UnknownLabels | None = None
    problem: str | None = None


def _require_space(plan: Plan, needed: int) -> None:
    if needed > plan.max_bytes:
        sizes = ", ".join(
            f"{plan.bytes_at(scale) / 1e9:.3g} GB at scale {scale:g}" for scale in (1, 0.5, 0.25)
        )
        raise UserError(
            f"the store needs {needed / 1e9:.3g} GB, --max-disk-gb allows {plan.max_bytes / 1e9:g}: "
            f"{sizes}; see --store-scale"
        )
    free = shutil.disk_usage(plan.cache_dir).free
    if needed > free:
        raise UserError(f"--cache-dir {plan.cache_dir}: {needed:,} bytes are needed, {free:,} are free")


def _write_photos(
    plan: Plan, partial: Path, progress: Callable[[int, int], None] | None
) -> dict[str, dict[str, Any]]:
    """Store every photo and the index; return size and hash of every file."""
    records = []
    pairs = plan.photos.pairs
    for record in _in_threads(lambda pair: _store_photo(plan, partial, pair), pairs):
        records.append(record)
        if progress is not None:
            progress(len(records), len(pairs))
    _judge(plan, records)
    unknown = sum(record.unknown.pixels for record in records if record.unknown is not None)
    index = {
        "version": VERSION,
        "scale": plan.scale,
        "unknown_pixels": unknown,
        "photos": {record.pair.id: record.entry for record in records},
    }
    files = {name: entry for record in records for name, entry in record.files.items()}
    files["index.json"] = write_json(partial / "index.json", index)
    return files


def _judge(plan: Plan, records: Sequence[_Record]) -> None:
    problems = [record.problem for record in records if record.problem is not None]
    if problems:
        more = f"\n  and {len(problems) - 10} more" if len(problems) > 10 else ""
        lines = "\n  ".join(problems[:10])
        raise UserError(f"{len(problems)} of {len(records)} photos cannot be used:\n  {lines}{more}")
    unknown = [record.unknown for record in records if record.unknown is not None]
    if not unknown:
        return
    text = describe_unknown(unknown, plan.photos.table)
    if plan.unknown_labels == "error":
        raise UserError(f"{text}\n--unknown-labels ignore leaves these pixels out")
    logger.warning("%s\nthese pixels are ignored", text)


def _store_photo(plan: Plan, partial: Path, pair: PhotoPair) -> _Record:
    try:
        image, labels, unknown = read_pair(pair, plan.photos.table, plan.photos.color_tolerance)
    except UserError as error:
        return _Record(pair, problem=str(error))
    height, width = scaled((labels.shape[0], labels.shape[1]), plan.scale)
    if (height, width) != labels.shape:
        image = np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), dtype=np.uint8)
        labels = np.asarray(
            cv2.resize(labels, (width, height), interpolation=cv2.INTER_NEAREST), dtype=np.uint8
        )
    counts = histogram(labels)
    sampled = _sample_positions(pair.id, labels, counts)
    every = np.concatenate([np.zeros((0, 2), dtype=np.int32), *sampled.values()])
    files = {
        f"{folder}/{pair.id}.npy": write_array(partial / folder / f"{pair.id}.npy", array)
        for folder, array in (("images", image), ("labels", labels), ("positions", every))
    }
    entry = {
        "shape": [height, width],
        "image_sha256": plan.hashes[pair.image],
        "mask_sha256": plan.hashes[pair.mask],
        "histogram": {str(value): int(counts[value]) for value in np.flatnonzero(counts)},
        "positions": {str(value): len(places) for value, places in sampled.items()},
    }
    return _Record(pair, entry, files, unknown)


def _sample_positions(photo: str, labels: Pixels, counts: NDArray[np.int64]) -> dict[int, NDArray[np.int32]]:
    """Return up to 1024 pixels (row, column) of every fine id, drawn uniformly and always the same."""
    sampled = {}
    flat = labels.reshape(-1)
    for value in np.flatnonzero(counts[:IGNORE]).tolist():
        places = np.flatnonzero(flat == value)
        if len(places) > POSITIONS:
            rng = generator_for("positions", photo, value)
            places = places[np.sort(rng.choice(len(places), POSITIONS, replace=False))]
        sampled[value] = np.stack(np.divmod(places, labels.shape[1]), axis=1).astype(np.int32)
    return sampled


def _finish(plan: Plan, partial: Path, files: dict[str, dict[str, Any]]) -> None:
    """Write the manifest and its seal, put the folder in its place and remember the hashes."""
    sealed = write_json(partial / "manifest.json", files)
    write_bytes(partial / "COMPLETE", sealed["sha256"].encode())
    for folder in sorted({partial, *(path.parent for path in partial.rglob("*"))}):
        sync_folder(folder)
    stale = plan.cache_dir / f"{plan.key}.stale"
    shutil.rmtree(stale, ignore_errors=True)
    if plan.folder.exists():
        plan.folder.rename(stale)
    partial.rename(plan.folder)
    sync_folder(plan.cache_dir)
    shutil.rmtree(stale, ignore_errors=True)
    for name, entry in files.items():
        plan.memory.remember(plan.folder / name, entry["sha256"])
    plan.memory.save()


def _key(photos: PhotoSet, unknown_labels: Policy, scale: float, hashes: dict[Path, str]) -> str:
    files = [
        [str(path.relative_to(photos.root)) for path in (pair.image, pair.mask)]
        + [hashes[pair.image], hashes[pair.mask]]
        for pair in photos.pairs
    ]
    content = {
        "version": VERSION,
        "adapter": photos.format,
        "table": photos.table.table_hash,
        "color_tolerance": photos.color_tolerance,
        "unknown_labels": unknown_labels,
        "scale": scale,
        "resize": RESIZE_RULE,
        "files": files,
    }
    return digest_of(content)[:16]


def _in_threads(work: Callable[[Item], Result], items: Sequence[Item]) -> Iterator[Result]:
    """Yield work(item) in order from a few threads; after an error, what has not begun is dropped."""
    pool = ThreadPoolExecutor(min(READERS, os.cpu_count() or 1))
    try:
        yield from pool.map(work, items)
    finally:
        pool.shutdown(cancel_futures=True)
