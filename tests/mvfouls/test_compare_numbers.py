"""Differences of official numbers from resamples that all runs share."""

import numpy as np
import pytest
from mv_comparisons import drawn_labels, guesses
from mv_official import annotations

from mvfouls.compare_numbers import Comparison
from mvfouls.official import judge_official


def test_the_interval_has_the_width_of_the_normal_approximation():
    rows = drawn_labels(400, seed=1)
    one, other = guesses(rows, 0.4, 1), guesses(rows, 0.6, 2)
    scores = [judge_official(annotations(rows), each) for each in (one, other)]
    found = Comparison(scores, 0).differences()[1]["action_acc"]
    change = scores[1].action.hit.astype(float) - scores[0].action.hit
    assert found.value == pytest.approx(change.mean())
    assert found.high - found.low == pytest.approx(2 * 1.96 * change.std() / np.sqrt(400), rel=0.08)


def test_scores_of_other_actions_are_no_pair():
    rows = drawn_labels(20, seed=1)
    shorter = dict(list(rows.items())[:-1])
    scores = [judge_official(annotations(each), guesses(each, 0.5, 1)) for each in (rows, shorter)]
    with pytest.raises(ValueError, match="different actions"):
        Comparison(scores, 0)
