"""Values that no run can have, by the name of the flag."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache, reduce
from math import isfinite
from typing import Any

from common.config import Finding, flags
from mvfouls.config_both import BothConfig
from mvfouls.config_shared import DeepMlp, SeMlp

LEAST: dict[int, tuple[str, ...]] = {
    0: (
        "weight_decay", "seed", "num_workers", "worker_timeout", "start_frame", "gradient_clip_norm",
        "scheduler_warmup_epochs", "min_lr", "auxiliary_task_weight", "focal_gamma", "min_unfreeze_layers",
        "adaptive_min_improvement", "importance_threshold", "warmup_epochs", "base_importance_threshold",
        "performance_threshold", "phase2_epochs", "unfreeze_blocks", "temporal_jitter_strength",
        "color_aug_strength", "noise_strength", "early_stopping_min_delta", "plateau_threshold",
        "plateau_min_lr", "primary_task_weight", "core_task_weight", "support_task_weight",
        "context_task_weight",
    ),
    1: (
        "epochs", "batch_size", "prefetch_factor", "frames_per_clip", "target_fps", "max_views",
        "step_size", "plateau_patience", "max_weight_ratio", "oversample_factor",
        "progressive_start_factor", "progressive_end_factor", "progressive_epochs",
        "emergency_unfreeze_epoch", "validation_plateau_patience", "adaptive_patience",
        "unfreeze_patience", "max_layers_per_step", "sampling_epochs", "rollback_patience",
        "phase1_epochs", "phase1_plateau_patience", "min_batch_size", "test_batches", "max_repeat",
        "probe_batches", "gradient_accumulation_steps", "unfreeze_batch_size", "class_weight_cap",
        "max_clips_per_action", "min_clips_per_action", "eval_freq", "eval_batches",
    ),
    2: ("analysis_window",),
}  # fmt: skip
"""Smallest values."""
BELOW_ONE = (
    "momentum", "label_smoothing", "gradient_momentum", "dropout_rate", "head_dropout", "ema_decay",
    "ldam_drw_start",
)  # fmt: skip
"""From 0 to below 1."""
INSIDE = ("phase1_plateau_factor", "oom_reduction_factor", "plateau_factor")
"""Between 0 and 1."""
POSITIVE = (
    "lr", "head_lr", "backbone_lr", "phase2_backbone_lr_scale_factor", "phase2_head_lr_ratio", "ldam_max_m",
    "ldam_s", "logit_adjustment_temperature", "lr_scale_minor", "lr_scale_major", "lr_scale_massive",
    "dynamic_sampler_power", "clip_pooling_temperature",
)  # fmt: skip
"""More than 0."""


def values_of(config: BothConfig) -> dict[str, Any]:
    """Return the value of every flag by its name."""
    return {path[-1]: reduce(getattr, path, config) for path in _paths(type(config))}


@cache
def _paths(config_class: type) -> tuple[tuple[str, ...], ...]:
    """Return the fields that lead to each flag."""
    return tuple((*flag.groups, flag.name) for flag in flags(config_class))


def not_finite(values: Mapping[str, Any]) -> Iterator[Finding]:
    """Yield an error for each number that is infinite or none."""
    for name, value in values.items():
        if isinstance(value, float) and not isfinite(value):
            yield Finding("error", f"--{name.replace('_', '-')}: a finite number is expected")


def range_rules(config: BothConfig) -> dict[str, bool]:
    """Return for each flag with a range what is demanded, and whether it holds; values must be finite."""
    values = values_of(config)
    known = {name: value for name, value in values.items() if value is not None}
    rules = {
        f"--{name.replace('_', '-')} {known[name]}: at least {least} is expected": known[name] >= least
        for least, names in LEAST.items()
        for name in names
        if name in known
    }
    for names, expected, low, high in (
        (BELOW_ONE, "from 0 to below 1", -0.0, 1.0),
        (INSIDE, "between 0 and 1", None, 1.0),
        (POSITIVE, "more than 0", None, None),
    ):
        for name in names:
            if name in known:
                value = known[name]
                above = value > 0 if low is None else value >= low
                rules[text(name, value, expected)] = above and (high is None or value < high)
    return {**rules, **_augmentation(config), **_rest(config)}


def text(name: str, value: float, expected: str) -> str:
    """Return what is said about a value out of its range."""
    return f"--{name.replace('_', '-')} {value:g}: {expected} is expected"


def _augmentation(config: BothConfig) -> dict[str, bool]:
    given = config.augmentation
    dropout, crop, colour = given.dropout_prob, given.spatial_crop_strength, given.color_aug_strength
    return {
        text("dropout_prob", dropout, "from 0 to 0.5"): 0 <= dropout <= 0.5,
        text("spatial_crop_strength", crop, "above 0, at most 1"): 0 < crop <= 1,
        text("color_aug_strength", colour, "at most 1"): colour <= 1,
    }


def _rest(config: BothConfig) -> dict[str, bool]:
    video, best = config.video, config.saving.resume_best_acc
    deep = [given.head for given in config.heads.task_head if isinstance(given.head, DeepMlp | SeMlp)]
    return {
        text("resume_best_acc", best or 0, "a fraction from 0 to 1; divide percent by 100"): (
            best is None or 0 <= best <= 1
        ),
        f"--start-frame {video.start_frame} lies after --end-frame {video.end_frame}": (
            video.start_frame <= video.end_frame
        ),
        "--task-head: hidden, depth and reduction are at least 1": all(
            min(head.hidden, head.depth, getattr(head, "reduction", 1)) >= 1 for head in deep
        ),
        "--task-head: dropout is from 0 to below 1": all(0 <= head.dropout < 1 for head in deep),
    }
