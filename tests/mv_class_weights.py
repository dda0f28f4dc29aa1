"""Command lines of `train_with_class_weights.py`."""

from pathlib import Path

from mv_flags import Seen

from common.config import Parsed, UserError, parse
from mvfouls.checks_class_weights import check_class_weights
from mvfouls.config_class_weights import ALIASES, ClassWeightsConfig
from mvfouls.resolve_class_weights import resolve
from mvfouls.settings import RunSettings

DATA = (
    "--train-dir mvfouls/train --val-dir mvfouls/valid --train-annotations mvfouls/train/annotations.json "
    "--val-annotations mvfouls/valid/annotations.json"
)
L1 = (
    f"{DATA} --multi-task --epochs 20 --batch-size 3 --lr 5e-5 --backbone-arch mvitv2_b "
    "--loss-types action_class ce severity focal offence ldam --output-dir outputs/ldam_experiment"
)
L2 = (
    f"{DATA} --multi-task --loss-types action_class ldam severity ldam offence ldam --ldam-max-m 0.3 "
    "--ldam-s 20.0 --epochs 20 --output-dir outputs/all_ldam_experiment"
)
L3 = (
    f"{DATA} --multi-task --loss-types action_class ce severity focal offence ldam "
    "--task-head offence deep_mlp depth=3 hidden=1024 dropout=0.2 --ldam-max-m 0.5 --ldam-s 30.0 --epochs 20 "
    "--output-dir outputs/ldam_plus_deep_heads"
)


def parse_line(words: str) -> Parsed[ClassWeightsConfig]:
    """Return what a command line says; JSON without spaces."""
    return parse(ClassWeightsConfig, words.split(), prog="train_with_class_weights.py", aliases=ALIASES)


def parsed(words: str, *, multi: bool = True) -> Parsed[ClassWeightsConfig]:
    """Return what a command line about the documented folders says."""
    return parse_line(f"{DATA} {'--multi-task ' if multi else ''}{words}")


def settings_of(words: str, *, multi: bool = True) -> RunSettings:
    """Return the settings of a run on one CPU."""
    return resolve(parsed(words, multi=multi))


def findings(words: str, *, cuda: bool = True, multi: bool = True) -> list[tuple[str, str]]:
    """Return level and text of everything there is to say about a command line."""
    try:
        found = check_class_weights(parsed(words, multi=multi), cuda=cuda)
    except UserError as error:
        return [("error", str(error))]
    return [(finding.level, finding.text) for finding in found]


def seen(words: str, *, multi: bool = True) -> Seen:
    """Return what becomes of a command line in a run of two processes on GPUs."""
    try:
        given = parsed(words, multi=multi)
        found = check_class_weights(given, cuda=True)
        said, levels = [finding.text for finding in found], {finding.level for finding in found}
        return Seen(resolve(given, cuda=True, processes=2), said, levels)
    except UserError as error:
        return Seen(None, [str(error)])


