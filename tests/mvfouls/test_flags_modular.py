"""Every flag of `train_modular.py` changes the run it belongs to: one row per flag."""

from collections.abc import Callable
from dataclasses import fields
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from mv_flags import DEFAULTS, DEPRECATED, Seen, seen, write_roots

from common.config import flags
from mvfouls.augment_presets import PRESETS
from mvfouls.config_modular import ModularConfig
from mvfouls.config_shared import task_name

pytestmark = pytest.mark.filterwarnings("ignore:--use_:DeprecationWarning")


class Row(NamedTuple):
    """With `words` the answer of `look` is `value`, or passes it as a test; without them it does not.

    `given` is typed both times.
    """

    words: str
    look: Callable[[Seen], Any]
    value: Any
    given: str = ""


def has(text: str) -> Callable[[Any], bool]:
    return lambda answer: text in str(answer)


def part(path: str) -> Callable[[Seen], Any]:
    """Look at one setting."""

    def look(run: Seen) -> Any:
        answer: Any = run.settings
        assert answer is not None, run.said
        for name in path.split("."):
            answer = answer[name] if isinstance(answer, dict) else getattr(answer, name)
        return answer

    return look


def said(run: Seen) -> str:
    return "\n".join([*run.said, *(run.settings.notes if run.settings else ())])


def weighted(run: Seen) -> set[str]:
    return {task for task, loss in run.settings.losses.items() if loss.weighted}


ADAPTIVE = "--freezing_strategy adaptive"
GUIDED = "--freezing_strategy gradient_guided"
ADVANCED = "--freezing_strategy advanced"
PROGRESSIVE = "--progressive_class_balancing"
LDAM = "--loss_types offence ldam"
FREEZING = "freezing."
SCHEDULE = "fit.schedule."

