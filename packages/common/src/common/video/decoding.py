"""Frames of a video file by number, counted by decoding from the first one: nothing is found by seeking."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain, islice
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

try:
    import cv2
except ModuleNotFoundError as error:
    raise ModuleNotFoundError("common.video needs OpenCV: pip install 'imbalance-common[video]'") from error

Pixels = NDArray[np.uint8]
Size = tuple[int, int]


class VideoError(OSError):
    """A video file cannot give what was asked of it; `frame` is the first frame that is not there."""

    def __init__(self, message: str, frame: int | None = None) -> None:
        super().__init__(message)
        self.frame = frame


@dataclass(frozen=True)
class VideoInfo:
    """Frames per second, number of frames, and size in pixels of a video."""

    fps: float
    frames: int
    width: int
    height: int


class FrameTransform(Protocol):
    """A function of one frame [H, W, 3]; `name` changes whenever the results do."""

    @property
    def name(self) -> str: ...

    def __call__(self, frame: Pixels) -> Pixels: ...


@dataclass(frozen=True)
class FrameRange:
    """Frames start, start + stride, ... before `stop`, or to the end of the file when that is None.

    ValueError for a negative start, an empty range and a stride below 1.
    """

    start: int = 0
    stop: int | None = None
    stride: int = 1

    def __post_init__(self) -> None:
        if self.start < 0:
            raise ValueError(f"start is {self.start}: frames count from 0")
        if self.stride < 1:
            raise ValueError(f"stride is {self.stride}: 1 or more is expected")
        if self.stop is not None and self.stop <= self.start:
            raise ValueError(f"stop is {self.stop}: more than start {self.start} is expected")

    @property
    def count(self) -> int | None:
        """How many frames are wanted, None when the file decides."""
        return None if self.stop is None else -((self.start - self.stop) // self.stride)

    @property
    def last(self) -> int | None:
        """The last frame wanted."""
        return None if self.count is None else self.start + (self.count - 1) * self.stride

    def __contains__(self, frame: int) -> bool:
        return frame >= self.start and (frame - self.start) % self.stride == 0


@dataclass(frozen=True)
class FrameList:
    """Frames by number, in any order; ValueError when there is none or one below 0."""

    numbers: tuple[int, ...]

    def __post_init__(self) -> None:
        if not self.numbers or min(self.numbers) < 0:
            raise ValueError(f"numbers is {list(self.numbers)}: one or more, from 0, are expected")

    @property
    def start(self) -> int:
        """The first frame wanted."""
        return min(self.numbers)

    @property
    def last(self) -> int:
        """The last frame wanted."""
        return max(self.numbers)

    def __contains__(self, frame: int) -> bool:
        return frame in self.numbers


Wanted = FrameRange | FrameList


def probe(path: str | Path, *, exact: bool = True) -> VideoInfo:
    """Return rate, number of frames and size of a video.

    `exact` counts the frames that decode, which takes as long as decoding; otherwise the number is what the
    container claims, which may be wrong. Raises VideoError for a file that is missing, empty or has no frame.
    """
    with _opened(path) as capture:
        if not capture.grab():
            raise _no_frame(path)
        found, image = capture.retrieve()
        if not found:
            raise _no_frame(path)
        frames = round(capture.get(cv2.CAP_PROP_FRAME_COUNT))
        if exact:
            frames = 1
            while capture.grab():
                frames += 1
        return VideoInfo(float(capture.get(cv2.CAP_PROP_FPS)), frames, image.shape[1], image.shape[0])


def read_frames(
    path: str | Path,
    start: int = 0,
    stop: int | None = None,
    stride: int = 1,
    *,
    size: Size | None = None,
    transform: FrameTransform | None = None,
) -> Iterator[Pixels]:
    """Yield frames start, start + stride, ... before `stop` as uint8 RGB [H, W, 3], in one pass.

    `size` (width, height) stretches each frame; `transform` is applied after it. Frames before `start` and
    between strides are decoded but not converted, and nothing is read after the last one.
    Raises ValueError as `FrameRange`, and VideoError naming the file and the first frame it lacks.
    """
    return _converted(path, FrameRange(start, stop, stride), size, transform)


def stream(
    path: str | Path,
    start: int = 0,
    stop: int | None = None,
    stride: int = 1,
    *,
    size: Size | None = None,
    transform: FrameTransform | None = None,
    chunk: int = 64,
) -> Iterator[Pixels]:
    """Yield the frames of `read_frames` as uint8 RGB [at most chunk, H, W, 3], for videos of any length."""
    if chunk < 1:
        raise ValueError(f"chunk is {chunk}: 1 or more is expected")
    frames = read_frames(path, start, stop, stride, size=size, transform=transform)
    return _in_chunks(frames, chunk)


def decode(
    path: str | Path,
    start: int = 0,
    stop: int | None = None,
    stride: int = 1,
    size: Size | None = None,
    *,
    transform: FrameTransform | None = None,
) -> Pixels:
    """Return the frames of `read_frames` as one uint8 RGB array [T, H, W, 3]."""
    wanted = FrameRange(start, stop, stride).count
    frames = read_frames(path, start, stop, stride, size=size, transform=transform)
    if wanted is None:
        return np.stack(list(frames))
    first = next(frames)
    result = np.empty((wanted, *first.shape), np.uint8)
    result[0] = first
    for place, frame in enumerate(frames, start=1):
        result[place] = frame
    return result


def decode_numbers(path: str | Path, numbers: Sequence[int]) -> Pixels:
    """Return frames by number, in the order given and as often, as uint8 RGB [len(numbers), H, W, 3].

    One pass as in `read_frames`, with its VideoError; ValueError as `FrameList`.
    """
    wanted = FrameList(tuple(numbers))
    frames = _converted(path, wanted, None, None)
    first = next(frames)
    result = np.empty((len(wanted.numbers), *first.shape), np.uint8)
    for number, frame in zip(sorted(set(wanted.numbers)), chain([first], frames), strict=True):
        result[[place for place, asked in enumerate(wanted.numbers) if asked == number]] = frame
    return result


def resize_frame(frame: Pixels, width: int, height: int) -> Pixels:
    """Stretch a frame to `width` x `height`: area means where it shrinks, bilinear where it grows."""
    if frame.shape[:2] == (height, width):
        return frame
    shrinks = width <= frame.shape[1] and height <= frame.shape[0]
    interpolation = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(frame, (width, height), interpolation=interpolation), np.uint8)


def existing(path: str | Path) -> Path:
    """Return the path of a file that has content, else raise VideoError."""
    path = Path(path)
    if not path.is_file():
        raise VideoError(f"{path}: no such file")
    if path.stat().st_size == 0:
        raise VideoError(f"{path}: the file is empty", 0)
    return path


@contextmanager
def _opened(path: str | Path) -> Iterator[cv2.VideoCapture]:
    # an absolute path: FFmpeg takes `a:b.mp4` for a protocol named a
    capture = cv2.VideoCapture(str(existing(path).absolute()), cv2.CAP_FFMPEG)
    try:
        if not capture.isOpened():
            raise VideoError(f"{path}: no video stream can be opened", 0)
        yield capture
    finally:
        capture.release()


def _converted(
    path: str | Path, wanted: Wanted, size: Size | None, transform: FrameTransform | None
) -> Iterator[Pixels]:
    shape: tuple[int, ...] | None = None
    for number, image in _decoded(path, wanted):
        shape = shape or image.shape
        if image.shape != shape:
            raise VideoError(
                f"{path}: frame {number} is {_extent(image.shape)}, those before are {_extent(shape)}", number
            )
        frame = np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)
        if size is not None:
            frame = resize_frame(frame, *size)
        yield frame if transform is None else transform(frame)


def _decoded(path: str | Path, wanted: Wanted) -> Iterator[tuple[int, Pixels]]:
    """Yield number and BGR image of each wanted frame."""
    number = 0
    with _opened(path) as capture:
        while wanted.last is None or number <= wanted.last:
            if not capture.grab():
                check_end(path, number, wanted)
                return
            if number in wanted:
                found, image = capture.retrieve()
                if not found:
                    raise VideoError(f"{path}: frame {number} cannot be decoded", number)
                yield number, np.asarray(image, np.uint8)
            number += 1


def check_end(path: str | Path, frames: int, wanted: Wanted) -> None:
    """Raise VideoError when a file of `frames` frames ends before what was wanted."""
    if frames == 0:
        raise _no_frame(path)
    if wanted.last is not None or frames <= wanted.start:
        asked = f"{wanted.start} to {wanted.last}" if wanted.last is not None else f"{wanted.start} on"
        raise VideoError(
            f"{path}: frame {max(frames, wanted.start)} is missing: {frames} frames decode, "
            f"frames {asked} are needed",
            max(frames, wanted.start),
        )


def _in_chunks(frames: Iterator[Pixels], chunk: int) -> Iterator[Pixels]:
    while block := list(islice(frames, chunk)):
        yield np.stack(block)


def _no_frame(path: str | Path) -> VideoError:
    return VideoError(f"{path}: no frame can be decoded", 0)


def _extent(shape: tuple[int, ...]) -> str:
    return f"{shape[1]} x {shape[0]}"
