"""Labels between two classes: their halves, their counts and weights, and what is judged by them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from mv_counts import COUNTS, labels_of
from mv_files import PLAIN
from mv_official import annotations
from numpy.typing import NDArray
from scipy.optimize import minimize

from common.balancing.weights import weights_from_counts
from mvfouls.annotations import Action
from mvfouls.balance import BalancePlan, plan_balance
from mvfouls.judging import judge
from mvfouls.labels import IGNORE, SEVERITIES, TASKS, TaskLabels, task_labels
from mvfouls.objective import Objective, smoothed_target
from mvfouls.scores import score_of
from mvfouls.settings import BalanceSettings, LossSettings, ProjectionSettings

SOFT: dict[str, TaskLabels] = TASKS | {task: task_labels(task, soft=True) for task in ("severity", "offence")}
HALVED = {"severity": [1603.5, 0, 910.5, 0, 49], "offence": [2543, 372, 0]}
"""The documented counts, those between two classes halved."""
CAPPED = BalanceSettings(strategy="balanced_capped")
FACTOR = replace(CAPPED, sampler="factor", sampler_tasks=("severity",))
WEIGHTED = LossSettings(weighted=True)
KINDS = [
    LossSettings(),
    WEIGHTED,
    replace(WEIGHTED, smoothing=0.1),
    LossSettings(kind="focal", weighted=True, smoothing=0.1),
    LossSettings(kind="bce", weighted=True),
    LossSettings(kind="bce", weighted=True, smoothing=0.1),
    LossSettings(kind="balanced_softmax"),
    LossSettings(adjustment=0.7),
]


def plan_of(
    balance: BalanceSettings,
    loss: LossSettings,
    counts: dict[str, list[int]] | None = None,
    *,
    tasks: dict[str, TaskLabels] = SOFT,
    samples: int = 2916,
) -> BalancePlan:
    counts = counts or COUNTS
    labels = labels_of(counts, samples)
    return plan_balance(balance, dict.fromkeys(counts, loss), labels, tasks, epochs=9, seed=3)


def action(**labels: str) -> Action:
    return Action(id="0", game="", clips=(), labelled=True, **(PLAIN | labels))


def test_halves() -> None:
    severity, offence = SOFT["severity"], SOFT["offence"]
    assert severity.shares() == [
        [1, 0, 0, 0, 0], [0.5, 0, 0.5, 0, 0], [0, 0, 1, 0, 0], [0, 0, 0.5, 0, 0.5], [0, 0, 0, 0, 1]
    ]  # fmt: skip
    assert offence.shares() == [[1, 0, 0], [0, 1, 0], [0.5, 0.5, 0]]
    junk = task_labels("severity", "modular", soft=True)
    assert junk.shares()[2] == [0, 0.5, 0, 0.5, 0, 0]
    assert task_labels("offence", undecided=False, soft=True).shares() == np.eye(2).tolist()
    assert TASKS["severity"].shares() == np.eye(5).tolist()
    with pytest.raises(ValueError, match="soft labels of contact: one of severity, offence"):
        task_labels("contact", soft=True)


def test_a_shared_label_has_its_id_and_is_not_judged() -> None:
    for task, value, number in (("severity", "4.0", 3), ("offence", "between", 2)):
        label = action(**{task: value})
        assert (SOFT[task].encode(label), SOFT[task].judged(label)) == (number, IGNORE)
        assert TASKS[task].judged(label) == number
    assert SOFT["severity"].judged(action(severity="5.0")) == 4
    assert SOFT["severity"].judged(action(severity="")) == IGNORE


@pytest.mark.parametrize("task", ["severity", "offence"])
def test_counts_and_weights(task: str) -> None:
    plan = plan_of(CAPPED, WEIGHTED)
    assert plan.presented(task, 0).tolist() == HALVED[task]
    assert (plan.statistics[task].counts / 2).tolist() == HALVED[task]
    expected = weights_from_counts(HALVED[task], "balanced_capped")
    np.testing.assert_allclose(plan.weights(task, 0), expected)
    shared = list(SOFT[task].shared)
    assert expected[shared].tolist() == [0] * len(shared)
    assert "action_class" not in plan.shares


def test_the_sampler_draws_by_the_annotated_classes() -> None:
    soft, hard = (plan_of(FACTOR, WEIGHTED, tasks=tasks) for tasks in (SOFT, TASKS))
    np.testing.assert_array_equal(soft.sampler().probabilities(0), hard.sampler().probabilities(0))
    drawn = hard.presented("severity", 0)
    np.testing.assert_allclose(
        soft.presented("severity", 0),
        [drawn[0] + drawn[1] / 2, 0, drawn[1] / 2 + drawn[2] + drawn[3] / 2, 0, drawn[3] / 2 + drawn[4]],
    )


def test_what_the_console_says() -> None:
    plan = plan_of(FACTOR, WEIGHTED)
    (line,) = [line for line in plan.lines() if line.startswith("balance  severity")]
    assert "severity 1.0=1603.5 2.0=0 3.0=910.5 4.0=0 5.0=49 | f 4.00 | weights" in line
    assert not any("no training sample" in text for _, text in plan.findings())
    few = {"severity": [30, 0, 9, 3, 2]}
    said = [text for _, text in plan_of(FACTOR, WEIGHTED, few, samples=50).findings()]
    assert any(text.endswith("learned by heart: class 4 (5.0) 3.5") for text in said)


@pytest.mark.parametrize("sampler", ["shuffle", "factor", "mixture", "joint", "dynamic"])
@pytest.mark.parametrize("loss", KINDS, ids=str)
def test_the_budget_is_that_of_the_samples(sampler: str, loss: LossSettings) -> None:
    """The weighted prior holds every sample's halves, times its weight, as often as it is drawn."""
    sampled = ("severity", "action_class")
    plan = plan_of(replace(CAPPED, sampler=sampler, sampler_tasks=sampled, dynamic_task="severity"), loss)
    labels = labels_of(COUNTS, 2916)["severity"]
    known, table = labels != IGNORE, plan.shares["severity"]
    drawer = plan.sampler()
    drawn = drawer.probabilities(0) if hasattr(drawer, "probabilities") else np.full(2916, 1 / 2916)
    weights = np.array(plan.weights("severity", 0) or np.ones(5))
    budget = plan.budget("severity", 0)
    if loss.kind != "bce":
        each = drawn[known] * (table @ weights)[labels[known]]
        expected = each @ table[labels[known]]
        np.testing.assert_allclose(budget.weighted, expected / expected.sum())
    assert np.isfinite(budget.effective).all()
    assert budget.effective[[1, 3]].tolist() == [0, 0]
    assert budget.inversion is not None
    assert budget.inversion < 1.5
    assert not budget.errors


