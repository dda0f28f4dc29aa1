"""Task weights that follow the confusion matrices of the last epoch."""

import numpy as np
import pytest
import torch
from mv_counts import every_task, make_plan
from sklearn.metrics import accuracy_score, f1_score

from mvfouls.objective import Objective
from mvfouls.settings import BalanceSettings, LossSettings, TaskWeighting
from mvfouls.task_weighting import TaskWeights, score_of

SIZES = {"action_class": 8, "severity": 5, "offence": 3}


def objective() -> Objective:
    losses = every_task(LossSettings(weight=2.0))
    return Objective(losses, make_plan(BalanceSettings(), losses))


def matrices(**right: int) -> dict[str, np.ndarray]:
    """Return for each task 10 samples of class 0, so many of them right."""
    found = {}
    for task, size in SIZES.items():
        matrix = np.zeros((size, size), dtype=np.int64)
        matrix[0, 0], matrix[0, 1] = right[task], 10 - right[task]
        found[task] = matrix
    return found


SEEN = matrices(action_class=9, severity=4, offence=1)


def test_the_next_epoch_weighs_bad_tasks_more():
    weights = TaskWeights(objective(), TaskWeighting(strategy="inverse_accuracy"))
    weights.see("train", SEEN)
    assert set(weights.objective.task_weights.values()) == {2.0}
    weights.begin_epoch()
    ratios = {"action_class": 1 / 1.0, "severity": 1 / 0.5, "offence": 1 / 0.2}
    total = sum(ratios.values())
    expected = {task: 2.0 * 3 * ratio / total for task, ratio in ratios.items()}
    assert weights.objective.task_weights == pytest.approx(expected)
    assert weights.metrics() == {f"{task}_weight": pytest.approx(value) for task, value in expected.items()}


def test_the_loss_really_uses_them():
    weights = TaskWeights(objective(), TaskWeighting(strategy="inverse_accuracy"))
    logits = {task: torch.zeros(2, size) for task, size in SIZES.items()}
    targets = {task: torch.zeros(2, dtype=torch.int64) for task in SIZES}
    before = weights.objective.terms(logits, targets)["offence"].weight
    weights.see("train", SEEN)
    weights.begin_epoch()
    after = weights.objective.terms(logits, targets)["offence"].weight
    assert before == pytest.approx(1 / 3)
    assert after == pytest.approx(5 / 8)


@pytest.mark.parametrize(
    ("settings", "source"),
    [
        (TaskWeighting(), "train"),
        (TaskWeighting(strategy="difficulty"), "valid"),
        (TaskWeighting(strategy="difficulty", source="valid"), "train"),
        (TaskWeighting(strategy="uniform"), "train"),
    ],
)
def test_what_is_not_asked_for_changes_nothing(settings, source):
    weights = TaskWeights(objective(), settings)
    weights.see(source, SEEN)
    weights.begin_epoch()
    assert set(weights.objective.task_weights.values()) == {2.0}
    assert bool(weights.metrics()) == (settings.strategy is not None)


def test_a_resumed_run_goes_on_with_both_weights():
    first = TaskWeights(objective(), TaskWeighting(strategy="inverse_f1", source="valid"))
    first.see("valid", SEEN)
    first.begin_epoch()
    first.see("valid", matrices(action_class=1, severity=5, offence=9))
    again = TaskWeights(objective(), first.settings)
    again.load_state_dict(first.state_dict())
    assert again.objective.task_weights == first.objective.task_weights
    for each in (first, again):
        each.begin_epoch()
    assert again.objective.task_weights == first.objective.task_weights
    assert again.objective.task_weights["action_class"] > again.objective.task_weights["offence"]


def test_scores_are_those_of_scikit_learn():
    rng = np.random.default_rng(0)
    true, said = rng.integers(0, 4, 60), rng.integers(0, 4, 60)
    matrix = np.zeros((4, 4), dtype=np.int64)
    np.add.at(matrix, (true, said), 1)
    score = score_of(matrix)
    assert score.accuracy == pytest.approx(accuracy_score(true, said))
    assert score.macro_f1 == pytest.approx(f1_score(true, said, average="macro"))
    assert score.num_classes == 4
    assert np.isnan(score_of(np.zeros((3, 3), dtype=np.int64)).accuracy)
