"""What is said about flags of `train_with_class_weights.py` that do not go together: one row per rule."""

import pytest
from mv_class_weights import L1, L2, L3, findings, parse_line

from mvfouls.checks_class_weights import check_class_weights

QUIET = "--freeze-mode none --num_workers 1"
"""Nothing to say about these."""
OPENING = "--weights auto --num_workers 1"
LDAM, BALANCED, BAG = "--loss-types offence ldam", "--balanced-sampling", "--bag-of-clips"

CONTRADICTIONS = [
    (f"{LDAM} --enable-class-weights", "--loss-types offence ldam", "--enable-class-weights"),
    ("--disable-class-weights --enable-class-weights", "--disable-class-w", "--enable-class-weights"),
    (f'{LDAM} --task-class-weights {{"offence":[1,2,3]}}', "offence ldam", "--task-class-weights"),
    ('--effective-class-weights --task-class-weights {"offence":[1,2,3]}', "--task-class-", "--effective-"),
    ('--disable-class-weights --task-class-weights {"offence":[1,2,3]}', "--task-class-", "--disable-class"),
    ('--use-smart-weighting --task-loss-weights {"severity":2}', "--task-loss-weights", "--use-smart-"),
    ("--use-smart-weighting --primary-task-weight 2", "--primary-task-weight", "--use-smart-weighting"),
    ("--use-smart-weighting --auxiliary-task-weight 2", "--auxiliary-task-weight", "--use-smart-weighting"),
    ("--use-smart-weighting --primary-tasks severity", "--primary-tasks", "--use-smart-weighting"),
    ("--loss-type ce --loss-types offence focal", "--loss-type ", "--loss-types"),
    ("--joint-severity-sampling --balance-tasks severity", "--joint-sev", "--balance-tasks"),
    ("--dynamic-sampler --balanced-sampling", "--dynamic-sampler", "--balanced-sampling"),
    ("--dynamic-sampler --joint-severity-sampling", "--dynamic-sampler", "--joint-severity-sampling"),
    ("--disable-gradual-unfreezing", "--disable-gradual-unfreezing", "--freeze-mode none"),
    (f"{BAG} --clip-sampling-strategy all --max-clips-per-action 4", "strategy all", "--max-clips-per-"),
    (f"{BAG} --clip-sampling-strategy uniform --view_sampling first", "strategy uniform", "sampling first"),
    ("--lr-scheduler plateau --plateau-mode min", "--plateau-mode min", "--checkpoint-metric leaderboard"),
    (
        "--lr-scheduler plateau --plateau-mode max --checkpoint-metric val_loss",
        "--plateau-mode max",
        "--checkpoint-metric val_loss",
    ),
    ("--checkpoint-metric mean_ba --selection_metric val_loss", "metric mean_ba", "--selection-metric "),
    ("--backbone-checkpointing --no-activation_checkpointing", "--backbone-ch", "--no-activation-"),
    ("--epochs 5 --scheduler_warmup_epochs 5", "--scheduler-warmup-epochs 5", "--epochs 5"),
    ("--backbone-arch k400", "--backbone-arch k400", "--weights FILE"),
    ("--backbone-arch kinetics600 --weights auto", "--backbone-arch kinetics600", "600 classes"),
    ("--extreme_augmentation --aggressive_augmentation", "--extreme-aug", "--aggressive-augmentation"),
    ("--gpu_augmentation --disable_in_model_augmentation", "--gpu-", "--disable-in-model-augmentation"),
    ("--disable_augmentation --augmentation_strength mild", "--disable-aug", "--augmentation-strength"),
    ("--enable_data_optimization --disable_data_optimization", "--enable-data-", "--disable-data-"),
    ("--resume_best_acc 0.4", "--resume-best-acc", "--resume"),
    ("--multi_scale", "--multi-scale", "--backbone-arch swin"),
    ("--strict_config_validation --no-enable_config_validation", "--strict-config-", "--no-enable-config-"),
    ("--checkpoint-metric contact_ba", "--checkpoint-metric contact_ba", "severity_macro_f1"),
    ("--selection_metric accuracy", "--selection-metric accuracy", "mean_ba"),
    ("--loss-types contact focal", "--loss-types", "contact"),
    ("--loss-types action_type ce action_class focal", "--loss-types", "action_class is given twice"),
    ("--task-head offence linear --task-head offence deep_mlp", "--task-head", "offence is given twice"),
    ("--primary-tasks handball", "--primary-tasks", "handball"),
    ("--balanced-sampling --balance-tasks handball", "--balance-tasks", "handball"),
    ("--dynamic-sampler --dynamic-sampler-task handball", "--dynamic-sampler-task", "handball"),
    ('--task-loss-weights {"handball":2}', "--task-loss-weights", "handball"),
    ('--task-loss-weights {"action_class":0,"severity":0,"offence":0}', "task weights", "more than 0"),
    ('--task-class-weights {"offence":[1,2]}', "--task-class-weights", "list of 3"),
    ("--soft_labels offence --loss_types offence ldam", "--soft-labels offence", "--loss-types offence ldam"),
    ("--soft_labels offence offence", "--soft-labels", "offence is given twice"),
    ("--task_head offence ordinal", "--task-head offence ordinal", "it is for severity"),
    ("--task_head severity ordinal --loss_types severity bce", "ordinal", "--loss-types severity bce"),
    ("--task_head severity ordinal --loss_types severity ldam", "ordinal", "--loss-types severity ldam"),
    ("--task_head severity ordinal --keep_junk_classes", "severity ordinal", "--keep-junk-classes"),
    ("--task_head severity ordinal depth=-1", "--task-head", "depth not negative"),
    ("--task_head severity ordinal hidden=64", "--task-head", "depth=1 or more"),
    ("--task_head severity ordinal dropout=1", "--task-head", "dropout is from 0"),
    ("--device tpu", "--device tpu", "cuda:N"),
    ("--backbone-arch mvit --frames_per_clip 8", "--frames_per_clip 8", "mvit_v2_s"),
]  # fmt: skip


