"""Random changes of a training window: drawn once per draw of the sampler, the same for every stream.

Order for a window of T frames and the `context` frames before it: `Augmentation.poses` (flip, jitter, hiding)
-> pose features of context and window -> cut to the window -> `Augmentation.shift` on every stream ->
`Augmentation.frames` or `Augmentation.features` for what is seen -> normalisation in the backbone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.augmentation import (
    JitterMode,
    Photometric,
    TemporalMap,
    apply_jitter,
    apply_photometric,
    draw_hold,
    draw_jitter,
    draw_photometric,
    draw_roll,
    flip_clip,
    flip_points,
    swap_points,
)
from common.config import UserError
from common.engine.randomness import SampleKey, sample_rng
from common.video import Pixels
from rodent_behavior.config import AugmentConfig
from rodent_behavior.keypoints import Keypoints

CONTEXT = 15
"""Frames before a window whose keypoints its features look at."""
BRIGHTNESS_P = CONTRAST_P = 0.5
NOISE_P = DROP_P = 0.3
ROLL_P = 0.2
HIDE_P = 0.15
"""Probability that a keypoint is hidden for a span of the window."""
HIDE_SPAN = (5, 30)
"""Shortest and longest span in frames."""
FIXED_SPAN = 15
"""Frames for which validation hides one keypoint after the other."""

SIDES = (("l_", "r_"), ("left_", "right_"))
"""How the names of paired keypoints begin."""


@dataclass(frozen=True)
class Views:
    """Versions of a video whose features are cached: clean, `copies` changed ones, and mirror images."""

    copies: int = 0
    flip: bool = False
    brightness: float = 0.0
    contrast: float = 0.0
    noise_std: float = 0.0
    seed: int = 0

    @classmethod
    def of(cls, config: AugmentConfig, copies: int, seed: int) -> Views:
        """Return what --cache_views `copies` asks for; copies that would all be clean are left out."""
        active = effective(config)
        strengths = active.aug_brightness, active.aug_contrast, active.aug_noise_std
        return cls(copies if any(strengths) else 0, active.aug_hflip > 0, *strengths, seed)

    def __len__(self) -> int:
        return (1 + self.copies) * (2 if self.flip else 1)

    def index(self, copy: int, *, flipped: bool = False) -> int:
        """Return the view of a copy, 0 for the clean one, or of its mirror image."""
        if flipped and not self.flip:
            raise ValueError("flipped is True but there are no mirror images among the views")
        return copy + (1 + self.copies if flipped else 0)

    def photometric(self, rng: np.random.Generator) -> Photometric:
        """Draw what is done to a changed copy of one trial."""
        return _photometric(rng, self.brightness, self.contrast, self.noise_std)


@dataclass(frozen=True)
class AugmentedPoses:
    """Keypoints of a window after its changes.

    `inputs`: `Keypoints` of context and window, what features are made of. `target` float32 [T, K, 2]: true
    positions x/W, y/H of the window, flipped like the input but never jittered. `scored` bool [T, K]: truly
    visible points that the keypoint loss counts, only hidden ones where points are hidden at all.
    """

    inputs: Keypoints
    target: NDArray[np.float32]
    scored: NDArray[np.bool_]


@dataclass(frozen=True)
class Augmentation:
    """What is done to one window of T frames with C frames of context and K keypoints.

    `jitter` [C + T or 1, K, 2] in units of the frame's size, or None; `hidden` bool [T, K], or None where
    points are not hidden at all; `shift` moves every stream, `hold` repeats frames of the video before it;
    `copy` is the cached copy to use in place of `photometric`.
    """

    flip: bool
    jitter: NDArray[np.float32] | None
    hidden: NDArray[np.bool_] | None
    shift: TemporalMap
    hold: TemporalMap
    photometric: Photometric
    copy: int
    swap: tuple[int, ...]

    @property
    def video_map(self) -> TemporalMap:
        """Where each frame of the video comes from."""
        return self.hold.then(self.shift)

    def poses(self, poses: Keypoints, width: int, height: int) -> AugmentedPoses:
        """Return flipped, jittered and hidden keypoints of context and window, and the window's targets.

        The body scale stays that of the unchanged trial. ValueError for another number of frames.
        """
        length = len(self.hold)
        context = len(poses) - length
        if context < 0 or (self.jitter is not None and len(self.jitter) not in (1, len(poses))):
            raise ValueError(f"poses has {len(poses)} frames, drawn were {length} and their context")
        if self.flip:
            poses = _mirrored(poses, self.swap, width)
        visible = poses.visibility == 1
        size = np.array([width, height], np.float64)
        target = (poses.xy[context:] / size).astype(np.float32)
        inputs = poses
        if self.jitter is not None:
            inputs = replace(inputs, xy=apply_jitter(poses.xy, self.jitter, visible, extent=size))
        if self.hidden is not None:
            inputs = hide(inputs, self.hidden)
        scored = visible[context:] if self.hidden is None else visible[context:] & self.hidden
        return AugmentedPoses(inputs, target, scored)

    def frames(self, frames: Pixels) -> NDArray[np.float32]:
        """Return frames [T, H, W, 3] moved, mirrored, and changed in brightness, contrast and noise."""
        moved = self.video_map.apply(frames)
        return apply_photometric(flip_clip(moved) if self.flip else moved, self.photometric)

    def features(self, cached: NDArray[np.float16], views: Views) -> NDArray[np.float16]:
        """Return the window's features [T, D], moved, from those of all views [views, T, D]."""
        return self.video_map.apply(cached[views.index(self.copy, flipped=self.flip)])

    def streams(self, streams: dict[str, NDArray[Any]], loss: NDArray[np.bool_]) -> dict[str, NDArray[Any]]:
        """Return aligned streams [T, ...] moved alike, and under `loss` which frames still carry loss."""
        moved = self.shift.apply_all(streams)
        return {**moved, "loss": self.shift.apply(loss) & self.shift.valid}