EFFECTS: dict[str, Row] = {
    "dataset_root": Row("--dataset_root {other}", lambda s: s.settings.data.train.folder.parts[-3], "other"),
    "epochs": Row("--epochs 20", part("fit.epochs"), 20),
    "batch_size": Row("--batch_size 4", part("loader.batch_size"), 4),
    "lr": Row("--lr 4e-4", lambda s: (s.settings.fit.optimizer.lr, s.settings.rates.lr), (4e-4, 4e-4)),
    "weight_decay": Row("--weight_decay 0.05", part("fit.optimizer.weight_decay"), 0.05),
    "seed": Row("--seed 7", part("seed"), 7),
    "num_workers": Row("--num_workers 0", part("loader.workers"), 0),
    "worker_timeout": Row("--worker_timeout 9", part("loader.timeout"), 9),
    "prefetch_factor": Row("--prefetch_factor 5", part("loader.prefetch"), 5),
    "pin_memory": Row("--pin_memory", part("loader.pin_memory"), True),
    "backbone_name": Row("--backbone_name mc3_18", part("model.backbone"), "mc3_18"),
    "frames_per_clip": Row(
        "--frames_per_clip 8", lambda s: s.settings.data.pixels.frames.indices(),
        (67, 69, 71, 73, 76, 78, 80, 82),
    ),
    "target_fps": Row(
        "--target_fps 17", lambda s: s.settings.data.pixels.frames.indices(),
        (63, 65, 66, 68, 69, 71, 72, 74, 75, 76, 78, 79, 81, 82, 84, 85),
    ),
    "start_frame": Row("--start_frame 60", lambda s: s.settings.data.pixels.frames.indices()[0], 60),
    "end_frame": Row("--end_frame 90", lambda s: s.settings.data.pixels.frames.indices()[-1], 90),
    "img_height": Row("--img_height 112", part("data.pixels.height"), 112),
    "img_width": Row("--img_width 200", part("data.pixels.width"), 200),
    "max_views": Row("--max_views 2", part("data.views.max_views"), 2),
    "attention_aggregation": Row("--no-attention_aggregation", part("model.aggregation"), "mean"),
    "optimizer": Row("--optimizer adam", part("fit.optimizer.name"), "adam"),
    "momentum": Row("--momentum 0.8", part("fit.optimizer.momentum"), 0.8, "--optimizer sgd"),
    "mixed_precision": Row("--mixed_precision", part("fit.precision"), "bf16"),
    "gradient_clip_norm": Row("--gradient_clip_norm 5", part("fit.clip_norm"), 5.0),
    "early_stopping_patience": Row("--early_stopping_patience 0", part("fit.early_stopping_patience"), None),
    "scheduler": Row("--scheduler step", part(SCHEDULE + "name"), "step"),
    "scheduler_warmup_epochs": Row("--scheduler_warmup_epochs 2", part(SCHEDULE + "warmup_epochs"), 2),
    "step_size": Row("--step_size 4", part(SCHEDULE + "step_size"), 4, "--scheduler step"),
    "gamma": Row(
        "--gamma 0.2", lambda s: (s.settings.fit.schedule.gamma, s.settings.fit.schedule.plateau_factor),
        (0.2, 0.2), "--scheduler reduce_on_plateau",
    ),
    "plateau_patience": Row(
        "--plateau_patience 2", part(SCHEDULE + "plateau_patience"), 2, "--scheduler reduce_on_plateau"
    ),
    "min_lr": Row("--min_lr 1e-7", part(SCHEDULE + "min_lr"), 1e-7),
    "main_task_weights": Row(
        "--main_task_weights 1 2", lambda s: [loss.weight for loss in s.settings.losses.values()], [1, 2, 0.5]
    ),
    "auxiliary_task_weight": Row("--auxiliary_task_weight 2", part("losses.offence.weight"), 2.0),
    "label_smoothing": Row("--label_smoothing 0.2", part("losses.severity.smoothing"), 0.2),
    "loss_function": Row(
        "--loss_function focal", lambda s: {loss.kind for loss in s.settings.losses.values()}, {"focal"}
    ),
    "focal_gamma": Row("--focal_gamma 1", part("losses.offence.gamma"), 1.0, "--loss_function focal"),
    "class_weighting_strategy": Row("--class_weighting_strategy log", part("balance.strategy"), "log"),
    "max_weight_ratio": Row("--max_weight_ratio 5", part("balance.limit"), 5.0),
    "use_class_balanced_sampler": Row("--no-use_class_balanced_sampler", part("balance.sampler"), "shuffle"),
    "oversample_factor": Row(
        "--oversample_factor 3", lambda s: (s.settings.balance.factor_start, s.settings.balance.factor_end),
        (3.0, 3.0),
    ),
    "progressive_class_balancing": Row(
        PROGRESSIVE,
        lambda s: (
            s.settings.balance.factor_start, s.settings.balance.factor_end, s.settings.balance.factor_epochs
        ),
        (1.5, 3.0, 15),
    ),
    "progressive_start_factor": Row(
        "--progressive_start_factor 2", part("balance.factor_start"), 2.0, PROGRESSIVE
    ),
    "progressive_end_factor": Row("--progressive_end_factor 6", part("balance.factor_end"), 6.0, PROGRESSIVE),
    "progressive_epochs": Row("--progressive_epochs 9", part("balance.factor_epochs"), 9, PROGRESSIVE),
    "freezing_strategy": Row(GUIDED, part(FREEZING + "strategy"), "gradient_guided"),
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
            ("unfreeze_patience", 4, "--freezing_strategy progressive"),
            ("max_layers_per_step", 2, "--freezing_strategy progressive"),
            ("sampling_epochs", 3, GUIDED),
            ("base_importance_threshold", 0.01, ADVANCED),
            ("performance_threshold", 0.02, ADVANCED),
            ("rollback_patience", 3, ADVANCED),
            ("gradient_momentum", 0.5, GUIDED),
            ("analysis_window", 4, ADVANCED),
            ("phase1_epochs", 5, ""),
            ("phase2_epochs", 9, ""),
            ("unfreeze_blocks", 2, ""),
        )
    },
    "warmup_epochs": Row("--warmup_epochs 0", part("rates.warmup_epochs"), 0),
    "gradual_finetuning": Row(
        "--no-gradual_finetuning",
        lambda s: (s.settings.rates.gradual, s.settings.freezing.strategy, s.settings.freezing.open_blocks),
        (False, "closed", 3),
    ),
    "head_lr": Row("--head_lr 2e-3", part("rates.head_lr"), 2e-3),
    "backbone_lr": Row("--backbone_lr 3e-5", part("rates.backbone_lr"), 3e-5),
    **{
        name: Row(f"--{name} {value}", part(f"rates.{name}"), value)
        for name, value in (
            ("phase2_backbone_lr_scale_factor", 2.0),
            ("phase2_head_lr_ratio", 4.0),
            ("phase1_plateau_patience", 6),
            ("phase1_plateau_factor", 0.5),
        )
    },
    "augmentation_strength": Row("--augmentation_strength mild", part("augment.crop"), 0.9),
    "aggressive_augmentation": Row("--no-aggressive_augmentation", part("augment.crop"), 0.8),
    "extreme_augmentation": Row("--extreme_augmentation", part("augment.rotation"), 8.0),
    "temporal_jitter_strength": Row("--temporal_jitter_strength 1", part("augment.jitter"), 1),
    "dropout_prob": Row("--dropout_prob 0.4", part("augment.frame_dropout"), 0.4),
    "spatial_crop_strength": Row("--spatial_crop_strength 0.5", part("augment.crop"), 0.5),
    "color_aug_strength": Row("--color_aug_strength 0.5", part("augment.colour"), 0.5),
    "noise_strength": Row("--noise_strength 0.02", part("augment.noise"), 0.02),
    "gpu_augmentation": Row("--gpu_augmentation", part("augment.on_device"), True),
    "severity_aware_augmentation": Row("--severity_aware_augmentation", part("augment.severity_aware"), True),
    "simple_training": Row(
        "--simple_training",
        lambda s: (
            s.settings.balance.sampler, s.settings.balance.strategy, weighted(s), s.settings.augment.jitter,
            s.settings.losses["severity"].smoothing, s.settings.losses["severity"].kind,
            s.settings.freezing.strategy,
        ),
        ("shuffle", "none", set(), 0, 0.0, "ce", "fixed"),
    ),
    "disable_class_balancing": Row(
        "--disable_class_balancing", lambda s: (s.settings.balance.sampler, weighted(s)), ("shuffle", set())
    ),
    "disable_augmentation": Row(
        "--disable_augmentation",
        lambda s: {f.name: getattr(s.settings.augment, f.name) for f in fields(s.settings.augment)},
        {
            **vars(PRESETS["none"]), "on_device": False, "severity_aware": False, "multi_scale": False,
            "in_model": False,
        },
    ),
    "disable_in_model_augmentation": Row("--disable_in_model_augmentation", part("augment.in_model"), False),
    "save_dir": Row("--save_dir here", part("save_dir"), Path("here")),
    "resume": Row("--resume there", part("resume"), "there"),
    "resume_best_acc": Row("--resume_best_acc 0.4", part("resume_best"), 0.4, "--resume there"),
    "memory_cleanup_interval": Row("--memory_cleanup_interval -1", part("loader.cleanup_interval"), 0),
    "enable_data_optimization": Row("--no-enable_data_optimization", part("data.cache.folder"), None),
    "disable_data_optimization": Row(
        "--disable_data_optimization",
        lambda s: (s.settings.data.cache.folder, s.settings.loader.optimized), (None, False),
    ),
    "enable_oom_recovery": Row("--no-enable_oom_recovery", part("fit.oom_recovery"), False),
    "oom_reduction_factor": Row("--oom_reduction_factor 0.5", part("fit.oom_reduction_factor"), 0.5),
    "min_batch_size": Row("--min_batch_size 2", part("fit.min_batch_size"), 2),
    "enable_config_validation": Row(
        "--no-enable_config_validation", lambda s: s.levels, {"warning"}, "--phase1_epochs 60"
    ),
    "strict_config_validation": Row(
        "--strict_config_validation", said, has("--strict-config-validation with"),
        "--no-enable_config_validation",
    ),
    "test_run": Row(
        "--test_run",
        lambda s: (
            s.settings.test_run, s.settings.fit.epochs, s.settings.loader.train_batches,
            s.settings.judge.batches, s.settings.fit.early_stopping_patience,
        ),
        (True, 1, 2, 2, None),
    ),
    "test_batches": Row("--test_batches 5", part("loader.train_batches"), 5, "--test_run"),
    "force_batch_size": Row("--force_batch_size", part("loader.batch_size"), 4),
    "multi_scale": Row("--multi_scale", part("augment.multi_scale"), True),
    "dropout_rate": Row(
        "--dropout_rate 0.3", lambda s: (s.settings.model.dropout, s.settings.model.heads["offence"].dropout),
        (0.3, 0.3),
    ),
    "lr_warmup": Row("--no-lr_warmup", part(SCHEDULE + "warmup_epochs"), 0),
    "discriminative_lr": Row("--discriminative_lr", part("rates.discriminative"), True),
    "use_focal_loss": Row("--use_focal_loss", part("losses.severity.kind"), "focal"),
    "use_class_weighted_loss": Row(
        "--use_class_weighted_loss", lambda s: weighted(s) and s.settings.losses["severity"].kind, "ce",
        "--preset small",
    ),
}  # fmt: skip

