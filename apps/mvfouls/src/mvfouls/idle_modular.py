"""Flags of `train_modular.py` that were typed and cannot act."""

from __future__ import annotations

from collections.abc import Iterator

from common.config import Finding, Parsed
from mvfouls.choices_modular import Choices
from mvfouls.config_modular import ModularConfig, Phase1PlateauConfig, Phase2Config
from mvfouls.config_shared import Linear
from mvfouls.idle_shared import Rule, loading_rules, loss_rules, rest_rules, strategy_rules, told

WITHOUT_GAMMA = ("cosine", "onecycle", "none")
PROGRESSIVE = ("progressive_start_factor", "progressive_end_factor", "progressive_epochs")
PHASE_RATES = tuple(vars(Phase2Config())) + tuple(vars(Phase1PlateauConfig()))


def idle_flags(parsed: Parsed[ModularConfig], choices: Choices, *, cuda: bool) -> Iterator[Finding]:
    """Yield a warning for each typed flag that cannot act; of several reasons the last one counts."""
    config = parsed.config
    rules = (
        *loading_rules(config, cuda=cuda),
        *_views(config),
        *_optimising(parsed, choices),
        *loss_rules(config, choices.uses),
        *_losses(config, choices),
        *_balancing(config, choices),
        *strategy_rules(config, choices.strategy, f"--freezing-strategy is {choices.strategy}"),
        *_freezing(choices),
        *_rates(parsed, choices),
        *rest_rules(config, choices.augment, choices.architecture, choices.tasks),
    )
    yield from told(rules, parsed.typed)


def _views(config: ModularConfig) -> Iterator[Rule]:
    random = config.input.view_sampling == "random" and config.video.max_views is None
    yield ("view_sampling",), "--max-views keeps all", random


def _optimising(parsed: Parsed[ModularConfig], choices: Choices) -> Iterator[Rule]:
    config = parsed.config
    scheduler = config.scheduling.scheduler
    told = f"--scheduler is {scheduler}"
    yield ("early_stopping_patience",), "--test-run never stops early", config.testing.test_run
    yield ("step_size",), told, scheduler != "step"
    yield ("gamma",), told, scheduler in WITHOUT_GAMMA
    yield ("plateau_patience",), told, scheduler != "reduce_on_plateau"
    yield ("min_lr",), told, scheduler == "none"
    off = config.features.lr_warmup is False and scheduler != "onecycle"
    quiet = scheduler == "none" and config.features.lr_warmup == "auto"
    yield ("scheduler_warmup_epochs",), "--no-lr-warmup", off
    yield ("scheduler_warmup_epochs",), f"{told}; add --lr-warmup", quiet
    yield ("lr_warmup",), f"{told} and has its own rise", scheduler == "onecycle"


def _losses(config: ModularConfig, choices: Choices) -> Iterator[Rule]:
    none = not choices.task_weights.keys() - {"severity", "action_class"}
    yield (
        ("auxiliary_task_weight",),
        "--auxiliary-tasks is none",
        none and bool(config.task_weights.auxiliary_task_weight),
    )
    yield ("auxiliary_tasks",), "--auxiliary-task-weight is 0", not config.task_weights.auxiliary_task_weight
    linear = any(isinstance(given.head, Linear) for given in config.heads.task_head)
    yield ("head_dropout",), "no --task-head is linear", not linear


def _balancing(config: ModularConfig, choices: Choices) -> Iterator[Rule]:
    weights = ("max_weight_ratio", "weight_basis")
    yield ("weight_basis",), "there is no class-balanced sampler", not choices.sampler
    yield weights, f"--class-weighting-strategy is {choices.weighting}", choices.weighting == "none"
    yield weights, "no task has class weights", choices.weighting != "none" and not choices.weighted
    yield weights, "--loss-function is plain", choices.loss_function == "plain"
    yield ("oversample_factor",), "--progressive-class-balancing sets it", choices.progressive
    yield PROGRESSIVE, "--progressive-class-balancing is off", not choices.progressive
    sampled = ("oversample_factor", "balance_tasks", "max_repeat")
    yield sampled, "there is no class-balanced sampler", not choices.sampler


def _freezing(choices: Choices) -> Iterator[Rule]:
    strategy = choices.strategy
    reason = f"--freezing-strategy is {strategy}"
    yield ("warmup_epochs",), "no block ever opens", choices.closed
    yield ("warmup_epochs", "gradual_finetuning"), reason, strategy == "none"
    yield ("phase1_epochs", "phase2_epochs"), "--no-gradual-finetuning", choices.closed
    yield ("phase1_epochs",), reason, strategy not in ("fixed", "progressive")
    yield ("phase2_epochs", "unfreeze_blocks"), reason, strategy != "fixed"


def _rates(parsed: Parsed[ModularConfig], choices: Choices) -> Iterator[Rule]:
    own = choices.gradual or parsed.config.features.discriminative_lr
    why = "--freezing-strategy is none" if choices.strategy == "none" else "--no-gradual-finetuning"
    both = {"head_lr", "backbone_lr"} <= parsed.typed
    yield ("lr",), "--head-lr and --backbone-lr are the rates in use", own and both
    yield ("head_lr", "backbone_lr"), f"{why} without --discriminative-lr", not own
    yield PHASE_RATES, why, not choices.gradual
