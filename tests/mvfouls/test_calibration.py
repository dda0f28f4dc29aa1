"""Logit offsets and thresholds fitted on validation logits."""

import json
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mv_official import annotations, random_case
from sklearn.metrics import balanced_accuracy_score, roc_curve

from common.config import UserError
from mvfouls.calibration import (
    apply_offsets,
    calibration_lines,
    fit_calibration,
    fit_offsets,
    fit_part,
    fit_threshold,
    read_calibration,
    write_calibration,
)
from mvfouls.judging import judge
from mvfouls.labels import TASKS
from mvfouls.outputs import write_val_logits
from mvfouls.projection import project_probabilities
from mvfouls.settings import ProjectionSettings

TASKS_3 = {name: TASKS[name] for name in ("action_class", "severity", "offence")}


def softmax(z):
    return np.exp(z) / np.exp(z).sum(axis=1, keepdims=True)


def imbalanced(size=400, seed=0):
    """Truth of three classes, 90 to 7 to 3, and the exact posterior of a noisy look at it."""
    rng = np.random.default_rng(seed)
    prior = np.array([0.9, 0.07, 0.03])
    truth = rng.choice(3, size=size, p=prior)
    seen = np.eye(3)[truth] * 2 + rng.normal(size=(size, 3))
    return softmax(2 * seen + np.log(prior)), truth


def logits_file(path, split="valid", size=80, seed=0):
    rng = np.random.default_rng(seed)
    rows, _ = random_case(rng, size)
    logits = {name: rng.normal(size=(size, len(task.classes))) for name, task in TASKS_3.items()}
    given = {name: softmax(values) for name, values in logits.items()}
    found = judge(given, list(rows), annotations(rows), TASKS_3, ProjectionSettings(), resamples=0)
    write_val_logits(path, found, logits, split=split)
    return given


def test_offsets_undo_the_prior():
    p, truth = imbalanced()
    offsets = fit_offsets(p, truth)
    assert offsets[0] < min(offsets[1:]) - 1
    fresh, answers = imbalanced(4000, seed=1)
    before = balanced_accuracy_score(answers, fresh.argmax(axis=1))
    after = balanced_accuracy_score(answers, apply_offsets(fresh, offsets).argmax(axis=1))
    assert after > before + 0.05


@settings(max_examples=25)
@given(st.integers(0, 10_000), st.integers(2, 30), st.integers(2, 4))
def test_offsets_never_lose_and_no_single_change_gains(seed, size, classes):
    rng = np.random.default_rng(seed)
    p, truth = rng.dirichlet(np.ones(classes), size), rng.integers(classes, size=size)
    offsets = fit_offsets(p, truth, limit=2.0)
    assert (np.abs(offsets) <= 2 + 1e-9).all()
    assert (offsets[np.bincount(truth, minlength=classes) == 0] == 0).all()

    def ba(values):
        return np.mean([(values.argmax(axis=1) == truth)[truth == c].mean() for c in np.unique(truth)])

    best = ba(np.log(p) + offsets)
    assert best >= ba(np.log(p)) - 1e-9
    for place in np.unique(truth):
        for value in np.linspace(-2, 2, 81):
            changed = offsets.copy()
            changed[place] = value
            assert ba(np.log(p) + changed) <= best + 1e-9


def test_the_limit_holds():
    p, truth = imbalanced()
    assert np.abs(fit_offsets(p, truth, limit=0.5)).max() <= 0.5
    np.testing.assert_array_equal(fit_offsets(p, truth, limit=0.0), 0)


def test_apply_offsets():
    p = np.array([[0.5, 0.25, 0.25]])
    np.testing.assert_allclose(apply_offsets(p, np.zeros(3)), p)
    shifted = apply_offsets(p, np.log([1.0, 4.0, 1.0]))
    np.testing.assert_allclose(shifted, [[0.5 / 1.75, 1 / 1.75, 0.25 / 1.75]])
    with pytest.raises(ValueError, match="offsets"):
        apply_offsets(p, np.zeros(2))


def test_threshold_is_youdens():
    rng = np.random.default_rng(0)
    positive = rng.random(100) < 0.3
    p = np.round(rng.random(100) * 0.6 + 0.4 * positive, 2)
    threshold = fit_threshold(p, positive)
    called = p >= threshold
    found = called[positive].mean() - called[~positive].mean()
    false, true, _ = roc_curve(positive, p, drop_intermediate=False)
    assert found == pytest.approx((true - false).max())
    assert threshold not in p
    assert fit_threshold(p, np.zeros(100, bool)) is None
    assert fit_threshold(np.array([0.2, 0.8]), np.array([False, True])) == pytest.approx(0.5)


