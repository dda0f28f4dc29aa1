"""Arrays on disk under a key made of everything they depend on."""

from __future__ import annotations

import hashlib
import json
import math
import os
import stat
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import DTypeLike, NDArray

GIGABYTE = 10**9
EDGE = 2**20
"""Bytes at either end of a file that are hashed to tell it from another of the same size."""
TEMPORARY = ".tmp-"
ABANDONED = 24 * 3600
"""Seconds after which a temporary file belongs to no process that still runs."""
WRITERS = 32
"""Processes that may fill a folder at the same time without passing its limit together."""

Identity = Mapping[str, Any]


class _Sound(NamedTuple):
    """An array file that was examined: its size and time then, and what its header says."""

    stamp: tuple[int, int]
    dtype: np.dtype[Any]
    offset: int
    shape: tuple[int, ...]


class ArrayStore:
    """Folder of read-only memory maps `<key>.npy`, each with a manifest `<key>.json`.

    The key is the SHA-256 of an identity: a mapping of plain values that names everything the array depends
    on. Writers work on a temporary file that is renamed when complete, so any number of processes may share
    the folder. `max_gb` (10^9 bytes) bounds the folder; `say` receives a line about each thing a person may
    want to know.
    """

    def __init__(
        self, folder: str | Path, *, max_gb: float = math.inf, say: Callable[[str], None] | None = None
    ) -> None:
        if not max_gb >= 0:
            raise ValueError(f"max_gb is {max_gb}: 0 or more is expected")
        self.folder = Path(folder)
        self.limit = max_gb * GIGABYTE
        self.say = say or _silent
        self._room = 0.0
        self._used: set[str] = set()
        self._sound: dict[str, _Sound] = {}

    def find(self, identity: Identity, *, private: bool = False) -> NDArray[Any] | None:
        """Return the array of `identity`; None when there is none, or, with a line, not a sound one.

        `private` gives a map that may be written to; the file stays as it is. A file found sound is not
        examined again by this object until its size or time changes. Nothing is removed here: another process
        may be about to complete it.
        """
        key = key_of(identity)
        array_file, manifest_file = self._files(key)
        stamp = _stamp(array_file)
        if stamp is None and not manifest_file.exists():
            return None
        known = self._sound.get(key)
        mode: Literal["c", "r"] = "c" if private else "r"
        try:
            if stamp is None or known is None or known.stamp != stamp:
                fault = _fault(array_file, manifest_file, identity)
                if fault is not None:
                    self.say(f"{array_file}: {fault}, made again")
                    return None
                array: NDArray[Any] = np.load(array_file, mmap_mode=mode, allow_pickle=False)
                self._remember(key, stamp, array)
            else:
                array = np.memmap(array_file, known.dtype, mode, known.offset, known.shape)
            with suppress(OSError):  # the folder may be another person's
                os.utime(manifest_file)
        except FileNotFoundError:  # removed by another process meanwhile
            return None
        self._used.add(key)
        return array

    def _remember(self, key: str, stamp: tuple[int, int] | None, array: NDArray[Any]) -> None:
        if stamp is not None and isinstance(array, np.memmap) and array.flags.c_contiguous:
            self._sound[key] = _Sound(stamp, array.dtype, array.offset, array.shape)

    def make_room(self, size: int) -> bool:
        """Return whether `size` more bytes fit under the limit, after removing what this object never used.

        The least recently used go first. What the folder holds is counted again only when this object has
        used up its share, one of WRITERS, of the room that was left: counting each time would make filling a
        folder quadratic in the number of arrays.
        """
        if size > self.limit or not self.folder.is_dir():
            return size <= self.limit
        if size <= self._room:
            self._room -= size
            return True
        files = self._listing()
        self._remove_abandoned(files)
        occupied = sum(status.st_size for status in files.values())
        manifests = [path for path in files if path.suffix == ".json" and path.stem not in self._used]
        for manifest in sorted(manifests, key=lambda path: files[path].st_mtime):
            if occupied + size <= self.limit:
                break
            for path in self._files(manifest.stem):
                path.unlink(missing_ok=True)
                occupied -= files[path].st_size if path in files else 0
            self.say(f"{manifest.with_suffix('.npy')}: removed to stay under {self.limit / GIGABYTE:g} GB")
        left = self.limit - occupied - size
        self._room = max(left, 0.0) / WRITERS
        return left >= 0

    @contextmanager
    def create(self, identity: Identity, shape: Sequence[int], dtype: DTypeLike) -> Iterator[NDArray[Any]]:
        """Give a writable array that replaces the one of `identity` when the block ends without an error."""
        self.folder.mkdir(parents=True, exist_ok=True)
        key = key_of(identity)
        array_file, manifest_file = self._files(key)
        temporary = array_file.with_name(f"{array_file.name}{TEMPORARY}{_writer()}")
        try:
            array = np.lib.format.open_memmap(temporary, mode="w+", dtype=np.dtype(dtype), shape=tuple(shape))
            yield array
            array.flush()
            del array
            manifest = {"identity": dict(identity), "edges": _edges(temporary)}
            os.replace(temporary, array_file)
            _replace_text(manifest_file, json.dumps(manifest, indent=1, sort_keys=True))
            self._used.add(key)
        finally:
            temporary.unlink(missing_ok=True)

    def _files(self, key: str) -> tuple[Path, Path]:
        return self.folder / f"{key}.npy", self.folder / f"{key}.json"

    def _listing(self) -> dict[Path, os.stat_result]:
        """Return the files of the folder; others may remove some while it is read."""
        found = {}
        for path in self.folder.iterdir():
            with suppress(FileNotFoundError):
                found[path] = path.stat()
        return found

    def _remove_abandoned(self, files: dict[Path, os.stat_result]) -> None:
        now = time.time()
        old = [path for path, at in files.items() if TEMPORARY in path.name and now - at.st_mtime > ABANDONED]
        for path in old:
            path.unlink(missing_ok=True)
            del files[path]


