import numpy as np
import pytest

from rodent_behavior.skeleton import (
    LEFT_FRONT,
    LEFT_HIND,
    MOUTH,
    PAWS,
    POSTURE,
    RIGHT_HIND,
    TAIL,
    Action,
    PlannedBout,
    active,
    lick,
    mirrored,
    shake,
    trial_motion,
    walk,
    withdraw,
)

FPS = 30.0


def frequency(signal):
    """Strongest frequency in Hz."""
    spectrum = np.abs(np.fft.rfft(signal - signal.mean(), 4096))
    return np.fft.rfftfreq(4096, 1 / FPS)[spectrum.argmax()]


@pytest.mark.parametrize("frames", range(5, 13))
def test_withdrawn_paw_goes_in_and_comes_back(frames):
    shift = withdraw(frames, FPS, np.random.default_rng(frames)).shift
    length = np.linalg.norm(shift[:, LEFT_HIND], axis=1)
    assert 0.15 <= length.max() <= 0.3
    assert max(length[0], length[-1]) < 0.8 * length.max()
    assert shift[length.argmax(), LEFT_HIND, 1] < 0
    assert np.abs(np.delete(shift, LEFT_HIND, axis=1)).max() == 0


@pytest.mark.parametrize("seed", range(5))
def test_frequencies_of_licking_and_shaking(seed):
    rng = np.random.default_rng(seed)
    assert 4 <= frequency(lick(240, FPS, rng).shift[20:-20, MOUTH, 0]) <= 6
    assert 8 <= frequency(shake(240, FPS, rng).shift[20:-20, LEFT_HIND, 1]) <= 10


def test_licking_mouth_is_at_the_hind_paw_of_its_side():
    points = POSTURE + lick(60, FPS, np.random.default_rng(0)).shift
    gap = np.linalg.norm(points[10:-10, MOUTH] - points[10:-10, LEFT_HIND], axis=1)
    other = np.linalg.norm(points[10:-10, MOUTH] - points[10:-10, RIGHT_HIND], axis=1)
    assert gap.max() < 0.2
    assert other.min() > 0.35


def test_standing_paw_of_a_walk_stays_on_the_ground():
    move = walk(200, FPS, np.random.default_rng(1))
    assert 0.6 / FPS <= move.advance[100] <= 1.1 / FPS
    slip = np.abs(np.diff(move.shift[20:-20, LEFT_FRONT, 0]) + move.advance[21:-20])
    assert np.mean(slip < 1e-9) == pytest.approx(0.5, abs=0.1)
    fore, hind = move.shift[20:-20, LEFT_FRONT, 0], move.shift[20:-20, RIGHT_HIND, 0]
    assert np.corrcoef(fore, hind)[0, 1] == pytest.approx(1.0)


def test_active_turns_towards_the_bent_side():
    move = active(40, FPS, np.random.default_rng(2))
    assert 60 <= np.degrees(move.turn.sum()) <= 150
    assert move.shift[20, MOUTH, 1] > 0
    fore, hind = (np.abs(np.diff(move.shift[:, paw], axis=0)).mean() for paw in (LEFT_FRONT, LEFT_HIND))
    assert fore > 2 * hind
    assert move.mirrored().turn.sum() == -move.turn.sum()


def test_mirroring_exchanges_sides():
    points = np.random.default_rng(0).normal(size=(7, 6, 2))
    np.testing.assert_array_equal(mirrored(points)[:, LEFT_HIND], points[:, RIGHT_HIND] * [1, -1])
    np.testing.assert_array_equal(mirrored(mirrored(points)), points)
    np.testing.assert_array_equal(mirrored(POSTURE), POSTURE)


@pytest.mark.parametrize("seed", range(8))
def test_trial_stays_in_the_arena_with_left_on_one_side(seed):
    bouts = [PlannedBout(Action.WALK, 20, 80, 6), PlannedBout(Action.WALK, 100, 160, 6)]
    motion = trial_motion(bouts, frames=200, fps=FPS, size=96, scale=38.0, rng=np.random.default_rng(seed))
    assert motion.min() >= 0
    assert motion.max() <= 96
    body = motion[:, MOUTH] - motion[:, TAIL]
    left = motion[:, LEFT_HIND] - motion[:, RIGHT_HIND]
    assert (body[:, 0] * left[:, 1] - body[:, 1] * left[:, 0] > 0).all()
    centre = motion[:, [MOUTH, TAIL]].mean(axis=1)
    walked = np.linalg.norm(np.diff(centre[20:80], axis=0), axis=1).sum()
    rested = np.linalg.norm(np.diff(centre[161:], axis=0), axis=1).mean()
    assert walked > 0.5 * 38
    assert rested < 0.5


def test_resting_hind_paws_are_nearly_still_without_fidgeting():
    motion = trial_motion([], frames=300, fps=FPS, size=96, scale=38.0, rng=np.random.default_rng(3))
    steps = np.linalg.norm(np.diff(motion[:, PAWS], axis=0), axis=2) / 38.0
    assert np.median(steps) < 0.012
    assert np.quantile(steps, 0.99) > 0.02


@pytest.mark.parametrize("seed", range(6))
def test_fidgeting_does_not_part_mouth_and_licked_paw(seed):
    bouts = [PlannedBout(Action.LICK, 150, 250, 2)]
    motion = trial_motion(bouts, frames=300, fps=FPS, size=96, scale=30.0, rng=np.random.default_rng(seed))
    gaps = np.linalg.norm(motion[160:240, [LEFT_HIND, RIGHT_HIND]] - motion[160:240, [MOUTH]], axis=2)
    assert gaps.min(axis=1).max() < 0.25 * 30
