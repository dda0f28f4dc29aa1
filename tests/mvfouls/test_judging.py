"""Intervals, and the numbers of one validation against scikit-learn."""

import logging
from collections import Counter

import numpy as np
import pytest
from mv_official import annotations, fixture_predictions, fixture_truth, random_case, slow_rule
from scipy.stats import binomtest
from sklearn.metrics import balanced_accuracy_score, confusion_matrix, f1_score, recall_score

from mvfouls.judging import judge, leaderboard_interval, wilson
from mvfouls.labels import IGNORE, TASKS, task_labels
from mvfouls.official import judge_official
from mvfouls.projection import project_probabilities
from mvfouls.settings import ProjectionSettings

THREE = {name: TASKS[name] for name in ("action_class", "severity", "offence")}


def sample(size=60, seed=0, tasks=THREE):
    rng = np.random.default_rng(seed)
    rows, _ = random_case(rng, size)
    given = {name: rng.dirichlet(np.ones(len(t.classes)), size) for name, t in tasks.items()}
    return rows, given


def judged(rows, given, tasks=THREE, **named):
    return judge(given, list(rows), annotations(rows), tasks, ProjectionSettings(), **named)


@pytest.mark.parametrize("level", [0.9, 0.95])
def test_wilson_against_scipy(level):
    pairs = [(k, n) for n in (1, 2, 5, 32, 182) for k in {0, 1, n // 2, n}]
    low, high = wilson(*map(np.array, zip(*pairs)), level)
    wanted = [binomtest(k, n).proportion_ci(level, method="wilson") for k, n in pairs]
    np.testing.assert_allclose(low, [interval.low for interval in wanted], atol=1e-12)
    np.testing.assert_allclose(high, [interval.high for interval in wanted], atol=1e-12)


def test_wilson_by_its_formula_and_without_samples():
    z, n, p = 1.959963984540054, 10, 0.3
    middle, half = (p + z**2 / 20) / (1 + z**2 / 10), z * np.sqrt(p * 0.7 / n + z**2 / 400) / (1 + z**2 / 10)
    low, high = wilson(np.array([3, 0]), np.array([n, 0]))
    np.testing.assert_allclose([low[0], high[0]], [middle - half, middle + half])
    assert np.isnan([low[1], high[1]]).all()


def test_bootstrap_equals_a_loop_over_resamples():
    rows, predictions = random_case(np.random.default_rng(3), 40)
    scores = judge_official(annotations(rows), predictions)
    number, resamples = len(scores.ids), 200
    draws = np.random.default_rng(5).multinomial(number, np.full(number, 1 / number), size=resamples)
    values = []
    for draw in draws:
        parts = []
        for part in (scores.os, scores.action):
            seen, hit = Counter(), Counter()
            for place, times in enumerate(draw):
                seen[part.truth[place]] += times
                hit[part.truth[place]] += times * part.hit[place]
            recalls = [hit[label] / seen[label] for label in seen if seen[label]]
            parts.append(sum(recalls) / len(recalls))
        values.append(sum(parts) / 2)
    found = leaderboard_interval(scores, resamples=resamples, seed=5)
    np.testing.assert_allclose(found.value, scores.leaderboard)
    np.testing.assert_allclose([found.low, found.high], np.quantile(values, [0.025, 0.975]))
    assert found.low < found.value < found.high


def test_interval_of_the_fixture_and_of_too_little(caplog):
    scores = judge_official(annotations(fixture_truth()), fixture_predictions())
    first, again = leaderboard_interval(scores), leaderboard_interval(scores)
    assert first == again
    assert float(first.value) == pytest.approx(0.75)
    one = judge_official(annotations({"0": ("Dive", "Offence", "1.0")}), {})
    with caplog.at_level(logging.WARNING):
        for few in (leaderboard_interval(one), leaderboard_interval(scores, resamples=0)):
            assert np.isnan([few.low, few.high]).all()
    assert not caplog.records
    assert np.isnan(leaderboard_interval(judge_official(annotations({"0": ("", "", "")}), {})).value)


def test_each_task_against_sklearn():
    rows, given = sample()
    found = judged(rows, given)
    metrics = found.metrics()
    for name, labels in THREE.items():
        true = found.tasks[name].truth
        kept = true != IGNORE
        place = ("action_class", "offence", "severity").index(name)
        spelled = [row[place].replace("No Offence", "No offence") for row in rows.values()]
        wanted = [labels.classes.index(word) if word in labels.classes else IGNORE for word in spelled]
        np.testing.assert_array_equal(true, wanted)
        true, guess = true[kept], given[name].argmax(axis=1)[kept]
        order = np.argsort(-given[name][kept], axis=1)[:, :2]
        present = np.unique(true)
        assert metrics[f"{name}_acc"] == pytest.approx(np.mean(true == guess))
        assert metrics[f"{name}_ba"] == pytest.approx(balanced_accuracy_score(true, guess))
        macro = f1_score(true, guess, labels=present, average="macro")
        assert metrics[f"{name}_macro_f1"] == pytest.approx(macro)
        assert metrics[f"{name}_top2"] == pytest.approx(np.mean((order == true[:, None]).any(axis=1)))
        for label, value in zip(present, recall_score(true, guess, labels=present, average=None)):
            assert metrics[f"{name}_recall/{label}"] == pytest.approx(value)
        classes = range(len(labels.classes))
        np.testing.assert_array_equal(
            found.tasks[name].matrix, confusion_matrix(true, guess, labels=list(classes))
        )
    assert metrics["mean_ba"] == pytest.approx(np.mean([metrics[f"{name}_ba"] for name in THREE]))


def test_official_metrics_are_those_of_the_strict_evaluator():
    rows, given = sample(seed=1)
    found = judged(rows, given)
    metrics = found.metrics()
    strict = judge_official(annotations(rows), found.entries())
    assert metrics["leaderboard"] == strict.leaderboard == (metrics["os_ba"] + metrics["action_ba"]) / 2
    assert 0 < metrics["leaderboard_low"] < metrics["leaderboard"] < metrics["leaderboard_high"] < 1
    assert (metrics["os_acc"], metrics["action_acc"]) == (strict.os.accuracy, strict.action.accuracy)
    projected = project_probabilities(given, THREE, ProjectionSettings())
    official = [slow_rule(*row) for row in rows.values()]
    right = [ids[1] == os for ids, os in zip(official, projected.os_id) if ids is not None]
    assert metrics["os_acc"] == pytest.approx(np.mean(right))
    assert "partial" not in metrics
    assert found.compat is not None
    assert found.compat.mode == "compat"


def test_order_of_ids_does_not_matter_and_missing_actions_are_wrong():
    rows, given = sample(seed=2)
    whole = judged(rows, given)
    order = np.random.default_rng(0).permutation(len(rows))
    names = [list(rows)[place] for place in order]
    shuffled = {name: values[order] for name, values in given.items()}
    turned = judge(shuffled, names, annotations(rows), THREE, ProjectionSettings())
    assert turned.metrics() == pytest.approx(whole.metrics(), nan_ok=True)
    half = {name: values[:30] for name, values in given.items()}
    fewer = judge(half, list(rows)[:30], annotations(rows), THREE, ProjectionSettings())
    assert fewer.strict.os.count.sum() == whole.strict.os.count.sum()
    assert fewer.metrics()["os_acc"] < whole.metrics()["os_acc"]
    partial = judge(half, list(rows)[:30], annotations(rows), THREE, ProjectionSettings(), partial=True)
    assert partial.metrics()["partial"] == 1
    assert set(partial.strict.ids) <= set(list(rows)[:30])


def test_without_the_heads_there_is_no_official_number():
    rows, given = sample()
    del given["offence"]
    found = judged(rows, given)
    assert found.lacking == "offence (or offence_severity)"
    assert not {"leaderboard", "os_ba", "action_ba"} & set(found.metrics())
    assert found.metrics()["mean_ba"] > 0
    assert found.entries() == {}


def test_junk_classes_are_in_the_matrix_but_in_no_average():
    tasks = {name: task_labels(name, "modular") for name in THREE}
    rows, given = sample(tasks=tasks)
    task = judged(rows, given, tasks).tasks["severity"]
    assert task.labels.classes[0] not in TASKS["severity"].classes
    assert task.matrix[0].sum() > 0
    recalls = [task.matrix[c, c] / task.matrix[c].sum() for c in range(1, 6)]
    assert task.ba == pytest.approx(np.mean(recalls))


def test_a_task_without_labels_is_nan_and_left_out_of_the_mean():
    rows = {"0": ("Dive", "Offence", ""), "1": ("Pushing", "Offence", "")}
    given = {name: np.full((2, len(t.classes)), 0.1) for name, t in THREE.items()}
    found = judged(rows, given)
    assert np.isnan(found.metrics()["severity_ba"])
    assert found.metrics()["mean_ba"] == pytest.approx((0 + 1) / 2)


def test_refusals():
    rows, given = sample(size=10)
    truth, settings = annotations(rows), ProjectionSettings()
    with pytest.raises(ValueError, match="ids: an id comes twice"):
        judge(given, [next(iter(rows))] * 10, truth, THREE, settings)
    with pytest.raises(ValueError, match="'nobody'"):
        judge(given, [*list(rows)[:9], "nobody"], truth, THREE, settings)
    with pytest.raises(ValueError, match="is expected, not"):
        judge(given, list(rows)[:9], truth, THREE, settings)
