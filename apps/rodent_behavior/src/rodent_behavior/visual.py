"""What the network sees of the videos: cached features, or frames while the backbone is trained."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from common.video import FrameCache, Pixels, decode
from rodent_behavior.augment import Views
from rodent_behavior.backbones import Backbone
from rodent_behavior.feature_cache import FeatureCache
from rodent_behavior.trials import TrialIndex


class VisualSource:
    """Features and frames of trials by row; `prepare` fills the cache, so that no video is decoded twice."""

    def __init__(
        self, features: FeatureCache, frames: FrameCache | None, trials: Sequence[TrialIndex]
    ) -> None:
        self._features, self._frames = features, frames
        self._trials: dict[Path, list[TrialIndex]] = {}
        for trial in trials:
            assert trial.video_path is not None
            self._trials.setdefault(trial.video_path, []).append(trial)
        self._open: dict[Path, NDArray[np.float16]] = {}
        self._stored_frames: dict[Path, Pixels | None] = {}

    @property
    def views(self) -> Views:
        """Which versions of every frame `features` holds."""
        return self._features.views

    @property
    def backbone(self) -> Backbone:
        """The network that makes the features."""
        return self._features.backbone

    def prepare(self) -> None:
        """Make the features of every video that are not cached yet."""
        for path in self._trials:
            self._whole(path)
        self._open.clear()

    def features(self, trial: TrialIndex) -> NDArray[np.float16]:
        """Return the features [views, L, D] of a trial's rows."""
        assert trial.video_path is not None
        return self._whole(trial.video_path)[:, trial.frames]

    def frames(self, trial: TrialIndex, start: int, stop: int) -> Pixels:
        """Return the network's input uint8 [T, S, S, 3] of rows `start` to `stop` - 1 of a trial."""
        assert trial.video_path is not None
        first, last = trial.label_start + start, trial.label_start + stop
        cached = self._stored(trial.video_path)
        if cached is not None:
            return np.asarray(cached[first:last])
        return decode(trial.video_path, first, last, transform=self._features.resize)

    def _whole(self, path: Path) -> NDArray[np.float16]:
        if path not in self._open:
            trials = self._trials[path]
            spans = sorted({(trial.label_start, trial.label_stop) for trial in trials})
            found = self._features.get(path, self._length(path), spans)
            if found is None:
                raise OSError(f"{path}: its features do not fit into --cache_max_gb")
            self._open[path] = found
        return self._open[path]

    def _stored(self, path: Path) -> Pixels | None:
        """Return the stored frames of a video, None when they do not fit into the cache."""
        if path not in self._stored_frames:
            self._stored_frames[path] = (
                None
                if self._frames is None
                else self._frames.get(path, 0, self._length(path), transform=self._features.resize)
            )
        return self._stored_frames[path]

    def _length(self, path: Path) -> int:
        return max(trial.label_stop for trial in self._trials[path])
