"""The exported model, and after training its calibration, the judged trials and the report."""

from __future__ import annotations

import csv
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor

from common.config import Parsed, to_yaml
from common.engine.fit import Summary
from common.engine.run import Run
from common.engine.task import EpochReport
from common.reporting import write_report
from common.weights_file import write_dictionary
from rodent_behavior.config import TrainConfig
from rodent_behavior.data import BehaviorData, axis_points
from rodent_behavior.dataset import Inputs, TrialDataset
from rodent_behavior.doctor import SplitSettings, report_on
from rodent_behavior.ethogram import colors_of, most_telling, plot_ethogram
from rodent_behavior.export import (
    PREVIOUS,
    ModelFile,
    Trained,
    load_checkpoint,
    run_of,
    without_backbone,
)
from rodent_behavior.frames import Resize
from rodent_behavior.judging import (
    CLASS_COLUMNS,
    JudgedTrial,
    calibrate,
    class_rows,
    group_matrices,
    judge,
    summary_rows,
)
from rodent_behavior.labels import LabelMap
from rodent_behavior.network import BehaviorNetwork
from rodent_behavior.settings import read_aliases
from rodent_behavior.task import BehaviorTask
from rodent_behavior.thresholds import fit_thresholds
from rodent_behavior.trial_data import PoseEncoder

SIGNAL_BASE = 128
SHOWN_TRIALS = 6


class BestModel:
    """Writes the best model so far to its file; the file of an earlier run is kept beside it.

    `with_backbone` False leaves out the weights of the backbone, which come from a file of their own.
    """

    def __init__(self, file: ModelFile, path: Path, *, with_backbone: bool = True) -> None:
        self.file, self.path = file, path
        self.with_backbone = with_backbone
        self._written = False

    def belong_to(self, run: str, *, resuming: bool) -> None:
        """Name the run; the file that it wrote before it was resumed is not that of an earlier run."""
        self.file = replace(self.file, run=run)
        self._written = resuming and run_of(self.path) == run

    def metadata(self) -> dict[str, Any]:
        """Return what a resumed run must agree with, as JSON types."""
        contents = self.file.contents({})
        return {
            name: contents[name]
            for name in ("classes", "kp_names", "pose_features", "model", "split", "backbone", "fps")
        }

    def write(self, state: dict[str, Tensor], report: EpochReport) -> list[str]:
        """Write the weights that were validated; return the console line."""
        judged = "macro_f1" in report.valid
        metrics = dict(report.valid) if judged else None
        self.file = replace(self.file, epoch=report.epoch, step=report.step, val_metrics=metrics)
        previous = None if self._written else self.path.with_name(PREVIOUS)
        self.rewrite(self.file, state, keep_previous=previous)
        self._written = True
        return [f"[info] Saved {'best' if judged else 'last'} checkpoint to {self.path}"]

    def rewrite(
        self, file: ModelFile, state: dict[str, Tensor], *, keep_previous: Path | None = None
    ) -> None:
        """Write the model file with these weights."""
        kept = state if self.with_backbone else without_backbone(state)
        write_dictionary(self.path, file.contents(kept), keep_previous=keep_previous)


def describe(
    config: TrainConfig,
    data: BehaviorData,
    network: BehaviorNetwork,
    encoder: PoseEncoder | None,
    parsed: Parsed[TrainConfig],
) -> ModelFile:
    """Return what the exported file says besides its weights."""
    backbone = network.backbone
    return ModelFile(
        model=network.behavior.config,
        labels=data.labels,
        kp_names=data.kp_names,
        pose_features=config.pose.pose_features,
        axis_points=axis_points(config.pose),
        normalizer=None if encoder is None else encoder.normalizer,
        likelihood_threshold=config.pose.kp_likelihood_thr,
        max_gap=config.pose.max_gap,
        fps=data.fps,
        frame_size=data.frame_size,
        backbone=config.model.backbone,
        backbone_sha256="" if backbone is None else backbone.digest(),
        resize=Resize(config.model.img_size, config.model.resize_mode),
        split=data.split.to_dict(),
        settings=to_yaml(config, typed=parsed.typed),
        weights_used="ema" if config.optimizer.use_ema else "raw",
        reading=reading_of(config),
    )


def reading_of(config: TrainConfig) -> dict[str, Any]:
    """Return how files are found and aligned, as arguments of `IndexSettings`."""
    trials, pose, split = config.trials, config.pose, config.split
    return {
        "kp_aliases": read_aliases(pose.kp_alias),
        "dlc_pick": pose.dlc_pick,
        "dlc_scorer": pose.dlc_scorer,
        "individual": pose.individual,
        "trial_frames": trials.trial_frames,
        "min_frames": trials.min_frames,
        "group_by": split.group_by,
        "group_regex": split.group_regex,
    }


