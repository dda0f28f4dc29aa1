"""Every flag of training does something that can be seen, and has its documented default.

A row of EFFECTS says: with these words, looked at like this, the answer is that; without them it is another.
"""

from typing import Any

import numpy as np
import pytest
from flag_rows import (
    Changes,
    Row,
    check_effect,
    deterministic,
    forget_deterministic_kernels,
    has,
    resumed,
    wandb_options,
)
from rodent_looks import (
    FRAMES,
    ONE_STEP,
    PLATEAU,
    STALE,
    STILL,
    VIDEO,
    as_tracked,
    averaged,
    exported_names,
    keypoint_error,
    large_backbone,
    looks_ahead,
    loss_value,
    mirrored,
    moved,
    opened,
    runs_out_of_memory_once,
    stays_flat,
    stored_frames,
    untouched,
    warnings_of,
    weight_of,
    weight_ratio,
    windows_judged,
)
from rodent_pieces import KEYS, VIDEOS, seen

from common.config import flags
from common.config.commands import FAILED
from rodent_behavior.config import TrainConfig


def about(value: float) -> Any:
    return pytest.approx(value, rel=1e-6)


ADAPTED = "--cache_dir {tmp}/adapted"
BARE = "--videos {tmp}/bare"
NO_WEIGHTS = "--class_weighting none"
WANDB = "--use_wandb"

