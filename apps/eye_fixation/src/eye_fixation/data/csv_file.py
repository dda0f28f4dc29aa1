"""Readers of a user's own gaze: CSV files of samples, and CSV lists of fixations."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from common.config import UserError
from eye_fixation.data.csv_table import Table, read_table
from eye_fixation.data.recordings import Placed, Recording, Scanpath, check_on_screen, place
from eye_fixation.geometry import Geometry
from eye_fixation.labels import BLINK, EVENT_NAMES
from eye_fixation.prepare_config import GazeConfig

SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6}
SLOWEST_HZ, FASTEST_HZ = 1.0, 2500.0
LOST = ((0.0, 0.0), (-1.0, -1.0))
"""What trackers write for a lost eye."""
MOST_LOST = 0.005

_SLACK = 1e-9
_DEGREES = 60.0
_SHARE = 0.98
_FLAGS = {"1": True, "0": False, "1.0": True, "0.0": False, "true": True, "false": False}
_EVENTS = {name: index for index, name in enumerate(EVENT_NAMES)} | {str(n): n for n in range(BLINK + 1)}

Array = NDArray[np.float64]


def geometry_of(gaze: GazeConfig) -> Geometry:
    """Return the screen that the flags describe."""
    return Geometry(gaze.screen_px, gaze.screen_mm, gaze.distance_mm)


def read_samples(path: Path, gaze: GazeConfig) -> list[Recording]:
    """Return the recordings of a file `t,x,y[,valid,recording,subject,stimulus,event]`, as they first occur.

    Without a column `recording` the file is one, named after it. Empty x or y and blinks are no gaze.
    UserError names file and row of what is no number and of times that do not rise, and the flag that would
    fit where unit, time unit, missing value or screen do not.
    """
    table = read_table(path, ("t", "x", "y"))
    t = table.numbers("t") * SECONDS[gaze.time_unit]
    if not np.isfinite(t).all():
        index = int(np.flatnonzero(~np.isfinite(t))[0])
        raise table.fail(index, f"column t: {table.columns['t'][index]!r} is no time")
    events = _events(table)
    seen = _valid(table) if events is None else _valid(table) & (events != BLINK)
    placed = _place(table, seen, gaze)
    stimulus = table.text("stimulus") if "stimulus" in table else None
    recordings = []
    for name, rows in _groups(table.text("recording", path.stem)):
        _check_times(table, t, rows, gaze)
        recordings.append(
            Recording(
                name, t[rows], placed.x[rows], placed.y[rows], placed.valid[rows],
                _only(table, "subject", name, rows),
                None if stimulus is None else stimulus[rows],
                None if events is None else events[rows],
                int(placed.outside[rows].sum()),
            )
        )  # fmt: skip
    return recordings


def read_fixations(path: Path, gaze: GazeConfig) -> list[Scanpath]:
    """Return the scanpaths of a file `x,y,duration_ms[,valid,recording,subject,stimulus,event]`.

    A scanpath is what has the same recording, subject and stimulus, as they first occur; rows are in order.
    UserError as in `read_samples`, and for a duration that is not positive.
    """
    table = read_table(path, ("x", "y", "duration_ms"))
    duration = table.numbers("duration_ms")
    if (bad := ~((duration > 0) & np.isfinite(duration))).any():
        index = int(np.flatnonzero(bad)[0])
        raise table.fail(index, f"duration_ms {table.columns['duration_ms'][index]!r} is not above 0")
    placed, events = _place(table, _valid(table), gaze), _events(table)
    columns = [table.text("recording", path.stem), table.text("subject"), table.text("stimulus")]
    scanpaths = []
    for _, rows in _groups(np.array(["\x1f".join(key) for key in zip(*columns)])):
        name, subject, stimulus = (str(column[rows[0]]) for column in columns)
        scanpaths.append(
            Scanpath(
                name, placed.x[rows], placed.y[rows], duration[rows], placed.valid[rows], subject, stimulus,
                None if events is None else events[rows],
                int(placed.outside[rows].sum()),
            )
        )  # fmt: skip
    return scanpaths


def _valid(table: Table) -> NDArray[np.bool_]:
    if "valid" not in table:
        return np.ones(len(table.rows), bool)
    return np.array(table.each("valid", lambda word: _FLAGS[word.lower()], "0, 1, true or false"))


def _events(table: Table) -> NDArray[np.uint8] | None:
    if "event" not in table:
        return None
    expected = f"an event: 0 to {BLINK} or {', '.join(EVENT_NAMES)}"
    ids = table.each("event", lambda word: _EVENTS[word.lower() or "0"], expected)
    return np.array(ids, dtype=np.uint8)


def _groups(names: NDArray[np.str_]) -> Iterator[tuple[str, NDArray[np.int64]]]:
    """Yield every name with its rows, in the order of first occurrence."""
    unique, first, group = np.unique(names, return_index=True, return_inverse=True)
    rows = np.split(np.argsort(group, kind="stable"), np.cumsum(np.bincount(group))[:-1])
    for index in np.argsort(first):
        yield str(unique[index]), rows[index]


def _only(table: Table, column: str, name: str, rows: NDArray[np.int64]) -> str:
    """Return the value that a column has throughout a recording. Raises UserError for two."""
    values = table.text(column)[rows]
    if (other := np.flatnonzero(values != values[0])).size:
        first, second = str(values[0]), str(values[other[0]])
        raise table.fail(rows[other[0]], f"recording {name} has {column} {first!r} and {second!r}")
    return str(values[0])


def _check_times(table: Table, t: Array, rows: NDArray[np.int64], gaze: GazeConfig) -> None:
    times = t[rows]
    late = np.flatnonzero(np.diff(times) <= 0)
    if late.size:
        first, second = rows[late[0]], rows[late[0] + 1]
        words = table.columns["t"]
        raise table.fail(
            second, f"time {words[second]} does not follow {words[first]} of row {table.rows[first]}"
        )
    if len(times) < 2:
        return
    step = float(np.median(np.diff(times)))
    if SLOWEST_HZ * (1 - _SLACK) <= 1 / step <= FASTEST_HZ * (1 + _SLACK):
        return
    step /= SECONDS[gaze.time_unit]
    fitting = [unit for unit, scale in SECONDS.items() if SLOWEST_HZ <= 1 / (step * scale) <= FASTEST_HZ]
    advice = " or ".join(f"--time-unit {unit}" for unit in fitting) or "no --time-unit"
    raise UserError(
        f"{table.path}: a median step of {step:g} {gaze.time_unit} is "
        f"{1 / (step * SECONDS[gaze.time_unit]):g} samples per second; {advice} would fit"
    )


def _place(table: Table, seen: NDArray[np.bool_], gaze: GazeConfig) -> Placed:
    """Return the positions in shares of the screen after every check of unit, missing value and screen."""
    x, y = (np.where(np.isfinite(values), values, np.nan) for values in map(table.numbers, ("x", "y")))
    seen = seen & np.isfinite(x) & np.isfinite(y)
    if gaze.missing_value is not None:
        lost_x, lost_y = gaze.missing_value
        seen = seen & ~((x == lost_x) & (y == lost_y))
    else:
        _check_lost(table.path, x[seen], y[seen])
    if gaze.units == "px":
        _check_pixels(table.path, x[seen], y[seen])
    geometry = geometry_of(gaze)
    try:
        shares = geometry.normalised(x, y, gaze.units, gaze.origin)
    except ValueError as error:
        raise UserError(f"--units {gaze.units}: {error}") from None
    placed = place(*shares, seen, gaze.offscreen)
    if seen.any():
        ranges = (x[seen], y[seen])
        check_on_screen(table.path, int(placed.outside.sum()), int(seen.sum()), ranges, geometry)
    return placed


def _check_lost(path: Path, x: Array, y: Array) -> None:
    for lost_x, lost_y in LOST:
        share = float(((x == lost_x) & (y == lost_y)).mean()) if len(x) else 0.0
        if share > MOST_LOST:
            value = f"{lost_x:g} {lost_y:g}"
            raise UserError(
                f"{path}: {share:.1%} of the samples are ({lost_x:g}, {lost_y:g}); --missing-value {value} "
                "makes them no gaze, --missing-value nan nan keeps them"
            )


def _check_pixels(path: Path, x: Array, y: Array) -> None:
    if not len(x):
        return
    if min(x.min(), y.min()) >= 0 and max(x.max(), y.max()) <= 1:
        raise UserError(f"{path}: all x and y are from 0 to 1, no pixels; --units norm would fit")
    share = float(((np.abs(x) < _DEGREES) & (np.abs(y) < _DEGREES)).mean())
    if share >= _SHARE:
        raise UserError(
            f"{path}: {share:.0%} of x and y are below {_DEGREES:g} in size, hardly pixels; "
            "--units deg would fit"
        )
