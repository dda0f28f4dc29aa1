"""Frames of files, folders and cameras; the queue of one."""

import threading
import time
from itertools import count

import cv2
import numpy as np
import pytest
from live_pieces import SIZE

from common.config import UserError
from rodent_behavior.live import source as module
from rodent_behavior.live.source import (
    LiveFrame,
    NewestFrame,
    camera_source,
    clock_source,
    open_source,
    paced,
)
from rodent_behavior.rendering import read_bar_code
from rodent_behavior.synth import generate


class Capture:
    """A camera that delivers a few frames of one value."""

    def __init__(self, frames):
        self.left = frames
        self.released = False

    def isOpened(self):
        return True

    def read(self):
        self.left -= 1
        return (True, np.full((4, 6, 3), 7, np.uint8)) if self.left >= 0 else (False, None)

    def release(self):
        self.released = True


def test_a_video_is_read_in_order_as_bgr(tmp_path):
    truth = generate(tmp_path, videos=1, trials=1, size=SIZE, fps=25, bar_code=True)
    source = open_source(str(truth.videos / "mouse_1.mp4"), None, 30.0)
    assert (source.fps, source.size, source.camera) == (25.0, (SIZE, SIZE), False)
    for number, frame in zip(range(9), source.open()):
        assert (frame.number, frame.time) == (number, number / 25)
        assert read_bar_code(frame.image) == number
    xy = truth.recordings[0].xy[8]
    blue, green, red = frame.image[int(xy[0, 1]), int(xy[0, 0])]
    assert min(red, green) > blue + 60  # the mouth is yellow


def test_a_folder_is_ordered_by_number(tmp_path):
    for number in (10, 9, 1):
        cv2.imwrite(str(tmp_path / f"frame{number}.png"), np.full((5, 8, 3), number, np.uint8))
    (tmp_path / "notes.txt").write_text("no image")
    frames = list(open_source(str(tmp_path), None, 20.0).open())
    assert [int(frame.image[0, 0, 0]) for frame in frames] == [1, 9, 10]
    assert [frame.time for frame in frames] == [0.0, 0.05, 0.1]
    assert [frame.time for frame in open_source(str(tmp_path), 10.0, 20.0).open()] == [0.0, 0.1, 0.2]
    assert open_source(str(tmp_path), None, 20.0).size == (8, 5)


def test_a_camera_is_timed_on_arrival(monkeypatch):
    capture = Capture(4)
    monkeypatch.setattr(module.cv2, "VideoCapture", lambda number: capture)
    source = camera_source(0)
    assert (source.size, source.fps, source.camera) == ((6, 4), None, True)
    frames = source.open()
    given = [next(frames) for _ in range(3)]
    assert [frame.number for frame in given] == [0, 1, 2]
    assert 0 <= given[0].time <= given[2].time < 5
    with pytest.raises(UserError, match="stopped after 3 frames"):
        next(frames)
    assert capture.released


def test_sources_that_cannot_be_opened(tmp_path, monkeypatch):
    capture = Capture(0)
    monkeypatch.setattr(module.cv2, "VideoCapture", lambda number: capture)
    (tmp_path / "empty").mkdir()
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "0.png").write_bytes(b"no image")
    for text, words in (
        ("3", "no camera"),
        (str(tmp_path / "absent.mp4"), "no such file"),
        (str(tmp_path / "empty"), "no image in the folder"),
        (str(tmp_path / "folder"), "cannot be read as an image"),
    ):
        with pytest.raises(UserError, match=words):
            open_source(text, None, 30.0)
    assert capture.released
    with pytest.raises(UserError, match="--fps 9"):
        open_source("0", 9.0, 30.0)


def test_the_newest_frame_wins_and_reading_never_waits():
    read, fetched = threading.Event(), threading.Event()

    def frames():
        yield LiveFrame(0, 0.0, 0.0)
        assert fetched.wait(5)
        for number in range(1, 10):
            yield LiveFrame(number, 0.0, 0.0)
        read.set()
        yield LiveFrame(10, 0.0, 0.0)

    queue = NewestFrame(frames())
    found = []
    for frame in queue:
        found.append(frame.number)
        if frame.number == 0:
            fetched.set()
            assert read.wait(5)
            time.sleep(0.05)
    queue.stop()
    assert found == [0, 10]
    assert queue.dropped == 9


def test_an_error_of_the_camera_comes_up():
    def frames():
        yield LiveFrame(0, 0.0, 0.0)
        raise UserError("unplugged")

    found = []
    queue = NewestFrame(frames())
    with pytest.raises(UserError, match="unplugged"):
        found.extend(frame.number for frame in queue)
    queue.stop()


def test_stopping_ends_an_endless_camera():
    queue = NewestFrame(LiveFrame(number, 0.0, 0.0) for number in count() if time.sleep(0.001) is None)
    assert next(iter(queue)).number >= 0
    queue.stop()
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("camera")]


def test_pacing_waits_for_the_time_of_a_frame():
    began = time.perf_counter()
    frames = list(paced(clock_source(5, 50.0).open()))
    assert 0.08 <= time.perf_counter() - began < 2
    assert frames[4].arrival - began >= 0.08
    assert [frame.time for frame in frames] == [0.0, 0.02, 0.04, 0.06, 0.08]
