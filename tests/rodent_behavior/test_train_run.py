"""Documented training commands, what they say and write, and runs that are stopped and continued."""

import json
import re
import subprocess
import sys
import types
from pathlib import Path

import pytest
import torch
import yaml
from rodent_pieces import SMALL, Built

from common.engine.checkpoint import find_checkpoint
from common.engine.checkpoint import load_checkpoint as load_run
from rodent_behavior.export import load_checkpoint
from rodent_behavior.task import BehaviorTask

SCRIPT = Path(__file__).parents[2] / "apps" / "rodent_behavior" / "train_multitask.py"
RECOMMENDED = (
    "--epochs 200 --batch_size 2 --min_frames 345 --kp_jitter_std 0.02 --aug_brightness 0.2 "
    "--aug_contrast 0.2 --aug_temporal_drop 0.1 --rare_boost_cap 30.0 --focal_gamma 2.5 "
    "--label_smoothing 0.1 --dropout 0.3 --head_dropout 0.2 --weight_decay 5e-2 --lr 5e-5 "
    "--early_stopping_patience 20 --lr_schedule cosine --warmup_epochs 10"
)
QUICK = "--epochs 2 --batch_size 2 --train_T 60 --val_T 60 --early_stopping_patience 0"
COMMANDS = {
    "M0": "",
    "M0 min_frames": "--min_frames 345",
    "M0 jitter": "--kp_jitter_std 0.02",
    "M0 no jitter": "--kp_jitter_std 0.0",
    "M1": RECOMMENDED,
    "M2": QUICK,
    "M3": "--aug_brightness 0.2 --aug_contrast 0.2 --aug_temporal_drop 0.1",
    "M3 off": "--aug_brightness 0.0 --aug_contrast 0.0 --aug_temporal_drop 0.0",
    "M4": "--rare_boost_cap 30.0 --focal_gamma 2.5 --label_smoothing 0.1 --rare_threshold_share 0.02",
    "M5": "--dropout 0.3 --head_dropout 0.2 --weight_decay 5e-2 --lr 5e-5",
    "M6": "--epochs 200 --early_stopping_patience 20",
    "M7": "--lr_schedule cosine --warmup_epochs 10",
    "M7 plateau": "--lr_schedule plateau --lr_patience 10 --lr_factor 0.5",
    "M7 plateau warm": "--lr_schedule plateau --lr_patience 10 --lr_factor 0.5 --warmup_epochs 10",
    "M8": "--dropout 0.5 --head_dropout 0.3 --weight_decay 1e-1 --aug_brightness 0.3 --aug_contrast 0.3",
    "M9": "--rare_boost_cap 50.0 --focal_gamma 3.0 --rare_threshold_share 0.05",
    "M10 slow": "--batch_size 4 --aug_temporal_drop 0.05",
    "M10 unstable": "--lr 1e-4 --weight_decay 1e-2 --dropout 0.2",
    "M11": "--model_type action_only --train_T 345 --val_T 345 --batch_size 2 --epochs 50 --use_wandb",
}
CUT = "--max_steps 1 --img_size 32 --num_workers 0 --device cpu"
VIDEO = "--backbone tiny_cnn --img_size 32"
NUMBER = r"(\d+\.\d{4})"
BLOCK = (
    r"Epoch (\d+)/(\d+)",
    rf"Train loss: {NUMBER} \(action: {NUMBER}, kp: {NUMBER}\)",
    rf"Val loss: {NUMBER}",
    rf"Val macro F1: {NUMBER}(?: \(\d of 6 classes\))?",
    rf"Val segment F1@0\.3: {NUMBER}",
    rf"Val keypoint MAE \(norm\): {NUMBER}",
    r"Per-class F1:",
    *(
        rf"  {name}: (?:{NUMBER}|n/a \(0 frames\))"
        for name in ("rest", "paw_withdraw", "paw_lick", "paw_shake", "walk", "active")
    ),
)


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def blocks(out: str, length: int = len(BLOCK)) -> list[list[str]]:
    lines = out.splitlines()
    starts = [place for place, line in enumerate(lines) if re.fullmatch(BLOCK[0], line)]
    return [lines[start : start + length + 1] for start in starts]


