"""A data set opened for training or judging: trials, split, keypoint features, class counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from common.config import UserError
from common.engine.logging import Console
from common.statistics import ClassStatistics
from rodent_behavior.config import ModelConfig, PoseConfig, SplitConfig, TrainConfig, TrialConfig
from rodent_behavior.labels import LabelMap, count_classes
from rodent_behavior.layout import VIDEO_SUFFIXES
from rodent_behavior.pose_features import FeatureSet, build_features
from rodent_behavior.recordings import VideoFacts
from rodent_behavior.settings import IndexSettings, read_aliases
from rodent_behavior.splits import Split, class_problem, class_warnings, make_split
from rodent_behavior.trial_data import Trial, load_trials
from rodent_behavior.trials import TrialIndex, TrialSet, build_index


@dataclass(frozen=True, eq=False)
class BehaviorData:
    """Trials of every side with what the network is told about them; `unlabelled` serve the keypoint task."""

    settings: IndexSettings
    found: TrialSet
    split: Split
    labels: LabelMap
    kp_names: tuple[str, ...]
    features: FeatureSet | None
    train: list[Trial]
    val: list[Trial]
    unlabelled: list[Trial]
    fps: float
    frame_size: tuple[int, int]

    def statistics(self, side: str = "train") -> ClassStatistics:
        """Return the labelled frames of a side, a group per video."""
        trials = self.train if side == "train" else self.val
        return class_statistics(trials, self.labels, side)


def class_statistics(trials: Sequence[Trial], labels: LabelMap, side: str) -> ClassStatistics:
    """Return the labelled frames of trials, a group per group of the split."""
    groups = sorted({trial.index.group for trial in trials})
    counts = np.stack(
        [
            count_classes([t.actions for t in trials if t.index.group == group], len(labels.names))
            for group in groups
        ]
    )
    frames = sum(len(trial) for trial in trials)
    return ClassStatistics.from_counts(
        counts.sum(axis=0),
        names=labels.names,
        unit="frame",
        split=side,
        ignored=frames - int(counts.sum()),
        group_counts=counts,
    )


def index_settings(
    trials: TrialConfig, pose: PoseConfig, split: SplitConfig, *, need_video: bool, need_pose: bool
) -> IndexSettings:
    """Return what the readers are told; raises UserError for flags that do not fit together."""
    return IndexSettings(
        videos=trials.videos,
        annotations=trials.annotations,
        pose_dir=trials.pose_dir,
        label_map=LabelMap.load(trials.label_map) if trials.label_map else LabelMap.default(),
        need_video=need_video,
        need_pose=need_pose,
        kp_names=kp_names(pose),
        kp_aliases=read_aliases(pose.kp_alias),
        kp_likelihood_thr=pose.kp_likelihood_thr,
        individual=pose.individual,
        dlc_pick=pose.dlc_pick,
        dlc_scorer=pose.dlc_scorer,
        trial_frames=trials.trial_frames,
        min_frames=trials.min_frames,
        manifest=trials.manifest,
        frame_size=frame_size(trials.frame_size),
        fps=trials.fps,
        group_by=split.group_by,
        group_regex=split.group_regex,
        on_bad_trial=trials.on_bad_trial,
        on_missing_pose=trials.on_missing_pose,
    )


def kp_names(pose: PoseConfig) -> tuple[str, ...]:
    """Return the keypoint names in lower case."""
    return tuple(name.strip().lower() for name in pose.kp_names.split(","))


def frame_size(text: str | None) -> tuple[int, int] | None:
    """Return (width, height) of the text `W,H`."""
    if text is None:
        return None
    width, _, height = text.partition(",")
    if not (width.strip().isdigit() and height.strip().isdigit()):
        raise UserError(f"--frame_size {text}: W,H in pixels is expected")
    return int(width), int(height)


def probe_video(path: Path) -> VideoFacts:
    """Return the facts of a video, its decoded frames counted."""
    from common.video import probe  # reading tables needs no decoder

    facts: VideoFacts = probe(path)
    return facts


def _has_video(folder: Path) -> bool:
    return folder.is_dir() and any(path.suffix.lower() in VIDEO_SUFFIXES for path in folder.iterdir())


def open_data(config: TrainConfig, console: Console) -> BehaviorData:
    """Find, check, divide and read the trials, saying on the console what was done.

    Raises UserError for anything wrong with the files or the settings that name them.
    """
    model, pose = config.model, config.pose
    settings = index_settings(
        config.trials, pose, config.split, need_video=model.backbone != "none", need_pose=uses_pose(config)
    )
    reads_video = settings.need_video or _has_video(settings.videos)
    found, labels = build_index(settings, probe_video if reads_video else None), settings.label_map
    split = make_split(
        found.trials,
        found.actions,
        len(labels.names),
        val_share=config.split.val_share,
        test_share=config.split.test_share,
        seed=config.run.seed,
        split_file=config.split.split_file,
    )
    for text in (*found.warnings, *([split.warning] if split.warning else [])):
        console.line("warning", text)
    names = kp_names(pose)
    first = found.trials[0]
    features = features_of(config, names, first)
    _check_sizes(config, found)
    sides = {side: split.select(found.trials, side) for side in ("train", "val")}
    read = {side: _load(found, indices, features, config, names) for side, indices in sides.items()}
    data = BehaviorData(
        settings=settings,
        found=found,
        split=split,
        labels=labels,
        kp_names=names,
        features=features,
        train=read["train"],
        val=read["val"],
        unlabelled=_load(found, _keypoint_trials(found, config), features, config, names),
        fps=first.fps,
        frame_size=(first.width, first.height),
    )
    _check_classes(data, console)
    return data


def uses_pose(config: TrainConfig) -> bool:
    """Return whether keypoints are read: as input, as target, or both."""
    return config.pose.pose_features != "none"


def features_of(config: TrainConfig, names: tuple[str, ...], trial: TrialIndex) -> FeatureSet | None:
    """Return the pose features, None without; raises UserError when they do not suit the keypoints."""
    if not uses_pose(config):
        return None
    points = axis_points(config.pose)
    if points is not None and config.pose.pose_features == "generic" and not set(points) <= set(names):
        raise UserError(f"--axis_points {','.join(points)}: two of --kp_names {','.join(names)} are expected")
    try:
        return build_features(
            config.pose.pose_features,
            kp_names=names,
            fps=trial.fps,
            causal=config.model.causal,
            frame_size=(trial.width, trial.height),
            axis_points=points,
        )
    except ValueError as error:
        raise UserError(f"--pose_features {config.pose.pose_features}: {error}") from error


def axis_points(pose: PoseConfig) -> tuple[str, str] | None:
    """Return the two names of `--axis_points`, None when the flag is not given."""
    if pose.axis_points is None:
        return None
    names = tuple(name.strip().lower() for name in pose.axis_points.split(","))
    if len(set(names)) != 2:
        raise UserError(f"--axis_points {pose.axis_points}: A,B is expected")
    return names[0], names[-1]


def _load(
    found: TrialSet,
    indices: Sequence[TrialIndex],
    features: FeatureSet | None,
    config: TrainConfig,
    names: tuple[str, ...],
) -> list[Trial]:
    return load_trials(
        found,
        indices,
        features,
        threshold=config.pose.kp_likelihood_thr,
        max_gap=config.pose.max_gap,
        num_keypoints=len(names),
    )


def _keypoint_trials(found: TrialSet, config: TrainConfig) -> tuple[TrialIndex, ...]:
    return found.unlabelled if learns_keypoints(config.model, config.loss.lambda_kp) else ()


def learns_keypoints(model: ModelConfig, weight: float) -> bool:
    """Return whether there is a keypoint task."""
    return model.model_type == "multitask" and weight > 0


def _check_sizes(config: TrainConfig, found: TrialSet) -> None:
    """Refuse features in shares of the frame when frames are not alike."""
    sizes = sorted({(trial.width, trial.height) for trial in (*found.trials, *found.unlabelled)})
    if config.pose.pose_features == "graph18" and len(sizes) > 1:
        listed = ", ".join(f"{width} x {height}" for width, height in sizes)
        raise UserError(f"--pose_features graph18: videos of {listed} px; take invariant or generic")


def _check_classes(data: BehaviorData, console: Console) -> None:
    names, size = data.labels.names, len(data.labels.names)
    train, val = (count_classes([t.actions for t in side], size) for side in (data.train, data.val))
    problem = class_problem(train, names)
    if problem is not None:
        raise UserError(problem)
    for text in class_warnings(train, val, names):
        console.line("warning", text)