def test_a_part_says_what_held_out_actions_gain():
    p, truth = imbalanced()
    names = ("a", "b", "c")
    part = fit_part(p, truth, names)
    assert part.before < part.held_out <= part.after
    assert part.counts == tuple(np.bincount(truth))
    assert part.after == pytest.approx(balanced_accuracy_score(truth, part.probabilities(p).argmax(axis=1)))
    assert part.thresholds[2] == fit_threshold(part.probabilities(p)[:, 2], truth == 2)
    ignored = np.where(truth == 2, -100, truth)
    assert fit_part(p, ignored, names).thresholds[2] is None
    assert fit_part(p, np.full(len(p), -100), names) is None
    assert fit_part(p[:3], np.array([0, 1, 2]), names).held_out is None


def test_file_round_trip_and_use(tmp_path):
    given = logits_file(tmp_path / "val_logits.npz")
    found = fit_calibration(tmp_path / "val_logits.npz")
    assert set(found.parts) == {*TASKS_3, "official_action", "official_os"}
    write_calibration(tmp_path / "calibration.json", found)
    read = read_calibration(tmp_path / "calibration.json")
    assert read == found

    projected = project_probabilities(given, TASKS_3, ProjectionSettings(decision="cascade"))
    adjusted = read.adjust(projected)
    offsets = np.array(read.parts["official_os"].offsets)
    np.testing.assert_array_equal(adjusted.os_id, (np.log(projected.os) + offsets).argmax(axis=1))
    assert (adjusted.action_id != projected.action_id).any()
    some = replace(read, parts={"severity": read.parts["severity"]})
    np.testing.assert_array_equal(some.adjust(projected).os_id, projected.os_id)
    tasks = some.adjust_tasks(given)
    assert tasks["offence"] is given["offence"]
    assert (tasks["severity"].argmax(axis=1) != given["severity"].argmax(axis=1)).any()


def test_lines_warn_of_offsets_that_do_not_help(tmp_path):
    logits_file(tmp_path / "noise.npz")
    lines = calibration_lines(fit_calibration(tmp_path / "noise.npz"))
    assert lines[0] == "offsets fitted on 80 actions of valid"
    assert any("held out" in line and line.endswith("no gain on held-out actions") for line in lines)


@pytest.mark.parametrize("split", ["test", "train", "challenge"])
def test_other_splits_are_refused(tmp_path, split):
    path = tmp_path / "logits.npz"
    logits_file(path, split)
    with pytest.raises(UserError, match=f"logits of the split {split}: offsets are fitted on valid only"):
        fit_calibration(path)


def test_other_files_are_refused(tmp_path):
    path = tmp_path / "file.npz"
    with pytest.raises(UserError, match="cannot be read"):
        fit_calibration(path)
    for content in (b"", b"PK\x03\x04 cut off", b"text"):
        path.write_bytes(content)
        with pytest.raises(UserError, match="not written by --save-val-logits"):
            fit_calibration(path)
    np.savez(path, split="valid", action_ids=np.array(["0"]), **{"classes/severity": np.array(["1.0"])})
    with pytest.raises(UserError, match="no probabilities/severity, labels/severity"):
        fit_calibration(path)
    np.savez(path, split="valid", action_ids=np.array(["0"]))
    with pytest.raises(UserError, match="nothing can be fitted"):
        fit_calibration(path)


def test_a_calibration_file_that_does_not_fit_is_refused(tmp_path):
    logits_file(tmp_path / "val_logits.npz")
    path = tmp_path / "calibration.json"
    found = fit_calibration(tmp_path / "val_logits.npz")
    write_calibration(path, found)
    with pytest.raises(UserError, match=r"offence was fitted with the classes Offence, .* has Yes, No"):
        found.check_classes({"offence": ("Yes", "No")}, path)
    found.check_classes({name: task.classes for name, task in TASKS_3.items()}, path)
    content = json.loads(path.read_text())
    for change, message in (
        ({"split": "test"}, "fitted on test"),
        ({"schema": 2}, "schema 2"),
        ({"parts": {"offence": {}}}, "no calibration file"),
        ({"parts": {"offence": content["parts"]["offence"] | {"offsets": [0.0]}}}, "one finite offset"),
        ({"parts": []}, "no calibration file"),
    ):
        path.write_text(json.dumps(content | change))
        with pytest.raises(UserError, match=message):
            read_calibration(path)
    path.write_text("{")
    with pytest.raises(UserError, match="no calibration file"):
        read_calibration(path)
    with pytest.raises(UserError, match="cannot be read"):
        read_calibration(tmp_path / "absent.json")
