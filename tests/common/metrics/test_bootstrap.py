import logging
import time

import numpy as np
import pytest
from numpy.typing import NDArray

from common.metrics import report
from common.metrics.bootstrap import bootstrap_ci


def random_groups(groups: int, classes: int, seed: int = 0) -> NDArray[np.int64]:
    generator = np.random.default_rng(seed)
    return generator.integers(0, 50, (groups, classes, classes)) + np.eye(classes, dtype=np.int64) * 100


def test_the_interval_of_a_mean_has_the_textbook_width() -> None:
    hits = np.random.default_rng(1).binomial(100, 0.7, 400)
    groups = np.zeros((400, 2, 2), dtype=np.int64)
    groups[:, 0, 0], groups[:, 0, 1] = hits, 100 - hits
    interval = bootstrap_ci(groups, report.accuracy, n=4000)
    error = (hits / 100).std() / np.sqrt(400)
    assert float(interval.value) == pytest.approx(hits.sum() / 40000)
    assert float(interval.low) == pytest.approx(float(interval.value) - 1.96 * error, abs=0.15 * error)
    assert float(interval.high) == pytest.approx(float(interval.value) + 1.96 * error, abs=0.15 * error)


def test_two_groups_have_three_resamples_whose_quantiles_are_known() -> None:
    groups = np.array([[[1, 0], [0, 0]], [[0, 1], [0, 0]]])
    interval = bootstrap_ci(groups, report.accuracy, level=0.9)
    assert [float(end) for end in interval] == [0.5, 0.0, 1.0]
    inner = bootstrap_ci(groups, report.accuracy, level=0.3)
    assert (float(inner.low), float(inner.high)) == (0.5, 0.5)


def test_the_seed_decides_and_level_widens() -> None:
    groups = random_groups(12, 3)
    first, again, other = (bootstrap_ci(groups, report.miou, seed=seed) for seed in (3, 3, 4))
    assert first == again
    assert first.low != other.low
    wide = bootstrap_ci(groups, report.miou, seed=3, level=0.99)
    assert wide.low < first.low < first.value < first.high < wide.high


def test_identical_groups_have_an_interval_of_no_width() -> None:
    groups = np.repeat(random_groups(1, 3), 8, axis=0)
    interval = bootstrap_ci(groups, report.f1, n=50)
    np.testing.assert_allclose(interval.low, interval.value, rtol=1e-12)
    np.testing.assert_allclose(interval.high, report.f1(groups[0]), rtol=1e-12)


def test_a_statistic_one_by_one_gives_the_same_as_all_at_once() -> None:
    groups = random_groups(9, 3)
    at_once = bootstrap_ci(groups, report.recall, n=200)
    one_by_one = bootstrap_ci(groups, lambda m: m.diagonal() / m.sum(1), n=200, vectorized=False)
    np.testing.assert_allclose(np.stack(at_once), np.stack(one_by_one), rtol=1e-12)


def test_resamples_without_the_class_are_left_out() -> None:
    groups = np.zeros((6, 2, 2), dtype=np.int64)
    groups[:, 0, 0] = 5
    groups[0, 1] = (1, 3)
    interval = bootstrap_ci(groups, report.recall, n=500)
    np.testing.assert_allclose(np.stack(interval)[:, 1], 0.75)
    empty = bootstrap_ci(np.zeros((3, 2, 2), dtype=np.int64), report.recall, n=20)
    assert np.isnan(np.stack(empty)).all()


def test_fewer_than_two_groups_give_nan_and_a_line(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, logger="common.metrics.bootstrap"):
        interval = bootstrap_ci(random_groups(1, 3), report.f1)
    assert np.isnan(interval.low).all()
    assert np.isnan(interval.high).all()
    assert interval.value.shape == (3,)
    assert [record.getMessage() for record in caplog.records] == [
        "no confidence interval: 1 group, resampling needs at least 2"
    ]


def test_a_statistic_that_mixes_resamples_is_refused() -> None:
    groups = random_groups(5, 4)
    with pytest.raises(ValueError, match="index from the back"):
        bootstrap_ci(groups, lambda m: m[3, 1] / m[3].sum(), n=100)
    with pytest.raises(ValueError, match="vectorized=False"):
        bootstrap_ci(groups, lambda m: m[..., 3, 1] / m.sum(), n=100)
    right = bootstrap_ci(groups, lambda m: m[..., 3, 1] / m[..., 3, :].sum(-1), n=100)
    assert right.low < right.value < right.high


def test_wrong_arguments_are_named() -> None:
    with pytest.raises(ValueError, match=r"\[G, K, K\], not shape \(3, 3\)"):
        bootstrap_ci(np.eye(3, dtype=np.int64), report.miou)
    with pytest.raises(ValueError, match="level"):
        bootstrap_ci(random_groups(3, 2), report.miou, level=95)


def test_two_thousand_resamples_of_sixty_groups_take_less_than_a_second() -> None:
    groups = random_groups(60, 4)
    start = time.perf_counter()
    bootstrap_ci(groups, report.miou)
    assert time.perf_counter() - start < 1.0
