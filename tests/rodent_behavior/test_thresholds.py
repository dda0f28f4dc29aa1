"""Thresholds: fitted on validation, told apart from scores, reported on test alone."""

import json
import math
import re

import numpy as np
import pytest
import torch
from rodent_pieces import ANY_TRIAL
from sklearn.metrics import f1_score

from rodent_behavior.judging import JudgedTrial
from rodent_behavior.thresholds import fit_thresholds, threshold_f1

NAMES = ("rest", "lick", "walk")


def random_trial(seed: int, classes: int) -> JudgedTrial:
    rng = np.random.default_rng(seed)
    target = rng.integers(-1, classes, 80)
    logits = torch.from_numpy(rng.normal(0, 1, (3, 80)) + 1.5 * (np.arange(3)[:, None] == target)).float()
    return JudgedTrial(ANY_TRIAL, logits, np.where(target < 0, -100, target))


def test_a_threshold_is_the_best_of_all_levels_on_validation() -> None:
    trials = [random_trial(0, 2), random_trial(1, 2)]
    fitted = fit_thresholds(trials, 2.0, NAMES)
    assert fitted["split"] == "val"
    assert fitted["values"]["walk"] is None
    shown = np.concatenate([trial.probabilities(2.0) for trial in trials])
    target = np.concatenate([trial.target for trial in trials])
    shown, target = shown[target >= 0], target[target >= 0]
    found = threshold_f1(trials, 2.0, fitted, NAMES)
    for index, name in enumerate(NAMES[:2]):
        scores = shown[:, index]
        best = max(f1_score(target == index, scores >= level) for level in scores)
        assert found[name]["f1"] == pytest.approx(best)
        assert found[name]["threshold"] == fitted["values"][name]
    assert math.isnan(found["walk"]["f1"])


def test_other_trials_are_judged_at_the_fitted_level() -> None:
    fitted = fit_thresholds([random_trial(0, 3)], 1.0, NAMES)
    other = random_trial(7, 3)
    known = other.target >= 0
    expected = f1_score(
        other.target[known] == 1, other.probabilities(1.0)[known, 1] >= fitted["values"]["lick"]
    )
    assert threshold_f1([other], 1.0, fitted, NAMES)["lick"]["f1"] == pytest.approx(expected)


def test_thresholds_need_a_test_side_and_are_reported_on_it_alone(train, use, tmp_path):
    ran = train("--max_steps 2 --lr 1e-2 --test_share 0.25")
    stored = ran.contents["best_thresholds"]
    assert stored["split"] == "val"
    assert 0 < stored["values"]["rest"] < 1
    assert "thresholds on val; evaluate --split test" in ran.out
    folders = f"--annotations {ran.home / 'Annotations'} --videos {ran.home / 'Videos'}"
    for side, shown in (("val", False), ("all", False), ("test", True)):
        said = use(f"evaluate --checkpoint {ran.model} {folders} --split {side} --out {tmp_path / side}")
        assert said.code == 0, said.err
        report = json.loads((tmp_path / side / "report.json").read_text())
        assert (report["thresholds"] is not None) == ("F1 at p" in said.out) == shown
        assert ("no F1 at thresholds: groups of training or validation" in said.out) != shown
        assert re.search(r"Precision +onset ms", said.out)
        assert set(report["onset_error"]) == set(ran.contents["classes"]) - {"rest"}
    assert report["thresholds"]["rest"]["threshold"] == stored["values"]["rest"]
    without = train("--max_steps 1")
    assert without.contents["best_thresholds"] is None
    said = use(f"evaluate --checkpoint {without.model} {folders} --out {tmp_path / 'without'}")
    assert said.code == 0, said.err
    assert "no F1 at thresholds" not in said.out
