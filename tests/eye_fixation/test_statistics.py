import json
import math
from collections.abc import Sequence

import numpy as np
import pytest

from eye_fixation.metrics import Scores, SequenceSums
from eye_fixation.statistics import GroupStatistics, null_warnings, seed_compat_summary, without_nan

GROUPS = np.repeat(np.arange(30), 4)


def run(shift: float, seed: int = 0, *, groups: int = 30, scale: float = 0.3) -> Scores:
    """One run's bits: the difficulty of each sequence, which all models share, and some noise of its own."""
    size = (4 * groups, 2)
    difficulty = np.random.default_rng(0).standard_normal(size)
    bits = difficulty + shift + scale * np.random.default_rng([1, seed]).standard_normal(size)
    counts = np.ones(size)
    columns = [np.concatenate([part.sum(1, keepdims=True), part], axis=1) for part in (bits, counts)]
    error = SequenceSums(-bits.sum(1, keepdims=True), counts.sum(1, keepdims=True))
    return Scores(
        values={"bits": bits.mean(), "energy": -bits.mean(), "ap": 0.1 + 0.01 * seed, "sauc": math.nan},
        per_horizon={"bits": bits.mean(0).tolist(), "ap": [0.1, 0.2], "sauc": [math.nan, 0.5]},
        sequences={"bits": SequenceSums(*columns), "energy": error},
    )


def runs(shift: float, seeds: Sequence[int] = (1, 2, 3)) -> list[Scores]:
    return [run(shift, seed) for seed in seeds]


def test_a_summary_has_all_its_fields() -> None:
    statistics = GroupStatistics(GROUPS)
    models = runs(-8)
    summary = statistics.summary(models)
    means = [model.values["bits"] for model in models]
    bits = summary["bits"]
    assert bits["mean"] == pytest.approx(np.mean(means))
    assert bits["sd"] == pytest.approx(np.std(means, ddof=1))
    assert (bits["n_seeds"], bits["n_groups"]) == (3, 30)
    assert bits["per_horizon"] == pytest.approx(np.mean([m.per_horizon["bits"] for m in models], 0).tolist())
    low, high = bits["ci"]
    assert low < bits["mean"] < high
    assert high - low == pytest.approx(2 * 1.96 / math.sqrt(240), rel=0.35)
    for (below, above), value in zip(bits["per_horizon_ci"], bits["per_horizon"]):
        assert below < value < above
        assert above - below > high - low
    assert summary["energy"]["ci"] == pytest.approx([-high, -low])
    assert summary["ap"]["ci"] is None
    assert summary["ap"]["sd"] == pytest.approx(0.01)
    assert "per_horizon_ci" not in summary["energy"]
    assert statistics.summary(models[:1])["bits"]["sd"] is None
    assert statistics.warnings == []


def test_level_and_seed_decide_the_interval() -> None:
    def interval(**options: float) -> list[float]:
        found: list[float] = GroupStatistics(GROUPS, **options).summary(runs(-8))["bits"]["ci"]  # type: ignore[arg-type]
        return found

    assert interval(seed=3) == interval(seed=3) != interval(seed=4)
    assert interval(level=0.5)[0] > interval()[0]


def test_differences_are_paired_and_the_best_comes_first() -> None:
    models = {"bce": runs(-8.1), "mse": runs(-9.0), "dice": runs(-8.12, (4, 5, 6))}
    statistics = GroupStatistics(GROUPS)
    found = statistics.comparison(models, reference=("history_kernel", run(-8.5, 9)))
    assert (found["metric"], found["reference"]) == ("bits", "history_kernel")
    assert found["ranking"][-1] == "mse"
    assert found["ranking_supported"] is True
    pairs = {(pair["a"], pair["b"]): pair for pair in found["pairs"]}
    named = [("bce", "history_kernel"), ("mse", "history_kernel"), ("dice", "history_kernel")]
    assert list(pairs) == [*named, ("bce", "mse"), ("bce", "dice"), ("mse", "dice")]
    gain = pairs["bce", "history_kernel"]
    assert gain["difference"] == pytest.approx(0.4, abs=0.05)
    assert 0.3 < gain["ci"][0] < gain["difference"] < gain["ci"][1] < 0.5
    assert gain["p_holm"] == pytest.approx(3 * 2 / 2001)
    assert pairs["bce", "mse"]["ci"][0] > 0.8
    close = pairs["bce", "dice"]
    assert close["ci"][0] < 0 < close["ci"][1]
    assert close["p_holm"] > 0.1
    assert statistics.warnings == []


