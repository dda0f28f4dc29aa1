"""Files about the best validation."""

import csv
import json

import numpy as np
import pytest
from mv_official import annotations, random_case, slow_rule
from scipy.stats import binomtest

from mvfouls.judging import judge
from mvfouls.labels import IGNORE, TASKS
from mvfouls.outputs import class_report, write_outputs, write_val_logits
from mvfouls.settings import ProjectionSettings
from mvfouls.submission import read_predictions

NAMES = ("action_class", "severity", "offence")
TASKS_3 = {name: TASKS[name] for name in NAMES}


@pytest.fixture(scope="module")
def rows():
    return random_case(np.random.default_rng(0), 50)[0]


@pytest.fixture(scope="module")
def logits(rows):
    rng = np.random.default_rng(1)
    return {name: rng.normal(size=(len(rows), len(task.classes))) for name, task in TASKS_3.items()}


@pytest.fixture(scope="module")
def judgement(rows, logits):
    p = {name: np.exp(z) / np.exp(z).sum(axis=1, keepdims=True) for name, z in logits.items()}
    return judge(p, list(rows), annotations(rows), TASKS_3, ProjectionSettings(), resamples=50)


def test_all_files(tmp_path, judgement, logits, rows):
    write_outputs(tmp_path, judgement, logits=logits)
    names = ["class_report.json", *(f"confusion_{name}.csv" for name in sorted(NAMES))]
    names += ["val_logits.npz", "val_predictions.json"]
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(names)
    assert read_predictions(tmp_path / "val_predictions.json") == judgement.entries()
    assert json.loads((tmp_path / "val_predictions.json").read_text())["Set"] == "valid"
    report = json.loads((tmp_path / "class_report.json").read_text())
    assert report["leaderboard"]["value"] == judgement.metrics()["leaderboard"]
    assert report["official"]["strict"] == judgement.strict.to_dict()
    table = list(csv.reader((tmp_path / "confusion_offence.csv").read_text().splitlines()))
    assert table[0] == ["true/predicted", "Offence", "No offence", "Between"]
    assert [row[0] for row in table[1:]] == table[0][1:]
    counts = [[int(cell) for cell in row[1:]] for row in table[1:]]
    np.testing.assert_array_equal(counts, judgement.tasks["offence"].matrix)
    assert sum(map(sum, counts)) == sum(row[1] != "" for row in rows.values())


def test_report_rows_carry_numbers_and_wilson_intervals(judgement):
    report = class_report(judgement)
    for row in report["os"] + report["tasks"]["severity"]["classes"]:
        wanted = binomtest(row["hits"], row["n"]).proportion_ci(method="wilson")
        assert (row["low"], row["high"]) == pytest.approx((wanted.low, wanted.high), abs=1e-12)
        assert row["recall"] == row["hits"] / row["n"]
    assert [row["name"] for row in report["os"]] == ["No offence", "No card", "Yellow", "Red"]
    assert report["tasks"]["severity"]["averaged_classes"] == 5
    json.dumps(report)


def test_nothing_is_nan_in_the_file(tmp_path):
    rows = {"0": ("Dive", "Offence", "1.0")}
    p = {name: np.full((1, len(task.classes)), 0.1) for name, task in TASKS_3.items()}
    found = judge(p, ["0"], annotations(rows), TASKS_3, ProjectionSettings(), partial=True)
    write_outputs(tmp_path, found)
    report = json.loads((tmp_path / "class_report.json").read_text(), parse_constant=pytest.fail)
    assert report["partial"] is True
    assert report["leaderboard"]["low"] is None
    assert report["os"][3]["recall"] is None
    assert report["official"]["compat"]["leaderboard_value"] is None
    assert not (tmp_path / "val_logits.npz").exists()


def test_without_official_heads_there_are_no_predictions(tmp_path, rows):
    p = {"severity": np.full((len(rows), 5), 0.2)}
    found = judge(p, list(rows), annotations(rows), {"severity": TASKS["severity"]}, ProjectionSettings())
    write_outputs(tmp_path, found)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["class_report.json", "confusion_severity.csv"]
    assert set(json.loads((tmp_path / "class_report.json").read_text())) == {"actions", "partial", "tasks"}


def test_logits_file(tmp_path, judgement, logits, rows):
    path = tmp_path / "val_logits.npz"
    write_val_logits(path, judgement, logits, split="valid")
    with np.load(path, allow_pickle=False) as file:
        arrays = dict(file)
    assert str(arrays["split"]) == "valid"
    assert list(arrays["action_ids"]) == list(rows)
    for name, task in TASKS_3.items():
        np.testing.assert_allclose(arrays[f"logits/{name}"], logits[name], rtol=1e-6)
        assert tuple(arrays[f"classes/{name}"]) == task.classes
        np.testing.assert_array_equal(arrays[f"labels/{name}"], judgement.tasks[name].truth)
    official = [slow_rule(*row) or (IGNORE, IGNORE) for row in rows.values()]
    np.testing.assert_array_equal(arrays["official/action_label"], [ids[0] for ids in official])
    np.testing.assert_array_equal(arrays["official/os_label"], [ids[1] for ids in official])
    np.testing.assert_array_equal(arrays["official/os"], judgement.projected.os)
    with pytest.raises(ValueError, match="logits: severity is"):
        write_val_logits(path, judgement, logits | {"severity": logits["severity"][1:]}, split="valid")
