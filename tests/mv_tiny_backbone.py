"""Video networks small enough for tests, and the real ones without memory."""

from __future__ import annotations

from functools import cache

import torch
from torch import Tensor, nn
from torchvision.models.video.mvit import MSBlockConfig, MViT

from mvfouls.architectures import BACKBONES, LAYERS
from mvfouls.backbones import (
    ConvBackbone,
    MViTBackbone,
    VideoBackbone,
    build_backbone,
    mvit_backbone,
    resnet_backbone,
)

DIM = 16


@cache
def bare_backbone(name: str) -> VideoBackbone:
    """Return a real network whose tensors have shapes only, always the same one."""
    with torch.device("meta"):
        return build_backbone(name, frames=BACKBONES[name].frames)


class Residual(nn.Module):
    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv = nn.Conv3d(inputs, outputs, 3, padding=1, bias=False)
        self.norm = nn.BatchNorm3d(outputs)
        self.relu = nn.ReLU(inplace=True)

    def forward(self, maps: Tensor) -> Tensor:
        return self.relu(self.norm(self.conv(maps)))


class TinyNet(nn.Module):
    def __init__(self, dim: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv3d(3, 4, (1, 4, 4), (1, 4, 4), bias=False), nn.BatchNorm3d(4))
        widths = (4, 4, 8, 8, dim)
        for k, layer in enumerate(reversed(LAYERS[:-1])):
            parts = nn.Sequential(Residual(widths[k], widths[k + 1]), Residual(widths[k + 1], widths[k + 1]))
            setattr(self, layer, parts)


def tiny_backbone(dim: int = DIM, *, checkpointing: bool = False) -> ConvBackbone:
    """Return a convolutional network with batch norms, layers of two parts, and `dim` features."""
    return resnet_backbone(TinyNet(dim), dim=dim, checkpointing=checkpointing)


def tiny_mvit(
    frames: int = 4, side: int = 32, *, relative: bool = True, checkpointing: bool = False
) -> MViTBackbone:
    """Return a four-block vision transformer with stochastic depth and 16 features."""
    settings = [
        MSBlockConfig(
            num_heads=1 + k // 2,
            input_channels=8 if k < 3 else 16,
            output_channels=8 if k < 2 else 16,
            kernel_q=[3, 3, 3],
            kernel_kv=[3, 3, 3],
            stride_q=[1, 2, 2] if k == 2 else [1, 1, 1],
            stride_kv=[1, 2, 2],
        )
        for k in range(4)
    ]
    network = MViT(
        (side, side), frames, settings, relative, False, relative, relative, stochastic_depth_prob=0.3
    )
    return mvit_backbone(network, dim=DIM, starts=(0, 1, 2, 3), checkpointing=checkpointing)
