"""What makes a checkpoint folder trustworthy: files flushed to disk, and a manifest that shows any change."""

from __future__ import annotations

import hashlib
import json
import os
import platform
from collections.abc import Mapping
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal, NamedTuple

SCHEMA = 2
MODEL, EMA, STATE = "model.safetensors", "ema.safetensors", "state.pt"
CONFIG, STATISTICS, METADATA, MANIFEST = "config.yaml", "statistics.json", "metadata.json", "manifest.json"
TEMPORARY = ".tmp-"

_REQUIRED = (MODEL, STATE, CONFIG, METADATA)


class CheckpointError(OSError):
    """A checkpoint cannot be written, found or read; `errno` is set when the operating system said why."""

    def __init__(self, message: str, code: int | None = None) -> None:
        super().__init__(message)
        self.errno = code


class FileStatus(NamedTuple):
    """What the manifest says about one file."""

    name: str
    status: Literal["ok", "BAD sha256", "missing", "size"]


def verify_checkpoint(path: Path) -> list[FileStatus]:
    """Compare every file of a checkpoint folder with the manifest's sizes and SHA-256 sums.

    A manifest that is absent or was changed is the only entry, since nothing else can be judged without it.
    """
    if not (path / MANIFEST).is_file():
        return [FileStatus(MANIFEST, "missing")]
    manifest = unsealed((path / MANIFEST).read_bytes())
    if manifest is None:
        return [FileStatus(MANIFEST, "BAD sha256")]
    listed = manifest["files"]
    names = sorted({*_REQUIRED, *listed})
    return [FileStatus(MANIFEST, "ok"), *(_file_status(path / name, listed.get(name)) for name in names)]


def read_manifest(path: Path) -> dict[str, Any]:
    """Return the manifest of a checkpoint folder after verifying all of its files.

    Raises CheckpointError naming each file that is damaged or missing.
    """
    damaged = [f"{name} {status}" for name, status in verify_checkpoint(path) if status != "ok"]
    if damaged:
        raise CheckpointError(f"{path}: {', '.join(damaged)}")
    manifest = unsealed((path / MANIFEST).read_bytes())
    if manifest is None:
        raise CheckpointError(f"{path}: {MANIFEST} BAD sha256")
    if manifest["schema"] != SCHEMA:
        raise CheckpointError(
            f"{path}: written by another version: schema {manifest['schema']}, this version reads {SCHEMA}"
        )
    return manifest


def replace_text(path: Path, text: str) -> None:
    """Write a small text file so that a reader sees the old content or the new, never a part."""
    temporary = path.with_name(f"{path.name}{TEMPORARY}{os.getpid()}")
    try:
        write_synced(temporary, text.encode())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    sync_folder(path.parent)


@cache
def library_versions() -> dict[str, str]:
    """Return the versions that decide whether results can be repeated."""
    names = ("torch", "numpy", "safetensors")
    return {"python": platform.python_version(), **{name: version(name) for name in names}}


def write_synced(path: Path, content: bytes) -> None:
    """Write a file and wait until it is on the disk."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def sync_and_hash(path: Path) -> dict[str, Any]:
    """Wait until a file is on the disk and return its entry in the manifest."""
    with path.open("rb") as file:
        os.fsync(file.fileno())
        return {"bytes": path.stat().st_size, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}


def sync_folder(path: Path) -> None:
    """Wait until the names in a folder are on the disk."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sealed(manifest: dict[str, Any]) -> bytes:
    """Return the manifest as text with a sum over itself, so that a change to any byte shows."""
    body = json.dumps(manifest, sort_keys=True)
    seal = hashlib.sha256(body.encode()).hexdigest()
    return json.dumps({**manifest, "seal": seal}, indent=1, sort_keys=True).encode()


def unsealed(content: bytes) -> dict[str, Any] | None:
    """Return what `sealed` was given, or None when any byte differs from what it returned."""
    try:
        manifest = json.loads(content)
    except ValueError:
        return None
    if not isinstance(manifest, dict):
        return None
    manifest.pop("seal", None)
    return manifest if sealed(manifest) == content else None


def _file_status(path: Path, listed: Mapping[str, Any] | None) -> FileStatus:
    if listed is None or not path.is_file():
        return FileStatus(path.name, "missing")
    if path.stat().st_size != listed["bytes"]:
        return FileStatus(path.name, "size")
    with path.open("rb") as file:
        same = hashlib.file_digest(file, "sha256").hexdigest() == listed["sha256"]
    return FileStatus(path.name, "ok" if same else "BAD sha256")
