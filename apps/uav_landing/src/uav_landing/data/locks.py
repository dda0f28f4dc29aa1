"""A lock between processes that the system releases when its holder dies."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock file `path`, waiting for any other holder. OSError when it cannot be created."""
    with path.open("a") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
