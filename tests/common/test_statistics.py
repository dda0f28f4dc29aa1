"""ClassStatistics against hand counts, NumPy and closed forms."""

from __future__ import annotations

import json
import logging
import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from common.statistics import ClassStatistics, count_labels

UAV = [3343002, 758065856, 225910153, 212680989]


def grouped(rows: list[list[int]]) -> ClassStatistics:
    return ClassStatistics.from_counts(np.sum(rows, axis=0), group_counts=rows)


def test_shares_and_ratio_of_the_golden_counts() -> None:
    statistics = ClassStatistics.from_counts(UAV, unit="pixel")
    assert statistics.support == 1_200_000_000
    np.testing.assert_allclose(100 * statistics.prior, [0.2786, 63.1722, 18.8258, 17.7234], atol=5e-5)
    assert statistics.ratio == pytest.approx(226.762, abs=5e-4)
    assert (statistics.majority, statistics.minority) == (1, 0)


def test_absent_classes_have_no_share_and_are_never_the_minority() -> None:
    statistics = ClassStatistics.from_counts([6, 0, 2, 2])
    assert statistics.present.tolist() == [True, False, True, True]
    assert statistics.prior.tolist() == [0.6, 0, 0.2, 0.2]
    assert (statistics.majority, statistics.minority, statistics.ratio) == (0, 2, 3)


def test_one_present_class_has_ratio_one_and_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    statistics = ClassStatistics.from_counts([0, 5], names=["a", "b"])
    with caplog.at_level(logging.WARNING):
        assert statistics.ratio == 1
    assert "only class 1 (b) is present" in caplog.text


@pytest.mark.parametrize("member", ["present", "prior", "ratio", "majority", "minority"])
def test_no_present_class_is_an_error(member: str) -> None:
    with pytest.raises(ValueError, match="counts are all 0"):
        getattr(ClassStatistics.from_counts([0, 0]), member)


def test_totals_are_exact_beyond_float_precision() -> None:
    statistics = ClassStatistics.from_counts([2**62, 2**62 + 1, 1])
    assert statistics.support == 2**63 + 2
    merged = ClassStatistics.from_counts([2**53, 1]).merge(ClassStatistics.from_counts([1, 0]))
    assert merged.counts.tolist() == [2**53 + 1, 1]


@pytest.mark.parametrize(
    ("counts", "text"),
    [
        ([1, -2], r"counts\[1\] is -2"),
        ([1.5, 2.0], "counts is float64"),
        ([2**64, 1], "integers below 2"),
        ([], "counts has shape"),
        ([[1, 2]], "counts has shape"),
        ([2**63, 2**63], r"counts\[0\] is 9223372036854775808"),
        ([1] * 4097, "4097 classes"),
    ],
)
def test_bad_counts_are_named(counts: list[float], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        ClassStatistics.from_counts(counts)


def test_bad_fields_are_named() -> None:
    with pytest.raises(ValueError, match="names holds 1 entries for 2"):
        ClassStatistics.from_counts([1, 2], names=["a"])
    with pytest.raises(ValueError, match="unit is 'dog'"):
        ClassStatistics.from_counts([1, 2], unit="dog")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="ignored is -1"):
        ClassStatistics.from_counts([1, 2], ignored=-1)
    with pytest.raises(ValueError, match="group_counts"):
        ClassStatistics.from_counts([1, 2], group_counts=[[1, 1]])


def test_arrays_cannot_be_written() -> None:
    with pytest.raises(ValueError, match="read-only"):
        ClassStatistics.from_counts([1, 2]).counts[0] = 5


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.int64, np.uint64])
def test_labels_of_any_integer_type(dtype: type) -> None:
    labels = np.array([[0, 2, 2], [1, 255, 2]], dtype=dtype)
    statistics = ClassStatistics.from_labels(labels, 4, 255)
    assert statistics.counts.tolist() == [1, 1, 3, 0]
    assert statistics.ignored == 1


def test_labels_may_be_a_tensor_with_negative_ignore_index() -> None:
    statistics = ClassStatistics.from_labels(torch.tensor([0, -100, 1, 1]), 2)
    assert (statistics.counts.tolist(), statistics.ignored) == ([1, 2], 1)


def test_ignore_index_may_be_a_class() -> None:
    statistics = ClassStatistics.from_labels(np.array([0, 0, 1, 2]), 3, 0)
    assert (statistics.counts.tolist(), statistics.ignored) == ([0, 1, 1], 2)


