"""Pose feature sets: what a temporal model sees of the keypoints.

One formula serves both uses: `FeatureSet.__call__` describes a whole trial, and streaming calls
`FeatureSet.describe` on each new frame with the earlier ones it keeps.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rodent_behavior.dlc import DEFAULT_KP_NAMES as KEYPOINTS
from rodent_behavior.poses import (
    MIN_ARM,
    Floats,
    Mask,
    Memory,
    Points,
    Poses,
    RunningScale,
    as_points,
    axis_length,
)

Floats32 = NDArray[np.float32]
Block = tuple[Floats, Mask]
Recall = Callable[[Memory], Mapping[int, Memory]]
"""From the memory of frames to that of the frames each lag before them."""

MOUTH, TAIL_BASE = 0, 1
EDGES = np.array([(0, 1), (0, 2), (0, 3), (1, 4), (1, 5), (2, 4), (3, 5), (2, 3)])
TRIPLETS = np.array(
    [
        (1, 0, 2), (1, 0, 3), (0, 1, 4), (0, 1, 5), (0, 2, 4),
        (0, 3, 5), (1, 2, 4), (1, 3, 5), (2, 0, 3), (4, 1, 5),
    ]
)  # fmt: skip
"""Vertex, end of the first arm, end of the second arm."""
SPEED_LAGS = (1, 5, 15)
CHANGE_LAG = 5

_TO_PAWS = np.array([(paw, TAIL_BASE) for paw in range(2, 6)])
_PAIRS = np.concatenate([EDGES, TRIPLETS[:, [1, 0]], TRIPLETS[:, [2, 0]], _TO_PAWS, [(MOUTH, TAIL_BASE)]])
_EDGES, _FIRST, _SECOND = slice(0, 8), slice(8, 18), slice(18, 28)
_PAWS, _HEADING = slice(28, 32), slice(32, 33)
_KEPT_PAWS, _KEPT_HEADING = slice(6, 10), slice(10, 11)


class FeatureSet(ABC):
    """A set of `size` pose features per frame of `keypoints` keypoints.

    `lags` are the earlier frames it looks at, `axis` the two points whose distance is the body scale (None:
    no scale), `standardised` [F] the features that a `Normalizer` shifts and scales, `causal` whether a
    frame's features depend on it and earlier frames only.
    """

    name: ClassVar[str]
    lags: ClassVar[tuple[int, ...]] = ()

    def __init__(self, *, keypoints: int, size: int, axis: tuple[int, int] | None, causal: bool) -> None:
        self.keypoints = keypoints
        self.size = size
        self.axis = axis
        self.causal = causal

    @property
    def memory_size(self) -> int:
        """Quantities per frame that later frames recall."""
        return self.keypoints

    @property
    def standardised(self) -> Mask:
        """Which features are standardised [F]: all but likelihood and visibility."""
        return np.arange(self.size) < self.size - 2 * self.keypoints

    def scale(self, xy: ArrayLike, visibility: ArrayLike) -> Floats:
        """Return the body scale [T] px of a trial `xy` [T, K, 2], `visibility` [T, K]; NaN where unknown.

        Causal: the running mean up to each frame. Else the median over the trial.
        """
        positions, seen = np.asarray(xy, dtype=np.float64), np.asarray(visibility, dtype=np.float64)
        if self.axis is None:
            return np.full(len(positions), np.nan)
        lengths = axis_length(positions, seen, self.axis)
        if self.causal:
            running = RunningScale()
            return np.array([running.update(length) for length in lengths.tolist()], dtype=np.float64)
        observed = lengths[~np.isnan(lengths)]
        return np.full(len(positions), np.median(observed) if len(observed) else np.nan)

    def __call__(
        self,
        xy: ArrayLike,
        visibility: ArrayLike,
        likelihood: ArrayLike,
        *,
        scale: ArrayLike | None = None,
    ) -> tuple[Floats32, Mask]:
        """Return features float32 [T, F], 0 where missing, and where they are missing, bool [T, F].

        `xy` [T, K, 2] is in px, `visibility` [T, K] in {0, 0.5, 1}, `likelihood` [T, K] as read. The frames
        are those of one trial from its start; `scale` [T] replaces the scale computed from them, for a part
        of a trial or for altered coordinates. ValueError names a shape that does not fit.
        """
        if scale is None:
            scale = self.scale(xy, visibility)
        now = Poses.of(xy, visibility, likelihood, scale)
        if now.points.shape[1] != self.keypoints:
            raise ValueError(f"xy has {now.points.shape[1]} keypoints: {self.name} takes {self.keypoints}")
        return self.describe(now, lambda memory: {lag: memory.before(lag) for lag in self.lags})

    def describe(self, now: Poses, recall: Recall) -> tuple[Floats32, Mask]:
        """Return what `__call__` does for the frames `now`; `recall` is asked once, for each of `lags`."""
        blocks = self._blocks(now, recall)
        values = np.concatenate([value for value, _ in blocks], axis=1)
        known = np.concatenate([mask for _, mask in blocks], axis=1)
        return np.where(known, values, 0.0).astype(np.float32), ~known

    @abstractmethod
    def _blocks(self, now: Poses, recall: Recall) -> list[Block]:
        """Return (values, known), each [T, n], in the order of the features."""


class Graph18(FeatureSet):
    """8 lengths and 10 angles of the six keypoints in coordinates divided by the frame size.

    Uses truly visible keypoints only and looks at one frame. Neither scale invariant nor, for a frame that is
    not square, rotation invariant.
    """

    name = "graph18"

    def __init__(self, *, width: float, height: float) -> None:
        super().__init__(keypoints=len(KEYPOINTS), size=18, axis=None, causal=True)
        if not (width > 0 and height > 0):
            raise ValueError(f"width and height are {width} and {height}: positive sizes in px are expected")
        self.width = width
        self.height = height

    @property
    def standardised(self) -> Mask:
        """No feature: 0 stays the value of a missing one."""
        return np.zeros(self.size, dtype=np.bool_)

    def _blocks(self, now: Poses, recall: Recall) -> list[Block]:
        points = now.points.real / self.width + 1j * (now.points.imag / self.height)
        return _graph18_blocks(points, now.visibility >= 1)


def graph18(xy: ArrayLike, visible: ArrayLike) -> Floats32:
    """Return the 18 features float32 [T, 18] of `xy` [T, 6, 2], x/W and y/H, `visible` bool [T, 6].

    Lengths of `EDGES`, then angles in [0, pi] between the arms of `TRIPLETS`; 0 if a point used is not
    visible or an arm is no longer than 1e-6. ValueError for other shapes.
    """
    positions, seen = np.asarray(xy, dtype=np.float64), np.asarray(visible, dtype=np.bool_)
    if positions.ndim != 3 or positions.shape[1:] != (len(KEYPOINTS), 2) or seen.shape != positions.shape[:2]:
        raise ValueError(
            f"xy is {list(positions.shape)} and visible {list(seen.shape)}: [T, 6, 2] and [T, 6] are expected"
        )
    blocks = _graph18_blocks(np.where(seen, as_points(positions), 0.0), seen)
    return np.concatenate([np.where(known, value, 0.0) for value, known in blocks], axis=1).astype(np.float32)


class Invariant(FeatureSet):
    """77 features of the six keypoints that position, heading and size of the animal do not change.

    In this order: 8 lengths / S, 10 signed angles as (sin, cos), 4 paws in body axes / S, 6 speeds at 3 lags,
    velocities of the 4 paws in body axes, (sin, cos) of the turn, body length / S, 6 likelihoods, 6
    visibilities. Speeds are in S per second; S is the body scale, mouth to tail base.
    """

    name = "invariant"
    lags = SPEED_LAGS

    def __init__(self, *, causal: bool, fps: float) -> None:
        super().__init__(keypoints=len(KEYPOINTS), size=77, axis=(MOUTH, TAIL_BASE), causal=causal)
        self.fps = _checked_fps(fps)

    @property
    def memory_size(self) -> int:
        """Keypoints, paws in body axes, heading."""
        return _KEPT_HEADING.stop

    def _blocks(self, now: Poses, recall: Recall) -> list[Block]:
        vectors, known = _vectors(now.points, now.known, _PAIRS)
        lengths = np.abs(vectors)
        apart = known & (lengths > MIN_ARM)
        units = vectors / np.where(apart, lengths, 1.0)
        inverse, scaled = now.inverse_scale[:, None], now.scaled[:, None]
        heading, headed = units[:, _HEADING], apart[:, _HEADING]
        paws = vectors[:, _PAWS] * heading.conj() * inverse
        paws_known = known[:, _PAWS] & headed & scaled
        memory = Memory(
            np.concatenate([now.points, paws, heading], axis=1),
            np.concatenate([now.known, paws_known, headed], axis=1),
        )
        before = recall(memory)
        return [
            (lengths[:, _EDGES] * inverse, known[:, _EDGES] & scaled),
            _sine_cosine(units[:, _FIRST], units[:, _SECOND], apart[:, _FIRST] & apart[:, _SECOND]),
            (_parts(paws), np.repeat(paws_known, 2, axis=1)),
            _speeds(now, before, self.fps),
            *_changes(memory, before[CHANGE_LAG], self.fps),
            (lengths[:, _HEADING] * inverse, known[:, _HEADING] & scaled),
            *_confidence(now),
        ]


class Generic(FeatureSet):
    """Features of any K >= 2 keypoints: all distances / S, speeds at 3 lags, likelihood, visibility.

    S is the distance between the keypoints `axis`. ValueError for an axis that is no pair of keypoints.
    """

    name = "generic"
    lags = SPEED_LAGS

    def __init__(self, *, keypoints: int, causal: bool, fps: float, axis: tuple[int, int] = (0, 1)) -> None:
        if keypoints < 2:
            raise ValueError(f"keypoints is {keypoints}: at least 2 are expected")
        if axis[0] == axis[1] or not all(0 <= point < keypoints for point in axis):
            raise ValueError(f"axis is {axis}: two different keypoints of {keypoints} are expected")
        self.pairs = np.array(list(combinations(range(keypoints), 2)))
        size = len(self.pairs) + (len(SPEED_LAGS) + 2) * keypoints
        super().__init__(keypoints=keypoints, size=size, axis=axis, causal=causal)
        self.fps = _checked_fps(fps)

    def _blocks(self, now: Poses, recall: Recall) -> list[Block]:
        vectors, known = _vectors(now.points, now.known, self.pairs)
        before = recall(Memory(now.points, now.known))
        return [
            (np.abs(vectors) * now.inverse_scale[:, None], known & now.scaled[:, None]),
            _speeds(now, before, self.fps),
            *_confidence(now),
        ]


def build_features(
    name: str,
    *,
    kp_names: Sequence[str],
    fps: float,
    causal: bool,
    frame_size: tuple[float, float] | None = None,
    axis_points: tuple[str, str] | None = None,
) -> FeatureSet:
    """Return the feature set `name` (`graph18`, `invariant` or `generic`) of the keypoints `kp_names`.

    `frame_size` (width, height) px is needed by `graph18` alone, `axis_points` used by `generic` alone.
    ValueError names what does not fit.
    """
    names = tuple(kp_names)
    if name == "generic":
        axis = _axis(axis_points or names[:2], names)
        return Generic(keypoints=len(names), causal=causal, fps=fps, axis=axis)
    if name not in ("graph18", "invariant"):
        raise ValueError(f"pose_features is {name!r}: graph18, invariant or generic is expected")
    if names != KEYPOINTS:
        raise ValueError(
            f"kp_names are {', '.join(names)}: {name} needs {', '.join(KEYPOINTS)} in this order; "
            "generic takes any"
        )
    if name == "invariant":
        return Invariant(causal=causal, fps=fps)
    if frame_size is None:
        raise ValueError("frame_size: graph18 divides by the width and height of the frame")
    return Graph18(width=frame_size[0], height=frame_size[1])


@dataclass(frozen=True)
class Normalizer:
    """Mean and standard deviation of every feature, float32 [F]; 0 and 1 for those left as they are."""

    mean: Floats32
    std: Floats32

    @classmethod
    def fit(cls, parts: Sequence[tuple[NDArray[np.floating], Mask]], standardised: Mask) -> Normalizer:
        """Return the statistics over all frames of `parts`, pairs (values [T, F], missing [T, F]).

        Missing values do not count; the standard deviation divides by their number. A feature that never
        occurs or never changes keeps a standard deviation of 1. ValueError without any part.
        """
        if not parts:
            raise ValueError("parts is empty: features of at least one trial are expected")
        values = np.concatenate([np.asarray(part, dtype=np.float64) for part, _ in parts])
        known = ~np.concatenate([missing for _, missing in parts])
        count = np.maximum(known.sum(axis=0), 1)
        mean = np.where(known, values, 0.0).sum(axis=0) / count
        spread = np.sqrt((np.where(known, values - mean, 0.0) ** 2).sum(axis=0) / count)
        varies = standardised & (spread > MIN_ARM)
        return cls(
            np.where(standardised, mean, 0.0).astype(np.float32),
            np.where(varies, spread, 1.0).astype(np.float32),
        )

    def apply(self, values: NDArray[np.floating], missing: Mask) -> Floats32:
        """Return (values - mean) / std as float32 [T, F], 0 where missing."""
        return np.where(missing, 0.0, (values - self.mean) / self.std).astype(np.float32)


def _graph18_blocks(points: Points, seen: Mask) -> list[Block]:
    vectors, known = _vectors(points, seen, _PAIRS)
    lengths = np.abs(vectors)
    product = lengths[:, _FIRST] * lengths[:, _SECOND]
    apart = (lengths[:, _FIRST] > MIN_ARM) & (lengths[:, _SECOND] > MIN_ARM)
    along = (vectors[:, _SECOND] * vectors[:, _FIRST].conj()).real
    angles = np.arccos(np.clip(along / np.where(apart, product, 1.0), -1.0, 1.0))
    return [
        (lengths[:, _EDGES], known[:, _EDGES]),
        (np.where(apart, angles, 0.0), known[:, _FIRST] & known[:, _SECOND]),
    ]


def _vectors(points: Points, known: Mask, pairs: NDArray[np.int64]) -> tuple[Points, Mask]:
    """Return from-to differences [T, n] of the pairs (to, from) [n, 2], and where both ends are known."""
    to, start = pairs[:, 0], pairs[:, 1]
    return (
        points.take(to, axis=1) - points.take(start, axis=1),
        known.take(to, axis=1) & known.take(start, axis=1),
    )


def _speeds(now: Poses, before: Mapping[int, Memory], fps: float) -> Block:
    """Displacement over each lag, in S per second; keypoint by keypoint, its lags side by side."""
    frames, keypoints = now.points.shape
    past = np.stack([before[lag].values[:, :keypoints] for lag in SPEED_LAGS], axis=2)
    known = np.stack([before[lag].known[:, :keypoints] for lag in SPEED_LAGS], axis=2)
    rates = now.inverse_scale[:, None, None] * (fps / np.array(SPEED_LAGS))
    values = np.abs(now.points[:, :, None] - past) * rates
    known &= now.known[:, :, None] & now.scaled[:, None, None]
    return values.reshape(frames, -1), known.reshape(frames, -1)


def _changes(memory: Memory, earlier: Memory, fps: float) -> tuple[Block, Block]:
    """Velocity of the paws in body axes, and the turn of the heading."""
    known = memory.known & earlier.known
    paws = (memory.values[:, _KEPT_PAWS] - earlier.values[:, _KEPT_PAWS]) * (fps / CHANGE_LAG)
    turn = _sine_cosine(
        earlier.values[:, _KEPT_HEADING], memory.values[:, _KEPT_HEADING], known[:, _KEPT_HEADING]
    )
    return (_parts(paws), np.repeat(known[:, _KEPT_PAWS], 2, axis=1)), turn


def _confidence(now: Poses) -> tuple[Block, Block]:
    always = np.ones(now.visibility.shape, dtype=np.bool_)
    return (now.likelihood, always), (now.visibility, always)


def _sine_cosine(first: Points, second: Points, known: Mask) -> Block:
    """Return (sin, cos) side by side of the signed angles from unit vector `first` to `second` [T, n]."""
    turn = second * first.conj()
    return _parts(1j * turn.conj()), np.repeat(known, 2, axis=1)


def _parts(values: Points) -> Floats:
    """Return real and imaginary parts side by side [T, 2n]."""
    return np.ascontiguousarray(values).view(np.float64)


def _axis(points: Sequence[str], names: tuple[str, ...]) -> tuple[int, int]:
    absent = [point for point in points if point not in names]
    if absent or len(points) != 2:
        raise ValueError(f"axis_points: {', '.join(absent) or points} not a pair among {', '.join(names)}")
    return names.index(points[0]), names.index(points[1])


def _checked_fps(fps: float) -> float:
    if not fps > 0:
        raise ValueError(f"fps is {fps}: a positive frame rate is expected")
    return float(fps)
