"""Freezing in one real recording: the network beside boosted trees on the same features.

Settings are chosen in the first half of the recording alone (`--split val`): it is cut into three blocks of
time, each judged by a model trained on the other two, and the blocks are counted together. The second half is
judged once by models of the whole first half (`--split test`). Every block is a recording of its own, so no
feature looks across an edge. The number of epochs is fixed: validation sees copies of the training blocks.
Trees see the same features without a window. All figures belong to one animal in one session, so they
carry no interval.
"""

from __future__ import annotations

import csv
import json
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from common.config import Parsed, UserError, run_main
from common.engine.manifest import library_versions
from common.metrics.temporal import EditScore, SegmentF1
from rodent_behavior.cli import main as rodent_behavior
from rodent_behavior.dlc import PoseTable, read_dlc
from rodent_behavior.keypoints import visible
from rodent_behavior.pose_features import Generic

RESULTS = Path(__file__).parent / "results"
FPS, WIDTH, HEIGHT = 50, 1000, 750
LIKELIHOOD = 0.6
"""Smallest likelihood of a visible keypoint."""
HALVES = ((0, 3000), (3000, 6000))
THIRDS = ((0, 1525), (1525, 2170), (2170, 3000))
"""Cuts of the first half that part no bout: 2, 3 and 4 bouts."""
PARTS = {
    "nose": "Nose",
    "tail_base": "Tailbase",
    "left_ear": "Left Ear",
    "right_ear": "Right Ear",
    "left_leg": "Left Leg",
    "right_leg": "Right Leg",
    "mid_back": "Mid-Back",
}
RECORDING = ["--fps", str(FPS), "--frame_size", f"{WIDTH},{HEIGHT}"]
TRAIN = (
    f"--backbone none --model_type action_only --pose_features generic --kp_likelihood_thr {LIKELIHOOD} "
    "--num_workers 0 --early_stopping_patience 0"
)
SMOOTH = 15
"""Frames over which the trees' probabilities are averaged."""

Block = tuple[int, int]
Floats = NDArray[np.float64]
Labels = NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class FreezingConfig:
    """Train on a part of a recording and judge another one."""

    data: Path
    """Folder with `demo1_tracking.csv` and `hB_demo1_manual_annotations.mat.mat`."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Seeds of weights and order."""
    train: str = (
        "--epochs 80 --lr 2e-3 --batch_size 4 --train_T 180 --hidden_dim 16 --num_layers 6 --refinements 0 "
        "--dropout 0.5 --head_dropout 0.5 --lambda_tmse 1 --kp_jitter_std 0.01 --weight_decay 0.3"
    )
    """Flags of `rodent-behavior train`, written `--train="--epochs 40 ..."`."""
    predict: str = "--min_bout 25"
    """Flags of `rodent-behavior predict`. The shortest bout of the first half has 48 frames."""
    split: Literal["val", "test"] = "test"
    """Part that is judged: val, the blocks of the first half, while settings are chosen; test, the second."""
    json: Path | None = None
    """Result file. Default: benchmarks/results/rodent_freezing-<date>.json."""


@dataclass(frozen=True)
class Recording:
    """Header and rows of the keypoint table, and 1 for a frozen frame, 0 otherwise [T]."""

    header: list[list[str]]
    rows: list[list[str]]
    labels: Labels
    pose: PoseTable


def compare(parsed: Parsed[FreezingConfig]) -> int:
    """Judge the trees and the network of every seed; print and write the table."""
    config = parsed.config
    recording = read_recording(config.data)
    labels = recording.labels
    found = {"rest only": cross(config.split, rest_only)}
    trees = cross(config.split, partial(boosted_trees, recording))
    found["boosted trees"] = trees
    found[f"boosted trees, {SMOOTH} frames averaged"] = {
        judged: np.convolve(values, np.full(SMOOTH, 1 / SMOOTH), mode="same")
        for judged, values in trees.items()
    }
    rows = [row(name, labels, values) for name, values in found.items()]
    for seed in config.seeds:
        values = cross(config.split, partial(network, recording, config, seed))
        rows.append(row(f"network, seed {seed}", labels, values))
    path = config.json or RESULTS / f"rodent_freezing-{datetime.now(UTC).date()}.json"
    settings = {"split": config.split, "train": f"{TRAIN} {config.train}", "predict": config.predict}
    content = {"settings": settings, "versions": library_versions(), "rows": rows}
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return 0


def cross(split: str, judge: Callable[[list[Block], Block], Floats]) -> dict[Block, Floats]:
    """Return the probabilities of every judged block, from `judge(training blocks, judged block)`."""
    if split == "test":
        return {HALVES[1]: judge([HALVES[0]], HALVES[1])}
    return {block: judge([other for other in THIRDS if other != block], block) for block in THIRDS}


def read_recording(data: Path) -> Recording:
    """Return the recording; needs the package tables."""
    import tables

    with tables.open_file(str(data / "hB_demo1_manual_annotations.mat.mat")) as file:
        labels = np.asarray(file.get_node("/hBehavior/Freezing/Vector").read()).ravel().astype(np.int64)
    path = data / "demo1_tracking.csv"
    with path.open(newline="", encoding="utf-8") as file:
        lines = list(csv.reader(file))
    pose = read_dlc(path, tuple(PARTS), aliases={part: name for name, part in PARTS.items()})
    return Recording(lines[:3], lines[3:], labels, pose)


