"""Frames of video files by number, and a cache of them on disk. Needs the extra `[video]`."""

from common.video.array_store import ArrayStore, content_sha256
from common.video.decoding import (
    FrameTransform,
    Pixels,
    VideoError,
    VideoInfo,
    decode,
    decode_numbers,
    probe,
    read_frames,
    resize_frame,
    stream,
)
from common.video.frame_cache import FrameCache

__all__ = [
    "ArrayStore",
    "FrameCache",
    "FrameTransform",
    "Pixels",
    "VideoError",
    "VideoInfo",
    "content_sha256",
    "decode",
    "decode_numbers",
    "probe",
    "read_frames",
    "resize_frame",
    "stream",
]