EFFECTS: dict[str, Row] = {
    # where files are and how they line up
    "annotations": Row("--annotations {tmp}/fewer", lambda b: len(b.data.found.trials), 4),
    "videos": Row("--videos {tmp}/slow", lambda b: b.data.fps, 25.0),
    "pose_dir": Row(
        "--pose_dir {tmp}/scorer_b", lambda b: b.data.found.trials[0].pose_path.parent.name, "scorer_b"
    ),
    "trial_frames": Row("--trial_frames 50", lambda b: b.data, has("60 rows do not fit --trial_frames 50")),
    "min_frames": Row("--min_frames 55", lambda b: b.data.found.skip_counts, {"short trial": 1}),
    "manifest": Row("--manifest {tmp}/manifest.csv", lambda b: b.data.found.trials[0].label_start, 3),
    "label_map": Row("--label_map {tmp}/map.yaml", lambda b: b.data.labels.names, ("other", "moving")),
    "frame_size": Row("--frame_size 64,48", lambda b: b.data.frame_size, (64, 48), f"{BARE} --fps 30"),
    "fps": Row("--fps 50", lambda b: b.data.fps, 50.0, f"{BARE} --frame_size 64,48"),
    "on_bad_trial": Row(
        "--on_bad_trial skip", lambda b: b.data.found.skip_counts, {"bad labels": 1},
        "--annotations {tmp}/spoilt",
    ),
    "on_missing_pose": Row(
        "--on_missing_pose zeros", lambda b: (len(b.data.found.trials), b.said),
        has("all points are taken as not visible"), "--videos {tmp}/untracked",
    ),
    # keypoints
    "kp_names": Row(
        "--kp_names mouth,tail_base,L_frontpaw", lambda b: b.data.features.size, 18,
        "--pose_features generic",
    ),
    "kp_alias": Row(
        "--kp_alias muzzle=mouth", lambda b: len(b.data.found.trials), 2 * VIDEOS, "--videos {tmp}/renamed"
    ),
    "kp_likelihood_thr": Row(
        "--kp_likelihood_thr 0.97",
        lambda b: min(t.poses.likelihood[t.poses.visibility == 1].min() for t in b.data.train), about(0.99),
    ),
    "dlc_pick": Row(
        "--dlc_pick filtered", lambda b: b.data.found.trials[0].pose_path.stem,
        "mouse_1DLC_net_filtered", "--pose_dir {tmp}/filtered",
    ),
    "dlc_scorer": Row(
        "--dlc_scorer DLC_b", lambda b: b.data.found.trials[0].pose_path.stem, "mouse_1DLC_b",
        "--pose_dir {tmp}/two_scorers",
    ),
    "individual": Row(
        "--individual right", lambda b: len(b.data.found.trials), 2 * VIDEOS, "--pose_dir {tmp}/two_animals"
    ),
    "pose_features": Row("--pose_features graph18", lambda b: b.network.behavior.config.pose_dim, 18),
    "axis_points": Row(
        "--axis_points L_frontpaw,R_frontpaw",
        lambda b: float(np.nanmedian(b.data.train[0].poses.scale)), lambda scale: 11 < scale < 13,
        "--pose_features generic",
    ),
    "max_gap": Row(
        "--max_gap 0", lambda b: any((t.poses.visibility == 0.5).any() for t in b.data.train), False
    ),
    # split
    "group_by": Row(
        "--group_by trial", lambda b: b.data.split.side("mouse_1_2") in ("train", "val"), True
    ),
    "group_regex": Row(
        "--group_regex mouse_(?P<group>.)", lambda b: sorted(b.data.split.groups("all")), ["1", "2", "3", "4"]
    ),
    "val_share": Row("--val_share 0.5", lambda b: len(b.data.split.val), 2),
    "test_share": Row("--test_share 0.2", lambda b: len(b.data.split.test), 1),
    "split_file": Row("--split_file {tmp}/split.json", lambda b: b.data.split.val, ("mouse_2", "mouse_3")),
    # augmentation
    "augment": Row("--no-augment", as_tracked, True, "--lambda_kp 0"),
    "kp_jitter_std": Row("--kp_jitter_std 0", as_tracked, True, "--lambda_kp 0 --aug_roll 0"),
    "kp_jitter_mode": Row(
        "--kp_jitter_mode frame", lambda b: b.augmenter.draw(KEYS[0], 30).jitter.shape, (30, 6, 2)
    ),
    "aug_brightness": Row(
        "--aug_brightness 0.4", lambda b: untouched(b, "frames"), False, f"{FRAMES} {STILL}"
    ),
    "aug_contrast": Row("--aug_contrast 0.4", lambda b: untouched(b, "frames"), False, f"{FRAMES} {STILL}"),
    "aug_temporal_drop": Row(
        "--aug_temporal_drop 0.3", lambda b: untouched(b, "frames"), False, f"{FRAMES} {STILL}"
    ),
    "aug_noise_std": Row(
        "--aug_noise_std 0.1", lambda b: untouched(b, "frames"), False, f"{FRAMES} {STILL}"
    ),
    "aug_hflip": Row("--aug_hflip 1", mirrored, True, "--aug_roll 0"),
    "aug_roll": Row("--aug_roll 0", lambda b: all(s["valid"].all() for s in b.samples), True),
    # balance
    "rare_boost_cap": Row("--rare_boost_cap 1.25", lambda b: b.plan.repetition.factors.max(), 1.25),
    "rare_threshold_share": Row(
        "--rare_threshold_share 0.15", lambda b: int(b.plan.repetition.rare.sum()) >= 3, True
    ),
    "rare_margin": Row(
        "--rare_margin 0", lambda b: {i.loss_stop - i.loss_start for i in b.plan.repetition.items}, {4}
    ),
    "class_weighting": Row("--class_weighting none", weight_ratio, 1.0),
    "max_weight_ratio": Row("--max_weight_ratio 2", weight_ratio, pytest.approx(2, rel=1e-5)),
    # losses
    "loss": Row("--loss ce", loss_value, about(0.693152563), NO_WEIGHTS),
    "focal_gamma": Row("--focal_gamma 0", loss_value, about(0.693152563), NO_WEIGHTS),
    "label_smoothing": Row("--label_smoothing 0", loss_value, about(0.053880558), NO_WEIGHTS),
    "lambda_smooth": Row("--lambda_smooth 0", lambda b: weight_of(b, "smooth"), None),
    "lambda_tmse": Row("--lambda_tmse 0", lambda b: weight_of(b, "tmse"), None),
    "lambda_kp": Row("--lambda_kp 0", lambda b: weight_of(b, "kp"), None),
    "kp_task": Row("--kp_task copy", lambda b: b.augmenter.draw(KEYS[0], 30).hidden is None, True),
    "kp_beta": Row("--kp_beta 1", keypoint_error, about(2 * 0.125)),
    # network
    "model_type": Row("--model_type action_only", lambda b: b.network.behavior.keypoints is None, True),
    "backbone": Row(
        "--backbone tiny_cnn",
        lambda b: b.network.backbone and sum(p.numel() for p in b.network.backbone.parameters()), 97_920,
    ),
    "backbone_weights": Row(
        "--backbone_weights {tmp}/tiny.pth",
        lambda b: float(b.network.backbone.network[1][0].weight.mean()), about(0.125), VIDEO,
    ),
    "random_backbone": Row("--random_backbone", large_backbone, "resnet18", "--backbone resnet18"),
    "backbone_type": Row("--backbone_type videomae2_3d", lambda b: b.network, has("is not available")),
    "clip_T": Row("--clip_T 8", warnings_of, has("--clip-T has no effect because --backbone"), VIDEO),
    "img_size": Row("--img_size 48", lambda b: b.batch["frames"].shape[-2:], (48, 48), FRAMES),
    "resize_mode": Row(
        "--resize_mode stretch", lambda b: float(b.samples[0]["frames"][:, :, 0].mean()) > 0.05, True,
        f"{FRAMES} --no-augment",
    ),
    "freeze_backbone_epochs": Row("--freeze_backbone_epochs 0", lambda b: "frames" in b.batch, True, VIDEO),
    "unfreeze_blocks": Row("--unfreeze_blocks 1", opened, 128 * 64 * 9 + 128 + 2 * 128, FRAMES),
    "backbone_lr_scale": Row(
        "--backbone_lr_scale 0.5", lambda b: b.groups("lr")["conv4/decay"], about(2.5e-5), FRAMES
    ),
    "save_backbone": Row(
        "--no-save_backbone", exported_names, {"behavior"},
        f"{VIDEO} --backbone_weights {{tmp}}/tiny.pth --unfreeze_blocks 0",
    ),
    "temporal_model": Row(
        "--temporal_model tcn", lambda b: type(b.network.behavior.temporal).__name__, "TCN"
    ),
    "causal": Row("--causal", looks_ahead, False),
    "hidden_dim": Row("--hidden_dim 16", lambda b: b.network.behavior.temporal.first.input.out_channels, 16),
    "num_layers": Row("--num_layers 2", lambda b: len(b.network.behavior.temporal.first.layers), 2),
    "refinements": Row("--refinements 2", lambda b: len(b.network.behavior.temporal.refinements), 2),
    "dropout": Row("--dropout 0.4", lambda b: b.network.behavior.temporal.first.layers[0].dropout.p, 0.4),
    "head_dropout": Row(
        "--head_dropout 0.1", lambda b: b.network.behavior.temporal.first.output.dropout.p, 0.1
    ),
    # optimiser
    "lr": Row("--lr 1e-3", lambda b: set(b.groups("lr").values()), {1e-3}),
    "weight_decay": Row(
        "--weight_decay 0.01", lambda b: b.groups("weight_decay"), {"head/decay": 0.01, "head/no_decay": 0.0}
    ),
    "lr_schedule": Row(
        "--lr_schedule plateau", lambda b: [b.rate(epoch) for epoch in (0, 15, 29)], [5e-5] * 3,
        "--warmup_epochs 0 --epochs 30",
    ),
    "lr_patience": Row("--lr_patience 3", lambda b: b.rate(9, history=STALE), about(1.25e-5), PLATEAU),
    "lr_factor": Row(
        "--lr_factor 0.1", lambda b: b.rate(9, history=STALE), about(5e-6), f"{PLATEAU} --lr_patience 5"
    ),
    "min_lr": Row(
        "--min_lr 4e-5", lambda b: b.rate(29, step=299), pytest.approx(4e-5, rel=1e-3), "--epochs 30"
    ),
    "warmup_epochs": Row("--warmup_epochs 0", lambda b: b.rate(0), about(5e-5), "--epochs 30"),
    "clip_norm": Row("--clip_norm 1e-12", lambda b: moved(b) < 1e-3, True, ONE_STEP),
    "use_ema": Row("--use_ema", lambda b: averaged(b)[0], "ema"),
    "ema_decay": Row("--ema_decay 0.01", averaged, Changes, "--use_ema"),
    # cache
    "cache_dir": Row(
        "--cache_dir {tmp}/elsewhere",
        lambda b: b.inputs.visual._features.store.folder.parent.name, "elsewhere", VIDEO,
    ),
    "cache_views": Row(
        "--cache_views 0", lambda b: len(b.inputs.visual.features(b.data.train[0].index)), 1, VIDEO
    ),
    "cache_max_gb": Row(
        "--cache_max_gb 1e-6", lambda b: (stored_frames(b), b.said), has("do not fit into"),
        f"{FRAMES} {ADAPTED}",
    ),
    # the run
    "epochs": Row("--epochs 1", lambda b: len(b.ran("--max_steps 30").metrics("epoch")), 1, "--batch_size 8"),
    "batch_size": Row("--batch_size 3", lambda b: len(b.batch["target"]), 3),
    "accumulation_steps": Row(
        "--accumulation_steps 3", lambda b: has("3 steps = 3 steps")(b.ran("--max_steps 1").out), True,
        "--epochs 1",
    ),
    "train_T": Row("--train_T 20", lambda b: b.batch["target"].shape[1], 20),
    "val_T": Row("--val_T 20", windows_judged, [(3, 20)], "--split_file {tmp}/split.json"),
    "early_stopping_patience": Row(
        "--early_stopping_patience 2", stays_flat, has("Early stopping triggered after 3 epochs")
    ),
    "seed": Row(
        "--seed 7", lambda b: float(next(b.network.parameters()).detach().sum()), Changes
    ),
    "num_workers": Row("--num_workers 2", lambda b: b.loaders.train.num_workers, 2),
    "device": Row(
        "--device cuda:99", lambda b: b.ran("--max_steps 1").err, has("device 'cuda:99' is not there")
    ),
    "mixed_precision": Row(
        "--mixed_precision bf16", lambda b: b.ran("--max_steps 1").metrics("epoch")[0]["train/loss"], Changes
    ),
    "deterministic": Row("--deterministic", deterministic, True),
    "oom_recovery": Row("--no-oom_recovery", runs_out_of_memory_once, FAILED),
    "run_dir": Row("--run_dir {tmp}/there", lambda b: str(b.ran("--max_steps 1").folder), has("/there")),
    "resume": Row("--resume last", resumed, True, "--run_dir {tmp}/again"),
    "max_steps": Row("--max_steps 1", lambda b: b.ran().out, has("stopping at 1"), "--epochs 1"),
    "test_run": Row(
        "--test_run", lambda b: has("1 epochs x")(out := b.ran().out) and "stopping at 2" in out, True
    ),
    "strict_config_validation": Row(
        "--strict_config_validation", lambda b: b.data, has("--ema-decay has no effect"), "--ema_decay 0.5"
    ),
    "use_wandb": Row(WANDB, lambda b: wandb_options(b).get("project"), "rodent_behavior"),
    "wandb_project": Row("--wandb_project mine", wandb_options, has("'project': 'mine'"), WANDB),
    "wandb_entity": Row("--wandb_entity lab", wandb_options, has("'entity': 'lab'"), WANDB),
    "wandb_run_name": Row("--wandb_run_name first", wandb_options, has("'name': 'first'"), WANDB),
}  # fmt: skip

