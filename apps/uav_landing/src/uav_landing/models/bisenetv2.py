"""BiSeNetV2 with the tensor names of the public Cityscapes weights.

Source: Yu et al. 2021, BiSeNet V2: Bilateral Network with Guided Aggregation, table 1 and figures 4 to 6.
Every module attribute is part of a tensor name of the public file, so that those weights load by name.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from uav_landing.models.base import ConvNorm, SegmentationModel, initialise, resize

EXPANSION = 6
HEAD_WIDTH = 1024
AUXILIARY_WIDTHS = ((16, 16), (32, 64), (64, 256), (128, 1024))
"""Input channels and hidden channels of each auxiliary head."""


class SeparableConv(nn.Module):
    """Depthwise 3x3 with BatchNorm, then 1x1 with BatchNorm or with a bias; no activation."""

    def __init__(self, inputs: int, outputs: int, *, stride: int = 1, norm: bool = True) -> None:
        super().__init__()
        self.depthwise_conv = ConvNorm(inputs, inputs, 3, stride=stride, groups=inputs, relu=False)
        self.pointwise_conv = ConvNorm(inputs, outputs, 1, norm=norm, relu=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return N x outputs x H/stride x W/stride."""
        y: Tensor = self.pointwise_conv(self.depthwise_conv(x))
        return y


