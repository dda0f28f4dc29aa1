"""Values of `train_modular.py` that no run can have, and values that are rarely wise."""

from __future__ import annotations

from collections.abc import Iterator

from common.config import Finding, Parsed
from mvfouls.choices_modular import Choices, shortened
from mvfouls.config_modular import ModularConfig
from mvfouls.ranges_shared import unfit_values
from mvfouls.wisdom_shared import MOST_VIEWS, habit_rules, long_rules


def bad_values(parsed: Parsed[ModularConfig]) -> Iterator[Finding]:
    """Yield an error for each value out of its range, naming the flag."""
    yield from unfit_values(parsed.config, _relations(parsed.config))


def unwise(parsed: Parsed[ModularConfig], choices: Choices) -> Iterator[Finding]:
    """Yield a warning for each setting that works and is rarely meant."""
    config, epochs = parsed.config, choices.epochs
    growth, warmup = config.progressive.progressive_epochs, config.scheduling.scheduler_warmup_epochs
    typed = "scheduler_warmup_epochs" in parsed.typed and config.scheduling.scheduler != "onecycle"
    rules = {
        **long_rules(parsed, epochs, emergency=choices.emergency, warmup=warmup if typed else None),
        f"--progressive-epochs {growth} with {epochs} epochs: the last factor is never reached": (
            choices.progressive and growth > epochs and not shortened(parsed)
        ),
        **habit_rules(
            parsed,
            choices.architecture,
            choices.uses,
            clips=config.core.batch_size * min(config.video.max_views or MOST_VIEWS, MOST_VIEWS),
            smoothing=config.task_weights.label_smoothing,
            frozen=choices.strategy != "none",
            sampler="the class-balanced sampler" if choices.sampler else None,
        ),
    }
    yield from (Finding("warning", said) for said, holds in rules.items() if holds)


def _relations(config: ModularConfig) -> dict[str, bool]:
    weights, patience = config.task_weights.main_task_weights, config.optimization.early_stopping_patience
    lr, least = config.core.lr, config.scheduler_parameters.min_lr
    gamma, reduces = config.scheduler_parameters.gamma, config.scheduling.scheduler == "reduce_on_plateau"
    listed = " ".join(f"{weight:g}" for weight in weights)
    return {
        f"--main-task-weights {listed}: the weights of all tasks are 0": (
            sum(weights) + config.task_weights.auxiliary_task_weight * _auxiliaries(config) > 0
        ),
        f"--min-lr {least:g} is more than --lr {lr:g}": least <= lr,
        f"--gamma {gamma:g} with --scheduler reduce_on_plateau: below 1 is expected": (
            not reduces or gamma < 1
        ),
        f"--early-stopping-patience {patience}: at least 0 is expected": patience is None or patience >= 0,
    }


def _auxiliaries(config: ModularConfig) -> int:
    return len([task for task in config.tasks.auxiliary_tasks if task != "none"])
