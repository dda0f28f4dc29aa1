"""A behaviour for every frame of every video in a folder."""

from __future__ import annotations

import csv
import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.config import Parsed, Range, UserError, check, out_of_range
from common.engine.command import choose_device
from common.engine.logging import Console
from rodent_behavior.bouts import merge_short, read_min_bout
from rodent_behavior.config import PredictConfig
from rodent_behavior.data import frame_size, probe_video
from rodent_behavior.dataset import Inputs, TrialDataset
from rodent_behavior.export import Trained, load_checkpoint
from rodent_behavior.judging import judge
from rodent_behavior.labels import LabelMap, bouts
from rodent_behavior.recordings import Recording
from rodent_behavior.settings import IndexSettings
from rodent_behavior.streamed_features import BackboneFeatures
from rodent_behavior.trial_data import Trial, trial_poses
from rodent_behavior.trials import TrialIndex, TrialSet, build_index, whole_recording

RANGES = {Range(1): ("val_T", "trial_frames")}
RATE_TOLERANCE = 0.02
"""Largest difference from the training's frame rate that passes without a warning."""

SUMMARY = "predictions.json"

_log = logging.getLogger("rodent_behavior")


@dataclass(frozen=True, eq=False)
class Prediction:
    """Merged class int64 [T] and calibrated probabilities float32 [T, C] of every frame of a recording."""

    index: TrialIndex
    actions: NDArray[np.int64]
    probabilities: NDArray[np.float32]


def main(parsed: Parsed[PredictConfig]) -> int:
    """Write the predictions and return exit code 0."""
    config, console = parsed.config, Console()
    check(out_of_range(config, RANGES, hyphens=False), True, _log)
    trained = load_checkpoint(config.checkpoint, backbone_weights=config.backbone_weights)
    trained.network.to(choose_device(config.device))
    shortest = read_min_bout(config.min_bout, trained.file.labels)
    out = config.out or Path(f"predictions_{config.folder.resolve().name}")
    found = open_folder(config, trained)
    warnings = rate_warnings(trained.file.fps, tuple(found.recordings.values()))
    for text in warnings:
        console.line("warning", text)
    slot = config.trial_frames
    if slot is None:
        slot = int(trained.file.reading["trial_frames"])
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--out {out}: cannot be written: {error.strerror}") from error
    for name in sorted(found.recordings):
        prediction = predict(trained, found, name, window=config.val_T, shortest=shortest)
        for path in write(out, prediction, trained.file.labels, config, slot):
            console.line("wrote", str(path))
    content = describe(trained, found, warnings)
    (out / SUMMARY).write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return 0


def rate_warnings(trained_fps: float, recordings: Sequence[Recording]) -> list[str]:
    """Return a line that counts the recordings whose frame rate is not the training's; none when all fit."""
    other = [one for one in recordings if abs(one.fps - trained_fps) > RATE_TOLERANCE * trained_fps]
    if not other:
        return []
    listed = ", ".join(f"{one.video_id} {one.fps:g}" for one in other)
    return [
        f"{len(other)} of {len(recordings)} recordings differ by more than {RATE_TOLERANCE:.0%} from the "
        f"{trained_fps:g} frames per second of training, and the model counts time in frames: {listed}"
    ]


def describe(trained: Trained, found: TrialSet, warnings: Sequence[str]) -> dict[str, Any]:
    """Return what was predicted, by which model, and what to be wary of, as plain types."""
    return {
        "checkpoint": str(trained.path),
        "fps": trained.file.fps,
        "recordings": {
            name: {"frames": one.frames, "fps": one.fps} for name, one in sorted(found.recordings.items())
        },
        "warnings": list(warnings),
    }