DEFAULTS: dict[str, object] = {
    "train_dir": ..., "val_dir": ..., "train_annotations": ..., "val_annotations": ...,
    "multi_task": False, "num_classes": 2, "epochs": 20, "batch_size": 8, "lr": 1e-4,
    "head_lr": None, "backbone_lr": None, "weight_decay": 1e-4, "num_workers": 4,
    "backbone_arch": "swin", "freeze_mode": "gradual", "disable_gradual_unfreezing": False,
    "unfreeze_schedule": None, "reduce_batch_on_unfreeze": False, "unfreeze_batch_size": 3,
    "gradient_accumulation_steps": 1, "output_dir": Path("outputs_balanced"), "device": "auto",
    "verbose": False, "analyze_only": False, "disable_class_weights": False, "enable_class_weights": False,
    "class_weight_cap": 10.0, "effective_class_weights": False, "primary_task_weight": 3.0,
    "auxiliary_task_weight": 1.0, "primary_tasks": ("action_class", "severity", "offence"),
    "use_smart_weighting": False, "core_task_weight": 20.0, "support_task_weight": 2.0,
    "context_task_weight": 0.5, "adaptive_weights": False, "weighting_strategy": "inverse_accuracy",
    "task_weight_source": "train", "adaptive_lr": False, "lr_scale_minor": 1.2, "lr_scale_major": 1.5,
    "lr_scale_massive": 2.0, "balanced_sampling": False,
    "balance_tasks": ("action_class", "severity", "offence"), "joint_severity_sampling": False,
    "dynamic_sampler": False, "dynamic_sampler_task": "action_class", "dynamic_sampler_power": 1.0,
    "loss_types": {}, "loss_type": None, "ldam_max_m": 0.5, "ldam_s": 30.0, "ldam_drw_start": None,
    "logit_adjustment": False, "logit_adjustment_temperature": 1.0, "task_head": (), "head_dropout": 0.5,
    "task_loss_weights": None, "task_class_weights": None, "train_fraction": 1.0, "bag_of_clips": False,
    "max_clips_per_action": 8, "min_clips_per_action": 1, "clip_sampling_strategy": "random",
    "clip_pooling_type": "mean", "clip_pooling_temperature": 1.0, "eval_freq": 1, "eval_batches": None,
    "save_val_logits": False, "checkpoint_metric": "leaderboard", "backbone_checkpointing": False,
    "early_stopping": False, "early_stopping_patience": 6, "early_stopping_min_delta": 0.001,
    "lr_scheduler": "cosine", "plateau_patience": 3, "plateau_factor": 0.5, "plateau_threshold": 0.001,
    "plateau_min_lr": 1e-7, "plateau_mode": "auto",
}  # fmt: skip
"""The flags of its own, with their defaults; ... where there is none."""
TAKEN: dict[str, object] = {
    "seed": 42, "worker_timeout": 0, "prefetch_factor": 2, "pin_memory": False, "frames_per_clip": 16,
    "target_fps": 15, "start_frame": 67, "end_frame": 82, "img_height": 224, "img_width": 398,
    "optimizer": "adamw", "momentum": 0.9, "mixed_precision": False, "gradient_clip_norm": 1.0,
    "scheduler_warmup_epochs": 0, "min_lr": 1e-6, "label_smoothing": 0.0, "focal_gamma": 2.0,
    "emergency_unfreeze_epoch": 4, "min_unfreeze_layers": 1, "emergency_unfreeze_gradual": True,
    "validation_plateau_patience": 2, "adaptive_patience": 3, "adaptive_min_improvement": 0.001,
    "importance_threshold": 0.01, "warmup_epochs": 3, "unfreeze_patience": 2, "max_layers_per_step": 1,
    "sampling_epochs": 2, "base_importance_threshold": 0.002, "performance_threshold": 0.001,
    "rollback_patience": 2, "gradient_momentum": 0.9, "analysis_window": 2, "enable_rollback": True,
    "enable_dependency_analysis": True, "augmentation_strength": "moderate",
    "aggressive_augmentation": False, "extreme_augmentation": False, "temporal_jitter_strength": 2,
    "dropout_prob": 0.1, "spatial_crop_strength": 0.8, "color_aug_strength": 0.2, "noise_strength": 0.03,
    "gpu_augmentation": False, "severity_aware_augmentation": False, "disable_augmentation": False,
    "disable_in_model_augmentation": False, "resume": None, "resume_best_acc": None,
    "memory_cleanup_interval": 20, "enable_data_optimization": True, "disable_data_optimization": False,
    "enable_oom_recovery": True, "oom_reduction_factor": 0.75, "min_batch_size": 1,
    "enable_config_validation": True, "strict_config_validation": False, "test_run": False,
    "test_batches": 2, "force_batch_size": False, "multi_scale": False, "dropout_rate": 0.1,
}  # fmt: skip
"""Flags of `train_modular.py` that it also has."""
