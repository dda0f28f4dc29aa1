"""Clips as a browser can show them: the file itself, or a moving picture of the frames around the foul."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import quote

import cv2
from PIL import Image

from common.video import resize_frame
from mvfouls.clips import ClipSource
from mvfouls.frames import CLIP_FPS, FrameRule
from mvfouls.settings import CacheSettings, Policies
from mvfouls.survey import View

H264 = frozenset({"h264", "avc1", "avc3"})
OTHER_CODECS = frozenset({"vp80", "vp90", "vp09", "av01"})
SUFFIXES = frozenset({".mp4", ".m4v", ".mov", ".webm"})
PLAIN = "i420"
"""The only pixel format of H.264 that every browser decodes."""
MARGIN = 8
"""Frames shown before and after those the network sees."""
WIDEST = 480
QUALITY = 75


def browser_plays(path: Path) -> bool:
    """Return whether browsers play a video file."""
    capture = cv2.VideoCapture(str(path.absolute()), cv2.CAP_FFMPEG)
    try:
        codec = _letters(capture.get(cv2.CAP_PROP_FOURCC))
        pixels = _letters(capture.get(cv2.CAP_PROP_CODEC_PIXEL_FORMAT))
    finally:
        capture.release()
    if path.suffix.lower() not in SUFFIXES:
        return False
    return codec in OTHER_CODECS or (codec in H264 and pixels == PLAIN)


def write_moving_picture(path: Path, view: View, frames: Sequence[int]) -> None:
    """Write an endless WebP of a clip from `MARGIN` before to `MARGIN` after `frames`, in real time."""
    start, end = shown_frames(frames)
    rule = FrameRule(start=start, end=end, count=end - start + 1)
    clips = ClipSource(rule, CacheSettings(folder=None), Policies())
    width, height = view.size
    if width > WIDEST:
        width, height = WIDEST, round(height * WIDEST / width)
    pictures = [Image.fromarray(resize_frame(frame, width, height)) for frame in clips.read(view)]
    path.parent.mkdir(parents=True, exist_ok=True)
    pictures[0].save(
        path,
        save_all=True,
        append_images=pictures[1:],
        duration=round(1000 / CLIP_FPS),
        loop=0,
        quality=QUALITY,
        method=0,
    )


def shown_frames(frames: Sequence[int]) -> tuple[int, int]:
    """Return the first and the last frame of a moving picture."""
    return max(frames[0] - MARGIN, 0), frames[-1] + MARGIN


def reference(path: Path, page: Path) -> str:
    """Return how a page on disk refers to a file on disk."""
    try:
        relative = os.path.relpath(path.resolve(), page.resolve().parent)
    except ValueError:  # another drive
        return path.resolve().as_uri()
    return quote(Path(relative).as_posix())


def _letters(code: float) -> str:
    return (int(code) & 0xFFFFFFFF).to_bytes(4, "little").decode("latin-1").lower()
