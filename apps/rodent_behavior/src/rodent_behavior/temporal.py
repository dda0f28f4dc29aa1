"""Temporal models over per-frame features: MS-TCN++ and a small TCN, each also causal.

No layer mixes frames but the convolutions, and every layer zeroes the frames that are not valid, so a
sequence's logits depend neither on its padding nor on its batch companions.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.heads import CosineClassifier
from rodent_behavior.model_config import (
    COSINE_SCALE,
    NORM_GROUPS,
    Head,
    dilations,
    dual_dilations,
)


class TemporalOutput(NamedTuple):
    """Logits [B, C, T] of every stage, the last being the prediction, and first-stage features [B, F, T]."""

    stages: list[Tensor]
    features: Tensor


class FrameConv(nn.Conv1d):
    """Convolution of one tap, as one matrix product: twice as fast on two cores as torch's convolution."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        return _one_tap(self, x, 0)


class TimeConv(nn.Conv1d):
    """Convolution of three taps over time that keeps the length; causal: over this and earlier frames."""

    def __init__(self, inputs: int, outputs: int, *, dilation: int, causal: bool) -> None:
        super().__init__(inputs, outputs, 3, dilation=dilation, padding=0 if causal else dilation)
        self.past = 2 * dilation if causal else 0

    def forward(self, x: Tensor) -> Tensor:
        if self.dilation[0] >= x.shape[2]:  # the other taps see padding alone
            return _one_tap(self, x, 2 if self.past else 1)
        return super().forward(F.pad(x, (self.past, 0)) if self.past else x)


