"""The result file of a comparison: complete, plain, its numbers in agreement; the same again from a seed."""

import json
from pathlib import Path
from typing import Any

import pytest
from eye_runs import JUDGED, Bench, Ran, plain, same

from eye_fixation.losses import DOCUMENTED

METRICS = {
    "bits", "ig_uniform", "ig_center", "ig_kernel", "ap", "auc", "sauc", "nss", "top1", "energy",
    "coverage_50", "coverage_90", "ece_top1", "ece_mass", "best_f1", "best_f1_threshold", "move_auc",
    "step_ratio", "step_w1",
    *(f"recall_at_{k}" for k in (1, 5, 10, 50)),
    *(f"hit_{radius}" for radius in (1, 2, 3)),
    *(f"mde_{point}_at_{k}" for point in ("argmax", "mean") for k in (1, 3, 6, 10)),
    *(f"mde_{point}_deg_at_{k}" for point in ("argmax", "mean") for k in (1, 3, 6, 10)),
}  # fmt: skip
KEYS = {
    "": {
        "schema", "kind", "command", "config", "environment", "data", "seed_compat", "losses", "baselines",
        "oracle", "human", "comparison", "warnings",
    },
    "environment": {"torch", "python", "device", "precision", "threads", "git", "date"},
    "data": {
        "source", "source_name", "dir", "sha256", "sequences", "valid_target_frames", "split_by", "img_size",
        "in_len", "out_len", "rate_hz", "prevalence",
    },
    "data.sha256": {"train", "val", "test"},
    "data.sequences": {"train", "val", "test"},
    "data.valid_target_frames": {"train", "val", "test"},
    "seed_compat": set(DOCUMENTED),
    "seed_compat.dice": {
        "best_val_loss", "final_train_loss", "test_loss", "white_pixel_recall", "white_pixel_precision",
        "f1_score", "converged",
    },
    "losses": set(DOCUMENTED),
    "losses.focal": {
        "kind", "hyperparameters", "prior_bias", "parameters", "initial_state_sha256", "runs", "summary"
    },
    "losses.focal.runs.2": {
        "seed", "status", "error", "epochs", "best_epoch", "best_val_loss", "train_losses", "val_losses",
        "seconds", "step_ms", "checkpoint", "calibration", "threshold", "metrics",
    },
    "losses.focal.runs.2.calibration": {"tau", "lambda"},
    "losses.focal.runs.2.threshold": {"value", "chosen_on"},
    "losses.focal.runs.2.metrics": {"raw", "calibrated"},
    "losses.focal.summary": METRICS,
    "losses.focal.summary.bits": {"mean", "sd", "ci", "per_horizon", "n_seeds", "n_groups"},
    "baselines": {
        "uniform", "center", "persistence", "constant_velocity", "linear_ar", "center_bias", "history_kernel"
    },
    "baselines.history_kernel": {"summary"},
    "comparison": {"metric", "reference", "pairs", "ranking", "ranking_supported"},
    "comparison.pairs.0": {"a", "b", "difference", "ci", "p_holm"},
}  # fmt: skip


@pytest.fixture
def whole(run: Bench) -> Ran:
    """The documented losses with three seeds, ten frames to ten."""
    ran = run.run(f"compare {JUDGED} --seeds 1 2 3 --in-len 10 --out-len 10")
    assert ran.code == 0, ran.err
    return ran


@pytest.mark.parametrize("place", KEYS)
def test_the_result_file_is_complete(place: str, whole: Ran) -> None:
    part: Any = whole.content
    for name in filter(None, place.split(".")):
        part = part[int(name)] if isinstance(part, list) else part[name]
    assert KEYS[place] <= part.keys()


