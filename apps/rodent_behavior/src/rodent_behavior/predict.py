"""A behaviour for every frame of every video in a folder."""

from __future__ import annotations

import csv
import functools
import json
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.config import Parsed, Range, UserError, check, out_of_range, writing
from common.engine.command import choose_device
from common.engine.logging import Console
from rodent_behavior.bouts import merge_short, read_min_bout
from rodent_behavior.config import PredictConfig
from rodent_behavior.data import frame_size, probe_video
from rodent_behavior.dataset import Inputs, TrialDataset
from rodent_behavior.export import Trained, load_checkpoint
from rodent_behavior.judging import judge
from rodent_behavior.labels import LabelMap, bouts
from rodent_behavior.recordings import Probe, Recording
from rodent_behavior.settings import IndexSettings
from rodent_behavior.streamed_features import BackboneFeatures
from rodent_behavior.trial_data import Trial, trial_poses
from rodent_behavior.trials import (
    TrialIndex,
    TrialSet,
    build_index,
    collect_trials,
    trials_and_rest,
    whole_recording,
)

RANGES = {Range(1): ("val_T", "trial_frames")}
RATE_TOLERANCE = 0.02
"""Largest difference from the training's frame rate that passes without a warning."""

SUMMARY = "predictions.json"
PASSED_OVER = {"no files", "no video", "unused video", "short video", "short trial"}
"""Why a label file says nothing about the recordings of a folder."""

Trials = Mapping[str, tuple[TrialIndex, ...]]

_log = logging.getLogger("rodent_behavior")


@dataclass(frozen=True, eq=False)
class Prediction:
    """Merged class int64 [T] and calibrated probabilities float32 [T, C] of every frame of a recording.

    `parts` are its trials, predicted one by one, and the stretches around them; empty when none were given.
    """

    index: TrialIndex
    parts: tuple[TrialIndex, ...]
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
    probe = functools.cache(probe_video)  # counts frames by decoding them
    found = open_folder(config, trained, probe)
    trials = open_trials(config, trained, probe, console)
    for line in trial_lines(trials, found, trained.file.reading):
        console.line("trials", line)
    warnings = rate_warnings(trained.file.fps, tuple(found.recordings.values()))
    for text in warnings:
        console.line("warning", text)
    slot = config.trial_frames
    if slot is None:
        slot = int(trained.file.reading["trial_frames"])
    with writing(f"--out {out}"):
        out.mkdir(parents=True, exist_ok=True)
    for name in sorted(found.recordings):
        given = trials.get(name, ())
        prediction = predict(trained, found, name, given, window=config.val_T, shortest=shortest)
        for path in write(out, prediction, trained.file.labels, config, slot):
            console.line("wrote", str(path))
    content = describe(trained, found, trials, warnings)
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


def describe(trained: Trained, found: TrialSet, trials: Trials, warnings: Sequence[str]) -> dict[str, Any]:
    """Return what was predicted, by which model, and what to be wary of, as plain types."""
    return {
        "checkpoint": str(trained.path),
        "fps": trained.file.fps,
        "recordings": {
            name: {
                "frames": one.frames,
                "fps": one.fps,
                "trials": [
                    [trial.trial, trial.label_start, trial.label_stop] for trial in trials.get(name, ())
                ],
            }
            for name, one in sorted(found.recordings.items())
        },
        "warnings": list(warnings),
    }


def open_folder(config: PredictConfig, trained: Trained, probe: Probe) -> TrialSet:
    """Return the recordings of a folder; UserError when one lacks what the model reads."""
    settings = _settings(config, trained, {"min_frames": 1})
    alike = config.manifest is None  # a manifest allows recordings of different rates
    found = (build_index if alike else collect_trials)(settings, probe)
    if not found.recordings:
        raise UserError(f"{config.folder}: no video to predict")
    return found