class Augmenter:
    """Draws the changes of training windows from the settings, the seed and the key of a draw.

    `kp_names` empty: no keypoints. `hide`: hide some for the keypoint task, which --no-augment leaves on.
    Raises UserError when windows may be flipped but a keypoint has no partner on the other side.
    """

    def __init__(
        self,
        config: AugmentConfig,
        *,
        seed: int,
        kp_names: Sequence[str] = (),
        pose_features: str = "none",
        hide: bool = False,
        views: Views | None = None,
    ) -> None:
        self.config = effective(config)
        self.seed = seed
        self.points = len(kp_names)
        self.mode = jitter_mode(config, pose_features)
        self.hide = hide and self.points > 0
        self.views = views or Views()
        self.swap = swap_table(kp_names) if self.config.aug_hflip > 0 else tuple(range(self.points))

    def draw(self, key: SampleKey, length: int, context: int = 0) -> Augmentation:
        """Draw what is done to a window of `length` frames with `context` frames before it.

        Each change has its own stream, so switching one off leaves the others as they were.
        """
        config = self.config
        return Augmentation(
            flip=bool(self._rng(key, "flip").random() < config.aug_hflip),
            jitter=self._jitter(key, length + context),
            hidden=self._hidden(key, length) if self.hide else None,
            shift=draw_roll(self._rng(key, "roll"), length, limit=config.aug_roll, probability=ROLL_P),
            hold=draw_hold(
                self._rng(key, "drop"), length, share=config.aug_temporal_drop, probability=DROP_P
            ),
            photometric=_photometric(
                self._rng(key, "photometric"),
                config.aug_brightness,
                config.aug_contrast,
                config.aug_noise_std,
            ),
            copy=int(self._rng(key, "view").integers(1 + self.views.copies)),
            swap=self.swap,
        )

    def _rng(self, key: SampleKey, change: str) -> np.random.Generator:
        return sample_rng(self.seed, key, f"augment {change}")

    def _jitter(self, key: SampleKey, frames: int) -> NDArray[np.float32] | None:
        if not self.points or self.config.kp_jitter_std == 0:
            return None
        rng = self._rng(key, "jitter")
        return draw_jitter(rng, frames, self.points, std=self.config.kp_jitter_std, mode=self.mode)

    def _hidden(self, key: SampleKey, length: int) -> NDArray[np.bool_]:
        """Draw which keypoints are hidden, each for one span within the window."""
        rng = self._rng(key, "hide")
        happens = rng.random(self.points) < HIDE_P
        spans = np.minimum(rng.integers(HIDE_SPAN[0], HIDE_SPAN[1] + 1, self.points), length)
        starts = rng.integers(0, length - spans + 1)
        frame = np.arange(length)[:, None]
        hidden: NDArray[np.bool_] = happens & (frame >= starts) & (frame < starts + spans)
        return hidden


