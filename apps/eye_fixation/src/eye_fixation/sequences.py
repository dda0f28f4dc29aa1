"""Sequences of equal length cut out of framed recordings and scanpaths."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from common.config import UserError
from eye_fixation.data.contract import GazeData, Metadata
from eye_fixation.data.recordings import Recording, Scanpath
from eye_fixation.events import idt, ivt
from eye_fixation.framing import frame_fixations, frame_samples, nearest_samples, window_starts
from eye_fixation.geometry import Geometry
from eye_fixation.labels import UNDEFINED
from eye_fixation.prepare_config import EventKind

Array = NDArray[np.float64]
Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]
Events = NDArray[np.uint8]


@dataclass(frozen=True)
class Track:
    """Frames of one recording or scanpath: positions (F, 2) in shares of the screen, validity and events.

    `start_s` is the recording's time at frame 0, None for frames that are no times.
    """

    recording: str
    subject: str
    stimulus: str
    positions: Array
    mask: Bools
    events: Events | None
    start_s: float | None


@dataclass(frozen=True)
class Windows:
    """Where sequences were cut: indices of tracks and of their first frames, (N,) each.

    `too_short` names the tracks without room for one; `dropped` counts windows with too few valid frames.
    """

    track: Ints
    start: Ints
    too_short: tuple[str, ...]
    dropped: int

    def __len__(self) -> int:
        return len(self.track)


def label_samples(recording: Recording, kind: EventKind, geometry: Geometry) -> Recording:
    """Return the recording with the event labels asked for, None of them for `none`.

    Raises UserError where the file has no labels, or the geometry no visual angle.
    """
    if kind == "column":
        if recording.events is None:
            raise UserError(f"--events column: recording {recording.name} has no column event")
        return recording
    if kind == "none":
        return replace(recording, events=None)
    if not geometry.has_degrees:
        raise UserError(f"--events {kind} needs --screen-mm and --distance-mm")
    detect = ivt if kind == "ivt" else idt
    x, y = geometry.angles(recording.x, recording.y)
    return replace(recording, events=detect(recording.t, x, y, recording.valid))


def stimulus_parts(recording: Recording) -> list[Recording]:
    """Return the recording cut where its stimulus changes. Raises UserError where it has none."""
    if recording.stimulus is None:
        raise UserError(f"--split image: recording {recording.name} has no column stimulus")
    changes = np.flatnonzero(recording.stimulus[1:] != recording.stimulus[:-1]) + 1
    bounds = [0, *changes.tolist(), len(recording.t)]
    return [recording.part(slice(start, stop)) for start, stop in pairwise(bounds)]


def recording_track(recording: Recording, rate_hz: float) -> Track:
    """Return the frames of a recording; an invalid frame has the label of its most central sample."""
    positions, mask, start_s = frame_samples(
        recording.t, recording.x, recording.y, recording.valid, rate_hz=rate_hz
    )
    events = None
    if recording.events is not None:
        seen = nearest_samples(recording.t, recording.valid, rate_hz=rate_hz)
        any_sample = nearest_samples(recording.t, np.ones(len(recording.t), bool), rate_hz=rate_hz)
        chosen = np.where(seen >= 0, seen, any_sample)
        events = np.where(chosen >= 0, recording.events[chosen], UNDEFINED).astype(np.uint8)
    names = [] if recording.stimulus is None else np.unique(recording.stimulus).tolist()
    stimulus = names[0] if len(names) == 1 else ""
    return Track(recording.name, recording.subject, stimulus, positions, mask, events, start_s)


def scanpath_track(scanpath: Scanpath, rate_hz: float | None, kind: EventKind) -> Track:
    """Return the frames of a scanpath: of equal time, or one per fixation where `rate_hz` is None."""
    if kind == "column" and scanpath.events is None:
        raise UserError(f"--events column: recording {scanpath.name} has no column event")
    count = len(scanpath.x)
    shown = np.arange(count) if rate_hz is None else frame_fixations(scanpath.duration_ms, rate_hz=rate_hz)
    mask = scanpath.valid[shown]
    positions = np.where(mask[:, None], np.stack([scanpath.x, scanpath.y], 1)[shown], 0.0)
    events = None if kind == "none" or scanpath.events is None else scanpath.events[shown]
    start_s = None if rate_hz is None else 0.0
    return Track(scanpath.name, scanpath.subject, scanpath.stimulus, positions, mask, events, start_s)


def cut(tracks: Sequence[Track], *, length: int, hop: int | None, min_valid: float) -> Windows:
    """Return where sequences of `length` frames are, `hop` apart, or one at the start where `hop` is None."""
    found = [window_starts(track.mask, length=length, hop=hop, min_valid=min_valid) for track in tracks]
    counts = [len(starts) for starts, _ in found]
    return Windows(
        np.repeat(np.arange(len(tracks)), counts),
        np.concatenate([np.zeros(0, np.int64), *(starts for starts, _ in found)]),
        tuple(track.recording for track in tracks if len(track.mask) < length),
        sum(dropped for _, dropped in found),
    )


def build(
    tracks: Sequence[Track],
    windows: Windows,
    chosen: Ints,
    ids: dict[str, Ints],
    metadata: Metadata,
    length: int,
) -> GazeData:
    """Return the sequences of the windows `chosen` (n,); `ids` are those of group, subject, ... by track."""
    places = [(tracks[windows.track[index]], int(windows.start[index])) for index in chosen]
    spans = [(track, slice(start, start + length)) for track, start in places]
    size = metadata.img_size
    positions = np.stack([track.positions[span] for track, span in spans]) * size
    # A position just below S can become S in single precision, which would count as on the edge.
    positions = np.minimum(positions.astype(np.float32), np.nextafter(np.float32(size), np.float32(0)))
    by_window = {name: torch.from_numpy(values[windows.track[chosen]]) for name, values in ids.items()}
    return GazeData(
        torch.from_numpy(positions),
        torch.from_numpy(np.stack([track.mask[span] for track, span in spans])),
        metadata,
        start_s=_start_times(places, metadata.rate_hz),
        events=_labels(spans),
        group=by_window.get("group"),
        subject=by_window.get("subject"),
        recording=by_window.get("recording"),
    )


def _start_times(places: list[tuple[Track, int]], rate_hz: float | None) -> Tensor | None:
    if rate_hz is None:
        return None
    times = [(track.start_s or 0.0) + start / rate_hz for track, start in places]
    return torch.tensor(times, dtype=torch.float64)


def _labels(spans: list[tuple[Track, slice]]) -> Tensor | None:
    labels = [track.events[span] for track, span in spans if track.events is not None]
    return torch.from_numpy(np.stack(labels)) if len(labels) == len(spans) else None