@pytest.mark.parametrize("name", COMMANDS)
def test_a_documented_command(name, assay, train, monkeypatch):
    run = types.SimpleNamespace(id="x", log=lambda *a, **k: None, finish=lambda *a, **k: None)
    monkeypatch.setitem(sys.modules, "wandb", types.SimpleNamespace(init=lambda **options: run))
    epochs = "--epochs 12" if "--warmup_epochs" in COMMANDS[name] else "--epochs 2"
    ran = train(COMMANDS[name], epochs, CUT, data=assay, small=False)
    assert ran.code == 0, ran.err
    assert "Traceback" not in ran.err
    assert "has no effect" not in ran.err
    groups = yaml.safe_load((ran.folder / "config.yaml").read_text()).values()
    recorded = {flag: value for group in groups if isinstance(group, dict) for flag, value in group.items()}
    words = COMMANDS[name].replace("--use_wandb", "--use_wandb True").split()
    for flag, value in zip(words[::2], words[1::2]):
        if flag != "--epochs":
            assert str(recorded[flag[2:]]) == str(yaml.safe_load(value)) or recorded[flag[2:]] == float(value)
    assert ran.contents["classes"] == ["rest", "paw_withdraw", "paw_lick", "paw_shake", "walk", "active"]
    assert len(blocks(ran.out)) == 1


def test_the_quick_test_as_it_is_typed(assay, tmp_path):
    for folder in ("Annotations", "Videos"):
        (tmp_path / folder).symlink_to(assay / folder)
    command = [sys.executable, str(SCRIPT), "--annotations", "./Annotations", "--videos", "./Videos"]
    command += [*QUICK.split(), *"--backbone none --num_workers 0 --device cpu --hidden_dim 8".split()]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=280)
    assert done.returncode == 0, done.stderr
    assert "\n[info] Saved best checkpoint to best_model_multitask.pt\n" in done.stdout
    last = (
        r"\nTraining complete! Best val macro F1: \d\.\d{4}\nCheckpoint saved to: best_model_multitask\.pt\n"
    )
    assert re.search(last, done.stdout)
    assert "model    mstcnpp multitask" in done.stdout
    (folder,) = (tmp_path / "runs").iterdir()
    assert re.fullmatch(r"\d{8}-\d{6}_none_multitask_lr5e-05_bs2_drop0\.3_T60", folder.name)
    for name in ("split.json", "config.yaml", "metrics.jsonl", "confusion.csv", "report.html"):
        assert (folder / name).stat().st_size > 0
    assert (tmp_path / "best_model_multitask.pt").is_file()


def test_the_console_block_is_the_documented_one(train):
    ran = train("--lr 1e-3")
    found, validations = blocks(ran.out), ran.metrics("validation")
    assert len(found) == len(validations) == 2
    for epoch, (block, valid) in enumerate(zip(found, validations), start=1):
        matches = [re.fullmatch(pattern, line) for pattern, line in zip(BLOCK, block)]
        assert all(matches), block
        assert matches[0].groups() == (str(epoch), "2")
        total, action, kp = map(float, matches[1].groups())
        assert total == pytest.approx(action + kp, abs=1e-3)
        keys = ["loss", "macro_f1", "segment_f1_0.3", "kp_mae_norm"]
        assert [float(match[1]) for match in matches[2:6]] == pytest.approx(
            [valid[f"valid/{key}"] for key in keys], abs=6e-5
        )
        assert float(matches[7][1]) == pytest.approx(valid["valid/f1_rest"], abs=6e-5)
    assert found[0][-1] == f"[info] Saved best checkpoint to {ran.model}"
    best = max(valid["valid/macro_f1"] for valid in validations)
    assert ran.out.splitlines()[-4:-2] == [
        f"Training complete! Best val macro F1: {best:.4f}", f"Checkpoint saved to: {ran.model}",
    ]  # fmt: skip


def test_the_console_block_without_keypoints(train):
    (block, *_) = blocks(train("--model_type action_only --epochs 1").out)
    assert re.fullmatch(rf"Train loss: {NUMBER} \(action: \1, kp: 0\.0000\)", block[1])
    assert block[5] == "Per-class F1:"