def test_the_result_file_holds_plain_numbers(whole: Ran) -> None:
    def constant(text: str) -> None:
        raise AssertionError(text)

    text = (whole.folder / "loss_comparison.json").read_text()
    content = json.loads(text, parse_constant=constant)
    assert (content["schema"], content["kind"]) == (1, "loss_comparison")
    assert "degree metrics are null: the screen's geometry is unknown" in content["warnings"]
    assert content["losses"]["mse"]["summary"]["mde_mean_deg_at_1"]["mean"] is None
    assert not [line for line in content["warnings"] if "per_horizon" in line]


def test_the_numbers_of_a_comparison_fit_together(whole: Ran) -> None:
    for name, loss in whole.losses.items():
        compat, summary = whole.content["seed_compat"][name], loss["summary"]
        runs = [run["metrics"]["calibrated"] for run in loss["runs"]]
        assert [run["seed"] for run in loss["runs"]] == [1, 2, 3]
        for metric in ("bits", "ap", "mde_mean_at_3"):
            values = [found["values"][metric] if "values" in found else found[metric] for found in runs]
            assert summary[metric]["mean"] == pytest.approx(sum(values) / 3)
        assert summary["ig_uniform"]["mean"] == pytest.approx(summary["bits"]["mean"] + 10)
        assert len(summary["bits"]["per_horizon"]) == 10
        assert (summary["bits"]["n_seeds"], summary["bits"]["n_groups"]) == (3, 6)
        best = [min(run["val_losses"]) for run in loss["runs"]]
        assert [run["best_val_loss"] for run in loss["runs"]] == best
        assert compat["best_val_loss"] == pytest.approx(sum(best) / 3)
        assert all(Path(whole.home, run["checkpoint"]).is_file() for run in loss["runs"])
        assert all(run["threshold"]["chosen_on"] == "val" for run in loss["runs"])
    comparison = whole.content["comparison"]
    bits = [whole.losses[name]["summary"]["bits"]["mean"] for name in comparison["ranking"]]
    assert bits == sorted(bits, reverse=True)
    assert comparison["ranking_supported"] is True
    assert len(comparison["pairs"]) == 5 + 10


def test_every_loss_of_a_seed_starts_from_the_same_weights(whole: Ran) -> None:
    starts = [loss["initial_state_sha256"] for loss in whole.losses.values()]
    assert all(start == starts[0] for start in starts)
    assert len(set(starts[0].values())) == len(starts[0]) == 3
    biases = {name: loss["prior_bias"] for name, loss in whole.losses.items()}
    assert biases.pop("focal") == pytest.approx(-6.930495)
    assert set(biases.values()) == {None}


def test_the_console_names_everything(whole: Ran) -> None:
    for text in (
        "walk  simulated  8/8/12 sequences  10 -> 10 frames  10 Hz  prevalence 0.0977 %",
        "model    SimVP gSTA",
        "5 losses x 3 seeds x 1 epochs x 2 steps = 30 steps",
        "balance  focal",
        "prior bias -6.930",
        "every cell below 0.05 is blanked",
        "note     0.5 on sigmoid measures calibration: an uninformed MSE model gets recall 1.0",
        "results  runs/eye_fixation/run-0001/loss_comparison.json",
    ):
        assert text in whole.out
    table = whole.out.splitlines()
    kernel = next(line for line in table if line.startswith("history_kernel "))
    assert kernel.split()[1:4] == ["-", "-", "-"]
    below = [name for name in DOCUMENTED if any(line.startswith(name) and "below" in line for line in table)]
    bits = whole.content["baselines"]["history_kernel"]["summary"]["bits"]["mean"]
    assert below == [name for name in DOCUMENTED if whole.losses[name]["summary"]["bits"]["mean"] < bits]


def test_the_same_seed_gives_the_same_numbers(run: Bench, tmp_path: Path) -> None:
    line = f"compare --losses mse focal {JUDGED} --drop 0.2"
    first, second = run.run(line), run.run(line, tmp_path / "again")
    assert (first.code, second.code) == (0, 0)
    assert plain(first.content) == plain(second.content)
    assert same(first.weights, second.weights)
    other = run.run(f"{line} --seeds 7")
    assert other.entry["train_losses"] != first.entry["train_losses"]
