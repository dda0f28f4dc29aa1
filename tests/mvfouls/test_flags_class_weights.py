"""Every flag of `train_with_class_weights.py` changes the run it belongs to: one row per flag."""

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from mv_class_weights import DEFAULTS, TAKEN, seen
from mv_flags import Seen

from common.config import flags
from mvfouls.augment_presets import PRESETS
from mvfouls.config_class_weights import ClassWeightsConfig


class Row(NamedTuple):
    """With `words` the answer of `look` is `value`, or passes it as a test; without them it does not.

    `given` is typed both times; `multi`: with --multi-task.
    """

    words: str
    look: Callable[[Seen], Any]
    value: Any
    given: str = ""
    multi: bool = True


def part(path: str) -> Callable[[Seen], Any]:
    """Look at one setting."""

    def look(run: Seen) -> Any:
        answer: Any = run.settings
        assert answer is not None, run.said
        for name in path.split("."):
            answer = answer[name] if isinstance(answer, dict) else getattr(answer, name)
        return answer

    return look


def weighted(run: Seen) -> set[str]:
    return {task for task, loss in run.settings.losses.items() if loss.weighted}


def weights(run: Seen) -> list[float]:
    return [loss.weight for loss in run.settings.losses.values()]


def kinds(run: Seen) -> dict[str, str]:
    return {task: loss.kind for task, loss in run.settings.losses.items()}


def indices(run: Seen) -> tuple[int, ...]:
    return run.settings.data.pixels.frames.indices()


def said(run: Seen) -> str:
    return "\n".join([*run.said, *(run.settings.notes if run.settings else ())])


def has(text: str) -> Callable[[Any], bool]:
    return lambda answer: text in str(answer)


ADAPTIVE, GUIDED, ADVANCED = (f"--freeze-mode {mode}" for mode in ("adaptive", "gradient_guided", "advanced"))
LDAM, BALANCED, BAG = "--loss-types offence ldam", "--balanced-sampling", "--bag-of-clips"
PLATEAU, STOP = "--lr-scheduler plateau", "--early-stopping"
SMART, SHRINK = "--use-smart-weighting", "--reduce-batch-on-unfreeze"
SCHEDULE, FREEZING, VIEWS = "fit.schedule.", "freezing.", "data.views."
RAISED = "--adaptive-lr"
THREE = [3.0, 3.0, 3.0]


def scale(place: int) -> Callable[[Seen], Any]:
    return lambda run: run.settings.rates.multipliers and run.settings.rates.multipliers[place][1]


