"""A made-up run folder: a four-class segmentation of 12 epochs with alarms, intervals and drawn samples."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest

NAMES = ["background", "grass & gravel", "low <obstacle>", "person"]
COLORS = ["#8a8f98", "#3f9b57", "#d99a2b", "#c0392b"]
COUNTS = [8_400_000, 2_130_000, 690_000, 41_000]
EPOCHS, STEPS_PER_EPOCH, BEST_EPOCH = 12, 120, 10
WEIGHTS = [0.31, 0.62, 1.09, 4.47]


@pytest.fixture(scope="session")
def fake_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A complete run folder; tests must not write into it."""
    return write_fake_run(tmp_path_factory.mktemp("runs") / "toy_segmentation_0142")


def write_fake_run(folder: Path) -> Path:
    """Write every file a report is made of and return the folder."""
    folder.mkdir(parents=True)
    write_lines(folder / "metrics.jsonl", metrics())
    draw_samples(folder / "samples")
    write_lines(folder / "events.jsonl", events())
    (folder / "config.yaml").write_text(CONFIG, encoding="utf-8")
    (folder / "environment.json").write_text(json.dumps(ENVIRONMENT), encoding="utf-8")
    return folder


def write_lines(path: Path, records: Iterable[Mapping[str, Any]]) -> None:
    """Write one JSON object per line."""
    path.write_text("".join(json.dumps(record) + "\n" for record in records), encoding="utf-8")


def metrics() -> list[dict[str, Any]]:
    """Return step, epoch and validation records with a dip after epoch 10 and a class unseen at first."""
    rng = np.random.default_rng(7)
    records: list[dict[str, Any]] = []
    for epoch in range(1, EPOCHS + 1):
        for step in range((epoch - 1) * STEPS_PER_EPOCH + 10, epoch * STEPS_PER_EPOCH + 1, 10):
            focal = 0.32 * np.exp(-step / 500) + 0.05 + 0.02 * rng.standard_normal() * np.exp(-step / 1500)
            dice = 0.55 * np.exp(-step / 700) + 0.28 + 0.03 * rng.standard_normal()
            rate = 2e-4 * min(step / 120, 0.5 * (1 + np.cos(np.pi * step / (EPOCHS * STEPS_PER_EPOCH))))
            values = {"train/loss": focal + dice, "train/focal": focal, "train/dice": dice}
            values |= {"train/grad_norm": float(np.exp(rng.normal(-0.3, 0.4))), "lr/backbone": 0.1 * rate}
            values |= {
                "lr/head": rate,
                "lr/norm": rate,
                "train/samples_per_second": 41 + 2 * rng.standard_normal(),
            }
            records.append(record("step", step, epoch - 1, values))
        records += epoch_records(epoch, rng)
    return records


def epoch_records(epoch: int, rng: np.random.Generator) -> list[dict[str, Any]]:
    """Return the epoch and validation records of one epoch."""
    step, grown = epoch * STEPS_PER_EPOCH, 1 - np.exp(-epoch / 4)
    dip = 0.03 * max(epoch - BEST_EPOCH, 0)
    iou = [min(top * grown - dip + 0.01 * rng.standard_normal(), 1) for top in (0.93, 0.78, 0.62, 0.41)]
    recall = [value + 0.06 for value in iou]
    if epoch < 3:
        iou[3] = 0.0
    focal, dice = 0.32 * np.exp(-step / 500) + 0.05, 0.55 * np.exp(-step / 700) + 0.28
    train = {"train/loss": focal + dice, "train/focal": focal, "train/dice": dice, "train/seconds": 3.1}
    valid = {"valid/loss": 1.05 * (focal + dice) + 0.4 * dip, "valid/focal": 1.1 * focal, "valid/dice": dice}
    valid |= {"valid/miou": float(np.mean(iou)), "valid/mean_accuracy": float(np.mean(recall))}
    valid |= {"valid/accuracy": 0.62 + 0.3 * grown, "valid/danger_as_safe": 0.4 * np.exp(-epoch / 5) + dip}
    valid |= {f"valid/iou/{c}": value for c, value in enumerate(iou)}
    valid |= {f"valid/recall/{c}": value if epoch > 1 or c < 3 else None for c, value in enumerate(recall)}
    train |= {"train/miou": float(np.mean(iou)) + 0.02 * epoch / 4, "lr/backbone": 1e-5}
    return [
        record("epoch", step, epoch, train),
        record("validation", step, epoch, valid | {"valid/seconds": 0.9}),
    ]


