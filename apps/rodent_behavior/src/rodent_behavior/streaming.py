"""Actions frame by frame: the causal model on live keypoints, in numpy.

Streaming over a recording gives the probabilities of the causal model over the whole of it.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from rodent_behavior.dlc import DEFAULT_KP_NAMES
from rodent_behavior.keypoints import visible
from rodent_behavior.model_config import BehaviorModelConfig
from rodent_behavior.pose_features import FeatureSet, Normalizer, build_features
from rodent_behavior.poses import Floats, Mask, Memory, Poses, RunningScale, axis_length
from rodent_behavior.streaming_network import Floats32, StreamingNetwork, softmax

FEWEST_VISIBLE = 3
"""Visible keypoints below which no action is named."""
UNKNOWN = "unknown"
Status = Literal["new", "repeated", "gap", "backwards"]


@dataclass(frozen=True, kw_only=True)
class StreamingConfig:
    """What a checkpoint says about its model and input. ValueError names fields that do not fit."""

    model: BehaviorModelConfig
    classes: tuple[str, ...]
    """Names of the actions, in the order of the logits."""
    fps: float
    """Nominal frame rate of the training data."""
    frame_size: tuple[int, int]
    """Width and height in px."""
    kp_names: tuple[str, ...] = DEFAULT_KP_NAMES
    pose_features: str = "invariant"
    """graph18, invariant, generic, or none for a visual model."""
    normalizer: Normalizer | None = None
    axis_points: tuple[str, str] | None = None
    likelihood_threshold: float = 0.9
    max_gap: int = 15
    """Longest gap that is held, and longest run of dropped frames that does not restart, in frames."""
    temperature: float = 1.0
    """Logits are divided by it before the softmax."""
    source: str = ""
    """Where the model came from, for recordings."""

    def __post_init__(self) -> None:
        if len(self.classes) != self.model.num_classes:
            raise ValueError(f"classes are {len(self.classes)}, num_classes is {self.model.num_classes}")
        if not (self.fps > 0 and self.temperature > 0):
            raise ValueError(f"fps and temperature are {self.fps} and {self.temperature}: both are positive")
        if self.max_gap < 0:
            raise ValueError(f"max_gap is {self.max_gap}: at least 0 is expected")
        if (self.pose_features == "none") != (self.model.pose_dim == 0):
            raise ValueError(f"pose_features is {self.pose_features!r} but pose_dim is {self.model.pose_dim}")

    def features(self) -> FeatureSet | None:
        """Return the causal feature set, None for a model without pose input."""
        if self.pose_features == "none":
            return None
        features = build_features(
            self.pose_features,
            kp_names=self.kp_names,
            fps=self.fps,
            causal=True,
            frame_size=self.frame_size,
            axis_points=self.axis_points,
        )
        if features.size != self.model.pose_dim:
            raise ValueError(f"pose_dim is {self.model.pose_dim}, {features.name} has {features.size}")
        return features


@dataclass(frozen=True)
class FrameResult:
    """What is known at one frame.

    `index` counts frames since the last reset, dropped ones included; `probs` float32 [C] are calibrated;
    `label` is the most probable action, or `unknown` with `abstain` when fewer than 3 keypoints are visible
    or the body scale is not known yet. `missed` frames were dropped just before; `status` is `repeated` for
    a frame that was seen already, `gap` or `backwards` when the frame time restarted the stream.
    """

    index: int
    probs: Floats32
    label: str
    abstain: bool
    missed: int = 0
    status: Status = "new"


class Advance(NamedTuple):
    """How a frame time moves the stream, and how many frames were dropped before it."""

    status: Status
    missed: int = 0


class TimeGrid:
    """Steps of 1 / fps since the first frame time; frame times fall on the nearest step."""

    def __init__(self, fps: float, max_gap: int) -> None:
        self._fps = fps
        self._max_gap = max_gap
        self.reset()

    def reset(self) -> None:
        """Forget all times."""
        self._start: float | None = None
        self._newest = -math.inf
        self._step = 0

    def advance(self, frame_time: float | None) -> Advance:
        """Take a frame time in seconds, None for the next step; ValueError when it is not finite."""
        if frame_time is None:
            self._step += 1
            return Advance("new")
        if not math.isfinite(frame_time):
            raise ValueError(f"frame_time is {frame_time}: finite seconds are expected")
        if self._start is None:
            return self._restart(frame_time, "new")
        if frame_time < self._newest:
            return self._restart(frame_time, "backwards")
        self._newest = frame_time
        step = math.floor((frame_time - self._start) * self._fps + 0.5)
        if step <= self._step:
            return Advance("repeated")
        missed = step - self._step - 1
        if missed > self._max_gap:
            return self._restart(frame_time, "gap")
        self._step = step
        return Advance("new", missed)

    def _restart(self, frame_time: float, status: Status) -> Advance:
        self._start, self._newest, self._step = frame_time, frame_time, 0
        return Advance(status)


class GapHold:
    """Holds each keypoint's last visible position for up to `max_gap` frames."""

    def __init__(self, keypoints: int, max_gap: int) -> None:
        self._max_gap = max_gap
        self._xy = np.zeros((keypoints, 2))
        self._age = np.zeros(keypoints, dtype=np.int64)
        self.reset()

    def reset(self) -> None:
        """Forget all positions."""
        self._age[:] = self._max_gap + 1

    def update(self, xy: Floats, seen: Mask) -> tuple[Floats, Floats]:
        """Take `xy` [K, 2] and `seen` [K]; return positions [K, 2] and visibility [K] in {0, 0.5, 1}."""
        self._xy = np.where(seen[:, None], xy, self._xy)
        self._age = np.where(seen, 0, np.minimum(self._age + 1, self._max_gap + 1))
        held = np.where(self._age <= self._max_gap, 0.5, 0.0)
        return self._xy, np.where(seen, 1.0, held)


