"""Frames of samples and fixations against loops, windows, and the period of a stimulus."""

import numpy as np
import pytest

from eye_fixation.framing import (
    frame_count,
    frame_fixations,
    frame_samples,
    hop_warning,
    nearest_samples,
    stimulus_period,
    window_starts,
)


def test_frames_show_the_valid_sample_nearest_to_their_centre() -> None:
    t = np.array([0.0, 0.02, 0.05, 0.08, 0.12, 0.14, 0.31, 0.37])
    valid = np.array([1, 1, 0, 1, 1, 0, 1, 1], bool)
    x = np.arange(8) / 10
    coordinates, mask, start = frame_samples(5 + t, x, x + 0.1, valid, rate_hz=10)
    # Centres .05 .15 .25 .35: .02 and .08 are as near, the earlier counts; nothing lies in [.2, .3).
    assert mask.tolist() == [True, True, False, True]
    assert coordinates[:, 0] == pytest.approx([0.1, 0.4, 0.0, 0.7])
    assert coordinates[:, 1] == pytest.approx([0.2, 0.5, 0.0, 0.8])
    assert start == 5.0


@pytest.mark.parametrize("rate_hz", [7.0, 20.0, 30.0, 100.0])
def test_nearest_samples_equal_a_loop(rate_hz: float) -> None:
    random = np.random.default_rng(1)
    t = np.sort(random.uniform(0, 4, 400))
    usable = random.random(400) < 0.6
    chosen = nearest_samples(t, usable, rate_hz=rate_hz)
    for k, index in enumerate(chosen):
        low, high = t[0] + k / rate_hz, t[0] + (k + 1) / rate_hz
        inside = np.flatnonzero(usable & (t >= low) & (t < high))
        expected = inside[np.argmin(np.abs(t[inside] - (low + high) / 2))] if len(inside) else -1
        assert index == expected


@pytest.mark.parametrize(
    ("hz", "samples", "rate", "frames"), [(1000, 81003, 20, 1620), (20, 37, 20, 37), (60, 90, 25, 37)]
)
def test_only_whole_frames_count(hz: int, samples: int, rate: float, frames: int) -> None:
    assert frame_count(np.arange(samples) / hz, rate) == frames


def test_every_sample_is_a_frame_at_the_sampling_rate() -> None:
    t = 1700000000 + np.arange(50) / 50
    assert nearest_samples(t, np.ones(50, bool), rate_hz=50).tolist() == list(range(50))


def test_fixation_frames_follow_the_documented_rule() -> None:
    durations = np.array([50.0, 201.0, 99.0, 350.0])
    # Ends 50 251 350 700, centres 50 150 250 350 450 550 650.
    assert frame_fixations(durations, rate_hz=10).tolist() == [0, 1, 1, 2, 3, 3, 3]
    random = np.random.default_rng(0)
    durations = random.integers(20, 400, 30).astype(float)
    ends = np.cumsum(durations)
    expected = []
    for frame in range(int(ends[-1] * 25 / 1000)):
        centre = 40 * frame + 20
        (index,) = [k for k in range(30) if ends[k] - durations[k] < centre <= ends[k]]
        expected.append(index)
    assert frame_fixations(durations, rate_hz=25).tolist() == expected


def test_windows_start_every_hop_and_need_valid_frames() -> None:
    mask = np.ones(21, bool)
    mask[[4, 5, 12]] = False
    assert [s.tolist() for s in window_starts(mask, length=6, hop=3, min_valid=1.0)[:1]] == [[6, 15]]
    starts, dropped = window_starts(mask, length=6, hop=3, min_valid=0.8)
    assert (starts.tolist(), dropped) == ([6, 9, 12, 15], 2)
    assert window_starts(mask, length=20, hop=None, min_valid=0.5)[0].tolist() == [0]
    assert window_starts(mask, length=22, hop=1, min_valid=0.0) == (pytest.approx([]), 0)
    assert window_starts(np.zeros(9, bool), length=3, hop=3, min_valid=0.0)[1] == 3


def jumps(frames: int, every: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Gaze that jumps to a random place every so many frames."""
    random = np.random.default_rng(seed)
    targets = random.uniform(0, 1, (frames // every + 1, 2))
    positions = np.repeat(targets, every, 0)[:frames] + random.normal(0, 0.01, (frames, 2))
    return positions, random.random(frames) > 0.03


@pytest.mark.parametrize("every", [12, 30])
def test_period_of_a_jumping_stimulus(every: int) -> None:
    assert stimulus_period([jumps(900, every, 0), jumps(700, every, 1)]) == every


def test_no_period_in_noise_nor_in_little_gaze() -> None:
    random = np.random.default_rng(0)
    assert stimulus_period([(random.uniform(0, 1, (800, 2)), np.ones(800, bool))]) is None
    assert stimulus_period([(random.uniform(0, 1, (9, 2)), np.ones(9, bool))]) is None
    assert stimulus_period([(np.full((200, 2), 0.5), np.ones(200, bool))]) is None
    assert stimulus_period([]) is None


@pytest.mark.parametrize(("hop", "period", "phases"), [(10, 30, 3), (20, 30, 3), (30, 30, 1), (4, 12, 3)])
def test_hop_locked_to_the_stimulus_is_named(hop: int, period: int, phases: int) -> None:
    text = hop_warning(hop, period)
    assert text is not None
    assert f"--hop {hop}: the stimulus repeats every {period} frames" in text
    assert f"share {phases} phase" in text


@pytest.mark.parametrize(("hop", "period"), [(7, 30), (9, 30), (20, None), (1, 8)])
def test_hop_with_many_phases_is_fine(hop: int, period: int | None) -> None:
    assert hop_warning(hop, period) is None
