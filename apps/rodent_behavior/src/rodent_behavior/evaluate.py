"""A model judged on labelled trials."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from common.config import NOT_NEGATIVE, Parsed, Range, UserError, check, out_of_range, writing
from common.engine.command import choose_device
from common.engine.logging import Console
from common.metrics.calibration import Calibration
from common.metrics.ranking import average_precision
from rodent_behavior.bouts import merge_short, read_min_bout
from rodent_behavior.config import EvaluateConfig
from rodent_behavior.data import frame_size, probe_video
from rodent_behavior.dataset import Inputs, TrialDataset
from rodent_behavior.ethogram import most_telling, plot_ethogram
from rodent_behavior.export import Trained, load_checkpoint
from rodent_behavior.judging import (
    SEGMENT_IOU,
    JudgedTrial,
    class_rows,
    group_matrices,
    group_segments,
    judge,
    summary_rows,
)
from rodent_behavior.labels import LabelMap, bouts
from rodent_behavior.objective import IGNORE
from rodent_behavior.onsets import onset_errors
from rodent_behavior.settings import IndexSettings
from rodent_behavior.splits import Split
from rodent_behavior.streamed_features import BackboneFeatures
from rodent_behavior.thresholds import threshold_f1
from rodent_behavior.trial_data import load_trials
from rodent_behavior.trials import TrialIndex, TrialSet, build_index

SHOWN_TRIALS = 6
RANGES = {Range(1): ("val_T",), NOT_NEGATIVE: ("bootstrap",)}

_log = logging.getLogger("rodent_behavior")


def main(parsed: Parsed[EvaluateConfig]) -> int:
    """Judge, print and write `report.json` and the ethograms; return exit code 0."""
    config, console = parsed.config, Console()
    check(out_of_range(config, RANGES, hyphens=False), True, _log)
    trained = load_checkpoint(config.checkpoint, backbone_weights=config.backbone_weights)
    trained.network.to(choose_device(config.device))
    labels = trained.file.labels
    shortest = read_min_bout(config.min_bout, labels)
    found = _find(config, parsed.typed, trained)
    indices = chosen_trials(found, trained, config.split)
    judged = [
        _without_short(trial, shortest)
        for trials in _by_size(trained, found, indices)
        for trial in judge(trained.network, trials, config.val_T)
    ]
    content = report(judged, trained, resamples=config.bootstrap)
    for line in report_lines(content):
        console.raw(line)
    if content["thresholds"] is None and trained.file.best_thresholds is not None:
        console.raw("no F1 at thresholds: groups of training or validation are among these; see --split test")
    with writing(f"--out {config.out}"):
        config.out.mkdir(parents=True, exist_ok=True)
        path = config.out / "report.json"
        path.write_text(json.dumps(_finite(content), indent=1) + "\n", encoding="utf-8")
    for trial in most_telling(judged, labels, SHOWN_TRIALS):
        name = f"{trial.index.video_id}_{trial.index.trial}.png"
        plot_ethogram(config.out / name, trial, labels, temperature=trained.temperature)
    console.line("wrote", f"{path} and {min(SHOWN_TRIALS, len(judged))} ethograms")
    return 0


def chosen_trials(found: TrialSet, trained: Trained, side: str) -> tuple[TrialIndex, ...]:
    """Return the trials of a side of the stored split, or all; UserError when there are none."""
    split = Split.from_dict(trained.file.split)
    indices = found.trials if side == "all" else split.select(found.trials, side)
    if not indices:
        known = ", ".join(split.groups(side)) or "nothing"
        raise UserError(f"--split {side}: no trial of it is here; in the checkpoint it is {known}")
    return tuple(indices)


def report(judged: Sequence[JudgedTrial], trained: Trained, *, resamples: int) -> dict[str, Any]:
    """Return every number as plain types; not-a-number where nothing can be said."""
    labels = trained.file.labels
    seen = set(trained.file.split["train"]) & {trial.index.group for trial in judged}
    return {
        "checkpoint": str(trained.path),
        "trials": len(judged),
        "groups": sorted({trial.index.group for trial in judged}),
        "trained_on": sorted(seen),
        "summary": summary_rows(judged, labels, resamples=resamples),
        "classes": class_rows(judged, labels, resamples=resamples),
        "confusion": group_matrices(judged, len(labels.names)).sum(axis=0).tolist(),
        "calibration": calibration(judged, trained),
        "average_precision": average_precisions(judged, trained),
        "bouts": bout_counts(judged, labels),
        "onset_error": onset_errors(judged, labels),
        "thresholds": threshold_report(judged, trained),
        "false_bouts_per_minute": false_bouts_per_minute(judged, labels),
        "per_video": per_video(judged, labels),
    }


def threshold_report(judged: Sequence[JudgedTrial], trained: Trained) -> dict[str, dict[str, float]] | None:
    """Return the F1 of every behaviour at its threshold; None without thresholds, and on the groups that
    chose them or the weights."""
    split, thresholds = trained.file.split, trained.file.best_thresholds
    chosen_on = {*split["train"], *split["val"]}
    if thresholds is None or chosen_on & {trial.index.group for trial in judged}:
        return None
    return threshold_f1(judged, trained.temperature, thresholds, trained.file.labels.names)


def calibration(judged: Sequence[JudgedTrial], trained: Trained) -> dict[str, float]:
    """Return calibration error, Brier score and likelihood of the probabilities that are served."""
    metric = Calibration(len(trained.file.labels.names))
    for trial in judged:
        target = trial.logits.new_tensor(trial.target).long()
        metric.update((trial.logits / trained.temperature)[None], target[None])
    found = metric.compute()
    return {"ece": float(found.ece), "brier": float(found.brier), "nll": float(found.nll)}


def average_precisions(judged: Sequence[JudgedTrial], trained: Trained) -> dict[str, float]:
    """Return the average precision of every behaviour's probability; not-a-number for an absent one."""
    shown = np.concatenate([trial.probabilities(trained.temperature) for trial in judged])
    target = np.concatenate([trial.target for trial in judged])
    known = target != IGNORE
    names = trained.file.labels.names
    return {
        name: average_precision(shown[known, index], target[known] == index)
        for index, name in enumerate(names)
    }