class DetailBranch(nn.Module):
    """Three stages of wide 3x3 convolutions; output 128 channels at 1/8."""

    def __init__(self) -> None:
        super().__init__()
        self.detail_branch = nn.ModuleList(
            [
                nn.Sequential(ConvNorm(3, 64, stride=2), ConvNorm(64, 64)),
                nn.Sequential(ConvNorm(64, 64, stride=2), ConvNorm(64, 64), ConvNorm(64, 64)),
                nn.Sequential(ConvNorm(64, 128, stride=2), ConvNorm(128, 128), ConvNorm(128, 128)),
            ]
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return N x 128 x H/8 x W/8."""
        for stage in self.detail_branch:
            x = stage(x)
        return x


class StemBlock(nn.Module):
    """Start of the semantic branch: two ways from 1/2 down to 1/4, concatenated; output 16 channels."""

    def __init__(self) -> None:
        super().__init__()
        self.conv_first = ConvNorm(3, 16, stride=2)
        self.convs = nn.Sequential(ConvNorm(16, 8, 1), ConvNorm(8, 16, stride=2))
        self.pool = nn.MaxPool2d(3, stride=2, padding=1)
        self.fuse_last = ConvNorm(32, 16)

    def forward(self, image: Tensor) -> Tensor:
        """Return N x 16 x H/4 x W/4."""
        x = self.conv_first(image)
        y: Tensor = self.fuse_last(torch.cat([self.convs(x), self.pool(x)], dim=1))
        return y


class GatherExpansion(nn.Module):
    """Gather-and-expansion layer at stride 1: the input is added to the expanded depthwise path."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = EXPANSION * channels
        self.conv1 = ConvNorm(channels, channels)
        self.dwconv = nn.Sequential(ConvNorm(channels, hidden, groups=channels))
        self.conv2 = nn.Sequential(ConvNorm(hidden, channels, 1, relu=False))

    def forward(self, x: Tensor) -> Tensor:
        """Return a map of the shape of `x`."""
        return F.relu(self.conv2(self.dwconv(self.conv1(x))) + x, inplace=True)


class GatherExpansionDown(nn.Module):
    """Gather-and-expansion layer at stride 2: two depthwise convolutions, and a separable shortcut."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        hidden = EXPANSION * inputs
        self.conv1 = ConvNorm(inputs, inputs)
        self.dwconv = nn.Sequential(
            ConvNorm(inputs, hidden, stride=2, groups=inputs, relu=False),
            ConvNorm(hidden, hidden, groups=hidden),
        )
        self.conv2 = nn.Sequential(ConvNorm(hidden, outputs, 1, relu=False))
        self.shortcut = nn.Sequential(SeparableConv(inputs, outputs, stride=2))

    def forward(self, x: Tensor) -> Tensor:
        """Return N x outputs x H/2 x W/2."""
        return F.relu(self.conv2(self.dwconv(self.conv1(x))) + self.shortcut(x), inplace=True)


class ContextEmbedding(nn.Module):
    """Adds the normalised global mean to every position, then a 3x3 convolution."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gap = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.BatchNorm2d(channels))
        self.conv_gap = ConvNorm(channels, channels, 1)
        self.conv_last = ConvNorm(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Return a map of the shape of `x`."""
        y: Tensor = self.conv_last(x + self.conv_gap(self.gap(x)))
        return y


class SemanticBranch(nn.Module):
    """Narrow and deep: 16, 32, 64 and 128 channels at 1/4, 1/8, 1/16 and 1/32, then the context."""

    def __init__(self) -> None:
        super().__init__()
        self.stage1 = StemBlock()
        self.stage2 = _semantic_stage(16, 32, blocks=2)
        self.stage3 = _semantic_stage(32, 64, blocks=2)
        self.stage4 = _semantic_stage(64, 128, blocks=4)
        self.stage4_CEBlock = ContextEmbedding(128)

    def forward(self, x: Tensor) -> tuple[list[Tensor], Tensor]:
        """Return the outputs of the four stages, and the context at 1/32."""
        outputs = []
        for stage in (self.stage1, self.stage2, self.stage3, self.stage4):
            x = stage(x)
            outputs.append(x)
        return outputs, self.stage4_CEBlock(x)


class GuidedAggregation(nn.Module):
    """Each branch gates the other: detail by the upsampled context, context by the reduced detail."""

    def __init__(self, channels: int = 128) -> None:
        super().__init__()
        self.detail_dwconv = nn.Sequential(SeparableConv(channels, channels, norm=False))
        self.detail_down = nn.Sequential(
            ConvNorm(channels, channels, stride=2, relu=False), nn.AvgPool2d(3, stride=2, padding=1)
        )
        self.semantic_conv = nn.Sequential(ConvNorm(channels, channels, relu=False))
        self.semantic_dwconv = nn.Sequential(SeparableConv(channels, channels, norm=False))
        self.conv = ConvNorm(channels, channels)

    def forward(self, detail: Tensor, context: Tensor) -> Tensor:
        """Return a map of the shape of `detail` (1/8) from it and `context` (1/32)."""
        size = detail.shape[-2:]
        fine = self.detail_dwconv(detail) * torch.sigmoid(resize(self.semantic_conv(context), size))
        coarse = self.detail_down(detail) * torch.sigmoid(self.semantic_dwconv(context))
        y: Tensor = self.conv(fine + resize(coarse, size))
        return y


class BilateralBackbone(nn.Module):
    """Detail branch, semantic branch and their aggregation."""

    def __init__(self) -> None:
        super().__init__()
        self.detail = DetailBranch()
        self.semantic = SemanticBranch()
        self.bga = GuidedAggregation()

    def forward(self, image: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the aggregation N x 128 x H/8 x W/8, and the outputs of the four semantic stages."""
        stages, context = self.semantic(image)
        return self.bga(self.detail(image), context), stages


class ConvHead(nn.Module):
    """One or two 3x3 convolutions, dropout 0.1 and a 1x1 classifier."""

    def __init__(self, inputs: int, hidden: int, num_classes: int, convs: int) -> None:
        super().__init__()
        widths = [inputs] + [hidden] * convs
        self.convs = nn.Sequential(*(ConvNorm(i, o) for i, o in pairwise(widths)))
        self.dropout = nn.Dropout2d(0.1)
        self.conv_seg = nn.Conv2d(hidden, num_classes, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits at the size of `x`."""
        y: Tensor = self.conv_seg(self.dropout(self.convs(x)))
        return y


class BiSeNetV2(SegmentationModel):
    """BiSeNetV2 as published, with four auxiliary heads in training if `aux`."""

    needs_batch_above_one = True

    def __init__(self, *, num_classes: int, aux: bool) -> None:
        super().__init__(model_type="mmseg_bisenetv2", num_classes=num_classes)
        self.has_auxiliary_heads = aux
        self.backbone = BilateralBackbone()
        self.decode_head = ConvHead(128, HEAD_WIDTH, num_classes, convs=1)
        widths = AUXILIARY_WIDTHS if aux else ()
        self.auxiliary_head = nn.ModuleList(ConvHead(i, h, num_classes, convs=2) for i, h in widths)
        heads = ["decode_head"] + [f"auxiliary_head.{index}" for index in range(len(widths))]
        self.classifiers = tuple(f"{head}.conv_seg" for head in heads)
        initialise(self)

    def coarse_logits(self, image: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the logits at 1/8, and in training those of the semantic stages at 1/4 to 1/32."""
        fused, stages = self.backbone(image)
        auxiliary = []
        if self.training:
            auxiliary = [head(stage) for head, stage in zip(self.auxiliary_head, stages)]
        return self.decode_head(fused), auxiliary


def _semantic_stage(inputs: int, outputs: int, blocks: int) -> nn.Sequential:
    down = GatherExpansionDown(inputs, outputs)
    return nn.Sequential(down, *(GatherExpansion(outputs) for _ in range(blocks - 1)))