def network(
    recording: Recording, config: FreezingConfig, seed: int, train: list[Block], judged: Block
) -> Floats:
    """Train on blocks and return the probability of freezing in each frame of another one."""
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        sides = {
            "train": [f"block{start}" for start, _ in train],
            "val": [f"copy{start}" for start, _ in train],
        }
        for start, stop in train:
            for name in (f"block{start}", f"copy{start}"):
                write_block(home / "Videos", name, recording, (start, stop))
                write_labels(home / "Annotations", name, recording.labels[start:stop])
        (home / "labels.yaml").write_text(
            "classes: [other, freezing]\nbackground: other\nraw: {0: other, 1: freezing}\n", encoding="utf-8"
        )
        (home / "split.json").write_text(json.dumps({**sides, "test": []}), encoding="utf-8")
        names = [
            "--kp_names",
            ",".join(PARTS),
            "--kp_alias",
            *(f"{part}={name}" for name, part in PARTS.items()),
        ]
        files = ["--label_map", str(home / "labels.yaml"), "--split_file", str(home / "split.json")]
        where = ["--annotations", str(home / "Annotations"), "--videos", str(home / "Videos")]
        flags = [*TRAIN.split(), *config.train.split(), "--seed", str(seed), "--run_dir", str(home / "run")]
        _run(["train", *where, "--trial_frames", "3000", *RECORDING, *names, *files, *flags])
        write_block(home / "judged", "block", recording, judged)
        model = ["--checkpoint", str(home / "best_model_multitask.pt"), "--out", str(home / "out")]
        _run(["predict", str(home / "judged"), *model, *RECORDING, *config.predict.split()])
        return read_prediction(home / "out" / "block_predictions.csv")


def write_block(folder: Path, name: str, recording: Recording, block: Block) -> None:
    """Write the keypoints of a block as those of a video of its own."""
    folder.mkdir(exist_ok=True)
    with (folder / f"{name}DLC_tracking.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerows(recording.header)
        table.writerows([frame, *row[1:]] for frame, row in enumerate(recording.rows[slice(*block)]))


def write_labels(folder: Path, name: str, labels: Labels) -> None:
    """Write the labels of a block as the application reads them."""
    folder.mkdir(exist_ok=True)
    rows = "".join(f"{frame},{label}\n" for frame, label in enumerate(labels))
    (folder / f"prediction_{name}.mp4_1.csv").write_text(f"Frame,Action\n{rows}", encoding="utf-8")


def read_prediction(path: Path) -> Floats:
    """Return 1 for a frame that was called freezing, 0 otherwise [T]."""
    with path.open(newline="", encoding="utf-8") as file:
        return np.array([float(line["Action"] == "freezing") for line in csv.DictReader(file)])


def rest_only(train: list[Block], judged: Block) -> Floats:
    """Return no freezing at all."""
    return np.zeros(judged[1] - judged[0])


def boosted_trees(recording: Recording, train: list[Block], judged: Block) -> Floats:
    """Return the probability of freezing in each frame of a block, from trees trained on others."""
    from sklearn.ensemble import HistGradientBoostingClassifier

    trees = HistGradientBoostingClassifier(random_state=0, early_stopping=False)
    features = [tree_features(recording.pose, block) for block in train]
    trees.fit(np.concatenate(features), np.concatenate([recording.labels[slice(*block)] for block in train]))
    found: Floats = trees.predict_proba(tree_features(recording.pose, judged))[:, 1]
    return found


def tree_features(pose: PoseTable, block: Block) -> NDArray[np.float32]:
    """Return the features that the network sees of a block, not a number where missing [T, F]."""
    shown = visible(pose, LIKELIHOOD, WIDTH, HEIGHT)[slice(*block)]
    generic = Generic(keypoints=len(PARTS), causal=False, fps=FPS)
    values, missing = generic(pose.xy[slice(*block)], shown, pose.likelihood[slice(*block)])
    return np.where(missing, np.float32(np.nan), values)


def row(method: str, labels: Labels, found: dict[Block, Floats]) -> dict[str, Any]:
    """Return the figures of the judged blocks counted together; a probability above 0.5 is freezing."""
    bouts, edit = SegmentF1(2, thresholds=(0.3,), background=(0,)), EditScore(2, background=(0,))
    hits = total = frames = 0
    for block, values in found.items():
        true, predicted = labels[slice(*block)], (values > 0.5).astype(np.int64)
        hits += int((true & predicted).sum())
        total += int(true.sum() + predicted.sum())
        frames += int(true.sum())
        for metric in (bouts, edit):
            metric.update(torch.from_numpy(predicted), torch.from_numpy(true))
    figures = {
        "f1": 2 * hits / max(1, total),
        "segment_f1_0.3": bouts.compute().at(0.3),
        "edit": edit.compute(),
    }
    print(
        f"RESULT {method:<36} freezing F1 {figures['f1']:.3f}  "
        f"segment F1@0.3 {figures['segment_f1_0.3']:.3f}  edit {figures['edit']:.1f}",
        flush=True,
    )
    return {"method": method, "frames": frames, **figures}


def _run(words: Sequence[str]) -> None:
    if rodent_behavior(words):
        raise UserError(f"failed: rodent-behavior {' '.join(words)}")


if __name__ == "__main__":
    sys.exit(run_main(compare, FreezingConfig, prog="python benchmarks/rodent_freezing.py"))
