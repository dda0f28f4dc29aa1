import cv2
import numpy as np
import pytest

from rodent_behavior.rendering import (
    BLOBS,
    bar_code_area,
    draw_bar_code,
    draw_frame,
    read_bar_code,
    write_video,
)
from rodent_behavior.skeleton import CENTRE, POSTURE


def pose(size):
    return (POSTURE - CENTRE) * 0.5 * size + size / 2


@pytest.mark.parametrize("size", [96, 200])
def test_every_keypoint_shows_its_colour(size):
    picture = draw_frame(pose(size), size)
    for (x, y), colour in zip(np.rint(pose(size)).astype(int), BLOBS):
        assert tuple(picture[y, x]) == colour
    assert tuple(picture[2, 2]) not in BLOBS


@pytest.mark.parametrize("size", [48, 96, 100, 224])
@pytest.mark.parametrize("number", [0, 1, 359, 1079, 2**16 - 1])
def test_bar_code_comes_back_at_any_size(size, number):
    picture = draw_frame(pose(size), size)
    before = picture.copy()
    draw_bar_code(picture, number)
    assert read_bar_code(picture) == number
    assert read_bar_code(picture.astype(np.float32) / 255) == number
    assert read_bar_code(cv2.resize(picture, (size * 2, size * 2))) == number
    rows, columns = bar_code_area(size)
    picture[:rows, :columns] = before[:rows, :columns]
    np.testing.assert_array_equal(picture, before)


@pytest.mark.parametrize("grey", [0, 255])
def test_plain_corner_is_no_bar_code(grey):
    with pytest.raises(ValueError, match="no bar code"):
        read_bar_code(np.full((96, 96, 3), grey, dtype=np.uint8))


def test_wrong_cell_is_noticed():
    picture = draw_frame(pose(96), 96)
    draw_bar_code(picture, 700)
    picture[:4, :4] = 255 - picture[:4, :4]
    with pytest.raises(ValueError, match="no bar code"):
        read_bar_code(picture)


def test_number_beyond_the_code_is_refused():
    with pytest.raises(ValueError, match="number is 65536"):
        draw_bar_code(draw_frame(pose(96), 96), 2**16)


def test_video_that_cannot_be_written(tmp_path):
    with pytest.raises(OSError, match="cannot be opened"):
        write_video(tmp_path / "absent" / "m.mp4", [], size=96, fps=30)