DEFAULTS = {
    "epochs": 30, "batch_size": 2, "train_T": 180, "val_T": 240, "min_frames": 345, "kp_jitter_std": 0.02,
    "kp_jitter_mode": "auto", "aug_brightness": 0.2, "aug_contrast": 0.2, "aug_temporal_drop": 0.1,
    "aug_hflip": 0.0, "aug_noise_std": 0.02, "aug_roll": 5, "rare_boost_cap": 30.0,
    "rare_threshold_share": 0.02, "focal_gamma": 2.5, "label_smoothing": 0.1, "dropout": 0.3,
    "head_dropout": 0.2, "weight_decay": 5e-2, "lr": 5e-5, "early_stopping_patience": 20,
    "lr_schedule": "cosine", "lr_patience": 10, "lr_factor": 0.5, "warmup_epochs": 10, "img_size": 224,
    "resize_mode": "letterbox", "seed": 123, "model_type": "multitask", "freeze_backbone_epochs": 3,
    "lambda_smooth": 5e-4, "lambda_kp": 1.0, "clip_T": 16,
    "kp_names": "mouth,tail_base,L_frontpaw,R_frontpaw,L_hindpaw,R_hindpaw", "kp_likelihood_thr": 0.9,
    "min_lr": 1e-6, "use_ema": False, "ema_decay": 0.999, "use_wandb": False, "wandb_entity": None,
    "wandb_project": "rodent_behavior", "wandb_run_name": None, "backbone": "tiny_cnn",
    "backbone_weights": None, "random_backbone": False, "unfreeze_blocks": 4, "backbone_lr_scale": 0.1,
    "cache_dir": None, "cache_views": 2, "cache_max_gb": 20.0, "temporal_model": "mstcnpp", "causal": False,
    "hidden_dim": None, "num_layers": None, "refinements": None, "pose_features": "invariant",
    "axis_points": None, "max_gap": 15, "kp_alias": (), "kp_task": "masked", "kp_beta": 0.05,
    "lambda_tmse": 0.15, "loss": "focal", "class_weighting": "balanced_capped", "max_weight_ratio": 10.0,
    "rare_margin": 15, "label_map": None, "trial_frames": 360, "manifest": None, "pose_dir": None,
    "dlc_pick": "raw", "dlc_scorer": None, "individual": None, "frame_size": None, "fps": None,
    "group_by": "video", "group_regex": None, "val_share": 0.1, "test_share": 0.0, "split_file": None,
    "on_bad_trial": "error", "on_missing_pose": "error", "augment": True, "mixed_precision": "auto",
    "save_backbone": True, "run_dir": None, "resume": None, "test_run": False, "num_workers": 2,
    "accumulation_steps": 1, "clip_norm": 1.0, "device": "auto", "deterministic": False,
    "oom_recovery": True, "strict_config_validation": False, "backbone_type": None, "max_steps": 0,
}  # fmt: skip


@pytest.fixture(autouse=True)
def usual_kernels():
    yield
    forget_deterministic_kernels()


def test_every_flag_has_a_row():
    assert set(EFFECTS) == {flag.name for flag in flags(TrainConfig)}


def test_every_flag_has_its_documented_default():
    found = {flag.name: flag.default for flag in flags(TrainConfig) if not flag.required}
    assert found == DEFAULTS
    assert [flag.name for flag in flags(TrainConfig) if flag.required] == ["annotations", "videos"]


@pytest.mark.parametrize("name", EFFECTS)
def test_the_flag_has_its_effect(name, files, base, train):
    row = EFFECTS[name]
    assert f"--{name}" in row.words.replace("--no-", "--").split()
    given = f"{base} {row.given}"
    check_effect(row, lambda words: seen(f"{given} {words}", files, train, row.look))