@pytest.mark.parametrize(("words", "first", "second"), CONTRADICTIONS)
def test_a_contradiction_is_an_error_that_names_both_sides(words, first, second):
    errors = [text for level, text in findings(f"{QUIET} {words}") if level == "error"]
    assert len(errors) == 1, errors
    assert first in errors[0]
    assert second in errors[0]


SCHEDULES = [
    ('{"3":"stage_9"}', "'stage_9'"),
    ('{"0":"stage_3"}', "'0' is no number of completed epochs"),
    ('{"x":"stage_3"}', "'x'"),
    ('{"20":"stage_3"}', "--epochs 20"),
    ('{"3":"stage_3","4":"stage_3"}', "stage_3 opens twice"),
    ('{"3":"stage_3","3":"stage_2"}', "'3' is given twice"),
    ("{3:stage_3}", "JSON is expected"),
    ("[3]", "a JSON object is expected"),
]


@pytest.mark.parametrize(("text", "told"), SCHEDULES)
def test_a_schedule_that_cannot_be_is_an_error(text, told):
    ((level, said),) = findings(f"{OPENING} --unfreeze-schedule {text}")
    assert level == "error"
    assert said.startswith("--unfreeze-schedule: ")
    assert told in said


def test_the_schedule_has_no_place_without_openings():
    words = '--unfreeze-schedule {"3":"stage_3"}'
    ((level, said),) = findings(f"{OPENING} --disable-gradual-unfreezing {words}")
    assert (level, "--unfreeze-schedule" in said and "--disable-gradual" in said) == ("error", True)
    ((level, said),) = findings(f"{QUIET} {words}")
    assert (level, said) == ("warning", "--unfreeze-schedule has no effect because --freeze-mode is none")


def test_a_group_near_the_input_that_opens_first_is_a_warning():
    ((level, said),) = findings(f'{OPENING} --unfreeze-schedule {{"3":"stage_2","6":"stage_3"}}')
    assert level == "warning"
    assert "stage_2 opens before stage_3" in said


