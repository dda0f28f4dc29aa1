import numpy as np
import pytest

from common.config import UserError
from common.statistics import ClassStatistics
from uav_landing.config import LossConfig
from uav_landing.weights import GUIDE_COUNTS, STRATEGIES, choose_weights, guide_weights

ALL, LANDING = [0, 1, 2, 3], [1, 2, 3]


def counted(*counts: int) -> ClassStatistics:
    return ClassStatistics.from_counts(list(counts), unit="pixel", split="train")


def chosen(*words: str, counts: tuple[int, ...] = GUIDE_COUNTS, cap: float = 0.0, presented=None):
    config = LossConfig(class_weights=words, weight_cap=cap)
    return choose_weights(config, counted(*counts), ALL if len(counts) == 4 else LANDING, presented)


@pytest.mark.parametrize(
    ("words", "cap", "expected"),
    [
        (("guide",), 0, [89.74, 0.396, 1.328, 1.411]),
        (("balanced",), 0, [89.7397, 0.3957, 1.3280, 1.4106]),
        (("balanced",), 10, [5.2001, 0.5200, 1.7450, 1.8535]),
        (("sqrt",), 0, [11.1287, 0.7390, 1.3538, 1.3952]),
        (("effective_number",), 0, [1, 1, 1, 1]),
        (("1.0", "2.0", "1.5", "3.0"), 0, [1, 2, 1.5, 3]),
    ],
)
def test_weights_of_the_documented_counts(words, cap, expected):
    choice = chosen(*words, cap=cap)
    np.testing.assert_allclose(choice.values, expected, atol=6e-5)
    assert choice.warnings == ()


@pytest.mark.parametrize("words", [("guide",), ("balanced",)])
def test_weights_of_the_documented_counts_without_void(words):
    choice = chosen(*words, counts=GUIDE_COUNTS[1:])
    np.testing.assert_allclose(choice.values, [0.5262, 1.7657, 1.8755], atol=6e-5)


def test_median_frequency_keeps_the_documented_ratios():
    ratio = chosen("median_frequency").values / [65.598, 0.2893, 0.9707, 1.0311]
    np.testing.assert_allclose(ratio, ratio[0], rtol=2e-4)


@pytest.mark.parametrize("word", ["balanced", "balanced_capped", "sqrt", "log", "enet_log"])
def test_weights_leave_the_mean_weight_of_a_pixel_at_one(word):
    shares = np.array(GUIDE_COUNTS) / sum(GUIDE_COUNTS)
    assert chosen(word).values @ shares == pytest.approx(1)


def test_none_is_no_vector_at_all():
    assert chosen("none").values is None


def test_rare_crops_leave_less_to_the_weights():
    presented = np.array([0.01, 0.49, 0.25, 0.25])
    values = chosen("balanced", presented=presented).values
    np.testing.assert_allclose(values * presented, 0.25)


def test_guide_weights_warn_about_data_they_were_not_made_for():
    choice = chosen("guide", counts=(100_000, 500_000, 200_000, 200_000))
    assert len(choice.warnings) == 1
    assert "guide weight 89.74 of class 0 (background)" in choice.warnings[0]
    assert "2.5 measured here" in choice.warnings[0]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("1", "2", "3"), "3 numbers given, 4 outputs"),
        (("1", "2", "3", "x"), "expected numbers or one of guide, none, balanced"),
        (("median",), "expected numbers or one of guide, none, balanced"),
        (("1", "-2", "3", "4"), "finite, not negative"),
        (("1", "nan", "3", "4"), "finite, not negative"),
        (("0", "0", "0", "0"), "not all 0"),
    ],
)
def test_impossible_lists_are_errors(words, message):
    with pytest.raises(UserError, match=message):
        chosen(*words)


@pytest.mark.parametrize("words", [("guide",), ("balanced",), ("sqrt",), ("1", "2", "3", "4")])
def test_a_landing_class_absent_from_training_has_no_weight(words):
    with pytest.raises(UserError, match=r"class 3 \(danger\) has no pixel.*--class-weights none"):
        chosen(*words, counts=(10, 20, 30, 0))


def test_an_absent_landing_class_trains_unweighted_with_a_warning():
    choice = chosen("none", counts=(10, 20, 0, 5))
    assert choice.values is None
    assert choice.warnings == ("class 2 (caution) has no pixel in the training split",)


@pytest.mark.parametrize("word", sorted(set(STRATEGIES) - {"effective_number"}))
def test_absent_void_gets_weight_zero_and_a_warning(word):
    choice = chosen(word, counts=(0, 20, 30, 50))
    assert choice.values[0] == 0
    assert np.isfinite(choice.values).all()
    assert (choice.values[1:] > 0).all()
    assert choice.warnings == ("class 0 (background) has no pixel in the training split",)


def test_guide_weights_follow_the_outputs():
    np.testing.assert_array_equal(guide_weights(ALL), [89.74, 0.396, 1.328, 1.411])
    assert len(guide_weights(LANDING)) == 3
