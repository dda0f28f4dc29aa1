"""Losses of the tasks against torch, the documented numbers and the priors they are said to learn."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from mv_counts import COUNTS, every_task, labels_of, make_plan
from numpy.typing import NDArray
from scipy.optimize import minimize

from common.engine.task import LossTerm
from mvfouls.balance import BalancePlan
from mvfouls.heads import build_head
from mvfouls.objective import (
    Objective,
    TaskScore,
    Weighting,
    adapted_weights,
    cosine_tasks,
    smoothed_target,
    task_loss,
)
from mvfouls.scores import score_of
from mvfouls.settings import BalanceSettings, HeadSpec, LossSettings

NONE = -100
PLAIN = LossSettings()
WEIGHTED = LossSettings(weighted=True)
LDAM = LossSettings(kind="ldam")
CAPPED = BalanceSettings(strategy="balanced_capped")
KINDS = [
    WEIGHTED,
    LossSettings(kind="focal", weighted=True, smoothing=0.1),
    LossSettings(kind="bce", weighted=True, smoothing=0.1),
    LDAM,
    LossSettings(kind="balanced_softmax"),
    LossSettings(adjustment=0.7),
]


def value(term: LossTerm) -> float:
    return float(term.total.detach() / term.count)


def one_loss(plan: BalancePlan, task: str, z: list[float], y: int, *, training: bool = True) -> float:
    loss = task_loss(plan, task, 0).train(training)
    return float(loss(torch.tensor([z], dtype=torch.float64), torch.tensor([y])))


@pytest.mark.parametrize(
    ("y", "expected", "training"),
    [(0, 15.6434, True), (1, 2.1861, True), (2, 33.0001, True), (2, 18.0001, False)],
)
def test_golden_ldam(y: int, expected: float, training: bool) -> None:
    plan = make_plan(CAPPED, every_task(LDAM))
    loss = one_loss(plan, "offence", [0.2, 0.5, -0.1], y, training=training)
    assert loss == pytest.approx(expected, abs=5e-5)


@pytest.mark.parametrize(
    ("task", "start"), [("offence", 8.104), ("severity", 7.8196), ("action_class", 9.2115)]
)
def test_where_a_fresh_cosine_head_begins(task: str, start: float) -> None:
    """About log K without margins; with them log(1 + (K - 1) e^(s m_y)), over 4 for the counts."""
    plan, counts = make_plan(CAPPED, every_task(LDAM)), np.array(COUNTS[task])
    margins, k = np.array(plan.margins(task)), len(counts)
    closed = np.average(np.log1p((k - 1) * np.exp(LDAM.scale * margins)), weights=counts)
    assert closed == pytest.approx(start, abs=1e-3)
    torch.manual_seed(0)
    head = build_head(HeadSpec(kind="linear", dropout=0.0), 768, k, cosine=True)
    target = torch.from_numpy(np.repeat(np.arange(k), counts))
    for features, tolerance in ((torch.zeros(len(target), 768), 1e-4), (torch.randn(len(target), 768), 0.6)):
        cosines, loss = head(features).detach(), task_loss(plan, task, 0)
        assert float(loss.train()(cosines, target)) == pytest.approx(closed, abs=tolerance)
        evaluated = float(loss.eval()(cosines, target))
        assert evaluated == pytest.approx(math.log(k), abs=tolerance)
        assert evaluated < 4


@pytest.mark.parametrize(
    ("gamma", "expected"), [(2.0, [0.0041, 1.7026, 2.9091]), (0.0, [0.1698, 2.1698, 3.1698])]
)
def test_golden_focal(gamma: float, expected: list[float]) -> None:
    plan = make_plan(CAPPED, every_task(LossSettings(kind="focal", gamma=gamma)))
    found = [one_loss(plan, "offence", [2, 0, -1], y) for y in range(3)]
    assert found == pytest.approx(expected, abs=5e-5)


@pytest.mark.parametrize("loss", [loss for loss in KINDS if loss.kind != "bce"], ids=lambda loss: loss.kind)
def test_evaluation_reads_logits_as_prediction_does(loss: LossSettings) -> None:
    plan = make_plan(CAPPED, every_task(replace(loss, weighted=False, smoothing=0.0, gamma=0.0)))
    z, y = torch.rand(9, 3, dtype=torch.float64) - 0.5, torch.arange(9) % 3
    found = task_loss(plan, "offence", 0).eval()(z, y)
    expected = F.nll_loss(score_of(loss).probabilities(z).log(), y)
    assert float(found) == pytest.approx(float(expected), rel=1e-6)


def test_the_class_weight_multiplies_the_whole_loss_of_a_sample() -> None:
    plan = make_plan(CAPPED, every_task(replace(WEIGHTED, smoothing=0.1)))
    w = np.array(plan.weights("severity", 0))
    z, y = torch.randn(40, 5, dtype=torch.float64), torch.arange(40) % 5
    y[::7] = NONE
    each = F.cross_entropy(z, y, reduction="none", label_smoothing=0.1, ignore_index=NONE)
    expected = (each * torch.from_numpy(w)[y.clamp(min=0)]).sum() / (y != NONE).sum()
    assert float(task_loss(plan, "severity", 0)(z, y)) == pytest.approx(float(expected))


def test_one_vs_rest_equals_torch() -> None:
    for smoothing in (0.0, 0.2):
        plan = make_plan(CAPPED, {"severity": LossSettings(kind="bce", weighted=True, smoothing=smoothing)})
        objective = Objective(plan.losses, plan)
        z, y = torch.randn(12, 5, dtype=torch.float64), torch.arange(12) % 5
        y[3] = NONE
        q = (1 - smoothing) * F.one_hot(y.clamp(min=0), 5).double() + smoothing / 5
        w = torch.tensor(plan.weights("severity", 0), dtype=torch.float64)
        keep = y != NONE
        expected = F.binary_cross_entropy_with_logits(z[keep], q[keep], pos_weight=w)
        found = objective.terms({"severity": z}, {"severity": y})["severity"]
        assert value(found) == pytest.approx(float(expected), rel=1e-6)


def test_smoothed_targets() -> None:
    found = smoothed_target(torch.tensor([1, NONE]), 4, 0.2)
    expected = torch.tensor([[0.05, 0.85, 0.05, 0.05], [-100.0] * 4])
    assert torch.allclose(found, expected)


@pytest.mark.parametrize(
    ("loss", "balance"),
    [
        (PLAIN, CAPPED),
        (WEIGHTED, CAPPED),
        (WEIGHTED, BalanceSettings(strategy="sqrt")),
        (LossSettings(kind="bce", weighted=True), replace(CAPPED, limit=99.0)),
        (LossSettings(kind="bce", weighted=True), replace(CAPPED, limit=3.0)),
        (LossSettings(adjustment=0.6), CAPPED),
        (LossSettings(adjustment=1.0, weighted=True), CAPPED),
        (LossSettings(kind="balanced_softmax"), CAPPED),
    ],
)
def test_a_model_without_input_learns_the_effective_prior(
    loss: LossSettings, balance: BalanceSettings
) -> None:
    counts = {"severity": [60, 24, 30, 4, 2]}
    plan = make_plan(balance, {"severity": loss}, counts, samples=130)
    targets = {"severity": torch.from_numpy(labels_of(counts, 130)["severity"])}
    objective = Objective(plan.losses, plan)

    def cost(values: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        z = torch.tensor(values, requires_grad=True)
        term = objective.terms({"severity": z.expand(130, 5)}, targets)["severity"]
        loss = term.total / term.count
        (slope,) = torch.autograd.grad(loss, z)
        return float(loss.detach()), slope.numpy()

    z = torch.from_numpy(minimize(cost, np.zeros(5), jac=True, tol=1e-9).x)
    learned = score_of(loss).probabilities(z[None])[0].numpy()
    np.testing.assert_allclose(learned, plan.budget("severity", 0).effective, atol=1e-4)


@pytest.mark.parametrize("loss", KINDS, ids=lambda loss: loss.kind)
def test_a_batch_without_labels_costs_nothing(loss: LossSettings) -> None:
    plan = make_plan(CAPPED, every_task(loss))
    objective = Objective(plan.losses, plan)
    logits = {task: (torch.rand(4, len(n)) - 0.5).requires_grad_() for task, n in COUNTS.items()}
    targets = {task: torch.full((4,), NONE) for task in COUNTS} | {"offence": torch.tensor([0, NONE, 2, 1])}
    terms = objective.terms(logits, targets)
    assert (float(terms["severity"].total.detach()), float(terms["severity"].count)) == (0, 0)
    sum((term.total for term in terms.values()), torch.zeros(())).backward()  # type: ignore[no-untyped-call]
    for task in ("severity", "action_class"):
        slope = logits[task].grad
        assert slope is not None
        assert not slope.any()
    grad = logits["offence"].grad
    assert grad is not None
    assert (grad[1] == 0).all()
    assert (grad[[0, 2, 3]] != 0).any(dim=1).all()
    counts = {task: float(count) for task, count in objective.normalizers(targets).items()}
    assert counts == {"action_class": 0, "severity": 0, "offence": 3}
    assert {task: float(term.count) for task, term in terms.items()} == counts


def test_tasks_share_the_objective_by_their_weights() -> None:
    losses = {
        "action_class": replace(PLAIN, weight=3.0),
        "severity": replace(PLAIN, weight=3.0),
        "offence": replace(PLAIN, weight=0.5),
    }
    plan = make_plan(CAPPED, losses)
    objective = Objective(losses, plan)
    logits = {task: torch.randn(6, len(n)) for task, n in COUNTS.items()}
    targets = {task: torch.arange(6) % len(n) for task, n in COUNTS.items()}
    terms = objective.terms(logits, targets)
    assert {task: term.weight for task, term in terms.items()} == pytest.approx(
        {"action_class": 6 / 13, "severity": 6 / 13, "offence": 1 / 13}
    )
    for task in COUNTS:
        assert value(terms[task]) == pytest.approx(float(F.cross_entropy(logits[task], targets[task])))
    objective.set_task_weights({"action_class": 0.0, "severity": 1.0, "offence": 1.0})
    assert [term.weight for term in objective.terms(logits, targets).values()] == [0, 0.5, 0.5]
    assert objective.task_weights["offence"] == 1
    assert objective.base_weights["offence"] == 0.5
    for weights, words in [
        ({"severity": 1.0}, "task weights of"),
        (dict.fromkeys(COUNTS, 0.0), "all 0"),
        (dict.fromkeys(COUNTS, -1.0), "weight of action_class is -1"),
        (dict.fromkeys(COUNTS, math.nan), "weight of action_class is nan"),
    ]:
        with pytest.raises(ValueError, match=words):
            objective.set_task_weights(weights)


def test_a_task_of_weight_zero_has_no_loss() -> None:
    losses = every_task(PLAIN) | {"offence": replace(PLAIN, weight=0.0)}
    plan = make_plan(CAPPED, losses)
    assert list(Objective(losses, plan).settings) == ["action_class", "severity"]
    with pytest.raises(ValueError, match="all 0"):
        Objective(every_task(replace(PLAIN, weight=0.0)), plan)
    with pytest.raises(ValueError, match="weight of action_class is -2"):
        Objective(every_task(replace(PLAIN, weight=-2.0)), plan)


@pytest.mark.parametrize("kind", ["ce", "focal", "bce", "balanced_softmax"])
def test_an_epoch_exchanges_weights_and_priors(kind: str) -> None:
    balance = replace(CAPPED, sampler="factor", factor_start=1.5, factor_end=3.0, factor_epochs=15)
    losses = every_task(LossSettings(kind=kind, weighted=kind != "balanced_softmax"))  # type: ignore[arg-type]
    plan = make_plan(balance, losses)
    objective = Objective(losses, plan).eval()
    buffers = dict(objective.named_buffers())
    first = {name: buffer.clone() for name, buffer in buffers.items()}
    objective.set_epoch(15)
    assert all(buffer is buffers[name] for name, buffer in objective.named_buffers())
    assert not any(module.training for module in objective.modules())
    fresh = task_loss(plan, "severity", 15).state_dict()
    for name, buffer in fresh.items():
        assert torch.equal(buffers[f"losses.severity.{name}"], buffer)
        assert not torch.equal(first[f"losses.severity.{name}"], buffer)
    objective.set_epoch(0)
    for name, buffer in buffers.items():
        assert torch.equal(buffer, first[name])


def test_deferred_weights_join_the_margins() -> None:
    losses = every_task(replace(LDAM, drw_start=0.5))
    plan = make_plan(BalanceSettings(), losses, epochs=10)
    objective = Objective(losses, plan)
    logits = {task: torch.rand(8, len(n)) for task, n in COUNTS.items()}
    targets = {task: torch.full((8,), len(n) - 1) for task, n in COUNTS.items()}
    early = value(objective.terms(logits, targets)["severity"])
    plain = Objective(every_task(LDAM), make_plan(BalanceSettings(), every_task(LDAM)))
    assert early == value(plain.terms(logits, targets)["severity"])
    objective.set_epoch(5)
    weights = plan.weights("severity", 5)
    assert weights is not None
    assert value(objective.terms(logits, targets)["severity"]) == pytest.approx(early * weights[4], rel=1e-5)


def test_logit_adjustment_raises_minority_recall() -> None:
    torch.manual_seed(0)
    counts = {"offence": [600, 60, 12]}
    y = torch.from_numpy(labels_of(counts, 672)["offence"])
    x = torch.randn(672, 3) + 1.2 * F.one_hot(y, 3)
    recalls = []
    for loss in (PLAIN, LossSettings(adjustment=1.0)):
        plan = make_plan(BalanceSettings(), {"offence": loss}, counts, samples=672)
        objective, weight = Objective(plan.losses, plan), torch.zeros(4, 3)
        for _ in range(200):
            weight.requires_grad_()
            term = objective.terms({"offence": x @ weight[:3] + weight[3]}, {"offence": y})["offence"]
            (slope,) = torch.autograd.grad(term.total / term.count, weight)
            weight = weight.detach() - slope
        found = score_of(loss).probabilities(x @ weight[:3] + weight[3]).argmax(dim=1)
        recalls.append(float((found[y == 2] == 2).float().mean()))
    assert recalls[1] > recalls[0] + 0.3


def test_a_logit_adjustment_that_would_do_nothing_is_refused() -> None:
    plan = make_plan(CAPPED, every_task(replace(LDAM, adjustment=1.0)))
    with pytest.raises(ValueError, match="logit adjustment of action_class: its loss is ldam"):
        Objective(plan.losses, plan)


def test_cosine_heads_are_those_of_ldam() -> None:
    assert cosine_tasks({"severity": PLAIN, "offence": LDAM}) == ("offence",)


@pytest.mark.parametrize(
    ("strategy", "ratios"),
    [
        ("uniform", [1, 1]),
        ("inverse_accuracy", [1 / 0.6, 1 / 0.9]),
        ("inverse_f1", [1 / 0.3, 1 / 0.8]),
        ("difficulty", [0.8 + 0.5, 0.5 + 0.2]),
    ],
)
def test_task_weights_follow_what_was_learned(strategy: Weighting, ratios: list[float]) -> None:
    scores = {
        "action_class": TaskScore(accuracy=0.5, macro_f1=0.2, num_classes=8),
        "severity": TaskScore(accuracy=0.8, macro_f1=0.7, num_classes=5),
    }
    found = adapted_weights(strategy, {"action_class": 3.0, "severity": 1.0}, scores)
    scale = 2 / sum(ratios)
    assert found == pytest.approx({"action_class": 3 * ratios[0] * scale, "severity": ratios[1] * scale})


def test_a_task_without_a_score_keeps_its_weight() -> None:
    known = TaskScore(accuracy=0.5, macro_f1=0.2, num_classes=8)
    unknown = TaskScore(accuracy=math.nan, macro_f1=math.nan, num_classes=5)
    base = {"action_class": 3.0, "severity": 2.0}
    found = adapted_weights("inverse_f1", base, {"action_class": known, "severity": unknown})
    assert found == base
    assert adapted_weights("inverse_accuracy", base, dict.fromkeys(base, unknown)) == base
