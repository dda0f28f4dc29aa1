"""A trained model as live use needs it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from common.engine.command import choose_device
from common.video import Pixels
from rodent_behavior.backbones import Backbone
from rodent_behavior.export import Trained, load_checkpoint
from rodent_behavior.frames import Resize, to_input
from rodent_behavior.live.processor import Embed
from rodent_behavior.streaming import StreamingBehavior


def open_model(path: Path, backbone_weights: Path | None, device: str) -> Trained:
    """Return the model of a file on a device; UserError for a file or a device that is not there."""
    trained = load_checkpoint(path, backbone_weights=backbone_weights)
    trained.network.to(choose_device(device))
    return trained


def open_stream(trained: Trained, frame_size: tuple[int, int] | None) -> StreamingBehavior:
    """Return the frame-by-frame model for pictures of a size, None for that of the training data.

    UserError for a model that looks ahead.
    """
    trained.network.behavior.cpu()
    weights, settings = trained.streaming()
    return StreamingBehavior(weights, replace(settings, frame_size=frame_size or settings.frame_size))


def image_features(trained: Trained) -> Embed | None:
    """Return what turns a picture into the features of a visual model; None for one of keypoints alone."""
    backbone = trained.network.backbone
    return None if backbone is None else ImageFeatures(backbone, trained.file.resize)


class ImageFeatures:
    """Features [D] of a picture, uint8 BGR [H, W, 3] or grey [H, W], rounded as the training's cache does."""

    def __init__(self, backbone: Backbone, resize: Resize) -> None:
        self._backbone = backbone
        self._resize = resize
        self._device = next(backbone.parameters()).device

    @torch.inference_mode()
    def __call__(self, image: Pixels) -> NDArray[np.float32]:
        rgb = image[..., ::-1] if image.ndim == 3 else np.stack([image] * 3, axis=2)
        frame = self._resize(np.ascontiguousarray(rgb))
        features = self._backbone(to_input(frame[None].astype(np.float32) / np.float32(255)).to(self._device))
        return np.asarray(features[0].half().float().cpu().numpy(), dtype=np.float32)
