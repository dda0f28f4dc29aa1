"""Run folders with a tiny network that was never trained, clips it tells apart, and calibration files."""

from collections.abc import Sequence
from pathlib import Path

import cv2
import numpy as np
import torch
from mv_runs import NETWORK

from common.engine.checkpoint import Checkpoint, save_checkpoint
from mvfouls.calibration import Calibration, PartCalibration, write_calibration
from mvfouls.card import ModelCard
from mvfouls.frames import FrameRule
from mvfouls.labels import TASKS
from mvfouls.model import FoulModel
from mvfouls.scores import Score
from mvfouls.settings import HeadSpec, ModelSettings, Pixels, ProjectionSettings, ViewSettings

MAIN = ("action_class", "severity", "offence")
FRAMES = FrameRule(count=4)
HEIGHT, WIDTH = 32, 40
SCALE = 20.0
"""Factor of the logits."""


def write_run(folder: Path, *, tasks: Sequence[str] = MAIN, views: ViewSettings | None = None) -> Path:
    """Write a run with one checkpoint; its answers depend on the clip. The tiny network must be in place."""
    card = ModelCard(
        model=ModelSettings(backbone=NETWORK, heads={task: HeadSpec(kind="linear") for task in tasks}),
        tasks={task: TASKS[task].classes for task in tasks},
        scores={task: Score(scale=SCALE) for task in tasks},
        pixels=Pixels(frames=FRAMES, height=HEIGHT, width=WIDTH),
        views=views or ViewSettings(),
        projection=ProjectionSettings(),
    )
    torch.manual_seed(3)
    model = card.build()
    _settle(model)
    checkpoint = Checkpoint(
        step=8, epoch=2, headline=None, model=model.state_dict(), state={}, config="", metadata=card.to_dict()
    )
    save_checkpoint(folder / "checkpoints", checkpoint, best=True)
    return folder


def _settle(model: FoulModel) -> None:
    """Fit norms and biases to coloured patches: without that all clips look the same."""
    patches = torch.rand(16, 3, 1, 2, 2).expand(-1, -1, FRAMES.count, -1, -1)
    clips = torch.nn.functional.interpolate(patches, (FRAMES.count, HEIGHT, WIDTH))
    for layer in model.modules():
        if isinstance(layer, torch.nn.BatchNorm3d):
            layer.momentum = None
    layers = [model.aggregator.score[0], *(head[-1] for head in model.heads.values())]
    with torch.no_grad():
        model.train().backbone(model.normalise(clips))
        features = model.eval().backbone(model.normalise(clips))
        for layer in layers:
            layer.bias.copy_(-layer.weight @ features.mean(0))
        model.aggregator.score[2].weight.mul_(50)


def paint_clip(path: Path, seed: int, size: tuple[int, int] = (80, 48)) -> Path:
    """Write a clip of 90 frames of coloured patches in place of the one that is there."""
    patches = np.random.default_rng(seed).integers(0, 256, (2, 2, 3)).astype(np.uint8)
    frame = cv2.resize(patches, size, interpolation=cv2.INTER_NEAREST)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 25, size)
    for _ in range(90):
        writer.write(frame)
    writer.release()
    return path


def write_offsets(path: Path, name: str, favoured: str, classes: Sequence[str]) -> Path:
    """Write a calibration file in which one class of a task or official part always wins."""
    offsets = tuple(50.0 * (label == favoured) for label in classes)
    part = PartCalibration(
        classes=tuple(classes), counts=(1,) * len(offsets), offsets=offsets,
        thresholds=tuple(0.5 if offset else None for offset in offsets), before=0.5, after=0.5, held_out=None,
    )  # fmt: skip
    write_calibration(path, Calibration(parts={name: part}, actions=3))
    return path
