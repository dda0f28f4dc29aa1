"""A frame's number pushed through windows, offsets and changes: every stream of a sample is that frame's."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from rodent_files import DataFolders

from common.engine.randomness import SampleKey
from rodent_behavior.augment import Augmenter, Views
from rodent_behavior.balance import BoutItem
from rodent_behavior.config import AugmentConfig
from rodent_behavior.dataset import Inputs, TrialDataset, Window, WindowDataset, base_windows, collate
from rodent_behavior.inference import run_trial
from rodent_behavior.keypoints import Keypoints
from rodent_behavior.labels import LabelMap
from rodent_behavior.network import BehaviorNetwork
from rodent_behavior.objective import IGNORE
from rodent_behavior.trial_data import Trial
from rodent_behavior.trials import TrialIndex, build_index

SLOT = 360
VIDEO = 3 * SLOT
RAW = LabelMap.default()
STEADY = AugmentConfig(augment=False)
LIVELY = AugmentConfig(kp_jitter_std=0.0, aug_temporal_drop=0.0, aug_roll=5, aug_noise_std=0.0)


class Numbers:
    """A video whose only feature is the number of the frame."""

    views = Views()

    def features(self, trial: TrialIndex) -> np.ndarray:
        return np.arange(VIDEO, dtype=np.float16)[None, :, None][:, trial.frames]

    def frames(self, trial: TrialIndex, start: int, stop: int) -> np.ndarray:
        numbers = np.arange(trial.label_start + start, trial.label_start + stop)
        frames = np.zeros((len(numbers), 2, 2, 3), dtype=np.uint8)
        frames[..., 0] = (numbers // 256)[:, None, None]
        frames[..., 1] = (numbers % 256)[:, None, None]
        return frames


class First:
    """Pose features that are the x coordinate of the first keypoint."""

    def __call__(self, poses: Keypoints) -> np.ndarray:
        return poses.xy[:, :1, 0].astype(np.float32)


@pytest.fixture(scope="module", params=[345, 360])
def trials(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> list[Trial]:
    """Three trials read from files whose keypoints and labels tell the frame they belong to."""
    folders = DataFolders.make(tmp_path_factory.mktemp("numbered"))
    folders.pose("mouse", VIDEO)
    folders.meta("mouse", VIDEO)
    rows: int = request.param
    for trial in (1, 2, 3):
        first = trial * SLOT - rows
        folders.label("mouse.mp4", trial, [(first + row) // 7 % 8 for row in range(rows)])
    found = build_index(folders.settings(trial_frames=SLOT, min_frames=345), None)
    loaded = []
    for index in found.trials:
        xy = found.recordings["mouse"].pose.xy[index.frames]  # type: ignore[union-attr]
        ones = np.ones(xy.shape[:2])
        poses = Keypoints.of(xy * 4, ones, ones, np.ones(len(xy)))
        loaded.append(Trial(index, found.actions[index.key], poses))
    return loaded


def samples_of(
    trials: list[Trial], config: AugmentConfig, window: int, *, open_epoch: int | None = None, epochs: int = 2
) -> Iterator[dict[str, torch.Tensor]]:
    augmenter = Augmenter(config, seed=1, kp_names=[f"p{k}" for k in range(6)])
    inputs = Inputs(First(), Numbers())  # type: ignore[arg-type]
    data = WindowDataset(trials, base_windows(trials, window), (), inputs, augmenter, open_epoch=open_epoch)
    for epoch in range(epochs):
        for index in range(len(data)):
            yield data[SampleKey(index, epoch, index)]


def check(sample: dict[str, torch.Tensor], video: np.ndarray) -> np.ndarray:
    """Assert that pose, keypoints, labels and video of every valid frame agree; return the frame numbers."""
    frames = sample["pose"][:, 0].numpy().astype(int)
    valid = sample["valid"].numpy()
    np.testing.assert_array_equal(video[valid], frames[valid])
    x = sample["keypoints"][:, 0].numpy() * 64
    np.testing.assert_allclose(x[valid], frames[valid], rtol=1e-5)
    target = sample["target"].numpy()
    labelled = target != IGNORE
    expected = RAW.merge(frames // 7 % 8)
    np.testing.assert_array_equal(target[labelled], expected[labelled])
    assert not (labelled & ~valid).any()
    return frames


@pytest.mark.parametrize("config", [STEADY, LIVELY], ids=["steady", "lively"])
@pytest.mark.parametrize("window", [60, 180, 240, 345])
def test_every_stream_is_of_the_same_frame(trials: list[Trial], config: AugmentConfig, window: int) -> None:
    rolled = 0
    for sample in samples_of(trials, config, window):
        check(sample, sample["visual"][:, 0].numpy().astype(int))
        rolled += not bool(sample["valid"].all())
    assert bool(rolled) == (config is LIVELY)


def test_frames_of_an_open_backbone_are_the_same_ones(trials: list[Trial]) -> None:
    quiet = AugmentConfig(
        kp_jitter_std=0, aug_temporal_drop=0, aug_brightness=0, aug_contrast=0, aug_noise_std=0, aug_roll=5
    )
    opened = [sample for sample in samples_of(trials, quiet, 60, open_epoch=1) if "frames" in sample]
    assert opened
    for sample in opened:
        pixels = (sample["frames"][:, :, 0, 0] * 255).round().numpy().astype(int)
        check(sample, pixels[:, 0] * 256 + pixels[:, 1])


def test_epochs_before_the_opening_use_features(trials: list[Trial]) -> None:
    kinds = ["frames" in sample for sample in samples_of(trials, STEADY, 345, open_epoch=1)]
    assert kinds == [False] * (len(kinds) // 2) + [True] * (len(kinds) // 2)


@pytest.mark.parametrize("window", [60, 180, 345, 400])
def test_every_labelled_frame_carries_loss_once(trials: list[Trial], window: int) -> None:
    seen: list[int] = []
    windows = base_windows(trials, window)
    for sample in list(samples_of(trials, STEADY, window, epochs=1))[: len(windows)]:
        frames = check(sample, sample["visual"][:, 0].numpy().astype(int))
        seen += frames[sample["target"].numpy() != IGNORE].tolist()
    wanted = [frame for t in trials for frame in range(t.index.label_start, t.index.label_stop)]
    assert sorted(seen) == wanted


def test_the_frames_dropped_are_those_of_the_video_alone(trials: list[Trial]) -> None:
    config = AugmentConfig(kp_jitter_std=0, aug_temporal_drop=0.3, aug_roll=0)
    repeated = 0
    for sample in samples_of(trials, config, 60):
        video, frames = sample["visual"][:, 0].numpy().astype(int), sample["pose"][:, 0].numpy().astype(int)
        assert (np.diff(frames) == 1).all()
        assert ((video == frames) | (np.diff(video, prepend=-1) == 0)).all()
        repeated += int((video != frames).sum())
    assert repeated


def test_repeated_bouts_carry_loss_where_asked_and_the_idle_window_nowhere(trials: list[Trial]) -> None:
    windows = base_windows(trials, 60)
    bout = BoutItem(1, 100, 160, 120, 140, 1, 0, 2.5)
    inputs = Inputs(First(), None)  # type: ignore[arg-type]
    augmenter = Augmenter(STEADY, seed=1, kp_names=[f"p{k}" for k in range(6)])
    data = WindowDataset(trials, windows, (bout,), inputs, augmenter)
    assert len(data) == len(windows) + 2
    extra, idle = (data[SampleKey(len(windows) + place, 0, 0)] for place in (0, 1))
    assert np.flatnonzero(extra["target"].numpy() != IGNORE).tolist() == list(range(20, 40))
    assert bool((idle["target"] == IGNORE).all())
    assert not bool(idle["smooth"].any())


def test_validation_shows_the_whole_trial_unchanged(trials: list[Trial]) -> None:
    opened = False
    data = TrialDataset(trials, Inputs(First(), Numbers()), opened=lambda: opened)  # type: ignore[arg-type]
    for place, trial in enumerate(trials):
        sample = data[place]
        frames = check(sample, sample["visual"][:, 0].numpy().astype(int))
        assert frames.tolist() == list(range(trial.index.label_start, trial.index.label_stop))
        hidden = sample["hidden"].numpy()
        assert (hidden.sum(axis=1) == 1).all()
        assert hidden.argmax(axis=1)[:31].tolist() == [0] * 15 + [1] * 15 + [2]
        assert bool((sample["masked_pose"][:15, 0] == 0).all())
    opened = True
    assert "frames" in data[0]


def test_padding_carries_nothing(trials: list[Trial]) -> None:
    data = TrialDataset(trials, Inputs(First(), None), opened=lambda: False)  # type: ignore[arg-type]
    short = {name: value if name == "frame_size" else value[:50] for name, value in data[0].items()}
    batch = collate([data[1], short])
    assert batch["target"].shape == (2, len(trials[1]))
    assert bool((batch["target"][1, 50:] == IGNORE).all())
    assert not bool(batch["valid"][1, 50:].any())
    assert not bool(batch["smooth"][1, 50:].any())
    assert batch["frame_size"].tolist() == [[64, 64], [64, 64]]


class Echo(BehaviorNetwork):
    """A network whose logits are its visual input."""

    def __init__(self) -> None:
        torch.nn.Module.__init__(self)
        self.eval()

    def forward(self, batch):  # type: ignore[no-untyped-def]
        return {"stages": [batch["visual"].transpose(1, 2)], "keypoints": None}


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("window", [60, 240, 1000])
def test_evaluation_answers_every_frame_once_and_in_order(window: int, causal: bool) -> None:
    for length in (1, 59, 345, 360, 2330):
        streams = {"visual": torch.arange(length, dtype=torch.float32)[:, None], "valid": torch.ones(length)}
        output = run_trial(Echo(), streams, window, causal=causal)
        assert output.logits[0].tolist() == list(range(length))


def test_windows_of_a_trial_lie_inside_it(trials: list[Trial]) -> None:
    for window in base_windows(trials, 60):
        assert isinstance(window, Window)
        assert 0 <= window.start <= window.loss_start < window.loss_stop <= window.stop
        assert window.stop <= len(trials[window.trial])
