"""Draws with replacement: exact probabilities, histograms that follow them, streams that can be resumed."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import chisquare

from common.balancing.weighted_samplers import (
    Cells,
    FactorSchedule,
    MixtureSampler,
    OversampleSampler,
    RecallSampler,
    WeightedSampler,
    joint_labels,
)
from common.balancing.weights import water_filling
from common.engine.randomness import SampleKey
from common.statistics import ClassStatistics

NONE = -100
SEVERITY = [1402, 403, 687, 44, 27]
LONG_TAIL = [5000, 500, 50]

Make = Callable[..., WeightedSampler]


def labels_of(counts: list[int], unlabelled: int = 0, seed: int = 0) -> np.ndarray:
    labels = np.concatenate([np.repeat(np.arange(len(counts)), counts), np.full(unlabelled, NONE)])
    return np.random.default_rng(seed).permutation(labels)


def shares(sampler: WeightedSampler, labels: np.ndarray, epoch: int = 0) -> np.ndarray:
    drawn = sampler.presented_counts(labels, labels.max() + 1, epoch)
    return np.asarray(drawn / drawn.sum())


def oversample(labels: list[np.ndarray], factor: float = 4.0, **place: Any) -> OversampleSampler:
    return OversampleSampler(labels, factor=FactorSchedule(start=factor, end=factor), **{"seed": 0} | place)


def mixture(labels: list[np.ndarray], **place: Any) -> MixtureSampler:
    return MixtureSampler(labels, **{"seed": 0} | place)


def recall(labels: list[np.ndarray], **place: Any) -> RecallSampler:
    sampler = RecallSampler(labels[0], int(labels[0].max()) + 1, **{"seed": 0} | place)
    sampler.observe(np.linspace(0.9, 0.05, int(labels[0].max()) + 1))
    return sampler


KINDS: list[Make] = [oversample, mixture, recall]


def test_golden_factors_and_shares() -> None:
    severity = labels_of(SEVERITY, 353)
    sampler = oversample([severity])
    np.testing.assert_allclose(sampler.class_factors(0, 0), [1, 3.4789, 2.0408, 4, 4], atol=5e-5)
    np.testing.assert_allclose(shares(sampler, severity), [0.3122, 0.3122, 0.3122, 0.0392, 0.0241], atol=5e-5)


@pytest.mark.parametrize(
    ("make", "setting", "expected"),
    [
        (oversample, {"factor": 4.0}, [0.694444, 0.277778, 0.027778]),
        (oversample, {"factor": 3.0}, [0.751880, 0.225564, 0.022556]),
        (oversample, {"factor": 1.0}, [5000 / 5550, 500 / 5550, 50 / 5550]),
        (oversample, {"factor": np.inf}, [1 / 3] * 3),
        (mixture, {"power": 0.5}, [0.706101, 0.223289, 0.070610]),
        (mixture, {"power": 0.0}, [1 / 3] * 3),
        (mixture, {"power": 1.0}, [5000 / 5550, 500 / 5550, 50 / 5550]),
    ],
)
def test_golden_class_shares(make: Make, setting: dict[str, float], expected: list[float]) -> None:
    labels = labels_of(LONG_TAIL)
    np.testing.assert_allclose(shares(make([labels], **setting), labels), expected, atol=5e-7)


@pytest.mark.parametrize(
    ("schedule", "factors"),
    [
        (FactorSchedule(start=1.5, end=3.0, epochs=15), {0: 1.5, 1: 1.6, 5: 2, 10: 2.5, 15: 3, 30: 3}),
        (FactorSchedule(start=1.5, end=6.0, epochs=15), {5: 3.0, 15: 6.0}),
        (FactorSchedule(start=np.inf, end=np.inf), {0: np.inf, 3: np.inf}),
    ],
)
def test_the_factor_grows_with_the_epoch(schedule: FactorSchedule, factors: dict[int, float]) -> None:
    assert {epoch: schedule.at(epoch) for epoch in factors} == pytest.approx(factors)
    labels = labels_of(LONG_TAIL)
    sampler = OversampleSampler([labels], factor=schedule, seed=0)
    for epoch, factor in factors.items():
        np.testing.assert_allclose(
            shares(sampler, labels, epoch), shares(oversample([labels], factor), labels)
        )


def test_probabilities_of_two_label_sets_by_hand() -> None:
    first = np.array([0, 0, 0, 0, 1, 1, NONE, NONE])
    second = np.array([0, 1, 1, NONE, 0, NONE, 0, NONE])
    # factors: first 1, 2; second 1 (three samples), 1.5 (two); the larger one of a sample counts
    each = np.array([1, 1.5, 1.5, 1, 2, 2, 1, 1])
    np.testing.assert_allclose(oversample([first, second]).probabilities(), each / each.sum())
    # mean over the sets of 1 / (2 classes x their samples); the last one as the least likely
    each = np.array([1 / 8 + 1 / 6, 1 / 8 + 1 / 4, 1 / 8 + 1 / 4, 1 / 8, 1 / 4 + 1 / 6, 1 / 4, 1 / 6, 1 / 8])
    np.testing.assert_allclose(mixture([first, second]).probabilities(), each / each.sum())


def test_joint_cells_are_balanced() -> None:
    first = np.array([0, 0, 0, 1, 1, 1, NONE])
    second = np.array([2, 2, 5, 5, 5, NONE, 2])
    joint = joint_labels([first, second])
    assert joint.tolist() == [0, 0, 1, 2, 2, NONE, NONE]
    each = np.array([2, 2, 4, 2, 2, 2, 2])
    np.testing.assert_allclose(mixture([joint]).probabilities(), each / each.sum())


def test_recalls_become_weights() -> None:
    labels = np.array([0, 0, 1, 2, 3, NONE])
    sampler = RecallSampler(labels, 4, power=2.0, seed=0)
    np.testing.assert_allclose(sampler.probabilities(), np.full(6, 1 / 6))
    sampler.observe([1.0, 0.5, 0.0, np.nan])
    assert sampler.class_weights().tolist() == [1, 4, 10, 1]
    sampler.observe([0.0, 0.5, 1.0, 0.8])
    np.testing.assert_allclose(sampler.recall, [0.9, 0.5, 0.1, 0.8])
    each = np.array([0.9**-2, 0.9**-2, 4, 10, 0.8**-2, 0.9**-2])
    np.testing.assert_allclose(sampler.probabilities(), each / each.sum())
    floor = RecallSampler(labels, 4, power=-5.0, seed=0)
    floor.observe([0.1, 0, 1, 1])
    assert floor.class_weights().tolist() == [0.1, 0.1, 1, 1]
    for bad in ([1, 1, 1], [1.1, 0, 0, 0]):
        with pytest.raises(ValueError, match="recall must be 4 numbers"):
            sampler.observe(bad)
    with pytest.raises(ValueError, match="there are 3 classes"):
        RecallSampler(labels, 3, seed=0)


@pytest.mark.parametrize("make", KINDS)
def test_no_sample_is_drawn_more_often_than_the_cap(make: Make) -> None:
    labels = labels_of([900, 90, 9, 1])
    free, capped = make([labels]).probabilities(), make([labels], max_repeat=1.7).probabilities()
    assert free.max() * 1000 > 1.7
    assert capped.max() * 1000 == pytest.approx(1.7)
    assert capped.sum() == pytest.approx(1)
    below = capped * 1000 < 1.7 - 1e-9
    ratio = capped[below] / free[below]
    np.testing.assert_allclose(ratio, ratio[0])
    np.testing.assert_allclose(make([labels], max_repeat=1).probabilities(), np.full(1000, 1e-3))
    with pytest.raises(ValueError, match=r"max_repeat is 0\.5"):
        make([labels], max_repeat=0.5)


SIZED = st.lists(st.tuples(st.floats(0, 1e6), st.integers(1, 10**6)), min_size=1, max_size=9)


@given(SIZED, st.floats(0.05, 1))
def test_water_filling_is_the_root_of_its_equation(cells: list[tuple[float, int]], need: float) -> None:
    values, sizes = np.array(cells, dtype=np.float64).T
    room = sizes[values > 0].sum()
    if room == 0 or values[values > 0].min() < 1e-6:
        return
    cap = 2.0
    found = water_filling(values, sizes, cap=cap, total=need * cap * room)
    assert (found <= cap).all()
    assert (found[values == 0] == 0).all()
    assert sizes @ found == pytest.approx(need * cap * room, rel=1e-9)
    below = (found > 0) & (found < cap * (1 - 1e-9))
    scale = found[below] / values[below]
    if len(scale):
        np.testing.assert_allclose(scale, scale[0], rtol=1e-9)
        assert (values[~below & (values > 0)] * scale[0] >= cap * (1 - 1e-6)).all()


def test_water_that_does_not_fit_is_refused() -> None:
    assert water_filling([1, 0], [1, 3], cap=5, total=5).tolist() == [5, 0]
    with pytest.raises(ValueError, match="cap is 5"):
        water_filling([1, 0], [1, 3], cap=5, total=5.1)


@pytest.mark.parametrize("make", KINDS)
def test_two_hundred_thousand_draws_follow_the_probabilities(make: Make) -> None:
    first, second = labels_of([120, 30, 9, 1], 20), labels_of([100, 50, 6], 24, seed=1)
    sampler = make([first, second], max_repeat=12, seed=3)
    blocks = [sampler._block(epoch, number) for epoch in range(2) for number in range(2)]
    drawn = np.concatenate(blocks)[:200_000]
    expected = sampler.probabilities(0)
    assert chisquare(np.bincount(drawn, minlength=180), expected * len(drawn)).pvalue > 1e-4
    for labels in (first, second):
        known = labels >= 0
        rate = np.bincount(labels[known], expected[known])
        seen = np.bincount(labels[drawn][labels[drawn] >= 0])
        assert chisquare(seen, rate / rate.sum() * seen.sum()).pvalue > 1e-4


def epoch_of(sampler: WeightedSampler, epoch: int) -> list[SampleKey]:
    sampler.set_epoch(epoch)
    return list(sampler)


LABELS = [np.array([0, 0, 0, 0, 0, 1, 1, 2, NONE, 0, 0]), np.array([0, 1] * 5 + [NONE])]


@pytest.mark.parametrize("make", KINDS)
@pytest.mark.parametrize("world", [1, 2, 4])
def test_ranks_share_one_stream_that_resumes_anywhere(make: Make, world: int) -> None:
    whole = epoch_of(make(LABELS), 2)
    assert [key.draw for key in whole] == list(range(11))
    assert {key.epoch for key in whole} == {2}
    assert epoch_of(make(LABELS), 3) != whole
    assert epoch_of(make(LABELS, seed=1), 2) != whole
    for position in range(12):
        parts = []
        for rank in range(world):
            sampler = make(LABELS, rank=rank, world=world)
            sampler.load_state_dict(make(LABELS).state_dict() | {"epoch": 2, "position": position})
            parts.append(list(sampler))
        assert len({len(part) for part in parts}) == 1
        union = [key for row in itertools.zip_longest(*parts) for key in row]
        assert union[: 11 - position] == whole[position:]
        assert [key.draw for key in union] == list(range(position, position + len(union)))


def test_draws_are_with_replacement() -> None:
    labels = labels_of([990, 10])
    times = np.bincount([key.index for key in epoch_of(mixture([labels]), 0)], minlength=1000)
    assert times[labels == 1].min() > 20
    assert times.sum() == 1000


@pytest.mark.parametrize(
    "other",
    [
        oversample(LABELS, 3.0),
        oversample(LABELS[:1]),
        oversample(LABELS, max_repeat=3),
        oversample([LABELS[0][::-1], LABELS[1]]),
        oversample(LABELS, seed=1),
        mixture(LABELS),
    ],
)
def test_the_state_of_another_stream_is_refused(other: WeightedSampler) -> None:
    oversample(LABELS).load_state_dict(oversample(LABELS).state_dict())
    with pytest.raises(ValueError, match="its position means nothing here"):
        oversample(LABELS).load_state_dict(other.state_dict())


def test_the_state_of_a_recall_sampler_holds_what_it_observed() -> None:
    sampler = RecallSampler(LABELS[0], 3, seed=0)
    sampler.observe([0.2, np.nan, 0.9])
    state = sampler.state_dict()
    assert state["recall"] == [0.2, None, 0.9]
    other = RecallSampler(LABELS[0], 3, seed=0)
    before = other.probabilities()
    other.load_state_dict(state)
    np.testing.assert_array_equal(other.probabilities(), sampler.probabilities())
    assert not np.allclose(before, other.probabilities())


def test_presented_shares_come_from_the_labels_of_each_sample() -> None:
    labels = labels_of([30, 8, 2])
    sampler = oversample([labels])
    statistics = ClassStatistics.from_groups(labels[:, None], 3)
    np.testing.assert_allclose(sampler.presented(statistics), shares(sampler, labels))
    bags = np.stack([labels == 0, 2 * (labels == 1) + (labels == 0)], axis=1).astype(np.int64)
    groups = ClassStatistics.from_counts(bags.sum(axis=0), group_counts=bags)
    expected = sampler.probabilities() @ bags
    np.testing.assert_allclose(sampler.presented(groups), expected / expected.sum())
    with pytest.raises(ValueError, match="group_counts of 40 samples"):
        sampler.presented(ClassStatistics.from_counts([30, 8, 2]))


def test_single_samples_empty_classes_and_one_class() -> None:
    gap = np.array([0, 0, 0, 3])
    np.testing.assert_allclose(shares(mixture([gap]), gap), [0.5, 0, 0, 0.5])
    np.testing.assert_allclose(shares(oversample([gap], 2.0), gap), [0.6, 0, 0, 0.4])
    np.testing.assert_allclose(mixture([np.zeros(5, dtype=int)]).probabilities(), np.full(5, 0.2))
    assert epoch_of(mixture([np.array([7])]), 0) == [SampleKey(0, 0, 0)]


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        ([], "sets of one length"),
        ([[0, 1], [0]], "sets of one length"),
        ([[0.5, 1.0]], "integers"),
        ([[0, -1]], r"labels\[0\] holds -1"),
        ([[0, 1], [0, 5000]], r"labels\[1\] holds 5000"),
        ([[0, 1], [NONE, NONE]], r"labels\[1\]: no sample has a label"),
    ],
)
def test_bad_labels_are_named(labels: list[list[int]], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        Cells.of([np.array(column) for column in labels])


@pytest.mark.parametrize("bad", [{"start": 0.5}, {"start": 5.0}, {"epochs": 0}])
def test_bad_schedules_are_named(bad: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"factor goes from|epochs is 0"):
        FactorSchedule(**bad)


def test_many_samples_are_drawn_by_cells_and_not_one_by_one() -> None:
    labels = labels_of([280_000, 119_000, 999, 1])
    sampler = oversample([labels], max_repeat=20)
    assert len(sampler.cells.sizes) == 4
    begin = time.process_time()
    drawn = np.concatenate([sampler._block(0, number) for number in range(7)])
    assert time.process_time() - begin < 1  # a search among that many sums takes many times as long
    assert len(np.unique(drawn)) > 200_000
    assert drawn.max() < 400_000
