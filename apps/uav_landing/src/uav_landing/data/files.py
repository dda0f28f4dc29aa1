"""Durable files: hashes remembered by size and time, arrays and JSON written through to the disk."""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from uav_landing.data.locks import locked

CHUNK = 1 << 22


class HashMemory:
    """SHA-256 of files by path, valid while their size and modification time stay the same."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._known = _read_entries(path)
        self._new: dict[str, list[Any]] = {}

    def sha256(self, file: Path) -> str:
        """Return the digest of a file, read again only when its size or time has changed."""
        stamp = _stamp(file)
        entry = self._known.get(str(file))
        if entry is not None and entry[:2] == stamp:
            return str(entry[2])
        digest = sha256_of(file)
        self.remember(file, digest)
        return digest

    def remember(self, file: Path, digest: str) -> None:
        """Take over a digest that is already known."""
        self._known[str(file)] = self._new[str(file)] = [*_stamp(file), digest]

    def save(self) -> None:
        """Add what is new to the file; OSError when it cannot be written."""
        if not self._new:
            return
        with locked(self.path.with_suffix(".lock")):
            write_json(self.path, {**_read_entries(self.path), **self._new}, replace=True)
        self._new = {}


def sha256_of(file: Path) -> str:
    """Return the hexadecimal SHA-256 of a file's content."""
    with file.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def digest_of(value: Any) -> str:
    """Return the hexadecimal SHA-256 of the canonical JSON of a plain value."""
    text = json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def write_bytes(path: Path, *parts: bytes | memoryview) -> dict[str, Any]:
    """Write parts one after another, through to the disk; return the file's size and sha256."""
    digest, size = hashlib.sha256(), 0
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        for part in parts:
            file.write(part)
            digest.update(part)
            size += len(part)
        file.flush()
        os.fsync(file.fileno())
    return {"size": size, "sha256": digest.hexdigest()}


def write_array(path: Path, array: NDArray[Any]) -> dict[str, Any]:
    """Write an array in the npy format, without pickle."""
    header = io.BytesIO()
    array = np.ascontiguousarray(array)
    np.lib.format.write_array_header_1_0(header, np.lib.format.header_data_from_array_1_0(array))
    body = memoryview(array.reshape(-1).view(np.uint8).data) if array.size else b""
    return write_bytes(path, header.getvalue(), body)


def write_json(path: Path, value: Mapping[str, Any], *, replace: bool = False) -> dict[str, Any]:
    """Write JSON; with `replace` beside the file first, so that a reader never sees half of it."""
    content = json.dumps(value, separators=(",", ":")).encode()
    if not replace:
        return write_bytes(path, content)
    temporary = path.with_name(f"{path.name}.partial")
    entry = write_bytes(temporary, content)
    temporary.replace(path)
    return entry


def sync_folder(path: Path) -> None:
    """Make renames and new names in a folder durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def map_array(path: Path, shape: tuple[int, ...], dtype: type[np.generic]) -> NDArray[Any]:
    """Return the read-only memory map of an npy file of known shape.

    Unlike `numpy.memmap` it keeps no file descriptor, so that thousands of photos can be mapped at once.
    """
    size = path.stat().st_size
    content = torch.from_file(str(path), shared=False, size=size, dtype=torch.uint8).numpy()
    count = int(np.prod(shape)) * np.dtype(dtype).itemsize
    array = content[size - count :].view(dtype).reshape(shape)
    array.flags.writeable = False
    return array


def _stamp(file: Path) -> list[Any]:
    status = file.stat()
    return [status.st_size, status.st_mtime_ns]


def _read_entries(path: Path) -> dict[str, list[Any]]:
    try:
        entries = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return {}
    return entries if isinstance(entries, dict) else {}
