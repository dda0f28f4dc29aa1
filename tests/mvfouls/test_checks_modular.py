"""What is said about flags that contradict each other, cannot act, or are out of range: one row per rule."""

import logging
import os
from collections.abc import Iterable

import pytest
from mv_flags import FRAGMENTS, M1, M2, findings, parse_line, parsed

from common.config import UserError, check
from mvfouls.checks_modular import check_modular
from mvfouls.config_modular import PRESETS

QUIET = "--weights auto --num_workers 1"
"""Nothing to say about these."""
GUIDED = "--freezing_strategy gradient_guided"
ADVANCED = "--freezing_strategy advanced"
LDAM = "--loss_types offence ldam"


def options(words: Iterable[str]) -> set[str]:
    return {word.split()[0].replace("--no-", "--").replace("_", "-") for word in words}


CONTRADICTIONS = [
    ("--epochs 5 --phase1_epochs 8", "--phase1-epochs 8", "--epochs 5"),
    ("--extreme_augmentation --aggressive_augmentation", "--extreme-aug", "--aggressive-augmentation"),
    ("--aggressive_augmentation --augmentation_strength mild", "--aggressive-augmentation", "-strength mild"),
    ("--no-aggressive_augmentation --augmentation_strength mild", "--no-aggressive-augmentation", "mild"),
    ("--extreme_augmentation --augmentation_strength mild", "--extreme-augmentation", "-strength mild"),
    (f"{LDAM} --class_weighting_strategy sqrt", "--loss-types offence ldam", "-strategy sqrt"),
    ("--gpu_augmentation --disable_in_model_augmentation", "--gpu-", "--disable-in-model-augmentation"),
    ("--disable_augmentation --augmentation_strength mild", "--disable-aug", "--augmentation-strength"),
    ("--enable_data_optimization --disable_data_optimization", "--enable-data-", "--disable-data-"),
    (
        "--progressive_class_balancing --no-use_class_balanced_sampler",
        "--progressive-class-balancing",
        "--no-use-class-balanced-sampler",
    ),
    ("--resume_best_acc 0.4", "--resume-best-acc", "--resume"),
    ("--resume x --overwrite", "--resume", "--overwrite"),
    ("--resume x --save_dir y", "--resume x", "--save-dir y"),
    ("--frames_per_clip 12 --start_frame 70 --end_frame 80", "--frames-per-clip 12", "--start-frame 70"),
    ("--target_fps 15 --end_frame 85", "--target-fps 15", "--end-frame 85"),
    ("--epochs 10 --scheduler_warmup_epochs 10", "--scheduler-warmup-epochs 10", "--epochs 10"),
    ("--lr_warmup --scheduler_warmup_epochs 0", "--lr-warmup", "--scheduler-warmup-epochs 0"),
    ("--loss_function plain --class_weighting_strategy sqrt", "--loss-function plain", "-strategy sqrt"),
    ("--class_weighting_strategy none", "--class-weighting-strategy none", "--loss-function weighted"),
    (
        "--progressive_class_balancing --progressive_start_factor 3 --progressive_end_factor 2",
        "--progressive-end-factor 2",
        "--progressive-start-factor 3",
    ),
    (
        "--severity_aware_augmentation --augmentation_strength none",
        "--severity-aware-augmentation",
        "--augmentation-strength none",
    ),
    ("--strict_config_validation --no-enable_config_validation", "--strict-config-", "--no-enable-config-"),
    ("--multi_scale --backbone_name swin3d_t", "--multi-scale", "--backbone-name swin3d_t"),
    ("--min_unfreeze_layers 6 --freezing_strategy advanced", "--min-unfreeze-layers 6", "5 blocks"),
    ("--unfreeze_blocks 6", "--unfreeze-blocks 6", "5 blocks"),
    ("--backbone_name s3d --frames_per_clip 8", "--frames_per_clip 8", "s3d"),
    ("--backbone_name mvit_v2_s --frames_per_clip 8", "--frames_per_clip 8", "mvit_v2_s"),
    ("--backbone_name mvit_v2_s --img_height 112", "--img_height 112", "mvit_v2_s"),
    ("--img_height 100", "--img_height 100", "multiple of 8"),
    ("--selection_metric accuracy", "--selection-metric accuracy", "severity_macro_f1"),
    ("--auxiliary_tasks none --selection_metric os_ba", "--selection-metric os_ba", "offence"),
    ("--auxiliary_tasks none contact", "--auxiliary-tasks", "none"),
    ("--auxiliary_tasks contact offence contact", "--auxiliary-tasks", "contact is given twice"),
    ("--loss_types contact focal", "--loss-types", "contact"),
    ("--loss_types action_type ce action_class focal", "--loss-types", "action_class is given twice"),
    ("--task_head contact linear", "--task-head", "contact"),
    ("--task_head offence linear --task_head offence deep_mlp", "--task-head", "offence is given twice"),
    ("--balance_tasks handball", "--balance-tasks", "handball"),
    ("--balance_tasks severity severity", "--balance-tasks", "severity is given twice"),
    ("--soft_labels offence --loss_types offence ldam", "--soft-labels offence", "--loss-types offence ldam"),
    ("--soft_labels offence offence", "--soft-labels", "offence is given twice"),
    ("--task_head offence ordinal", "--task-head offence ordinal", "it is for severity"),
    ("--task_head severity ordinal --loss_types severity bce", "ordinal", "--loss-types severity bce"),
    ("--task_head severity ordinal --loss_types severity ldam", "ordinal", "--loss-types severity ldam"),
    ("--task_head severity ordinal --keep_junk_classes", "severity ordinal", "--keep-junk-classes"),
    ("--task_head severity ordinal depth=-1", "--task-head", "depth not negative"),
    ("--task_head severity ordinal hidden=64", "--task-head", "depth=1 or more"),
    ("--task_head severity ordinal dropout=1", "--task-head", "dropout is from 0"),
    ("--auxiliary_tasks none --soft_labels offence", "--soft-labels", "no task offence"),
    ("--device tpu", "--device tpu", "cuda:N"),
]  # fmt: skip