def test_curves_have_their_documented_names(train, monkeypatch):
    curves: dict[str, list[float]] = {}

    def log(values, step):
        for name, value in values.items():
            curves.setdefault(name, []).append(value)

    run = types.SimpleNamespace(id="x", log=log, finish=lambda *a, **k: None)
    monkeypatch.setitem(sys.modules, "wandb", types.SimpleNamespace(init=lambda **options: run))
    monkeypatch.setenv("WANDB_API_KEY", "x" * 40)
    ran = train("--use_wandb --lr 1e-3")
    documented = {"epoch", "train/loss", "train/action_loss", "train/kp_loss", "val/loss", "val/macro_f1"}
    documented |= {"val/macro_acc", "val/segment_f1_0.3", "val/kp_mae_norm", "val/f1_paw_withdraw", "lr"}
    assert documented <= curves.keys()
    assert not [name for name in curves if name.startswith(("valid/", "lr/"))]
    assert max(curves["epoch"]) == 2
    assert curves["val/macro_f1"] == [line["valid/macro_f1"] for line in ran.metrics("validation")]
    _, action, kp = re.fullmatch(BLOCK[1], blocks(ran.out)[-1][1]).groups()
    assert curves["train/action_loss"][-1] == pytest.approx(float(action), abs=6e-5)
    assert curves["train/kp_loss"][-1] == pytest.approx(float(kp), abs=6e-5)


def test_the_run_folder_says_what_the_doctor_says(train, use, tmp_path):
    ran = train("--max_steps 1")
    said = use(f"doctor --annotations {ran.home / 'Annotations'} --videos {ran.home / 'Videos'}",
               f"--trial_frames 60 --min_frames 30 --json {tmp_path / 'doctor.json'}")  # fmt: skip
    assert said.code == 0, said.out
    report = json.loads((ran.folder / "data_report.json").read_text())
    assert report == json.loads((tmp_path / "doctor.json").read_text())
    assert report["split"] == ran.contents["split"] == json.loads((ran.folder / "split.json").read_text())
    names = [f"{trial['video']}_{trial['trial']}.csv" for trial in report["trials"] if trial["side"] == "val"]
    assert sorted(path.name for path in (ran.folder / "val_predictions").iterdir()) == names


def test_a_class_that_validation_lacks(files, train):
    ran = train(f"--split_file {files / 'split-lacking.json'} --epochs 1")
    assert "warning  paw_shake is absent from validation: its F1 is n/a" in ran.out
    (block,) = blocks(ran.out)
    assert block[10] == "  paw_shake: n/a (0 frames)"
    assert block[3].endswith("(5 of 6 classes)")


def test_early_stopping_says_so(train, monkeypatch):
    usual = BehaviorTask.metrics
    values = iter([0.1, 0.2, 0.2, 0.2, 0.9])
    monkeypatch.setattr(BehaviorTask, "metrics", lambda task: usual(task) | {"macro_f1": next(values)})
    said = train("--epochs 5 --early_stopping_patience 2").out.splitlines()
    place = said.index("[info] Early stopping triggered after 4 epochs")
    assert said[place + 1] == "[info] No improvement for 2 epochs"
    assert sum(line.startswith("[info] Saved best") for line in said) == 2


def test_a_first_epoch_without_any_hit_is_still_saved(train, monkeypatch):
    usual = BehaviorTask.metrics
    monkeypatch.setattr(BehaviorTask, "metrics", lambda task: usual(task) | {"macro_f1": 0.0})
    ran = train("--epochs 2")
    assert ran.contents["epoch"] == 1
    assert ran.contents["best_val_f1"] == 0


def test_the_header_tells_what_is_trained(train):
    said = train(f"--max_steps 1 {VIDEO}").out
    for text in (
        "8 trials of 4 videos: train 6   valid 2   unlabelled 0   30 fps   64 x 48 px",
        "paw_withdraw <- paw_withdraw, paw_guard, flinch",
        "Rare classes (< 2.0%): [paw_shake]",
        "  paw_shake: +3 frames in 1 bouts",
        "balance  focal(gamma=2.5) x weights(balanced_capped)   sampler bouts(cap=30)",
        "receptive field 35 frames (1.2 s)",
        "Backbone: tiny_cnn D=128 weights=none frozen for 2 epochs",
        "warning  the backbone keeps its random weights for the whole run",
        "First batch:",
        "features of mouse_1.mp4: 120 frames, 3 views",
    ):
        assert text in said
    assert "backbone 97,920" in said


