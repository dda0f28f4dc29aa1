"""A small pose model for DeepLabCut-live, trained on generated pictures: for trying the live commands."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.config import Parsed, UserError
from common.engine.distributed import World
from common.engine.logging import Console
from common.engine.randomness import generator_for, seed_everything
from common.engine.settings import FitConfig, OptimizerConfig
from common.engine.step import Optimization
from common.engine.task import Headline, LossTerm, Task
from common.schedulers.learning_rate import one_cycle
from rodent_behavior.backbones import IMAGENET
from rodent_behavior.config import KEYPOINTS
from rodent_behavior.live.dlc import LivePose, build_pose_network
from rodent_behavior.live.source import bgr
from rodent_behavior.live_config import PoseModelConfig
from rodent_behavior.rendering import draw_frame
from rodent_behavior.skeleton import MOVES, Floats, PlannedBout, trial_motion

SIZE = 96
BATCH = 16
STRIDE = 8
"""Side in px of a cell of the heat map."""
RADIUS = 1.6
"""Cells around a point whose heat is 1, and whose offset is learnt."""
LOCREF_STD = 7.2801
"""Px of a predicted offset of 1."""
POSITIVE_WEIGHT = 8.0
OFFSET_WEIGHT = 0.2
LEARNING_RATE = 6e-3
SCENES, SCENE_FRAMES = 96, 60
JUDGED = 64

_CHANNELS, _POINTS = 96, len(KEYPOINTS)
MODEL: dict[str, Any] = {
    "backbone": {"type": "ResNet", "model_name": "test_resnet", "output_stride": 16},
    "heads": {
        "bodypart": {
            "type": "HeatmapHead",
            "predictor": {
                "type": "HeatmapPredictor",
                "apply_sigmoid": True,
                "clip_scores": False,
                "location_refinement": True,
                "locref_std": LOCREF_STD,
            },
            "heatmap_config": {"channels": [_CHANNELS, _POINTS], "kernel_size": [3], "strides": [2]},
            "locref_config": {"channels": [_CHANNELS, 2 * _POINTS], "kernel_size": [3], "strides": [2]},
        }
    },
}
CONFIG: dict[str, Any] = {
    "method": "bu",
    "data": {"inference": {"normalize_images": True}},
    "metadata": {"bodyparts": list(KEYPOINTS), "individuals": ["animal"]},
    "model": MODEL,
}


def main(parsed: Parsed[PoseModelConfig]) -> int:
    """Train, write and judge the model; return exit code 0."""
    config, console = parsed.config, Console()
    if config.steps < 1:
        raise UserError(f"--steps {config.steps}: at least 1 is expected")
    began = time.monotonic()
    network = train(config.steps, config.seed)
    write_pose_model(config.out, network)
    console.line("trained", f"{config.steps} steps   {time.monotonic() - began:.0f} s")
    median, high = np.percentile(judge(config.out, config.seed + 1), (50, 90))
    console.line(
        "error", f"median {median:.1f} px   p90 {high:.1f} px   of {SIZE} px, through DeepLabCut-live"
    )
    console.line("wrote", str(config.out))
    return 0


def train(steps: int, seed: int) -> nn.Module:
    """Return the network after `steps` batches of generated pictures, in evaluation mode."""
    seed_everything(seed)
    task = PoseTask(build_pose_network(MODEL))
    settings = FitConfig(
        epochs=1, clip_norm=0.0, optimizer=OptimizerConfig(lr=LEARNING_RATE, weight_decay=1e-2)
    )
    optimization = Optimization(task, settings, World())
    task.model.train()
    for step, batch in enumerate(_batches(steps, seed)):
        factors = [one_cycle(step, steps)] * len(optimization.base_lrs)
        optimization.take([batch], factors, lambda old, new: None)
    return task.model.eval()


def write_pose_model(path: Path, network: nn.Module) -> None:
    """Write the file that DeepLabCut-live reads: config and weights as plain types."""
    weights = {name: value.detach().cpu().clone() for name, value in network.state_dict().items()}
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save({"config": CONFIG, "pose": weights}, path)
    except (OSError, RuntimeError) as error:
        raise UserError(f"--out {path}: cannot be written: {error}") from error


def judge(path: Path, seed: int) -> Floats:
    """Return the distances [N, K] in px between true and found points of pictures the model has not seen."""
    poses = generated_poses(seed)[:: SCENES * SCENE_FRAMES // JUDGED]
    frames = [bgr(draw_frame(pose, SIZE)) for pose in poses]
    model = LivePose(path)
    model.warm_up(frames[0])
    found = np.stack([model.get_pose(frame)[:, :2] for frame in frames])
    model.close()
    distances: Floats = np.linalg.norm(found - poses, axis=2)
    return distances


def generated_poses(seed: int) -> Floats:
    """Return keypoints [N, K, 2] in px of animals that do everything, each scene somewhere else."""
    actions = list(MOVES)
    scenes = []
    for scene in range(SCENES):
        rng = generator_for(seed, "pose scene", scene)
        bout = PlannedBout(actions[scene % len(actions)], 10, SCENE_FRAMES - 10, 0)
        scale = SIZE * rng.uniform(0.32, 0.40)
        scenes.append(trial_motion([bout], frames=SCENE_FRAMES, fps=30.0, size=SIZE, scale=scale, rng=rng))
    return np.concatenate(scenes)


class PoseTask(Task):
    """Heat maps and offsets of keypoints; a batch has `image` uint8 RGB [B, H, W, 3], `xy` [B, K, 2] px."""

    headline = Headline("offset", "min")

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self._normalization = [torch.tensor(values).view(3, 1, 1) for values in IMAGENET]

    def training_step(self, batch: dict[str, Tensor]) -> dict[str, LossTerm]:
        """Return cross-entropy of the heat and, near the points, the L1 distance of the offsets."""
        mean, std = self._normalization
        output = self.model((batch["image"].permute(0, 3, 1, 2) / 255 - mean) / std)["bodypart"]
        heat, offset = output["heatmap"], output["locref"].unflatten(1, (-1, 2))
        target, wanted = pose_targets(batch["xy"], heat.shape[2], heat.shape[3])
        weight = torch.tensor(POSITIVE_WEIGHT)
        heat_loss = F.binary_cross_entropy_with_logits(heat, target, pos_weight=weight, reduction="sum")
        offset_loss = ((offset - wanted).abs() * target[:, :, None]).sum()
        counts = self.normalizers(batch)
        return {
            "heat": LossTerm(heat_loss, counts["heat"]),
            "offset": LossTerm(offset_loss, counts["offset"], OFFSET_WEIGHT),
        }

    def normalizers(self, batch: dict[str, Tensor]) -> dict[str, Tensor]:
        """Return the number of cells, and of offsets near the points."""
        cells = batch["image"].shape[1] // STRIDE + 1
        target, _ = pose_targets(batch["xy"], cells, cells)
        return {"heat": torch.tensor(float(target.numel())), "offset": 2 * target.sum()}

    def validation_step(self, batch: dict[str, Tensor]) -> dict[str, LossTerm]:
        """Return the losses of a batch without a graph."""
        with torch.no_grad():
            return self.training_step(batch)

    def metrics(self) -> dict[str, float]:
        """Return nothing: the model is judged through DeepLabCut-live."""
        return {}


def pose_targets(xy: Tensor, rows: int, columns: int) -> tuple[Tensor, Tensor]:
    """Return the heat [B, K, rows, columns], 1 near a point, and offsets [B, K, 2, rows, columns].

    An offset leads from the middle of a cell to the point, in units of `LOCREF_STD` px.
    """
    down, across = torch.meshgrid(torch.arange(rows), torch.arange(columns), indexing="ij")
    middles = (torch.stack([across, down]) + 0.5) * STRIDE
    away = xy[..., None, None] - middles
    return (away.norm(dim=2) <= RADIUS * STRIDE).float(), away / LOCREF_STD


def _batches(steps: int, seed: int) -> Iterator[dict[str, Tensor]]:
    poses = generated_poses(seed)
    rng = generator_for(seed, "pose batches")
    for _ in range(steps):
        chosen = poses[rng.integers(0, len(poses), BATCH)]
        images = np.stack([draw_frame(pose, SIZE) for pose in chosen])
        yield {"image": torch.from_numpy(images), "xy": torch.from_numpy(chosen.astype(np.float32))}
