"""Gaze as it was recorded, in shares of the screen: samples in time, and lists of fixations."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from common.config import UserError
from eye_fixation.geometry import Geometry

Array = NDArray[np.float64]
Bools = NDArray[np.bool_]
Events = NDArray[np.uint8]

LAST = 1 - 1e-6
"""Largest share of the screen that is still on it, for gaze moved to the border."""
MOST_OFF_SCREEN = 0.2

_RATE_SLACK = 1.001
_FRAMES_PER_SAMPLE, _MOST_FRAMES = 10, 1_000_000


@dataclass(frozen=True)
class Recording:
    """Samples (n,) of one recording: `t` in s, strictly increasing, `x` and `y` in shares of the screen.

    `x` and `y` are arbitrary where `valid` is False. `off_screen` counts valid gaze that was outside.
    """

    name: str
    t: Array
    x: Array
    y: Array
    valid: Bools
    subject: str = ""
    stimulus: NDArray[np.str_] | None = None
    events: Events | None = None
    off_screen: int = 0

    @property
    def sampling_hz(self) -> float | None:
        """One over the median time between samples; None for fewer than two."""
        return 1 / float(np.median(np.diff(self.t))) if len(self.t) > 1 else None

    def part(self, rows: slice) -> Recording:
        """Return some of the samples; `off_screen` stays that of the whole."""
        stimulus = None if self.stimulus is None else self.stimulus[rows]
        events = None if self.events is None else self.events[rows]
        return replace(
            self, t=self.t[rows], x=self.x[rows], y=self.y[rows], valid=self.valid[rows], stimulus=stimulus,
            events=events,
        )  # fmt: skip


@dataclass(frozen=True)
class Scanpath:
    """Fixations (n,) in order: `x` and `y` in shares of the screen, durations in ms."""

    name: str
    x: Array
    y: Array
    duration_ms: Array
    valid: Bools
    subject: str = ""
    stimulus: str = ""
    events: Events | None = None
    off_screen: int = 0


@dataclass(frozen=True)
class Placed:
    """Positions (n,) on the screen, which of them are valid, and which were valid before but outside."""

    x: Array
    y: Array
    valid: Bools
    outside: Bools


def place(x: Array, y: Array, valid: Bools, offscreen: str) -> Placed:
    """Return positions with gaze outside [0, 1) made invalid, or moved to the border by `clip`."""
    valid = valid & np.isfinite(x) & np.isfinite(y)
    outside = valid & ~((x >= 0) & (x < 1) & (y >= 0) & (y < 1))
    if offscreen == "clip":
        return Placed(np.clip(x, 0, LAST), np.clip(y, 0, LAST), valid, outside)
    return Placed(x, y, valid & ~outside, outside)


def check_on_screen(
    where: object, off_screen: int, valid: int, ranges: Sequence[Array], geometry: Geometry
) -> None:
    """Raise UserError when more than a fifth of the valid gaze is outside; `ranges` are x and y as read."""
    if off_screen <= MOST_OFF_SCREEN * valid:
        return
    x, y = (f"{np.nanmin(values):g} to {np.nanmax(values):g}" for values in ranges)
    known = ", ".join(f"{name} {value}" for name, value in geometry.to_dict().items() if value is not None)
    raise UserError(
        f"{where}: {off_screen / valid:.1%} of the gaze is off the screen (x {x}, y {y}; "
        f"{known or 'no geometry'}); look at --screen-px, --units and --origin"
    )


def check_rate(recording: Recording, rate_hz: float) -> None:
    """Raise UserError when frames would be faster than samples, or far more: the time jumps then."""
    measured = recording.sampling_hz
    if measured is not None and rate_hz > measured * _RATE_SLACK:
        raise UserError(
            f"--rate-hz {rate_hz:g}: recording {recording.name} has {measured:.4g} samples per second"
        )
    frames = (recording.t[-1] - recording.t[0]) * rate_hz if measured is not None else 0.0
    if frames > max(_FRAMES_PER_SAMPLE * len(recording.t), _MOST_FRAMES):
        index = int(np.argmax(np.diff(recording.t)))
        raise UserError(
            f"recording {recording.name}: {len(recording.t)} samples would be {frames:.3g} frames; the "
            f"time jumps from {recording.t[index]:g} to {recording.t[index + 1]:g} s"
        )
