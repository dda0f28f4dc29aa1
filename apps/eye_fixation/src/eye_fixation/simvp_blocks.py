"""Building blocks of SimVP; the parameter names are those of OpenSTL, so its weights load as they are."""

from __future__ import annotations

import math
from collections import OrderedDict
from functools import reduce
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from eye_fixation.simvp_config import ENCODER_GROUPS, NORM_GROUPS, Norm

LAYER_SCALE = 0.01
"""Initial weight of a block's branches beside its input."""
INCEPTION_KERNELS = 3, 5, 7, 11


class ConvSC(nn.Module):
    """3x3 convolution, group norm, SiLU: [N, C, H, W] to the same side, half of it, or twice."""

    def __init__(
        self, inputs: int, outputs: int, *, resample: Literal["none", "down", "up"] = "none"
    ) -> None:
        super().__init__()
        self.conv = _NormedConv(inputs, outputs, resample)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(x)
        return y


class _NormedConv(nn.Module):
    def __init__(self, inputs: int, outputs: int, resample: str) -> None:
        super().__init__()
        up = resample == "up"
        conv = nn.Conv2d(
            inputs, outputs * (4 if up else 1), 3, stride=2 if resample == "down" else 1, padding=1
        )
        nn.init.trunc_normal_(conv.weight, std=0.02)
        _zero_bias(conv)
        self.conv = nn.Sequential(conv, nn.PixelShuffle(2)) if up else conv
        self.norm = nn.GroupNorm(ENCODER_GROUPS, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return F.silu(self.norm(self.conv(x)))


class SpatialGate(nn.Module):
    """Large-kernel attention of gSTA (Tan et al. 2022): values times the sigmoid of their gates."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv0 = _depthwise(width, 5)
        self.conv_spatial = _depthwise(width, 7, dilation=3)
        self.conv1 = nn.Conv2d(width, 2 * width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return F.glu(self.conv1(self.conv_spatial(self.conv0(x))), dim=1)


class TemporalGate(nn.Module):
    """Attention of TAU (Tan et al. 2023): x times a map of its surroundings times a weight per channel."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv0 = _depthwise(width, 5)
        self.conv_spatial = _depthwise(width, 7, dilation=3)
        self.conv1 = nn.Conv2d(width, width, 1)
        squeezed = max(width // max(width // 16, 4), 1)
        self.fc = nn.Sequential(
            nn.Linear(width, squeezed, bias=False),
            nn.ReLU(),
            nn.Linear(squeezed, width, bias=False),
            nn.Sigmoid(),
        )

    def forward(self, x: Tensor) -> Tensor:
        surroundings = self.conv1(self.conv_spatial(self.conv0(x)))
        channels = self.fc(x.mean(dim=(2, 3)))[:, :, None, None]
        gated: Tensor = channels * surroundings * x
        return gated


class GatedAttention(nn.Module):
    """A gate between two 1x1 convolutions; residual."""

    def __init__(self, width: int, gate: nn.Module) -> None:
        super().__init__()
        self.proj_1 = nn.Conv2d(width, width, 1)
        self.spatial_gating_unit = gate
        self.proj_2 = nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.proj_2(self.spatial_gating_unit(F.gelu(self.proj_1(x))))
        return x + y


class ConvMLP(nn.Module):
    """1x1 convolution to `hidden` channels, depthwise 3x3, GELU, 1x1 back, each end with dropout."""

    def __init__(self, width: int, hidden: int, *, drop: float) -> None:
        super().__init__()
        self.fc1 = nn.Conv2d(width, hidden, 1)
        self.dwconv = nn.Sequential(OrderedDict(dwconv=_depthwise(hidden, 3)))
        self.fc2 = nn.Conv2d(hidden, width, 1)
        self.drop = nn.Dropout(drop)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.drop(F.gelu(self.dwconv(self.fc1(x))))
        y: Tensor = self.drop(self.fc2(hidden))
        return y


class DropPath(nn.Module):
    """Zero whole samples with probability `rate` while training; the rest grow by 1 / (1 - rate)."""

    def __init__(self, rate: float) -> None:
        super().__init__()
        self.rate = rate

    def forward(self, x: Tensor) -> Tensor:
        if not self.training:
            return x
        kept = x.new_empty(len(x), 1, 1, 1).bernoulli_(1 - self.rate)
        return x * kept.div_(1 - self.rate)


class GatedBlock(nn.Module):
    """Block of gSTA and TAU: gated attention, then a convolutional MLP, each normed, scaled and residual."""

    def __init__(
        self, width: int, gate: nn.Module, *, norm: Norm, mlp_ratio: float, drop: float, drop_path: float
    ) -> None:
        super().__init__()
        self.norm1 = _norm(norm, width)
        self.attn = GatedAttention(width, gate)
        self.norm2 = _norm(norm, width)
        self.mlp = ConvMLP(width, int(width * mlp_ratio), drop=drop)
        self.drop_path = DropPath(drop_path) if drop_path > 0 else nn.Identity()
        self.layer_scale_1 = nn.Parameter(torch.full((width,), LAYER_SCALE))
        self.layer_scale_2 = nn.Parameter(torch.full((width,), LAYER_SCALE))
        self.apply(_init_fan_out)

    def forward(self, x: Tensor) -> Tensor:
        x = torch.addcmul(x, self.layer_scale_1[:, None, None], self.drop_path(self.attn(self.norm1(x))))
        return torch.addcmul(x, self.layer_scale_2[:, None, None], self.drop_path(self.mlp(self.norm2(x))))


class ConvMixerBlock(nn.Module):
    """Depthwise 11x11 convolution, residual, then a 1x1 convolution; GELU and norm after each."""

    def __init__(self, width: int, *, norm: Norm) -> None:
        super().__init__()
        self.conv_dw = _depthwise(width, 11)
        self.norm_1 = _norm(norm, width)
        self.conv_pw = nn.Conv2d(width, width, 1)
        self.norm_2 = _norm(norm, width)
        self.apply(_init_fan_out)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.norm_1(F.gelu(self.conv_dw(x)))
        y: Tensor = self.norm_2(F.gelu(self.conv_pw(x)))
        return y


class InceptionBlock(nn.Module):
    """1x1 convolution to `hidden` channels, then the sum of four grouped convolutions of different reach."""

    def __init__(self, inputs: int, hidden: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, hidden, 1)
        self.layers = nn.ModuleList(_GroupedConv(hidden, outputs, kernel) for kernel in INCEPTION_KERNELS)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.conv1(x)
        y: Tensor = reduce(torch.add, (layer(hidden) for layer in self.layers))
        return y


class _GroupedConv(nn.Module):
    def __init__(self, inputs: int, outputs: int, kernel: int) -> None:
        super().__init__()
        groups = 1 if inputs % NORM_GROUPS or outputs % NORM_GROUPS else NORM_GROUPS
        self.conv = nn.Conv2d(inputs, outputs, kernel, padding=kernel // 2, groups=groups)
        self.norm = nn.GroupNorm(groups, outputs)

    def forward(self, x: Tensor) -> Tensor:
        return F.leaky_relu(self.norm(self.conv(x)), 0.2)


def _depthwise(width: int, kernel: int, *, dilation: int = 1) -> nn.Conv2d:
    padding = dilation * (kernel // 2)
    return nn.Conv2d(width, width, kernel, padding=padding, dilation=dilation, groups=width)


def _norm(kind: Norm, width: int) -> nn.Module:
    return nn.BatchNorm2d(width) if kind == "batch" else nn.GroupNorm(NORM_GROUPS, width)


def _init_fan_out(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        fan_out = math.prod(module.kernel_size) * module.out_channels // module.groups
        nn.init.normal_(module.weight, std=math.sqrt(2 / fan_out))
        _zero_bias(module)


def _zero_bias(conv: nn.Conv2d) -> None:
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
