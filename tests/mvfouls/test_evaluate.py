"""The verb `evaluate` on a file of predictions, and its seam for a checkpoint."""

import json
import sys
from types import SimpleNamespace

import pytest
from mv_official import FIXTURE, annotations, as_entry, fixture_predictions, fixture_truth, write_annotations

from common.config import run_main
from mvfouls.annotations import read_annotations
from mvfouls.config_verbs import EvaluateConfig
from mvfouls.evaluate import main, report_predictions
from mvfouls.submission import write_predictions


@pytest.fixture
def files(tmp_path):
    write_annotations(tmp_path / "A.json", fixture_truth())
    write_predictions(tmp_path / "P.json", fixture_predictions() | {"99": {}}, "valid")
    return tmp_path


@pytest.fixture
def evaluate(files, capfd):
    def run(*words, code=0):
        argv = [word.replace("@", f"{files}/") for word in words]
        assert run_main(main, EvaluateConfig, argv, prog="mvfouls evaluate") == code
        said = capfd.readouterr()
        return said.err if code else said.out

    return run


def test_both_modes_on_the_console_and_in_the_file(evaluate, files):
    out = evaluate("--predictions", "@P.json", "--annotations", "@A.json", "--json", "@out/R.json")
    lines = out.splitlines()
    assert lines[0] == "10 of 14 actions count officially"
    assert "1 without a prediction, counted as wrong: 11" in lines[1]
    assert "1 predictions for actions that are not annotated: 99" in lines[2]
    assert "strict  LB 75.0 [" in out
    assert "compat  LB 62.5 [" in out
    assert "OS BA 50.0 acc 40.0 | action BA 75.0 acc 80.0" in out
    assert "red-card recall rests on 1 samples" in out
    report = json.loads((files / "out" / "R.json").read_text())
    assert report["modes"]["strict"]["leaderboard_value"] == pytest.approx(75)
    assert report["modes"]["compat"]["leaderboard_value"] == pytest.approx(62.5)
    strict = report["modes"]["strict"]
    assert strict["leaderboard_low"] < 75 < strict["leaderboard_high"]
    assert [row["n"] for row in strict["os"]] == [3, 3, 3, 1]
    assert strict["os"][1]["low"] < 1 / 3 < strict["os"][1]["high"]


@pytest.mark.parametrize("mode", ["strict", "compat"])
def test_one_mode(evaluate, mode):
    out = evaluate("--predictions", "@P.json", "--annotations", "@A.json", "--mode", mode, "--bootstrap", "0")
    other = {"strict", "compat"} - {mode}
    assert mode in out
    assert other.pop() not in out
    assert "[---]" in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("", "give --checkpoint and --split, or --predictions and --annotations"),
        ("--predictions @P.json", "--predictions needs --annotations"),
        ("--predictions @P.json --annotations @A.json --checkpoint @c", "give --checkpoint"),
        ("--predictions @P.json --annotations @A.json --bootstrap -1", "--bootstrap: not negative"),
        ("--predictions @absent.json --annotations @A.json", "absent.json: cannot be read"),
        ("--predictions @P.json --annotations @absent.json", "absent.json"),
        ("--predictions @A.json --annotations @P.json", "P.json"),
        ("--predictions @P.json --annotations @A.json --json @A.json/x", "--json"),
    ],
)
def test_refusals(evaluate, words, message):
    assert message in evaluate(*words.split(), code=2)


def test_labels_that_count_are_needed(evaluate, files):
    write_annotations(files / "A.json", {"0": ("", "", "")})
    assert "no labels" in evaluate("--predictions", "@P.json", "--annotations", "@A.json", code=2)
    write_annotations(files / "A.json", {"0": ("Dont know", "Offence", "1.0")})
    text = evaluate("--predictions", "@P.json", "--annotations", "@A.json", code=2)
    assert "none of 1 actions has official labels" in text


def test_flags_of_a_checkpoint_have_no_effect_on_a_file(evaluate, caplog):
    evaluate("--predictions", "@P.json", "--annotations", "@A.json", "--split", "test", "--tta")
    assert [record.message for record in caplog.records] == [
        "--split has no effect because no --checkpoint is given",
        "--tta has no effect because no --checkpoint is given",
    ]


def test_a_checkpoint_is_judged_by_what_it_predicts(evaluate, monkeypatch):
    def predict_split(config):
        assert (config.split, config.inference.batch_size) == ("test", 3)
        return annotations(fixture_truth(), "test"), fixture_predictions()

    monkeypatch.setitem(sys.modules, "mvfouls.predict", SimpleNamespace(predict_split=predict_split))
    assert "strict  LB 75.0" in evaluate("--checkpoint", "@run", "--split", "test", "--batch_size", "3")


def test_perfect_predictions_are_100():
    rows = {name: truth for name, (truth, guess) in FIXTURE.items() if truth == guess}
    del rows["8"]
    found = report_predictions(annotations(rows), fixture_predictions(), ("strict",), resamples=20)
    assert found["modes"]["strict"]["leaderboard_value"] == 100
    assert found["modes"]["strict"]["leaderboard_low"] == 100


def test_the_real_annotations_judged_by_themselves(real_split):
    truth = read_annotations(real_split.annotations)
    predictions = {a.id: as_entry(a.action_class, a.offence, a.severity) for a in truth.actions}
    found = report_predictions(truth, predictions, resamples=20)
    strict = found["modes"]["strict"]
    assert strict["leaderboard_value"] == 100
    assert [row["n"] for row in strict["os"]] == [0, 0, 4, 1]
    assert [row["n"] for row in strict["action"]] == [2, 1, 1, 1, 0, 0, 0, 0]
    assert found["modes"]["compat"]["accuracy_action"] == 100
