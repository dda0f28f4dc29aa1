"""Values that no run can have, by the name of the flag."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from common.config import NOT_NEGATIVE, POSITIVE, SHARE, Finding, Range, flags, out_of_range
from mvfouls.config_both import BothConfig
from mvfouls.config_shared import DeepMlp, Ordinal, SeMlp

RANGES: dict[Range, tuple[str, ...]] = {
    NOT_NEGATIVE: (
        "weight_decay", "seed", "num_workers", "worker_timeout", "start_frame", "gradient_clip_norm",
        "scheduler_warmup_epochs", "min_lr", "main_task_weights", "auxiliary_task_weight", "focal_gamma",
        "min_unfreeze_layers", "adaptive_min_improvement", "importance_threshold", "warmup_epochs",
        "base_importance_threshold", "performance_threshold", "phase2_epochs", "unfreeze_blocks",
        "temporal_jitter_strength", "noise_strength", "early_stopping_min_delta", "plateau_threshold",
        "plateau_min_lr", "primary_task_weight", "core_task_weight", "support_task_weight",
        "context_task_weight",
    ),
    Range(1): (
        "epochs", "batch_size", "prefetch_factor", "frames_per_clip", "target_fps", "max_views",
        "step_size", "plateau_patience", "max_weight_ratio", "oversample_factor",
        "progressive_start_factor", "progressive_end_factor", "progressive_epochs",
        "emergency_unfreeze_epoch", "validation_plateau_patience", "adaptive_patience",
        "unfreeze_patience", "max_layers_per_step", "sampling_epochs", "rollback_patience",
        "phase1_epochs", "phase1_plateau_patience", "min_batch_size", "test_batches", "max_repeat",
        "probe_batches", "gradient_accumulation_steps", "unfreeze_batch_size", "class_weight_cap",
        "max_clips_per_action", "min_clips_per_action", "eval_freq", "eval_batches",
    ),
    Range(2): ("analysis_window",),
    Range(0, 1, below=True): (
        "momentum", "label_smoothing", "gradient_momentum", "dropout_rate", "head_dropout", "ema_decay",
        "ldam_drw_start",
    ),
    Range(0, 1, above=True, below=True): ("phase1_plateau_factor", "oom_reduction_factor", "plateau_factor"),
    Range(0, 1, above=True): ("gamma", "spatial_crop_strength", "train_fraction"),
    Range(0, 0.5): ("dropout_prob",),
    SHARE: ("color_aug_strength",),
    POSITIVE: (
        "lr", "head_lr", "backbone_lr", "phase2_backbone_lr_scale_factor", "phase2_head_lr_ratio",
        "ldam_max_m", "ldam_s", "logit_adjustment_temperature", "lr_scale_minor", "lr_scale_major",
        "lr_scale_massive", "dynamic_sampler_power", "clip_pooling_temperature",
    ),
}  # fmt: skip
"""Flags of one command line or both."""


def unfit_values(config: BothConfig, relations: Mapping[str, bool]) -> Iterator[Finding]:
    """Yield an error for each value out of its range, naming the flag.

    If there is none, an error for each of the `relations` of values, and of those below, that does not hold.
    """
    names = {flag.name for flag in flags(type(config))}
    ranges = {limits: tuple(name for name in given if name in names) for limits, given in RANGES.items()}
    unfit = list(out_of_range(config, ranges))
    rules = {} if unfit else {**_relations(config), **relations}
    yield from unfit
    yield from (Finding("error", said) for said, holds in rules.items() if not holds)


def _relations(config: BothConfig) -> dict[str, bool]:
    video, best = config.video, config.saving.resume_best_acc
    heads = [given.head for given in config.heads.task_head]
    deep = [head for head in heads if isinstance(head, DeepMlp | SeMlp)]
    ordinal = [head for head in heads if isinstance(head, Ordinal)]
    flat = [head for head in ordinal if head.depth == 0]
    return {
        f"--resume-best-acc {best}: a fraction from 0 to 1 is expected; divide percent by 100": (
            best is None or best in SHARE
        ),
        f"--start-frame {video.start_frame} lies after --end-frame {video.end_frame}": (
            video.start_frame <= video.end_frame
        ),
        "--task-head: hidden, depth and reduction are at least 1": all(
            min(head.hidden, head.depth, getattr(head, "reduction", 1)) >= 1 for head in deep
        ),
        "--task-head: hidden of ordinal is at least 1 and depth not negative": all(
            head.hidden >= 1 and head.depth >= 0 for head in ordinal
        ),
        "--task-head: hidden of ordinal has no effect without depth=1 or more": all(
            head.hidden == Ordinal().hidden for head in flat
        ),
        "--task-head: dropout is from 0 to below 1": all(0 <= h.dropout < 1 for h in [*deep, *ordinal]),
    }