OWN: dict[str, Row] = {
    "train_dir": Row("--train-dir there", part("data.train.folder"), Path("there")),
    "val_dir": Row("--val-dir there", part("data.valid.folder"), Path("there")),
    "train_annotations": Row("--train-annotations a.json", part("data.train.annotations"), Path("a.json")),
    "val_annotations": Row("--val-annotations a.json", part("data.valid.annotations"), Path("a.json")),
    "multi_task": Row("--multi-task", kinds, lambda k: len(k) == 3, "", multi=False),
    "num_classes": Row("--num-classes 8", kinds, {"action_class": "ce"}, "", multi=False),
    "epochs": Row("--epochs 9", part("fit.epochs"), 9),
    "batch_size": Row("--batch-size 4", part("loader.batch_size"), 4),
    "lr": Row("--lr 5e-5", lambda s: (s.settings.rates.lr, s.settings.rates.head_lr), (5e-5, 5e-5)),
    "head_lr": Row(
        "--head-lr 1e-3",
        lambda s: [getattr(s.settings.rates, n) for n in ("head_lr", "backbone_lr", "layer_decay")],
        [1e-3, 1e-4, 1.0],
    ),
    "backbone_lr": Row("--backbone-lr 1e-5", part("rates.backbone_lr"), 1e-5),
    "weight_decay": Row("--weight-decay 0.05", part("fit.optimizer.weight_decay"), 0.05),
    "num_workers": Row("--num-workers 0", part("loader.workers"), 0),
    "backbone_arch": Row("--backbone-arch mvitv2", part("model.backbone"), "mvitv2_b"),
    "freeze_mode": Row(
        "--freeze-mode freeze_stages1",
        lambda s: (s.settings.freezing.strategy, s.settings.freezing.open_blocks), ("closed", 3),
    ),
    "disable_gradual_unfreezing": Row(
        "--disable-gradual-unfreezing",
        lambda s: (s.settings.freezing.strategy, s.settings.freezing.open_blocks), ("closed", 0),
    ),
    "unfreeze_schedule": Row(
        '--unfreeze-schedule {"4":"stage_2","2":"stage_3"}', part(FREEZING + "schedule"),
        ((2, "stage_3"), (4, "stage_2")),
    ),
    "reduce_batch_on_unfreeze": Row(SHRINK, part("loader.unfreeze_batch"), 3),
    "unfreeze_batch_size": Row("--unfreeze-batch-size 2", part("loader.unfreeze_batch"), 2, SHRINK),
    "gradient_accumulation_steps": Row(
        "--gradient-accumulation-steps 4", part("fit.accumulation_steps"), 4
    ),
    "output_dir": Row("--output-dir here", part("save_dir"), Path("here")),
    "device": Row("--device cpu", part("device"), "cpu"),
    "disable_class_weights": Row("--disable-class-weights", weighted, set()),
    "enable_class_weights": Row("--enable-class-weights", weighted, lambda w: len(w) == 3, BALANCED),
    "class_weight_cap": Row(
        "--class-weight-cap 5", lambda s: (s.settings.balance.limit, s.settings.balance.limit_rule),
        (5.0, "value"),
    ),
    "effective_class_weights": Row(
        "--effective-class-weights", lambda s: (s.settings.balance.strategy, s.settings.balance.beta),
        ("effective_number", 0.9999),
    ),
    "primary_task_weight": Row("--primary-task-weight 5", weights, [5.0, 5.0, 5.0]),
    "auxiliary_task_weight": Row(
        "--auxiliary-task-weight 2", part("losses.contact.weight"), 2.0, "--auxiliary-tasks contact"
    ),
    "primary_tasks": Row("--primary-tasks severity", weights, [3.0, 1.0, 1.0]),
    "use_smart_weighting": Row(SMART, weights, [20.0, 20.0, 2.0]),
    "core_task_weight": Row("--core-task-weight 9", weights, [9.0, 9.0, 2.0], SMART),
    "support_task_weight": Row("--support-task-weight 9", weights, [20.0, 20.0, 9.0], SMART),
    "context_task_weight": Row(
        "--context-task-weight 9", part("losses.contact.weight"), 9.0, f"{SMART} --auxiliary-tasks contact"
    ),
    "adaptive_weights": Row("--adaptive-weights", part("task_weighting.strategy"), "inverse_accuracy"),
    "weighting_strategy": Row(
        "--weighting-strategy difficulty", part("task_weighting.strategy"), "difficulty", "--adaptive-weights"
    ),
    "task_weight_source": Row(
        "--task_weight_source valid", part("task_weighting.source"), "valid", "--adaptive-weights"
    ),
    "adaptive_lr": Row(
        RAISED, part("rates.multipliers"),
        (("stage_3", 2.0), ("stage_2", 2.0), ("stage_1", 1.5), ("stage_0", 1.2), ("patch_embed", 1.2)),
    ),
    "lr_scale_minor": Row("--lr-scale-minor 1.1", scale(4), 1.1, RAISED),
    "lr_scale_major": Row("--lr-scale-major 1.6", scale(2), 1.6, RAISED),
    "lr_scale_massive": Row("--lr-scale-massive 3", scale(0), 3.0, RAISED),
    "balanced_sampling": Row(
        BALANCED, lambda s: (s.settings.balance.sampler, weighted(s)), ("mixture", set())
    ),
    "balance_tasks": Row("--balance-tasks severity", part("balance.sampler_tasks"), ("severity",), BALANCED),
    "joint_severity_sampling": Row(
        "--joint-severity-sampling", lambda s: (s.settings.balance.sampler, s.settings.balance.sampler_tasks),
        ("joint", ("action_class", "severity")),
    ),
    "dynamic_sampler": Row("--dynamic-sampler", part("balance.sampler"), "dynamic"),
    "dynamic_sampler_task": Row(
        "--dynamic-sampler-task severity", part("balance.dynamic_task"), "severity", "--dynamic-sampler"
    ),
    "dynamic_sampler_power": Row(
        "--dynamic-sampler-power 0.5", part("balance.dynamic_power"), 0.5, "--dynamic-sampler"
    ),
    "loss_types": Row(
        "--loss-types offence bce action_type balanced_softmax", kinds,
        {"action_class": "balanced_softmax", "severity": "focal", "offence": "bce"},
    ),
    "loss_type": Row("--loss-type focal", lambda s: set(kinds(s).values()), {"focal"}),
    "ldam_max_m": Row("--ldam-max-m 0.3", part("losses.offence.max_margin"), 0.3, LDAM),
    "ldam_s": Row("--ldam-s 20", part("losses.offence.scale"), 20.0, LDAM),
    "ldam_drw_start": Row("--ldam-drw-start 0.5", part("losses.offence.drw_start"), 0.5, LDAM),
    "logit_adjustment": Row(
        "--logit-adjustment", lambda s: (s.settings.losses["offence"].adjustment, weighted(s)),
        (1.0, {"severity"}),
    ),
    "logit_adjustment_temperature": Row(
        "--logit-adjustment-temperature 2", part("losses.offence.adjustment"), 2.0, "--logit-adjustment"
    ),
    "task_head": Row(
        "--task-head action_type se_mlp reduction=8 depth=2",
        lambda s: vars(s.settings.model.heads["action_class"]),
        {"kind": "se_mlp", "hidden": 1024, "depth": 2, "dropout": 0.3, "reduction": 8},
    ),
    "head_dropout": Row("--head-dropout 0.2", part("model.heads.offence.dropout"), 0.2),
    "task_loss_weights": Row('--task-loss-weights {"action_type":7}', weights, [3.0, 7.0, 3.0]),
    "task_class_weights": Row(
        '--task-class-weights {"offence":[1,4,9]}', part("losses.offence.class_weights"), (1.0, 4.0, 9.0)
    ),
    "train_fraction": Row("--train-fraction 0.2", part("data.train_fraction"), 0.2),
    "bag_of_clips": Row(BAG, part(VIEWS + "bags"), True),
    "max_clips_per_action": Row("--max-clips-per-action 2", part(VIEWS + "max_clips"), 2, BAG),
    "min_clips_per_action": Row("--min-clips-per-action 2", part(VIEWS + "min_clips"), 2, BAG),
    "clip_sampling_strategy": Row(
        "--clip-sampling-strategy uniform", part(VIEWS + "sampling"), "uniform", BAG
    ),
    "clip_pooling_type": Row("--clip-pooling-type max", part("model.aggregation"), "max", BAG),
    "clip_pooling_temperature": Row(
        "--clip-pooling-temperature 2", part("model.temperature"), 2.0, f"{BAG} --clip-pooling-type attention"
    ),
    "eval_freq": Row("--eval-freq 3", part("fit.validate_every"), 3),
    "eval_batches": Row("--eval-batches 3", part("judge.batches"), 3),
    "save_val_logits": Row("--save-val-logits", part("judge.save_logits"), True),
    "checkpoint_metric": Row(
        "--checkpoint-metric severity_macro_f1", part("judge.headline"), "severity_macro_f1"
    ),
    "backbone_checkpointing": Row("--backbone-checkpointing", part("model.activation_checkpointing"), True),
    "early_stopping": Row(
        STOP, lambda s: (s.settings.fit.early_stopping_patience, s.settings.fit.early_stopping_min_delta),
        (6, 0.001),
    ),
    "early_stopping_patience": Row(
        "--early-stopping-patience 4", part("fit.early_stopping_patience"), 4, STOP
    ),
    "early_stopping_min_delta": Row(
        "--early-stopping-min-delta 0.01", part("fit.early_stopping_min_delta"), 0.01, STOP
    ),
    "lr_scheduler": Row(
        PLATEAU,
        lambda s: [getattr(s.settings.fit.schedule, name) for name in ("name", "plateau_factor", "min_lr")],
        ["reduce_on_plateau", 0.5, 1e-7],
    ),
    "plateau_patience": Row("--plateau-patience 5", part(SCHEDULE + "plateau_patience"), 5, PLATEAU),
    "plateau_factor": Row("--plateau-factor 0.2", part(SCHEDULE + "plateau_factor"), 0.2, PLATEAU),
    "plateau_threshold": Row("--plateau-threshold 0.1", part(SCHEDULE + "plateau_threshold"), 0.1, PLATEAU),
    "plateau_min_lr": Row("--plateau-min-lr 1e-8", part(SCHEDULE + "min_lr"), 1e-8, PLATEAU),
    "plateau_mode": Row("--plateau-mode min", said, has("--plateau-mode min with"), PLATEAU),
}  # fmt: skip
ELSEWHERE = {"verbose", "analyze_only"}
"""Flags tested with the run itself."""

