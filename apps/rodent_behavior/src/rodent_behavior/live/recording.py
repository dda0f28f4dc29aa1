"""Recordings of a live session, complete enough to compute it again."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import DTypeLike, NDArray

from common.config import UserError
from rodent_behavior.live.sinks import Event

POSES, PROBS, EVENTS, CONFIG = "poses.npz", "probs.npy", "events.jsonl", "config.yaml"


class Rows:
    """An array that grows by rows."""

    def __init__(self, shape: tuple[int, ...], dtype: DTypeLike) -> None:
        self._array = np.zeros((256, *shape), dtype=dtype)
        self._length = 0

    def append(self, row: object) -> None:
        """Add one row."""
        if self._length == len(self._array):
            self._array = np.concatenate([self._array, np.zeros_like(self._array)])
        self._array[self._length] = row
        self._length += 1

    def array(self) -> NDArray[Any]:
        """Return the rows so far."""
        return self._array[: self._length]


@dataclasses.dataclass(frozen=True, eq=False)
class Recording:
    """What a session received and answered, one row per frame taken.

    `index` int64 [N] on the stream's grid, `frame_time` float64 [N] as given (NaN without), `pose` float32
    [N, K, 3] in the order of `kp_names` (NaN where it was unusable), `segment` int64 [N] rising at every
    restart, `arrival` float64 [N] on the session's clock, `probs` float32 [N, C].
    """

    index: NDArray[np.int64]
    frame_time: NDArray[np.float64]
    pose: NDArray[np.float32]
    segment: NDArray[np.int64]
    arrival: NDArray[np.float64]
    probs: NDArray[np.float32]
    events: tuple[Event, ...]
    config: dict[str, Any]

    def write(self, folder: Path) -> None:
        """Write poses.npz, probs.npy, events.jsonl and config.yaml into `folder`, made if need be."""
        folder.mkdir(parents=True, exist_ok=True)
        np.savez(
            folder / POSES,
            index=self.index,
            frame_time=self.frame_time,
            pose=self.pose,
            segment=self.segment,
            arrival=self.arrival,
        )
        np.save(folder / PROBS, self.probs)
        lines = [event.to_json() + "\n" for event in self.events]
        (folder / EVENTS).write_text("".join(lines), encoding="utf-8")
        (folder / CONFIG).write_text(yaml.safe_dump(self.config, sort_keys=False), encoding="utf-8")

    @classmethod
    def read(cls, folder: Path) -> Recording:
        """Return the recording in `folder`; UserError names a file that is absent or not a recording's."""
        absent = [name for name in (POSES, PROBS, EVENTS, CONFIG) if not (folder / name).is_file()]
        if absent:
            raise UserError(f"{folder}: no recording, {', '.join(absent)} missing")
        with np.load(folder / POSES) as poses:
            columns = dict(poses)
        wanted = {"index", "frame_time", "pose", "segment", "arrival"}
        if columns.keys() != wanted:
            raise UserError(f"{folder / POSES}: holds {sorted(columns)}, {sorted(wanted)} are expected")
        lines = (folder / EVENTS).read_text(encoding="utf-8").splitlines()
        config = yaml.safe_load((folder / CONFIG).read_text(encoding="utf-8"))
        events = tuple(Event(**json.loads(line)) for line in lines)
        return cls(**columns, probs=np.load(folder / PROBS), events=events, config=config)


class Recorder:
    """Gathers a recording frame by frame."""

    def __init__(self, keypoints: int, classes: int) -> None:
        self._index = Rows((), np.int64)
        self._frame_time = Rows((), np.float64)
        self._pose = Rows((keypoints, 3), np.float32)
        self._segment = Rows((), np.int64)
        self._arrival = Rows((), np.float64)
        self._probs = Rows((classes,), np.float32)

    def append(
        self,
        *,
        index: int,
        frame_time: float | None,
        pose: NDArray[np.float32],
        segment: int,
        arrival: float,
        probs: NDArray[np.float32],
    ) -> None:
        """Add one frame."""
        self._index.append(index)
        self._frame_time.append(np.nan if frame_time is None else frame_time)
        self._pose.append(pose)
        self._segment.append(segment)
        self._arrival.append(arrival)
        self._probs.append(probs)

    def finish(self, events: Sequence[Event], config: Mapping[str, Any]) -> Recording:
        """Return the recording so far."""
        return Recording(
            index=self._index.array(),
            frame_time=self._frame_time.array(),
            pose=self._pose.array(),
            segment=self._segment.array(),
            arrival=self._arrival.array(),
            probs=self._probs.array(),
            events=tuple(events),
            config=dict(config),
        )
