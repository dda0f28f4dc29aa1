"""The documented names of the curves that Weights & Biases shows."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import yaml

from common.config import to_yaml
from common.engine.wandb import WandbSink
from rodent_behavior.config import TrainConfig
from rodent_behavior.console import action_and_keypoints
from rodent_behavior.objective import Objective

RENAMED = {"valid/balanced_accuracy": "val/macro_acc", "lr/head/decay": "lr"}


class CurveSink(WandbSink):
    """Hands over values under their documented names, with the epoch they belong to."""

    def __init__(
        self, config: TrainConfig, objective: Objective, *, name: str, folder: Path, steps_per_epoch: int
    ) -> None:
        super().__init__(
            config.run.wandb_project,
            entity=config.run.wandb_entity,
            name=name,
            tags=[config.model.model_type, config.pose.pose_features],
            config=yaml.safe_load(to_yaml(config)),
            folder=folder,
        )
        self.objective, self.steps_per_epoch = objective, steps_per_epoch

    def log(self, values: Mapping[str, float], step: int) -> None:
        """Keep the values of a step."""
        curves = documented(values, self.objective)
        super().log({**curves, "epoch": step / self.steps_per_epoch}, step)


def documented(values: Mapping[str, float], objective: Objective) -> dict[str, float]:
    """Return values by documented name: `val/` for `valid/`, losses as the console prints them."""
    curves = {
        RENAMED.get(name) or name.replace("valid/", "val/"): value
        for name, value in values.items()
        if not name.startswith("lr/") or name in RENAMED
    }
    train = {name.removeprefix("train/"): value for name, value in values.items()}
    if "action" in train:
        action, keypoints = action_and_keypoints(train, objective)
        curves |= {"train/action_loss": action, "train/kp_loss": keypoints}
    return curves