def open_folder(config: PredictConfig, trained: Trained) -> TrialSet:
    """Return the recordings of a folder; UserError when one lacks what the model reads."""
    arguments: dict[str, Any] = trained.file.index_arguments() | {"min_frames": 1}
    settings = IndexSettings(
        videos=config.folder,
        pose_dir=config.pose_dir,
        frame_size=frame_size(config.frame_size),
        fps=config.fps,
        **arguments,
    )
    found = build_index(settings, probe_video)
    if not found.recordings:
        raise UserError(f"{config.folder}: no video to predict")
    return found


def predict(
    trained: Trained, found: TrialSet, name: str, *, window: int, shortest: NDArray[np.int64]
) -> Prediction:
    """Return the behaviour in every frame of the recording `name`."""
    index = whole_recording(found.recordings[name])
    judged = judge(trained.network, recording_inputs(trained, found, index), window)[0]
    probabilities = judged.probabilities(trained.temperature)
    return Prediction(index, merge_short(judged.predicted, shortest), probabilities)


def recording_inputs(trained: Trained, found: TrialSet, index: TrialIndex) -> TrialDataset:
    """Return the recording as one trial, however long."""
    file = trained.file
    features = trained.features(index.fps, (index.width, index.height))
    poses = None
    if features is not None:
        poses = trial_poses(
            found,
            index,
            features,
            threshold=file.likelihood_threshold,
            max_gap=file.max_gap,
            num_keypoints=len(file.kp_names),
        )
    visual = None
    if trained.network.backbone is not None:
        visual = BackboneFeatures(trained.network.backbone, file.resize)
    unknown = np.full(index.rows, -1, dtype=np.int64)
    inputs = Inputs(trained.encoder(features), visual)
    return TrialDataset([Trial(index, unknown, poses)], inputs, opened=lambda: False, copy=True)


def write(
    out: Path, prediction: Prediction, labels: LabelMap, config: PredictConfig, trial_frames: int
) -> Iterator[Path]:
    """Write a recording in every format that was asked for, and yield the files."""
    stem = prediction.index.video_id
    if "table" in config.format:
        yield _table(out / f"{stem}_predictions.csv", prediction, labels)
    if "bouts" in config.format:
        yield _bouts(out / f"{stem}_bouts.csv", prediction, labels, trial_frames)
    if "annotation" in config.format:
        yield from _annotations(out, prediction, labels, trial_frames)
    if config.video:
        from rodent_behavior.overlay import write_video  # opens the decoder, which tables do not need

        yield write_video(out / f"{stem}_behaviour.mp4", prediction, labels)


def _table(path: Path, prediction: Prediction, labels: LabelMap) -> Path:
    header = ["Frame", "Action", *(f"{name}_prob" for name in labels.names)]
    rows = (
        [frame, labels.names[action], *(f"{value:.6f}" for value in probabilities)]
        for frame, (action, probabilities) in enumerate(zip(prediction.actions, prediction.probabilities))
    )
    return _csv(path, header, rows)


def _bouts(path: Path, prediction: Prediction, labels: LabelMap, trial_frames: int) -> Path:
    """One row per bout, of the trial in which it begins; frames count from the start of the video."""
    rows = (
        [
            prediction.index.video_id,
            bout.start // trial_frames + 1,
            bout.start,
            bout.stop,
            labels.names[bout.label],
            f"{prediction.probabilities[bout.start : bout.stop, bout.label].mean():.6f}",
        ]
        for bout in bouts(prediction.actions)
    )
    return _csv(path, ["video", "trial", "start", "end", "label", "mean_prob"], rows)


def _annotations(out: Path, prediction: Prediction, labels: LabelMap, trial_frames: int) -> Iterator[Path]:
    raw = np.array(labels.export)[prediction.actions]
    video = prediction.index.video_path
    name = prediction.index.video_id if video is None else video.name
    for trial, start in enumerate(range(0, len(raw), trial_frames), start=1):
        rows = enumerate(raw[start : start + trial_frames].tolist())
        yield _csv(out / f"prediction_{name}_{trial}.csv", ["Frame", "Action"], map(list, rows))


def _csv(path: Path, header: list[str], rows: Iterator[list[object]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
    return path
