"""Settings of the live commands. Each field is a flag; its docstring is the flag's help."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tyro


@dataclass(frozen=True, kw_only=True)
class LiveConfig:
    """Follow a camera or a file and fire triggers on behaviour."""

    checkpoint: Path = Path("best_model_multitask.pt")
    """Exported model file, trained with --causal."""
    source: str | None = None
    """Video file, number of a camera, or folder of images. Needed unless --poses goes alone."""
    pose_model: Path | None = None
    """Pose model exported by DeepLabCut's PyTorch engine; needs the extra [live]."""
    poses: Path | None = None
    """DeepLabCut file to take the poses from instead."""
    kp_alias: tuple[str, ...] = ()
    """`FILE_NAME=kp_name`, once per name: what the pose model or file calls a body part."""
    individual: str | None = None
    """Which animal of a multi-animal --poses."""
    trigger: tuple[str, ...] = ()
    """`NAME=P`: on when the probability of behaviour NAME is at least P."""
    off_at: float | None = None
    """Triggers go off below this probability. Default: half of P."""
    min_on: int = 2
    """Consecutive frames at P or more before a trigger goes on."""
    refractory_ms: float = 500.0
    """Time a trigger stays off after it went off."""
    watchdog_ms: float = 200.0
    """Triggers go off after this time without a frame."""
    realtime: bool = False
    """Play a file at its own rate and drop frames when behind, as a camera does."""
    fps: float | None = None
    """Rate of a folder of images, or of --poses alone. Default: that of the checkpoint."""
    record: Path | None = None
    """New folder for the recording, which `replay` computes again."""
    events: Path | None = None
    """JSON lines file that events are appended to."""
    udp: str | None = None
    """`HOST:PORT` that receives each event as a datagram of JSON."""
    precision: Literal["FP32", "FP16"] = "FP32"
    """Numbers of the pose model."""
    cropping: tuple[int, int, int, int] | None = None
    """Left, right, top and bottom in px of the part of the frame that the pose model sees."""
    dynamic: tuple[float, int] | None = None
    """Likelihood and margin in px: the pose model looks around the last pose."""
    resize: float | None = None
    """Factor by which frames are scaled for the pose model."""
    backbone_weights: Path | None = None
    """Weights file of the backbone, for a checkpoint written without them."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N, for pose model and backbone."""


@dataclass(frozen=True, kw_only=True)
class ReplayConfig:
    """Compute a live recording again and compare."""

    recording: tyro.conf.Positional[Path]
    """Folder that `live --record` wrote."""
    checkpoint: Path = Path("best_model_multitask.pt")
    """The model of the recording."""
    source: str | None = None
    """The video or folder of the recording, for a model that reads pictures."""
    fps: float | None = None
    """Rate of that folder, as it was given to `live`."""
    backbone_weights: Path | None = None
    """Weights file of the backbone, for a checkpoint written without them."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""


@dataclass(frozen=True, kw_only=True)
class PoseModelConfig:
    """Train a small pose model on generated pictures, to try the live commands; needs the extra [live]."""

    out: Path
    """File for the model."""
    steps: int = 250
    """Batches of 16 pictures."""
    seed: int = 0
    """Seed of weights and pictures."""