def record(kind: str, step: int, epoch: int | None, values: Mapping[str, Any]) -> dict[str, Any]:
    """Return one line of either JSONL file."""
    plain = {key: float(value) if isinstance(value, np.floating) else value for key, value in values.items()}
    return {"kind": kind, "step": step, "epoch": epoch, "seconds": round(step * 0.031, 3), **plain}


def events() -> list[dict[str, Any]]:
    """Return one event of every kind a report shows."""
    last = EPOCHS * STEPS_PER_EPOCH
    best = {
        "metric": "miou",
        "mode": "max",
        "meaning": "Mean over classes of intersection over union, 1 is perfect.",
    }
    found = [record("header", 0, 0, {"lines": HEADER, "headline": best})]
    found.append(record("statistics", 0, 0, {"statistics": STATISTICS, "colors": COLORS}))
    found.append(
        record(
            "balance", 0, 0, {"budget": budget(), "lines": ["balance  focal x weights(sqrt)   sampler rare"]}
        )
    )
    for epoch in range(1, EPOCHS + 1):
        found += epoch_events(epoch)
    found.append(record("note", last, EPOCHS, {"text": "completed all epochs"}))
    found.append(record("confusion", last, EPOCHS, {"split": "valid", "names": NAMES, "matrix": MATRIX}))
    found.append(
        record(
            "per_class", last, EPOCHS, {"split": "valid", "columns": ["IoU", "recall"], "rows": class_rows()}
        )
    )
    found.append(record("summary", last, EPOCHS, {"split": "valid", "rows": SUMMARY}))
    found.append(
        record(
            "samples", last, EPOCHS, {"split": "valid", "title": "Worst by missed persons", "items": SAMPLES}
        )
    )
    return found


def epoch_events(epoch: int) -> list[dict[str, Any]]:
    """Return the events of one epoch: alarms in 3 to 5 and 12, a resume and a smaller batch in 4."""
    step, found = epoch * STEPS_PER_EPOCH, []
    if epoch == 4:
        found.append(record("resume", step - 100, None, {}))
        found.append(
            record("out_of_memory", step - 80, 3, {"text": "micro-batch 16 -> 12, same effective batch"})
        )
    if epoch in (3, 4, 5):
        found.append(
            record("alarm", step, epoch, ALARM | {"text": f"person: IoU 0.000 with 412 px, {epoch} epochs"})
        )
    if epoch == EPOCHS:
        found.append(record("alarm", step, epoch, FALSE_SAFE))
    checkpoint = {"path": f"step-{step:08d}", "best": epoch in (1, 2, 4, 7, BEST_EPOCH)}
    return [*found, record("checkpoint", step, epoch, checkpoint)]


def budget() -> dict[str, Any]:
    """Return a balance budget as the library writes it."""
    natural = np.array(COUNTS) / sum(COUNTS)
    presented = np.array([0.62, 0.24, 0.1, 0.04])
    effective = presented * WEIGHTS / np.sum(presented * WEIGHTS)
    return {
        "counts": COUNTS, "names": NAMES, "unit": "pixel", "ratio": COUNTS[0] / COUNTS[3],
        "natural": natural.tolist(), "presented": presented.tolist(), "weights": WEIGHTS, "alpha": [1.0] * 4,
        "offset": [0.0] * 4, "effective": effective.tolist(), "strength": 0.987,
        "factors": {"sampler": 13.2, "weights": 14.4},
        "findings": [["warning", "samples of person are expected 61.0 times per epoch (> 50)"]],
    }  # fmt: skip


