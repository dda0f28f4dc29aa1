"""Class weights against scikit-learn, the golden numbers and their invariants."""

from __future__ import annotations

import logging
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.utils.class_weight import compute_class_weight

from common.balancing.weights import (
    Strategy,
    balanced_pos_weight,
    check_weights,
    class_weights,
    ldam_margins,
    repeat_factors,
    weight_ratio,
    weights_from_counts,
)
from common.statistics import ClassStatistics

UAV = [3343002, 758065856, 225910153, 212680989]
STRATEGIES = get_args(Strategy)
COUNTS = st.lists(st.integers(0, 10**12), min_size=1, max_size=12).filter(any)


@pytest.mark.parametrize("seed", range(20))
def test_balanced_equals_scikit_learn(seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = np.concatenate([np.arange(6), rng.zipf(1.5, 300) % 6])
    expected = compute_class_weight("balanced", classes=np.arange(6), y=labels)
    weights = class_weights(ClassStatistics.from_labels(labels, 6), "balanced")
    np.testing.assert_allclose(weights, expected, rtol=1e-13)


@pytest.mark.parametrize(
    ("strategy", "normalize", "expected"),
    [
        ("balanced", "sample", [89.7397, 0.395744, 1.327962, 1.410563]),
        ("balanced_capped", "sample", [5.200146, 0.520015, 1.744965, 1.853505]),
        ("sqrt", "sample", [11.128662, 0.739023, 1.353765, 1.395234]),
        ("log", "none", [4.507995, 0.333428, 0.844993, 0.879860]),
        ("median_frequency", "none", [65.5984, 0.289283, 0.970720, 1.031101]),
        ("enet_log", "none", [44.3850, 1.992754, 5.285970, 5.555123]),
        ("none", "sample", [1, 1, 1, 1]),
    ],
)
def test_golden_weights(strategy: Strategy, normalize: str, expected: list[float]) -> None:
    weights = weights_from_counts(UAV, strategy, normalize=normalize)  # type: ignore[arg-type]
    np.testing.assert_allclose(weights, expected, rtol=2e-6, atol=5e-7)


def test_three_class_golden_weights() -> None:
    np.testing.assert_allclose(weights_from_counts(UAV[1:], "balanced"), [0.5262, 1.7657, 1.8755], atol=5e-5)


@pytest.mark.parametrize(
    ("beta", "ratio"), [(0, 1), (0.9, 1.005180), (0.99, 2.531684), (0.999, 20.356423), (0.9999, 78.889872)]
)
def test_golden_effective_number_ratios(beta: float, ratio: float) -> None:
    weights = weights_from_counts([5000, 50], "effective_number", beta=beta)
    assert weights[1] / weights[0] == pytest.approx(ratio, abs=5e-7)


def test_effective_number_tends_to_inverse_frequency() -> None:
    weights = weights_from_counts([5000, 50], "effective_number", beta=1)
    np.testing.assert_allclose(weights, weights_from_counts([5000, 50], "balanced"), rtol=1e-12)


def test_effective_number_says_that_it_has_no_effect_on_pixels(caplog: pytest.LogCaptureFixture) -> None:
    statistics = ClassStatistics.from_counts(UAV)
    with caplog.at_level(logging.WARNING):
        weights = class_weights(statistics, "effective_number")
    assert weight_ratio(weights, statistics.present) == pytest.approx(1, abs=5e-4)
    assert "has no effect at these counts" in caplog.text
    caplog.clear()
    class_weights(ClassStatistics.from_counts([5000, 50]), "effective_number")
    assert not caplog.text


@given(
    COUNTS, st.sampled_from(STRATEGIES), st.floats(1, 1e4), st.sampled_from(["sample", "mean", "min", "none"])
)
def test_the_cap_holds_exactly_after_normalising(
    counts: list[int], strategy: Strategy, cap: float, normalize: str
) -> None:
    weights = weights_from_counts(counts, strategy, max_ratio=cap, normalize=normalize)  # type: ignore[arg-type]
    assert weight_ratio(weights, np.array(counts) > 0) <= cap


@given(COUNTS, st.sampled_from(STRATEGIES))
def test_normalisations_and_zero_counts(counts: list[int], strategy: Strategy) -> None:
    number = np.array(counts, dtype=np.float64)
    seen = number > 0
    sample, mean, smallest = (
        weights_from_counts(counts, strategy, normalize=kind) for kind in ("sample", "mean", "min")
    )
    assert np.isfinite(sample).all()
    assert (sample[~seen] == 0).all()
    assert sample @ (number / number.sum()) == pytest.approx(1, rel=1e-9)
    assert mean.sum() == pytest.approx(np.count_nonzero(seen), rel=1e-9)
    assert smallest[seen].min() == 1


@given(COUNTS, st.sampled_from(STRATEGIES), st.randoms())
def test_permuting_the_classes_permutes_the_weights(
    counts: list[int], strategy: Strategy, random: np.random.RandomState
) -> None:
    order = list(range(len(counts)))
    random.shuffle(order)
    moved = weights_from_counts([counts[i] for i in order], strategy)
    np.testing.assert_allclose(moved, weights_from_counts(counts, strategy)[order], rtol=1e-9)


def test_rarer_classes_weigh_more_and_strategies_are_ordered() -> None:
    ratios = {
        name: weight_ratio(weights_from_counts([900, 90, 10], name), np.ones(3, dtype=bool))
        for name in ("balanced", "sqrt", "log", "enet_log")
    }
    assert ratios["balanced"] == pytest.approx(90)
    assert ratios["sqrt"] == pytest.approx(90**0.5)
    assert 1 < ratios["log"] < 90
    assert 1 < ratios["enet_log"] < 90


def test_presented_shares_replace_the_counts() -> None:
    statistics = ClassStatistics.from_counts([5000, 500, 50])
    half = class_weights(statistics, "balanced", presented=[0.5, 0.25, 0.25])
    np.testing.assert_allclose(half, [2 / 3, 4 / 3, 4 / 3], rtol=1e-12)
    even = class_weights(statistics, "balanced", presented=[1 / 3] * 3)
    assert even.tolist() == [1, 1, 1]
    natural = class_weights(statistics, "balanced", presented=statistics.prior)
    np.testing.assert_allclose(natural, class_weights(statistics, "balanced"), rtol=1e-12)


def test_presented_shares_must_fit() -> None:
    statistics = ClassStatistics.from_counts([5, 5, 0])
    with pytest.raises(ValueError, match=r"sums to 0\.9"):
        class_weights(statistics, "balanced", presented=[0.5, 0.4, 0])
    with pytest.raises(ValueError, match=r"presented\[2\]"):
        class_weights(statistics, "balanced", presented=[0.5, 0.4, 0.1])


def test_absent_class_and_cap_are_told(caplog: pytest.LogCaptureFixture) -> None:
    statistics = ClassStatistics.from_counts([1000, 0, 10], names=["a", "b", "c"])
    with caplog.at_level(logging.INFO):
        weights = class_weights(statistics, "balanced", max_ratio=5)
    assert weights[1] == 0
    assert "class 1 (b) has no training label" in caplog.text
    assert "100.0:1 -> 5.0:1" in caplog.text
    caplog.clear()
    with caplog.at_level(logging.INFO):
        class_weights(ClassStatistics.from_counts([1000, 10]), "balanced", max_ratio=500)
    assert not caplog.text


def test_bad_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="strategy is 'inverse'"):
        weights_from_counts([1, 2], "inverse")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="normalize is 'max'"):
        weights_from_counts([1, 2], "sqrt", normalize="max")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"max_ratio is 0\.5"):
        weights_from_counts([1, 2], "sqrt", max_ratio=0.5)
    with pytest.raises(ValueError, match="beta is 2"):
        weights_from_counts([1, 2], "effective_number", beta=2)
    with pytest.raises(ValueError, match="all 0"):
        weights_from_counts([0, 0], "sqrt")
    with pytest.raises(ValueError, match="not of 'valid'"):
        class_weights(ClassStatistics.from_counts([1, 2], split="valid"), "balanced")


