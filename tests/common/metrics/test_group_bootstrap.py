import time

import numpy as np
import pytest
from numpy.typing import NDArray

from common.metrics.group_bootstrap import (
    GroupResamples,
    GroupSums,
    group_sums,
    holm,
    percentile_interval,
    two_sided_p,
)

Array = NDArray[np.float64]


def data(values: Array) -> GroupSums:
    """One column of runs x groups, each group of one value."""
    return GroupSums(values[..., None], np.ones((*values.shape, 1)))


def normal(runs: int, groups: int, seed: int = 0) -> Array:
    return np.random.default_rng(seed).standard_normal((runs, groups))


def test_sequences_add_up_to_their_groups() -> None:
    sums = np.array([[[1.0, 10.0], [2.0, 20.0], [4.0, 40.0]], [[0.0, 1.0], [5.0, 1.0], [7.0, 1.0]]])
    counts = np.array([[[1.0, 2.0], [1.0, 2.0], [2.0, 2.0]]] * 2)
    found = group_sums(sums, counts, np.array([9, -4, 9]))
    assert found.sums.tolist() == [[[2, 20], [5, 50]], [[5, 1], [7, 2]]]
    assert found.counts.tolist() == [[[1, 2], [3, 4]]] * 2
    np.testing.assert_allclose(found.run_means(), [[7 / 4, 70 / 6], [12 / 4, 3 / 6]])
    np.testing.assert_allclose(found.means(), [(7 / 4 + 3) / 2, (70 / 6 + 0.5) / 2])


def test_the_interval_of_a_mean_has_the_textbook_width() -> None:
    values = normal(1, 400)
    low, high = percentile_interval(GroupResamples(400, n=4000).means(data(values)))[:, 0]
    error = values.std() / np.sqrt(400)
    assert low == pytest.approx(values.mean() - 1.96 * error, abs=0.15 * error)
    assert high == pytest.approx(values.mean() + 1.96 * error, abs=0.15 * error)


def test_sequences_of_one_group_count_once() -> None:
    values = normal(1, 60)
    repeated = group_sums(
        np.repeat(values, 25, axis=1)[..., None], np.ones((1, 1500, 1)), np.repeat(np.arange(60), 25)
    )
    resamples = GroupResamples(60)
    np.testing.assert_allclose(resamples.means(repeated), resamples.means(data(values)), rtol=1e-12)


def test_large_groups_weigh_more() -> None:
    sums, counts = np.array([[[30.0], [0.0], [0.0], [0.0], [0.0]]]), np.array([[[30.0], [1], [1], [1], [1]]])
    means = GroupResamples(5, n=500).means(GroupSums(sums, counts))[:, 0]
    drawn = np.unique(np.round(means, 12))
    expected = [30 * k / (30 * k + 5 - k) for k in range(6)]
    assert set(drawn) <= set(np.round(expected, 12))


def test_runs_are_drawn_when_there_are_three() -> None:
    shift = np.array([[-1.0], [0.0], [1.0]])
    flat = np.zeros((3, 50)) + shift
    few = GroupResamples(50).means(data(flat[:2]))
    assert np.allclose(few, -0.5)
    means = GroupResamples(50, n=9000).means(data(flat))[:, 0]
    assert means.std() == pytest.approx(np.sqrt(2 / 3) / np.sqrt(3), rel=0.05)
    assert set(np.round(means * 3).astype(int)) == set(range(-3, 4))


def test_differences_are_paired() -> None:
    values = 10 * normal(3, 40)
    resamples = GroupResamples(40)
    gap = resamples.means(data(values + 0.3)) - resamples.means(data(values))
    np.testing.assert_allclose(gap, 0.3, rtol=1e-9)
    alone = percentile_interval(resamples.means(data(values)))
    assert float(np.diff(alone, axis=0)[0, 0]) > 2
    again = GroupResamples(40).means(data(values))
    np.testing.assert_array_equal(again, resamples.means(data(values)))
    assert not np.array_equal(again, GroupResamples(40, seed=1).means(data(values)))


def test_resamples_without_a_count_are_left_out() -> None:
    sums, counts = np.zeros((1, 6, 2)), np.zeros((1, 6, 2))
    sums[0, 0, 0], counts[0, 0, 0] = 3, 4
    means = GroupResamples(6).means(GroupSums(sums, counts))
    assert np.isnan(means[:, 0]).mean() == pytest.approx((5 / 6) ** 6, abs=0.05)
    np.testing.assert_array_equal(percentile_interval(means), [[0.75, np.nan]] * 2)


@pytest.mark.parametrize(("level", "ends"), [(0.9, (5, 95)), (0.5, (25, 75))])
def test_the_interval_is_the_middle(level: float, ends: tuple[float, float]) -> None:
    values = np.random.default_rng(0).permutation(np.arange(101.0))[:, None]
    assert tuple(percentile_interval(values, level)[:, 0]) == pytest.approx(ends)


def test_p_values_by_hand() -> None:
    assert two_sided_p(np.arange(1.0, 200.0)) == pytest.approx(2 / 200)
    assert two_sided_p(-np.arange(1.0, 200.0)) == pytest.approx(2 / 200)
    assert two_sided_p(np.array([-1.0, 2.0, 3.0, np.nan])) == pytest.approx(1.0)
    assert two_sided_p(np.concatenate([np.full(9, -1.0), np.full(990, 1.0)])) == pytest.approx(0.02)
    assert two_sided_p(np.zeros(50)) == 1
    assert np.isnan(two_sided_p(np.array([np.nan])))


def test_p_values_are_honest_without_a_difference() -> None:
    p = [
        two_sided_p(GroupResamples(60, n=500, seed=seed).means(data(normal(1, 60, seed)))[:, 0])
        for seed in range(300)
    ]
    assert (np.array(p) < 0.05).mean() == pytest.approx(0.05, abs=0.04)


def test_holm_by_hand() -> None:
    adjusted = holm([0.01, 0.04, 0.03, 0.005])  # example of Holm's procedure: 4, 3, 2 and 1 times
    assert adjusted == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.6]) == [1.0, 1.0]
    assert holm([]) == []
    with_gap = holm([0.02, float("nan"), 0.03])
    assert with_gap[::2] == pytest.approx([0.04, 0.04])
    assert np.isnan(with_gap[1])


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(ValueError, match="no interval: 4 groups, at least 5"):
        GroupResamples(4)
    with pytest.raises(ValueError, match="resample"):
        GroupResamples(5, n=0)
    with pytest.raises(ValueError, match="6 groups: 5 are expected"):
        GroupResamples(5).means(data(normal(1, 6)))
    with pytest.raises(ValueError, match="level"):
        percentile_interval(np.zeros((3, 1)), 95)
    with pytest.raises(ValueError, match="do not fit"):
        GroupSums(np.zeros((1, 2, 3)), np.zeros((1, 2, 2)))
    with pytest.raises(ValueError, match="do not fit"):
        group_sums(np.zeros((1, 3, 1)), np.zeros((1, 3, 1)), np.zeros(2))
    with pytest.raises(ValueError, match="NaN"):
        group_sums(np.full((1, 3, 1), np.nan), np.ones((1, 3, 1)), np.zeros(3))


def test_two_thousand_resamples_of_fourteen_models_take_less_than_ten_seconds() -> None:
    values = np.random.default_rng(0).standard_normal((5, 140, 60))
    models = [GroupSums(values + shift, np.ones_like(values)) for shift in range(14)]
    start = time.perf_counter()
    resamples = GroupResamples(140)
    for model in models:
        percentile_interval(resamples.means(model))
    assert time.perf_counter() - start < 10