def class_rows() -> list[dict[str, Any]]:
    """Return the per-class table; the person's recall has no interval and one class has no support."""
    values = [(0.87, 0.84, 0.89), (0.71, 0.66, 0.76), (0.55, 0.44, 0.63), (0.36, 0.18, 0.52)]
    rows = []
    for c, (value, low, high) in enumerate(values):
        recall = {
            "value": value + 0.06,
            "low": low + 0.06 if c < 3 else None,
            "high": high + 0.06 if c < 3 else None,
        }
        iou = {"value": value, "low": low, "high": high}
        rows.append({"id": c, "name": NAMES[c], "support": sum(MATRIX[c]), "IoU": iou, "recall": recall})
    nothing = {"value": None, "low": None, "high": None}
    return [*rows, {"id": 4, "name": "vehicle", "support": 0, "IoU": nothing, "recall": nothing}]


def draw_samples(folder: Path) -> None:
    """Draw photo, truth and prediction side by side: fields, blobs and a few dots."""
    from matplotlib.image import imsave

    folder.mkdir()
    palette = np.array([[int(color[i : i + 2], 16) for i in (1, 3, 5)] for color in COLORS]) / 255
    y, x = np.mgrid[:160, :200]
    for index in range(len(SAMPLES) - 1):
        rng = np.random.default_rng(index)
        label = (np.sin(x / 37 + index) + np.cos(y / 29 - index) > 0.2).astype(int)
        for value, radius, count in ((2, 18, 4), (3, 5, 6)):
            for cy, cx in rng.integers(0, (160, 200), (count, 2)):
                label[(y - cy) ** 2 + (x - cx) ** 2 < radius**2] = value
        shifted = np.roll(label, (3, -4), (0, 1))
        shifted[(shifted == 3) & (rng.random(label.shape) < 0.4)] = 1
        photo = np.clip(palette[label] * 0.6 + 0.25 + 0.06 * rng.standard_normal((160, 200, 1)), 0, 1)
        gap = np.ones((160, 6, 3))
        imsave(
            folder / f"{index}.png", np.concatenate([photo, gap, palette[label], gap, palette[shifted]], 1)
        )


ENVIRONMENT = {
    "date": "2025-03-14T09:26:53+00:00",
    "command": ["python", "scripts/train.py", "--model", "compact net", "--epochs", "12"],
    "device": "cpu", "git": "1a2b3c4", "seed": 0,
    "versions": {"python": "3.11.9", "torch": "2.9.0", "numpy": "2.3.1"},
}  # fmt: skip
CONFIG = """\
model: {name: compact, width: 32}
data: {root: data/toy, image_size: [160, 200], scale: 0.5}
epochs: 12
batch_size: 16
optimizer: {name: adamw, lr: 0.0002, weight_decay: 0.01}
loss_types: {segmentation: focal}
resume: null
mixed_precision: false
"""
HEADER = [
    "run      toy_segmentation_0142   seed 0   cpu fp32   git 1a2b3c4",
    "data     train 32 images   valid 8",
]
STATISTICS = {
    "schema": 1, "counts": COUNTS, "names": NAMES, "unit": "pixel", "split": "train", "ignored": 52_110,
    "group_counts": None, "sha256": "0" * 64,
}  # fmt: skip
ALARM = {"name": "class_zero", "suggestion": "Raise its weight or draw crops that contain it."}
FALSE_SAFE = {
    "name": "false_safe_up",
    "text": "danger_as_safe 0.061 -> 0.118 against the best checkpoint",
    "suggestion": "Stop here and use the checkpoint of epoch 10.",
}
MATRIX = [
    [610_022, 41_870, 8_112, 0],
    [20_114, 148_300, 9_204, 377],
    [5_990, 8_101, 40_233, 1_201],
    [12, 902, 611, 2_020],
]
SUMMARY = [
    {"name": "miou", "value": 0.631, "low": 0.571, "high": 0.674, "note": "mean over classes with support"},
    {"name": "accuracy", "value": 0.891, "low": 0.872, "high": 0.908, "note": ""},
    {"name": "expected cost", "value": 0.214, "low": None, "high": None, "note": "lower is better"},
    {"name": "pixels", "value": 897_069, "low": None, "high": None, "note": ""},
]
SAMPLES = [
    {
        "image": f"samples/{i}.png",
        "caption": f"photo {i}: photo, truth, prediction; {12 - i} of 14 persons missed",
    }
    for i in range(4)
] + [{"image": "samples/lost.png", "caption": "photo 9 <lost>"}]
