"""The frames of the window, of a rate, and of clips of other rates."""

import itertools

import pytest

from mvfouls.frames import FOUL_FRAME, FrameRule, frame_at


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        (FrameRule(), "67 68 69 70 71 72 73 74 75 76 77 78 79 80 81 82"),
        (FrameRule(count=8), "67 69 71 73 76 78 80 82"),
        (FrameRule(fps=15), "62 63 65 67 68 70 72 73 75 77 78 80 82 83 85 87"),
        (FrameRule(fps=17), "63 65 66 68 69 71 72 74 75 76 78 79 81 82 84 85"),
        (FrameRule(count=1), "75"),
        (FrameRule(start=75, end=75, count=3), "75 75 75"),
        (FrameRule(start=0, end=3, count=2), "0 3"),
    ],
)
def test_frames_at_25_fps(rule: FrameRule, expected: str) -> None:
    assert rule.indices() == tuple(int(word) for word in expected.split())


@pytest.mark.parametrize("count", range(2, 33))
def test_a_window_runs_from_its_first_frame_to_its_last(count: int) -> None:
    indices = FrameRule(start=59, end=90, count=count).indices()
    assert (len(indices), indices[0], indices[-1]) == (count, 59, 90)
    assert all(after > before for before, after in itertools.pairwise(indices))


@pytest.mark.parametrize(("fps", "same"), [(24.5, True), (25.5, True), (24.4, False), (25.6, False)])
def test_rates_near_25_are_25(fps: float, same: bool) -> None:
    assert (FrameRule().indices_at(fps) == FrameRule().indices()) is same


def test_other_rates_show_the_same_moments() -> None:
    assert FrameRule().indices_at(50) == tuple(range(134, 166, 2))
    assert FrameRule().indices_at(50, 3) == tuple(range(140, 172, 2))
    assert FrameRule(count=4).indices_at(12.5) == (34, 36, 39, 41)
    assert FrameRule(count=4).indices_at(29.97) == (80, 86, 92, 98)
    assert FrameRule(count=4, fps=12.5).indices_at(50) == (142, 146, 150, 154)
    assert FrameRule(count=4, fps=12.5).indices_at(50, -1) == (140, 144, 148, 152)
    assert frame_at(FOUL_FRAME, 50) == 150


def test_a_shift_moves_every_frame_and_never_wraps() -> None:
    for rule in (FrameRule(), FrameRule(fps=15), FrameRule(start=0, end=15)):
        for shift in (-4, 3):
            assert rule.indices_at(25, shift) == tuple(index + shift for index in rule.indices())


@pytest.mark.parametrize(
    ("rule", "seconds", "rate"),
    [(FrameRule(), 0.64, 25), (FrameRule(fps=15), 1.04, 15), (FrameRule(count=1), 0.04, 25)],
)
def test_time_and_rate_are_those_of_the_frames(rule: FrameRule, seconds: float, rate: float) -> None:
    assert rule.seconds == pytest.approx(seconds)
    assert rule.rate == pytest.approx(rate)


def test_rules_and_rates_that_cannot_be() -> None:
    for arguments, name in [
        ({"count": 0}, "count is 0"),
        ({"start": 83}, "start 83 and end 82"),
        ({"start": -1}, "start -1"),
        ({"fps": 0.0}, "fps is 0"),
        ({"fps": float("nan")}, "fps is nan"),
        ({"fps": 2.0}, "16 frames start 25 too early"),
    ]:
        with pytest.raises(ValueError, match=name):
            FrameRule(**arguments)
    for fps in (0.0, -25.0, float("nan"), float("inf")):
        with pytest.raises(ValueError, match="fps is"):
            FrameRule().indices_at(fps)