@pytest.mark.parametrize(
    ("weights", "text"),
    [([1, 1], "shape"), ([1, -1, 1], r"weights\[1\] is -1"), ([1, 1, np.inf], r"weights\[2\] is inf")],
)
def test_typed_weights_are_checked(weights: list[float], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        check_weights(ClassStatistics.from_counts([1, 2, 3]), weights)


@pytest.mark.parametrize(
    ("counts", "margins"),
    [
        ([5000, 500, 50], [0.158114, 0.281171, 0.5]),
        ([2495, 324, 96], [0.221447, 0.368894, 0.5]),
        ([1, 2495, 324, 96], [0.5, 0.070746, 0.117851, 0.159736]),
        ([0, 2495, 324, 96], [0, 0.221447, 0.368894, 0.5]),
    ],
)
def test_golden_margins(counts: list[int], margins: list[float]) -> None:
    np.testing.assert_allclose(ldam_margins(counts), margins, atol=5e-7)
    np.testing.assert_allclose(ldam_margins(counts, max_margin=1), 2 * np.array(margins), atol=1e-6)


def test_margins_need_a_count() -> None:
    with pytest.raises(ValueError, match="max_margin"):
        ldam_margins([0, 0])
    with pytest.raises(ValueError, match="max_margin"):
        ldam_margins([1, 2], max_margin=-1)


def test_golden_repeat_factors() -> None:
    frequencies = [0.9, 0.05, 0.01, 0.0005]
    rare = repeat_factors(frequencies, power=1, threshold=0.02, cap=30)
    np.testing.assert_allclose(rare, [1, 1, 2, 30])
    np.testing.assert_allclose(repeat_factors([*frequencies, 0]), [1, 1, 1, 1.414214, 1], atol=5e-7)


SEVERITY = [1402, 403, 687, 44, 27]
ACTIONS = [448, 1264, 103, 361, 88, 178, 383, 28]


@pytest.mark.parametrize(
    ("counts", "strategy", "expected"),
    [
        (SEVERITY, "balanced_capped", [0.5214, 1.8138, 1.0640, 5.2136, 5.2136]),
        (SEVERITY, "sqrt", [0.7163, 1.3361, 1.0233, 4.0435, 5.1618]),
        (SEVERITY, "log", [0.5947, 1.5661, 1.0637, 4.8427, 5.7154]),
        (SEVERITY, "effective_number", [0.6297, 1.4311, 0.9553, 6.2973, 6.2973]),
        (ACTIONS, "balanced_capped", [0.9459, 0.3353, 3.3525, 1.1738, 3.3525, 2.3807, 1.1064, 3.3525]),
    ],
)
def test_golden_weights_under_a_ratio_of_ten(
    counts: list[int], strategy: Strategy, expected: list[float]
) -> None:
    weights = weights_from_counts(counts, strategy, max_ratio=10, beta=0.999)
    np.testing.assert_allclose(weights, expected, atol=5e-5)


@pytest.mark.parametrize(
    ("counts", "strategy", "expected"),
    [
        (SEVERITY, "balanced", [0.4406, 1.5327, 0.8991, 10, 10]),
        ([2495, 324, 96], "balanced_capped", [0.3918, 3.017, 10]),
        (SEVERITY, "effective_number", [0.4530, 1.5004, 0.8926, 10, 10]),
    ],
)
def test_golden_weights_under_a_value_of_ten(
    counts: list[int], strategy: Strategy, expected: list[float]
) -> None:
    weights = class_weights(ClassStatistics.from_counts(counts), strategy, max_value=10)
    np.testing.assert_allclose(weights, expected, atol=5e-5)


@given(COUNTS, st.sampled_from(STRATEGIES), st.floats(1, 100))
def test_the_value_cap_holds_after_normalising(counts: list[int], strategy: Strategy, cap: float) -> None:
    number = np.array(counts, dtype=np.float64)
    weights = weights_from_counts(counts, strategy, max_value=cap)
    assert weights.max() <= cap
    assert (weights[number == 0] == 0).all()
    assert weights @ (number / number.sum()) == pytest.approx(1, rel=1e-9)
    free = weights_from_counts(counts, strategy, max_ratio=np.inf)
    if free.max() < cap:
        np.testing.assert_allclose(weights, free, rtol=1e-9)


@pytest.mark.parametrize(
    "other", [{"max_value": 0.5}, {"max_value": 5, "max_ratio": 3}, {"max_value": 5, "normalize": "mean"}]
)
def test_a_value_cap_stands_alone(other: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="max_value"):
        weights_from_counts([3, 1], "balanced", **other)  # type: ignore[arg-type]


def test_positive_weights_are_negatives_over_positives() -> None:
    assert balanced_pos_weight([60, 30, 10, 0]).tolist() == pytest.approx([2 / 3, 7 / 3, 9, 1])
    assert balanced_pos_weight([0.9, 0.1], cap=5).tolist() == pytest.approx([1 / 9, 5])
    assert balanced_pos_weight([7, 0]).tolist() == [1, 1]