IDLE = [
    ("--momentum 0.9 --optimizer adamw", "--momentum", "--optimizer is adamw"),
    ("--ldam-s 20", "--ldam-s", "ldam"),
    ("--ldam-max-m 0.4", "--ldam-max-m", "ldam"),
    ("--num_workers 0 --prefetch_factor 4", "--prefetch-factor", "--num-workers is 0"),
    ("--num-classes 3", "--num-classes", "--multi-task"),
    ("--unfreeze-batch-size 2", "--unfreeze-batch-size", "--reduce-batch-on-unfreeze is off"),
    ("--reduce-batch-on-unfreeze", "--reduce-batch-on-unfreeze", "nothing opens"),
    ("--adaptive-lr", "--adaptive-lr", "nothing opens"),
    ("--warmup_epochs 2", "--warmup-epochs", "nothing opens"),
    ("--lr-scale-major 2", "--lr-scale-major", "--adaptive-lr is off"),
    ("--lr 1e-4 --head-lr 1e-3 --backbone-lr 1e-5", "--lr", "--head-lr and --backbone-lr"),
    ("--disable-class-weights --class-weight-cap 5", "--class-weight-cap", "--disable-class-weights"),
    (f"{BALANCED} --effective-class-weights", "--effective-class-weights", "no task has"),
    ("--weight_basis natural", "--weight-basis", "sampler"),
    ("--loss-type ce --logit-adjustment --class-weight-cap 5", "--class-weight-cap", "no task has"),
    (
        "--loss-types action_class bce severity bce offence bce --effective-class-weights",
        "--effective-class-weights",
        "bce",
    ),
    ("--auxiliary-task-weight 2", "--auxiliary-task-weight", "--primary-tasks"),
    ("--core-task-weight 2", "--core-task-weight", "--use-smart-weighting is off"),
    ("--use-smart-weighting --context-task-weight 2", "--context-task-weight", "no task is context"),
    ("--weighting-strategy inverse_f1", "--weighting-strategy", "--adaptive-weights is off"),
    ("--task_weight_source valid", "--task-weight-source", "--adaptive-weights is off"),
    ("--balance-tasks severity", "--balance-tasks", "--balanced-sampling is off"),
    ("--max_repeat 5", "--max-repeat", "sampler"),
    ("--dynamic-sampler-power 2", "--dynamic-sampler-power", "--dynamic-sampler is off"),
    ("--max-clips-per-action 4", "--max-clips-per-action", "--bag-of-clips is off"),
    ("--clip-pooling-type max", "--clip-pooling-type", "--bag-of-clips is off"),
    ("--view_sampling first", "--view-sampling", "--bag-of-clips is off"),
    (f"{BAG} --clip-pooling-temperature 2", "--clip-pooling-temperature", "--clip-pooling-type is mean"),
    (f"{BAG} --clip-sampling-strategy all --view_sampling first", "--view-sampling", "takes all"),
    ("--early-stopping-patience 3", "--early-stopping-patience", "--early-stopping is off"),
    ("--early-stopping-min-delta 0.1", "--early-stopping-min-delta", "--early-stopping is off"),
    ("--test_run --early-stopping", "--early-stopping", "--test-run"),
    ("--test_run --eval-batches 3", "--eval-batches", "--test-run"),
    ("--plateau-patience 2", "--plateau-patience", "--lr-scheduler is cosine"),
    ("--lr-scheduler plateau --min_lr 1e-7", "--min-lr", "--plateau-min-lr"),
    ("--emergency_unfreeze_epoch 3", "--emergency-unfreeze-epoch", "--freeze-mode is none"),
    ("--adaptive_patience 3", "--adaptive-patience", "--freeze-mode is none"),
    ("--probe_batches 3", "--probe-batches", "--freeze-mode is none"),
    ("--weights_dir x", "--weights-dir", "--weights is not auto"),
    ("--test_batches 3", "--test-batches", "--test-run is off"),
    ("--logit-adjustment-temperature 2", "--logit-adjustment-temperature", "--logit-adjustment is off"),
    (
        "--task-head action_type deep_mlp --task-head severity deep_mlp --task-head offence deep_mlp "
        "--head-dropout 0.1",
        "--head-dropout",
        "linear",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("words", "flag", "reason"), IDLE)
def test_a_typed_flag_that_cannot_act_is_a_warning(words, flag, reason):
    ((level, text),) = findings(f"{QUIET} {words}")
    assert level == "warning"
    assert text.startswith(f"{flag} has no effect because ")
    assert reason in text


def test_one_task_needs_no_task_weights():
    words = "--primary-task-weight 2 --adaptive-weights --auxiliary_tasks contact"
    said = [text for _, text in findings(f"{QUIET} {words}", multi=False)]
    assert len(said) == 3
    assert all(text.endswith("--multi-task is off") for text in said)
    ((level, text),) = findings(f"{QUIET} --keep_junk_classes --num-classes 5", multi=False)
    assert level == "error"
    assert "--keep-junk-classes with --num-classes 5" in text


@pytest.mark.parametrize(
    "words",
    [
        "",
        f"{LDAM} --ldam-s 20 --ldam-max-m 0.3",
        f"{BALANCED} --enable-class-weights --weight_basis natural --balance-tasks severity --max_repeat 9",
        f"{BAG} --clip-pooling-type attention --clip-pooling-temperature 2 --view_sampling first",
        f"{LDAM} --enable-class-weights --allow_overcorrection",
        "--lr-scheduler plateau --plateau-mode min --checkpoint-metric val_loss --plateau-min-lr 1e-9",
        "--early-stopping --early-stopping-patience 3 --eval-freq 2 --eval-batches 4",
        "--use-smart-weighting --core-task-weight 9 --adaptive-weights --weighting-strategy difficulty",
        "--backbone-arch r2plus1d_18 --multi_scale --channels_last",
        '--task-class-weights {"offence":[1,2,3]} --class-weight-cap 5',
        "--backbone-arch k600 --weights file.pyth",
    ],
)
def test_what_fits_together_is_not_remarked_on(words):
    assert findings(f"{QUIET} {words}") == []


@pytest.mark.parametrize("line", [L1, L2, L3])
def test_the_documented_commands_are_only_told_that_the_backbone_is_random(line):
    said = [
        finding for finding in check_class_weights(parse_line(line)) if "--num-workers" not in finding.text
    ]
    assert [(finding.level, finding.text) for finding in said] == [
        ("warning", "--weights none with a frozen backbone: its features are random")
    ]


RANGES = """
--epochs 0|--batch-size 0|--lr 0|--head-lr 0|--backbone-lr -1|--weight-decay -1|--seed -1|--num-workers -1
--gradient-accumulation-steps 0|--class-weight-cap 0.5|--primary-task-weight -1|--train-fraction 0
--train-fraction 1.5|--eval-freq 0|--eval-batches 0|--ldam-max-m 0 --loss-types offence ldam
--loss-types offence ldam --ldam-s 0|--loss-types offence ldam --ldam-drw-start 1|--label_smoothing 1
--early-stopping --early-stopping-patience 0|--early-stopping --early-stopping-min-delta -1
--lr-scheduler plateau --plateau-patience 0|--lr-scheduler plateau --plateau-factor 1
--lr-scheduler plateau --plateau-threshold -1|--lr-scheduler plateau --plateau-min-lr -1
--lr-scheduler plateau --plateau-min-lr 1|--min_lr 1|--bag-of-clips --max-clips-per-action 0
--bag-of-clips --min-clips-per-action 0|--dynamic-sampler --dynamic-sampler-power 0|--head-dropout 1
--bag-of-clips --clip-pooling-type attention --clip-pooling-temperature 0|--focal_gamma -1|--lr nan
--use-smart-weighting --core-task-weight -1|--balanced-sampling --max_repeat 0.5
--logit-adjustment --logit-adjustment-temperature 0
""".replace("\n", "|").strip("|").split("|")  # fmt: skip


@pytest.mark.parametrize("words", RANGES)
def test_a_value_out_of_range_is_an_error_that_names_its_flag(words):
    errors = [text for level, text in findings(f"{QUIET} {words}") if level == "error"]
    names = [word.replace("_", "-") for word in words.split() if word.startswith("--")]
    assert len(errors) == 1, errors
    assert errors[0].startswith(tuple(names))


def test_pinned_memory_needs_cuda():
    assert findings(f"{QUIET} --pin_memory", cuda=True) == []
    assert len(findings(f"{QUIET} --pin_memory", cuda=False)) == 1


def test_validation_that_is_off_only_warns():
    words = f"{QUIET} {LDAM} --enable-class-weights --no-enable_config_validation"
    assert [level for level, _ in findings(words)] == ["warning"]


def test_two_classes_leave_no_label_to_share():
    said = findings(f"{QUIET} --num-classes 2 --soft_labels offence", multi=False)
    assert ("warning", "--soft-labels has no effect because --num-classes 2 leaves Between out") in said
    assert findings(f"{QUIET} --num-classes 3 --soft_labels offence", multi=False) == []
