"""Samplers, weights and margins of a run against the documented numbers, and what is said about them."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
from mv_counts import COUNTS, SAMPLES, every_task, labels_of, make_plan
from scipy.stats import chisquare

from common.balancing.weights import weights_from_counts
from common.config import UserError
from mvfouls.balance import sampled_tasks
from mvfouls.balance_text import short
from mvfouls.settings import BalanceSettings, LossSettings

WEIGHTED = LossSettings(weighted=True)
FOCAL = LossSettings(kind="focal", weighted=True, smoothing=0.1)
LDAM = LossSettings(kind="ldam")
RATIO = BalanceSettings(strategy="balanced_capped")
FACTOR = replace(RATIO, sampler="factor", sampler_tasks=("severity",))
PROGRESSIVE = replace(
    FACTOR, sampler_tasks=("severity", "action_class"), factor_start=1.5, factor_end=3.0, factor_epochs=15
)
VALUE = BalanceSettings(strategy="balanced", limit_rule="value")


def close(found: object, expected: object, *, rtol: float = 1e-7) -> None:
    """Compare numbers with those of a table of four decimals, or more exactly when they are large."""
    actual, wanted = (np.asarray(values, dtype=np.float64) for values in (found, expected))
    np.testing.assert_allclose(actual, wanted, rtol=rtol, atol=5e-5)


@pytest.mark.parametrize(
    ("balance", "task", "expected"),
    [
        (RATIO, "severity", [0.5214, 1.8138, 1.0640, 5.2136, 5.2136]),
        (replace(RATIO, strategy="sqrt"), "severity", [0.7163, 1.3361, 1.0233, 4.0435, 5.1618]),
        (replace(RATIO, strategy="log"), "severity", [0.5947, 1.5661, 1.0637, 4.8427, 5.7154]),
        (
            replace(RATIO, strategy="effective_number"),
            "severity",
            [0.6297, 1.4311, 0.9553, 6.2973, 6.2973],
        ),
        (RATIO, "action_class", [0.9459, 0.3353, 3.3525, 1.1738, 3.3525, 2.3807, 1.1064, 3.3525]),
        (VALUE, "severity", [0.4406, 1.5327, 0.8991, 10, 10]),
        (VALUE, "offence", [0.3918, 3.017, 10]),
        (
            replace(VALUE, strategy="effective_number", beta=0.9999),
            "severity",
            [0.4530, 1.5004, 0.8926, 10, 10],
        ),
        (FACTOR, "severity", [0.6714, 0.6714, 0.6714, 5.3479, 6.7135]),
        (replace(FACTOR, basis="natural"), "severity", [0.5214, 1.8138, 1.0640, 5.2136, 5.2136]),
    ],
)
def test_golden_class_weights(balance: BalanceSettings, task: str, expected: list[float]) -> None:
    weights = make_plan(balance, every_task(WEIGHTED)).weights(task, 0)
    close(weights, expected)


@pytest.mark.parametrize(
    ("task", "expected"),
    [
        ("offence", [0.2214, 0.3689, 0.5]),
        ("severity", [0.1863, 0.2544, 0.2226, 0.4425, 0.5]),
        ("action_class", [0.25, 0.1929, 0.3610, 0.2639, 0.3755, 0.3149, 0.26, 0.5]),
    ],
)
def test_golden_margins(task: str, expected: list[float]) -> None:
    plan = make_plan(FACTOR, every_task(LDAM))
    close(plan.margins(task), expected)
    assert plan.weights(task, 0) is None
    assert make_plan(FACTOR, every_task(WEIGHTED)).margins(task) is None
    halved = make_plan(FACTOR, every_task(replace(LDAM, max_margin=0.25))).margins(task)
    close(halved, np.array(expected) / 2)


def test_golden_shares_of_the_sampler() -> None:
    drawn = make_plan(FACTOR, every_task(WEIGHTED)).presented("severity", 7)
    close(drawn / drawn.sum(), [0.3122, 0.3122, 0.3122, 0.0392, 0.0241])
    assert 2500 < drawn.sum() < SAMPLES


@pytest.mark.parametrize(
    ("end", "factors"),
    [(3.0, {0: 1.5, 1: 1.6, 5: 2, 10: 2.5, 15: 3, 30: 3}), (6.0, {5: 3.0, 15: 6.0})],
)
def test_the_factor_grows_and_the_weights_follow(end: float, factors: dict[int, float]) -> None:
    plan = make_plan(replace(PROGRESSIVE, factor_end=end), every_task(FOCAL))
    assert {epoch: plan.factor(epoch) for epoch in factors} == pytest.approx(factors)
    assert plan.phases() == tuple(range(16))
    for epoch in factors:
        for task in COUNTS:
            expected = weights_from_counts(plan.presented(task, epoch), "balanced_capped")
            close(plan.weights(task, epoch), expected)
    assert plan.weights("severity", 0) != plan.weights("severity", 1)
    assert plan.weights("severity", 15) == plan.weights("severity", 40)


def test_golden_budget_of_sampler_and_weights() -> None:
    plan = make_plan(FACTOR, every_task(WEIGHTED))
    budget = plan.budget("severity", 0)
    close(budget.effective, [0.2096] * 4 + [0.1615])
    assert budget.strength == pytest.approx(0.934, abs=5e-4)
    assert budget.inversion == pytest.approx(1)
    assert plan.findings() == ()


def test_sampler_with_natural_weights_is_refused_unless_allowed() -> None:
    natural = replace(FACTOR, basis="natural")
    plan = make_plan(natural, every_task(WEIGHTED))
    effective = [0.1170, 0.4071, 0.2388, 0.1469, 0.0901]
    close(plan.budget("severity", 0).effective, effective)
    (text,) = [text for level, text in plan.findings() if level == "error"]
    assert text.startswith("severity: overcorrection: inversion 3.48")
    allowed = make_plan(replace(natural, allow_overcorrection=True), every_task(WEIGHTED)).findings()
    assert {level for level, _ in allowed} == {"warning"}


@pytest.mark.parametrize(
    ("balance", "loss"),
    [
        (PROGRESSIVE, FOCAL),
        (replace(FACTOR, factor_start=6.0, factor_end=6.0), WEIGHTED),
        (VALUE, WEIGHTED),
        (BalanceSettings(sampler="mixture"), LDAM),
        (replace(VALUE, sampler="mixture"), FOCAL),
        (BalanceSettings(sampler="joint"), LossSettings(adjustment=1.0)),
        (replace(RATIO, sampler="factor"), LossSettings(kind="bce", weighted=True)),
        (RATIO, LossSettings(kind="balanced_softmax", weighted=True)),
    ],
)
def test_documented_combinations_are_safe(balance: BalanceSettings, loss: LossSettings) -> None:
    plan = make_plan(balance, every_task(loss))
    assert [found for found in plan.findings() if found[0] == "error"] == []
    for task in COUNTS:
        strength = plan.budget(task, 0).strength
        assert strength is not None
        assert strength < 1.05


@pytest.mark.parametrize("sampler", ["factor", "mixture", "joint", "dynamic", "shuffle"])
def test_an_epoch_draws_what_was_announced(sampler: str) -> None:
    plan = make_plan(replace(FACTOR, sampler=sampler, max_repeat=20.0), every_task(WEIGHTED))  # type: ignore[arg-type]
    made = plan.sampler()
    plan.observe({"action_class": np.linspace(0.8, 0.1, 8)})
    labels = labels_of(COUNTS, SAMPLES)
    drawn: list[int] = []
    for epoch in range(12):
        made.set_epoch(epoch)
        drawn += [key.index for key in made]
    assert len(drawn) == 12 * SAMPLES
    for task, column in labels.items():
        expected = 12 * plan.presented(task, 0)
        seen = np.bincount(column[drawn][column[drawn] >= 0], minlength=len(expected))
        assert chisquare(seen, expected * seen.sum() / expected.sum()).pvalue > 1e-4
    times = np.bincount(drawn, minlength=SAMPLES) / 12
    assert times.max() < 30
    task = "action_class" if sampler == "dynamic" else "severity"
    more_often = plan.presented(task, 0)[-1] > 1.5 * COUNTS[task][-1]
    assert more_often == (sampler != "shuffle")


def test_the_ranks_share_a_stream_keyed_by_the_seed() -> None:
    plan = make_plan(PROGRESSIVE, every_task(WEIGHTED))
    whole = list(plan.sampler())
    first, second = (list(plan.sampler(rank, 2)) for rank in range(2))
    assert [key for pair in zip(first, second) for key in pair] == whole


def test_a_dynamic_sampler_moves_what_is_presented() -> None:
    balance = BalanceSettings(sampler="dynamic", dynamic_power=2.0, strategy="balanced_capped")
    plan = make_plan(balance, every_task(WEIGHTED))
    close(plan.presented("action_class", 0), COUNTS["action_class"])
    before = plan.weights("action_class", 1)
    state = plan.sampler()
    plan.observe({"action_class": [1.0] * 7 + [0.4], "severity": [0.0] * 5})
    drawn = plan.presented("action_class", 1)
    assert drawn[7] / drawn[0] == pytest.approx(28 / 448 / 0.4**2)
    assert plan.weights("action_class", 1) != before
    resumed = make_plan(balance, every_task(WEIGHTED))
    resumed.sampler().load_state_dict(state.state_dict())
    np.testing.assert_array_equal(resumed.presented("action_class", 1), drawn)
    assert sampled_tasks(balance) == ("action_class",)


def test_positive_weights_of_one_vs_rest() -> None:
    loss = every_task(LossSettings(kind="bce", weighted=True))
    expected = [(2915 - n) / n for n in COUNTS["offence"]]
    weights = make_plan(replace(VALUE, limit=50.0), loss).weights("offence", 0)
    close(weights, expected)
    capped = make_plan(VALUE, loss).weights("offence", 0)
    close(capped, np.minimum(expected, 10))
    drawn = make_plan(replace(FACTOR, limit=99.0), loss).weights("severity", 0)
    close(drawn, 1 / np.array([0.3122, 0.3122, 0.3122, 0.0392, 0.0241]) - 1, rtol=2e-3)
    free = make_plan(replace(VALUE, limit=99.0), loss).budget("offence", 0)
    close(free.effective, [1 / 3] * 3)


def test_deferred_weights_begin_late_and_sum_to_the_classes() -> None:
    plan = make_plan(BalanceSettings(), every_task(replace(LDAM, drw_start=0.8)), epochs=200)
    assert plan.phases() == (0, 160)
    assert plan.weights("severity", 159) == (1,) * 5
    late = np.array(plan.weights("severity", 160))
    u = 1e-4 / (1 - 0.9999 ** np.array(COUNTS["severity"]))
    close(late, 5 * u / u.sum())
    assert "drw=0.8" in plan.lines()[1]
    never = make_plan(BalanceSettings(), every_task(replace(LDAM, drw_start=1.0)), epochs=4).findings()
    assert {level for level, _ in never} == {"error"}
    assert "never" in never[0][1]


@pytest.mark.parametrize(("tau", "strength"), [(1.0, 1.0), (0.5, 0.5), (1.6, 1.6)])
def test_logit_adjustment_is_part_of_the_budget(tau: float, strength: float) -> None:
    plan = make_plan(BalanceSettings(), every_task(LossSettings(adjustment=tau)))
    assert plan.budget("severity", 0).strength == pytest.approx(strength)
    assert {level for level, _ in plan.findings()} == ({"error"} if tau > 1.5 else set())
    softmax = make_plan(FACTOR, every_task(LossSettings(kind="balanced_softmax")))
    close(softmax.budget("severity", 0).effective, [0.2] * 5)


def test_given_weights_replace_computed_ones() -> None:
    losses = every_task(WEIGHTED) | {"offence": replace(WEIGHTED, class_weights=(1.0, 2.0, 3.0))}
    plan = make_plan(RATIO, losses)
    assert plan.weights("offence", 0) == (1, 2, 3)
    wrong = make_plan(RATIO, every_task(replace(WEIGHTED, class_weights=(1.0, 2.0, 3.0))))
    with pytest.raises(ValueError, match="class weights of severity"):
        wrong.weights("severity", 0)


def test_absent_and_tiny_classes_are_told() -> None:
    counts = {"severity": [50, 0, 7, 2, 8]}
    plan = make_plan(FACTOR, {"severity": WEIGHTED}, counts, samples=67)
    weights = plan.weights("severity", 0)
    assert weights is not None
    assert weights[1] == 0
    assert plan.findings() == (
        ("warning", "severity: class 1 (2.0) has no training sample: neither learned nor weighted"),
        (
            "warning",
            "severity: under 8 training samples, drawn often and so learned by heart: "
            "class 2 (3.0) 7, class 3 (4.0) 2",
        ),
    )
    assert len(make_plan(RATIO, {"severity": WEIGHTED}, counts, samples=67).findings()) == 1
    margins = make_plan(RATIO, {"severity": LDAM}, counts, samples=67).margins("severity")
    assert margins is not None
    assert (margins[1], margins[3]) == (0, 0.5)


def test_tasks_that_cannot_be_balanced_are_refused() -> None:
    with pytest.raises(UserError, match="--balance_tasks: severity is no task"):
        make_plan(FACTOR, {"offence": WEIGHTED}, {"offence": [9, 8, 7]}, samples=24)
    empty = {"offence": [9, 8, 7], "severity": [0] * 5}
    with pytest.raises(UserError, match="severity: no training sample has a label"):
        make_plan(FACTOR, {"offence": WEIGHTED}, empty, samples=24)
    with pytest.raises(UserError, match="severity: no training sample has a label"):
        make_plan(RATIO, dict.fromkeys(empty, WEIGHTED), empty, samples=24)
    make_plan(RATIO, {"offence": WEIGHTED, "severity": replace(WEIGHTED, weight=0.0)}, empty, samples=24)


def test_console_lines() -> None:
    losses = {
        "severity": replace(FOCAL, weight=3.0),
        "action_class": LossSettings(adjustment=0.5),
        "offence": LDAM,
        "contact": LossSettings(weight=0.0),
    }
    plan = make_plan(FACTOR, losses, COUNTS | {"contact": [2835, 81]})
    loss, _, ldam, balance, *_ = plan.lines()
    assert loss == "loss     severity focal gamma=2 smoothing=0.1 | task weight 3"
    assert plan.lines()[1] == "loss     action_class ce tau=0.5"
    assert ldam == (
        "loss     offence ldam s=30 max_m=0.5 margins Offence .2214 No offence .3689 Between .5000"
    )
    assert balance == (
        "balance  severity 1.0=1402 2.0=403 3.0=687 4.0=44 5.0=27 | f 4.00 | weights .67 .67 .67 5.35 6.71 | "
        "effective .21 .21 .21 .21 .16 | rho .93 inversion 1.00"
    )
    assert len(plan.lines()) == 6
    shuffled = make_plan(BalanceSettings(), {"severity": LossSettings()}).lines()[1]
    assert "| sampler shuffle | weights none | effective .55 .16 .27 .02 .01 | rho .00" in shuffled
    even = make_plan(BalanceSettings(), {"offence": WEIGHTED}, {"offence": [5, 5, 5]}, samples=15).lines()
    assert even[1].endswith("rho - inversion -")
    assert [short(value) for value in (-0.05, -0.001, 10.5, 1.0, np.inf)] == [
        "-.05", ".00", "10.50", "1.00", "inf"
    ]  # fmt: skip


def test_numbers_for_the_log_and_the_report() -> None:
    plan = make_plan(PROGRESSIVE, {"severity": WEIGHTED, "offence": LDAM})
    values = plan.metrics(15)
    assert values["data/factor"] == 3
    shares = [values[f"data/effective_prior_severity/{c}"] for c in range(5)]
    assert shares == plan.budget("severity", 15).effective.tolist()
    assert "data/factor" not in make_plan(VALUE, {"severity": WEIGHTED}).metrics(0)
    told = json.loads(json.dumps(plan.to_dict(15), allow_nan=False))
    assert told["severity"]["weights"] == list(plan.weights("severity", 15) or ())
    assert told["offence"]["margins"] == list(plan.margins("offence") or ())
    assert told["severity"]["budget"]["counts"] == COUNTS["severity"]
