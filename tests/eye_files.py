"""Small data sets of gaze for tests, and writers of the files that people bring."""

import csv
import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.io import savemat

from eye_fixation.data.contract import SPLITS, GazeData, GazeSplits, Metadata

SIZES = (24, 12, 12)


def gaze_data(count: int, *, seed: int, length: int = 20, offset: int = 0, **metadata: Any) -> GazeData:
    """Random walks of gaze on 32 x 32 cells; two sequences a group, groups counted from `offset`."""
    random = np.random.default_rng(seed)
    start = random.uniform(8, 24, (count, 1, 2))
    steps = random.normal(0, 2, (count, length - 1, 2))
    paths = np.concatenate([start, start + np.cumsum(steps, 1)], 1).clip(0, 31.99)
    given = {"source": "simulated", "source_name": "walk", "rate_hz": 10.0, "split_by": "recording"}
    return GazeData(
        torch.from_numpy(paths).float(),
        torch.ones(count, length, dtype=torch.bool),
        Metadata(**(given | metadata)),
        group=offset + torch.arange(count) // 2,
    )


def gaze_splits(sizes: Sequence[int] = SIZES, *, length: int = 20, **metadata: Any) -> GazeSplits:
    """Three splits of `gaze_data` without shared groups."""
    parts = [
        gaze_data(size, seed=number, length=length, offset=100 * number, split=split, **metadata)
        for number, (size, split) in enumerate(zip(sizes, SPLITS))
    ]
    return GazeSplits(*parts)


def masked(data: GazeData, *places: tuple[int, int]) -> GazeData:
    """The same data without gaze in the frames (sequence, frame) of `places`."""
    mask = data.mask.clone()
    for sequence, frame in places:
        mask[sequence, frame] = False
    return replace(data, mask=mask, coordinates=torch.where(mask[..., None], data.coordinates, 0.0))


def write_csv(path: Path, header: str, rows: Sequence[Sequence[object]], separator: str = ",") -> Path:
    """Write a table with a header of comma-separated names."""
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, delimiter=separator).writerows([header.split(","), *rows])
    return path


def walk_rows(seconds: float, *, hz: float = 100.0, seed: int = 0) -> list[list[float]]:
    """Rows t, x, y of a slow walk over a screen of 800 x 400 px."""
    random = np.random.default_rng(seed)
    count = int(seconds * hz)
    walk = np.cumsum(random.normal(0, 1.5, (count, 2)), 0)
    walk += (300, 150)
    x, y = 50 + np.abs(walk % (1400, 600) - (700, 300)).T
    return np.round(np.stack([np.arange(count) / hz, x, y], 1), 4).tolist()


def write_osie(path: Path, images: Sequence[tuple[str, Sequence[tuple[Any, Any, Any]]]]) -> Path:
    """Write `fixations.mat`: per image a name and (x, y, durations) of every subject."""
    cells = np.empty((len(images), 1), object)
    for index, (name, subjects) in enumerate(images):
        people = np.empty((len(subjects), 1), object)
        for number, (x, y, duration) in enumerate(subjects):
            people[number, 0] = {"fix_x": x, "fix_y": y, "fix_duration": duration}
        cells[index, 0] = {"img": name, "subjects": people}
    savemat(path, {"fixations": cells})
    return path


def write_irf(folder: Path, recordings: dict[str, np.ndarray[Any, Any]]) -> Path:
    """Write a folder of recordings and the screen of 533 x 301 mm at 565 mm."""
    folder.mkdir(parents=True, exist_ok=True)
    geometry = {
        "screen_width": 533.0, "screen_height": 301.0, "eye_distance": 565.0, "display_width_pix": 1920.0,
        "display_height_pix": 1080.0,
    }  # fmt: skip
    (folder / "db_config.json").write_text(json.dumps({"geom": geometry}))
    for name, samples in recordings.items():
        np.save(folder / f"lookAtPoint_EL_{name}.npy", samples)
    return folder


def irf_samples(count: int, *, seed: int = 0) -> np.ndarray[Any, Any]:
    """Samples of a recording at 1 kHz: the gaze jumps every 300 ms, first at 275 ms; all labelled 1."""
    random = np.random.default_rng(seed)
    samples = np.zeros(count, [("t", "<f8"), ("x", "<f4"), ("y", "<f4"), ("status", "?"), ("evt", "u1")])
    targets = random.uniform([-20, -12], [20, 12], (count // 300 + 2, 2))
    gaze = np.repeat(targets, 300, 0)[25 : count + 25] + random.normal(0, 0.05, (count, 2))
    samples["t"], samples["x"], samples["y"] = np.arange(count) / 1000, *gaze.T
    samples["status"], samples["evt"] = True, 1
    return samples
