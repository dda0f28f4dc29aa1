"""Tiny label, keypoint, metadata and video files in two folders."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from rodent_behavior.dlc import DEFAULT_KP_NAMES
from rodent_behavior.settings import IndexSettings

SLOT = 40
SHORT = SLOT - 15
SIZE = 64


@dataclass(frozen=True)
class Info:
    """What a probe returns."""

    fps: float = 30.0
    frames: int = 2 * SLOT
    width: int = SIZE
    height: int = SIZE


@dataclass(frozen=True)
class DataFolders:
    """An annotation and a video folder to write into; keypoint k of frame t lies at (t, 10 k) / 4 px."""

    annotations: Path
    videos: Path

    @classmethod
    def make(cls, root: Path) -> DataFolders:
        folders = cls(root / "Annotations", root / "Videos")
        folders.annotations.mkdir()
        folders.videos.mkdir()
        return folders

    def label(
        self,
        video: str,
        trial: int | str,
        actions: Sequence[object],
        *,
        first: int = 0,
        prefix: str = "prediction",
    ) -> Path:
        rows = [f"{first + row},{action}" for row, action in enumerate(actions)]
        return self.text(self.annotations / f"{prefix}_{video}_{trial}.csv", ["Frame,Action", *rows])

    def pose(
        self,
        stem: str,
        frames: int,
        *,
        run: str = "DLC_net",
        names: Sequence[str] = DEFAULT_KP_NAMES,
        likelihood: float = 1.0,
        offset: int = 0,
    ) -> Path:
        cells = ["x", "y", "likelihood"]
        lines = [
            ",".join(["scorer", *["net"] * 3 * len(names)]),
            ",".join(["bodyparts", *[name for name in names for _ in cells]]),
            ",".join(["coords", *cells * len(names)]),
        ]
        for frame in range(frames):
            values = [f"{(frame + offset) / 4},{10 * k / 4},{likelihood}" for k in range(len(names))]
            lines.append(",".join([str(frame), *values]))
        return self.text(self.videos / f"{stem}{run}.csv", lines)

    def meta(self, stem: str, frames: int, *, run: str = "DLC_net", fps: float = 30.0) -> Path:
        path = self.videos / f"{stem}{run}_meta.pickle"
        data = {"fps": fps, "frame_dimensions": (SIZE, SIZE), "nframes": frames}
        path.write_bytes(pickle.dumps({"data": data}))
        return path

    def recording(self, stem: str, frames: int = 2 * SLOT, *, offset: int = 0) -> None:
        """Keypoints and metadata of a recording without a video file."""
        self.pose(stem, frames, offset=offset)
        self.meta(stem, frames)

    def video(self, name: str, frames: int) -> Path:
        path = self.videos / name
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), 30, (SIZE, SIZE))
        for frame in range(frames):
            writer.write(np.full((SIZE, SIZE, 3), frame % 256, dtype=np.uint8))
        writer.release()
        return path

    def settings(self, **changes: Any) -> IndexSettings:
        given = {
            "annotations": self.annotations, "videos": self.videos, "need_video": False,
            "trial_frames": SLOT, "min_frames": 20, **changes,
        }  # fmt: skip
        return IndexSettings(**given)

    @staticmethod
    def text(path: Path, lines: Sequence[str]) -> Path:
        path.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")
        return path
