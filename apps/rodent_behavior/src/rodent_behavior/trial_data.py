"""Trials in memory: actions and keypoints of every labelled frame, and what the network sees of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rodent_behavior.keypoints import Keypoints, fill_gaps, visible
from rodent_behavior.labels import UNKNOWN, Actions
from rodent_behavior.pose_features import FeatureSet, Normalizer
from rodent_behavior.trials import TrialIndex, TrialSet


@dataclass(frozen=True, eq=False)
class Trial:
    """Row i is frame `index.label_start` + i of its video.

    `actions` int64 [L], -1 unknown. `poses` have short gaps filled and the trial's body scale; None: the
    network takes no keypoints.
    """

    index: TrialIndex
    actions: Actions
    poses: Keypoints | None

    def __len__(self) -> int:
        return self.index.rows


@dataclass(frozen=True)
class PoseEncoder:
    """Turns keypoints into the features that the network takes."""

    features: FeatureSet
    normalizer: Normalizer

    def __call__(self, poses: Keypoints) -> NDArray[np.float32]:
        """Return standardised features float32 [T, F] of consecutive frames, 0 where missing."""
        values, missing = describe(self.features, poses)
        return self.normalizer.apply(values, missing)


def describe(features: FeatureSet, poses: Keypoints) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return features [T, F] before standardisation, and where they are missing."""
    return features(poses.xy, poses.visibility, poses.likelihood, scale=poses.scale)


def load_trials(
    found: TrialSet,
    indices: Iterable[TrialIndex],
    features: FeatureSet | None,
    *,
    threshold: float,
    max_gap: int,
    num_keypoints: int,
) -> list[Trial]:
    """Return the trials of `indices` with their actions, and their keypoints when there are `features`.

    A keypoint is visible from likelihood `threshold` on; gaps of up to `max_gap` frames are filled.
    """
    return [
        Trial(
            index,
            found.actions.get(index.key, np.full(index.rows, UNKNOWN, dtype=np.int64)),
            None
            if features is None
            else trial_poses(
                found, index, features, threshold=threshold, max_gap=max_gap, num_keypoints=num_keypoints
            ),
        )
        for index in indices
    ]


def trial_poses(
    found: TrialSet,
    index: TrialIndex,
    features: FeatureSet,
    *,
    threshold: float,
    max_gap: int,
    num_keypoints: int,
) -> Keypoints:
    """Return the keypoints of one trial; nothing of the recording outside it is looked at."""
    table = found.recordings[index.video_id].pose
    if table is None:
        return Keypoints.unknown(index.rows, num_keypoints)
    xy, likelihood = table.xy[index.frames], table.likelihood[index.frames]
    shown = visible(table, threshold, index.width, index.height)[index.frames]
    points, visibility = fill_gaps(xy, shown, max_gap, features.causal)
    return Keypoints.of(points, visibility, likelihood, features.scale(points, visibility))


def fit_normalizer(features: FeatureSet, trials: Sequence[Trial]) -> Normalizer:
    """Return mean and deviation over the frames of the training trials."""
    parts = [describe(features, trial.poses) for trial in trials if trial.poses is not None]
    return Normalizer.fit(parts, features.standardised)