OTHERS: dict[str, Row] = {
    "seed": Row("--seed 7", part("seed"), 7),
    "worker_timeout": Row("--worker_timeout 9", part("loader.timeout"), 9),
    "prefetch_factor": Row("--prefetch_factor 5", part("loader.prefetch"), 5),
    "pin_memory": Row("--pin_memory", part("loader.pin_memory"), True),
    "frames_per_clip": Row("--frames_per_clip 8", indices, (67, 69, 71, 73, 76, 78, 80, 82)),
    "target_fps": Row("--target_fps 17", indices, lambda i: (i[0], i[-1]) == (63, 85)),
    "start_frame": Row("--start_frame 60", indices, lambda i: i[0] == 60),
    "end_frame": Row("--end_frame 90", indices, lambda i: i[-1] == 90),
    "img_height": Row("--img_height 112", part("data.pixels.height"), 112),
    "img_width": Row("--img_width 200", part("data.pixels.width"), 200),
    "optimizer": Row("--optimizer adam", part("fit.optimizer.name"), "adam"),
    "momentum": Row("--momentum 0.8", part("fit.optimizer.momentum"), 0.8, "--optimizer sgd"),
    "mixed_precision": Row("--mixed_precision", part("fit.precision"), "bf16"),
    "gradient_clip_norm": Row("--gradient_clip_norm 5", part("fit.clip_norm"), 5.0),
    "scheduler_warmup_epochs": Row("--scheduler_warmup_epochs 2", part(SCHEDULE + "warmup_epochs"), 2),
    "min_lr": Row("--min_lr 1e-7", part(SCHEDULE + "min_lr"), 1e-7),
    "label_smoothing": Row("--label_smoothing 0.1", part("losses.severity.smoothing"), 0.1),
    "focal_gamma": Row("--focal_gamma 1", part("losses.severity.gamma"), 1.0),
    "warmup_epochs": Row("--warmup_epochs 0", part("rates.warmup_epochs"), 0),
    "emergency_unfreeze_gradual": Row(
        "--no-emergency_unfreeze_gradual", part(FREEZING + "emergency_unfreeze_gradual"), False, ADVANCED
    ),
    "enable_rollback": Row("--no-enable_rollback", part(FREEZING + "enable_rollback"), False, ADVANCED),
    "enable_dependency_analysis": Row(
        "--no-enable_dependency_analysis", part(FREEZING + "enable_dependency_analysis"), False, ADVANCED
    ),
    **{
        name: Row(f"--{name} {value:g}", part(FREEZING + name), value, given)
        for name, value, given in (
            ("emergency_unfreeze_epoch", 3, ADVANCED),
            ("min_unfreeze_layers", 2, ADAPTIVE),
            ("validation_plateau_patience", 5, GUIDED),
            ("adaptive_patience", 6, ADAPTIVE),
            ("adaptive_min_improvement", 0.02, ADAPTIVE),
            ("importance_threshold", 0.3, GUIDED),
            ("unfreeze_patience", 4, "--freeze-mode progressive"),
            ("max_layers_per_step", 2, "--freeze-mode progressive"),
            ("sampling_epochs", 3, GUIDED),
            ("base_importance_threshold", 0.01, ADVANCED),
            ("performance_threshold", 0.02, ADVANCED),
            ("rollback_patience", 3, ADVANCED),
            ("gradient_momentum", 0.5, GUIDED),
            ("analysis_window", 4, ADVANCED),
        )
    },
    "augmentation_strength": Row("--augmentation_strength mild", part("augment.crop"), 0.9),
    "aggressive_augmentation": Row("--aggressive_augmentation", part("augment.crop"), 0.7),
    "extreme_augmentation": Row("--extreme_augmentation", part("augment.rotation"), 8.0),
    "temporal_jitter_strength": Row("--temporal_jitter_strength 1", part("augment.jitter"), 1),
    "dropout_prob": Row("--dropout_prob 0.4", part("augment.frame_dropout"), 0.4),
    "spatial_crop_strength": Row("--spatial_crop_strength 0.5", part("augment.crop"), 0.5),
    "color_aug_strength": Row("--color_aug_strength 0.5", part("augment.colour"), 0.5),
    "noise_strength": Row("--noise_strength 0.02", part("augment.noise"), 0.02),
    "gpu_augmentation": Row("--gpu_augmentation", part("augment.on_device"), True),
    "severity_aware_augmentation": Row("--severity_aware_augmentation", part("augment.severity_aware"), True),
    "disable_augmentation": Row(
        "--disable_augmentation", lambda s: (s.settings.augment.crop, s.settings.augment.in_model),
        (1.0, False),
    ),
    "disable_in_model_augmentation": Row("--disable_in_model_augmentation", part("augment.in_model"), False),
    "resume": Row("--resume there", part("resume"), "there"),
    "resume_best_acc": Row("--resume_best_acc 0.4", part("resume_best"), 0.4, "--resume there"),
    "memory_cleanup_interval": Row("--memory_cleanup_interval -1", part("loader.cleanup_interval"), 0),
    "enable_data_optimization": Row("--no-enable_data_optimization", part("data.cache.folder"), None),
    "disable_data_optimization": Row("--disable_data_optimization", part("loader.optimized"), False),
    "enable_oom_recovery": Row("--no-enable_oom_recovery", part("fit.oom_recovery"), False),
    "oom_reduction_factor": Row("--oom_reduction_factor 0.5", part("fit.oom_reduction_factor"), 0.5),
    "min_batch_size": Row("--min_batch_size 2", part("fit.min_batch_size"), 2),
    "enable_config_validation": Row(
        "--no-enable_config_validation", lambda s: s.levels, {"warning"}, "--scheduler_warmup_epochs 60"
    ),
    "strict_config_validation": Row(
        "--strict_config_validation", said, has("--strict-config-validation with"),
        "--no-enable_config_validation",
    ),
    "test_run": Row(
        "--test_run",
        lambda s: (s.settings.test_run, s.settings.fit.epochs, s.settings.loader.train_batches,
                   s.settings.judge.batches),
        (True, 1, 2, 2),
    ),
    "test_batches": Row("--test_batches 5", part("loader.train_batches"), 5, "--test_run"),
    "force_batch_size": Row("--force_batch_size", part("loader.batch_size"), 4),
    "multi_scale": Row("--multi_scale", part("augment.multi_scale"), True, "--backbone-arch r2plus1d_18"),
    "dropout_rate": Row("--dropout_rate 0.3", part("model.dropout"), 0.3),
}  # fmt: skip

