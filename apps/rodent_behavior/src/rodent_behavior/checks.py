"""Settings of a training run that contradict each other, are out of range, or cannot act."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import reduce
from math import isfinite
from typing import get_args

from common.config import Finding, Parsed, flags, has_no_effect
from rodent_behavior.config import BACKBONES, TrainConfig

KEYPOINT_FLAGS = ("lambda_kp", "kp_task", "kp_beta")
WANDB_NAMES = ("wandb_entity", "wandb_project", "wandb_run_name")
WEIGHT_FLAGS = ("class_weighting", "max_weight_ratio")
WITHOUT_WEIGHTS = ("logit_adjusted", "ldam")
"""Losses that shift logits by the shares of the classes instead of weighting them."""
POSE_FLAGS = (
    "pose_dir", "on_missing_pose", "kp_names", "kp_alias", "kp_likelihood_thr", "dlc_pick", "dlc_scorer",
    "individual", "max_gap", "kp_jitter_std", "kp_jitter_mode",
)  # fmt: skip
VIDEO_FLAGS = (
    "img_size", "resize_mode", "clip_T", "freeze_backbone_epochs", "unfreeze_blocks", "backbone_lr_scale",
    "cache_dir", "cache_views", "cache_max_gb", "aug_brightness", "aug_contrast", "aug_temporal_drop",
    "aug_noise_std",
)  # fmt: skip
LARGEST_JITTER = 0.2


def check_training(parsed: Parsed[TrainConfig]) -> list[Finding]:
    """Return every error and warning about the settings themselves; data are not looked at."""
    config = parsed.config
    return [*_not_finite(config), *_ranges(config), *_contradictions(parsed), *_without_effect(parsed)]


def _not_finite(config: TrainConfig) -> Iterator[Finding]:
    for flag in flags(TrainConfig):
        value = reduce(getattr, (*flag.groups, flag.name), config)
        if isinstance(value, float) and not isfinite(value):
            yield Finding("error", f"--{flag.name} {value}: a finite number is expected")


def _ranges(config: TrainConfig) -> Iterator[Finding]:
    run, optimizer, loss, model = config.run, config.optimizer, config.loss, config.model
    balance, change, pose = config.balance, config.augmentation, config.pose
    rules = {
        "--epochs, --batch_size, --accumulation_steps, --train_T, --val_T: at least 1": min(
            run.epochs, run.batch_size, run.accumulation_steps, run.train_T, run.val_T
        )
        >= 1,
        "--num_workers, --early_stopping_patience, --max_steps: not negative": min(
            run.num_workers, run.early_stopping_patience, run.max_steps
        )
        >= 0,
        "--lr: greater than 0": optimizer.lr > 0,
        "--min_lr: from 0 to --lr": 0 <= optimizer.min_lr <= optimizer.lr,
        "--lr_factor: between 0 and 1": 0 < optimizer.lr_factor < 1,
        "--lr_patience: not negative": optimizer.lr_patience >= 0,
        "--weight_decay, --clip_norm: not negative": min(optimizer.weight_decay, optimizer.clip_norm) >= 0,
        "--ema_decay: above 0 and below 1": 0 < optimizer.ema_decay < 1,
        "--warmup_epochs: not negative": optimizer.warmup_epochs >= 0,
        "--dropout, --head_dropout: from 0 to below 1": all(
            0 <= value < 1 for value in (model.dropout, model.head_dropout)
        ),
        "--backbone_lr_scale: greater than 0": model.backbone_lr_scale > 0,
        "--freeze_backbone_epochs, --unfreeze_blocks: not negative": min(
            model.freeze_backbone_epochs, model.unfreeze_blocks
        )
        >= 0,
        "--img_size: at least 16": model.img_size >= 16,
        "--clip_T: at least 1": model.clip_T >= 1,
        "--focal_gamma: not negative": loss.focal_gamma >= 0,
        "--label_smoothing: from 0 to below 1": 0 <= loss.label_smoothing < 1,
        "--lambda_smooth, --lambda_tmse, --lambda_kp: not negative": min(
            loss.lambda_smooth, loss.lambda_tmse, loss.lambda_kp
        )
        >= 0,
        "--kp_beta: greater than 0": loss.kp_beta > 0,
        "--rare_boost_cap: at least 1": balance.rare_boost_cap >= 1,
        "--rare_threshold_share: from 0 to below 1": 0 <= balance.rare_threshold_share < 1,
        "--rare_margin: not negative": balance.rare_margin >= 0,
        "--max_weight_ratio: at least 1": balance.max_weight_ratio >= 1,
        f"--kp_jitter_std: from 0 to {LARGEST_JITTER}": 0 <= change.kp_jitter_std <= LARGEST_JITTER,
        "--aug_brightness, --aug_contrast, --aug_temporal_drop, --aug_hflip: from 0 to 1": all(
            0 <= value <= 1
            for value in (
                change.aug_brightness, change.aug_contrast, change.aug_temporal_drop, change.aug_hflip
            )
        ),
        "--aug_noise_std, --aug_roll: not negative": min(change.aug_noise_std, change.aug_roll) >= 0,
        "--max_gap: not negative": pose.max_gap >= 0,
        "--cache_views: not negative": config.cache.cache_views >= 0,
        "--cache_max_gb: greater than 0": config.cache.cache_max_gb > 0,
    }  # fmt: skip
    yield from (Finding("error", text) for text, holds in rules.items() if not holds)


def _contradictions(parsed: Parsed[TrainConfig]) -> Iterator[Finding]:
    config, typed = parsed.config, parsed.typed
    trials, run, loss, balance = config.trials, config.run, config.loss, config.balance
    pose, model, optimizer = config.pose.pose_features, config.model, config.optimizer
    rules = {
        f"--min_frames {trials.min_frames} with --trial_frames {trials.trial_frames}: every trial would be "
        "too short": trials.min_frames > trials.trial_frames,
        f"--warmup_epochs {optimizer.warmup_epochs} with --epochs {run.epochs}: it never ends": (
            "warmup_epochs" in typed and not run.test_run and optimizer.warmup_epochs >= run.epochs
        ),
        f"--focal_gamma with --loss {loss.loss}, which has none": (
            {"focal_gamma", "loss"} <= typed and loss.loss != "focal"
        ),
        f"--rare_boost_cap {balance.rare_boost_cap:g} with --rare_threshold_share 0: no class is rare": (
            "rare_boost_cap" in typed and balance.rare_boost_cap > 1 and balance.rare_threshold_share == 0
        ),
        "--pose_features none with --backbone none leaves no input": (
            pose == "none" and model.backbone == "none"
        ),
        "--pose_features none with --model_type multitask: take --model_type action_only": (
            pose == "none" and model.model_type == "multitask"
        ),
        f"--refinements {model.refinements} with --temporal_model tcn, which has none": (
            model.temporal_model == "tcn" and bool(model.refinements)
        ),
        "--split_file with --val_share or --test_share: the file lists the groups": (
            config.split.split_file is not None and bool({"val_share", "test_share"} & typed)
        ),
        **_backbone_contradictions(parsed),
    }
    yield from (Finding("error", text) for text, holds in rules.items() if holds)


def _backbone_contradictions(parsed: Parsed[TrainConfig]) -> dict[str, bool]:
    model = parsed.config.model
    vits = [name for name in get_args(BACKBONES) if name.startswith("vit_")]
    opens = model.unfreeze_blocks > 0 and model.freeze_backbone_epochs < parsed.config.run.epochs
    return {
        "--backbone_type videomae2_3d is not available: take --backbone": (
            model.backbone_type == "videomae2_3d"
        ),
        f"--backbone_type vit_2d needs --encoder_name, one of {', '.join(vits)}": (
            model.backbone_type == "vit_2d" and model.backbone not in vits
        ),
        "--no-save_backbone without --backbone_weights: there is no file to load the backbone from": (
            not model.save_backbone and model.backbone_weights is None
        ),
        f"--no-save_backbone with --unfreeze_blocks {model.unfreeze_blocks}: trained blocks are in no file": (
            not model.save_backbone and opens
        ),
    }


def _without_effect(parsed: Parsed[TrainConfig]) -> Iterator[Finding]:
    for name, (reason, acts_not) in _idle(parsed.config).items():
        if name in parsed.typed and acts_not:
            yield Finding("warning", has_no_effect(name, reason))


def _idle(config: TrainConfig) -> dict[str, tuple[str, bool]]:
    """Return for flags that can be idle why they are, and whether they are; the last reason wins."""
    model, loss, balance, change = config.model, config.loss, config.balance, config.augmentation
    pose, rare = config.pose, config.balance.rare_boost_cap > 1 and config.balance.rare_threshold_share > 0
    groups: list[tuple[tuple[str, ...], str, bool]] = [
        (("ema_decay",), "--use_ema is off", not config.optimizer.use_ema),
        (WANDB_NAMES, "--use_wandb is off", not config.run.use_wandb),
        (("lr_patience", "lr_factor"), "--lr_schedule is cosine", config.optimizer.lr_schedule == "cosine"),
        (("clip_T",), f"--backbone {model.backbone} takes single frames", True),
        (("random_backbone",), f"--backbone is {model.backbone}", model.backbone in ("none", "tiny_cnn")),
        (("freeze_backbone_epochs", "backbone_lr_scale"), "--unfreeze_blocks is 0",
         model.unfreeze_blocks == 0),
        (("rare_margin",), "no class is repeated", not rare),
        (("max_weight_ratio",), f"--class_weighting is {balance.class_weighting}",
         balance.class_weighting != "balanced_capped"),
        (WEIGHT_FLAGS, f"--loss {loss.loss} takes no class weights", loss.loss in WITHOUT_WEIGHTS),
        (KEYPOINT_FLAGS[1:], "--lambda_kp is 0", loss.lambda_kp == 0),
        (KEYPOINT_FLAGS, "--model_type is action_only", model.model_type == "action_only"),
        (("axis_points",), f"--pose_features is {pose.pose_features}", pose.pose_features != "generic"),
        (("max_gap",), "--pose_features graph18 is never filled", pose.pose_features == "graph18"),
        (("kp_jitter_mode",), "--kp_jitter_std is 0", change.kp_jitter_std == 0),
        (POSE_FLAGS, "--pose_features is none", pose.pose_features == "none"),
        (VIDEO_FLAGS, "--backbone is none", model.backbone == "none"),
        (tuple(name for name in vars(change) if name != "augment"), "--no-augment", not change.augment),
    ]  # fmt: skip
    found: dict[str, tuple[str, bool]] = {}
    for names, reason, acts_not in groups:
        found |= {name: (reason, acts_not) for name in names if acts_not or name not in found}
    return found


def resolved(parsed: Parsed[TrainConfig]) -> TrainConfig:
    """Return the settings with what depends on others filled in: warm-up, sizes, `--test_run`."""
    config = parsed.config
    run = config.run
    if run.test_run:
        run = replace(run, epochs=1, max_steps=2)
    optimizer = config.optimizer
    if "warmup_epochs" not in parsed.typed or run.test_run:
        optimizer = replace(optimizer, warmup_epochs=min(optimizer.warmup_epochs, run.epochs // 2))
    return replace(config, run=run, optimizer=optimizer)
