"""Where live frames come from: a video file, a camera, a folder of images, or the clock alone."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path

import cv2
import numpy as np

from common.config import UserError
from common.video import Pixels, VideoError, probe, read_frames

IMAGES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff")


@dataclass(frozen=True, eq=False)
class LiveFrame:
    """A frame: its `number` from 0 and `time` in seconds at the source, when it arrived here, its picture.

    `arrival` is in seconds of `time.perf_counter`, `image` uint8 BGR [H, W, 3], None for a source without.
    """

    number: int
    time: float
    arrival: float
    image: Pixels | None = None


@dataclass(frozen=True)
class Source:
    """Frames at `fps` per second (of a camera: None), and the first picture, None when there are none.

    `open` starts the frames; call it once. A `camera` delivers when it likes.
    """

    name: str
    fps: float | None
    first: Pixels | None
    open: Callable[[], Iterator[LiveFrame]]
    camera: bool = False

    @property
    def size(self) -> tuple[int, int] | None:
        """Width and height in px."""
        return None if self.first is None else (self.first.shape[1], self.first.shape[0])


def open_source(text: str, fps: float | None, default_fps: float) -> Source:
    """Return the source that `--source` names: the number of a camera, a folder of images or a video.

    A folder runs at `fps`, else at `default_fps`; the others have a rate of their own. UserError for what
    cannot be opened.
    """
    path = Path(text)
    if path.is_dir():
        return folder_source(path, fps or default_fps)
    if fps is not None:
        raise UserError(f"--fps {fps:g}: --source {text} has a rate of its own")
    return camera_source(int(text)) if text.isdecimal() else video_source(path)


def video_source(path: Path) -> Source:
    """Return the frames of a video file at the times that its rate gives."""
    try:
        info = probe(path, exact=False)
        first = next(read_frames(path, 0, 1))
    except VideoError as error:
        raise UserError(f"--source {error}") from error
    if not info.fps > 0:
        raise UserError(f"--source {path}: the file does not say its frame rate")
    return Source(str(path), info.fps, bgr(first), lambda: _timed(map(bgr, read_frames(path)), info.fps))


def folder_source(path: Path, fps: float) -> Source:
    """Return the images of a folder in the order of the numbers in their names."""
    files = sorted((file for file in path.iterdir() if file.suffix.lower() in IMAGES), key=_natural)
    if not files:
        raise UserError(f"--source {path}: no image in the folder ({' '.join(IMAGES)})")
    return Source(str(path), fps, _picture(files[0]), lambda: _timed(map(_picture, files), fps))


def camera_source(number: int) -> Source:
    """Return what a camera delivers, timed when it is delivered."""
    capture = cv2.VideoCapture(number)
    found, image = capture.read() if capture.isOpened() else (False, None)
    if not found or image is None:
        capture.release()
        raise UserError(f"--source {number}: no camera of this number delivers frames")

    def frames() -> Iterator[LiveFrame]:
        began = time.monotonic()
        try:
            for index in count():
                delivered, picture = capture.read()
                moment = time.monotonic() - began
                if not delivered:
                    raise UserError(f"--source {number}: the camera stopped after {index} frames")
                yield LiveFrame(index, moment, time.perf_counter(), np.asarray(picture, np.uint8))
        finally:
            capture.release()

    return Source(f"camera {number}", None, np.asarray(image, np.uint8), frames, camera=True)


def clock_source(frames: int, fps: float) -> Source:
    """Return frames without pictures."""
    return Source("no pictures", fps, None, lambda: _timed((None for _ in range(frames)), fps))


def bgr(frame: Pixels) -> Pixels:
    """Exchange red and blue."""
    return np.asarray(cv2.cvtColor(frame, cv2.COLOR_RGB2BGR), np.uint8)


def paced(frames: Iterable[LiveFrame]) -> Iterator[LiveFrame]:
    """Deliver each frame when its time has come, as a camera would."""
    began = time.perf_counter()
    for frame in frames:
        time.sleep(max(0.0, began + frame.time - time.perf_counter()))
        yield replace(frame, arrival=time.perf_counter())


class NewestFrame:
    """A queue of one between a thread that reads frames and whoever iterates.

    A frame that nobody fetched gives way to the next and is counted in `dropped`; reading never waits. An
    error of the reading thread comes up in the iteration once the last frame is fetched.
    """

    def __init__(self, frames: Iterable[LiveFrame]) -> None:
        self.dropped = 0
        self._frames = frames
        self._frame: LiveFrame | None = None
        self._ended = self._stopped = False
        self._changed = threading.Condition()
        self._executor = ThreadPoolExecutor(1, "camera")
        self._reading = self._executor.submit(self._read)

    def __iter__(self) -> Iterator[LiveFrame]:
        while (frame := self._fetch()) is not None:
            yield frame
        self._reading.result()

    def stop(self) -> None:
        """End the thread after the frame it waits for."""
        self._stopped = True
        self._executor.shutdown()

    def _fetch(self) -> LiveFrame | None:
        with self._changed:
            while self._frame is None and not self._ended:
                self._changed.wait()
            frame, self._frame = self._frame, None
        return frame

    def _read(self) -> None:
        try:
            for frame in self._frames:
                if self._stopped:
                    break
                self._place(frame)
        finally:
            with self._changed:
                self._ended = True
                self._changed.notify()

    def _place(self, frame: LiveFrame) -> None:
        with self._changed:
            self.dropped += self._frame is not None
            self._frame = frame
            self._changed.notify()


def _timed(images: Iterable[Pixels | None], fps: float) -> Iterator[LiveFrame]:
    for number, image in enumerate(images):
        yield LiveFrame(number, number / fps, time.perf_counter(), image)


def _picture(path: Path) -> Pixels:
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise UserError(f"--source {path}: cannot be read as an image")
    return np.asarray(image, np.uint8)


def _natural(path: Path) -> tuple[tuple[int, str], ...]:
    """Order `frame10` behind `frame9`."""
    return tuple(
        (int(part), "") if part.isdecimal() else (-1, part) for part in re.split(r"(\d+)", path.name)
    )