def finish(
    run: Run,
    config: TrainConfig,
    data: BehaviorData,
    inputs: Inputs,
    task: BehaviorTask,
    summary: Summary,
    best: BestModel,
) -> None:
    """Calibrate and judge the best model on the validation trials; write what a user takes away."""
    console = run.console
    patience = config.run.early_stopping_patience
    if summary.reason.startswith("no better"):
        console.raw(f"[info] Early stopping triggered after {summary.epochs} epochs")
        console.raw(f"[info] No improvement for {patience} epochs")
    if summary.exit_code >= SIGNAL_BASE:
        console.line("done", f"{summary.reason}; --resume {run.folder} continues")
        return
    if summary.best is None or not best.path.is_file():
        console.line("done", "no validation was finished: no best model, no report")
        return
    trained = load_best(best, config)
    if trained.file.run != run.folder.name:
        console.line("done", f"{best.path} holds a model of run {trained.file.run}: not judged, no report")
        return
    if not data.val:
        console.raw(f"Training complete! Weights after epoch {trained.file.epoch}, not validated")
        console.raw(f"Checkpoint saved to: {best.path}")
        console.line("done", "no validation: no scores, no calibration, no report")
        return
    trained.network.to(next(task.model.parameters()).device)
    trials = TrialDataset(data.val, inputs, opened=lambda: trained.file.epoch > task.opened_since())
    judged = judge(trained.network, trials, config.run.val_T)
    temperature = calibrate(judged, "val")
    names = data.labels.names
    thresholds = fit_thresholds(judged, temperature.value, names) if data.split.test else None
    file = replace(trained.file, temperature=temperature.to_dict(), best_thresholds=thresholds)
    best.rewrite(file, trained.network.state_dict())
    write_judgement(run, judged, data.labels, step=trained.file.step, epoch=trained.file.epoch)
    write_ethograms(run, judged, data.labels, temperature.value, summary)
    write_tables(run.folder, judged, data.labels, temperature.value)
    console.raw(f"Training complete! Best val macro F1: {summary.best:.4f}")
    console.raw(f"Checkpoint saved to: {best.path}")
    console.line("calibrate", f"temperature {temperature.value:.3f} on val")
    if thresholds is not None:
        console.line("calibrate", "thresholds on val; evaluate --split test says what they are worth")
    console.line("report", str(write_report(run.folder)))


def write_data(run: Run, config: TrainConfig, data: BehaviorData) -> None:
    """Write `split.json` and `data_report.json`: what the doctor says about the files that were read."""
    if not run.writes:
        return
    data.split.write(run.folder / "split.json")
    split = SplitSettings.of(config.split, config.run.seed)
    report = report_on(data.found, data.settings, split, max_gap=config.pose.max_gap)
    text = json.dumps(report.to_dict(), indent=1)
    (run.folder / "data_report.json").write_text(f"{text}\n", encoding="utf-8")


def load_best(best: BestModel, config: TrainConfig) -> Trained:
    """Return the model of the file, its backbone from where it was taken for training."""
    weights = None if best.with_backbone else config.model.backbone_weights
    return load_checkpoint(best.path, backbone_weights=weights)


def write_judgement(run: Run, judged: list[JudgedTrial], labels: LabelMap, *, step: int, epoch: int) -> None:
    """Write the numbers, classes and matrix of the validation trials as events of the report."""
    summary = {"split": "valid", "rows": summary_rows(judged, labels)}
    run.events.write("summary", step, epoch, summary)
    classes = {
        "split": "valid",
        "columns": list(CLASS_COLUMNS),
        "rows": class_rows(judged, labels),
        "colors": colors_of(labels),
    }
    run.events.write("per_class", step, epoch, classes)
    matrix = group_matrices(judged, len(labels.names)).sum(axis=0).tolist()
    confusion = {"split": "valid", "names": list(labels.names), "matrix": matrix}
    run.events.write("confusion", step, epoch, confusion)
    with (run.folder / "confusion.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["true \\ predicted", *labels.names])
        writer.writerows([name, *row] for name, row in zip(labels.names, matrix))


def write_ethograms(
    run: Run, judged: list[JudgedTrial], labels: LabelMap, temperature: float, summary: Summary
) -> None:
    """Plot the richest validation trials and show them in the report."""
    folder = run.folder / "ethograms"
    folder.mkdir(exist_ok=True)
    items = []
    for trial in most_telling(judged, labels, SHOWN_TRIALS):
        name = f"{trial.index.video_id}_{trial.index.trial}.png"
        plot_ethogram(folder / name, trial, labels, temperature=temperature)
        items.append(
            {"image": f"ethograms/{name}", "caption": f"{trial.index.video_id}, trial {trial.index.trial}"}
        )
    title = "Ethograms of validation trials: truth, model, probabilities"
    run.events.write(
        "samples", summary.steps, summary.epochs, {"split": "valid", "title": title, "items": items}
    )


def write_tables(folder: Path, judged: list[JudgedTrial], labels: LabelMap, temperature: float) -> None:
    """Write `val_predictions/<video>_<trial>.csv`: Frame, Action, True and the probabilities."""
    out = folder / "val_predictions"
    out.mkdir(exist_ok=True)
    for trial in judged:
        path = out / f"{trial.index.video_id}_{trial.index.trial}.csv"
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow(["Frame", "Action", "True", *(f"{name}_prob" for name in labels.names)])
            rows = zip(trial.predicted, trial.target, trial.probabilities(temperature))
            for place, (found, true, probabilities) in enumerate(rows):
                known = labels.names[true] if true >= 0 else ""
                shown = [f"{value:.6f}" for value in probabilities]
                writer.writerow([place, labels.names[found], known, *shown])