EXTRAS: dict[str, Row] = {
    "weights": Row("--weights auto", part("model.weights"), "auto"),
    "weights_dir": Row("--weights_dir files", part("model.weights_dir"), Path("files"), "--weights auto"),
    "auxiliary_tasks": Row(
        "--auxiliary_tasks contact offence", lambda s: list(s.settings.losses),
        ["severity", "action_class", "offence", "contact"],
    ),
    "max_repeat": Row("--max_repeat 5", part("balance.max_repeat"), 5.0, BALANCED),
    "keep_junk_classes": Row("--keep_junk_classes", part("data.junk_ids"), "class_weights"),
    "soft_labels": Row("--soft_labels severity offence", part("data.soft"), ("severity", "offence")),
    "weight_basis": Row(
        "--weight_basis natural", part("balance.basis"), "natural", f"{BALANCED} --enable-class-weights"
    ),
    "allow_overcorrection": Row("--allow_overcorrection", part("balance.allow_overcorrection"), True),
    "between_policy": Row("--between_policy half", part("judge.projection.between"), "half"),
    "borderline_policy": Row("--borderline_policy drop", part("judge.projection.borderline"), "drop"),
    "os_decision": Row("--os_decision cascade", part("judge.projection.decision"), "cascade"),
    "missing_clip": Row("--missing_clip error", part("data.policies.missing_clip"), "error"),
    "short_clip": Row("--short_clip skip", part("data.policies.short_clip"), "skip"),
    "unknown_labels": Row("--unknown_labels ignore", part("data.policies.unknown_labels"), "ignore"),
    "fit": Row("--fit letterbox", part("data.pixels.fit"), "letterbox"),
    "view_sampling": Row("--view_sampling first", part(VIEWS + "sampling"), "first", BAG),
    "cache_dir": Row("--cache_dir here", part("data.cache.folder"), Path("here")),
    "cache_format": Row("--cache_format jpeg", part("data.cache.format"), "jpeg"),
    "selection_metric": Row("--selection_metric val_loss", part("judge.headline"), "loss"),
    "tta": Row("--tta", part("judge.tta"), True),
    "probe_batches": Row("--probe_batches 2", part("probe_batches"), 2, ADVANCED),
    "activation_checkpointing": Row(
        "--activation_checkpointing", part("model.activation_checkpointing"), True
    ),
    "channels_last": Row(
        "--no-channels_last", part("model.channels_last"), False, "--backbone-arch r2plus1d_18"
    ),
    "compile": Row("--compile", part("model.compile"), True),
    "ema_decay": Row("--ema_decay 0.99", part("fit.ema_decay"), 0.99),
    "deterministic": Row("--deterministic", part("deterministic"), True),
    "overwrite": Row("--overwrite", part("overwrite"), True),
    "allow_config_change": Row("--allow_config_change", part("allow_config_change"), True, "--resume x"),
    "wandb": Row("--wandb", part("wandb"), True),
}  # fmt: skip