def test_groups_are_counted_one_by_one() -> None:
    groups = [np.array([0, 0, 1]), np.zeros(0, dtype=np.int64), np.array([[2, 255], [0, 0]])]
    statistics = ClassStatistics.from_groups(iter(groups), 3, 255)
    assert statistics.group_counts is not None
    assert statistics.group_counts.tolist() == [[2, 1, 0], [0, 0, 0], [2, 0, 1]]
    assert (statistics.counts.tolist(), statistics.ignored) == ([4, 1, 1], 1)
    assert statistics.presence_counts.tolist() == [2, 1, 1]


def test_a_label_outside_names_group_value_and_number() -> None:
    groups = [np.array([0, 1]), np.array([0, 7, 7, 9, 255])]
    text = r"group 1: label 7 \(2 times\), 9 \(1 times\) is outside 0\.\.3 and not ignore_index 255"
    with pytest.raises(ValueError, match=text):
        ClassStatistics.from_groups(groups, 4, 255)
    with pytest.raises(ValueError, match=r"labels: label -1 \(1 times\)"):
        ClassStatistics.from_labels(np.array([0, -1, 2**40]), 4)


def test_float_labels_and_no_groups_are_refused() -> None:
    with pytest.raises(ValueError, match="labels are float64"):
        ClassStatistics.from_labels(np.array([0.0, 1.0]), 2)
    with pytest.raises(ValueError, match="groups is empty"):
        ClassStatistics.from_groups([], 2)
    with pytest.raises(ValueError, match="needs group_counts"):
        _ = ClassStatistics.from_counts([1, 2]).presence_counts


@given(st.lists(st.integers(-3, 400_000), max_size=50))
def test_counting_equals_a_python_loop(labels: list[int]) -> None:
    allowed = [label for label in labels if label == -3 or 0 <= label < 300_000]
    counts, ignored = count_labels(np.array(allowed, dtype=np.int64), 300_000, -3)
    assert ignored == allowed.count(-3)
    assert all(counts[label] == allowed.count(label) for label in allowed if label >= 0)
    assert counts.sum() + ignored == len(allowed)


def test_merge_adds_counts_ignored_and_groups() -> None:
    whole = ClassStatistics.from_groups([np.array([0, 1]), np.array([1, 9])], 2, 9)
    parts = [ClassStatistics.from_groups([g], 2, 9) for g in ([0, 1], [1, 9])]
    assert ClassStatistics.merge(*parts) == whole


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"names": ["a", "c"]}, "different names"),
        ({"unit": "pixel"}, "different unit"),
        ({"split": "valid"}, "different split"),
        ({"group_counts": [[1, 2]]}, "one side"),
    ],
)
def test_merge_refuses_what_does_not_fit(change: dict[str, object], text: str) -> None:
    first = ClassStatistics.from_counts([1, 2], names=["a", "b"])
    second = ClassStatistics.from_counts([1, 2], **({"names": ["a", "b"]} | change))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=text):
        first.merge(second)
    with pytest.raises(ValueError, match="different num_classes"):
        first.merge(ClassStatistics.from_counts([1, 2, 3]))


def test_all_reduce_without_a_process_group_changes_nothing() -> None:
    statistics = grouped([[1, 2]])
    assert statistics.all_reduce() is statistics


def test_all_reduce_merges_what_the_ranks_hold(monkeypatch: pytest.MonkeyPatch) -> None:
    mine, theirs = grouped([[1, 2]]), grouped([[3, 0], [0, 4]])

    def gather(parts: list[object], own: object) -> None:
        parts[:] = [own, theirs.to_dict()]

    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    monkeypatch.setattr(torch.distributed, "all_gather_object", gather)
    assert mine.all_reduce() == grouped([[1, 2], [3, 0], [0, 4]])


def test_initial_biases_predict_the_prior() -> None:
    statistics = ClassStatistics.from_counts([60, 30, 0, 10])
    bias = statistics.bias_init()
    softmax = torch.softmax(torch.tensor(bias[[0, 1, 3]]), 0)
    np.testing.assert_allclose(softmax.numpy(), [0.6, 0.3, 0.1], atol=1e-15)
    sigmoid = statistics.bias_init("sigmoid")
    probability = torch.sigmoid(torch.tensor(sigmoid)).numpy()
    np.testing.assert_allclose(probability, [0.6, 0.3, 0.1, 0.1], atol=1e-15)
    assert bias[2] == bias[3]


