"""Poses from DeepLabCut-live, an optional package under the AGPL that no other module imports."""

from __future__ import annotations

import copy
import importlib
import pickle
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, Literal, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from common.config import UserError
from common.video import Pixels

Pose = NDArray[np.floating]
Precision = Literal["FP32", "FP16"]
Crop = tuple[int, int, int, int]
"""Left, right, top and bottom in px of the full frame, as DeepLabCut orders them."""

INSTALL = (
    "pip install 'rodent_behavior[live]' (Python 3.11 or 3.12, numpy below 2; AGPL-3.0, see the README of "
    "rodent_behavior)"
)


class PoseProcessor(Protocol):
    """What DeepLabCut-live calls with every pose; the array it returns takes the pose's place."""

    def process(self, pose: Pose, **kwargs: Any) -> Pose: ...

    def save(self, file: str = "") -> int: ...


class LivePose:
    """A pose model of DeepLabCut's PyTorch engine behind DeepLabCut-live, for frames of one animal.

    `model` is an exported .pt file; `bodyparts` are the names it gives its points. `dynamic` (threshold,
    margin in px) looks for the animal around its last pose; `resize` scales frames before the network. Poses
    are in px of the full frame whatever is cut or scaled. UserError for a file or a combination that cannot
    give them, and when DeepLabCut-live is not installed.
    """

    def __init__(
        self,
        model: Path,
        *,
        processor: PoseProcessor | None = None,
        device: str = "cpu",
        precision: Precision = "FP32",
        cropping: Crop | None = None,
        dynamic: tuple[float, int] | None = None,
        resize: float | None = None,
    ) -> None:
        _check_view(cropping, dynamic, resize)
        self.path = model
        self.bodyparts = model_bodyparts(model)
        self._guard = None if processor is None else _Guard(processor)
        self._started = False
        with _explained():
            self._live = _dlclive().DLCLive(
                str(model),
                model_type="pytorch",
                precision=precision,
                device=device,
                single_animal=True,
                cropping=None if cropping is None else list(cropping),
                dynamic=(False, 0.5, 10) if dynamic is None else (True, *dynamic),
                resize=resize,
                processor=self._guard,
            )

    @property
    def processor_seconds(self) -> float:
        """How long the processor took at the last frame."""
        return 0.0 if self._guard is None else self._guard.seconds

    # The keywords go to the processor, as in DeepLabCut-live.
    def init_inference(self, frame: Pixels, **kwargs: Any) -> Pose:
        """Load the network and return the pose [K, 3] of a first frame, which takes seconds.

        Frames are uint8 BGR [H, W, 3] or grey [H, W]. The processor is called as by `get_pose`.
        """
        pose: Pose = self._live.init_inference(_checked(frame), **kwargs)
        if pose.shape != (len(self.bodyparts), 3):
            raise UserError(
                f"{self.path}: gives poses {list(pose.shape)}, its metadata name {len(self.bodyparts)} points"
            )
        self._started = True
        return pose

    def get_pose(self, frame: Pixels, **kwargs: Any) -> Pose:
        """Return x, y px and likelihood [K, 3] of a frame, after the processor, which gets the keywords.

        RuntimeError before `init_inference`.
        """
        if not self._started:
            raise RuntimeError("get_pose needs the loaded network: call init_inference or warm_up first")
        pose: Pose = self._live.get_pose(_checked(frame), **kwargs)
        return pose

    def warm_up(self, frame: Pixels) -> None:
        """Load the network with a first frame that the processor does not see."""
        self._live.processor = None
        self.init_inference(frame)
        self._live.processor = self._guard

    def close(self) -> None:
        """Give back what DeepLabCut-live holds."""
        self._live.close()


class _Guard:
    """Times a processor and refuses an answer that cannot take the pose's place."""

    def __init__(self, processor: PoseProcessor) -> None:
        self.seconds = 0.0
        self._processor = processor

    # Called by DeepLabCut-live with the keywords of the frame.
    def process(self, pose: Pose, **kwargs: Any) -> Pose:
        began = time.perf_counter()
        answer = self._processor.process(pose, **kwargs)
        self.seconds = time.perf_counter() - began
        if not isinstance(answer, np.ndarray) or answer.shape != pose.shape:
            shape = list(answer.shape) if isinstance(answer, np.ndarray) else type(answer).__name__
            raise TypeError(
                f"processor {type(self._processor).__name__} returned {shape}: DeepLabCut-live takes it for "
                f"the pose, an array {list(pose.shape)} is expected"
            )
        return answer

    def save(self, file: str = "") -> int:
        return self._processor.save(file)