EXTRAS: dict[str, Row] = {
    "weights": Row("--weights auto", part("model.weights"), "auto"),
    "weights_dir": Row("--weights_dir files", part("model.weights_dir"), Path("files"), "--weights auto"),
    "auxiliary_tasks": Row(
        "--auxiliary_tasks contact handball", lambda s: list(s.settings.losses),
        ["severity", "action_class", "contact", "handball"],
    ),
    "balance_tasks": Row(
        "--balance_tasks action_type", part("balance.sampler_tasks"), (task_name("action_type"),)
    ),
    "max_repeat": Row("--max_repeat 5", part("balance.max_repeat"), 5.0),
    "loss_types": Row(
        "--loss_types action_type focal offence ldam",
        lambda s: {task: loss.kind for task, loss in s.settings.losses.items()},
        {"severity": "ce", "action_class": "focal", "offence": "ldam"},
    ),
    "ldam_max_m": Row("--ldam_max_m 0.3", part("losses.offence.max_margin"), 0.3, LDAM),
    "ldam_s": Row("--ldam_s 20", part("losses.offence.scale"), 20.0, LDAM),
    "ldam_drw_start": Row(
        "--ldam_drw_start 0.5",
        lambda s: [loss.drw_start for loss in s.settings.losses.values()], [None, None, 0.5], LDAM,
    ),
    "logit_adjustment": Row(
        "--logit_adjustment", lambda s: (s.settings.losses["severity"].adjustment, weighted(s)), (1.0, set())
    ),
    "logit_adjustment_temperature": Row(
        "--logit_adjustment_temperature 2", part("losses.severity.adjustment"), 2.0, "--logit_adjustment"
    ),
    "task_head": Row(
        "--task_head action_type se_mlp reduction=8 depth=2",
        lambda s: vars(s.settings.model.heads["action_class"]),
        {"kind": "se_mlp", "hidden": 1024, "depth": 2, "dropout": 0.3, "reduction": 8},
    ),
    "head_dropout": Row(
        "--head_dropout 0.2", part("model.heads.offence.dropout"), 0.2, "--task_head offence linear"
    ),
    "keep_junk_classes": Row("--keep_junk_classes", part("data.junk_ids"), "modular"),
    "soft_labels": Row("--soft_labels severity offence", part("data.soft"), ("severity", "offence")),
    "weight_basis": Row("--weight_basis natural", part("balance.basis"), "natural"),
    "allow_overcorrection": Row("--allow_overcorrection", part("balance.allow_overcorrection"), True),
    "between_policy": Row("--between_policy half", part("judge.projection.between"), "half"),
    "borderline_policy": Row("--borderline_policy drop", part("judge.projection.borderline"), "drop"),
    "os_decision": Row("--os_decision cascade", part("judge.projection.decision"), "cascade"),
    "missing_clip": Row("--missing_clip error", part("data.policies.missing_clip"), "error"),
    "short_clip": Row("--short_clip skip", part("data.policies.short_clip"), "skip"),
    "unknown_labels": Row("--unknown_labels ignore", part("data.policies.unknown_labels"), "ignore"),
    "fit": Row("--fit letterbox", part("data.pixels.fit"), "letterbox"),
    "view_sampling": Row(
        "--view_sampling random",
        lambda s: [getattr(s.settings.data.views, name) for name in ("max_views", "max_clips", "sampling")],
        [None, 2, "random"], "--max_views 2",
    ),
    "cache_dir": Row("--cache_dir here", part("data.cache.folder"), Path("here")),
    "cache_format": Row("--cache_format jpeg", part("data.cache.format"), "jpeg"),
    "selection_metric": Row("--selection_metric val_loss", part("judge.headline"), "loss"),
    "tta": Row("--tta", part("judge.tta"), True),
    "probe_batches": Row("--probe_batches 2", part("probe_batches"), 2, ADVANCED),
    "activation_checkpointing": Row(
        "--activation_checkpointing", part("model.activation_checkpointing"), True
    ),
    "channels_last": Row("--no-channels_last", part("model.channels_last"), False),
    "compile": Row("--compile", part("model.compile"), True),
    "ema_decay": Row("--ema_decay 0.99", part("fit.ema_decay"), 0.99),
    "deterministic": Row("--deterministic", part("deterministic"), True),
    "overwrite": Row("--overwrite", part("overwrite"), True),
    "allow_config_change": Row("--allow_config_change", part("allow_config_change"), True, "--resume x"),
    "wandb": Row("--wandb", part("wandb"), True),
    "device": Row("--device cpu", part("device"), "cpu"),
    "preset": Row("--preset large", part("balance.factor_end"), 2.0),
}  # fmt: skip


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two data sets of which only the files are there."""
    return write_roots(tmp_path_factory.mktemp("roots"))


@cache
def cached(words: str, root: Path) -> Seen:
    return seen(words, root)


def matches(answer: Any, value: Any) -> bool:
    return bool(value(answer)) if callable(value) else answer == value


def test_there_is_a_row_for_each_documented_flag():
    assert EFFECTS.keys() == DEFAULTS.keys() | set(DEPRECATED)
    assert len(EFFECTS) == 106


@pytest.mark.parametrize("name", [*EFFECTS, *EXTRAS])
def test_every_flag_changes_the_run(name, folders):
    row = {**EFFECTS, **EXTRAS}[name]
    with_flag = seen(f"{row.given} {row.words}".format(**folders), folders["data"])
    assert matches(row.look(with_flag), row.value), row.look(with_flag)
    assert not matches(row.look(cached(row.given, folders["data"])), row.value)


def test_every_extra_has_a_row():
    assert {flag.name for flag in flags(ModularConfig)} == DEFAULTS.keys() | EXTRAS.keys()
