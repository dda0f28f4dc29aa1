"""The analyzer on generated masks of 24 Mpx, two workers: time for 400 of them and memory."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from large_photos import shape, write_photos
from processes import Ended, run_python
from timing import Entry, Row, Settings, absolute, at_most

MASKS = 400
SAMPLES = (12, 36)
GIGABYTE = 1e9
COMMAND = "from uav_landing.cli import main; raise SystemExit(main())"


def analyze(settings: Settings) -> Iterator[Row]:
    """The whole command; without `--full` 400 masks are extrapolated from 12 and 36."""
    count = MASKS if settings.full else SAMPLES[1]
    repeats = 1 if settings.full else settings.repeats
    with tempfile.TemporaryDirectory() as folder:
        root = write_photos(Path(folder) / "photos", count, shape(settings.small))
        if settings.full:
            runs = [_count(root, MASKS)]
            seconds, note = np.array([runs[0].seconds]), "one run"
        else:
            pairs = [tuple(_count(root, size) for size in SAMPLES) for _ in range(repeats)]
            runs = [run for pair in pairs for run in pair]
            few, many = (np.array([pair[place].seconds for pair in pairs]) for place in range(2))
            seconds = few + (many - few) * (MASKS - SAMPLES[0]) / (SAMPLES[1] - SAMPLES[0])
            note = f"extrapolated from {SAMPLES[0]} and {SAMPLES[1]}"
    yield absolute(f"analyzer, {MASKS} masks, 2 workers", seconds, "s", at_most(60), note=note)
    peak = max(run.peak_bytes for run in runs) / GIGABYTE
    yield Row(what="analyzer, all processes together", unit="GB", value=peak, budget=at_most(1))


def _count(root: Path, masks: int) -> Ended:
    command = ["-c", COMMAND, "analyze", "--dataset-path", str(root), "--workers", "2"]
    samples = ["--samples", str(masks), "--sample-order", "first"] if masks != MASKS else []
    return run_python([*command, *samples, "--no-plot", "--output-dir", str(root.parent / "out")])


ENTRIES: dict[str, Entry] = {"masks": analyze}
