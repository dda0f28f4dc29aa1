"""Frames become the input's size without a change of proportions, unless that is asked for."""

import cv2
import numpy as np
import pytest

from mvfouls.resize import fit_frames, fitted_size


def circle(height: int, width: int, radius: int) -> np.ndarray:
    frame = np.zeros((1, height, width, 3), np.uint8)
    cv2.circle(frame[0], (width // 2, height // 2), radius, (255, 255, 255), -1)
    return frame


def extent(frames: np.ndarray) -> tuple[int, int]:
    rows, columns = np.nonzero(frames[0, :, :, 0] > 127)
    return int(np.ptp(rows)) + 1, int(np.ptp(columns)) + 1


@pytest.mark.parametrize("size", [(720, 1280), (200, 400), (300, 200)])
@pytest.mark.parametrize("target", [(112, 200), (224, 224), (64, 112)])
def test_a_circle_stays_one_and_only_stretch_makes_an_ellipse(
    size: tuple[int, int], target: tuple[int, int]
) -> None:
    frames = circle(*size, radius=50)
    for fit in ("crop", "letterbox"):
        fitted = fit_frames(frames, *target, fit)
        assert fitted.shape == (1, *target, 3)
        high, wide = extent(fitted)
        assert abs(high - wide) <= 2
    high, wide = extent(fit_frames(frames, *target, "stretch"))
    assert high / wide == pytest.approx((target[0] / size[0]) / (target[1] / size[1]), rel=0.1)


def test_crop_cuts_both_sides_and_letterbox_pads_them() -> None:
    frames = np.full((2, 100, 200, 3), 200, np.uint8)
    frames[:, :, :50], frames[:, :, 150:] = 10, 20
    assert (fit_frames(frames, 50, 50, "crop") == 200).all()
    boxed = fit_frames(frames, 50, 50, "letterbox")
    assert boxed[:, :12].max() == boxed[:, 38:].max() == 0
    assert (boxed[0, 13:37, 25] == 200).all()
    assert set(boxed[0, 25, [2, 47], 0]) == {10, 20}


def test_frames_are_resized_one_by_one() -> None:
    frames = np.stack([np.full((30, 40, 3), value, np.uint8) for value in (10, 90, 250)])
    fitted = fit_frames(frames, 8, 16, "crop")
    assert [set(frame.ravel().tolist()) for frame in fitted] == [{10}, {90}, {250}]


def test_the_right_size_is_left_alone_and_others_cover_or_fit() -> None:
    frames = np.zeros((1, 224, 398, 3), np.uint8)
    assert fit_frames(frames, 224, 398, "crop") is frames
    assert fitted_size(720, 1280, 224, 398, "crop") == (224, 398)
    assert fitted_size(224, 398, 224, 224, "letterbox") == (126, 224)
    with pytest.raises(ValueError, match="fit is 'cover'"):
        fit_frames(frames, 8, 8, "cover")  # type: ignore[arg-type]
