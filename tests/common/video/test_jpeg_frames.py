"""Packed frames are those that went in, up to what JPEG loses."""

import cv2
import numpy as np
import pytest
from coded_video import coded_frame, read_codes

from common.video import VideoError
from common.video.jpeg_frames import count_packed, pack_frames, unpack_frames

FRAMES = np.stack([coded_frame(number, 80, 48) for number in range(5)])


def test_frames_come_back_in_the_order_asked_for() -> None:
    packed = pack_frames(FRAMES, 90)
    assert packed.dtype == np.uint8
    assert packed.nbytes < FRAMES.nbytes / 2
    assert count_packed(packed) == 5
    for places in ([0, 1, 2, 3, 4], [4, 0, 0, 2]):
        frames = unpack_frames(packed, places)
        assert frames.shape == (len(places), 48, 80, 3)
        assert read_codes(frames) == places


def test_an_image_is_what_opencv_makes_of_the_frame() -> None:
    blue_first = cv2.cvtColor(FRAMES[3], cv2.COLOR_RGB2BGR)
    _, data = cv2.imencode(".jpg", blue_first, [cv2.IMWRITE_JPEG_QUALITY, 60])
    expected = cv2.cvtColor(cv2.imdecode(data, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)
    np.testing.assert_array_equal(unpack_frames(pack_frames(FRAMES, 60), [3])[0], expected)
    assert np.abs(unpack_frames(pack_frames(FRAMES, 95), [3])[0].astype(int) - FRAMES[3]).mean() < 8


def test_quality_sets_the_size() -> None:
    noise = np.random.default_rng(0).integers(0, 256, (1, 32, 32, 3), np.uint8)
    assert pack_frames(noise, 95).size > 1.5 * pack_frames(noise, 30).size


def test_damage_is_an_error() -> None:
    packed = pack_frames(FRAMES, 90)
    packed[8 * 6 :] = 0
    with pytest.raises(VideoError, match="cannot be decoded"):
        unpack_frames(packed, [0])
