"""Everything there is to say about the flags of `train_with_class_weights.py`."""

from __future__ import annotations

from collections.abc import Iterator

from common.config import Finding
from mvfouls.checks_shared import (
    Rules,
    augmentation_rules,
    augmented,
    device_rule,
    errors,
    file_rules,
    forbidden,
    input_findings,
    label_rules,
    metric_rules,
    name_rules,
    switched,
    twice_rules,
)
from mvfouls.choices_class_weights import Choices, Source, choose
from mvfouls.choices_shared import MEASURED, shortened
from mvfouls.config_class_weights import ClassWeightsConfig
from mvfouls.idle_class_weights import idle_flags
from mvfouls.openings import FLAG as SCHEDULE
from mvfouls.openings import out_of_order
from mvfouls.ranges_shared import unfit_values
from mvfouls.wisdom_shared import MOST_VIEWS, habit_rules, long_rules

LOWER_IS_BETTER = ("val_loss",)
SAMPLER_FLAGS = {
    "mixture": "--balanced-sampling",
    "joint": "--joint-severity-sampling",
    "dynamic": "--dynamic-sampler",
}


def check_class_weights(parsed: Source, *, cuda: bool = False) -> list[Finding]:
    """Return every error and warning about the flags; data are not looked at.

    `cuda`: the run uses such a device. With --no-enable-config-validation only names that mean nothing stay
    errors. UserError for JSON that cannot be read.
    """
    choices = choose(parsed)
    rules = [
        *_bad_values(parsed.config),
        *errors(_contradictions(parsed, choices)),
        *input_findings(parsed, choices.network),
        *idle_flags(parsed, choices, cuda=cuda),
        *_unwise(parsed, choices),
    ]
    return switched(parsed.config, list(errors(_names(parsed, choices))), rules)


def _names(parsed: Source, choices: Choices) -> Rules:
    """Return the rules about names that mean nothing in this run."""
    config, typed = parsed.config, parsed.typed
    sampling, tasks = config.sampling, config.tasks.auxiliary_tasks
    sampled = choices.sampler == "joint" or (choices.sampler == "mixture" and "balance_tasks" in typed)
    flag = "--joint-severity-sampling" if choices.sampler == "joint" else "--balance-tasks"
    named: dict[str, list[str]] = {
        "--task-head": [given.task for given in config.heads.task_head],
        "--loss-types": list(config.task_losses.loss_types),
        "--soft-labels": list(config.labels.soft_labels),
        "--primary-tasks": list(config.task_weights.primary_tasks) if "primary_tasks" in typed else [],
        flag: list(choices.sampler_tasks) if sampled else [],
        "--dynamic-sampler-task": [choices.dynamic_task] if sampling.dynamic_sampler else [],
    }
    arch = config.architecture.backbone_arch
    return {
        **name_rules(named, choices.tasks),
        **twice_rules({"--auxiliary-tasks": list(tasks)}),
        "--auxiliary-tasks: none and other tasks": "none" in tasks and len(tasks) > 1,
        "--balance-tasks: no task is named": choices.sampler == "mixture" and not choices.sampler_tasks,
        f"--backbone-arch {arch} needs --weights FILE, with a head of {choices.weights_classes} classes": (
            choices.weights_classes is not None and config.backbone_weights.weights in ("none", "auto")
        ),
        **device_rule(config.run.device),
        **metric_rules(
            _metric_flag(parsed),
            choices.metric,
            choices.tasks,
            typed=choices.metric_typed,
            mending="add --multi-task",
        ),
    }


def _metric_flag(parsed: Source) -> str:
    other = "selection_metric" in parsed.typed and "checkpoint_metric" not in parsed.typed
    return "--selection-metric" if other else "--checkpoint-metric"