def test_sigmoid_bias_of_one_cell_and_of_a_class_that_holds_everything() -> None:
    assert ClassStatistics.from_counts([1023, 1]).bias_init("sigmoid")[1] == pytest.approx(
        -6.930495, abs=5e-7
    )
    assert ClassStatistics.from_counts([8, 0]).bias_init("sigmoid")[0] == pytest.approx(math.log(16))
    with pytest.raises(ValueError, match="head is 'tanh'"):
        ClassStatistics.from_counts([1, 1]).bias_init("tanh")  # type: ignore[arg-type]


def test_bootstrap_covers_the_binomial_interval() -> None:
    rows = [[1, 0]] * 300 + [[0, 1]] * 100
    low, high = grouped(rows).bootstrap(lambda counts: counts / counts.sum(), n=2000, seed=3)
    half = 1.96 * math.sqrt(0.25 * 0.75 / 400)
    np.testing.assert_allclose(low, [0.75 - half, 0.25 - half], atol=0.005)
    np.testing.assert_allclose(high, [0.75 + half, 0.25 + half], atol=0.005)
    narrow = grouped(rows).bootstrap(lambda counts: counts / counts.sum(), n=500, level=0.5)
    assert narrow.high[0] - narrow.low[0] < 0.6 * (high[0] - low[0])


def test_bootstrap_of_equal_groups_has_no_width_and_leaves_nan_out() -> None:
    statistics = grouped([[3, 1, 0]] * 5)
    low, high = statistics.bootstrap(lambda counts: np.where(counts > 0, counts, np.nan), n=20)
    np.testing.assert_array_equal(low, [15, 5, np.nan])
    np.testing.assert_array_equal(high, low)


def test_bootstrap_needs_two_groups(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert np.isnan(grouped([[1, 2]]).bootstrap(lambda counts: counts)).all()
    assert "two groups" in caplog.text
    with pytest.raises(ValueError, match="0 < level < 1"):
        grouped([[1, 2]]).bootstrap(lambda counts: counts, level=95)


@pytest.mark.parametrize(
    ("ratio", "unit", "words"),
    [
        (5, "sample", "no balancing needed"),
        (10, "sample", "effective_number"),
        (50, "sample", "sqrt"),
        (51, "sample", "deferred weights"),
        (300, "pixel", "progressive"),
        (301, "pixel", "by segment"),
        (301, "sample", "progressive"),
        (1000, "pixel", "initial bias"),
    ],
)
def test_advice_follows_ratio_and_unit(ratio: int, unit: str, words: str) -> None:
    statistics = ClassStatistics.from_counts([ratio, 1], unit=unit)  # type: ignore[arg-type]
    ((level, text),) = statistics.advice()
    assert level == "info"
    assert words in text
    assert "balanced weights" not in text


def test_advice_names_absent_classes() -> None:
    hints = ClassStatistics.from_counts([3, 0, 0], names=["a", "b", "c"]).advice()
    assert [level for level, _ in hints] == ["warning"] * 3
    assert "class 1 (b) has no label" in hints[0][1]
    assert "nothing can be learned" in hints[2][1]


def test_round_trip_through_json_and_fingerprint() -> None:
    statistics = ClassStatistics.from_counts(
        [4, 2], names=["a", "b"], unit="frame", ignored=3, group_counts=[[1, 2], [3, 0]]
    )
    state = json.loads(json.dumps(statistics.to_dict()))
    assert ClassStatistics.from_dict(state) == statistics
    assert hash(ClassStatistics.from_dict(state)) == hash(statistics)
    for name, value in {"counts": [5, 2], "ignored": 4, "split": "valid", "unit": "pixel"}.items():
        changed = state | {name: value} | ({"group_counts": None} if name == "counts" else {})
        with pytest.raises(ValueError, match="were altered"):
            ClassStatistics.from_dict(changed)
    with pytest.raises(ValueError, match="lack ignored, unit"):
        ClassStatistics.from_dict({k: v for k, v in state.items() if k not in ("unit", "ignored")})
    with pytest.raises(ValueError, match="schema is 2"):
        ClassStatistics.from_dict(state | {"schema": 2})


def test_importing_statistics_needs_no_torch() -> None:
    import subprocess
    import sys

    code = "import sys, common.statistics; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