class Dropout(nn.Dropout):
    """Dropout whose masks take 16 random bits an element on a CPU, where torch's own draws are slow.

    There the rate is rounded to 1 / 65536, unless that makes it 0 or 1.
    """

    def forward(self, x: Tensor) -> Tensor:
        dropped = round(self.p * 2**16)
        if not self.training or x.device.type != "cpu" or not 0 < dropped < 2**16:
            return super().forward(x)
        words = torch.empty((x.numel() + 3) // 4, dtype=torch.int64).random_(-(2**63), None)
        bits = words.view(torch.int16)[: x.numel()].view(x.shape)
        keep = bits >= dropped - 2**15
        return x * keep.to(x.dtype).mul_(1 / (1 - self.p))


class ActionLayer(nn.Module):
    """Logits of each frame: a 1x1 convolution, or cosines times `COSINE_SCALE`, after dropout."""

    def __init__(self, width: int, num_classes: int, *, head: Head, dropout: float) -> None:
        super().__init__()
        self.dropout = Dropout(dropout)
        self.scale = COSINE_SCALE if head == "cosine" else 1.0
        self.output = (
            CosineClassifier(width, num_classes) if head == "cosine" else FrameConv(width, num_classes)
        )

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        logits: Tensor = self.output(self.dropout(x))
        return logits * self.scale * valid


class DualLayer(nn.Module):
    """Two dilated convolutions of one input, fused by a 1x1 convolution, ReLU and dropout; residual."""

    def __init__(self, width: int, pair: tuple[int, int], *, causal: bool, dropout: float) -> None:
        super().__init__()
        self.falling = TimeConv(width, width, dilation=pair[0], causal=causal)
        self.rising = TimeConv(width, width, dilation=pair[1], causal=causal)
        self.fuse = FrameConv(2 * width, width)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        fused = self.fuse(torch.cat([self.falling(x), self.rising(x)], dim=1))
        y: Tensor = (x + self.dropout(F.relu(fused))) * valid
        return y


class DilatedLayer(nn.Module):
    """Dilated convolution, ReLU, 1x1 convolution, dropout; residual."""

    def __init__(self, width: int, dilation: int, *, causal: bool, dropout: float) -> None:
        super().__init__()
        self.conv = TimeConv(width, width, dilation=dilation, causal=causal)
        self.mix = FrameConv(width, width)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        y: Tensor = (x + self.dropout(self.mix(F.relu(self.conv(x))))) * valid
        return y


class Stage(nn.Module):
    """1x1 convolution to the stage's width, its layers, and its logits."""

    def __init__(self, inputs: int, width: int, layers: list[nn.Module], output: ActionLayer) -> None:
        super().__init__()
        self.input = FrameConv(inputs, width)
        self.layers = nn.ModuleList(layers)
        self.output = output

    def forward(self, x: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
        """Return features [B, F, T] and logits [B, C, T]."""
        features = self.input(x) * valid
        for layer in self.layers:
            features = layer(features, valid)
        return features, self.output(features, valid)


class MSTCNpp(nn.Module):
    """Dual dilated layers, then refinement stages on the softmax of the previous logits.

    Source: Li et al. 2020, MS-TCN++, sections 3.2 and 3.3, here without parameter sharing.
    """

    def __init__(
        self,
        input_dim: int,
        num_classes: int,
        *,
        hidden_dim: int = 64,
        num_layers: int = 10,
        refinements: int = 1,
        causal: bool = False,
        dropouts: tuple[float, float] = (0.3, 0.2),
        head: Head = "linear",
    ) -> None:
        """`dropouts` are those of the layers and of the first stage's output layer."""
        super().__init__()
        dual: list[nn.Module] = [
            DualLayer(hidden_dim, pair, causal=causal, dropout=dropouts[0])
            for pair in dual_dilations(num_layers)
        ]
        output = ActionLayer(hidden_dim, num_classes, head=head, dropout=dropouts[1])
        self.first = Stage(input_dim, hidden_dim, dual, output)
        self.refinements = nn.ModuleList()
        for _ in range(refinements):
            plain: list[nn.Module] = [
                DilatedLayer(hidden_dim, dilation, causal=causal, dropout=dropouts[0])
                for dilation in dilations(num_layers)
            ]
            output = ActionLayer(hidden_dim, num_classes, head=head, dropout=0.0)
            self.refinements.append(Stage(num_classes, hidden_dim, plain, output))

    def forward(self, x: Tensor, valid: Tensor) -> TemporalOutput:
        """Return the output for `x` [B, D, T] and `valid` bool [B, T]; logits are 0 where not valid."""
        x, keep = _masked(x, valid)
        features, logits = self.first(x, keep)
        stages = [logits]
        for stage in self.refinements:
            stages.append(stage(stages[-1].softmax(dim=1) * keep, keep)[1])
        return TemporalOutput(stages, features)


class FrameBlock(nn.Module):
    """Dilated convolution, group normalisation of each frame by itself, GELU, dropout; residual."""

    def __init__(self, inputs: int, width: int, dilation: int, *, causal: bool, dropout: float) -> None:
        super().__init__()
        self.conv = TimeConv(inputs, width, dilation=dilation, causal=causal)
        self.norm = nn.GroupNorm(NORM_GROUPS, width)
        self.dropout = Dropout(dropout)
        self.project = nn.Identity() if inputs == width else FrameConv(inputs, width)

    def forward(self, x: Tensor, valid: Tensor) -> Tensor:
        y = self.conv(x)
        frames = y.transpose(1, 2).flatten(0, 1)  # statistics over time would leak the future
        normed = self.norm(frames).view(y.shape[0], y.shape[2], y.shape[1]).transpose(1, 2)
        out: Tensor = (self.project(x) + self.dropout(F.gelu(normed))) * valid
        return out


class TCN(nn.Module):
    """Blocks of dilation 1, 2, 4, ... and one output layer."""

    def __init__(
        self,
        input_dim: int,
        num_classes: int,
        *,
        hidden_dim: int = 512,
        num_layers: int = 3,
        causal: bool = False,
        dropouts: tuple[float, float] = (0.3, 0.2),
        head: Head = "linear",
    ) -> None:
        """`dropouts` are those of the blocks and of the output layer."""
        super().__init__()
        self.blocks = nn.ModuleList(
            FrameBlock(
                hidden_dim if layer else input_dim, hidden_dim, dilation, causal=causal, dropout=dropouts[0]
            )
            for layer, dilation in enumerate(dilations(num_layers))
        )
        self.output = ActionLayer(hidden_dim, num_classes, head=head, dropout=dropouts[1])

    def forward(self, x: Tensor, valid: Tensor) -> TemporalOutput:
        """Return the output for `x` [B, D, T] and `valid` bool [B, T]; logits are 0 where not valid."""
        x, keep = _masked(x, valid)
        for block in self.blocks:
            x = block(x, keep)
        return TemporalOutput([self.output(x, keep)], x)


def _one_tap(conv: nn.Conv1d, x: Tensor, tap: int) -> Tensor:
    assert conv.bias is not None
    weight = conv.weight[:, :, tap].expand(x.shape[0], -1, -1)
    return torch.baddbmm(conv.bias[:, None], weight, x)


def _masked(x: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """Return `x` with 0 where not valid, and `valid` as a factor [B, 1, T]; ValueError for unlike shapes."""
    if x.dim() != 3 or valid.shape != (x.shape[0], x.shape[2]):
        raise ValueError(f"x is {list(x.shape)} and valid {list(valid.shape)}: [B, D, T] and [B, T] expected")
    keep = valid.bool().unsqueeze(1)
    return x.masked_fill(~keep, 0.0), keep.to(x.dtype)
