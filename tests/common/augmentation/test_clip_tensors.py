"""Each clip of a batch is changed by its own draw, the same in all its frames."""

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from common.augmentation import ColourChange, Crop, TemporalMap, draw_boxes, pixel_boxes
from common.augmentation.clip_tensors import (
    crop_clips,
    cut_out_clips,
    flip_clips,
    move_clips,
    noise_clips,
    recolour_clips,
)
from common.engine.randomness import generator_for

CLIPS = torch.rand(2, 3, 4, 12, 20, generator=torch.Generator().manual_seed(3))
NO_BOX = np.zeros((0, 4))


def test_neutral_draws_return_the_clips_themselves() -> None:
    assert crop_clips(CLIPS, [Crop(), Crop(1, 0, 1)]) is CLIPS
    assert recolour_clips(CLIPS, [ColourChange()] * 2) is CLIPS
    assert cut_out_clips(CLIPS, [NO_BOX] * 2) is CLIPS
    assert move_clips(CLIPS, [TemporalMap.identity(4)] * 2) is CLIPS
    assert flip_clips(CLIPS, [False] * 2) is CLIPS
    assert noise_clips(CLIPS, [0.0] * 2, [1, 2]) is CLIPS


def test_no_input_is_written_to() -> None:
    before = CLIPS.clone()
    crop_clips(CLIPS, [Crop(0.5), Crop(angle=5)])
    recolour_clips(CLIPS, [ColourChange(1.3, 0.5, 2)] * 2)
    cut_out_clips(CLIPS, [draw_boxes(generator_for(1), 2, largest=0.5)] * 2)
    noise_clips(CLIPS, [0.2] * 2, [1, 2])
    assert torch.equal(CLIPS, before)


def test_a_crop_is_the_box_resized_in_space_alone() -> None:
    # the box of half the size in the middle; away from its edge, interpolation sees nothing outside
    cropped = crop_clips(CLIPS, [Crop(0.5), Crop()])
    pictures = CLIPS[0].flatten(0, 1)[None, :, 3:9, 5:15]
    expected = F.interpolate(pictures, (12, 20), mode="bilinear")[0].unflatten(0, (3, 4))
    torch.testing.assert_close(cropped[0, ..., 1:-1, 1:-1], expected[..., 1:-1, 1:-1], atol=1e-5, rtol=0)
    torch.testing.assert_close(cropped[1], CLIPS[1], atol=1e-5, rtol=0)


def test_equal_frames_stay_equal() -> None:
    still = CLIPS[:, :, :1].expand(-1, -1, 4, -1, -1).contiguous()
    changed = crop_clips(still, [Crop(0.7, 0.2, 0.9, 5), Crop(0.8)])
    changed = recolour_clips(changed, [ColourChange(1.2, 0.8, 1.5), ColourChange(0.7)])
    changed = cut_out_clips(changed, [draw_boxes(generator_for(k), 2, largest=0.3) for k in range(2)])
    assert torch.equal(changed, changed[:, :, :1].expand_as(changed))
    assert not torch.allclose(changed, still, atol=0.05)


def test_a_quarter_turn_moves_corners_clockwise() -> None:
    square = torch.zeros(1, 3, 1, 5, 5)
    square[..., 0, 0] = 1
    turned = crop_clips(square, [Crop(angle=90)])
    assert turned[0, 0, 0].round().nonzero().tolist() == [[0, 4]]


def test_contrast_is_about_the_clip_not_the_frame_or_the_batch() -> None:
    clips = torch.stack([torch.full((3, 2, 2, 2), 0.2), torch.full((3, 2, 2, 2), 0.8)])
    clips[0, :, 1] = 0.6
    changed = recolour_clips(clips, [ColourChange(contrast=0.5)] * 2)
    # clip 0 has the mean .4, clip 1 .8
    np.testing.assert_allclose(changed[0, 0, :, 0, 0], [0.3, 0.5], rtol=1e-5)
    np.testing.assert_allclose(changed[1], 0.8, rtol=1e-5)


def test_colours_stay_in_range_and_in_full_precision() -> None:
    bright = recolour_clips(CLIPS, [ColourChange(1.9), ColourChange(1, 1.9)])
    assert (bright.min(), bright.max()) == (0, 1)
    with torch.autocast("cpu", torch.bfloat16):
        under_autocast = recolour_clips(CLIPS, [ColourChange(1.9), ColourChange(1, 1.9)])
    assert torch.equal(bright, under_autocast)


def test_boxes_hide_what_they_cover_and_nothing_else() -> None:
    boxes = [draw_boxes(generator_for(k), 2, largest=0.4) for k in range(2)]
    hidden = cut_out_clips(CLIPS, boxes, fill=2.0)
    expected = CLIPS.clone()
    for clip, clip_boxes in zip(expected, boxes):
        for top, left, bottom, right in pixel_boxes(clip_boxes, 12, 20):
            clip[..., top:bottom, left:right] = 2.0
    assert torch.equal(hidden, expected)


def test_frames_move_as_their_map_says() -> None:
    held = TemporalMap.hold(np.array([False, True, False, True]))
    moved = move_clips(CLIPS, [held, TemporalMap.identity(4)])
    assert torch.equal(moved[0], held.apply(CLIPS[0], axis=1))
    assert torch.equal(moved[1], CLIPS[1])


def test_flips_are_per_clip() -> None:
    flipped = flip_clips(CLIPS, [True, False])
    assert torch.equal(flipped[0], CLIPS[0].flip(-1))
    assert torch.equal(flipped[1], CLIPS[1])


def test_noise_follows_its_seed_wherever_the_clip_stands() -> None:
    grey = torch.full((3, 3, 8, 20, 20), 0.5)
    noisy = noise_clips(grey, [0.05, 0.0, 0.1], [7, 8, 9])
    assert (noisy[0] - 0.5).std().item() == pytest.approx(0.05, rel=0.05)
    assert (noisy[2] - 0.5).std().item() == pytest.approx(0.1, rel=0.05)
    assert torch.equal(noisy[1], grey[1])
    assert not torch.equal(noisy[0, :, 0], noisy[0, :, 1])
    assert torch.equal(noise_clips(grey[:1], [0.1], [9])[0], noisy[2])
    assert noise_clips(CLIPS, [5.0, 5.0], [1, 2]).aminmax() == (0, 1)


def test_draws_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="2 clips, but 1"):
        flip_clips(CLIPS, [True])
    with pytest.raises(ValueError, match=r"\[N, 3, T, H, W\]"):
        crop_clips(CLIPS[0], [Crop(0.5)] * 3)