def open_trials(config: PredictConfig, trained: Trained, probe: Probe, console: Console) -> Trials:
    """Return the trials that label files name, by recording; none without `--annotations`.

    Label files of other folders' videos are skipped and counted; UserError for anything wrong with the rest.
    """
    if config.annotations is None:
        if config.manifest is not None:
            raise UserError(f"--manifest {config.manifest} needs --annotations, whose trials it places")
        return {}
    slot = {} if config.trial_frames is None else {"trial_frames": config.trial_frames}
    places = {"annotations": config.annotations, "manifest": config.manifest, "on_bad_trial": "skip"}
    found = build_index(_settings(config, trained, {**slot, **places}), probe)
    for skip in found.skipped:
        if skip.kind not in PASSED_OVER:
            raise UserError(skip.reason)
    for kind, number in found.skip_counts.items():
        console.line("skipped", f"{number} {kind}")
    names = {trial.video_id for trial in found.trials}
    return {name: tuple(trial for trial in found.trials if trial.video_id == name) for name in names}


def trial_lines(trials: Trials, found: TrialSet, reading: Mapping[str, Any]) -> Iterator[str]:
    """Yield how the recordings are divided, as features and results depend on it."""
    whole = [name for name, one in found.recordings.items() if name not in trials]
    longer = [name for name in whole if found.recordings[name].frames > reading["trial_frames"]]
    if trials:
        yield f"{sum(map(len, trials.values()))} trials of {len(trials)} recordings, each predicted by itself"
    if longer:
        yield (
            f"{len(longer)} recordings are longer than a trial and predicted in one piece; "
            "--annotations divides them as evaluate does"
        )


def _settings(config: PredictConfig, trained: Trained, more: Mapping[str, Any]) -> IndexSettings:
    arguments: dict[str, Any] = trained.file.index_arguments() | dict(more)
    return IndexSettings(
        videos=config.folder,
        pose_dir=config.pose_dir,
        frame_size=frame_size(config.frame_size),
        fps=config.fps,
        **arguments,
    )


def predict(
    trained: Trained,
    found: TrialSet,
    name: str,
    trials: Sequence[TrialIndex] = (),
    *,
    window: int,
    shortest: NDArray[np.int64],
) -> Prediction:
    """Return the behaviour in every frame of the recording `name`; each of its `trials` by itself."""
    recording = found.recordings[name]
    index = whole_recording(recording)
    parts = trials_and_rest(recording, trials) if trials else [index]
    judged = [judge(trained.network, part_inputs(trained, found, part), window)[0] for part in parts]
    return Prediction(
        index,
        tuple(parts) if trials else (),
        np.concatenate([merge_short(part.predicted, shortest) for part in judged]),
        np.concatenate([part.probabilities(trained.temperature) for part in judged]),
    )


def part_inputs(trained: Trained, found: TrialSet, index: TrialIndex) -> TrialDataset:
    """Return a trial, or a whole recording however long, without labels."""
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
    """One row per bout; frames count from the start of the video.

    The trial is the one in which a bout begins, empty outside all. Given trials cut bouts; slots do not.
    """
    rows: Iterator[list[object]] = (
        [
            prediction.index.video_id,
            part.trial or "" if prediction.parts else start // trial_frames + 1,
            start,
            stop,
            labels.names[label],
            f"{prediction.probabilities[start:stop, label].mean():.6f}",
        ]
        for part in prediction.parts or (prediction.index,)
        for start, stop, label in _places(prediction.actions[part.frames], part.label_start)
    )
    return _csv(path, ["video", "trial", "start", "end", "label", "mean_prob"], rows)


def _places(actions: NDArray[np.int64], first: int) -> Iterator[tuple[int, int, int]]:
    for bout in bouts(actions):
        yield first + bout.start, first + bout.stop, bout.label


def _annotations(out: Path, prediction: Prediction, labels: LabelMap, trial_frames: int) -> Iterator[Path]:
    raw = np.array(labels.export)[prediction.actions]
    video = prediction.index.video_path
    name = prediction.index.video_id if video is None else video.name
    slots = [
        (number, slice(start, start + trial_frames))
        for number, start in enumerate(range(0, len(raw), trial_frames), start=1)
    ]
    trials = [(part.trial, part.frames) for part in prediction.parts if part.trial]
    for trial, frames in trials or slots:
        rows = enumerate(raw[frames].tolist())
        yield _csv(out / f"prediction_{name}_{trial}.csv", ["Frame", "Action"], map(list, rows))


def _csv(path: Path, header: list[str], rows: Iterator[list[object]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(header)
        writer.writerows(rows)
    return path
