"""How a comparison goes: honest conditions, one failure that spoils nothing, the best epoch is tested."""

import json
import runpy
import shutil
import sys
from itertools import count
from pathlib import Path
from typing import Any

import pytest
import torch
from eye_files import gaze_splits, masked
from eye_runs import JUDGED, SMALL, TRAIN, Bench, execute, same, swapped

from common.engine.checkpoint import find_checkpoint, load_checkpoint
from eye_fixation import compare, fitting, predictor, results, training, yardsticks
from eye_fixation.cli import main
from eye_fixation.data import pt
from eye_fixation.data.pt import load_folder, write_folder
from eye_fixation.documented_losses import DiceLoss
from eye_fixation.task import GazeTask

SCRIPT = (
    Path(compare.__file__).parents[2] / "experiments/phase1_loss_function_analysis/train_loss_comparison.py"
)


@pytest.mark.parametrize(
    ("source", "wanted"), [("real", "real"), ("simulated", "simulated"), ("", "unknown")]
)
def test_the_source_is_said_everywhere(source: str, wanted: str, run: Bench, tmp_path: Path) -> None:
    if source:
        write_folder(tmp_path / "gaze", gaze_splits(source=source), {})
    else:
        swapped(tmp_path / "gaze", gaze_splits())
    ran = run.run(f"{TRAIN} {SMALL} --data-dir {tmp_path / 'gaze'}", tmp_path / "home")
    assert ran.content["data"]["source"] == wanted
    assert ran.predictor.file.metadata.source == wanted
    lines = [line for line in ran.out.splitlines() if "8/8/12 sequences" in line]
    assert len(lines) == 2
    assert all(f"  {wanted}  " in line for line in lines)
    assert wanted == "real" or " real" not in ran.out + json.dumps(ran.content)


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (RuntimeError, "RuntimeError: injected"),
        (ValueError, "ValueError: injected"),
        (FloatingPointError, "FloatingPointError: injected"),
        (MemoryError, "TrainingError: out of memory"),
    ],
)
def test_a_failure_in_third_place_spoils_nothing(
    error: type[Exception], said: str, run: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    usual = GazeTask.training_step

    def training_step(task: GazeTask, batch: Any) -> Any:
        if isinstance(task.loss, DiceLoss):
            raise error("injected")
        return usual(task, batch)

    monkeypatch.setattr(GazeTask, "training_step", training_step)
    ran = run.run(f"compare {SMALL} --losses mse focal dice weighted_mse", tmp_path)
    assert ran.code == 1
    assert {name: loss["runs"][0]["status"] for name, loss in ran.losses.items()} == {
        "mse": "ok", "focal": "ok", "dice": "failed", "weighted_mse": "ok",
    }  # fmt: skip
    assert said in ran.losses["dice"]["runs"][0]["error"]
    assert ran.losses["dice"]["summary"] is None
    assert sorted(ran.content["comparison"]["ranking"]) == ["focal", "mse", "weighted_mse"]
    assert said in next(line for line in ran.out.splitlines() if line.startswith("failed"))
    assert "report   " in ran.out


def test_when_everything_fails_the_errors_are_kept(
    run: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def broken(*given: Any) -> Any:
        raise RuntimeError("no luck")

    monkeypatch.setattr(training, "judge_network", broken)
    ran = run.run(f"compare {SMALL} --losses mse focal --seeds 1 2", tmp_path)
    assert ran.code == 1
    errors = [entry["error"] for loss in ran.losses.values() for entry in loss["runs"]]
    assert errors == ["RuntimeError: no luck"] * 4
    assert "report   " not in ran.out


def test_results_are_written_after_each_training(
    run: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    held: list[list[str]] = []
    usual = training.judge_network

    def judge(*given: Any) -> Any:
        file = tmp_path / "runs/eye_fixation/run-0001/loss_comparison.json"
        losses = json.loads(file.read_text())["losses"] if file.is_file() else {}
        held.append([name for name, loss in losses.items() if loss["runs"]])
        return usual(*given)

    monkeypatch.setattr(training, "judge_network", judge)
    assert run.run(f"compare {SMALL} --losses mse focal bce", tmp_path).code == 0
    assert held == [[], ["mse"], ["mse", "focal"]]


def test_a_model_that_worsens_after_epoch_2_is_tested_at_epoch_2(
    run: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    seen: dict[int, dict[str, torch.Tensor]] = {}

    def begin_epoch(task: GazeTask, epoch: int) -> None:
        seen[epoch] = {name: value.clone() for name, value in task.model.state_dict().items()}
        if epoch >= 2:
            with torch.no_grad():
                task.model.dec.readout.bias += 5  # type: ignore[operator]

    monkeypatch.setattr(GazeTask, "begin_epoch", begin_epoch)
    ran = run.run(f"{TRAIN} {SMALL} --epochs 4 --no-calibrate", tmp_path)
    entry = ran.entry
    assert (entry["epochs"], entry["best_epoch"]) == (4, 2)
    assert entry["best_val_loss"] == min(entry["val_losses"]) == entry["val_losses"][1]
    assert same(ran.weights, seen[2])
    assert not same(load_checkpoint(find_checkpoint("last", ran.training)).model, seen[2])
    assert ran.content["seed_compat"]["mse"]["test_loss"] < 5
    monkeypatch.undo()
    two = run.run(f"{TRAIN} {SMALL} --epochs 2 --no-calibrate", tmp_path / "two")
    assert entry["metrics"] == two.entry["metrics"]


@pytest.mark.parametrize("place", [".", "experiments/phase1_loss_function_analysis", "elsewhere"])
def test_the_script_works_from_any_folder(
    place: str, data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Data lie beside the script; the folders of results are made before anything is trained."""
    script = tmp_path / SCRIPT.relative_to(SCRIPT.parents[2])
    script.parent.mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    shutil.copy(SCRIPT, script)
    (script.parent / "data").symlink_to(data_folder)
    monkeypatch.setattr(pt, "_APP", tmp_path)
    monkeypatch.setattr(compare, "write_report", lambda found, out: out)
    monkeypatch.setattr(compare, "step_seconds", lambda *given: 0.01)
    usual, made = compare.train_all, []

    def train_all(comparison: compare.Comparison) -> int:
        made.append(comparison.results_file.parent.is_dir())
        return usual(comparison)

    monkeypatch.setattr(compare, "train_all", train_all)
    monkeypatch.chdir(tmp_path / place)
    words = f"--losses mse {SMALL} --out new/folder --results-file other/new/results.json"
    monkeypatch.setattr(sys, "argv", [str(script), *words.split()])
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(script), run_name="__main__")
    assert end.value.code == 0
    assert made == [True]
    content = json.loads((tmp_path / place / "other/new/results.json").read_text())
    assert content["data"]["dir"] == str(script.parent / "data")
    assert (tmp_path / place / "new/folder/mse/seed42/model.pt").is_file()


def test_what_is_fitted_sees_validation_only(
    run: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, data_folder: Path
) -> None:
    fitted, tuned = [], []
    usual, baselines = training.fit_on_validation, yardsticks.fit_baselines

    def fit(density: torch.Tensor, points: torch.Tensor, mask: torch.Tensor) -> Any:
        fitted.append(points)
        return usual(density, points, mask)

    def fit_baselines(train: Any, val: Any, **settings: Any) -> Any:
        tuned.append((train.coordinates, val.coordinates))
        return baselines(train, val, **settings)

    monkeypatch.setattr(training, "fit_on_validation", fit)
    monkeypatch.setattr(yardsticks, "fit_baselines", fit_baselines)
    assert run.run(f"{TRAIN} {JUDGED}", tmp_path).code == 0
    train, val, _ = load_folder(data_folder)
    ((first, second),) = tuned
    assert torch.equal(first, train.coordinates[:8, :6])
    assert torch.equal(second, val.coordinates[:8, :6])
    assert [torch.equal(points, val.coordinates[:8, 3:6]) for points in fitted] == [True]


def test_other_test_data_change_nothing_but_the_scores(run: Bench, tmp_path: Path) -> None:
    splits = gaze_splits()
    for name, test in (("a", splits.test), ("b", splits.test.take(list(range(2, 12))))):
        write_folder(tmp_path / name, splits._replace(test=test), {})
    line = f"{TRAIN} {JUDGED} --data-dir"
    one, two = (run.run(f"{line} {tmp_path / name}", tmp_path / f"home-{name}") for name in "ab")
    for key in ("train_losses", "val_losses", "calibration", "threshold"):
        assert one.entry[key] == two.entry[key]
    assert same(one.weights, two.weights)
    assert one.entry["metrics"] != two.entry["metrics"]


def test_the_size_of_a_batch_does_not_change_what_is_measured(
    run: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Sequences have unequal numbers of valid frames, so that a mean of batch means would be another."""
    splits = gaze_splits()
    holes = [(sequence, 3 + frame) for sequence in range(4) for frame in range(min(sequence, 2) + 1)]
    parts = [masked(part, *(hole for hole in holes if hole[1] < 5)) for part in splits]
    write_folder(tmp_path / "gaze", type(splits)(*parts), {})
    line = f"compare --losses mse softmax_ce {SMALL} --data-dir {tmp_path / 'gaze'}"
    usual = run.run(line, tmp_path / "usual")
    for module in (fitting, predictor):
        monkeypatch.setattr(module, "EVALUATION_BATCH", 3)
    monkeypatch.setattr(fitting, "max", lambda *sizes: 3, raising=False)
    split = run.run(line, tmp_path / "split")
    for name in ("mse", "softmax_ce"):
        one, two = usual.losses[name]["runs"][0], split.losses[name]["runs"][0]
        assert one["val_losses"] == pytest.approx(two["val_losses"], rel=1e-9)
        for metric in ("bits", "ap", "nss", "mde_mean_at_3"):
            first, second = (found.losses[name]["summary"][metric]["mean"] for found in (usual, split))
            assert first == pytest.approx(second, rel=1e-9)
    assert usual.content["seed_compat"]["mse"] == pytest.approx(split.content["seed_compat"]["mse"], rel=1e-9)


@pytest.mark.parametrize(("in_len", "out_len"), [(10, 5), (4, 12)])
def test_every_horizon_is_the_networks_own(in_len: int, out_len: int, run: Bench, tmp_path: Path) -> None:
    ran = run.run(f"{TRAIN} {SMALL} --skip last --in-len {in_len} --out-len {out_len}", tmp_path)
    assert ran.code == 0, ran.err
    assert (ran.predictor.in_len, ran.predictor.out_len) == (in_len, out_len)
    shapes: list[tuple[int, ...]] = []
    ran.network.register_forward_hook(
        lambda module, given, made: shapes.append((*given[0].shape, *made.shape))
    )
    density = ran.predictor.predict(torch.full((2, in_len, 2), 16.0))
    assert density.shape == (2, out_len, 32, 32)
    assert shapes == [(2, in_len, 1, 32, 32, 2, out_len, 1, 32, 32)]
    assert len(ran.loss["summary"]["bits"]["per_horizon"]) == out_len
    unused = 20 - in_len - out_len
    assert f"{24 * unused} unused frames" in ran.out


def test_curves_have_their_documented_names(run: Bench) -> None:
    ran = run.run(f"train --loss composite {SMALL}")
    (epoch,), (valid,) = ran.metrics("epoch"), ran.metrics("validation")
    assert {"train/loss", "train/focal", "train/sparsity", "train/concentration"} <= epoch.keys()
    assert {"valid/loss", "valid/bits"} <= valid.keys()
    total = epoch["train/focal"] + 0.8 * epoch["train/sparsity"] + 1.5 * epoch["train/concentration"]
    assert epoch["train/loss"] == pytest.approx(total, rel=1e-5)


def test_a_long_run_on_the_cpu_is_announced(
    data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(compare, "write_report", lambda found, out: out)
    monkeypatch.setattr(compare, "step_seconds", lambda *given: 3601.0)
    assert main([*TRAIN.split(), *SMALL.split(), "--data-dir", str(data_folder)]) == 0
    said = capfd.readouterr().out
    assert "plan     that is 2.0 hours on the CPU; --preset small is for it" in said


def test_the_time_of_a_step_is_measured_on_a_network_of_its_own(
    data_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measured, usual, clock = [], compare.step_seconds, count()
    monkeypatch.setattr(compare, "write_report", lambda found, out: out)

    def step_seconds(*given: Any) -> float:
        measured.append(usual(*given))
        return measured[-1]

    monkeypatch.setattr(compare, "step_seconds", step_seconds)
    monkeypatch.setattr(compare.time, "monotonic", lambda: float(next(clock)))
    monkeypatch.chdir(tmp_path)
    assert main([*TRAIN.split(), *SMALL.split(), "--data-dir", str(data_folder), "--out", "timed"]) == 0
    assert measured == [1.0]


def test_a_result_above_the_oracle_stops_the_report(
    run: Bench, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(results, "LEAKAGE", -1e9)
    ran = run.run(f"compare --demo --losses mse {JUDGED}", tmp_path)
    assert ran.code == 1
    assert ran.content["oracle"]["summary"]["bits"]["mean"] > ran.loss["summary"]["bits"]["mean"]
    assert any("above the oracle: test data have leaked into training" in w for w in ran.content["warnings"])
    assert "report   not written: a result lies above the best possible one" in ran.out


def test_a_finished_folder_is_never_written_into(run: Bench, tmp_path: Path) -> None:
    """Neither results nor trainings that lie in a folder are taken over unless --resume says so."""
    done = run.run(f"{TRAIN} {SMALL} --out run", tmp_path)
    before = done.training.joinpath("model.pt").read_bytes()
    for _ in range(2):
        again = execute((*TRAIN.split(), *SMALL.split(), "--out", "run"), tmp_path, run.capfd)
        assert again.code == 2
        assert "--out run: holds results already; --resume run continues them" in again.err
        (tmp_path / "run" / "loss_comparison.json").unlink(missing_ok=True)
    assert done.training.joinpath("model.pt").read_bytes() == before