def model_bodyparts(path: Path) -> tuple[str, ...]:
    """Return the names of a model's points, in its order; UserError unless the file tracks one animal.

    Nothing in the file is executed.
    """
    config = read_model_config(path)
    metadata = config.get("metadata") or {}
    names = metadata.get("bodyparts")
    if not names:
        raise UserError(f"{path}: metadata.bodyparts of its config is absent: its points have no names")
    animals = metadata.get("individuals") or ()
    if len(animals) > 1:
        raise UserError(
            f"{path}: tracks {len(animals)} animals; live behaviour follows one, --poses reads one of several"
        )
    return tuple(map(str, names))


def read_model_config(path: Path) -> dict[str, Any]:
    """Return the config in an exported model file; UserError for a file that DeepLabCut-live cannot run."""
    if path.is_dir() or path.suffix == ".onnx":
        raise UserError(f"{path}: only exports of DeepLabCut's PyTorch engine (one .pt file) are supported")
    if not path.is_file():
        raise UserError(f"{path}: no pose model file")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, OSError, ValueError, LookupError) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise UserError(f"{path}: is no pose model of plain types: {reason}") from error
    if not isinstance(content, Mapping) or not {"config", "pose"} <= content.keys():
        raise UserError(f"{path}: is no exported pose model; it has no config and pose")
    config: dict[str, Any] = content["config"]
    _check_config(path, config, detector=content.get("detector") is not None)
    return config


def build_pose_network(model: Mapping[str, Any]) -> nn.Module:
    """Return a network with random weights from the `model` part of a config; nothing is downloaded."""
    with _explained():
        _dlclive()
        models = importlib.import_module("dlclive.pose_estimation_pytorch.models")
    network: nn.Module = models.PoseModel.build(copy.deepcopy(dict(model)))
    return network


def _dlclive() -> ModuleType:
    return importlib.import_module("dlclive")


@contextmanager
def _explained() -> Iterator[None]:
    """Say what to install when DeepLabCut-live cannot be imported."""
    try:
        yield
    except ModuleNotFoundError as error:
        if error.name != "dlclive":
            raise UserError(f"DeepLabCut-live lacks the package {error.name}: {INSTALL}") from error
        raise UserError(f"a pose model needs DeepLabCut-live: {INSTALL}") from error
    except (ImportError, RuntimeError) as error:
        raise UserError(
            f"DeepLabCut-live cannot be imported: {error}; torch and torchvision must be of one build "
            "(both with or both without CUDA)"
        ) from error


def _check_config(path: Path, config: Mapping[str, Any], *, detector: bool) -> None:
    absent = [
        name
        for name in ("method", "data.inference", "model.backbone", "model.heads")
        if not _has(config, name)
    ]
    if absent:
        raise UserError(f"{path}: its config has no {', '.join(absent)}")
    if config["method"] != "bu" and not detector:
        raise UserError(f"{path}: a top-down model without its detector cannot find the animal in a frame")


def _has(config: object, name: str) -> bool:
    for part in name.split("."):
        if not isinstance(config, Mapping) or part not in config:
            return False
        config = config[part]
    return True


def _check_view(cropping: Crop | None, dynamic: tuple[float, int] | None, resize: float | None) -> None:
    if cropping is not None and dynamic is not None:
        raise UserError("--cropping with --dynamic: DeepLabCut-live would mix the two frames' coordinates")
    if cropping is not None and not (0 <= cropping[0] < cropping[1] and 0 <= cropping[2] < cropping[3]):
        raise UserError(f"--cropping {cropping}: left < right and top < bottom in px are expected")
    if dynamic is not None and not (0 <= dynamic[0] <= 1 and dynamic[1] >= 1):
        raise UserError(f"--dynamic {dynamic}: a likelihood and a margin of at least 1 px are expected")
    if resize is not None and not resize > 0:
        raise UserError(f"--resize {resize}: more than 0 is expected")


def _checked(frame: Pixels) -> Pixels:
    colour = frame.ndim == 3 and frame.shape[2] == 3
    if frame.dtype != np.uint8 or not (colour or frame.ndim == 2):
        raise ValueError(
            f"frame is {frame.dtype} {list(frame.shape)}: uint8 BGR [H, W, 3] or grey [H, W] is expected"
        )
    return frame
