"""Repetition of rare classes."""

from __future__ import annotations

import numpy as np
import pytest

from common.balancing.samplers import RepeatSampler
from common.config import UserError
from rodent_behavior.balance import Repetition, bout_items, exposure, repeat_factors
from rodent_behavior.labels import Actions, count_classes

COUNTS = [8000, 100, 900, 60, 640, 300]
NAMES = ("rest", "paw_withdraw", "paw_lick", "paw_shake", "walk", "active")


def golden_trials() -> list[Actions]:
    """Ten trials of 1000 frames with the golden counts; the rare classes come in bouts of 10 frames."""
    trials = [np.zeros(1000, dtype=np.int64) for _ in range(10)]
    for number in range(10):
        trials[number][100:110] = 1
    for number in range(6):
        trials[number][300:310] = 3
    for label, frames in ((2, 900), (4, 640), (5, 300)):
        for number in range(10):
            trials[number][160 * label : 160 * label + frames // 10] = label
    assert count_classes(trials, 6).tolist() == COUNTS
    return trials


@pytest.mark.parametrize(
    ("cap", "expected"),
    [(30, [1, 2, 1, 10 / 3, 1, 1]), (3, [1, 2, 1, 3, 1, 1]), (1.5, [1, 1.5, 1, 1.5, 1, 1]), (1, [1] * 6)],
)
def test_golden_factors(cap: float, expected: list[float]) -> None:
    np.testing.assert_allclose(repeat_factors(COUNTS, threshold=0.02, cap=cap), expected, rtol=1e-6)


def test_limits_of_the_factors() -> None:
    assert repeat_factors([9995, 5], threshold=0.02, cap=30)[1] == 30
    assert repeat_factors([98, 2], threshold=0.02, cap=30)[1] == 1
    assert repeat_factors(COUNTS, threshold=0, cap=30).tolist() == [1] * 6
    assert repeat_factors([10, 0], threshold=0.5, cap=30).tolist() == [1, 1]
    assert repeat_factors([0, 0], threshold=0.5, cap=30).tolist() == [1, 1]
    assert (repeat_factors(COUNTS, threshold=0.05, cap=30) > 1).sum() == 3
    for arguments in (
        {"threshold": 1.0, "cap": 2},
        {"threshold": -0.1, "cap": 2},
        {"threshold": 0.1, "cap": 0.5},
    ):
        with pytest.raises(UserError, match="--rare_"):
            repeat_factors(COUNTS, **arguments)


@pytest.mark.parametrize("window", [7, 60, 2000])
def test_expected_exposure_is_exact(window: int) -> None:
    plan = Repetition.plan(golden_trials(), NAMES, threshold=0.02, cap=30, window=window, margin=0)
    np.testing.assert_allclose(plan.expected, [8000, 200, 900, 200, 640, 300], rtol=1e-12)
    assert plan.presented.sum() == pytest.approx(1)
    assert plan.rare.tolist() == [False, True, False, True, False, False]


def test_exposure_over_epochs_meets_the_expectation() -> None:
    trials = golden_trials()
    plan = Repetition.plan(trials, NAMES, threshold=0.02, cap=30, window=60, margin=0)
    repeats = [item.repeats for item in plan.items]
    sampler = RepeatSampler(1, repeats, presented_shares=plan.presented, seed=4)
    shown = []
    for epoch in range(200):
        times = sampler.draws(epoch)
        assert times.max() + 1 <= 30
        assert set(times[[item.label == 1 for item in plan.items]].tolist()) == {1}
        shown.append(exposure(trials, plan.items, times, 6))
    fraction = 7 / 3 - 2
    deviation = 10 * np.sqrt(6 * fraction * (1 - fraction) / 200)
    assert abs(np.mean(shown, axis=0)[3] - 200) < 3 * deviation
    assert np.mean(shown, axis=0)[1] == 200


def test_windows_are_centred_and_stay_in_their_trial() -> None:
    labels = np.zeros(100, dtype=np.int64)
    labels[2:6] = 1
    labels[50:54] = 1
    labels[97:] = 1
    items = bout_items([labels[:1] * 0, labels], np.array([1.0, 2.5]), window=20, margin=3)
    assert [tuple(item)[1:5] for item in items] == [(0, 20, 0, 9), (42, 62, 47, 57), (80, 100, 94, 100)]
    assert [item.trial for item in items] == [1, 1, 1]
    assert [item.bout for item in items] == [0, 1, 2]
    assert {item.repeats for item in items} == {1.5}
    clipped = bout_items([labels], np.array([1.0, 2.0]), window=6, margin=50)
    assert [tuple(item)[1:5] for item in clipped] == [(1, 7, 1, 7), (49, 55, 49, 55), (94, 100, 94, 100)]


def test_a_bout_longer_than_the_window_is_drawn_as_a_whole() -> None:
    labels = np.zeros(60, dtype=np.int64)
    labels[10:35] = 1
    items = bout_items([labels], np.array([1.0, 1.5]), window=10, margin=4)
    rows = np.concatenate([np.arange(item.loss_start, item.loss_stop) for item in items])
    assert rows.tolist() == list(range(10, 36))
    exact = bout_items([labels], np.array([1.0, 1.5]), window=10, margin=0)
    assert exposure([labels], exact, [1] * len(exact), 2).tolist() == [35, 50]
    assert {item.bout for item in items} == {0}
    wide = bout_items([labels], np.array([1.0, 1.5]), window=28, margin=4)
    assert [tuple(item)[1:5] for item in wide] == [(8, 36, 8, 36)]


def test_the_console_tells_before_and_after() -> None:
    lines = Repetition.plan(golden_trials(), NAMES, threshold=0.02, cap=30, window=60, margin=0).lines()
    assert lines[1].split() == "Class Count Share Rare Factor Draws After ShareAfter".split()
    assert lines[3].split() == "paw_withdraw 100 0.0100 yes 2.000 10.0 200.0 0.0195".split()
    assert lines[2].split()[:4] == "rest 8000 0.8000 no".split()
    assert "Rare classes (< 2.0%): [paw_withdraw, paw_shake]" in lines
    assert lines[-3:] == [
        "Rare class replication totals:",
        "  paw_withdraw: +100 frames in 10 bouts",
        "  paw_shake: +140 frames in 6 bouts",
    ]
    off = Repetition.plan(golden_trials(), NAMES, threshold=0.02, cap=1, window=60, margin=0)
    assert off.lines()[-1] == "  none"
    assert off.expected.tolist() == COUNTS
    with pytest.raises(UserError, match="--rare_margin"):
        bout_items([], np.ones(2), window=5, margin=-1)
