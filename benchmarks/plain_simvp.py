"""SimVP with gSTA blocks as it is usually written: one operation of the papers per line, on given weights.

Run as a script it takes training steps and prints by how many bytes they raised the peak of its memory:
`python plain_simvp.py ours|plain PRESET BATCH`.
"""

from __future__ import annotations

import resource
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from eye_fixation.simvp import SimVP, create_model

GROUPS = 2
STEPS = 2

Weights = Mapping[str, Tensor]
Forward = Callable[[Tensor], Tensor]


def plain_forward(model: SimVP) -> Forward:
    """Return the network of `model` on the same parameters, in training mode, running statistics its own."""
    weights: dict[str, Tensor] = {**dict(model.named_parameters())}
    weights |= {name: buffer.clone() for name, buffer in model.named_buffers()}
    depth, blocks = model.config.N_S, model.config.N_T

    def forward(x: Tensor) -> Tensor:
        batch, frames, channels, height, width = x.shape
        x = x.reshape(batch * frames, channels, height, width)
        for k in range(depth):
            x = _normed(weights, f"enc.enc.{k}.conv", x, ".conv", stride=1 + k % 2)
            if k == 0:
                skip = x
        _, hidden, rows, columns = x.shape
        x = x.reshape(batch, frames * hidden, rows, columns)
        for k in range(blocks):
            x = _block(weights, f"hid.enc.{k}.block.", x)
            if f"hid.enc.{k}.reduction.weight" in weights:
                x = _conv(weights, f"hid.enc.{k}.reduction", x)
        x = x.reshape(batch * frames, hidden, rows, columns)
        for k in range(depth):
            if k == depth - 1:
                x = x + skip
            if k % 2:
                x = _normed(weights, f"dec.dec.{k}.conv", x, ".conv")
            else:
                x = _grown(weights, f"dec.dec.{k}.conv", x)
        return _conv(weights, "dec.readout", x).reshape(batch, frames, channels, height, width)

    return forward


def _normed(weights: Weights, name: str, x: Tensor, conv: str, *, stride: int = 1) -> Tensor:
    x = F.conv2d(x, weights[f"{name}{conv}.weight"], weights[f"{name}{conv}.bias"], stride, padding=1)
    return _activated(weights, name, x)


def _grown(weights: Weights, name: str, x: Tensor) -> Tensor:
    x = F.conv2d(x, weights[f"{name}.conv.0.weight"], weights[f"{name}.conv.0.bias"], padding=1)
    return _activated(weights, name, F.pixel_shuffle(x, 2))


def _activated(weights: Weights, name: str, x: Tensor) -> Tensor:
    x = F.group_norm(x, GROUPS, weights[f"{name}.norm.weight"], weights[f"{name}.norm.bias"])
    return F.silu(x)


def _block(weights: Weights, name: str, x: Tensor) -> Tensor:
    scales = [weights[f"{name}layer_scale_{k}"].unsqueeze(-1).unsqueeze(-1) for k in (1, 2)]
    x = x + scales[0] * _attention(weights, f"{name}attn.", _standardised(weights, f"{name}norm1", x))
    return x + scales[1] * _mlp(weights, f"{name}mlp.", _standardised(weights, f"{name}norm2", x))


def _attention(weights: Weights, name: str, x: Tensor) -> Tensor:
    unit = f"{name}spatial_gating_unit."
    shortcut = x
    x = F.gelu(_conv(weights, f"{name}proj_1", x))
    x = _depthwise(weights, f"{unit}conv0", x)
    x = _depthwise(weights, f"{unit}conv_spatial", x, dilation=3)
    values, gate = torch.split(_conv(weights, f"{unit}conv1", x), x.shape[1], dim=1)
    x = torch.sigmoid(gate) * values
    return _conv(weights, f"{name}proj_2", x) + shortcut


def _mlp(weights: Weights, name: str, x: Tensor) -> Tensor:
    x = _conv(weights, f"{name}fc1", x)
    x = F.gelu(_depthwise(weights, f"{name}dwconv.dwconv", x))
    return _conv(weights, f"{name}fc2", x)


def _standardised(weights: Weights, name: str, x: Tensor) -> Tensor:
    mean, variance = weights[f"{name}.running_mean"], weights[f"{name}.running_var"]
    return F.batch_norm(x, mean, variance, weights[f"{name}.weight"], weights[f"{name}.bias"], training=True)


def _conv(weights: Weights, name: str, x: Tensor) -> Tensor:
    return F.conv2d(x, weights[f"{name}.weight"], weights[f"{name}.bias"])


def _depthwise(weights: Weights, name: str, x: Tensor, *, dilation: int = 1) -> Tensor:
    kernel = weights[f"{name}.weight"]
    padding = dilation * (kernel.shape[-1] // 2)
    return F.conv2d(x, kernel, weights[f"{name}.bias"], padding=padding, dilation=dilation, groups=x.shape[1])


def build(preset: str, batch: int) -> tuple[SimVP, Tensor]:
    """Return a network in training mode, its gates opened as if it had learned, and sequences of one dot."""
    torch.manual_seed(0)
    model = create_model(preset)
    for name, parameter in model.named_parameters():
        if "layer_scale" in name:
            torch.nn.init.ones_(parameter)
    frames = torch.zeros(batch, *model.config.in_shape)
    frames.view(batch, frames.shape[1], -1)[..., ::97] = 1.0
    return model.train(), frames


def step(model: SimVP, forward: Forward, frames: Tensor) -> Tensor:
    """Return the outputs after a forward and a backward pass, gradients left in the model."""
    model.zero_grad(set_to_none=True)
    outputs = forward(frames)
    F.mse_loss(outputs, frames).backward()
    return outputs.detach()


def rise(kind: str, preset: str, batch: int) -> int:
    """Return by how many bytes steps raise the peak of this process above what it holds with the network."""
    model, frames = build(preset, batch)
    forward = model if kind == "ours" else plain_forward(model)
    before = int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()
    for _ in range(STEPS):
        step(model, forward, frames)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before


if __name__ == "__main__":
    print(rise(sys.argv[1], sys.argv[2], int(sys.argv[3])))
