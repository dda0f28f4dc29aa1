"""Decoded frames on disk: a video is decoded once, later reads are memory maps."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from common.video.array_store import GIGABYTE, ArrayStore, content_sha256
from common.video.decoding import (
    FrameRange,
    FrameTransform,
    Pixels,
    Size,
    VideoInfo,
    check_end,
    existing,
    probe,
    read_frames,
    resize_frame,
)

DECODER_VERSION = 1


class FrameCache:
    """Windows of videos as read-only uint8 memory maps [T, H, W, 3], RGB.

    An entry is known by the video's content, the window, the size, the transform's name and the version of
    the decoder; `max_gb` and `say` as in `ArrayStore`.
    """

    def __init__(
        self, folder: str | Path, *, max_gb: float = math.inf, say: Callable[[str], None] | None = None
    ) -> None:
        self.store = ArrayStore(folder, max_gb=max_gb, say=say)

    def get(
        self,
        path: str | Path,
        start: int = 0,
        stop: int | None = None,
        stride: int = 1,
        *,
        size: Size | None = None,
        transform: FrameTransform | None = None,
    ) -> Pixels | None:
        """Return what `decode` gives for the same arguments; None, with a line, when it would not fit.

        Without `stop` the frames are counted first, which takes another pass over the file.
        Raises ValueError and VideoError as `decode`; nothing is stored then.
        """
        wanted = FrameRange(start, stop, stride)
        identity = _identity(existing(path), wanted, size, transform)
        found = self.store.find(identity)
        if found is not None:
            return found
        info = probe(path, exact=stop is None)
        if stop is None:
            check_end(path, info.frames, wanted)
            wanted = FrameRange(start, info.frames, stride)
        shape = (wanted.count or 0, *_frame_shape(info, size, transform))
        if not self.store.make_room(math.prod(shape)):
            self.store.say(
                f"{path}: {math.prod(shape) / GIGABYTE:.3g} GB of frames do not fit into "
                f"{self.store.limit / GIGABYTE:g} GB"
            )
            return None
        with self.store.create(identity, shape, "uint8") as frames:
            decoded = read_frames(
                path, wanted.start, wanted.stop, wanted.stride, size=size, transform=transform
            )
            for place, frame in enumerate(decoded):
                frames[place] = frame
        return self.store.find(identity)


def _identity(
    path: Path, wanted: FrameRange, size: Size | None, transform: FrameTransform | None
) -> dict[str, Any]:
    return {
        "video": content_sha256(path),
        "start": wanted.start,
        "stop": wanted.stop,
        "stride": wanted.stride,
        "size": None if size is None else list(size),
        "transform": None if transform is None else transform.name,
        "decoder": f"{DECODER_VERSION}, opencv {cv2.__version__}",
    }


def _frame_shape(info: VideoInfo, size: Size | None, transform: FrameTransform | None) -> tuple[int, ...]:
    blank: Pixels = np.zeros((info.height, info.width, 3), np.uint8)
    if size is not None:
        blank = resize_frame(blank, *size)
    return (blank if transform is None else transform(blank)).shape
