"""A network of 0.8 million parameters for a camera computer or a laptop without a GPU."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from uav_landing.models.base import ConvNorm, SegmentationModel, initialise, resize

STAGE_WIDTHS = (16, 24, 48, 96, 128)
STAGE_BLOCKS = (2, 3, 4, 3)
CONTEXT_WIDTH = 96
HEAD_WIDTH = 48
EXPANSION = 4


class InvertedResidual(nn.Module):
    """1x1 expansion, depthwise 3x3 and linear 1x1 projection, added to the input where the shapes agree.

    Source: Sandler et al. 2018 (MobileNetV2), section 3.4, with expansion 4.
    """

    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        hidden = EXPANSION * inputs
        self.layers = nn.Sequential(
            ConvNorm(inputs, hidden, 1),
            ConvNorm(hidden, hidden, 3, stride=stride, groups=hidden),
            ConvNorm(hidden, outputs, 1, relu=False),
        )
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """Return N x outputs x H/stride x W/stride."""
        y: Tensor = self.layers(x)
        return x + y if self.residual else y


class CompactBackbone(nn.Module):
    """Stem at 1/2 and four stages of inverted residuals at 1/4, 1/8, 1/16 and 1/32."""

    def __init__(self, widths: tuple[int, ...]) -> None:
        super().__init__()
        self.stem = ConvNorm(3, widths[0], 3, stride=2)
        stages = zip(widths[:-1], widths[1:], STAGE_BLOCKS, strict=True)
        self.stage1, self.stage2, self.stage3, self.stage4 = (_stage(*stage) for stage in stages)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the outputs at 1/8, 1/16 and 1/32."""
        eighth = self.stage2(self.stage1(self.stem(image)))
        sixteenth = self.stage3(eighth)
        return eighth, sixteenth, self.stage4(sixteenth)


class CompactDecoder(nn.Module):
    """Context at 1/32 gated by its global mean, then two steps up with a lateral connection each.

    The gate is that of Lite R-ASPP (Howard et al. 2019, MobileNetV3, section 6.4): no BatchNorm follows the
    global mean, so a batch of one image trains.
    """

    def __init__(self, eighth: int, sixteenth: int, last: int) -> None:
        super().__init__()
        self.context = ConvNorm(last, CONTEXT_WIDTH, 1)
        self.context_gate = nn.Conv2d(last, CONTEXT_WIDTH, 1)
        self.lateral_sixteenth = nn.Conv2d(sixteenth, CONTEXT_WIDTH, 1)
        self.lateral_eighth = nn.Conv2d(eighth, HEAD_WIDTH, 1)
        self.fuse = ConvNorm(CONTEXT_WIDTH, HEAD_WIDTH, 3)
        self.refine = ConvNorm(HEAD_WIDTH, HEAD_WIDTH, 3)

    def forward(self, eighth: Tensor, sixteenth: Tensor, last: Tensor) -> Tensor:
        """Return N x HEAD_WIDTH x H/8 x W/8."""
        gate = torch.sigmoid(self.context_gate(last.mean(dim=(2, 3), keepdim=True)))
        context = self.context(last) * gate
        x = self.fuse(resize(context, sixteenth.shape[-2:]) + self.lateral_sixteenth(sixteenth))
        y: Tensor = self.refine(resize(x, eighth.shape[-2:]) + self.lateral_eighth(eighth))
        return y


class CompactSegmenter(SegmentationModel):
    """The default network: inverted residuals, gated context and two lateral connections."""

    def __init__(self, *, num_classes: int, width_multiplier: float = 1.0) -> None:
        super().__init__(model_type="compact", num_classes=num_classes)
        self.width_multiplier = width_multiplier
        widths = scaled_widths(width_multiplier)
        self.backbone = CompactBackbone(widths)
        self.decoder = CompactDecoder(*widths[2:])
        self.classifier = nn.Conv2d(HEAD_WIDTH, num_classes, 1)
        initialise(self)

    def coarse_logits(self, image: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the logits at 1/8; there is no auxiliary head."""
        return self.classifier(self.decoder(*self.backbone(image))), []


def scaled_widths(multiplier: float) -> tuple[int, ...]:
    """Return the five stage widths times `multiplier`, rounded, at least 4 each.

    >>> scaled_widths(1.5)
    (24, 36, 72, 144, 192)
    """
    return tuple(max(4, round(width * multiplier)) for width in STAGE_WIDTHS)


def _stage(inputs: int, outputs: int, blocks: int) -> nn.Sequential:
    first = InvertedResidual(inputs, outputs, stride=2)
    return nn.Sequential(first, *(InvertedResidual(outputs, outputs, stride=1) for _ in range(blocks - 1)))