class Tracked(NamedTuple):
    """Points as tracked, `xy` [T, K, 2] px and `likelihood` [T, K]."""

    xy: Floats
    likelihood: Floats


class PoseStream:
    """Standardised pose features of each new frame, from the formulas of the whole-trial features."""

    def __init__(self, features: FeatureSet, config: StreamingConfig) -> None:
        if config.normalizer is None or config.normalizer.mean.shape != (features.size,):
            raise ValueError(f"normalizer: statistics of the {features.size} pose features are expected")
        self._features = features
        self._normalizer = config.normalizer
        self._threshold = config.likelihood_threshold
        self._frame_size = config.frame_size
        self._hold = GapHold(features.keypoints, config.max_gap)
        self._enough = min(FEWEST_VISIBLE, features.keypoints)
        self._nothing = Memory.unknown(1, features.memory_size)
        self._past: deque[Memory] = deque(maxlen=max(features.lags, default=1))
        self.reset()

    def reset(self) -> None:
        """Start a new trial."""
        self._hold.reset()
        self._scale = RunningScale()
        self._past.clear()

    def push(self, points: Floats) -> tuple[Floats32, bool]:
        """Take x, y px and likelihood [K, 3]; return features [F] and whether they support an answer."""
        tracked = Tracked(points[None, :, :2], points[None, :, 2])
        seen = visible(tracked, self._threshold, *self._frame_size)[0]
        xy, visibility = self._hold.update(points[:, :2], seen)
        scale = self._body_scale(xy[None], visibility[None])
        now = Poses.of(xy[None], visibility[None], points[None, :, 2], [scale])
        features = self._features
        values, missing = features.describe(now, self._recall)
        supported = int(seen.sum()) >= self._enough and (features.axis is None or bool(now.scaled[0]))
        return self._normalizer.apply(values, missing)[0], supported

    def _recall(self, memory: Memory) -> dict[int, Memory]:
        known = len(self._past)
        before = {lag: self._past[-lag] if lag <= known else self._nothing for lag in self._features.lags}
        self._past.append(memory)
        return before

    def _body_scale(self, xy: Floats, visibility: Floats) -> float:
        if self._features.axis is None:
            return math.nan
        return self._scale.update(float(axis_length(xy, visibility, self._features.axis)[0]))


