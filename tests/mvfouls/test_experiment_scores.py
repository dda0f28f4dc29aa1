"""Numbers of an experiment: by hand, and against resampling done one draw at a time."""

import numpy as np
import pytest

from mvfouls.experiment_scores import Part, Scoreboard, summarise

TRUE = {"os": [0, 0, 0, 1, 1, 2, 2, 3], "action": [0, 1, 0, 1, 0, 1, 2, 2]}
TRAINED = {"os": [50, 9, 20, 4], "action": [5, 90, 30, 7]}


def part(name):
    truth = np.array(TRUE[name])[:, None] == np.arange(4)
    return Part(name, name.upper(), tuple("abcd"), np.array(TRAINED[name]), truth)


@pytest.fixture
def parts():
    return [part("os"), part("action")]


@pytest.fixture
def board(parts):
    return Scoreboard(parts, resamples=40, seed=3)


def hits(parts, right):
    """Return hits [S, N, 8] from, per seed and part, which actions were right."""
    return np.stack(
        [
            np.concatenate(
                [p.truth & np.array(r, bool)[:, None] for p, r in zip(parts, seed, strict=True)], 1
            )
            for seed in right
        ]
    )


@pytest.fixture
def found(parts):
    rng = np.random.default_rng(0)
    return {name: hits(parts, rng.integers(0, 2, (3, 2, 8))) for name in ("ce", "other")}


def test_order_and_rare_classes_by_hand(parts):
    assert parts[0].order == [0, 2, 1, 3]
    assert parts[0].rare == [1, 3]
    # no action of the last class is judged: of three classes one is rare
    assert parts[1].order == [1, 2, 0]
    assert parts[1].rare == [0]


def test_a_class_that_nobody_trained_is_not_rare():
    truth = np.eye(4, dtype=bool)
    assert Part("x", "X", tuple("abcd"), np.array([3, 0, 9, 5]), truth).rare == [0]


def test_numbers_by_hand(parts, board):
    right = [[1, 1, 0, 1, 0, 0, 0, 1], [1, 1, 1, 0, 0, 0, 1, 0]]
    told = summarise(board, {"ce": hits(parts, [right])}, "ce")["ce"]["numbers"]
    os_ba, action_ba = (2 / 3 + 1 / 2 + 0 + 1) / 4, (2 / 3 + 1 / 3 + 1 / 2) / 3
    expected = {
        "leaderboard": (os_ba + action_ba) / 2, "os_ba": os_ba, "action_ba": action_ba,
        "rare_os": 3 / 4, "rare_action": 2 / 3, "rare": (3 / 4 + 2 / 3) / 2,
    }  # fmt: skip
    assert {name: number["mean"] for name, number in told.items()} == pytest.approx(expected)
    assert all(np.isnan(number["sd"]) for number in told.values())


def test_resamples_are_those_of_one_draw_at_a_time(board, found):
    """Each resample repeats actions, judges every seed by itself and takes the mean of the seeds."""
    drawn = board.resampled(found["ce"])
    for row, counts in zip(drawn, board.resamples._draws.astype(int), strict=True):
        chosen = np.repeat(np.arange(8), counts)
        own, truth = found["ce"][:, chosen], board.counts[chosen]
        present = truth.sum(0) > 0
        each = [seed[:, present].sum(0) / truth[:, present].sum(0) for seed in own]
        np.testing.assert_allclose(row[present], np.mean(each, axis=0))
        assert np.isnan(row[~present]).all()


def test_differences_are_paired(board, found):
    told = summarise(board, found, "ce")["other"]["differences"]
    draws = [board.numbers(board.resampled(found[name]))["leaderboard"] for name in ("other", "ce")]
    low, high = np.nanquantile(draws[0] - draws[1], [0.025, 0.975])
    assert (told["leaderboard"]["low"], told["leaderboard"]["high"]) == pytest.approx((low, high))
    same = summarise(board, {"ce": found["ce"], "twin": found["ce"]}, "ce")["twin"]["differences"]
    assert all(set(gain.values()) == {0.0} for gain in same.values())


def test_without_the_reference_nothing_is_compared(board, found):
    assert summarise(board, {"other": found["other"]}, "ce")["other"]["differences"] is None


def test_too_few_actions_have_no_interval(parts):
    few = [Part(p.name, p.title, p.classes, p.trained, p.truth[:4]) for p in parts]
    with pytest.raises(ValueError, match="at least 5"):
        Scoreboard(few, resamples=10)
