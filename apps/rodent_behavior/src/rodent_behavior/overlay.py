"""A video with the behaviour of every frame written on it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from common.config import UserError
from common.video import Pixels, read_frames
from rodent_behavior.ethogram import colors_of
from rodent_behavior.labels import LabelMap

if TYPE_CHECKING:
    from rodent_behavior.predict import Prediction

BAND = 34
SMALLEST_WIDTH = 320


def write_video(path: Path, prediction: Prediction, labels: LabelMap) -> Path:
    """Write an MP4 of the recording with a band that names the behaviour and its probability."""
    index = prediction.index
    if index.video_path is None:
        raise UserError(f"--video: {index.video_id} has keypoints but no video")
    scale = max(1, -(-SMALLEST_WIDTH // index.width))
    size = (scale * index.width, scale * index.height + BAND)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), index.fps, size)  # type: ignore[attr-defined]
    if not writer.isOpened():
        raise UserError(f"{path}: this OpenCV cannot write MP4")
    try:
        for place, frame in enumerate(read_frames(index.video_path, 0, index.rows)):
            action = int(prediction.actions[place])
            share = float(prediction.probabilities[place, action])
            writer.write(
                _drawn(frame, scale, labels.names[action], share, colors_of(labels)[action])[..., ::-1]
            )
    finally:
        writer.release()
    return path


def _drawn(frame: Pixels, scale: int, name: str, share: float, color: str) -> Pixels:
    large = np.repeat(np.repeat(frame, scale, axis=0), scale, axis=1)
    band = np.full((BAND, large.shape[1], 3), 24, dtype=np.uint8)
    rgb = tuple(int(color[start : start + 2], 16) for start in (1, 3, 5))
    cv2.rectangle(band, (6, 8), (24, 26), rgb, thickness=-1)
    cv2.putText(
        band, f"{name}  {share:.2f}", (32, 23), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (235, 235, 235), 1, cv2.LINE_AA
    )
    return np.concatenate([band, large])
