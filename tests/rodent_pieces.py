"""The pieces of a behaviour training, made from a command line one by one, and small recordings for it."""

from __future__ import annotations

import json
import logging
import pickle
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
import yaml
from training_pieces import Pieces, looked_at

from common.config import check, parse
from common.engine.distributed import World
from common.engine.logging import Console
from common.engine.randomness import SampleKey, seed_everything
from rodent_behavior.backbones import TinyCNN
from rodent_behavior.checks import check_training, resolved
from rodent_behavior.cli import ALIASES
from rodent_behavior.config import TrainConfig
from rodent_behavior.data import open_data
from rodent_behavior.dlc import DEFAULT_KP_NAMES
from rodent_behavior.plan import plan_balance
from rodent_behavior.train import build_inputs, build_loaders, build_network, build_task, fit_config
from rodent_behavior.trials import TrialIndex

SLOT, SHORT = 60, 50
WIDTH, HEIGHT = 64, 48
VIDEOS = 4
SMALL = (
    "--trial_frames 60 --min_frames 30 --train_T 30 --val_T 40 --hidden_dim 8 --num_layers 3 "
    "--backbone none --num_workers 0 --device cpu --epochs 2"
)
"""A training of a second on the recordings of `write_recordings`."""
KEYS = [SampleKey(index=index % 4, epoch=3, draw=index) for index in range(24)]
"""Draws of the first four windows in one epoch."""
BODY = np.array([(32, 12), (32, 36), (26, 16), (38, 16), (25, 32), (39, 32)], dtype=np.float64)
BOUTS = ((1, 5), (2, 10), (6, 8), (7, 9))
"""Raw id and frames of what an animal does in every trial."""

ANY_TRIAL = TrialIndex(
    video_id="m", video_path=None, pose_path=None, label_path=None, trial=1, slot_start=0, label_start=0,
    rows=0, fps=25.0, width=9, height=9, video_frames=99, pose_rows=99, group="m",
)  # fmt: skip
"""A trial of no particular place."""


def write_recordings(root: Path) -> Path:
    """Write four videos of two trials of 60 frames, the last of 50, with keypoints, metadata and labels.

    paw_shake, raw id 4, occurs in one bout of 4 frames in each of the first two videos alone.
    """
    (root / "Annotations").mkdir(parents=True)
    (root / "Videos").mkdir()
    for number in range(1, VIDEOS + 1):
        stem = f"mouse_{number}"
        rng = np.random.default_rng(number)
        xy, likelihood = motion(rng)
        write_video(root / "Videos" / f"{stem}.mp4", xy, rng)
        write_pose(root / "Videos" / f"{stem}DLC_net.csv", xy, likelihood)
        write_metadata(root / "Videos" / f"{stem}DLC_net_meta.pickle")
        for trial in (1, 2):
            write_labels(root / "Annotations", stem, trial, actions(number, trial))
    return root


def actions(number: int, trial: int) -> list[int]:
    """Return the raw ids of a trial: bouts with rests of 3 frames between them."""
    bouts = [*BOUTS[trial:], *BOUTS[:trial]]
    if trial == 1 and number <= 2:
        bouts.insert(2, (4, 4))
    rows = [0] * (number + 2)
    for raw, length in bouts:
        rows += [raw] * length + [0] * 3
    rows += [0] * SLOT
    return rows[: SHORT if (number, trial) == (VIDEOS, 2) else SLOT]


