"""Decoded frames on disk: a video is decoded once, later reads are memory maps."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
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
from common.video.jpeg_frames import count_packed, pack_frames, unpack_frames

DECODER_VERSION = 1


class FrameCache:
    """Windows of videos as read-only uint8 memory maps [T, H, W, 3], RGB.

    An entry is known by the video's content, the window, the size, the transform's name, the version of
    the decoder and `quality`: 1 to 100 stores JPEG images of that quality, None the pixels themselves.
    `max_gb` and `say` as in `ArrayStore`. ValueError for another quality.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        max_gb: float = math.inf,
        quality: int | None = None,
        say: Callable[[str], None] | None = None,
    ) -> None:
        if quality is not None and not 1 <= quality <= 100:
            raise ValueError(f"quality is {quality}: 1 to 100 is expected")
        self.store = ArrayStore(folder, max_gb=max_gb, say=say)
        self.quality = quality

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

        With `quality` the frames went through JPEG. Without `stop` the frames are counted first, which takes
        another pass over the file. Raises ValueError and VideoError as `decode`; nothing is stored then.
        """
        wanted = FrameRange(start, stop, stride)
        identity = self._identity(path, wanted, size, transform)
        stored = self.store.find(identity)
        if stored is None:
            stored = self._stored(path, wanted, identity, size, transform)
        if stored is None or self.quality is None:
            return stored
        return unpack_frames(stored, range(count_packed(stored)))

    def take(
        self, path: str | Path, numbers: Sequence[int], start: int, stop: int, *, fill: bool = True
    ) -> Pixels | None:
        """Return frames by number out of the window of frames start to stop - 1 as [len(numbers), H, W, 3].

        The result may be written to: it is a copy, or, for frames in a row, a private map. None when the
        window would not fit, with a line, or when it is not stored and `fill` is off.
        Raises ValueError for a number outside the window, and as `get`.
        """
        if not all(start <= number < stop for number in numbers):
            raise ValueError(f"numbers is {list(numbers)}: frames {start} to {stop - 1} are expected")
        wanted = FrameRange(start, stop)
        identity = self._identity(path, wanted, None, None)
        stored = self.store.find(identity, private=True)
        if stored is None and fill:
            self._stored(path, wanted, identity, None, None)
            stored = self.store.find(identity, private=True)
        if stored is None:
            return None
        places = [number - start for number in numbers]
        if self.quality is not None:
            return unpack_frames(stored, places)
        in_a_row = places == list(range(places[0], places[0] + len(places)))
        return np.asarray(stored[places[0] : places[-1] + 1] if in_a_row else stored[places])

    def has(self, path: str | Path, start: int, stop: int) -> bool:
        """Return whether a sound entry of frames start to stop - 1 is there."""
        return self.store.find(self._identity(path, FrameRange(start, stop), None, None)) is not None

    def _stored(
        self,
        path: str | Path,
        wanted: FrameRange,
        identity: dict[str, Any],
        size: Size | None,
        transform: FrameTransform | None,
    ) -> Pixels | None:
        """Store a window and return it as it is stored; None when it does not fit."""
        info = probe(path, exact=wanted.stop is None)
        if wanted.stop is None:
            check_end(path, info.frames, wanted)
            wanted = FrameRange(wanted.start, info.frames, wanted.stride)
        frames = read_frames(path, wanted.start, wanted.stop, wanted.stride, size=size, transform=transform)
        if self.quality is not None:
            packed = pack_frames(frames, self.quality)
            if not self._fits(path, packed.nbytes):
                return None
            with self.store.create(identity, packed.shape, "uint8") as stored:
                stored[:] = packed
            return self.store.find(identity)
        shape = (wanted.count or 0, *_frame_shape(info, size, transform))
        if not self._fits(path, math.prod(shape)):
            return None
        with self.store.create(identity, shape, "uint8") as stored:
            for place, frame in enumerate(frames):
                stored[place] = frame
        return self.store.find(identity)

    def _fits(self, path: str | Path, size: int) -> bool:
        fits = self.store.make_room(size)
        if not fits:
            self.store.say(
                f"{path}: {size / GIGABYTE:.3g} GB of frames do not fit into "
                f"{self.store.limit / GIGABYTE:g} GB"
            )
        return fits

    def _identity(
        self, path: str | Path, wanted: FrameRange, size: Size | None, transform: FrameTransform | None
    ) -> dict[str, Any]:
        identity = {
            "video": content_sha256(existing(path)),
            "start": wanted.start,
            "stop": wanted.stop,
            "stride": wanted.stride,
            "size": None if size is None else list(size),
            "transform": None if transform is None else transform.name,
            "decoder": f"{DECODER_VERSION}, opencv {cv2.__version__}",
        }
        return identity if self.quality is None else {**identity, "jpeg": self.quality}


def _frame_shape(info: VideoInfo, size: Size | None, transform: FrameTransform | None) -> tuple[int, ...]:
    blank: Pixels = np.zeros((info.height, info.width, 3), np.uint8)
    if size is not None:
        blank = resize_frame(blank, *size)
    return (blank if transform is None else transform(blank)).shape
