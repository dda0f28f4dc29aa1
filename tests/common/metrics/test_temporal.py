import itertools
import math
import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from common.metrics.temporal import (
    EditScore,
    SegmentF1,
    concatenated_segment_f1,
    edit_score,
    f1_of_counts,
    levenshtein,
    segment_counts,
    segments,
)


def digits(text: str) -> NDArray[np.int64]:
    return np.array([int(digit) for digit in text])


def spelled(text: str) -> NDArray[np.int64]:
    """Return labels from runs such as `0x20 1x10`."""
    runs = [run.split("x") for run in text.split()]
    return np.concatenate([np.full(int(length), int(label)) for label, length in runs])


TRUE, P, Q = digits("0011102201"), digits("0111002001"), digits("0010102220")
BOUTS = spelled("0x20 1x10 0x20 2x30 0x10 4x10")
FOUND = spelled("0x24 1x8 0x18 2x12 0x6 2x10 0x12 4x10")


def counted(prediction: NDArray[np.int64], target: NDArray[np.int64], threshold: float) -> list[int]:
    counts = segment_counts(segments(prediction), segments(target), num_classes=5, thresholds=(threshold,))
    return counts[0].sum(0).tolist()


def reference(
    prediction: NDArray[np.int64], target: NDArray[np.int64], threshold: float, background: tuple[int, ...]
) -> list[int]:
    """Return hits, extra and missed segments as the code published with Farha and Gall 2019 counts them.

    Its last segment ends one step early; a step of background appended to both sequences gives it the end it
    should have.
    """

    def runs(labels: list[int]) -> list[tuple[int, int, int]]:
        found, start = [], 0
        for step in range(1, len(labels) + 1):
            if step == len(labels) or labels[step] != labels[start]:
                if labels[start] not in background:
                    found.append((labels[start], start, step))
                start = step
        return found

    predicted, true = runs(prediction.tolist()), runs(target.tolist())
    hits, extra, free = 0, 0, [True] * len(true)
    for label, start, stop in predicted:
        overlap = [
            max(0, min(stop, e) - max(start, s)) / (max(stop, e) - min(start, s)) * (label == other)
            for other, s, e in true
        ]
        best = int(np.argmax(overlap)) if overlap else 0
        if overlap and overlap[best] >= threshold and free[best]:
            hits, free[best] = hits + 1, False
        else:
            extra += 1
    return [hits, extra, sum(free)]


def test_golden_f1() -> None:
    metric = SegmentF1(3, thresholds=(0.3, 0.5, 0.75))
    metric.update(P, TRUE)
    np.testing.assert_allclose(metric.compute().f1[1:], [1, 1 / 3], atol=5e-7)
    other = SegmentF1(3, thresholds=(0.3, 0.5, 0.75))
    other.update(Q, TRUE)
    np.testing.assert_allclose(other.compute().f1[:2], [2 / 3, 1 / 3], atol=5e-7)
    metric.merge(other)
    assert metric.compute().at(0.5) == pytest.approx(2 / 3, abs=5e-7)


def test_golden_edit_score() -> None:
    scores = []
    for prediction in (P, Q):
        metric = EditScore(3)
        metric.update(prediction, TRUE)
        scores.append(metric.compute())
    assert scores == [100, pytest.approx(100 / 3, abs=5e-7)]
    metric.update(P, TRUE)
    assert metric.compute() == pytest.approx(200 / 3)


@pytest.mark.parametrize(
    ("threshold", "expected", "f1"),
    [
        (0.1, [3, 1, 0], 0.857143),
        (0.25, [3, 1, 0], 0.857143),
        (0.3, [3, 1, 0], 0.857143),
        (0.5, [2, 2, 1], 0.571429),
    ],
)
def test_golden_bouts(threshold: float, expected: list[int], f1: float) -> None:
    assert counted(FOUND, BOUTS, threshold) == expected
    assert f1_of_counts(np.array(expected)) == pytest.approx(f1, abs=5e-7)
    assert edit_score(segments(FOUND).label, segments(BOUTS).label) == 75


