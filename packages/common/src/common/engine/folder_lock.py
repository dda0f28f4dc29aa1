"""One process per run folder: a lock file that names its holder and outlives no process."""

from __future__ import annotations

import fcntl
import json
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


class RunFolderError(OSError):
    """A run folder cannot be used; the message says why and what to do."""


class FolderLock:
    """The file `.lock` of a folder, with the pid, host and start of the process that holds it."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / ".lock"
        self._own = {"pid": os.getpid(), "host": socket.gethostname(), "started": _start_of(os.getpid())}

    def acquire(self) -> str | None:
        """Take the lock and return a line about a dead holder, if there was one.

        Raises RunFolderError naming the process that holds it, or the host whose processes cannot be seen.
        """
        with _alone_with(self._path) as descriptor:
            holder = _holder(descriptor)
            if holder is not None and _may_live(holder):
                raise RunFolderError(
                    f"{self._path.parent}: in use by process {holder.get('pid')} on {holder.get('host')}; "
                    f"use another folder, or remove {self._path} if that process has ended"
                )
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, json.dumps(self._own).encode(), 0)
        if holder is None:
            return None
        return f"stale lock of dead process {holder.get('pid')} on {holder.get('host')} taken over"

    def release(self) -> None:
        """Give the lock back if this process holds it."""
        if self._path.exists():
            with _alone_with(self._path) as descriptor:
                if _holder(descriptor) == self._own and self._own["pid"] == os.getpid():
                    self._path.unlink()


@contextmanager
def _alone_with(path: Path) -> Iterator[int]:
    """Open the lock file while no other process looks at it; it may be removed and made anew meanwhile."""
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if path.exists() and os.path.samestat(os.fstat(descriptor), path.stat()):
                yield descriptor
                return
        finally:
            os.close(descriptor)


def _holder(descriptor: int) -> dict[str, Any] | None:
    """Return who the file names; nobody when it is empty, or was cut off while it was written."""
    try:
        holder = json.loads(os.pread(descriptor, 4096, 0))
    except ValueError:
        return None
    return holder if isinstance(holder, dict) else None


def _may_live(holder: dict[str, Any]) -> bool:
    """Return whether the holder may still run: it is on another host, or alive and not a later namesake."""
    if holder.get("host") != socket.gethostname():
        return True
    pid = holder.get("pid")
    if not isinstance(pid, int) or pid <= 0:
        return False
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return _start_of(pid) in (None, holder.get("started"))


def _start_of(pid: int) -> str | None:
    """Return when a process started, in ticks since a boot; `ended` for a zombie, None when not told."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return None
    return "ended" if fields[0] == "Z" else f"{boot}/{fields[19]}"
