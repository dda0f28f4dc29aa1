"""Causal model files with random weights, and a stand-in for DeepLabCut-live that finds coloured blobs."""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from streaming_pieces import build

from common.weights_file import write_dictionary
from rodent_behavior.backbones import build_backbone
from rodent_behavior.export import ModelFile
from rodent_behavior.frames import Resize
from rodent_behavior.labels import LabelMap
from rodent_behavior.live.pose_model import CONFIG
from rodent_behavior.network import BehaviorNetwork
from rodent_behavior.rendering import BLOBS

SIZE = 96


def write_checkpoint(path: Path, *, backbone: str = "none", img_size: int = 32, **changes: Any) -> Path:
    """Write a model file whose probabilities move from frame to frame."""
    if backbone != "none":
        changes["visual_dim"] = 128
    model, stream = build(**changes) if changes.get("causal", True) else (build_ahead(), build()[1])
    torch.manual_seed(0)
    network = BehaviorNetwork(model, build_backbone(backbone, img_size=img_size))
    config = stream.config
    file = ModelFile(
        model=model.config,
        labels=LabelMap.default(),
        kp_names=config.kp_names,
        pose_features=config.pose_features,
        axis_points=config.axis_points,
        normalizer=config.normalizer,
        likelihood_threshold=config.likelihood_threshold,
        max_gap=config.max_gap,
        fps=config.fps,
        frame_size=(SIZE, SIZE),
        backbone=backbone,
        backbone_sha256="" if network.backbone is None else network.backbone.digest(),
        resize=Resize(img_size),
        split={"train": [], "val": [], "test": []},
        settings="",
        temperature={"value": config.temperature, "split": "val"},
    )
    write_dictionary(path, file.contents(network.state_dict()))
    return path


def build_ahead() -> Any:
    """Return a model that looks into the future."""
    from rodent_behavior.model import BehaviorModel, BehaviorModelConfig

    return BehaviorModel(
        BehaviorModelConfig(num_classes=6, pose_dim=77, num_keypoints=6, hidden_dim=16, num_layers=4)
    )


def write_pose_file(path: Path, **changes: Any) -> Path:
    """Write a pose model file without weights, its config changed."""
    torch.save({"config": {**CONFIG, **changes}, "pose": {}}, path)
    return path


def blob_pose(frame: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the centre of each keypoint's colour in a BGR frame, likelihood 0 where the colour is absent."""
    pose = np.zeros((len(BLOBS), 3), dtype=np.float32)
    for point, colour in enumerate(BLOBS):
        away = np.abs(frame[..., ::-1].astype(int) - colour).max(axis=2)
        rows, columns = np.nonzero(away < 40)
        if len(rows):
            pose[point] = columns.mean(), rows.mean(), 0.99
    return pose


class StubDLCLive:
    """Has the order of calls and the return rule of DLCLive: the processor's answer is the pose."""

    made: list[StubDLCLive]

    def __init__(self, model_path: str, model_type: str = "base", **settings: Any) -> None:
        assert model_type == "pytorch"
        self.settings = settings
        self.processor = settings.pop("processor")
        self.pose: Any = None
        self.loaded = self.closed = False
        type(self).made.append(self)

    def init_inference(self, frame: Any = None, **kwargs: Any) -> Any:
        self.loaded = True
        return self.get_pose(frame, **kwargs)

    def get_pose(self, frame: Any = None, **kwargs: Any) -> Any:
        if not self.loaded:
            raise TypeError("'NoneType' object is not callable")
        self.pose = blob_pose(frame if frame.ndim == 3 else np.stack([frame] * 3, axis=2))
        if self.processor:
            self.pose = self.processor.process(self.pose, **kwargs)
        return self.pose

    def close(self) -> None:
        self.closed = True


def install_stub(monkeypatch: pytest.MonkeyPatch) -> type[StubDLCLive]:
    """Put the stand-in where `import dlclive` finds it."""
    module = ModuleType("dlclive")
    StubDLCLive.made = []
    monkeypatch.setattr(module, "DLCLive", StubDLCLive, raising=False)
    monkeypatch.setitem(sys.modules, "dlclive", module)
    return StubDLCLive
