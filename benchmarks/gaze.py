"""Gaze on a grid: drawing frames and heat maps, and a training step of the network."""

from __future__ import annotations

import math
import subprocess
import sys
from collections.abc import Iterator

import plain_simvp
import torch
from plain_simvp import build, plain_forward, step
from timing import Entry, Row, Settings, absolute, at_least, at_most, interleave, ratio
from torch import Tensor

from eye_fixation.frames import create_sparse_frames, gaussian_frames

SIDE, LENGTH = 32, 10
SIGMA = 1.5
BATCH = 8
MEGABYTE = 1e6
ALIKE = 1.05
"""Twice the same action may differ by so much."""


def sparse(settings: Settings) -> Iterator[Row]:
    """16,000 frames of one pixel, against the loop over batch and time of the documented script."""
    coordinates, mask = _gaze(20 if settings.small else 1600)

    def loop() -> Tensor:
        count, length = mask.shape
        frames = torch.zeros(count, length, 1, SIDE, SIDE)
        for row in range(count):
            for moment in range(length):
                if mask[row, moment] > 0:
                    x, y = int(coordinates[row, moment, 0]), int(coordinates[row, moment, 1])
                    if 0 <= x < SIDE and 0 <= y < SIDE:
                        frames[row, moment, 0, y, x] = 1.0
        return frames

    def ours() -> Tensor:
        return create_sparse_frames(coordinates, mask, SIDE)

    assert torch.equal(loop(), ours())
    seconds = interleave({"loop": loop, "ours": ours}, settings)
    yield ratio(f"loop / rasterise, {mask.numel():,} frames", seconds, "loop", "ours", at_least(8))


def heat(settings: Settings) -> Iterator[Row]:
    """5,000 Gaussian heat maps, against every pixel of every frame in a loop.

    From 32 MB on the system hands out fresh pages for every call, which then takes most of the time.
    """
    coordinates, mask = _gaze(20 if settings.small else 500)
    grid = torch.arange(SIDE, dtype=torch.float32)
    rows, columns = torch.meshgrid(grid, grid, indexing="ij")

    def loop() -> Tensor:
        count, length = mask.shape
        frames = torch.zeros(count, length, 1, SIDE, SIDE)
        for row in range(count):
            for moment in range(length):
                if mask[row, moment] > 0:
                    x, y = (math.floor(value) for value in coordinates[row, moment].tolist())
                    distance = (columns - x) ** 2 + (rows - y) ** 2
                    frames[row, moment, 0] = torch.exp(-distance / (2 * SIGMA**2))
        return frames

    def ours() -> Tensor:
        return gaussian_frames(coordinates, mask, SIDE, SIGMA)

    torch.testing.assert_close(ours(), loop(), rtol=0, atol=1e-6)
    seconds = interleave({"loop": loop, "ours": ours}, settings)
    yield ratio(f"loop / heat maps, {mask.numel():,} frames", seconds, "loop", "ours", at_least(50))


def _gaze(count: int) -> tuple[Tensor, Tensor]:
    """Return coordinates within the grid (N, T, 2) and a mask (N, T) with a tenth of the frames missing."""
    generator = torch.Generator().manual_seed(0)
    coordinates = torch.rand(count, LENGTH, 2, generator=generator) * (SIDE - 1e-3)
    return coordinates, (torch.rand(count, LENGTH, generator=generator) > 0.1).float()


def training_step(settings: Settings) -> Iterator[Row]:
    """Forward and backward passes of the network, against the same written out operation by operation."""
    for preset in ("smoke",) if settings.small else ("small", "full"):
        model, frames = build(preset, BATCH)
        plain = plain_forward(model)
        _check_equal(model, plain, frames)
        actions = {
            "plain": lambda model=model, plain=plain, frames=frames: step(model, plain, frames),
            "ours": lambda model=model, frames=frames: step(model, model, frames),
        }
        seconds = interleave(actions, settings)
        what = f"SimVP {preset}, batch {BATCH}, forward + backward"
        yield ratio(f"{what} / written out", seconds, "ours", "plain", at_most(ALIKE))
        yield absolute(what, seconds["ours"], "s")


def _check_equal(model: plain_simvp.SimVP, plain: plain_simvp.Forward, frames: Tensor) -> None:
    """Assert equal outputs and gradients."""
    found = step(model, model, frames)
    gradients = {name: each.grad.clone() for name, each in model.named_parameters() if each.grad is not None}
    torch.testing.assert_close(found, step(model, plain, frames), rtol=1e-4, atol=1e-5)
    largest = max(float(gradient.abs().max()) for gradient in gradients.values())
    for name, parameter in model.named_parameters():
        torch.testing.assert_close(gradients[name], parameter.grad, rtol=1e-3, atol=1e-4 * largest)


def memory(settings: Settings) -> Iterator[Row]:
    """By how much two steps raise the peak of a process, against the network written out."""
    preset = "smoke" if settings.small else "full"
    ours, plain = (_rise(kind, preset) for kind in ("ours", "plain"))
    what = f"peak memory of steps, SimVP {preset}, batch {BATCH}"
    note = f"{ours / MEGABYTE:.0f} MB, written out {plain / MEGABYTE:.0f} MB"
    yield Row(what=f"{what} / written out", unit="x", value=ours / plain, budget=at_most(ALIKE), note=note)


def _rise(kind: str, preset: str) -> int:
    script = [sys.executable, plain_simvp.__file__, kind, preset, str(BATCH)]
    return int(subprocess.run(script, check=True, capture_output=True, text=True).stdout)


ENTRIES: dict[str, Entry] = {"frames": sparse, "heat": heat, "step": training_step, "memory": memory}
