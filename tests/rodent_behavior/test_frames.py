"""Frames become squares without being distorted, shifted or recoloured."""

import numpy as np
import pytest
import torch
from coded_video import coded_frame, read_codes

from rodent_behavior.frames import Resize, to_input


def test_letterbox_pads_black_on_both_sides_alike() -> None:
    frame = np.full((48, 80, 3), (200, 100, 50), np.uint8)
    square = Resize(40)(frame)
    assert square.shape == (40, 40, 3)
    assert Resize(40).picture(80, 48) == (0, 8, 40, 24)
    assert (square[:8] == 0).all()
    assert (square[32:] == 0).all()
    assert (square[8:32] == (200, 100, 50)).all()
    tall = Resize(40)(frame.transpose(1, 0, 2).copy())
    np.testing.assert_array_equal(tall, square.transpose(1, 0, 2))


def test_letterbox_grows_small_frames_and_keeps_square_ones() -> None:
    frame = np.full((24, 40, 3), 7, np.uint8)
    assert Resize(80).picture(40, 24) == (0, 16, 80, 48)
    assert (Resize(80)(frame)[16:64] == 7).all()
    square = coded_frame(5, 80, 80)
    np.testing.assert_array_equal(Resize(80)(square), square)


@pytest.mark.parametrize("number", [0, 345, 1023])
def test_the_picture_stays_readable(number: int) -> None:
    square = Resize(40)(coded_frame(number, 80, 48))
    assert read_codes(square[None], top=8, width=40) == [number]
    stretched = Resize(60, "stretch")(coded_frame(number, 80, 48))
    assert stretched.shape == (60, 60, 3)
    assert read_codes(stretched[None], width=60) == [number]
    assert stretched[-1].any()


def test_modes_have_names_of_their_own_and_nonsense_is_refused() -> None:
    assert len({Resize(40).name, Resize(48).name, Resize(40, "stretch").name}) == 3
    with pytest.raises(ValueError, match="size is 0"):
        Resize(0)
    with pytest.raises(ValueError, match="mode is 'crop'"):
        Resize(40, "crop")  # type: ignore[arg-type]


def test_input_of_a_backbone_has_channels_first() -> None:
    clip = np.random.default_rng(0).random((2, 4, 5, 3), np.float32)
    tensor = to_input(clip[:, :, ::-1])
    assert tensor.shape == (2, 3, 4, 5)
    assert tensor.is_contiguous()
    assert torch.equal(tensor[1, 2], torch.from_numpy(clip[1, :, ::-1, 2].copy()))