def motion(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return a wandering body [T, 6, 2] px and likelihoods [T, 6] with gaps of 4 and of 20 frames."""
    frames = 2 * SLOT
    xy = BODY + np.cumsum(rng.normal(0, 0.3, (frames, 1, 2)), axis=0).clip(-8, 8)
    xy = xy + rng.normal(0, 0.4, xy.shape)
    likelihood = np.where(rng.random((frames, 6)) < 0.2, 0.95, 0.99)
    for point in range(6):
        likelihood[10 + 5 * point : 14 + 5 * point, point] = 0.3
        likelihood[SLOT + 4 * point : SLOT + 4 * point + 20, point] = 0.1
    return xy, likelihood


def write_labels(folder: Path, stem: str, trial: int, rows: list[Any]) -> Path:
    path = folder / f"prediction_{stem}.mp4_{trial}.csv"
    path.write_text("\n".join(["Frame,Action", *(f"{row},{raw}" for row, raw in enumerate(rows))]) + "\n")
    return path


def write_pose(
    path: Path,
    xy: np.ndarray,
    likelihood: np.ndarray,
    names: tuple[str, ...] = DEFAULT_KP_NAMES,
    animals: tuple[str, ...] = (),
) -> Path:
    """Write a DeepLabCut table, of several animals when they have names, all with the same points."""
    columns = np.concatenate([xy, likelihood[..., None]], axis=2).reshape(len(xy), -1)
    columns = np.tile(columns, (1, max(1, len(animals))))
    parts = [name for name in names for _ in range(3)]
    head = [
        ["scorer", *["net"] * columns.shape[1]],
        *([["individuals", *[animal for animal in animals for _ in parts]]] if animals else []),
        ["bodyparts", *parts * max(1, len(animals))],
        ["coords", *["x", "y", "likelihood"] * (columns.shape[1] // 3)],
    ]
    lines = [*map(",".join, head)]
    for row, values in enumerate(columns):
        lines.append(",".join([str(row), *(f"{value:.4f}" for value in values)]))
    path.write_text("\n".join(lines) + "\n")
    return path


def write_metadata(path: Path, fps: float = 30.0) -> Path:
    data = {"fps": fps, "frame_dimensions": (HEIGHT, WIDTH), "nframes": 2 * SLOT}
    path.write_bytes(pickle.dumps({"data": data}))
    return path


def write_video(path: Path, xy: np.ndarray, rng: np.random.Generator) -> Path:
    """Draw the points as bright dots on a coarse pattern."""
    background = cv2.resize(rng.integers(20, 120, (6, 8, 3), dtype=np.uint8), (WIDTH, HEIGHT))
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 30, (WIDTH, HEIGHT))
    for points in xy:
        frame = background.copy()
        for x, y in points:
            cv2.circle(frame, (round(x), round(y)), 3, (200, 240, 160), -1)
        writer.write(frame)
    writer.release()
    return path


def write_variants(root: Path, recordings: Path) -> Path:
    """Write label, keypoint and metadata files that differ from the recordings in one thing per folder."""
    stems = [f"mouse_{number}" for number in range(1, VIDEOS + 1)]
    folders = "fewer spoilt slow bare untracked renamed filtered scorer_b two_scorers two_animals".split()
    for name in folders:
        (root / name).mkdir()
    for number, stem in enumerate(stems, start=1):
        xy, likelihood = motion(np.random.default_rng(number))
        video = recordings / "Videos" / f"{stem}.mp4"
        for folder in ("untracked", "renamed"):
            (root / folder / video.name).symlink_to(video)
        write_metadata(root / "slow" / f"{stem}DLC_net_meta.pickle", fps=25)
        for name in ("slow", "bare", "filtered", "two_scorers"):
            write_pose(root / name / f"{stem}DLC_net.csv", xy, likelihood)
        if number > 1:
            write_pose(root / "untracked" / f"{stem}DLC_net.csv", xy, likelihood)
        write_pose(root / "renamed" / f"{stem}DLC_net.csv", xy, likelihood, ("muzzle", *DEFAULT_KP_NAMES[1:]))
        write_pose(root / "filtered" / f"{stem}DLC_net_filtered.csv", xy, likelihood)
        for name in ("scorer_b", "two_scorers"):
            write_pose(root / name / f"{stem}DLC_b.csv", xy, likelihood)
        write_pose(root / "two_animals" / f"{stem}DLC_net.csv", xy, likelihood, animals=("left", "right"))
        for trial in (1, 2):
            rows = actions(number, trial)
            if number <= 2:
                write_labels(root / "fewer", stem, trial, rows)
            write_labels(root / "spoilt", stem, trial, [*rows[:-1], 8] if (number, trial) == (1, 1) else rows)
    (root / "manifest.csv").write_text("video,trial,start,rows,group\nmouse_1.mp4,1,3,60,\n")
    raw = {0: "other"} | dict.fromkeys(range(1, 8), "moving")
    map_text = {"classes": ["other", "moving"], "background": "other", "raw": raw}
    (root / "map.yaml").write_text(yaml.safe_dump(map_text))
    split = {"train": ["mouse_1", "mouse_4"], "val": ["mouse_2", "mouse_3"]}
    (root / "split.json").write_text(json.dumps(split))
    split = {"train": ["mouse_1", "mouse_2", "mouse_4"], "val": ["mouse_3"]}
    (root / "split-lacking.json").write_text(json.dumps(split))
    torch.manual_seed(1)
    weights = TinyCNN().state_dict()
    weights["1.0.weight"] = torch.full_like(weights["1.0.weight"], 0.125)
    torch.save(weights, root / "tiny.pth")
    return root


class Built(Pieces):
    """The pieces of a training, each made when it is first looked at."""

    def __init__(self, words: list[str], train: Callable[..., Any]) -> None:
        super().__init__(words, train)
        self.parsed = parse(TrainConfig, words, prog="train", aliases=ALIASES)
        self.findings = check_training(self.parsed)
        check(self.findings, self.parsed.config.run.strict_config_validation, logging.getLogger("quiet"))
        self.config = resolved(self.parsed)
        self.fit = fit_config(self.config, World())
        self.said: list[str] = []

    @cached_property
    def console(self) -> Console:
        """A console that says nothing; what caches say is kept in `said`."""
        console = Console(enabled=False)
        console.line = lambda label, text: self.said.append(f"{label} {text}")  # type: ignore[method-assign]
        return console

    @cached_property
    def data(self):
        return open_data(self.config, self.console)

    @cached_property
    def plan(self):
        return plan_balance(self.config, self.data.statistics(), [trial.actions for trial in self.data.train])

    @cached_property
    def network(self):
        seed_everything(self.config.run.seed, 0)
        return build_network(self.config, self.data)

    @cached_property
    def inputs(self):
        return build_inputs(self.config, self.data, self.network.backbone, self.console)

    @cached_property
    def loaders(self):
        return build_loaders(self.config, self.data, self.plan, self.inputs, self.network, World())

    @cached_property
    def task(self):
        return build_task(self.config, self.data, self.plan, self.network, None, self.console)

    @cached_property
    def samples(self) -> list[dict[str, Any]]:
        return [self.windows[key] for key in KEYS]

    @property
    def windows(self):
        return self.loaders.train.dataset

    @property
    def augmenter(self):
        return self.windows.augmenter

    @property
    def batch(self):
        return next(iter(self.loaders.train))

    def groups(self, key: str) -> dict[str, float]:
        """A setting of every group of parameters."""
        return {group["name"]: group[key] for group in self.optimizer.param_groups}

    def again(self, *more: str) -> Built:
        """The pieces with other words behind."""
        return Built([*self.words, *more], self.train)


def seen(given: str, files: Path, train: Callable[..., Any], look: Callable[[Built], Any]) -> Any:
    """Return what `look` sees, or the text of a refusal."""
    return looked_at(lambda: Built(given.format(tmp=files).split(), train), look)
