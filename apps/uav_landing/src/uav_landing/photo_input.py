"""Photos to look at, one after another: a file, a folder of them, or the frames of a video."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from common.config import UserError
from uav_landing.data.masks import load_photo
from uav_landing.data.photos import IMAGE_SUFFIXES, shorten

VIDEO_SUFFIXES = frozenset({".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".mpg", ".mpeg", ".ts", ".wmv"})

Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class InputPhoto:
    """A photo or frame: `stem` begins the names of its results, `frame` counts the frames of a video from 0.

    `load` returns RGB uint8 [H, W, 3], upright, and raises UserError naming the file that cannot be read.
    """

    stem: str
    name: str
    load: Callable[[], Pixels]
    frame: int | None = None


@dataclass(frozen=True)
class PhotoInput:
    """What `--input` names; `left_out` counts the files of a folder that are no photos."""

    kind: Literal["photo", "folder", "video"]
    path: Path
    files: tuple[Path, ...]
    left_out: int = 0

    def photos(self, every: int = 1) -> Iterator[InputPhoto]:
        """Yield the photos in the order of their names, or every `every`-th frame in order of time."""
        if self.kind == "video":
            return _frames(self.path, every)
        return (InputPhoto(file.stem, file.name, partial(load_photo, file)) for file in self.files)


def find_input(path: Path) -> PhotoInput:
    """Return what a path names, by its suffix.

    UserError when it is absent, neither photo nor video, or a folder without photos or with two of one stem.
    """
    if path.is_dir():
        return _folder(path)
    if not path.is_file():
        raise UserError(f"--input {path}: no such file or folder")
    if path.suffix.lower() in IMAGE_SUFFIXES:
        return PhotoInput("photo", path, (path,))
    if path.suffix.lower() in VIDEO_SUFFIXES:
        return PhotoInput("video", path, ())
    raise UserError(
        f"--input {path}: neither a photo ({' '.join(sorted(IMAGE_SUFFIXES))}) nor a video "
        f"({' '.join(sorted(VIDEO_SUFFIXES))})"
    )


def _folder(path: Path) -> PhotoInput:
    every = sorted(item for item in path.iterdir() if item.is_file() and not item.name.startswith("."))
    files = tuple(item for item in every if item.suffix.lower() in IMAGE_SUFFIXES)
    if not files:
        raise UserError(f"--input {path}: holds no photo ({' '.join(sorted(IMAGE_SUFFIXES))})")
    counts = Counter(file.stem for file in files)
    twice = [stem for stem, count in counts.items() if count > 1]
    if twice:
        raise UserError(f"--input {path}: {len(twice)} stems are given twice: {shorten(twice)}")
    return PhotoInput("folder", path, files, len(every) - len(files))


def _frames(path: Path, every: int) -> Iterator[InputPhoto]:
    """Yield every `every`-th frame, decoded one after another; UserError for a video without any."""
    capture = cv2.VideoCapture(str(path))
    try:
        index = 0
        while capture.grab():
            if index % every == 0:
                done, frame = capture.retrieve()
                if not done:
                    raise UserError(f"{path}: frame {index} cannot be decoded")
                image = np.asarray(cv2.cvtColor(frame, cv2.COLOR_BGR2RGB), dtype=np.uint8)
                stem = f"{path.stem}_{index:06d}"
                yield InputPhoto(stem, f"{path.name} frame {index}", partial(_given, image), index)
            index += 1
        if not index:
            raise UserError(f"{path}: is not a video that can be decoded")
    finally:
        capture.release()


def _given(image: Pixels) -> Pixels:
    return image