def effective(config: AugmentConfig) -> AugmentConfig:
    """Return the settings with every strength 0 when the master switch is off."""
    if config.augment:
        return config
    return replace(
        config,
        kp_jitter_std=0.0,
        aug_brightness=0.0,
        aug_contrast=0.0,
        aug_temporal_drop=0.0,
        aug_hflip=0.0,
        aug_noise_std=0.0,
        aug_roll=0,
    )


def jitter_mode(config: AugmentConfig, pose_features: str) -> JitterMode:
    """Return how noise on keypoints is drawn; auto: per frame only for features without speeds."""
    if config.kp_jitter_mode == "auto":
        return "frame" if pose_features == "graph18" else "window"
    return config.kp_jitter_mode


def swap_table(kp_names: Sequence[str]) -> tuple[int, ...]:
    """Return for each keypoint the one that takes its place in a mirror image, itself when it has no side.

    Raises UserError for a name with a side whose partner is absent.
    """
    names = [name.lower() for name in kp_names]
    swap = []
    for name in names:
        partner = _partner(name)
        if partner not in names:
            raise UserError(f"--aug_hflip: --kp_names has {name} but not {partner}, which takes its place")
        swap.append(names.index(partner))
    return tuple(swap)


def hide(poses: Keypoints, hidden: NDArray[np.bool_]) -> Keypoints:
    """Return poses whose last T frames are missing where `hidden` [T, K]: nothing of them is left."""
    mask = np.zeros(poses.visibility.shape, bool)
    mask[len(poses) - len(hidden) :] = hidden
    return replace(
        poses,
        xy=np.where(mask[:, :, None], 0.0, poses.xy),
        visibility=np.where(mask, 0.0, poses.visibility),
        likelihood=np.where(mask, 0.0, poses.likelihood),
    )


def fixed_hiding(start: int, length: int, points: int) -> NDArray[np.bool_]:
    """Return which keypoints validation hides in `length` frames from frame `start` of a trial: [length, K].

    Keypoint floor(t / 15) mod K at frame t.
    """
    turn = (np.arange(start, start + length) // FIXED_SPAN) % points
    hidden: NDArray[np.bool_] = turn[:, None] == np.arange(points)
    return hidden


def _mirrored(poses: Keypoints, swap: Sequence[int], width: int) -> Keypoints:
    visibility = swap_points(poses.visibility, swap)
    points = flip_points(poses.xy, swap, extent=width)
    return replace(
        poses,
        xy=np.where(visibility[:, :, None] > 0, points, 0.0),
        visibility=visibility,
        likelihood=swap_points(poses.likelihood, swap),
    )


def _partner(name: str) -> str:
    for left, right in SIDES:
        if name.startswith(left):
            return right + name.removeprefix(left)
        if name.startswith(right):
            return left + name.removeprefix(right)
    return name


def _photometric(
    rng: np.random.Generator, brightness: float, contrast: float, noise_std: float
) -> Photometric:
    return draw_photometric(
        rng,
        brightness=brightness,
        contrast=contrast,
        noise_std=noise_std,
        brightness_p=BRIGHTNESS_P,
        contrast_p=CONTRAST_P,
        noise_p=NOISE_P,
    )