def false_bouts_per_minute(judged: Sequence[JudgedTrial], labels: LabelMap) -> dict[str, float]:
    """Return the predicted bouts that overlap no true one by 0.3 or more, per minute of labelled frames."""
    minutes = sum(float((trial.target != IGNORE).sum()) / trial.index.fps for trial in judged) / 60
    false = group_segments(judged, labels)[:, SEGMENT_IOU.index(0.3), :, 1].sum(axis=0)
    rates = {name: float(count) / minutes for name, count in zip(labels.names, false)}
    return {name: rate for index, (name, rate) in enumerate(rates.items()) if index != labels.background}


def bout_counts(judged: Sequence[JudgedTrial], labels: LabelMap) -> dict[str, dict[str, int]]:
    """Return the number of true and predicted bouts of every behaviour."""
    counts = {name: {"true": 0, "predicted": 0} for name in labels.names}
    for trial in judged:
        for what, actions in (("true", trial.target), ("predicted", trial.predicted)):
            for bout in bouts(np.where(actions < 0, -1, actions)):
                counts[labels.names[bout.label]][what] += 1
    return counts


def per_video(judged: Sequence[JudgedTrial], labels: LabelMap) -> dict[str, dict[str, float]]:
    """Return macro F1 and segment F1@0.3 of every video by itself."""
    table = {}
    for name in sorted({trial.index.video_id for trial in judged}):
        rows = summary_rows([t for t in judged if t.index.video_id == name], labels, resamples=0)
        values = {row["name"]: row["value"] for row in rows}
        table[name] = {key: values[key] for key in ("macro_f1", "segment_f1_0.3")}
    return table