def _contradictions(parsed: Source, choices: Choices) -> Rules:
    config = parsed.config
    least = config.emergency.min_unfreeze_layers
    blocks = len(choices.network.blocks)
    return {
        **_lengths(parsed, choices),
        **_weights(parsed, choices),
        **label_rules(config, choices.kinds),
        **_sampling(parsed),
        **_task_weights(parsed, choices),
        **_freezing(parsed),
        **_judging(parsed, choices),
        **_samples(parsed, choices),
        **forbidden(
            "--disable-augmentation", config.modes.disable_augmentation, augmented(config), parsed.typed
        ),
        **augmentation_rules(
            parsed,
            choices.augment,
            choices.strength,
            network=f"--backbone-arch {config.architecture.backbone_arch}",
            family=choices.network.family,
        ),
        **file_rules(config, parsed.typed, "--output-dir", config.saving.output_dir),
        f"--min-unfreeze-layers {least}: {choices.network.name} has {blocks} blocks": least > blocks,
    }


def _lengths(parsed: Source, choices: Choices) -> Rules:
    warmup, epochs = parsed.config.schedule.scheduler_warmup_epochs, choices.epochs
    return {
        f"--scheduler-warmup-epochs {warmup} with --epochs {epochs}: it never ends; make it less": (
            warmup >= epochs and warmup > 0 and not shortened(parsed)
        ),
    }


def _weights(parsed: Source, choices: Choices) -> Rules:
    config, weighting = parsed.config, parsed.config.weighting
    margins = [task for task, kind in choices.kinds.items() if kind == "ldam"]
    both = margins and not config.balance.allow_overcorrection
    listed = " ".join(f"{task} ldam" for task in margins)
    mending = "ldam takes no class weights; leave them out, or add --allow-stacking (--allow-overcorrection)"
    given = weighting.task_class_weights is not None
    return {
        "--disable-class-weights with --enable-class-weights: take one of them": (
            weighting.disable_class_weights and weighting.enable_class_weights
        ),
        f"--loss-types {listed} with --enable-class-weights: {mending}": (
            bool(both) and weighting.enable_class_weights
        ),
        f"--loss-types {listed} with --task-class-weights: {mending}": (
            bool(both) and any(task in choices.given for task in margins)
        ),
        "--task-class-weights with --effective-class-weights: take one of them": (
            given and weighting.effective_class_weights
        ),
        "--task-class-weights with --disable-class-weights: take one of them": (
            given and weighting.disable_class_weights
        ),
        "--loss-type with --loss-types: take one of them": (
            config.task_losses.loss_type is not None and "loss_types" in parsed.typed
        ),
    }


def _sampling(parsed: Source) -> Rules:
    sampling = parsed.config.sampling
    both = "balance_tasks" in parsed.typed and sampling.joint_severity_sampling
    return {
        "--joint-severity-sampling with --balance-tasks: take one of them": both,
        "--dynamic-sampler with --balanced-sampling: take one of them": (
            sampling.dynamic_sampler and sampling.balanced_sampling
        ),
        "--dynamic-sampler with --joint-severity-sampling: take one of them": (
            sampling.dynamic_sampler and sampling.joint_severity_sampling
        ),
    }


def _task_weights(parsed: Source, choices: Choices) -> Rules:
    given = parsed.config.task_weights
    others = ("primary_task_weight", "auxiliary_task_weight", "primary_tasks", "task_loss_weights")
    rules = {
        f"--{name.replace('_', '-')} with --use-smart-weighting: take one of them": (
            given.use_smart_weighting and name in parsed.typed
        )
        for name in others
    }
    weights = choices.task_weights.values()
    text = ", ".join(f"{task} {weight:g}" for task, weight in choices.task_weights.items())
    return {**rules, f"task weights {text}: one more than 0 is expected": max(weights) <= 0 <= min(weights)}


