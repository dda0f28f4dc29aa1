"""The decode-once pixel store: read-only arrays of every photo, keyed by the content they were made from."""

from __future__ import annotations

import json
import logging
import mmap
import time
from collections.abc import Callable, Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from common.config import UserError, writing
from uav_landing.config import StoreConfig
from uav_landing.data.build import Plan, build_store, make_plan
from uav_landing.data.files import HashMemory, map_array, sha256_of
from uav_landing.data.locks import locked
from uav_landing.data.photos import PhotoSet

logger = logging.getLogger(__name__)

ABSENT = "absent"

Progress = Callable[[int, int], None]
Pixels = NDArray[np.uint8]


class Store:
    """Decoded photos and fine ids of one data set at one scale.

    Arrays are memory-mapped, or in one block of shared memory after `preload`; a copy sent to another process
    by fork shares both, one sent by pickle is memory-mapped.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._index: dict[str, Any] = json.loads((folder / "index.json").read_text(encoding="utf-8"))
        self._arrays: dict[str, NDArray[Any]] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self.folder}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__(state["folder"])  # type: ignore[misc]

    @property
    def ids(self) -> tuple[str, ...]:
        """Photo ids in order."""
        return tuple(self._index["photos"])

    @property
    def fingerprint(self) -> str:
        """Key of the content: files, label table, tolerance, scale."""
        return self.folder.name

    @property
    def scale(self) -> float:
        """Store pixels per photo pixel."""
        return float(self._index["scale"])

    @property
    def unknown_pixels(self) -> int:
        """Pixels left out because their value is not in the label table, counted before scaling."""
        return int(self._index["unknown_pixels"])

    @cached_property
    def nbytes(self) -> int:
        """Bytes of all pixels and labels."""
        return sum(4 * height * width for height, width in map(self.shape, self.ids))

    def shape(self, photo: str) -> tuple[int, int]:
        """Return (height, width) in the store."""
        height, width = self._index["photos"][photo]["shape"]
        return height, width

    def image(self, photo: str) -> Pixels:
        """Return RGB uint8 [H, W, 3], read-only."""
        return self._array(f"images/{photo}.npy", (*self.shape(photo), 3))

    def labels(self, photo: str) -> Pixels:
        """Return fine ids uint8 [H, W], read-only; 255 where the value was unknown."""
        return self._array(f"labels/{photo}.npy", self.shape(photo))

    def histogram(self, photo: str) -> NDArray[np.int64]:
        """Return pixels per fine id, int64 [256]."""
        counts = np.zeros(256, dtype=np.int64)
        for fine_id, count in self._index["photos"][photo]["histogram"].items():
            counts[int(fine_id)] = count
        return counts

    def positions(self, photo: str, fine_id: int) -> NDArray[np.int32]:
        """Return a uniform sample of the pixels of a fine id, (row, column) int32 [N, 2]; N <= 1024."""
        return self.all_positions(photo).get(fine_id, np.zeros((0, 2), dtype=np.int32))

    def all_positions(self, photo: str) -> dict[int, NDArray[np.int32]]:
        """Return `positions` of every fine id the photo holds."""
        counts: dict[str, int] = self._index["photos"][photo]["positions"]
        ends = np.cumsum(list(counts.values()))
        path = self.folder / "positions" / f"{photo}.npy"
        every = map_array(path, (int(ends[-1]) if len(ends) else 0, 2), np.int32)
        return dict(zip(map(int, counts), np.split(every, ends[:-1]))) if counts else {}

    def preload(self, max_gb: float) -> bool:
        """Copy all pixels into one block of shared memory when they fit `max_gb` (10^9 bytes).

        Returns whether they did; otherwise arrays stay memory-mapped. The block is anonymous: it needs no
        space in the shared-memory file system and is shared by forked loader workers.
        """
        if self.nbytes > max_gb * 1e9 or not self.nbytes:
            return False
        block = np.frombuffer(mmap.mmap(-1, self.nbytes), dtype=np.uint8)
        held: dict[str, NDArray[Any]] = {}
        start = 0
        for photo in self.ids:
            for name, array in (("images", self.image(photo)), ("labels", self.labels(photo))):
                copy = block[start : start + array.size].reshape(array.shape)
                copy[...] = array
                copy.flags.writeable = False
                held[f"{name}/{photo}.npy"] = copy
                start += array.size
        self._arrays = held
        return True

    def _array(self, name: str, shape: tuple[int, ...]) -> Pixels:
        array = self._arrays.get(name)
        if array is None:
            array = self._arrays[name] = map_array(self.folder / name, shape, np.uint8)
        return array


def open_store(
    photos: PhotoSet,
    config: StoreConfig,
    unknown_labels: Literal["error", "ignore"],
    progress: Progress | None = None,
) -> Store:
    """Return the store of `photos`, built first when it is absent or damaged.

    One process builds, others wait. `progress(done, total)` is called after each photo. UserError lists
    unreadable files, pairs of unequal size and unknown labels, names the folder that cannot be written and
    the bytes needed, and refuses a store above `max_disk_gb` before anything is written.
    """
    started = time.time()
    plan = make_plan(photos, config, unknown_labels)
    with writing(f"--cache-dir {plan.cache_dir}"):
        if _reason_to_build(plan, config.rebuild_cache, started) is not None:
            plan.cache_dir.mkdir(parents=True, exist_ok=True)
            with locked(plan.folder.with_suffix(".lock")):
                _build_if_needed(plan, config.rebuild_cache, started, progress)
        plan.memory.save()
    return Store(plan.folder)


def find_damage(folder: Path, memory: HashMemory | None = None) -> Iterator[str]:
    """Yield what is wrong with a store: missing files, wrong sizes, wrong hashes.

    With `memory`, files whose size and time have not changed since they were hashed are not read again.
    """
    try:
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        if (folder / "COMPLETE").read_text(encoding="utf-8") != sha256_of(folder / "manifest.json"):
            yield "manifest.json is not the one COMPLETE belongs to"
    except (OSError, ValueError) as error:
        yield f"manifest.json or COMPLETE cannot be read: {error}"
        return
    for name, entry in manifest.items():
        path = folder / name
        if not path.is_file():
            yield f"{name} is missing"
        elif path.stat().st_size != entry["size"]:
            yield f"{name} has {path.stat().st_size} bytes, {entry['size']} were written"
        elif (sha256_of(path) if memory is None else memory.sha256(path)) != entry["sha256"]:
            yield f"{name} has changed since it was written"


def _reason_to_build(plan: Plan, rebuild: bool, started: float) -> str | None:
    """Return why the store must be built, or None. A rebuild finished after `started` counts as done."""
    seal = plan.folder / "COMPLETE"
    if not plan.folder.is_dir():
        return ABSENT
    if rebuild and not (seal.is_file() and seal.stat().st_mtime > started):
        return "a rebuild is asked for"
    return next(find_damage(plan.folder, plan.memory), None)


def _build_if_needed(plan: Plan, rebuild: bool, started: float, progress: Progress | None) -> None:
    reason = _reason_to_build(plan, rebuild, started)
    if reason is None:
        return
    if reason != ABSENT:
        logger.warning("store %s is built anew: %s", plan.folder, reason)
    build_store(plan, progress)
    if reason != ABSENT and (again := next(find_damage(plan.folder), None)) is not None:
        raise UserError(f"store {plan.folder} is damaged again right after it was built: {again}")
