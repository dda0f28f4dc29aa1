"""The documented losses on a small example of video frames."""

from __future__ import annotations

import sys

import torch
from torch import Tensor

from eye_fixation.documented_losses import CompositeLoss
from eye_fixation.losses import DOCUMENTED, build_loss

SHAPE = (2, 3, 1, 8, 8)
"""Sequences, frames, channel, rows, columns."""


def example() -> tuple[Tensor, Tensor]:
    """Return random outputs and targets with one lit cell per frame, both of `SHAPE`."""
    generator = torch.Generator().manual_seed(0)
    frames, cells = SHAPE[0] * SHAPE[1], SHAPE[3] * SHAPE[4]
    lit = torch.randint(cells, (frames, 1), generator=generator)
    target = torch.zeros(frames, cells).scatter_(1, lit, 1.0).view(SHAPE)
    return torch.randn(SHAPE, generator=generator), target


def lines() -> list[str]:
    """Return name and value of each documented loss, and of the parts of the composite."""
    pred, target = example()
    text = [
        f"{name:<14} {float(build_loss(name, img_size=SHAPE[-1])(pred, target)):.6f}" for name in DOCUMENTED
    ]
    _, parts = CompositeLoss().components(pred, target)
    return text + [f"  {name:<12} {float(part):.6f}" for name, part in parts.items()]


def main() -> int:
    """Print the example; returns the exit code."""
    sys.stdout.writelines(f"{line}\n" for line in lines())
    return 0