def test_golden_edge_cases() -> None:
    assert counted(spelled("0x7 1x3"), spelled("1x10"), 0.3) == [1, 0, 0]
    assert counted(spelled("0x8 1x2"), spelled("1x10"), 0.3) == [0, 1, 1]
    assert counted(spelled("1x3 0x7"), spelled("1x10"), 0.3) == [1, 0, 0]
    assert counted(spelled("0x5 1x20 0x5"), spelled("0x5 1x12 0x2 1x6 0x5"), 0.1) == [1, 0, 1]
    assert counted(spelled("0x9 2x1"), spelled("0x9 2x1"), 0.5) == [1, 0, 0]
    rest = np.zeros(100, dtype=np.int64)
    metric, edit = SegmentF1(5), EditScore(5)
    metric.update(rest, BOUTS)
    edit.update(rest, BOUTS)
    assert metric.compute().f1.tolist() == [0, 0, 0, 0]
    assert edit.compute() == 0


def test_intersection_over_union_of_exactly_the_threshold_is_a_hit() -> None:
    for share, length in itertools.product(range(1, 10), (10, 30, 70, 110)):
        inside = spelled(f"1x{share * length // 10} 0x{length - share * length // 10}")
        whole = np.ones(length, dtype=np.int64)
        assert counted(inside, whole, share / 10) == [1, 0, 0], (share, length)
        assert counted(inside, whole, np.nextafter(share / 10, 1)) == [0, 1, 1]


def test_runs_by_hand() -> None:
    found = segments(digits("0011102201"))
    assert [list(part) for part in found] == [[1, 2, 1], [2, 6, 9], [5, 8, 10]]
    every = segments(torch.tensor([3, 3, 0]), background=())
    assert [list(part) for part in every] == [[3, 0], [0, 2], [2, 3]]
    assert len(segments(digits("0000")).label) == 0
    assert segments(digits("1102"), background=(1, 2)).label.tolist() == [0]


def test_steps_that_do_not_count_cut_a_run() -> None:
    valid = np.array([1, 1, 0, 1, 1, 1], dtype=bool)
    found = segments(digits("111110"), valid=valid)
    assert [list(part) for part in found] == [[1, 1], [0, 3], [2, 5]]
    metric = SegmentF1(2, thresholds=(0.5,), ignore_index=-1)
    metric.update(digits("111110"), np.array([1, 1, -1, 1, 1, 0]))
    assert metric.compute().counts.tolist() == [[[0, 0, 0], [2, 0, 0]]]
    by_mask = SegmentF1(2, thresholds=(0.5,), ignore_index=-1)
    by_mask.update(digits("119110"), digits("110110"), valid)
    assert torch.equal(by_mask.states()[0], metric.states()[0])


def test_the_legacy_end_is_one_step_short() -> None:
    assert segments(digits("0110"), legacy_end=True).stop.tolist() == [3]
    assert segments(digits("0111"), legacy_end=True).stop.tolist() == [3]
    valid = np.array([1, 1, 1, 0, 1], dtype=bool)
    assert segments(digits("01111"), valid=valid, legacy_end=True).stop.tolist() == [2, 4]
    last = segments(digits("0001"), legacy_end=True)
    assert (last.start.tolist(), last.stop.tolist()) == ([3], [3])
    for legacy, expected in ((False, [[0, 0, 0], [1, 0, 0]]), (True, [[0, 0, 0], [0, 1, 1]])):
        metric = SegmentF1(2, thresholds=(0.5,), legacy_end=legacy)
        metric.update(digits("0001"), digits("0001"))
        assert metric.compute().counts.tolist() == [expected]


