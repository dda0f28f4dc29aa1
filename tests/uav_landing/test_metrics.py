"""Landing metrics against hand-computed values and scikit-learn."""

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, balanced_accuracy_score, jaccard_score

from uav_landing.metrics import class_metrics, landing_metrics, summary_metrics, to_frame

M = np.array([[0, 0, 0, 0], [5, 80, 10, 5], [0, 12, 70, 18], [1, 4, 15, 80]])


def labels_of(matrix: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return truth and prediction pixel by pixel."""
    truth, prediction = np.indices(matrix.shape)
    return truth.repeat(matrix.reshape(-1)), prediction.repeat(matrix.reshape(-1))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("class_0_iou", 0.0),
        ("class_1_iou", 0.689655),
        ("class_2_iou", 0.56),
        ("class_3_iou", 0.650407),
        ("class_0_support", 0),
        ("class_1_accuracy", 0.8),
        ("class_2_accuracy", 0.7),
        ("class_3_accuracy", 0.8),
        ("class_1_precision", 0.833333),
        ("class_2_precision", 0.736842),
        ("class_3_precision", 0.776699),
        ("miou", 0.633354),
        ("miou_observed", 0.475015),
        ("miou_landing", 0.633354),
        ("mean_accuracy", 0.766667),
        ("accuracy", 0.766667),
        ("danger_as_safe", 0.04),
        ("danger_missed", 0.19),
        ("false_safe", 0.041667),
        ("expected_cost", (5 + 10 + 5 * 1.5 + 12 * 3 + 18 * 1.2 + 1 + 4 * 5 + 15 * 3) / 300),
    ],
)
def test_documented_matrix(name: str, value: float) -> None:
    assert landing_metrics(M)[name] == pytest.approx(value, abs=5e-7)


def test_void_truth_leaves_the_landing_metrics_alone_but_a_void_prediction_is_an_error() -> None:
    with_void = M.copy()
    with_void[0] = [50, 30, 20, 10]
    before, after = landing_metrics(M), landing_metrics(with_void)
    for name in ("miou_landing", "expected_cost", "danger_as_safe", "danger_missed"):
        assert after[name] == before[name]
    assert after["miou"] != before["miou"]
    assert after["false_safe"] == pytest.approx(4 / 126)

    void_predicted = M.copy()
    void_predicted[1] = [15, 70, 10, 5]
    assert landing_metrics(void_predicted)["miou_landing"] < before["miou_landing"]


def test_equal_to_scikit_learn() -> None:
    matrix = np.random.default_rng(3).integers(0, 60, (4, 4))
    truth, prediction = labels_of(matrix)
    found = landing_metrics(matrix)
    assert [found[f"class_{c}_iou"] for c in range(4)] == pytest.approx(
        jaccard_score(truth, prediction, average=None)
    )
    assert found["miou"] == pytest.approx(jaccard_score(truth, prediction, average="macro"))
    assert found["accuracy"] == pytest.approx(accuracy_score(truth, prediction))
    assert found["mean_accuracy"] == pytest.approx(balanced_accuracy_score(truth, prediction))
    inner = truth > 0
    assert found["miou_landing"] == pytest.approx(
        jaccard_score(truth[inner], prediction[inner], labels=[1, 2, 3], average="macro")
    )


def test_absent_class_is_undefined_and_not_averaged_as_zero() -> None:
    matrix = np.zeros((4, 4), int)
    matrix[1, 1], matrix[2, 2] = 10, 30
    found = landing_metrics(matrix)
    for name in ("class_3_iou", "class_3_accuracy", "class_3_precision", "danger_as_safe", "danger_missed"):
        assert np.isnan(found[name])
    assert found["miou"] == found["miou_landing"] == 1.0
    assert found["false_safe"] == 0.0


def test_predicting_danger_everywhere_does_not_win() -> None:
    everywhere = np.zeros((4, 4), int)
    everywhere[1:, 3] = [100, 100, 100]
    assert landing_metrics(everywhere)["danger_as_safe"] == 0
    assert landing_metrics(everywhere)["expected_cost"] > landing_metrics(M)["expected_cost"]


def test_leading_dimensions_are_matrices_of_their_own() -> None:
    stack = np.random.default_rng(0).integers(0, 9, (2, 3, 4, 4))
    together = {**summary_metrics(stack), **class_metrics(stack)}
    for place in np.ndindex(2, 3):
        alone = {**summary_metrics(stack[place]), **class_metrics(stack[place])}
        for name, value in alone.items():
            np.testing.assert_array_equal(together[name][place], value)


def test_three_outputs_are_placed_in_the_frame_of_four_classes() -> None:
    matrix = np.arange(9).reshape(3, 3)
    frame = to_frame(matrix, [1, 2, 3])
    assert frame.shape == (4, 4)
    assert not frame[0].any()
    assert not frame[:, 0].any()
    np.testing.assert_array_equal(frame[1:, 1:], matrix)
    np.testing.assert_array_equal(to_frame(np.stack([matrix, matrix]), [1, 2, 3])[1], frame)


def test_unknown_metric_is_a_key_error() -> None:
    with pytest.raises(KeyError):
        landing_metrics(M)["mean_iou"]