def test_the_backbone_opens_with_a_line(train):
    ran = train(f"--epochs 2 {VIDEO} --freeze_backbone_epochs 1 --unfreeze_blocks 2 --backbone_lr_scale 0.5")
    assert ran.out.index("Epoch 1/2") < ran.out.index("[info] Unfroze 2 blocks: 92736 parameters")
    warm = ran.metrics("epoch")[0]
    assert warm["lr/conv4/decay"] == pytest.approx(warm["lr/head/decay"] / 2)
    start, end = load_run(ran.folder / "checkpoints" / _steps(ran)[0]).model, ran.weights()
    frozen = [name for name in end if name.startswith(("backbone.network.1.", "backbone.network.2."))]
    trained = [name for name in end if name.startswith(("backbone.network.3.", "backbone.network.4."))]
    assert len(frozen) == len(trained) == 8
    assert all(torch.equal(start[name], end[name]) for name in frozen)
    assert not any(torch.equal(start[name], end[name]) for name in trained)


def _steps(ran) -> list[str]:
    return sorted(path.name for path in (ran.folder / "checkpoints").iterdir() if path.is_dir())


@pytest.mark.parametrize(
    "words",
    ["", "--use_ema --ema_decay 0.5", "--loss ldam", "--temporal_model tcn --refinements 0",
     f"{VIDEO} --freeze_backbone_epochs 1", f"{VIDEO} --pose_features none --model_type action_only"],
)  # fmt: skip
def test_the_exported_file_is_the_model_that_was_validated(words, train):
    ran = train("--lr 1e-2", words)
    best = load_run(find_checkpoint("best", ran.folder))
    expected = best.model if best.ema is None else best.ema
    contents = ran.contents
    assert contents["weights_used"] == ("raw" if best.ema is None else "ema")
    assert same(contents["model_state_dict"], best.model | expected)
    assert (contents["schema"], contents["merge_idxs"]) == (1, [1, 3, 5])
    assert contents["col_map"] == {0: 0, 1: 1, 2: 2, 3: 1, 4: 3, 5: 1, 6: 4, 7: 5}
    assert contents["best_val_f1"] == max(v["valid/macro_f1"] for v in ran.metrics("validation"))
    assert contents["temperature"]["split"] == "val"
    built = Built([*SMALL.split(), *words.split(), f"--annotations={ran.home / 'Annotations'}",
                   f"--videos={ran.home / 'Videos'}"], None)  # fmt: skip
    built.network.load_state_dict(contents["model_state_dict"])
    rebuilt = load_checkpoint(ran.model).network
    batch = {name: value for name, value in built.batch.items() if name in ("pose", "visual", "valid")}
    outputs = [network.eval()(batch) for network in (built.network, rebuilt)]
    assert all(torch.equal(*pair) for pair in zip(*(output["stages"] for output in outputs), strict=True))
    if outputs[0]["keypoints"] is not None:
        assert torch.equal(*(output["keypoints"] for output in outputs))


def test_the_model_of_an_earlier_run_is_kept(train):
    first = train("--max_steps 1", name="a")
    before = first.contents["model_state_dict"]
    second = train(f"--max_steps 2 --seed 5 --run_dir {first.home / 'second'}", name="a")
    kept = torch.load(first.home / "best_model_multitask.prev.pt", weights_only=True)
    assert same(kept["model_state_dict"], before)
    assert not same(second.contents["model_state_dict"], before)
    again = train(f"--run_dir {first.home / 'run'} --max_steps 1", name="a")
    assert again.code == 2
    assert "a run is there already; --resume continues it" in again.err


def test_the_seed_decides_and_workers_do_not(train):
    first, second = train("--epochs 1"), train("--epochs 1 --num_workers 2")
    assert same(first.weights(), second.weights())
    assert first.contents["temperature"] == second.contents["temperature"]
    assert not same(first.weights(), train("--epochs 1 --seed 9").weights())


def test_a_recorded_config_repeats_the_run(train):
    first = train("--epochs 1 --lr 1e-3 --focal_gamma 1")
    config = f"--config {first.folder / 'config.yaml'} --run_dir {first.home / 'again'}"
    second = train(config, small=False)
    assert same(first.weights(), second.weights())


@pytest.mark.usefixtures("socket_disabled")
def test_a_training_needs_no_network(train):
    assert train(f"--max_steps 1 {VIDEO}").code == 0
