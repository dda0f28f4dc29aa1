"""Training windows with their random changes, and whole trials for validation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from common.engine.randomness import SampleKey
from common.video import Pixels
from rodent_behavior.augment import CONTEXT, Augmentation, Augmenter, Views, fixed_hiding, hide
from rodent_behavior.balance import BoutItem
from rodent_behavior.frames import to_input
from rodent_behavior.keypoints import Keypoints
from rodent_behavior.labels import UNKNOWN
from rodent_behavior.objective import IGNORE
from rodent_behavior.trial_data import PoseEncoder, Trial
from rodent_behavior.trials import TrialIndex
from rodent_behavior.windows import training_windows

Sample = dict[str, Tensor]
Streams = dict[str, NDArray[Any]]

PADDING = {"target": IGNORE}
"""What stands at padded frames, where it is not 0."""
WHOLE = "frame_size"
"""The field that is not one entry per frame."""


class Window(NamedTuple):
    """Rows `start` to `stop` - 1 of trial number `trial`, with loss on `loss_start` to `loss_stop` - 1."""

    trial: int
    start: int
    stop: int
    loss_start: int
    loss_stop: int


def base_windows(trials: Sequence[Trial], window: int) -> list[Window]:
    """Return the windows of all trials in which every frame carries loss once."""
    return [
        Window(place, *span)
        for place, trial in enumerate(trials)
        for span in training_windows(len(trial), window)
    ]


class Video(Protocol):
    """Where samples get what the network sees of a video."""

    @property
    def views(self) -> Views:
        """Which versions of every frame `features` holds."""

    def features(self, trial: TrialIndex) -> NDArray[np.float16]:
        """Return the features [views, L, D] of a trial's rows."""

    def frames(self, trial: TrialIndex, start: int, stop: int) -> Pixels:
        """Return the network's input uint8 [T, S, S, 3] of rows `start` to `stop` - 1 of a trial."""


@dataclass(frozen=True)
class Inputs:
    """What a sample is made with: keypoints, video, or both."""

    encoder: PoseEncoder | None
    visual: Video | None


class WindowDataset(Dataset[Sample]):
    """Windows of the training trials: first the base windows, then those of repeated bouts, then an idle one.

    The idle window carries no loss. From epoch `open_epoch` on samples hold frames in place of cached
    features. A sample: `pose` [T, F], `visual` [T, D] or `frames` [T, 3, S, S], `valid` bool [T], `target`
    int64 [T] (-100: no loss), `smooth` bool [T], `keypoints` [T, 2K] and `hidden` bool [T, K].
    """

    def __init__(
        self,
        trials: Sequence[Trial],
        windows: Sequence[Window],
        bouts: Sequence[BoutItem],
        inputs: Inputs,
        augmenter: Augmenter,
        *,
        open_epoch: int | None = None,
    ) -> None:
        self.trials = trials
        repeated = [Window(*bout[:5]) for bout in bouts]
        idle = windows[0]._replace(loss_start=windows[0].start, loss_stop=windows[0].start)
        self.windows = [*windows, *repeated, idle]
        self.inputs, self.augmenter, self.open_epoch = inputs, augmenter, open_epoch

    def __len__(self) -> int:
        return len(self.windows)

    def __getitem__(self, key: SampleKey) -> Sample:
        window = self.windows[key.index]
        trial = self.trials[window.trial]
        context = min(CONTEXT, window.start)
        drawn = self.augmenter.draw(key, window.stop - window.start, context)
        streams = self._labels(trial, window)
        if trial.poses is not None and self.inputs.encoder is not None:
            poses = trial.poses[window.start - context : window.stop]
            streams |= _pose_streams(drawn, poses, trial, self.inputs.encoder)
        loss = streams.pop("loss")
        streams = drawn.streams(streams, loss)
        streams |= self._video(trial, window, drawn, frames=self._opened(key))
        return _sample(streams, drawn.shift.valid)

    def _opened(self, key: SampleKey) -> bool:
        return self.open_epoch is not None and key.epoch >= self.open_epoch

    def _labels(self, trial: Trial, window: Window) -> Streams:
        rows = np.arange(window.start, window.stop)
        loss = (rows >= window.loss_start) & (rows < window.loss_stop)
        return {"actions": trial.actions[window.start : window.stop], "loss": loss}

    def _video(self, trial: Trial, window: Window, drawn: Augmentation, *, frames: bool) -> Streams:
        visual = self.inputs.visual
        if visual is None:
            return {}
        if frames:
            return {"frames": drawn.frames(visual.frames(trial.index, window.start, window.stop))}
        cached = visual.features(trial.index)[:, window.start : window.stop]
        return {"visual": drawn.features(cached, visual.views).astype(np.float32)}