def report_lines(content: dict[str, Any]) -> list[str]:
    """Return the numbers as text."""
    lines = [f"{content['trials']} trials of {len(content['groups'])} groups"]
    if content["trained_on"]:
        lines.append(f"warning: the model was trained on {', '.join(content['trained_on'])}")
    lines += [
        f"  {row['name']:<20} {_number(row['value'])}   [{_number(row['low'])}, {_number(row['high'])}]"
        for row in content["summary"]
    ]
    return lines + class_lines(content)


def class_lines(content: dict[str, Any]) -> list[str]:
    """Return the table of behaviours: F1, recall, precision, onset error, and F1 at known thresholds."""
    onsets, thresholds = content["onset_error"], content["thresholds"]
    head = f"  {'class':<20} {'frames':>8} {'F1':>8} {'Recall':>8} {'Precision':>10} {'onset ms':>9}"
    lines = [head + (f" {'F1 at p':>8} {'p':>8}" if thresholds else "")]
    for row in content["classes"]:
        f1, recall, precision = (_number(row[key]["value"]) for key in ("F1", "Recall", "Precision"))
        onset = onsets.get(row["name"], {"median_ms": math.nan})["median_ms"]
        shown = f"{onset:.0f}" if math.isfinite(onset) else "n/a"
        line = f"  {row['name']:<20} {row['support']:>8} {f1:>8} {recall:>8} {precision:>10} {shown:>9}"
        if thresholds:
            at = thresholds[row["name"]]
            line += f" {_number(at['f1']):>8} {_number(at['threshold']):>8}"
        lines.append(line)
    return lines


def _find(config: EvaluateConfig, typed: Collection[str], trained: Trained) -> TrialSet:
    """Return the trials, read as in training where no flag says otherwise."""
    trials = config.trials
    said = {name: getattr(trials, name) for name in ("trial_frames", "min_frames") if name in typed}
    arguments: dict[str, Any] = trained.file.index_arguments() | said
    if trials.label_map is not None:
        arguments["label_map"] = same_classes(LabelMap.load(trials.label_map), trained)
    settings = IndexSettings(
        videos=trials.videos,
        annotations=trials.annotations,
        pose_dir=trials.pose_dir,
        manifest=trials.manifest,
        frame_size=frame_size(trials.frame_size),
        fps=trials.fps,
        on_bad_trial=trials.on_bad_trial,
        on_missing_pose=trials.on_missing_pose,
        **arguments,
    )
    return build_index(settings, probe_video)


def same_classes(labels: LabelMap, trained: Trained) -> LabelMap:
    """Return `labels`; UserError when the model was trained on other classes."""
    if labels.names != trained.file.labels.names:
        known = ", ".join(trained.file.labels.names)
        raise UserError(f"--label_map has {', '.join(labels.names)}, but {trained.path} knows {known}")
    return labels


def _by_size(trained: Trained, found: TrialSet, indices: Sequence[TrialIndex]) -> Iterator[TrialDataset]:
    """Yield the trials of every frame size, by which some features divide."""
    for size in sorted({(index.width, index.height) for index in indices}):
        yield _trials(trained, found, [i for i in indices if (i.width, i.height) == size])


def _trials(trained: Trained, found: TrialSet, indices: Sequence[TrialIndex]) -> TrialDataset:
    file = trained.file
    features = trained.features(indices[0].fps, (indices[0].width, indices[0].height))
    trials = load_trials(
        found,
        indices,
        features,
        threshold=file.likelihood_threshold,
        max_gap=file.max_gap,
        num_keypoints=len(file.kp_names),
    )
    backbone = trained.network.backbone
    visual = None if backbone is None else BackboneFeatures(backbone, file.resize)
    return TrialDataset(trials, Inputs(trained.encoder(features), visual), opened=lambda: False, copy=True)


def _without_short(trial: JudgedTrial, shortest: np.ndarray[Any, np.dtype[np.int64]]) -> JudgedTrial:
    return replace(trial, actions=merge_short(trial.predicted, shortest))


def _number(value: float) -> str:
    return f"{value:.4f}" if math.isfinite(value) else "n/a"


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {name: _finite(item) for name, item in value.items()}
    return [_finite(item) for item in value] if isinstance(value, list) else value