def test_best_takes_no_second_best_and_first_takes_the_first_that_fits() -> None:
    target, prediction = spelled("1x4 0x2 1x8 0x6"), spelled("1x14 0x6")
    counts = {}
    for match in ("best", "first"):
        metric = SegmentF1(2, thresholds=(0.2,), match=match)
        metric.update(prediction, target)
        metric.update(spelled("1x4 0x2 1x3 0x1 1x3 0x7"), spelled("1x4 0x2 1x7 0x7"))
        counts[match] = metric.compute().counts[0, 1].tolist()
    assert counts["best"] == counts["first"] == [3, 1, 1]
    found, true = segments(spelled("0x2 1x7 0x1 1x5")), segments(spelled("1x3 0x1 1x11"))
    best = segment_counts(found, true, num_classes=2, thresholds=(0.1,), match="best")
    first = segment_counts(found, true, num_classes=2, thresholds=(0.1,), match="first")
    assert best[0, 1].tolist() == [1, 1, 1]
    assert first[0, 1].tolist() == [2, 0, 0]


def test_a_truth_without_foreground_makes_every_prediction_wrong() -> None:
    metric, edit = SegmentF1(3, thresholds=(0.3,)), EditScore(3)
    metric.update(digits("0120"), digits("0000"))
    edit.update(digits("0120"), digits("0000"))
    report = metric.compute()
    assert report.counts[0].sum(0).tolist() == [0, 2, 0]
    assert report.f1.tolist() == [0]
    assert edit.compute() == 0
    edit.reset()
    edit.update(digits("0000"), digits("0000"))
    assert edit.compute() == 100


def test_nothing_to_judge_is_undefined() -> None:
    metric, edit = SegmentF1(3, ignore_index=-1), EditScore(3, ignore_index=-1)
    assert np.isnan(metric.compute().f1).all()
    assert math.isnan(edit.compute())
    metric.update(digits("0000"), digits("0000"))
    unknown = np.full(4, -1)
    metric.update(digits("0120"), unknown)
    edit.update(digits("0120"), unknown)
    assert np.isnan(metric.compute().f1).all()
    assert math.isnan(edit.compute())


@pytest.mark.parametrize("seed", range(100))
def test_counts_equal_the_published_code(seed: int) -> None:
    generator = np.random.default_rng(seed)
    classes, steps = int(generator.integers(2, 5)), int(generator.integers(1, 60))
    target = np.repeat(generator.integers(0, classes, steps), generator.integers(1, 6, steps))[:steps]
    noise = np.repeat(generator.integers(0, classes, steps), generator.integers(1, 4, steps))[:steps]
    prediction = np.where(generator.random(steps) < 0.8, target, noise)
    for background in ((0,), (), (0, 1)):
        metric = SegmentF1(classes, thresholds=(0.1, 0.3, 0.5, 0.9), background=background)
        metric.update(prediction, torch.from_numpy(target))
        report = metric.compute()
        for threshold, counts in zip(report.thresholds, report.counts):
            assert counts.sum(0).tolist() == reference(prediction, target, threshold, background)
    for label in range(1, classes):
        alone = SegmentF1(classes)
        others = [other for other in range(classes) if other != label]
        alone = SegmentF1(classes, background=others)
        alone.update(prediction, target)
        whole = SegmentF1(classes)
        whole.update(prediction, target)
        np.testing.assert_array_equal(alone.compute().class_f1[:, label], whole.compute().class_f1[:, label])


@pytest.mark.parametrize("seed", range(20))
def test_any_split_merge_sum_and_reload_give_the_same(seed: int) -> None:
    generator = np.random.default_rng(seed)
    pairs = [tuple(generator.integers(0, 3, (2, n))) for n in generator.integers(1, 30, 7)]
    for make in (lambda: SegmentF1(3), lambda: EditScore(3)):
        whole, first, second = make(), make(), make()
        for index, pair in enumerate(pairs):
            whole.update(*pair)
            (first if index % 3 else second).update(*pair)
        reloaded = make()
        reloaded.load_state_dict(pickle.loads(pickle.dumps(first.state_dict())))
        for state, other in zip(reloaded.states(), second.states()):
            state.add_(other)
        first.merge(second)
        for summed in (first, reloaded):
            for state, expected in zip(summed.states(), whole.states()):
                torch.testing.assert_close(state, expected, rtol=1e-12, atol=0)
        reloaded.all_reduce()
        reloaded.reset()
        assert not any(state.any() for state in reloaded.states())


