"""The official evaluator against the fixture of the specification and a slow reference."""

import json

import numpy as np
import pytest
from mv_official import (
    annotations,
    as_entry,
    fixture_predictions,
    fixture_truth,
    random_case,
    slow_scores,
    write_annotations,
)

from mvfouls.official import judge_official, project_entry

GOLDEN = {
    "compat": (40, 80, 50, 75, 62.5),
    "strict": (70, 80, 75, 75, 75),
}


@pytest.mark.parametrize("mode", GOLDEN)
def test_fixture(mode):
    scores = judge_official(annotations(fixture_truth()), fixture_predictions(), mode)
    assert tuple(scores.to_dict().values()) == pytest.approx(GOLDEN[mode])
    assert list(scores.to_dict()) == [
        "accuracy_offence_severity",
        "accuracy_action",
        "balanced_accuracy_offence_severity",
        "balanced_accuracy_action",
        "leaderboard_value",
    ]
    assert len(scores.ids) == 10
    assert scores.unpredicted == ("11",)
    assert scores.unasked == ()


@pytest.mark.parametrize("mode", ["strict", "compat"])
def test_equals_a_slow_reference_on_random_submissions(mode):
    rng = np.random.default_rng(0)
    judged, defined = 0, 0
    for _ in range(500):
        truth, predictions = random_case(rng, int(rng.integers(8, 90)))
        found = judge_official(annotations(truth), predictions, mode)
        if not found.ids:
            continue
        wanted = slow_scores(truth, predictions, mode)
        judged += 1
        defined += wanted["leaderboard_value"] == wanted["leaderboard_value"]
        if mode == "compat":  # to the last bit
            np.testing.assert_array_equal(list(found.to_dict().values()), list(wanted.values()))
        else:
            assert found.to_dict() == pytest.approx(wanted)
    assert judged > 450
    assert defined > 100


@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
def test_equals_the_published_tool_to_the_last_bit(tmp_path):
    """On the fixture and on random submissions of whole entries; it leaves files open and divides 0 by 0."""
    published = pytest.importorskip("SoccerNet.Evaluation.MV_FoulRecognition")
    rng = np.random.default_rng(1)
    cases = [(fixture_truth(), fixture_predictions())]
    cases += [random_case(rng, int(rng.integers(8, 90))) for _ in range(500)]
    guessed = tmp_path / "predictions.json"
    defined = 0
    for truth, some in cases:
        predictions = {name: as_entry("", "", "") | entry for name, entry in some.items()}
        guessed.write_text(json.dumps({"Set": "valid", "Actions": predictions}))
        with np.errstate(invalid="ignore"):
            wanted = published.evaluate(write_annotations(tmp_path / "annotations.json", truth), guessed)
        found = judge_official(annotations(truth), predictions, "compat").to_dict()
        assert found.keys() == wanted.keys()
        np.testing.assert_array_equal(list(found.values()), list(wanted.values()))
        defined += bool(np.isfinite(wanted["leaderboard_value"]))
    assert defined > 100


def test_recall_by_class_with_its_number():
    scores = judge_official(annotations(fixture_truth()), fixture_predictions())
    np.testing.assert_array_equal(scores.os.count, [3, 3, 3, 1])
    np.testing.assert_allclose(scores.os.recall, [1, 1 / 3, 2 / 3, 1])
    np.testing.assert_array_equal(scores.action.count, [2, 1, 1, 1, 1, 1, 1, 2])
    np.testing.assert_array_equal(scores.action.hits, [2, 1, 1, 1, 1, 0, 0, 2])


def test_an_absent_class_is_nan_in_compat_and_left_out_in_strict():
    rows = {"3": ("Holding", "Offence", "1.0"), "7": ("Dive", "Offence", "1.0")}
    predictions = {name: as_entry(*labels) for name, labels in rows.items()}
    truth = annotations(rows)
    assert np.isnan(judge_official(truth, predictions, "compat").leaderboard)
    strict = judge_official(truth, predictions)
    assert strict.leaderboard == 1.0
    assert np.isnan(strict.os.recall[[0, 2, 3]]).all()
    assert (strict.os.present, strict.action.present) == (1, 2)


def test_predictions_are_matched_by_id_not_by_place():
    rows = {"17": ("Holding", "Offence", "1.0"), "4": ("Dive", "Offence", "3.0")}
    predictions = {name: as_entry(*rows[name]) for name in reversed(rows)} | {"5": as_entry("", "", "")}
    scores = judge_official(annotations(rows), predictions)
    assert scores.leaderboard == 1.0
    assert scores.unasked == ("5",)


@pytest.mark.parametrize(
    ("entry", "ids"),
    [
        (as_entry("Dive", "Offence", "3.0"), (7, 2)),
        (as_entry("Dive", "", "2.0"), (7, 1)),
        (as_entry("Pushing", "Between", "1.0"), (4, -1)),
        (as_entry("Pushing", "No Offence", "5.0"), (4, 0)),
        (as_entry("Dont know", "Offence", "5.0"), (-1, 3)),
        (as_entry("Missing", "Offence", "2.0"), (-1, -1)),
        (as_entry("Dive", "offence", "1.0"), (7, -1)),
        (as_entry("Dive", "NO OFFENCE", ""), (7, 0)),
        ({"Action class": "Dive"}, (7, -1)),
        ({"Action class": "Dive", "Severity": "1.0"}, (7, -1)),
        ({"Offence": "Offence", "Severity": "1.0"}, (-1, 1)),
        ({}, (-1, -1)),
    ],
)
def test_parts_of_a_prediction_are_read_apart(entry, ids):
    assert project_entry(entry) == ids


def test_compat_leaves_out_spellings_that_the_published_tool_does_not_know():
    rows = {"0": ("Holding", "no offence", ""), "1": ("Holding", "No Offence", "")}
    assert judge_official(annotations(rows), {}, "compat").ids == ("1",)
    assert judge_official(annotations(rows), {}, "strict").ids == ("0", "1")


def test_nothing_to_judge_is_nan():
    scores = judge_official(annotations({"0": ("", "", "")}), {})
    assert np.isnan(list(scores.to_dict().values())).all()
