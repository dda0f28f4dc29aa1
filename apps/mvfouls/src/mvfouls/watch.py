"""Which clip each loader process is reading, known to the process that waits for them."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch.utils.data import get_worker_info

from common.video import Pixels as Frames
from mvfouls.survey import View

if TYPE_CHECKING:
    from mvfouls.dataset import Clips

SINCE, NUMBER = 0, 1
"""Columns of the table: when the reading began, 0 while nothing is read, and which clip it is."""


class WatchedClips:
    """`clips`, with a note in shared memory of what each of `workers` processes reads.

    The note is there even when the reading hangs outside of Python, where no signal would reach it.
    """

    def __init__(self, clips: Clips, views: Sequence[View], workers: int) -> None:
        self.clips = clips
        self._names = [f"{view.path.parent.name}/{view.path.name}" for view in views]
        self._numbers = {view.path: number for number, view in enumerate(views)}
        self._table = torch.zeros(workers, 2, dtype=torch.float64)
        self._table.share_memory_()  # type: ignore[no-untyped-call]

    def read(self, view: View, shift: int = 0) -> Frames:
        """Return what `clips` returns."""
        worker = get_worker_info()
        if worker is None:
            return self.clips.read(view, shift)
        row = self._table[worker.id]
        row[NUMBER] = self._numbers[view.path]
        row[SINCE] = time.monotonic()
        try:
            return self.clips.read(view, shift)
        finally:
            row[SINCE] = 0.0

    def in_work(self) -> str:
        """Return what is being read, what has taken longest first: `action_3/clip_1.mp4 (10.2 s)`."""
        now, rows = time.monotonic(), sorted(self._table.tolist())
        return ", ".join(
            f"{self._names[int(number)]} ({now - since:.1f} s)" for since, number in rows if since > 0
        )
