"""Reader of IRF's hand-labelled recordings: structured arrays of 1 kHz gaze in degrees, and their screen.

Source: Zemblys et al., Using machine learning to detect events in eye-tracking data (2018).
"""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.config import UserError
from eye_fixation.data.recordings import Recording, check_on_screen, place
from eye_fixation.geometry import Geometry, combine
from eye_fixation.labels import BLINK
from eye_fixation.prepare_config import GazeConfig

CONFIG = "db_config.json"
ROUGH = "S3"
"""The recording whose labels are approximate."""

_SPLIT = {"S1": 0, "S2": 0, "S3": 0, "S4": 0, "S5": 1, "S6": 2}
_FIELDS = ("t", "x", "y", "status", "evt")
_GEOMETRY = ("screen_width", "screen_height", "eye_distance", "display_width_pix", "display_height_pix")


def read_irf(folder: Path, gaze: GazeConfig) -> tuple[list[Recording], Geometry]:
    """Return the recordings of a folder by name (`S1` of `..._S1.npy`), and their screen.

    Valid samples have status, are finite, are no blink, and lie on the screen. UserError names the file and
    the field or geometry entry that is missing, times that do not rise, and flags that contradict the file.
    """
    config = folder / CONFIG
    typed = Geometry(gaze.screen_px, gaze.screen_mm, gaze.distance_mm)
    geometry = combine(_geometry(config), typed, config)
    paths = sorted(folder.glob("*.npy"))
    if not paths:
        raise UserError(f"--input {folder}: no .npy file")
    names = [path.stem.rpartition("_")[2] for path in paths]
    if len(set(names)) < len(names):
        names = [path.stem for path in paths]
    return [_recording(path, name, geometry, gaze) for path, name in zip(paths, names)], geometry


def fixed_split(names: Sequence[str]) -> dict[str, int] | None:
    """Return 0, 1 or 2 for train, val and test by recording, or None when other recordings are there."""
    return dict(_SPLIT) if set(names) <= set(_SPLIT) else None


def _geometry(path: Path) -> Geometry:
    try:
        contents = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"--input: {path}: {error.strerror}") from None
    except ValueError as error:
        raise UserError(f"{path}: no JSON: {error}") from None
    values = contents.get("geom") if isinstance(contents, dict) else None
    found: Collection[str] = values if isinstance(values, dict) else ()
    if missing := [name for name in _GEOMETRY if name not in found]:
        raise UserError(f"{path}: geom lacks {', '.join(missing)}")
    assert isinstance(values, dict)
    try:
        width, height, distance, columns, rows = (float(values[name]) for name in _GEOMETRY)
        return Geometry((columns, rows), (width, height), distance)
    except (TypeError, ValueError) as error:
        raise UserError(f"{path}: geom: {error}") from None


def _recording(path: Path, name: str, geometry: Geometry, gaze: GazeConfig) -> Recording:
    samples = _samples(path)
    t = samples["t"].astype(np.float64)
    if late := np.flatnonzero(~(np.diff(t) > 0)).tolist():
        row = late[0] + 1
        raise UserError(f"{path}: sample {row}: time {t[row]:g} does not follow {t[row - 1]:g}")
    x, y = (np.where(np.isfinite(samples[axis]), samples[axis], np.nan) for axis in ("x", "y"))
    events = samples["evt"].astype(np.uint8)
    if len(events) and events.max() > BLINK:
        raise UserError(f"{path}: evt {events.max()} is no event id, 0 to {BLINK}")
    shares = geometry.normalised(x.astype(np.float64), y.astype(np.float64), "deg", "top-left")
    seen = samples["status"].astype(bool) & (events != BLINK)
    placed = place(*shares, seen, gaze.offscreen)
    off_screen = int(placed.outside.sum())
    total = int((seen & np.isfinite(x) & np.isfinite(y)).sum())
    check_on_screen(path, off_screen, total, (x, y), geometry)
    return Recording(name, t, placed.x, placed.y, placed.valid, name, events=events, off_screen=off_screen)


def _samples(path: Path) -> NDArray[Any]:
    try:
        samples = np.load(path, allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise UserError(f"{path}: no array that can be read: {error}") from None
    found = samples.dtype.names or ()
    if missing := [name for name in _FIELDS if name not in found]:
        raise UserError(f"{path}: no field {', '.join(missing)}; fields found: {', '.join(found) or 'none'}")
    return np.atleast_1d(samples)