@cache
def cached(words: str, multi: bool) -> Seen:
    return seen(words, multi=multi)


def matches(answer: Any, value: Any) -> bool:
    return bool(value(answer)) if callable(value) else bool(answer == value)


@pytest.mark.parametrize("name", [*OWN, *OTHERS, *EXTRAS])
def test_every_flag_changes_the_run(name):
    row = {**OWN, **OTHERS, **EXTRAS}[name]
    with_flag = cached(f"{row.given} {row.words}", row.multi)
    assert matches(row.look(with_flag), row.value), row.look(with_flag)
    assert not matches(row.look(cached(row.given, row.multi)), row.value)


def test_every_flag_has_a_row():
    assert OWN.keys() | ELSEWHERE == DEFAULTS.keys()
    assert OTHERS.keys() == TAKEN.keys()
    listed = {flag.name for flag in flags(ClassWeightsConfig)}
    assert listed == OWN.keys() | ELSEWHERE | OTHERS.keys() | EXTRAS.keys()


def test_the_shown_augmentation_is_the_preset():
    values = PRESETS["moderate"]
    shown = (TAKEN["temporal_jitter_strength"], TAKEN["dropout_prob"], TAKEN["spatial_crop_strength"])
    assert shown == (values.jitter, values.frame_dropout, values.crop)
    assert (TAKEN["color_aug_strength"], TAKEN["noise_strength"]) == (values.colour, values.noise)