def test_offence_over_two_classes() -> None:
    budget = plan_of(FACTOR, WEIGHTED).budget("offence", 0)
    assert budget.effective.tolist() == pytest.approx([0.5, 0.5, 0], abs=0.05)


@pytest.mark.parametrize(
    "loss", [loss for loss in KINDS if loss.kind != "focal" and not loss.smoothing], ids=str
)
def test_a_model_without_input_learns_the_effective_prior(loss: LossSettings) -> None:
    counts = {"severity": [60, 24, 30, 8, 3]}
    plan = plan_of(CAPPED, loss, counts, samples=130)
    targets = {"severity": torch.from_numpy(labels_of(counts, 130)["severity"])}
    objective = Objective(plan.losses, plan)

    def cost(values: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        z = torch.tensor(values, requires_grad=True)
        term = objective.terms({"severity": z.expand(130, 5)}, targets)["severity"]
        (slope,) = torch.autograd.grad(term.total / term.count, z)
        return float((term.total / term.count).detach()), slope.numpy()

    z = torch.from_numpy(minimize(cost, np.zeros(5), jac=True, tol=1e-10).x)
    learned = score_of(loss).probabilities(z[None])[0].numpy()
    np.testing.assert_allclose(learned, plan.budget("severity", 0).effective, atol=2e-4)


@pytest.mark.parametrize("loss", KINDS, ids=str)
def test_without_a_shared_label_training_is_that_of_hard_labels(loss: LossSettings) -> None:
    counts = {"severity": [30, 0, 12, 0, 3], "offence": [40, 9, 0], "action_class": [6] * 8}
    logits = {task: torch.randn(50, len(n)) for task, n in counts.items()}
    found = []
    for tasks in (TASKS, SOFT):
        plan = plan_of(replace(FACTOR, sampler_tasks=tuple(counts)), loss, counts, tasks=tasks, samples=50)
        targets = {task: torch.from_numpy(labels_of(counts, 50)[task]) for task in counts}
        given = {task: values.clone().requires_grad_() for task, values in logits.items()}
        objective = Objective(plan.losses, plan)
        terms = objective.terms(given, targets)
        total = sum(term.weight * term.total / term.count for term in terms.values())
        slopes = torch.autograd.grad(total, list(given.values()))
        assert objective.normalizers(targets)["severity"] == terms["severity"].count
        found.append([*(term.total.detach() for term in terms.values()), *slopes])
    assert all(torch.equal(hard, soft) for hard, soft in zip(*found, strict=True))


def test_targets() -> None:
    objective = Objective(
        {"severity": LossSettings()}, plan_of(CAPPED, LossSettings(), {"severity": [9] * 5})
    )
    target = torch.tensor([1, IGNORE, 4])
    found = objective._target("severity", target, 5)
    assert found.tolist() == [[0.5, 0, 0.5, 0, 0], [-100.0] * 5, [0, 0, 0, 0, 1]]
    assert objective.judged("severity", target).tolist() == [IGNORE, IGNORE, 4]
    assert objective.judged("contact", target) is target
    smooth = smoothed_target(found, 5, 0.5)
    assert smooth.tolist()[0] == pytest.approx([0.35, 0.1, 0.35, 0.1, 0.1])
    assert smooth.tolist()[1] == [-100] * 5


def test_a_shared_label_is_in_no_metric_of_its_task_and_the_official_ones_stay() -> None:
    rows = {
        str(number): ("Tackling", offence, severity)
        for number, (severity, offence) in enumerate(
            [(s, o) for s in (*SEVERITIES, "") for o in ("Offence", "No offence", "Between")]
        )
    }
    rng = np.random.default_rng(0)
    names = ("action_class", "severity", "offence")
    given = {name: rng.dirichlet(np.ones(len(TASKS[name].classes)), len(rows)) for name in names}
    hard, soft = (
        judge(given, list(rows), annotations(rows), tasks, ProjectionSettings(), resamples=0)
        for tasks in (TASKS, SOFT)
    )
    assert soft.tasks["severity"].matrix.sum(axis=1).tolist() == [3, 0, 3, 0, 3]
    assert hard.tasks["severity"].matrix.sum(axis=1).tolist() == [3] * 5
    np.testing.assert_array_equal(soft.tasks["severity"].matrix[::2], hard.tasks["severity"].matrix[::2])
    assert soft.tasks["severity"].averaged.tolist() == [True, False] * 2 + [True]
    assert soft.tasks["offence"].truth.tolist() == [0, 1, IGNORE] * 6
    assert soft.strict is not None
    assert hard.strict is not None
    assert soft.strict.to_dict() == hard.strict.to_dict()