@pytest.mark.parametrize(("words", "first", "second"), CONTRADICTIONS)
def test_a_contradiction_is_an_error_that_names_both_sides(words, first, second):
    errors = [text for level, text in findings(f"{QUIET} {words}") if level == "error"]
    assert len(errors) == 1, errors
    assert first in errors[0]
    assert second in errors[0]


MODES = {
    "--disable_augmentation": (
        "--temporal_jitter_strength 2", "--dropout_prob 0.1", "--spatial_crop_strength 0.8",
        "--color_aug_strength 0.1", "--noise_strength 0.1", "--gpu_augmentation",
        "--severity_aware_augmentation", "--multi_scale", "--extreme_augmentation",
        "--augmentation_strength extreme",
    ),
    "--disable_augmentation ": ("--aggressive_augmentation",),
    "--simple_training": (
        "--loss_function focal", "--use_class_balanced_sampler", "--progressive_class_balancing",
        "--class_weighting_strategy sqrt", "--augmentation_strength mild", "--label_smoothing 0.1",
        "--loss_types offence focal", "--severity_aware_augmentation", "--noise_strength 0.1",
    ),
    "--disable_class_balancing": (
        "--use_class_balanced_sampler", "--progressive_class_balancing", "--class_weighting_strategy sqrt",
        "--loss_function weighted",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("mode", "typed"), MODES.items())
def test_a_mode_contradicts_each_typed_flag_that_it_would_undo(mode, typed):
    errors = [text for level, text in findings(f"{QUIET} {mode} {' '.join(typed)}") if level == "error"]
    assert {text.split()[0] for text in errors} == options(typed)
    assert all(mode.strip().replace("_", "-") in text for text in errors)


IDLE = [
    ("--momentum 0.9 --optimizer adamw", "--momentum", "--optimizer is adamw"),
    ("--progressive_class_balancing --oversample_factor 4", "--oversample-factor", "--progressive-class"),
    ("--freezing_strategy fixed --emergency_unfreeze_epoch 4", "--emergency-unfreeze-epoch", "fixed"),
    ("--num_workers 0 --prefetch_factor 4", "--prefetch-factor", "--num-workers is 0"),
    ("--ldam-s 20", "--ldam-s", "ldam"),
    ("--ldam_max_m 0.4", "--ldam-max-m", "ldam"),
    ("--ldam_drw_start 0.5", "--ldam-drw-start", "ldam"),
    ("--lr 1e-4 --head_lr 1e-3 --backbone_lr 1e-5", "--lr", "--head-lr and --backbone-lr"),
    ("--num_workers 0 --worker_timeout 5", "--worker-timeout", "--num-workers is 0"),
    ("--test_run --early_stopping_patience 3", "--early-stopping-patience", "--test-run"),
    ("--no-lr_warmup --scheduler_warmup_epochs 3", "--scheduler-warmup-epochs", "--no-lr-warmup"),
    ("--scheduler none --scheduler_warmup_epochs 3", "--scheduler-warmup-epochs", "--lr-warmup"),
    ("--scheduler onecycle --no-lr_warmup", "--lr-warmup", "onecycle"),
    ("--step_size 5", "--step-size", "cosine"),
    ("--gamma 0.1", "--gamma", "cosine"),
    ("--gamma 0.1 --scheduler onecycle", "--gamma", "onecycle"),
    ("--gamma 0.1 --scheduler none", "--gamma", "none"),
    ("--plateau_patience 3", "--plateau-patience", "cosine"),
    ("--min_lr 1e-7 --scheduler none", "--min-lr", "none"),
    ("--auxiliary_tasks none --auxiliary_task_weight 1", "--auxiliary-task-weight", "--auxiliary-tasks"),
    ("--auxiliary_tasks contact --auxiliary_task_weight 0", "--auxiliary-tasks", "--auxiliary-task-weight"),
    ("--focal_gamma 1", "--focal-gamma", "focal"),
    ("--logit_adjustment --loss_function focal", "--logit-adjustment", "ce"),
    ("--logit_adjustment_temperature 2", "--logit-adjustment-temperature", "--logit-adjustment is off"),
    ("--head_dropout 0.3", "--head-dropout", "linear"),
    ("--loss_function plain --max_weight_ratio 5", "--max-weight-ratio", "--loss-function is plain"),
    ("--preset small --class_weighting_strategy none --max_weight_ratio 5", "--max-weight-ratio", "none"),
    (
        "--logit_adjustment --max_weight_ratio 5",
        "--max-weight-ratio",
        "no task has class weights",
    ),
    ("--no-use_class_balanced_sampler --weight_basis natural", "--weight-basis", "sampler"),
    ("--no-use_class_balanced_sampler --oversample_factor 2", "--oversample-factor", "sampler"),
    ("--no-use_class_balanced_sampler --balance_tasks severity", "--balance-tasks", "sampler"),
    ("--no-use_class_balanced_sampler --max_repeat 5", "--max-repeat", "sampler"),
    ("--progressive_start_factor 2", "--progressive-start-factor", "--progressive-class-balancing is off"),
    ("--progressive_end_factor 2", "--progressive-end-factor", "--progressive-class-balancing is off"),
    ("--progressive_epochs 2", "--progressive-epochs", "--progressive-class-balancing is off"),
    (f"{ADVANCED} --min_unfreeze_layers 0 --emergency_unfreeze_epoch 3", "--emergency-unfreeze-epoch", "0"),
    (f"{ADVANCED} --no-enable_rollback --rollback_patience 3", "--rollback-patience", "--no-enable-rollback"),
    ("--gpu_augmentation --augmentation_strength none", "--gpu-augmentation", "off"),
    ("--weights none --weights_dir x --freezing_strategy none", "--weights-dir", "--weights is not auto"),
    ("--no-enable_oom_recovery --oom_reduction_factor 0.5", "--oom-reduction-factor", "--no-enable-oom"),
    ("--no-enable_oom_recovery --min_batch_size 2", "--min-batch-size", "--no-enable-oom-recovery"),
    ("--test_batches 3", "--test-batches", "--test-run is off"),
    ("--allow_config_change", "--allow-config-change", "--resume"),
    ("--no-enable_data_optimization --cache_dir x", "--cache-dir", "data optimisation"),
    ("--disable_data_optimization --cache_format jpeg", "--cache-format", "data optimisation"),
    ("--view_sampling random", "--view-sampling", "--max-views"),
    ("--channels_last --backbone_name swin3d_t", "--channels-last", "swin3d_t"),
    ("--auxiliary_tasks offence_severity --between_policy half", "--between-policy", "offence_severity"),
    ("--auxiliary_tasks offence_severity --borderline_policy drop", "--borderline-policy", "offence_"),
]  # fmt: skip


@pytest.mark.parametrize(("words", "flag", "reason"), IDLE)
def test_a_typed_flag_that_cannot_act_is_a_warning(words, flag, reason):
    ((level, text),) = findings(f"{QUIET} {words}")
    assert level == "warning"
    assert text.startswith(f"{flag.replace('--no-', '--')} has no effect because ")
    assert reason in text


IDLE_UNDER = {
    "--emergency_unfreeze_epoch 3": "none fixed progressive",
    "--min_unfreeze_layers 2": "none fixed progressive",
    "--no-emergency_unfreeze_gradual": "none fixed progressive",
    "--validation_plateau_patience 3": "none fixed adaptive progressive",
    "--adaptive_patience 2": "none fixed progressive gradient_guided advanced",
    "--adaptive_min_improvement 0.01": "none fixed progressive gradient_guided advanced",
    "--importance_threshold 0.1": "none fixed adaptive progressive advanced",
    "--sampling_epochs 3": "none fixed adaptive progressive advanced",
    "--warmup_epochs 2": "none",
    "--unfreeze_patience 3": "none fixed adaptive",
    "--max_layers_per_step 2": "none fixed adaptive",
    "--base_importance_threshold 0.1": "none fixed adaptive progressive gradient_guided",
    "--performance_threshold 0.1": "none fixed adaptive progressive gradient_guided",
    "--rollback_patience 3": "none fixed adaptive progressive gradient_guided",
    "--gradient_momentum 0.5": "none fixed adaptive progressive",
    "--probe_batches 2": "none fixed adaptive progressive",
    "--analysis_window 3": "none fixed adaptive progressive gradient_guided",
    "--enable_rollback": "none fixed adaptive progressive gradient_guided",
    "--no-enable_dependency_analysis": "none fixed adaptive progressive gradient_guided",
    "--gradual_finetuning": "none",
    "--phase1_epochs 5": "none adaptive gradient_guided advanced",
    "--phase2_epochs 5": "none adaptive progressive gradient_guided advanced",
    "--unfreeze_blocks 2": "none adaptive progressive gradient_guided advanced",
    "--head_lr 2e-3": "none",
    "--backbone_lr 2e-5": "none",
    "--phase2_backbone_lr_scale_factor 2": "none",
    "--phase2_head_lr_ratio 3": "none",
    "--phase1_plateau_patience 2": "none",
    "--phase1_plateau_factor 0.3": "none",
}
"""Flags of freezing, and the strategies under which they cannot act."""


def told(words: str) -> set[str]:
    """Return the flags that are said to have no effect; there must be no other remark."""
    said = findings(f"{QUIET} {words}")
    assert {level for level, _ in said} <= {"warning"}
    assert all(" has no effect because " in text for _, text in said)
    return {text.split()[0] for _, text in said}


@pytest.mark.parametrize(
    "strategy", ["none", "fixed", "adaptive", "progressive", "gradient_guided", "advanced"]
)
def test_a_strategy_has_flags_of_its_own(strategy):
    idle = [flag for flag, strategies in IDLE_UNDER.items() if strategy in strategies.split()]
    assert told(f"--freezing_strategy {strategy} {' '.join(IDLE_UNDER)}") == options(idle)


def test_without_gradual_finetuning_there_are_no_phases():
    idle = ["--warmup_epochs 2", "--phase1_epochs 5", "--phase2_epochs 5"]
    idle += [flag for flag, where in IDLE_UNDER.items() if where == "none" and "gradual" not in flag]
    assert told(f"--no-gradual_finetuning {' '.join(idle)}") == options(idle)
    rates = "--head_lr 2e-3 --backbone_lr 2e-5 --discriminative_lr"
    assert told(f"--no-gradual_finetuning {rates}") == set()


def test_pinned_memory_needs_cuda():
    assert findings(f"{QUIET} --pin_memory", cuda=True) == []
    ((level, text),) = findings(f"{QUIET} --pin_memory", cuda=False)
    assert (level, "--pin-memory has no effect" in text) == ("warning", True)


@pytest.mark.parametrize(
    "words",
    [
        "--momentum 0.8 --optimizer sgd",
        "--progressive_class_balancing --progressive_start_factor 2 --progressive_epochs 5",
        f"{ADVANCED} --emergency_unfreeze_epoch 3 --gradient_momentum 0.5 --analysis_window 3",
        f"{GUIDED} --gradient_momentum 0.5 --sampling_epochs 3 --unfreeze_patience 3",
        "--freezing_strategy progressive --unfreeze_patience 3 --max_layers_per_step 2 --phase1_epochs 4",
        "--freezing_strategy none --discriminative_lr --head_lr 1e-3 --backbone_lr 1e-5",
        "--scheduler step --gamma 0.1 --step_size 5 --min_lr 1e-7",
        "--scheduler reduce_on_plateau --gamma 0.1 --plateau_patience 2",
        "--scheduler onecycle --scheduler_warmup_epochs 5",
        "--scheduler none --lr_warmup --scheduler_warmup_epochs 5",
        "--loss_types severity focal --focal_gamma 1 --loss_function plain",
        "--simple_training --loss_function plain --label_smoothing 0 --augmentation_strength none",
        "--disable_augmentation --noise_strength 0 --augmentation_strength none",
        "--disable_class_balancing --loss_function focal --no-use_class_balanced_sampler",
        "--preset small --no-use_class_balanced_sampler",
        "--preset very_small --disable_augmentation",
        "--preset very_small --augmentation_strength none",
        "--target_fps 15 --start_frame 62 --end_frame 87",
        "--loss_types offence ldam --ldam_s 20 --no-use_class_balanced_sampler",
        "--test_run --scheduler_warmup_epochs 3 --phase1_epochs 4 --progressive_class_balancing",
        f"--test_run {ADVANCED}",
        "--resume x --resume_best_acc 0.4 --allow_config_change",
        "--aggressive_augmentation --augmentation_strength aggressive",
        "--epochs 50 --phase1_epochs 8 --phase2_epochs 15",
        "--task_head action_type linear --head_dropout 0.2",
    ],
)
def test_what_fits_together_is_not_remarked_on(words):
    assert findings(f"{QUIET} {words}") == []


RANGES = (
    """
--epochs 0|--batch_size 0|--lr 0|--lr -1|--weight_decay -1|--seed -1|--num_workers -1
--num_workers 1 --worker_timeout -1|--prefetch_factor 0|--frames_per_clip 0|--target_fps 0|--start_frame -1
--start_frame 80 --end_frame 70|--max_views 0|--optimizer sgd --momentum 1|--gradient_clip_norm -1
--early_stopping_patience -1|--scheduler_warmup_epochs -1|--scheduler step --step_size 0
--scheduler step --gamma 0|--scheduler exponential --gamma 1.1|--scheduler reduce_on_plateau --gamma 1
--scheduler reduce_on_plateau --plateau_patience 0|--min_lr -1|--min_lr 1e-3|--main_task_weights -1 3
--main_task_weights 0 0 --auxiliary_task_weight 0|--auxiliary_task_weight -1|--label_smoothing 1
--label_smoothing -0.1|--loss_function focal --focal_gamma -1|--max_weight_ratio 0.5|--oversample_factor 0.5
--progressive_class_balancing --progressive_start_factor 0.5
--progressive_class_balancing --progressive_epochs 0|--freezing_strategy advanced --emergency_unfreeze_epoch 0
--freezing_strategy advanced --min_unfreeze_layers -1
--freezing_strategy advanced --validation_plateau_patience 0
--freezing_strategy adaptive --adaptive_patience 0|--freezing_strategy adaptive --adaptive_min_improvement -1
--freezing_strategy gradient_guided --importance_threshold -1|--warmup_epochs -1
--freezing_strategy advanced --unfreeze_patience 0|--freezing_strategy advanced --max_layers_per_step 0
--freezing_strategy gradient_guided --sampling_epochs 0
--freezing_strategy advanced --base_importance_threshold -1
--freezing_strategy advanced --performance_threshold -1|--freezing_strategy advanced --rollback_patience 0
--freezing_strategy advanced --gradient_momentum 1|--freezing_strategy advanced --analysis_window 1
--phase1_epochs 0|--phase2_epochs -1|--head_lr 0|--backbone_lr 0|--unfreeze_blocks -1
--phase2_backbone_lr_scale_factor 0|--phase2_head_lr_ratio 0|--phase1_plateau_patience 0
--phase1_plateau_factor 1|--phase1_plateau_factor 0|--temporal_jitter_strength -1|--dropout_prob 0.6
--dropout_prob -0.1|--spatial_crop_strength 0|--spatial_crop_strength 1.1|--color_aug_strength -1
--color_aug_strength 1.5|--noise_strength -1|--resume x --resume_best_acc 40|--oom_reduction_factor 1
--min_batch_size 0|--test_run --test_batches 0|--dropout_rate 1|--max_repeat 0.5
--freezing_strategy advanced --probe_batches 0|--ema_decay 1|--loss_types offence ldam --ldam_s 0
--loss_types offence ldam --ldam_max_m 0|--loss_types offence ldam --ldam_drw_start 1
--logit_adjustment --logit_adjustment_temperature 0|--task_head offence linear --head_dropout 1
--task_head offence deep_mlp depth=0|--task_head offence deep_mlp dropout=1|--lr nan|--noise_strength inf
""".replace("\n", "|")
    .strip("|")
    .split("|")
)


@pytest.mark.parametrize("words", RANGES)
def test_a_value_out_of_range_is_an_error_that_names_its_flag(words):
    errors = [text for level, text in findings(f"{QUIET} {words}") if level == "error"]
    names = [word.replace("_", "-") for word in words.split() if word.startswith("--")]
    assert len(errors) == 1, errors
    assert errors[0].startswith(tuple(names))


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (f"{ADVANCED} --epochs 4", "--emergency-unfreeze-epoch 4 with 4 epochs"),
        ("--progressive_class_balancing --epochs 10", "--progressive-epochs 15 with 10 epochs"),
        ("--weights none", "--weights none with a frozen backbone"),
        ("--loss_types offence ldam", "ldam with the class-balanced sampler"),
        ("--batch_size 17", "up to 68 clips in a batch at 224x398"),
        ("--batch_size 40 --max_views 2", "up to 80 clips"),
        ("--epochs 20 --scheduler_warmup_epochs 5", "--scheduler-warmup-epochs 5 of 20 epochs"),
        ("--label_smoothing 0.3", "--label-smoothing 0.3"),
        ("--num_workers 3", "--num-workers 3: this machine has 2 cores"),
        ("--test_run --epochs 4", "--test-run with --epochs 4"),
        ("--fit stretch", "--fit stretch"),
        ("--no-use_class_balanced_sampler --loss_types offence ldam --ldam_s 60", "--ldam-s 60"),
        ("--no-use_class_balanced_sampler --loss_types offence ldam --ldam_max_m 2", "--ldam-max-m 2"),
    ],
)
def test_an_unwise_value_is_a_warning(words, text, monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    ((level, said),) = findings(f"{QUIET} {words}")
    assert (level, said.startswith(text)) == ("warning", True), said


@pytest.mark.parametrize(
    "words",
    ["--batch_size 16", "--batch_size 64 --max_views 1", "--batch_size 64 --img_height 112 --img_width 200",
     "--batch_size 64 --backbone_name swin3d_t", "--freezing_strategy none --weights none",
     "--epochs 20 --scheduler_warmup_epochs 4", "--label_smoothing 0.2", "--test_run --epochs 3"],
)  # fmt: skip
def test_up_to_their_limit_values_are_fine(words):
    assert findings(f"{QUIET} {words}") == []


def test_without_validation_rules_are_only_printed():
    said = findings(f"{QUIET} --epochs 5 --phase1_epochs 8 --momentum 0.5 --no-enable_config_validation")
    assert [level for level, _ in said] == ["warning", "warning"]
    assert findings(f"{QUIET} --no-enable_config_validation --selection_metric x")[0][0] == "error"


def test_strict_validation_makes_errors_of_warnings():
    given = parsed("--momentum 0.5 --strict_config_validation --freezing_strategy none")
    strict = given.config.validation.strict_config_validation
    with pytest.raises(UserError, match="--momentum has no effect"):
        check(check_modular(given), strict, logging.getLogger())


def test_an_empty_root_is_an_error():
    ((level, text),) = [(f.level, f.text) for f in check_modular(parse_line(QUIET))]
    assert (level, "--dataset-root" in text) == ("error", True)


@pytest.mark.parametrize("words", [M1, M2, *FRAGMENTS.values(), *(f"--preset {name}" for name in PRESETS)])
def test_documented_lines_have_only_the_missing_weights_to_complain_about(words, monkeypatch):
    monkeypatch.setattr(os, "cpu_count", lambda: 16)
    ((level, text),) = findings(words)
    assert (level, text.startswith("--weights none")) == ("warning", True)
