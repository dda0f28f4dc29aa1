"""Frames as JPEG images in one array of bytes: much smaller than pixels, not equal to them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

from common.video.decoding import Pixels, VideoError

Bytes = NDArray[np.uint8]


def pack_frames(frames: Iterable[Pixels], quality: int) -> Bytes:
    """Return RGB frames [H, W, 3] as bytes: their number, where each image ends (int64 each), the images.

    `quality` is 1 to 100; VideoError for a frame that has no JPEG form.
    """
    images = [_encoded(frame, quality) for frame in frames]
    ends = np.cumsum([image.size for image in images])
    head = np.asarray([len(images), *ends], np.int64).view(np.uint8)
    return np.concatenate([head, *images])


def count_packed(packed: Bytes) -> int:
    """Return how many frames are packed."""
    return int(packed[:8].view(np.int64)[0])


def unpack_frames(packed: Bytes, places: Sequence[int]) -> Pixels:
    """Return the frames at `places` as uint8 RGB [len(places), H, W, 3]."""
    count = count_packed(packed)
    head = 8 * (count + 1)
    bounds = [0, *packed[8:head].view(np.int64).tolist()]
    images = packed[head:]
    decoded = {place: _decoded(images[bounds[place] : bounds[place + 1]]) for place in set(places)}
    return np.stack([decoded[place] for place in places])


def _encoded(frame: Pixels, quality: int) -> Bytes:
    image = cv2.cvtColor(frame, cv2.COLOR_RGB2BGR)
    done, data = cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, quality])
    if not done:
        raise VideoError(f"a frame of shape {frame.shape} cannot be stored as JPEG")
    return np.asarray(data, np.uint8).ravel()


def _decoded(data: Bytes) -> Pixels:
    image = cv2.imdecode(np.asarray(data), cv2.IMREAD_COLOR)
    if image is None:
        raise VideoError("a stored JPEG image cannot be decoded")
    return np.asarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), np.uint8)
