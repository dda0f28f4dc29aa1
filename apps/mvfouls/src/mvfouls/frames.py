"""Which frames of a clip the network sees."""

from __future__ import annotations

import math
from dataclasses import dataclass

FOUL_FRAME = 75
"""The frame of the foul in a clip of `CLIP_FPS`."""
CLIP_FPS = 25.0
FPS_TOLERANCE = 0.5
"""A clip whose rate is so near to `CLIP_FPS` has it."""


@dataclass(frozen=True, kw_only=True)
class FrameRule:
    """`count` frames evenly spread over start..end, or, with `fps`, at that rate around the foul.

    Numbers are frames from 0 of a clip of 25 fps, both ends inclusive:
    floor(start + k (end - start) / (count - 1) + 1/2), or 75 + floor((k - count / 2) 25 / fps + 1/2); a
    single frame lies in the middle. ValueError names the argument that is out of range.
    """

    start: int = 67
    end: int = 82
    count: int = 16
    fps: float | None = None

    def __post_init__(self) -> None:
        if self.count < 1:
            raise ValueError(f"count is {self.count}: 1 or more is expected")
        if self.fps is None and not 0 <= self.start <= self.end:
            raise ValueError(f"start {self.start} and end {self.end}: 0 <= start <= end is expected")
        if self.fps is not None and not (self.fps > 0 and math.isfinite(self.fps)):
            raise ValueError(f"fps is {self.fps}: more than 0 is expected")
        if self.indices()[0] < 0:
            raise ValueError(f"fps is {self.fps}: {self.count} frames start {-self.indices()[0]} too early")

    @property
    def seconds(self) -> float:
        """Time from the first frame to the end of the last."""
        indices = self.indices()
        return (indices[-1] - indices[0] + 1) / CLIP_FPS

    @property
    def rate(self) -> float:
        """Frames per second that the network sees, from the mean distance of the frames."""
        indices = self.indices()
        span = indices[-1] - indices[0]
        return CLIP_FPS * (self.count - 1) / span if span else CLIP_FPS

    def indices(self) -> tuple[int, ...]:
        """Return the frames of a clip of 25 fps."""
        return self.indices_at(CLIP_FPS)

    def indices_at(self, fps: float, shift: int = 0) -> tuple[int, ...]:
        """Return the frames of a clip of `fps`, taken `shift` frames of 25 fps later; may lie below 0."""
        if self.fps is None:
            return tuple(frame_at(number + shift, fps) for number in self._window())
        source = CLIP_FPS if is_clip_fps(fps) else fps
        middle = frame_at(FOUL_FRAME + shift, fps)
        steps = (_round((k - self.count / 2) * source / self.fps) for k in range(self.count))
        return tuple(middle + step for step in steps)

    def _window(self) -> list[int]:
        if self.count == 1:
            return [_round((self.start + self.end) / 2)]
        step = (self.end - self.start) / (self.count - 1)
        return [_round(self.start + k * step) for k in range(self.count)]


def frame_at(number: int, fps: float) -> int:
    """Return the frame of a clip of `fps` that is shown when one of 25 fps shows frame `number`.

    ValueError for a rate that is not a positive number.
    """
    if not (fps > 0 and math.isfinite(fps)):
        raise ValueError(f"fps is {fps}: more than 0 is expected")
    return number if is_clip_fps(fps) else _round(number * fps / CLIP_FPS)


def is_clip_fps(fps: float) -> bool:
    """Return whether a rate is that of the data set."""
    return abs(fps - CLIP_FPS) <= FPS_TOLERANCE


def _round(value: float) -> int:
    return math.floor(value + 0.5)