def test_errors_rank_from_the_smallest() -> None:
    models = {"bad": runs(-9), "good": runs(-8)}
    assert GroupStatistics(GROUPS).comparison(models, metric="energy")["ranking"] == ["good", "bad"]
    assert GroupStatistics(GROUPS).comparison(models)["ranking"] == ["good", "bad"]
    with pytest.raises(ValueError, match=r"'ap' cannot be resampled: one of bits, energy"):
        GroupStatistics(GROUPS).comparison(models, metric="ap")


def test_fewer_than_three_seeds_support_no_ranking() -> None:
    statistics = GroupStatistics(GROUPS)
    found = statistics.comparison({"bce": runs(-8), "mse": runs(-9, (1, 2))})
    assert found["ranking_supported"] is False
    assert found["reference"] is None
    assert statistics.warnings == ["intervals cover test groups only, no ranking"]
    assert found["pairs"][0]["ci"] is not None
    found = statistics.comparison({"bce": runs(-8, (1, 2, 3)), "mse": runs(-9, (1, 2, 3))})
    assert found["ranking_supported"] is True
    assert statistics.warnings == []


def test_fewer_than_five_groups_have_no_interval() -> None:
    statistics = GroupStatistics(np.repeat(np.arange(4), 4))
    models = {"bce": [run(-8, seed, groups=4) for seed in range(3)], "mse": [run(-9, 0, groups=4)] * 3}
    assert statistics.summary(models["bce"])["bits"]["ci"] is None
    found = statistics.comparison(models)
    assert found["ranking_supported"] is False
    assert found["pairs"] == [
        {"a": "bce", "b": "mse", "ci": None, "difference": pytest.approx(1, abs=0.3), "p_holm": None}
    ]
    assert statistics.warnings == ["no interval: 4 groups, at least 5 are needed"]
    assert math.isnan(statistics.standard_errors_above(models["bce"], models["mse"][0]))


def test_a_model_above_its_bound_is_noticed() -> None:
    statistics = GroupStatistics(GROUPS)
    assert statistics.standard_errors_above(runs(-8), run(-8.5)) > 3
    assert statistics.standard_errors_above(runs(-8.6), run(-8.5)) < 0
    assert statistics.standard_errors_above([run(-8)], run(-8)) == 0


def test_the_documented_block_has_seven_keys() -> None:
    first = {
        "best_val_loss": 1.0,
        "final_train_loss": 2.0,
        "test_loss": 3.0,
        "white_pixel_recall": 0.5,
        "white_pixel_precision": 0.25,
        "f1_score": 0.1,
        "converged": True,
        "total_target_pixels": 7,
    }
    second = {**first, "test_loss": 5.0, "converged": False}
    found = seed_compat_summary([first, second])
    assert len(found) == 7
    assert found["test_loss"] == 4
    assert found["converged"] is False
    assert seed_compat_summary([first])["converged"] is True


def test_json_has_no_nan_and_says_what_is_missing() -> None:
    summary = GroupStatistics(GROUPS).summary(runs(-8))
    numbers = (1, math.inf, np.float64(2))
    block = {"bce": {"summary": summary}, "list": numbers, "flag": np.bool_(True), "none": None}
    clean, places = without_nan(block)
    text = json.dumps(clean, allow_nan=False)
    assert json.loads(text)["bce"]["summary"]["sauc"]["mean"] is None
    assert clean["list"] == [1, None, 2.0]
    assert clean["flag"] is True
    assert places == [f"bce.summary.sauc.{part}" for part in ("mean", "sd", "per_horizon[0]")] + ["list[1]"]
    assert null_warnings([*places, "bce.summary.mde_argmax_deg.mean"]) == [
        "degree metrics are null: the screen's geometry is unknown",
        "undefined, stored as null: list, sauc",
    ]
    assert null_warnings([]) == []