class StreamingBehavior:
    """The causal behaviour model fed one frame at a time.

    `weights` is the state dict of the model as arrays. Memory and time per frame do not grow. ValueError for
    a model that is not causal and for weights or settings that do not fit.
    """

    def __init__(self, weights: Mapping[str, NDArray[np.floating]], config: StreamingConfig) -> None:
        self.config = config
        features = config.features()
        self._network = StreamingNetwork(weights, config.model)
        self._poses = None if features is None else PoseStream(features, config)
        self._grid = TimeGrid(config.fps, config.max_gap)
        self._lost = np.full((len(config.kp_names), 3), np.nan)
        self._clear()

    def reset(self) -> None:
        """Start a new trial."""
        self._grid.reset()
        self._clear()

    def step(
        self,
        pose: ArrayLike | None,
        frame_time: float | None = None,
        visual: ArrayLike | None = None,
    ) -> FrameResult:
        """Take one frame and return its result.

        `pose` [K, 3] holds x, y px and likelihood in the order of `kp_names`, NaN for nothing; `visual` [D]
        the backbone's features. With `frame_time` in seconds, frames fall on a grid of the nominal rate:
        a step that is already taken changes nothing and gives the last result again; up to `max_gap` dropped
        steps are fed as missing; a longer gap, or time going back, restarts. Without it, one call is one
        step. ValueError names a bad argument and leaves the stream as it was.
        """
        return self._advance(self._checked_pose(pose), frame_time, self._checked_visual(visual))

    def miss(self, frame_time: float | None = None) -> FrameResult:
        """Take a frame of which nothing is known: no keypoint, the previous visual features."""
        return self._advance(self._lost, frame_time, self._visual)

    def _clear(self) -> None:
        self._network.reset()
        if self._poses is not None:
            self._poses.reset()
        dim = self.config.model.visual_dim
        self._visual = np.zeros(dim, dtype=np.float32) if dim else None
        self._index = -1
        self._last: FrameResult | None = None

    def _advance(self, points: Floats, frame_time: float | None, visual: Floats32 | None) -> FrameResult:
        advance = self._grid.advance(frame_time)
        if advance.status == "repeated" and self._last is not None:
            return replace(self._last, missed=0, status="repeated")
        if advance.status in ("gap", "backwards"):
            self._clear()
        for _ in range(advance.missed):
            self._feed(self._lost, self._visual)
        logits, supported = self._feed(points, visual)
        probs = softmax(logits, self.config.temperature)
        label = self.config.classes[int(probs.argmax())] if supported else UNKNOWN
        self._last = FrameResult(
            self._index, probs, label, not supported, missed=advance.missed, status=advance.status
        )
        return self._last

    def _feed(self, points: Floats, visual: Floats32 | None) -> tuple[Floats32, bool]:
        pose, supported = (None, True) if self._poses is None else self._poses.push(points)
        self._visual = visual
        self._index += 1
        return self._network(pose, visual), supported

    def _checked_pose(self, pose: ArrayLike | None) -> Floats:
        if self._poses is None:
            return self._lost
        points = np.asarray(pose, dtype=np.float64)
        if points.shape != self._lost.shape:
            raise ValueError(f"pose is {list(points.shape)}: {list(self._lost.shape)} is expected")
        return points

    def _checked_visual(self, visual: ArrayLike | None) -> Floats32 | None:
        dim = self.config.model.visual_dim
        if not dim:
            return None
        if visual is None:
            raise ValueError(f"visual is absent: the model takes the {dim} features of the backbone")
        features = np.asarray(visual, dtype=np.float32)
        if features.shape != (dim,):
            raise ValueError(f"visual is {list(features.shape)}: [{dim}] is expected")
        return features
