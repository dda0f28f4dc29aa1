"""The behaviour model: pose projection, temporal model, action logits and keypoint head."""

from __future__ import annotations

from typing import NotRequired, TypedDict

import torch
from torch import Tensor, nn

from rodent_behavior.model_config import POSE_WIDTH, BehaviorModelConfig
from rodent_behavior.temporal import TCN, Dropout, MSTCNpp

__all__ = ["BehaviorInput", "BehaviorModel", "BehaviorModelConfig", "BehaviorOutput", "KeypointHead"]


class BehaviorInput(TypedDict):
    """`visual` [B, T, D] and `pose` [B, T, F] where the model has them, `valid` bool [B, T]."""

    visual: NotRequired[Tensor | None]
    pose: NotRequired[Tensor | None]
    valid: Tensor


class BehaviorOutput(TypedDict):
    """Action logits [B, C, T] of every stage, and keypoints [B, T, 2K] as x/W, y/H pairs or None."""

    stages: list[Tensor]
    keypoints: Tensor | None


class PoseProjection(nn.Sequential):
    """Linear layer to `POSE_WIDTH`, GELU and dropout."""

    def __init__(self, pose_dim: int, dropout: float) -> None:
        super().__init__(nn.Linear(pose_dim, POSE_WIDTH), nn.GELU(), Dropout(dropout))


class KeypointHead(nn.Sequential):
    """Two linear layers from features [..., F] to coordinates in [0, 1], [..., 2K]."""

    def __init__(self, width: int, num_keypoints: int, dropout: float) -> None:
        super().__init__(
            nn.Linear(width, width // 2),
            nn.GELU(),
            Dropout(dropout),
            nn.Linear(width // 2, 2 * num_keypoints),
            nn.Sigmoid(),
        )


class BehaviorModel(nn.Module):
    """Actions per frame from visual features, pose features or both, and keypoints when asked for."""

    def __init__(self, config: BehaviorModelConfig) -> None:
        super().__init__()
        self.config = config
        self.pose = PoseProjection(config.pose_dim, config.dropout / 2) if config.pose_dim else None
        self.temporal = _temporal_model(config)
        self.keypoints = (
            KeypointHead(config.hidden_dim, config.num_keypoints, config.head_dropout)
            if config.num_keypoints
            else None
        )

    def forward(self, batch: BehaviorInput) -> BehaviorOutput:
        """Return the output for `batch`; ValueError for an input that is missing or of another shape."""
        valid = batch["valid"]
        parts = []
        if self.config.visual_dim:
            parts.append(_checked("visual", batch.get("visual"), valid, self.config.visual_dim))
        if self.pose is not None:
            parts.append(self.pose(_checked("pose", batch.get("pose"), valid, self.config.pose_dim)))
        stages, features = self.temporal(torch.cat(parts, dim=2).transpose(1, 2), valid)
        keypoints = None if self.keypoints is None else self.keypoints(features.transpose(1, 2))
        return {"stages": stages, "keypoints": keypoints}


def _temporal_model(config: BehaviorModelConfig) -> MSTCNpp | TCN:
    dropouts = (config.dropout, config.head_dropout)
    if config.temporal_model == "tcn":
        return TCN(
            config.input_dim,
            config.num_classes,
            hidden_dim=config.hidden_dim,
            num_layers=config.num_layers,
            causal=config.causal,
            dropouts=dropouts,
            head=config.head,
        )
    return MSTCNpp(
        config.input_dim,
        config.num_classes,
        hidden_dim=config.hidden_dim,
        num_layers=config.num_layers,
        refinements=config.refinements,
        causal=config.causal,
        dropouts=dropouts,
        head=config.head,
    )


def _checked(name: str, values: Tensor | None, valid: Tensor, width: int) -> Tensor:
    if values is None:
        raise ValueError(f"{name} is absent: the model takes [B, T, {width}]")
    if values.shape != (*valid.shape, width):
        raise ValueError(f"{name} is {list(values.shape)}: {[*valid.shape, width]} is expected")
    return values
