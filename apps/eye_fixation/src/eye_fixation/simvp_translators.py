"""The middle of SimVP: all frames at once, as channels of one image [B, T hid_S, H', W']."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from eye_fixation.simvp_blocks import (
    ConvMixerBlock,
    GatedBlock,
    InceptionBlock,
    SpatialGate,
    TemporalGate,
)
from eye_fixation.simvp_config import SimVPConfig


def build_translator(config: SimVPConfig) -> nn.Module:
    """Return a module from T_in hid_S channels to T_out hid_S channels of the same side."""
    return InceptionTranslator(config) if config.model_type == "IncepU" else BlockTranslator(config)


class BlockTranslator(nn.Module):
    """N_T blocks of one kind; the first works at the width of the input, the others at hid_T."""

    def __init__(self, config: SimVPConfig) -> None:
        super().__init__()
        first, middle, last = config.widths
        widths = [first, *[middle] * (config.N_T - 1), last]
        rates = [config.drop_path * k / (config.N_T - 1) for k in range(config.N_T)]
        self.enc = nn.Sequential(
            *(
                _Stage(_block(config, inputs, rate), inputs, outputs)
                for (inputs, outputs), rate in zip(pairwise(widths), rates, strict=True)
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.enc(x)
        return y


class _Stage(nn.Module):
    """A block, and a 1x1 convolution where the number of channels changes."""

    def __init__(self, block: nn.Module, inputs: int, outputs: int) -> None:
        super().__init__()
        self.block = block
        self.reduction = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.reduction(self.block(x))
        return y


class InceptionTranslator(nn.Module):
    """IncepU: N_T inception blocks down, N_T up.

    The outputs of all but the last block of the way down are kept; on the way up, the first block works on
    the output alone, each later one on it and on what was kept, the latest first.
    """

    def __init__(self, config: SimVPConfig) -> None:
        super().__init__()
        first, middle, last = config.widths
        down = [first, *[middle] * (config.N_T - 1)]
        up = [(middle, middle), *[(2 * middle, middle)] * (config.N_T - 2), (2 * middle, last)]
        self.enc = nn.ModuleList(InceptionBlock(inputs, middle // 2, middle) for inputs in down)
        self.dec = nn.ModuleList(InceptionBlock(inputs, middle // 2, outputs) for inputs, outputs in up)

    def forward(self, x: Tensor) -> Tensor:
        kept = []
        for block in self.enc:
            x = block(x)
            kept.append(x)
        kept.pop()
        x = self.dec[0](x)
        for block in self.dec[1:]:
            x = block(torch.cat([x, kept.pop()], dim=1))
        return x


def _block(config: SimVPConfig, width: int, drop_path: float) -> nn.Module:
    if config.model_type == "ConvMixer":
        return ConvMixerBlock(width, norm=config.norm)
    return GatedBlock(
        width,
        SpatialGate(width) if config.model_type == "gSTA" else TemporalGate(width),
        norm=config.norm,
        mlp_ratio=config.mlp_ratio,
        drop=config.drop,
        drop_path=drop_path,
    )
