import json
import math
import warnings

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn import metrics as sk
from torchmetrics.functional.classification import multiclass_f1_score, multiclass_jaccard_index

from common.metrics import report

KINDS = ("present", "observed", "all")


def matrix_of(true: str, predicted: str, classes: int) -> NDArray[np.int64]:
    matrix = np.zeros((classes, classes), dtype=np.int64)
    for row, column in zip(true, predicted):
        matrix[int(row), int(column)] += 1
    return matrix


G21 = matrix_of("00001122", "00031022", 5)
LANDING = np.array([[0, 0, 0, 0], [5, 80, 10, 5], [0, 12, 70, 18], [1, 4, 15, 80]])


def random_case(seed: int) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Return labels, predictions and their matrix; some classes never occur, some are never predicted."""
    generator = np.random.default_rng(seed)
    classes = int(generator.integers(2, 9))
    true = generator.choice(classes, 60, p=generator.dirichlet(np.full(classes, 0.3)))
    guess = generator.choice(classes, 60, p=generator.dirichlet(np.full(classes, 0.3)))
    predicted = np.where(generator.random(60) < 0.5, true, guess)
    return true, predicted, sk.confusion_matrix(true, predicted, labels=range(classes))


def test_golden_per_class_and_macro_f1() -> None:
    assert np.allclose(report.f1(G21), [0.75, 2 / 3, 1.0, 0.0, np.nan], atol=5e-7, equal_nan=True)
    values = [float(report.macro(G21, "f1", kind)) for kind in ("present", "observed", "all")]
    assert values == pytest.approx([0.805556, 0.604167, 0.483333], abs=5e-7)
    assert report.report_from(G21).averaged == {"present": 3, "observed": 4, "all": 5}


def test_golden_macro_f1_of_six_classes_of_which_three_are_absent() -> None:
    matrix = matrix_of("0000001122", "0000031022", 6)
    assert float(report.macro(matrix, "f1", "present")) == pytest.approx(0.833333, abs=5e-7)
    assert float(report.macro(matrix, "f1", "all")) == pytest.approx(0.416667, abs=5e-7)


def test_golden_single_numbers() -> None:
    assert float(report.balanced_accuracy(G21)) == pytest.approx(0.75, abs=5e-7)
    assert float(report.miou(G21)) == pytest.approx(0.7, abs=5e-7)
    assert float(report.miou(G21, "observed")) == pytest.approx(0.525, abs=5e-7)
    assert float(report.mcc(G21)) == pytest.approx(0.634335, abs=5e-7)
    assert float(report.kappa(G21)) == pytest.approx(0.619048, abs=5e-7)
    assert float(report.g_mean(G21)) == pytest.approx(0.721125, abs=5e-7)


def test_golden_matrix_with_a_class_predicted_but_absent() -> None:
    assert np.allclose(report.iou(LANDING), [0, 0.689655, 0.56, 0.650407], atol=5e-7)
    assert np.allclose(report.precision(LANDING), [0, 0.833333, 0.736842, 0.776699], atol=5e-7)
    assert np.isnan(report.recall(LANDING)[0])
    assert float(report.miou(LANDING)) == pytest.approx(0.633354, abs=5e-7)
    assert float(report.miou(LANDING, "observed")) == pytest.approx(0.475015, abs=5e-7)
    assert float(report.accuracy(LANDING)) == pytest.approx(0.766667, abs=5e-7)
    assert float(report.misclassification_rate(LANDING, 3, 1)) == pytest.approx(0.04)
    assert np.isnan(report.misclassification_rate(LANDING, 0, 1))


@pytest.mark.parametrize("seed", range(25))
def test_per_class_metrics_equal_scikit_learn(seed: int) -> None:
    true, predicted, matrix = random_case(seed)
    classes = range(len(matrix))
    p, r, f, s = sk.precision_recall_fscore_support(
        true, predicted, labels=classes, average=None, zero_division=np.nan
    )
    ours = report.report_from(torch.from_numpy(matrix))
    np.testing.assert_allclose(ours.precision, p, atol=1e-12)
    np.testing.assert_allclose(ours.recall, r, atol=1e-12)
    np.testing.assert_allclose(ours.f1, f, atol=1e-12)
    np.testing.assert_array_equal(ours.support, s)
    np.testing.assert_array_equal(ours.predicted, np.bincount(predicted, minlength=len(matrix)))
    jaccard = sk.jaccard_score(true, predicted, labels=classes, average=None, zero_division=0)
    np.testing.assert_allclose(np.nan_to_num(ours.iou), jaccard, atol=1e-12)
    absent = (matrix.sum(0) + matrix.sum(1)) == 0
    np.testing.assert_array_equal(np.isnan(ours.iou), absent)
    np.testing.assert_array_equal(np.isnan(ours.f1), absent)


@pytest.mark.parametrize("seed", range(25))
def test_averages_equal_scikit_learn(seed: int) -> None:
    true, predicted, matrix = random_case(seed)
    ours = report.report_from(matrix)
    labels = {"present": np.unique(true), "observed": None, "all": range(len(matrix))}
    for kind in KINDS:
        p, r, f, _ = sk.precision_recall_fscore_support(
            true, predicted, labels=labels[kind], average="macro", zero_division=0
        )
        got = [ours.macro[name][kind] for name in ("precision", "recall", "f1")]
        assert got == pytest.approx([p, r, f], abs=1e-12)
    assert ours.weighted_f1 == pytest.approx(sk.f1_score(true, predicted, average="weighted"), abs=1e-12)
    assert ours.accuracy == pytest.approx(sk.accuracy_score(true, predicted), abs=1e-12)
    with warnings.catch_warnings(action="ignore"):
        assert ours.balanced_accuracy == pytest.approx(sk.balanced_accuracy_score(true, predicted), abs=1e-12)
    assert ours.mcc == pytest.approx(sk.matthews_corrcoef(true, predicted), abs=1e-12)
    assert ours.kappa == pytest.approx(sk.cohen_kappa_score(true, predicted), abs=1e-12)
    zero = [c for c in np.unique(true) if not ((predicted == c) & (true == c)).any()]
    assert ours.zero_performance == tuple(zero)


@pytest.mark.parametrize("seed", range(5))
def test_observed_is_the_macro_of_torchmetrics(seed: int) -> None:
    true, predicted, matrix = random_case(seed)
    pair = (torch.from_numpy(predicted), torch.from_numpy(true))
    f1 = multiclass_f1_score(*pair, num_classes=len(matrix), average="macro")
    jaccard = multiclass_jaccard_index(*pair, num_classes=len(matrix), average="macro")
    assert float(report.macro(matrix, "f1", "observed")) == pytest.approx(float(f1), abs=1e-6)
    assert float(report.miou(matrix, "observed")) == pytest.approx(float(jaccard), abs=1e-6)


def test_one_class_and_an_empty_matrix() -> None:
    one = report.report_from(np.diag([9, 0]))
    assert (one.mcc, one.accuracy, one.g_mean) == (0.0, 1.0, 1.0)
    assert math.isnan(one.kappa)
    empty = report.report_from(np.zeros((3, 3), dtype=np.int64))
    scalars = [empty.accuracy, empty.balanced_accuracy, empty.mcc, empty.kappa, empty.g_mean, empty.miou]
    assert np.isnan(scalars).all()
    assert empty.zero_performance == ()


def test_huge_counts_neither_overflow_nor_cancel() -> None:
    matrix = np.array([[10**12, 1000], [2000, 3000]])
    tp, fp, fn, tn = 3000, 1000, 2000, 10**12
    exact = (tp * tn - fp * fn) / math.sqrt((tp + fp) * (tp + fn) * (tn + fp) * (tn + fn))
    assert float(report.mcc(matrix)) == pytest.approx(exact, rel=1e-12)
    chance = (tp + fn) * (tn + fn) + (tp + fp) * (tn + fp)
    assert float(report.kappa(matrix)) == pytest.approx(2 * (tp * tn - fp * fn) / chance, rel=1e-12)


def test_zero_performance_is_about_recall_and_never_about_an_absent_class() -> None:
    matrix = np.array([[5, 0, 1], [4, 0, 0], [0, 0, 0]])
    assert report.zero_performance_classes(matrix) == [1]


@pytest.mark.parametrize(
    "function",
    [
        report.f1,
        report.iou,
        report.precision,
        report.recall,
        report.support,
        report.predicted,
        report.accuracy,
        report.balanced_accuracy,
        report.weighted_f1,
        report.g_mean,
        report.mcc,
        report.kappa,
        report.macro,
        report.miou,
    ],
)
def test_many_matrices_at_once_equal_one_by_one(function) -> None:
    stack = np.random.default_rng(0).integers(0, 4, (7, 3, 3)) * np.array([1, 0, 1])
    stack[2] = 0
    expected = np.stack([function(matrix) for matrix in stack])
    np.testing.assert_allclose(function(stack), expected, atol=1e-15)


def test_the_report_as_json_has_null_for_undefined() -> None:
    data = json.loads(json.dumps(report.report_from(G21).to_dict(), allow_nan=False))
    assert data["f1"][4] is None
    assert data["recall"][3] is None
    assert data["support"] == [4, 2, 2, 0, 0]
    assert data["macro"]["iou"]["present"] == pytest.approx(0.7)


def test_what_is_no_confusion_matrix_is_named() -> None:
    with pytest.raises(ValueError, match=r"not shape \(2, 3\)"):
        report.accuracy(np.zeros((2, 3), dtype=np.int64))
    with pytest.raises(TypeError, match="integer counts"):
        report.accuracy(np.eye(2))
    with pytest.raises(ValueError, match="one matrix"):
        report.report_from(np.zeros((2, 3, 3), dtype=np.int64))
    with pytest.raises(ValueError, match="negative"):
        report.report_from(np.array([[1, -1], [0, 2]]))
    with pytest.raises(ValueError, match="kind 'seen' is not one of present, observed, all"):
        report.macro(G21, "f1", "seen")
    with pytest.raises(ValueError, match="metric 'dice' is not one of"):
        report.macro(G21, "dice")
