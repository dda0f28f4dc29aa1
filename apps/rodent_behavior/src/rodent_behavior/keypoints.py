"""Which tracked points can be trusted, and how short gaps between them are filled."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

MARGIN = 0.05
FILLED = 0.5

Points = NDArray[np.float64]
Mask = NDArray[np.bool_]


class Pose(Protocol):
    """Tracked points in pixels [T, K, 2] and their likelihood [T, K]."""

    @property
    def xy(self) -> Points: ...

    @property
    def likelihood(self) -> Points: ...


@dataclass(frozen=True, eq=False)
class Keypoints:
    """K points of consecutive frames: `xy` [T, K, 2] and `scale` [T] px, `visibility`, `likelihood` [T, K].

    Visibility is 1 for a visible, 0.5 for a filled and 0 for a missing point, whose coordinates are 0. The
    body scale is NaN where it is not known.
    """

    xy: Points
    visibility: Points
    likelihood: Points
    scale: Points

    @classmethod
    def of(cls, xy: ArrayLike, visibility: ArrayLike, likelihood: ArrayLike, scale: ArrayLike) -> Keypoints:
        """Return float64 copies in which missing points are 0 and so is a likelihood that is NaN."""
        seen = np.asarray(visibility, dtype=np.float64)
        points = np.where(seen[..., None] > 0, np.asarray(xy, dtype=np.float64), 0.0)
        confidence = np.nan_to_num(np.asarray(likelihood, dtype=np.float64), nan=0.0)
        return cls(points, seen, confidence, np.asarray(scale, dtype=np.float64))

    @classmethod
    def unknown(cls, frames: int, points: int) -> Keypoints:
        """Return `frames` frames in which nothing is known of `points` points."""
        nothing = np.zeros((frames, points))
        return cls(np.zeros((frames, points, 2)), nothing, nothing.copy(), np.full(frames, np.nan))

    def __len__(self) -> int:
        return len(self.xy)

    def __getitem__(self, frames: slice) -> Keypoints:
        return Keypoints(
            self.xy[frames], self.visibility[frames], self.likelihood[frames], self.scale[frames]
        )


def visible(pose: Pose, threshold: float, width: int, height: int) -> Mask:
    """Return [T, K]: likelihood >= threshold, x and y finite and inside the frame or at most 5 % outside."""
    size = np.array([width, height], dtype=np.float64)
    with np.errstate(invalid="ignore"):
        inside = (pose.xy >= -MARGIN * size) & (pose.xy <= (1 + MARGIN) * size)
        return np.asarray(inside.all(axis=-1) & (pose.likelihood >= threshold))


def fill_gaps(xy: Points, visible: Mask, max_gap: int, causal: bool) -> tuple[Points, NDArray[np.float32]]:
    """Fill short gaps of one trial: points [T, K, 2] in px and visibility [T, K] (1 seen, 0.5 filled, 0 not).

    Gaps of at most `max_gap` frames between two seen frames are interpolated linearly. Causal: the last seen
    point is held for at most `max_gap` frames, whether the gap ends or not. Missing points are (0, 0).
    """
    if max_gap < 0:
        raise ValueError(f"max_gap {max_gap} must be >= 0")
    points = np.where(visible[..., None], xy, 0.0)
    visibility = visible.astype(np.float32)
    for index in range(visible.shape[1]):
        seen = np.flatnonzero(visible[:, index])
        if len(seen):
            filled = (
                _held(visible[:, index], seen, max_gap)
                if causal
                else _between(visible[:, index], seen, max_gap)
            )
            points[filled, index] = _values(xy[:, index], seen, filled, causal)
            visibility[filled, index] = FILLED
    return points, visibility


def gap_lengths(visible: Mask) -> NDArray[np.int64]:
    """Return the lengths of the hidden runs of one point [T], in order."""
    edges = np.flatnonzero(np.diff(np.concatenate([[1], visible.astype(np.int8), [1]])))
    return (edges[1::2] - edges[::2]).astype(np.int64)


def _held(shown: Mask, seen: NDArray[np.int64], max_gap: int) -> NDArray[np.int64]:
    hidden = np.flatnonzero(~shown)
    last = np.searchsorted(seen, hidden) - 1
    age = np.where(last >= 0, hidden - seen[np.maximum(last, 0)], max_gap + 1)
    return hidden[age <= max_gap]


def _between(shown: Mask, seen: NDArray[np.int64], max_gap: int) -> NDArray[np.int64]:
    hidden = np.flatnonzero(~shown)
    after = np.searchsorted(seen, hidden)
    hidden, after = hidden[(after > 0) & (after < len(seen))], after[(after > 0) & (after < len(seen))]
    gap = seen[after] - seen[after - 1] - 1
    return hidden[gap <= max_gap]


def _values(xy: Points, seen: NDArray[np.int64], filled: NDArray[np.int64], causal: bool) -> Points:
    if causal:
        return np.asarray(xy[seen[np.searchsorted(seen, filled) - 1]])
    return np.stack([np.interp(filled, seen, xy[seen, axis]) for axis in (0, 1)], axis=-1)