def _pose_streams(drawn: Augmentation, poses: Keypoints, trial: Trial, encoder: PoseEncoder) -> Streams:
    changed = drawn.poses(poses, trial.index.width, trial.index.height)
    length = len(changed.target)
    return {
        "pose": encoder(changed.inputs)[-length:],
        "keypoints": changed.target.reshape(length, -1),
        "hidden": changed.scored,
    }


class TrialDataset(Dataset[Sample]):
    """Whole trials, unchanged, in batches of one.

    A sample as in `WindowDataset`, and `masked_pose` [L, F]: the features with one keypoint after the other
    hidden, `hidden` being those points, or every visible one when `copy`. `frame_size` is (width, height).
    """

    def __init__(
        self, trials: Sequence[Trial], inputs: Inputs, *, opened: Callable[[], bool], copy: bool = False
    ) -> None:
        self.trials, self.inputs, self.opened, self.copy = trials, inputs, opened, copy

    def __len__(self) -> int:
        return len(self.trials)

    def __getitem__(self, key: SampleKey | int) -> Sample:
        trial = self.trials[key.index if isinstance(key, SampleKey) else key]
        length = len(trial)
        streams: Streams = {"actions": trial.actions, "loss": np.ones(length, dtype=bool)}
        if trial.poses is not None and self.inputs.encoder is not None:
            streams |= self._poses(trial, trial.poses, self.inputs.encoder)
        if self.inputs.visual is not None:
            streams |= self._video(trial, self.inputs.visual)
        sample = _sample(streams, np.ones(length, dtype=bool))
        return sample | {WHOLE: torch.tensor([trial.index.width, trial.index.height])}

    def _poses(self, trial: Trial, poses: Keypoints, encoder: PoseEncoder) -> Streams:
        size = np.array([trial.index.width, trial.index.height])
        shown = poses.visibility == 1
        mask = np.zeros_like(shown) if self.copy else fixed_hiding(0, len(trial), shown.shape[1])
        streams = {
            "pose": encoder(poses),
            "keypoints": (poses.xy / size).astype(np.float32).reshape(len(trial), -1),
            "hidden": shown if self.copy else shown & mask,
        }
        return streams if self.copy else streams | {"masked_pose": encoder(hide(poses, mask))}

    def _video(self, trial: Trial, visual: Video) -> Streams:
        if self.opened():
            return {"frames": visual.frames(trial.index, 0, len(trial)).astype(np.float32) / 255}
        return {"visual": visual.features(trial.index)[0].astype(np.float32)}


def _sample(streams: Streams, valid: NDArray[np.bool_]) -> Sample:
    """Return tensors; inputs are 0 at frames that are not valid, and nothing there carries loss."""
    loss = streams.pop("loss") & valid
    actions = streams.pop("actions")
    target = np.where(loss & (actions != UNKNOWN), actions, IGNORE)
    sample = {
        "valid": torch.from_numpy(valid),
        "target": torch.from_numpy(target),
        "smooth": torch.from_numpy(loss),
    }
    for name, stream in streams.items():
        if name == "hidden":
            stream = stream & valid[:, None]
        sample[name] = (
            to_input(stream) if name == "frames" else torch.from_numpy(np.ascontiguousarray(stream))
        )
    return sample


def collate(samples: Sequence[Sample]) -> Sample:
    """Return a batch in which shorter windows are padded at the end with frames that are not valid."""
    longest = max(len(sample["valid"]) for sample in samples)
    return {
        name: torch.stack(
            [
                sample[name] if name == WHOLE else _padded(sample[name], longest, PADDING.get(name, 0))
                for sample in samples
            ]
        )
        for name in samples[0]
    }


def _padded(stream: Tensor, length: int, value: int) -> Tensor:
    if len(stream) == length:
        return stream
    rest = stream.new_full((length - len(stream), *stream.shape[1:]), value)
    return torch.cat([stream, rest])
