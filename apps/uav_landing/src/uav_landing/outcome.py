"""After training: the plain weights file, the documented targets, the judged photos and the report."""

from __future__ import annotations

import os
from pathlib import Path

import torch
from torch import Tensor

from common.engine.fit import Summary
from common.engine.run import Run
from common.reporting import write_report
from uav_landing.config import TrainConfig
from uav_landing.data.dataset import PhotoDataset
from uav_landing.data.splits import groups_of
from uav_landing.judging import judge, write_judgement, write_samples
from uav_landing.labels import LANDING_NAMES
from uav_landing.landing_data import LandingData
from uav_landing.metrics import landing_metrics
from uav_landing.rebuild import load_trained
from uav_landing.task import LandingTask
from uav_landing.void_check import judge_void, void_pieces

SIGNAL_BASE = 128
IOU_TARGET, ACCURACY_TARGET = 0.5, 0.7
MIOU_TARGETS = ((0.6, "target"), (0.5, "expected after the fixes"))


def finish(run: Run, config: TrainConfig, data: LandingData, task: LandingTask, summary: Summary) -> None:
    """Judge the best checkpoint on the validation photos and write everything a user takes away."""
    run.console.line("done", f"{summary.reason}   {summary.steps} steps")
    if summary.exit_code >= SIGNAL_BASE:
        run.console.line("done", "saved; --resume last continues")
        return
    if summary.best is None:
        run.console.line("done", "no validation was finished: no best model, no report")
        return
    trained = load_trained(run.folder)
    task.model.load_state_dict(trained.model.state_dict())
    photos = PhotoDataset(data.store, data.split.val, data.lookup)
    judged = judge(task.predictor, photos, data.class_ids, groups_of(data.split.val, data.photos))
    place = {"step": trained.step, "epoch": trained.epoch}
    write_judgement(run.events, judged, "valid", **place)
    worst = write_samples(run.folder, photos, judged)
    title = "Validation photos with most danger called safe: photo, truth, prediction"
    run.events.write(
        "samples", summary.steps, summary.epochs, {"split": "valid", "title": title, "items": worst}
    )
    for line in target_lines(landing_metrics(judged.total), data.class_ids, seam=_void_is_seam(data)):
        run.console.raw(line)
    weights = config.run.output_dir / f"fixed_memory_efficient_{config.model.model_type}_best.pth"
    write_weights(weights, trained.model.state_dict())
    run.console.line("best", f"{summary.headline} {summary.best:.3f}   {trained.path}")
    run.console.line("weights", str(weights))
    run.console.line("report", str(write_report(run.folder)))


def _void_is_seam(data: LandingData) -> bool:
    """Return the verdict of the void check on the validation photos."""
    landing = data.photos.table.lookup()
    pieces = [void_pieces(landing[data.store.labels(photo)]) for photo in data.split.val]
    return judge_void(pieces).verdict == "seam"


def target_lines(metrics: dict[str, float], class_ids: list[int], *, seam: bool) -> list[str]:
    """Return the table of the documented targets against the best model's validation numbers.

    `seam` tells that class 0 is annotation seam, of which nobody can predict much.
    """
    rows = []
    for index, name in enumerate(LANDING_NAMES):
        if index not in class_ids:
            rows.append(f"  class {index} ({name}): void, ignored")
            continue
        iou, accuracy = metrics[f"class_{index}_iou"], metrics[f"class_{index}_accuracy"]
        note = "   (annotation seam: not attainable in general)" if seam and index == 0 else ""
        rows.append(f"  class {index} ({name}): {_reached('IoU', iou, IOU_TARGET)}{note}")
        rows.append(f"  class {index} ({name}): {_reached('Acc', accuracy, ACCURACY_TARGET)}{note}")
    rows += [f"  {_reached('mIoU', metrics['miou'], target)}   ({note})" for target, note in MIOU_TARGETS]
    return ["Documented targets, best model on validation photos:", *rows]


def _reached(name: str, value: float, target: float) -> str:
    if value != value:
        return f"{name} n/a > {target:.1f}  no pixels"
    return f"{name} {value:.3f} > {target:.1f}  {'reached' if value > target else 'not reached'}"


def write_weights(path: Path, state: dict[str, Tensor]) -> None:
    """Write a plain state dict, loadable with weights_only=True, beside and renamed into place."""
    partial = path.with_suffix(".partial")
    torch.save(state, partial)
    os.replace(partial, path)
