"""SimVP (Gao et al. 2022; Tan et al. 2022, 2023): the next frames of a video by convolutions alone."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from common.config import UserError
from eye_fixation.simvp_blocks import ConvSC
from eye_fixation.simvp_config import PRESETS, SimVPConfig, SimVPSizes, Skip, canonical_model_type
from eye_fixation.simvp_translators import build_translator

__all__ = [
    "PRESETS",
    "SimVP",
    "SimVPConfig",
    "SimVPSizes",
    "canonical_model_type",
    "create_model",
    "set_prior_bias",
]

LAST_SHARE = 0.99
"""Weight of the last input frame in a gated skip before training."""


class SimVP(nn.Module):
    """Frames [B, T, C, H, W] to raw outputs [B, T_out, C, H, W]: encoder, translator, decoder.

    There is no final activation. Every parameter exists before the first call. Memory order follows that of
    the weights (`channels_last` too). Raises ValueError for an input of another shape.
    """

    def __init__(self, config: SimVPConfig) -> None:
        super().__init__()
        self.config = config
        channels = config.in_shape[1]
        self.enc = Encoder(channels, config.hid_S, config.N_S)
        self.hid = build_translator(config)
        self.dec = Decoder(config.hid_S, channels, config.N_S)
        self.skip = FrameSkip(config.skip, config.in_len, config.out_len)

    def forward(self, x: Tensor) -> Tensor:
        expected = self.config.in_shape
        if x.dim() != 5 or x.shape[1:] != expected:
            raise ValueError(f"x is {list(x.shape)}: [B, {', '.join(map(str, expected))}] is expected")
        latent, features = self.enc(x.flatten(0, 1))
        hidden = self.hid(_frames_to_channels(latent, self.config.in_len))
        y: Tensor = self.dec(_channels_to_frames(hidden, self.config.out_len), self.skip(features))
        return y


class Encoder(nn.Module):
    """Frames [N, C, H, W] to features [N, hid, H', W'] and to the first layer's [N, hid, H, W]."""

    def __init__(self, channels: int, hidden: int, depth: int) -> None:
        super().__init__()
        self.enc = nn.ModuleList(
            ConvSC(hidden if k else channels, hidden, resample="down" if k % 2 else "none")
            for k in range(depth)
        )

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        first: Tensor = self.enc[0](x)
        latent = first
        for layer in self.enc[1:]:
            latent = layer(latent)
        return latent, first


class Decoder(nn.Module):
    """Features [N, hid, H', W'] and what is added to them before the last layer to frames [B, T, C, H, W]."""

    def __init__(self, hidden: int, channels: int, depth: int) -> None:
        super().__init__()
        self.dec = nn.ModuleList(
            ConvSC(hidden, hidden, resample="none" if k % 2 else "up") for k in range(depth)
        )
        self.readout = nn.Conv2d(hidden, channels, 1)

    def forward(self, hidden: Tensor, skip: Tensor) -> Tensor:
        """`hidden` is [B, T, hid, H', W'], `skip` [B, T or 1, hid, H, W]."""
        frames = hidden.shape[1]
        x = hidden.flatten(0, 1)
        for layer in self.dec[:-1]:
            x = layer(x)
        x = (torch.unflatten(x, 0, (-1, frames)) + skip).flatten(0, 1)
        return torch.unflatten(self.readout(self.dec[-1](x)), 0, (-1, frames))


class FrameSkip(nn.Module):
    """Features of input frames [B T_in, C, H, W] to those of output frames [B, T_out, C, H, W].

    `aligned`: frame t for frame t. `last`: the last for all, [B, 1, C, H, W]. `gated`: for each output frame
    a mean with learned weights, the softmax of `logits` [T_out, T_in], at first nearly the last frame.
    """

    def __init__(self, mode: Skip, in_len: int, out_len: int) -> None:
        super().__init__()
        self.mode = mode
        self.in_len = in_len
        if mode == "gated":
            logits = torch.zeros(out_len, in_len)
            logits[:, -1] = math.log(LAST_SHARE / (1 - LAST_SHARE) * max(in_len - 1, 1))
            self.logits = nn.Parameter(logits)

    def forward(self, features: Tensor) -> Tensor:
        frames = torch.unflatten(features, 0, (-1, self.in_len))
        if self.mode == "aligned":
            return frames
        if self.mode == "last":
            return frames[:, -1:]
        return torch.einsum("oi,bichw->bochw", self.logits.softmax(dim=1), frames)


def create_model(
    preset: str = "full", in_shape: tuple[int, int, int, int] = (10, 1, 32, 32), model_type: str = "gSTA"
) -> SimVP:
    """Return a `SimVP` of a preset's size that predicts as many frames as it is given.

    Raises UserError for an unknown preset or model type, and for sides that cannot be halved.
    """
    if preset not in PRESETS:
        raise UserError(f"--preset {preset}: one of {', '.join(PRESETS)} is expected")
    sizes = PRESETS[preset]._asdict()
    return SimVP(SimVPConfig(in_shape=in_shape, out_len=in_shape[0], model_type=model_type, **sizes))


@torch.no_grad()
def set_prior_bias(model: SimVP, bias: float) -> None:
    """Set the bias of the readout, where the output of an untrained network starts."""
    readout_bias = model.dec.readout.bias
    assert readout_bias is not None
    readout_bias.fill_(bias)


def _frames_to_channels(x: Tensor, frames: int) -> Tensor:
    """[B T, C, H, W] to [B, T C, H, W] in the same memory format; only channels that are last are copied."""
    x = torch.unflatten(x, 0, (-1, frames))
    if x.is_contiguous():
        return x.flatten(1, 2)
    return x.permute(0, 3, 4, 1, 2).flatten(3).permute(0, 3, 1, 2)


def _channels_to_frames(x: Tensor, frames: int) -> Tensor:
    """[B, T C, H, W] to [B, T, C, H, W], each frame in the same memory format."""
    x = torch.unflatten(x, 1, (frames, -1))
    if x.is_contiguous():
        return x
    return x.permute(0, 1, 3, 4, 2).contiguous().permute(0, 1, 4, 2, 3)
