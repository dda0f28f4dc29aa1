"""Settings of the command that predicts recorded gaze. Each field is a flag; its docstring is its help."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from eye_fixation.prepare_config import GazeConfig


@dataclass(frozen=True, kw_only=True)
class PredictConfig:
    """Predict where the gaze of a recording goes next: densities and points; no labels are needed."""

    checkpoint: Path
    """model.pt of a training, or its folder. Frames get its rate and its grid, whatever its screen was."""
    input: Path
    """CSV of samples: t, x, y and, if wanted, valid and recording; commas, semicolons or tabs."""
    out: Path
    """File to write; without an ending it gets that of --format."""
    every: int = 1
    """Frames between windows."""
    samples: int = 0
    """Points to draw per window and horizon. Each horizon is drawn for itself: they are no joint paths."""
    format: Literal["npz", "csv"] = "npz"
    """npz: everything; csv: a row per window and horizon without the densities, which only npz has."""
    gif: bool = False
    """Also write the densities as an animation beside --out; last gaze blue, true gaze, if known, green."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    gaze: GazeConfig = field(default_factory=GazeConfig)
