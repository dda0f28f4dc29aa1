"""Flags of `train_modular.py` that contradict each other, and everything else there is to say about them."""

from __future__ import annotations

from common.config import Finding, Parsed
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
from mvfouls.choices_modular import Choices, choose, shortened
from mvfouls.config_modular import ModularConfig
from mvfouls.idle_modular import idle_flags
from mvfouls.ranges_modular import bad_values, unwise

Source = Parsed[ModularConfig]


def check_modular(parsed: Source, *, cuda: bool = False) -> list[Finding]:
    """Return every error and warning about the flags; data are not looked at.

    `cuda`: the run uses such a device. With --no-enable-config-validation only names that mean nothing stay
    errors.
    """
    choices = choose(parsed)
    rules = [
        *bad_values(parsed),
        *errors(_contradictions(parsed, choices)),
        *input_findings(parsed, choices.architecture),
        *idle_flags(parsed, choices, cuda=cuda),
        *unwise(parsed, choices),
    ]
    return switched(parsed.config, list(errors(_names(parsed, choices))), rules)


def _names(parsed: Source, choices: Choices) -> Rules:
    """Return the rules about names that mean nothing in this run."""
    config = parsed.config
    heads, losses = config.heads.task_head, config.task_losses.loss_types
    named: dict[str, list[str]] = {
        "--task-head": [given.task for given in heads],
        "--loss-types": list(losses),
        "--soft-labels": list(config.labels.soft_labels),
        "--balance-tasks": list(config.balance.balance_tasks) if choices.sampler else [],
    }
    auxiliary, judging = config.tasks.auxiliary_tasks, config.judging
    return {
        **name_rules(named, choices.tasks),
        **twice_rules({"--auxiliary-tasks": list(auxiliary)}),
        "--dataset-root is missing: the folder that holds the data set": not config.core.dataset_root,
        "--auxiliary-tasks: none and other tasks": "none" in auxiliary and len(auxiliary) > 1,
        "--balance-tasks: no task is named": choices.sampler and not config.balance.balance_tasks,
        **device_rule(config.run.device),
        **metric_rules(
            "--selection-metric",
            judging.selection_metric,
            choices.tasks,
            typed="selection_metric" in parsed.typed,
            mending="add it to --auxiliary-tasks",
        ),
    }


def _contradictions(parsed: Source, choices: Choices) -> Rules:
    return {
        **_lengths(parsed, choices),
        **_losses(parsed, choices),
        **label_rules(parsed.config, choices.kinds),
        **_balancing(parsed, choices),
        **_modes(parsed, choices),
        **augmentation_rules(
            parsed,
            choices.augment,
            choices.strength,
            network=f"--backbone-name {choices.architecture.name}",
            family=choices.architecture.family,
        ),
        **file_rules(parsed.config, parsed.typed, "--save-dir", parsed.config.saving.save_dir),
        **_blocks(parsed.config, choices),
    }


def _lengths(parsed: Source, choices: Choices) -> Rules:
    config, epochs, typed = parsed.config, choices.epochs, parsed.typed
    first, warmup = config.phases.phase1_epochs, config.scheduling.scheduler_warmup_epochs
    set_warmup = "scheduler_warmup_epochs" in typed and config.features.lr_warmup is not False
    return {
        f"--phase1-epochs {first} with --epochs {epochs}: nothing would open; make it less": (
            choices.timed and "phase1_epochs" in typed and first >= epochs and not shortened(parsed)
        ),
        f"--scheduler-warmup-epochs {warmup} with --epochs {epochs}: it never ends; make it less": (
            set_warmup and warmup >= epochs and not shortened(parsed)
        ),
        "--lr-warmup with --scheduler-warmup-epochs 0: take --no-lr-warmup, or a length": (
            config.features.lr_warmup is True and set_warmup and warmup == 0
        ),
    }


def _losses(parsed: Source, choices: Choices) -> Rules:
    config, typed = parsed.config, "class_weighting_strategy" in parsed.typed
    strategy = config.weighting.class_weighting_strategy
    weighted = typed and strategy != "none"
    modes = config.modes.simple_training or config.modes.disable_class_balancing
    margins = [task for task, kind in choices.kinds.items() if kind == "ldam"]
    return {
        f"--loss-function plain with --class-weighting-strategy {strategy}: take --loss-function weighted": (
            weighted and choices.loss_function == "plain" and not modes
        ),
        "--class-weighting-strategy none with --loss-function weighted: take --loss-function plain": (
            typed and strategy == "none" and choices.loss_function == "weighted"
        ),
        f"--loss-types {' '.join(f'{task} ldam' for task in margins)} with --class-weighting-strategy "
        f"{strategy}: ldam takes no class weights; leave the strategy out, or add --allow-stacking "
        "(--allow-overcorrection)": (
            bool(margins) and weighted and not modes and not config.balance.allow_overcorrection
        ),
    }


def _balancing(parsed: Source, choices: Choices) -> Rules:
    config, typed = parsed.config, parsed.typed
    progressive = config.progressive
    start, end = progressive.progressive_start_factor, progressive.progressive_end_factor
    return {
        "--progressive-class-balancing with --no-use-class-balanced-sampler: take one of them": (
            {"progressive_class_balancing", "use_class_balanced_sampler"} <= typed
            and progressive.progressive_class_balancing
            and not config.sampling.use_class_balanced_sampler
        ),
        f"--progressive-end-factor {end:g} is less than --progressive-start-factor {start:g}": (
            choices.progressive and end < start
        ),
    }


def _modes(parsed: Source, choices: Choices) -> Rules:
    """Return the rules about modes that set what was typed otherwise."""
    config = parsed.config
    balancing = {
        "--use-class-balanced-sampler": config.sampling.use_class_balanced_sampler,
        "--progressive-class-balancing": config.progressive.progressive_class_balancing,
        "--class-weighting-strategy": config.weighting.class_weighting_strategy != "none",
    }
    simple = {
        **balancing,
        "--loss-function": config.loss.loss_function != "plain",
        "--loss-types": any(kind != "ce" for kind in config.task_losses.loss_types.values()),
        "--label-smoothing": config.task_weights.label_smoothing != 0,
        **augmented(config),
    }
    weighted = {"--loss-function": config.loss.loss_function == "weighted"}
    modes, typed = config.modes, parsed.typed
    return {
        **forbidden("--simple-training", modes.simple_training, simple, typed),
        **forbidden("--disable-class-balancing", modes.disable_class_balancing, balancing | weighted, typed),
        **forbidden("--disable-augmentation", modes.disable_augmentation, augmented(config), typed),
    }


def _blocks(config: ModularConfig, choices: Choices) -> Rules:
    network = choices.architecture
    count = len(network.blocks)
    least, opened = config.emergency.min_unfreeze_layers, config.rates.unfreeze_blocks
    return {
        f"--min-unfreeze-layers {least}: {network.name} has {count} blocks": least > count,
        f"--unfreeze-blocks {opened}: {network.name} has {count} blocks": opened > count,
    }
