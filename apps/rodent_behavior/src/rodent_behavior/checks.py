"""Settings of a training run that contradict each other, are out of range, or cannot act."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import get_args

from common.config import (
    NOT_NEGATIVE,
    POSITIVE,
    SHARE,
    Finding,
    Parsed,
    Range,
    has_no_effect,
    out_of_range,
)
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
RANGES = {
    Range(1): (
        "epochs", "batch_size", "accumulation_steps", "train_T", "val_T", "clip_T", "rare_boost_cap",
        "max_weight_ratio",
    ),
    Range(16): ("img_size",),
    POSITIVE: ("lr", "backbone_lr_scale", "kp_beta", "cache_max_gb"),
    NOT_NEGATIVE: (
        "num_workers", "early_stopping_patience", "max_steps", "min_lr", "lr_patience", "weight_decay",
        "clip_norm", "warmup_epochs", "freeze_backbone_epochs", "unfreeze_blocks", "focal_gamma",
        "lambda_smooth", "lambda_tmse", "lambda_kp", "rare_margin", "aug_noise_std", "aug_roll", "max_gap",
        "cache_views",
    ),
    Range(0, 1, above=True, below=True): ("lr_factor", "ema_decay"),
    Range(0, 1, below=True): ("dropout", "head_dropout", "label_smoothing", "rare_threshold_share"),
    SHARE: ("aug_brightness", "aug_contrast", "aug_temporal_drop", "aug_hflip"),
    Range(0, 0.2): ("kp_jitter_std",),
}  # fmt: skip


def check_training(parsed: Parsed[TrainConfig]) -> list[Finding]:
    """Return every error and warning about the settings themselves; data are not looked at."""
    return [
        *out_of_range(parsed.config, RANGES, hyphens=False),
        *_contradictions(parsed),
        *_without_effect(parsed),
    ]


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
        f"--min_lr {optimizer.min_lr:g} with --lr {optimizer.lr:g}: the smallest is larger": (
            optimizer.min_lr > optimizer.lr
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
        "--val_share 0 with --lr_schedule plateau: there is no Val macro F1 to follow": (
            _unjudged(config) and optimizer.lr_schedule == "plateau"
        ),
        **_backbone_contradictions(parsed),
    }
    yield from (Finding("error", text) for text, holds in rules.items() if holds)


def _unjudged(config: TrainConfig) -> bool:
    """Return whether nothing is held out for validation."""
    return config.split.val_share == 0 and config.split.split_file is None


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
        (("early_stopping_patience", "val_T"), "--val_share is 0", _unjudged(config)),
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
