"""The balance budget against the golden strengths, hand-computed priors and the rule table."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from common.balancing.budget import BalanceBudget, BudgetSettings, balance_budget
from common.balancing.budget_rules import positive_loss_share
from common.balancing.weights import class_weights, weights_from_counts
from common.statistics import ClassStatistics

UAV = ClassStatistics.from_counts([3343002, 758065856, 225910153, 212680989], unit="pixel")
LONG_TAIL = ClassStatistics.from_counts([5000, 500, 50], names=["a", "b", "c"])


def oversampled(statistics: ClassStatistics, factor: float) -> np.ndarray:
    counts = statistics.counts
    drawn = counts * np.minimum(factor, counts.max() / counts)
    return np.asarray(drawn / drawn.sum())


def levels(budget: BalanceBudget) -> list[str]:
    return [level for level, _ in budget.findings]


def one(budget: BalanceBudget, words: str) -> tuple[str, str]:
    (finding,) = [finding for finding in budget.findings if words in finding[1]]
    return finding


BALANCED, SQRT, CAPPED = (
    weights_from_counts(UAV.counts, name) for name in ("balanced", "sqrt", "balanced_capped")
)


@pytest.mark.parametrize(
    ("presented", "weights", "offset", "strength"),
    [
        (None, BALANCED, None, 1),
        (None, SQRT, None, 0.5),
        (None, CAPPED, None, 0.424526),
        (oversampled(UAV, 4), None, None, 0.255590),
        (oversampled(UAV, 4), CAPPED, None, 0.680116),
        (oversampled(UAV, 4), BALANCED, None, 1.255590),
        ([0.25] * 4, BALANCED, None, 2),
        (None, BALANCED, np.log(UAV.prior), 2),
    ],
)
def test_golden_strengths(
    presented: np.ndarray | None, weights: np.ndarray | None, offset: np.ndarray | None, strength: float
) -> None:
    budget = balance_budget(UAV, presented, weights, offset=offset)
    assert budget.strength == pytest.approx(strength, abs=5e-7)


def test_no_correction_leaves_the_natural_prior() -> None:
    budget = balance_budget(UAV)
    np.testing.assert_allclose(budget.effective, UAV.prior, rtol=1e-15)
    assert (budget.strength, budget.repeats, budget.findings, budget.factors) == (0, 1, (), {})


def test_priors_by_hand() -> None:
    statistics = ClassStatistics.from_counts([6, 3, 1])
    budget = balance_budget(statistics, [0.5, 0.3, 0.2], [1, 2, 2], [1, 1, 0.5], np.log([1, 2, 4]))
    np.testing.assert_allclose(budget.weighted, np.array([0.5, 0.6, 0.2]) / 1.3)
    np.testing.assert_allclose(budget.effective, np.array([0.5, 0.3, 0.05]) / 0.85)
    assert budget.strength == pytest.approx(1 - np.log(10) / np.log(6))
    assert budget.factors == pytest.approx({"sampler": 2.4, "weights": 2, "alpha": 0.5, "offset": 0.25})


@given(st.floats(-3, 3), st.floats(0, 2))
def test_logit_adjustment_and_weights_add_up(tau: float, power: float) -> None:
    weights = UAV.prior**-power
    budget = balance_budget(UAV, weights=weights, offset=tau * np.log(UAV.prior))
    assert budget.strength == pytest.approx(power + tau, abs=1e-9)


def test_posthoc_offset_acts_as_the_training_one() -> None:
    prior = np.log(UAV.prior)
    after, before = balance_budget(UAV, posthoc_offset=prior), balance_budget(UAV, offset=prior)
    np.testing.assert_allclose(after.effective, [0.25] * 4, rtol=1e-12)
    np.testing.assert_allclose(after.effective, before.effective)


def test_absent_classes_stay_out() -> None:
    statistics = ClassStatistics.from_counts([90, 0, 10])
    offset = np.array([np.log(0.9), 0, np.log(0.1)])
    budget = balance_budget(statistics, weights=class_weights(statistics, "sqrt"), offset=offset)
    assert budget.weighted[1] == budget.effective[1] == 0
    assert budget.strength == pytest.approx(1.5)


@pytest.mark.parametrize(
    ("power", "level"), [(1.04, None), (1.06, "warning"), (1.49, "warning"), (1.51, "error")]
)
def test_overcorrection_names_each_factor(power: float, level: str | None) -> None:
    budget = balance_budget(
        LONG_TAIL, oversampled(LONG_TAIL, 4), LONG_TAIL.prior ** -(power - np.log(4) / np.log(100))
    )
    assert budget.strength == pytest.approx(power)
    if level is None:
        assert not budget.findings
        return
    found, text = one(budget, "overcorrection")
    assert found == level
    assert "sampler x4" in text
    assert f"weights x{100**power / 4:.4g}" in text
    assert "class 2 (c) over class 0 (a)" in text
    allowed = balance_budget(
        LONG_TAIL, budget.presented, budget.weights, settings=BudgetSettings(allow_overcorrection=True)
    )
    assert levels(allowed) == ["warning"]


def test_errors_stop_and_strict_makes_every_finding_one() -> None:
    stacked = balance_budget(LONG_TAIL, [1 / 3] * 3, class_weights(LONG_TAIL, "balanced"))
    with pytest.raises(ValueError, match="overcorrection"):
        stacked.require()
    mild = balance_budget(LONG_TAIL, weights=LONG_TAIL.prior**-1.2)
    mild.require()
    strict = balance_budget(LONG_TAIL, weights=LONG_TAIL.prior**-1.2, settings=BudgetSettings(strict=True))
    assert levels(mild) == ["warning"]
    assert levels(strict) == ["error"]


def test_a_class_weighted_zero_is_judged_and_written_as_null() -> None:
    budget = balance_budget(LONG_TAIL, weights=[0, 1, 1])
    assert budget.strength == np.inf
    assert "overcorrection" in budget.errors[0]
    assert json.loads(json.dumps(budget.to_dict(), allow_nan=False))["strength"] is None
    assert balance_budget(LONG_TAIL, weights=[1, 1, 0]).strength == -np.inf
    with pytest.raises(ValueError, match="0 for every class"):
        _ = balance_budget(LONG_TAIL, weights=[0, 0, 0]).weighted


def test_balanced_counts_have_no_strength_and_fire_no_rule() -> None:
    statistics = ClassStatistics.from_counts([20, 20])
    budget = balance_budget(statistics, [0.5, 0.5], [1, 1], settings=BudgetSettings(max_ratio=5))
    assert budget.strength is None
    assert budget.findings == ()
    assert "strength -" in "\n".join(budget.lines())


@pytest.mark.parametrize(
    ("ratio", "level"), [(18.4, None), (18.6, "warning"), (36.9, "warning"), (37.1, "error")]
)
def test_torch_smoothing_bound(ratio: float, level: str | None) -> None:
    statistics = ClassStatistics.from_counts([4000, 3000, 2000, 10])
    settings = BudgetSettings(smoothing=0.1, smoothing_weighting="torch")
    budget = balance_budget(statistics, weights=[1, 1, 1, ratio], settings=settings)
    assert levels(budget) == ([] if level is None else [level])
    if level is not None:
        assert f"{ratio:.1f}:1: above 37.0:1" in budget.findings[0][1]
    hard = balance_budget(statistics, weights=[1, 1, 1, 99], settings=BudgetSettings(smoothing=0.1))
    assert not hard.findings


@pytest.mark.parametrize(("alpha", "share"), [(0.25, 0.0003257), (0.75, 0.002924), (0.999, 0.4941)])
def test_golden_share_of_the_positives(alpha: float, share: float) -> None:
    assert positive_loss_share(1 / 1024, alpha) == pytest.approx(share, rel=2e-4)


def test_sigmoid_alpha_that_hides_the_positives() -> None:
    statistics = ClassStatistics.from_counts([1023, 1])
    level, text = one(balance_budget(statistics, alpha=0.25), "sigmoid focal alpha 0.25")
    assert level == "warning"
    assert "0.0326 %" in text
    assert "alpha 0.999023" in text
    assert "-6.930" in text
    fine = balance_budget(statistics, alpha=1023 / 1024)
    assert not fine.findings
    assert fine.strength == pytest.approx(1)
    with pytest.raises(ValueError, match=r"alpha is 1\.5"):
        balance_budget(statistics, alpha=1.5)


def test_sigmoid_alpha_cancels_out_over_many_classes() -> None:
    budget = balance_budget(LONG_TAIL, alpha=0.75)
    assert (budget.strength, budget.alpha.tolist()) == (0, [1, 1, 1])
    assert not budget.findings


def test_repeats_of_the_most_repeated_sample() -> None:
    budget = balance_budget(LONG_TAIL, [1 / 3] * 3)
    assert budget.repeats == pytest.approx(37)
    assert not budget.findings
    longer = balance_budget(LONG_TAIL, [1 / 3] * 3, settings=BudgetSettings(epoch_scale=1.5))
    level, text = one(longer, "times per epoch")
    assert level == "warning"
    assert "class 2 (c) is expected 55.5 times" in text


def test_statistics_of_another_split_are_an_error() -> None:
    statistics = ClassStatistics.from_counts([5, 5], split="valid")
    assert one(balance_budget(statistics), "split 'valid'")[0] == "error"


def test_offsets_in_training_and_prediction_are_an_error() -> None:
    half = 0.5 * np.log(LONG_TAIL.prior)
    assert one(balance_budget(LONG_TAIL, offset=half, posthoc_offset=half), "twice")[0] == "error"
    assert not balance_budget(LONG_TAIL, offset=half).findings


@pytest.mark.parametrize(
    ("vectors", "settings", "words"),
    [
        ({"presented": LONG_TAIL.prior}, {"sampler": "repeat"}, "sampler repeat has no effect"),
        (
            {"weights": [1, 1, 1.04]},
            {"weights": "effective_number"},
            "weights effective_number have no",
        ),
        ({"weights": [1, 2, 3]}, {"max_ratio": 10}, "max_ratio 10 has no effect"),
        ({"alpha": [0.5] * 3}, {}, "alpha has no effect"),
        ({"offset": [0.0] * 3}, {}, "offset has no effect"),
        ({"posthoc_offset": [0.0] * 3}, {}, "posthoc_offset has no effect"),
    ],
)
def test_corrections_that_change_nothing_are_named(
    vectors: dict[str, np.ndarray], settings: dict[str, object], words: str
) -> None:
    budget = balance_budget(LONG_TAIL, **vectors, settings=BudgetSettings(**settings))  # type: ignore[arg-type]
    assert budget.findings == (("warning", budget.findings[0][1]),)
    assert budget.findings[0][1].startswith(words)


def test_a_cap_that_bites_has_an_effect() -> None:
    weights = class_weights(UAV, "balanced", max_ratio=10)
    assert not balance_budget(UAV, weights=weights, settings=BudgetSettings(max_ratio=10)).findings


@pytest.mark.parametrize("name", ["weights", "alpha", "presented", "offset", "posthoc_offset"])
def test_vectors_of_another_length_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        balance_budget(LONG_TAIL, **{name: [0.5, 0.5]})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=name):
        balance_budget(LONG_TAIL, **{name: [1, np.nan, 0]})  # type: ignore[arg-type]


def test_console_block() -> None:
    statistics = ClassStatistics.from_counts([660, 168, 172])
    settings = BudgetSettings(loss="focal(gamma=2)", weights="balanced")
    lines = balance_budget(
        statistics, weights=class_weights(statistics, "balanced"), settings=settings
    ).lines()
    assert lines == [
        "balance  focal(gamma=2) x weights(balanced)   sampler none   effective prior .33 .33 .33",
        "         natural prior .66 .17 .17   ratio 3.9   corrections weights x3.93   "
        "strength 1.00   repeats 1.0",
    ]


def test_console_block_of_many_classes_and_tiny_shares() -> None:
    statistics = ClassStatistics.from_counts([99_000, *[100] * 9, 1])
    head, detail = balance_budget(statistics).lines()
    assert head.endswith("effective prior .99 (most frequent) 1e-05 (rarest)")
    assert detail.startswith("         natural prior .99 (most")
    assert ".0028" in balance_budget(UAV).lines()[1]


def test_table_has_a_row_per_class() -> None:
    head, *rows = balance_budget(LONG_TAIL, weights=[1, 2, 4]).table()
    assert head.split() == [
        "id", "name", "samples", "share", "presented", "weight", "alpha", "offset", "weighted", "effective"
    ]  # fmt: skip
    assert rows[2].split() == ["2", "c", "50", "0.009009", "0.009009", "4", "1", "0", "0.03226", "0.03226"]


def test_report_form_is_plain() -> None:
    state = json.loads(json.dumps(balance_budget(UAV, weights=BALANCED).to_dict()))
    assert state["counts"] == UAV.counts.tolist()
    assert state["statistics_sha256"] == UAV.sha256
    np.testing.assert_allclose(state["effective"], [0.25] * 4)
    assert state["factors"] == {"weights": pytest.approx(226.762, abs=5e-4)}


SEVERITY = ClassStatistics.from_counts([1402, 403, 687, 44, 27], names=["1.0", "2.0", "3.0", "4.0", "5.0"])


def stacked(basis: str, **settings: bool) -> BalanceBudget:
    presented = oversampled(SEVERITY, 4)
    counts = presented * SEVERITY.support if basis == "presented" else SEVERITY.counts
    weights = weights_from_counts(counts, "balanced_capped")
    words = BudgetSettings(judge_inversion=True, **settings)  # type: ignore[arg-type]
    return balance_budget(SEVERITY, presented, weights, settings=words)


def test_golden_sampler_with_weights_for_what_it_presents() -> None:
    budget = stacked("presented")
    np.testing.assert_allclose(budget.weights, [0.6714, 0.6714, 0.6714, 5.3479, 6.7135], atol=5e-5)
    np.testing.assert_allclose(budget.effective, [0.2096] * 4 + [0.1615], atol=5e-5)
    assert budget.strength == pytest.approx(0.934, abs=5e-4)
    assert budget.inversion == pytest.approx(1)
    assert not budget.findings


def test_golden_sampler_with_weights_for_natural_counts_is_refused() -> None:
    budget = stacked("natural")
    np.testing.assert_allclose(budget.effective, [0.1170, 0.4071, 0.2388, 0.1469, 0.0901], atol=5e-5)
    assert budget.strength == pytest.approx(0.934, abs=5e-4)
    assert budget.inversion == pytest.approx(3.479, abs=5e-4)
    assert budget.to_dict()["inversion"] == budget.inversion
    level, text = one(budget, "inversion 3.48")
    assert level == "error"
    assert "class 1 (2.0) with 403 labels is favoured over class 0 (1.0) with 1402" in text
    assert "sampler x4" in text
    assert levels(stacked("natural", allow_overcorrection=True)) == ["warning"]


def test_inversion_is_judged_only_when_asked() -> None:
    weights = weights_from_counts(SEVERITY.counts, "balanced_capped")
    assert not balance_budget(SEVERITY, oversampled(SEVERITY, 4), weights).findings


@given(st.lists(st.integers(0, 30), min_size=2, max_size=8), st.integers(0, 2**32 - 1))
def test_inversion_is_the_largest_ratio_over_all_pairs(counts: list[int], seed: int) -> None:
    if not any(counts):
        return
    statistics = ClassStatistics.from_counts(counts)
    budget = balance_budget(statistics, weights=np.random.default_rng(seed).random(len(counts)) + 0.1)
    e = budget.effective
    pairs = [e[b] / e[a] for a, n_a in enumerate(counts) for b, n_b in enumerate(counts) if 0 < n_b < n_a]
    assert budget.inversion == (pytest.approx(max(pairs)) if pairs else None)


@pytest.mark.parametrize(("excess", "level"), [(1.04, None), (1.06, "warning"), (1.51, "error")])
def test_bounds_of_the_inversion(excess: float, level: str | None) -> None:
    statistics = ClassStatistics.from_counts([100, 90, 10])
    weights = np.array([1, excess * 100 / 90, 1])
    budget = balance_budget(statistics, weights=weights, settings=BudgetSettings(judge_inversion=True))
    assert levels(budget) == ([] if level is None else [level])


def test_a_common_class_weighted_zero_is_inverted_without_end() -> None:
    budget = balance_budget(LONG_TAIL, weights=[0, 1, 1], settings=BudgetSettings(judge_inversion=True))
    assert budget.inversion == np.inf
    assert json.loads(json.dumps(budget.to_dict(), allow_nan=False))["inversion"] is None
    assert balance_budget(LONG_TAIL, weights=[0, 0, 1]).inversion == np.inf
    assert balance_budget(LONG_TAIL, weights=[1, 0, 0]).inversion == 0