def _freezing(parsed: Source) -> Rules:
    freezing, typed = parsed.config.freezing, parsed.typed
    off = freezing.disable_gradual_unfreezing
    return {
        "--disable-gradual-unfreezing with --unfreeze-schedule: take one of them": (
            off and freezing.unfreeze_schedule is not None
        ),
        f"--disable-gradual-unfreezing with --freeze-mode {freezing.freeze_mode}: take one of them": (
            off and "freeze_mode" in typed and freezing.freeze_mode != "gradual"
        ),
        "--backbone-checkpointing with --no-activation-checkpointing: take one of them": (
            parsed.config.architecture.backbone_checkpointing
            and "activation_checkpointing" in typed
            and not parsed.config.compute.activation_checkpointing
        ),
    }


def _judging(parsed: Source, choices: Choices) -> Rules:
    config, metric = parsed.config, choices.metric
    mode, direction = config.schedule.plateau_mode, "min" if metric in LOWER_IS_BETTER else "max"
    first, second = config.evaluation.checkpoint_metric, config.judging.selection_metric
    return {
        f"--plateau-mode {mode} with --checkpoint-metric {metric}: the best is its {direction}imum": (
            mode not in ("auto", direction)
        ),
        f"--checkpoint-metric {first} with --selection-metric {second}: take one of them": (
            {"checkpoint_metric", "selection_metric"} <= parsed.typed and first != second
        ),
    }


def _samples(parsed: Source, choices: Choices) -> Rules:
    config, typed = parsed.config, parsed.typed
    taken, sampling = config.bags.clip_sampling_strategy, config.input.view_sampling
    both = {"clip_sampling_strategy", "view_sampling"} <= typed
    return {
        "--clip-sampling-strategy all with --max-clips-per-action: take one of them": (
            taken == "all" and "max_clips_per_action" in typed
        ),
        f"--clip-sampling-strategy {taken} with --view-sampling {sampling}: take one of them": (
            both and taken not in ("all", sampling)
        ),
        f"--keep-junk-classes with --num-classes {config.core.num_classes}: these have no place for them; "
        "take --multi-task": (
            config.labels.keep_junk_classes
            and not config.core.multi_task
            and "offence_severity" not in choices.tasks
        ),
    }


def _bad_values(config: ClassWeightsConfig) -> Iterator[Finding]:
    patience, core = config.evaluation.early_stopping_patience, config.core
    rates = [core.lr if rate is None else rate for rate in (core.head_lr, core.backbone_lr)]
    plateau = config.schedule.lr_scheduler == "plateau"
    name = "plateau_min_lr" if plateau else "min_lr"
    floor = config.schedule.plateau_min_lr if plateau else config.schedule.min_lr
    relations = {
        f"--early-stopping-patience {patience}: at least 1 is expected": patience >= 1,
        f"--{name.replace('_', '-')} {floor:g} is more than the learning rate {min(rates):g}": (
            floor <= min(rates)
        ),
    }
    yield from unfit_values(config, relations)


def _unwise(parsed: Source, choices: Choices) -> Iterator[Finding]:
    config = parsed.config
    typed = "scheduler_warmup_epochs" in parsed.typed
    views = min(config.bags.max_clips_per_action, MOST_VIEWS) if config.bags.bag_of_clips else 1
    order = out_of_order(choices.schedule, choices.network)
    rules = {
        **long_rules(
            parsed,
            choices.epochs,
            emergency=choices.mode in ("adaptive", *MEASURED),
            warmup=config.schedule.scheduler_warmup_epochs if typed else None,
        ),
        **habit_rules(
            parsed,
            choices.network,
            choices.kinds.values(),
            clips=config.core.batch_size * views,
            smoothing=config.task_losses.label_smoothing,
            frozen=choices.mode != "none",
            sampler=SAMPLER_FLAGS.get(choices.sampler),
        ),
    }
    if order is not None:
        rules[f"{SCHEDULE}: {order[0]} opens before {order[1]}, which lies nearer the heads"] = True
    yield from (Finding("warning", said) for said, holds in rules.items() if holds)