def key_of(identity: Identity) -> str:
    """Return the SHA-256 of a mapping of plain values; the order of its keys does not matter."""
    return hashlib.sha256(json.dumps(dict(identity), sort_keys=True).encode()).hexdigest()


def content_sha256(path: str | Path) -> str:
    """Return the SHA-256 of a file; computed again only when its size or time changes."""
    status = Path(path).stat()
    return _content_sha256(Path(path).absolute(), status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=2**16)
def _content_sha256(path: Path, size: int, changed: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _fault(array_file: Path, manifest_file: Path, identity: Identity) -> str | None:
    """Return what is wrong with a stored array, None when it is the one of `identity`."""
    try:
        manifest = json.loads(manifest_file.read_bytes())
        same = manifest["identity"] == json.loads(json.dumps(dict(identity)))
        edges = manifest["edges"]
    except (OSError, ValueError, KeyError, TypeError):
        return "no readable manifest"
    if not same:
        return "made of something else"
    if not array_file.is_file():
        return "missing"
    if array_file.stat().st_size != edges["bytes"]:
        return f"{array_file.stat().st_size} bytes instead of {edges['bytes']}"
    return None if _edges(array_file) == edges else "changed since it was made"


def _edges(path: Path) -> dict[str, Any]:
    """Return size and a hash of both ends of a file, which costs the same for any size."""
    size = path.stat().st_size
    with path.open("rb") as file:
        digest = hashlib.sha256(file.read(EDGE))
        file.seek(max(size - EDGE, 0))
        digest.update(file.read(EDGE))
    return {"bytes": size, "sha256": digest.hexdigest()}


def _stamp(path: Path) -> tuple[int, int] | None:
    """Return size and time of a file, None where there is none."""
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return (status.st_size, status.st_mtime_ns) if stat.S_ISREG(status.st_mode) else None


def _writer() -> str:
    """Return what tells this thread from all others of this machine."""
    return f"{os.getpid()}-{threading.get_ident()}"


def _replace_text(path: Path, text: str) -> None:
    temporary = path.with_name(f"{path.name}{TEMPORARY}{_writer()}")
    try:
        temporary.write_text(text)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _silent(line: str) -> None:
    pass