def test_other_settings_cannot_be_merged() -> None:
    for other in (SegmentF1(4), SegmentF1(3, thresholds=(0.5,)), SegmentF1(3, background=())):
        with pytest.raises(ValueError, match="settings differ"):
            SegmentF1(3).merge(other)
        with pytest.raises(ValueError, match="settings differ"):
            SegmentF1(3).load_state_dict(other.state_dict())


def test_older_logs_counted_rest_over_all_sequences() -> None:
    prediction, target = [digits("0000"), digits("0011")], [digits("0110"), digits("0011")]
    assert concatenated_segment_f1(prediction, target, threshold=0.3) == pytest.approx(4 / 6)
    frequent = concatenated_segment_f1([digits("0000000000")], [digits("0000011000")], threshold=0.3)
    assert frequent == pytest.approx(2 / 4)
    assert concatenated_segment_f1([digits("0001")], [digits("0001")]) == 1
    assert concatenated_segment_f1([digits("0001")], [digits("0001")], legacy_end=True) == 0.5
    with pytest.raises(ValueError, match="2 predictions and 1 targets"):
        concatenated_segment_f1(prediction, target[:1])
    with pytest.raises(ValueError, match=r"prediction is \[3\] but target is \[4\]"):
        concatenated_segment_f1([digits("000")], [digits("0000")])


@settings(max_examples=100)
@given(a=st.text("abc", max_size=8), b=st.text("abc", max_size=8))
def test_levenshtein_equals_the_recursion(a: str, b: str) -> None:
    def distance(i: int, j: int) -> int:
        if i == 0 or j == 0:
            return i + j
        same = table[i - 1][j - 1] + (a[i - 1] != b[j - 1])
        return min(same, table[i - 1][j] + 1, table[i][j - 1] + 1)

    table = [[0] * (len(b) + 1) for _ in range(len(a) + 1)]
    for i in range(len(a) + 1):
        for j in range(len(b) + 1):
            table[i][j] = distance(i, j)
    assert levenshtein(np.array(list(a)), np.array(list(b))) == table[-1][-1]
    assert edit_score([], []) == 100


def test_long_sequences_take_little_memory_and_time() -> None:
    generator = np.random.default_rng(0)
    metric = SegmentF1(6)
    metric.update(generator.integers(0, 6, 50_000), generator.integers(0, 6, 50_000))
    assert metric.compute().f1[0] > 0


def test_bad_input_is_named() -> None:
    metric = SegmentF1(3)
    with pytest.raises(ValueError, match=r"labels are \[0\]: \[T\] with at least one step"):
        metric.update(digits(""), np.zeros(0, dtype=np.int64))
    with pytest.raises(ValueError, match=r"prediction is \[4\] but target is \[3\]"):
        metric.update(digits("0000"), digits("000"))
    with pytest.raises(ValueError, match=r"label 7 at step 2 is not in 0\.\.2"):
        EditScore(3).update(digits("0071"), digits("0000"))
    with pytest.raises(ValueError, match=r"label -1 at step 1"):
        metric.update(digits("0000"), np.array([0, -1, 0, 0]))
    with pytest.raises(ValueError, match="integer class ids"):
        metric.update(np.zeros(3), np.zeros(3))
    with pytest.raises(ValueError, match="valid is"):
        metric.update(digits("000"), digits("000"), np.ones(2, dtype=bool))
    for threshold in (0.0, 1.5, float("nan")):
        with pytest.raises(ValueError, match="threshold is"):
            SegmentF1(3, thresholds=(threshold,))
    with pytest.raises(ValueError, match="match is 'greedy': one of best, first"):
        SegmentF1(3, match="greedy")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="background holds 3"):
        EditScore(3, background=(3,))
    with pytest.raises(ValueError, match="num_classes"):
        SegmentF1(0)
    with pytest.raises(ValueError, match="not in tuple"):
        metric.compute().at(0.4)
