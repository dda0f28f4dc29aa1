"""Child processes: how long they take and how much memory they and their own children hold."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

POLL = 0.05


@dataclass(frozen=True)
class Ended:
    """A finished command: seconds, and the peak of the resident memory of all its processes together.

    Pages that processes share count once for each, so the peak is never understated.
    """

    seconds: float
    peak_bytes: int


def run_python(arguments: Sequence[str], threads: int = 1) -> Ended:
    """Run this interpreter with `arguments`; RuntimeError with its output when it fails."""
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    started = time.perf_counter()
    child = subprocess.Popen(
        [sys.executable, *arguments], env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    peak = 0
    while child.poll() is None:
        peak = max(peak, sum(map(_memory, _family(child.pid))))
        time.sleep(POLL)
    seconds = time.perf_counter() - started
    _, errors = child.communicate()
    if child.returncode:
        raise RuntimeError(f"{' '.join(arguments)}: exit code {child.returncode}\n{errors.decode()}")
    return Ended(seconds, peak)


def _family(pid: int) -> Iterator[int]:
    yield pid
    for path in Path(f"/proc/{pid}/task").glob("*/children"):
        for child in _read(path).split():
            yield from _family(int(child))


def _memory(pid: int) -> int:
    """Return the resident memory in bytes, 0 for a process that has ended."""
    fields = _read(Path(f"/proc/{pid}/statm")).split()
    return int(fields[1]) * resource.getpagesize() if fields else 0


def _read(path: Path) -> str:
    try:
        return path.read_text()
    except (FileNotFoundError, ProcessLookupError):
        return ""
