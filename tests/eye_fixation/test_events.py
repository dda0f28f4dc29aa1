import numpy as np
import pytest
from sklearn.metrics import cohen_kappa_score

from eye_fixation.events import idt, ivt, kappa, saccade_kappa

KAPPAS = {"S1": 0.867, "S2": 0.926, "S4": 0.781, "S5": 0.888, "S6": 0.825}


def ramp(speed, count=300, rate=1000.0):
    """Still, then 100 samples at `speed` deg/s along x, then still."""
    t = np.arange(count) / rate
    return t, np.clip(t - 100 / rate, 0, 100 / rate) * speed, np.zeros(count)


@pytest.mark.parametrize("name", KAPPAS)
def test_agreement_with_hand_labels(real_data, name):
    samples = np.load(real_data / "irf" / f"lookAtPoint_EL_{name}.npy", allow_pickle=False)
    x, y = samples["x"].astype(np.float64), samples["y"].astype(np.float64)
    events = ivt(samples["t"], x, y, samples["status"] & np.isfinite(x) & np.isfinite(y))
    assert saccade_kappa(samples["evt"], events) == pytest.approx(KAPPAS[name], abs=0.005)
    assert (events[~samples["status"]] == 0).all()


@pytest.mark.parametrize(("speed", "saccades"), [(44.0, 0), (46.0, 84), (-46.0, 84), (90.0, 100)])
def test_velocity_threshold_is_45(speed, saccades):
    t, x, y = ramp(speed)
    found = ivt(t, x, y, np.ones(300, dtype=bool)) == 2
    assert abs(found.sum() - saccades) <= 4
    assert not found[:89].any()
    assert not found[211:].any()
    assert (ivt(t, y, x, np.ones(300, dtype=bool)) == 2).sum() == found.sum()


def test_speed_is_that_of_both_axes():
    t, x, y = ramp(40.0)
    valid = np.ones(300, dtype=bool)
    assert not (ivt(t, x, y, valid) == 2).any()
    assert (ivt(t, x, x, valid) == 2).sum() > 80
    assert (ivt(t, x, y, valid, threshold=30) == 2).sum() > 80


@pytest.mark.parametrize("dropped", [False, True])
def test_gaps_are_bridged_and_left_undefined(dropped):
    t, x, y = ramp(20.0)
    x[120:160], valid = np.nan, np.ones(300, dtype=bool)
    valid[120:160] = False
    if dropped:
        t, x, y, valid = (part[valid] for part in (t, x, y, valid))
    events = ivt(t, x, y, valid)
    assert set(events[valid]) == {1}
    assert (events[~valid] == 0).all()


@pytest.mark.parametrize(("rate", "count"), [(20.0, 40), (60.0, 60), (250.0, 250)])
def test_a_jump_is_found_at_any_rate(rate, count):
    t = np.arange(count) / rate
    x = np.where(t >= 0.5, 10.0, 0.0)
    fast = np.flatnonzero(ivt(t, x, np.zeros(count), np.ones(count, dtype=bool)) == 2)
    assert 1 <= len(fast) <= 5
    assert np.abs(t[fast] - 0.5).max() <= max(0.012, 1.01 / rate)


@pytest.mark.parametrize(
    ("valid", "events"), [("00", "00"), ("10", "10"), ("11", "22"), ("1", "1"), ("", "")]
)
def test_hardly_any_samples(valid, events):
    seen = np.array([mark == "1" for mark in valid], dtype=bool)
    t = np.arange(len(seen)) * 0.01
    assert "".join(map(str, ivt(t, t * 100, t, seen))) == events


def test_dispersion_marks_still_gaze():
    """At 100 Hz 100 ms are ten samples: still for 12, away for 5, still for 9, gone for 2, still for 10."""
    x = np.concatenate([np.zeros(12), np.linspace(2, 10, 5), np.full(9, 20.0), np.zeros(2), np.full(10, 5.0)])
    valid = np.ones(38, dtype=bool)
    valid[26:28] = False
    events = idt(np.arange(38) / 100, x, np.zeros(38), valid)
    assert events.tolist() == [1] * 12 + [2] * 14 + [0] * 2 + [1] * 10


@pytest.mark.parametrize(("extent", "found"), [((0.6, 0.3), True), ((0.6, 0.5), False), ((0.0, 1.1), False)])
def test_dispersion_adds_both_axes(extent, found):
    wave = np.tile([0.0, 1.0], 20)
    events = idt(np.arange(40) / 100, wave * extent[0], wave * extent[1], np.ones(40, dtype=bool))
    assert (events == 1).all() == found


def test_a_fixation_ends_where_the_dispersion_is_exceeded():
    """A drift of .1 deg per sample: 11 samples span 1 deg, ten are needed, seven remain."""
    t, x = np.arange(40) / 100, np.arange(40) * 0.1
    events = idt(t, x, np.zeros(40), np.ones(40, dtype=bool), dispersion=1.05)
    assert events.tolist() == [1] * 33 + [2] * 7


def test_a_fixation_ends_at_a_pause():
    t, still = np.arange(40) / 100 + 0.05 * (np.arange(40) >= 9), np.zeros(40)
    assert idt(t, still, still, np.ones(40, dtype=bool)).tolist() == [2] * 9 + [1] * 31


def test_kappa_is_that_of_sklearn():
    random = np.random.default_rng(0)
    truth = random.integers(0, 4, 500)
    guess = np.where(random.random(500) < 0.6, truth, random.integers(0, 4, 500))
    assert kappa(truth, guess) == pytest.approx(cohen_kappa_score(truth, guess), abs=1e-12)
    scored = np.isin(truth, (1, 2, 3))
    expected = cohen_kappa_score(truth[scored] == 2, guess[scored] == 2)
    assert saccade_kappa(truth, guess) == pytest.approx(expected, abs=1e-12)
    assert np.isnan(kappa(np.ones(3), np.ones(3)))
    assert np.isnan(kappa(np.array([]), np.array([])))


T = np.arange(5) / 100


@pytest.mark.parametrize(
    ("action", "said"),
    [
        (lambda find: find(T, T, T[:4], T >= 0), "t, x, y and valid"),
        (lambda find: find(T[::-1], T, T, T >= 0), "t does not rise"),
        (lambda find: find(T * 0, T, T, T >= 0), "t does not rise"),
    ],
)
@pytest.mark.parametrize("find", [ivt, idt])
def test_bad_samples_are_named(find, action, said):
    with pytest.raises(ValueError, match=said):
        action(find)


@pytest.mark.parametrize(
    ("find", "name"),
    [(ivt, "threshold"), (ivt, "window_ms"), (idt, "dispersion"), (idt, "duration_ms")],
)
def test_bad_settings_are_named(find, name):
    with pytest.raises(ValueError, match=f"^{name} is 0"):
        find(T, T, T, T >= 0, **{name: 0})


def test_kappa_refuses_other_shapes():
    with pytest.raises(ValueError, match="truth is"):
        kappa(T, T[:3])
