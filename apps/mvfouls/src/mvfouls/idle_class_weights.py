"""Flags of `train_with_class_weights.py` that were typed and cannot act."""

from __future__ import annotations

from collections.abc import Iterator

from common.config import Finding
from mvfouls.choices_class_weights import Choices, Source
from mvfouls.config_class_weights import ClassWeightsConfig
from mvfouls.config_shared import Linear, task_name
from mvfouls.idle_shared import Rule, loading_rules, loss_rules, rest_rules, strategy_rules, told

SMART = ("core_task_weight", "support_task_weight", "context_task_weight")
SHARES = ("primary_task_weight", "auxiliary_task_weight", "primary_tasks", "task_loss_weights", *SMART)
ADAPTING = ("weighting_strategy", "task_weight_source")
BAGS = (
    "max_clips_per_action", "min_clips_per_action", "clip_sampling_strategy", "view_sampling",
    "clip_pooling_type", "clip_pooling_temperature",
)  # fmt: skip
PLATEAU = ("plateau_patience", "plateau_factor", "plateau_threshold", "plateau_min_lr", "plateau_mode")
STOPPING = ("early_stopping_patience", "early_stopping_min_delta")
SCALES = ("lr_scale_minor", "lr_scale_major", "lr_scale_massive")


def idle_flags(parsed: Source, choices: Choices, *, cuda: bool) -> Iterator[Finding]:
    """Yield a warning for each typed flag that cannot act; of several reasons the last one counts."""
    config = parsed.config
    rules = (
        *loading_rules(config, cuda=cuda),
        *loss_rules(config, choices.kinds.values()),
        *_losses(config, choices),
        *_tasks(config, choices),
        *_balancing(config, choices),
        *strategy_rules(config, choices.mode, f"--freeze-mode is {choices.mode}"),
        *_freezing(parsed, choices),
        *_schedule(config),
        *_bags(config),
        *rest_rules(config, choices.augment, choices.network, choices.tasks),
    )
    yield from told(rules, parsed.typed)


def _losses(config: ClassWeightsConfig, choices: Choices) -> Iterator[Rule]:
    deep = {given.task for given in config.heads.task_head if not isinstance(given.head, Linear)}
    yield ("head_dropout",), "no head is linear", len(deep) == len(choices.tasks)


def _tasks(config: ClassWeightsConfig, choices: Choices) -> Iterator[Rule]:
    given, single = config.task_weights, not config.core.multi_task
    yield ("num_classes",), "--multi-task has classes of its own", not single
    whole = bool(config.labels.soft_labels) and not choices.undecided
    yield ("soft_labels",), "--num-classes 2 leaves Between out", whole
    primary = {task_name(word) for word in given.primary_tasks}
    yield ("auxiliary_task_weight",), "every task is in --primary-tasks", set(choices.tasks) <= primary
    yield SMART, "--use-smart-weighting is off", not given.use_smart_weighting
    context = set(choices.tasks) <= {"action_class", "severity", "offence"}
    yield ("context_task_weight",), "no task is context", given.use_smart_weighting and context
    yield ADAPTING, "--adaptive-weights is off", not given.adaptive_weights
    alone = (*SHARES, *ADAPTING, "use_smart_weighting", "adaptive_weights", "auxiliary_tasks")
    yield alone, "--multi-task is off", single


def _balancing(config: ClassWeightsConfig, choices: Choices) -> Iterator[Rule]:
    weighting, sampler = config.weighting, choices.sampler
    none = not choices.computed
    ones = all(choices.kinds[task] == "bce" for task in choices.computed)
    yield ("effective_class_weights",), "the tasks with class weights have the loss bce", ones
    yield ("weight_basis",), "there is no sampler that balances", sampler == "shuffle"
    weights = ("class_weight_cap", "effective_class_weights", "weight_basis")
    yield weights, "no task has computed class weights", none
    yield weights, "--disable-class-weights", weighting.disable_class_weights
    asked = weighting.enable_class_weights and not weighting.disable_class_weights
    yield ("enable_class_weights",), "no task has computed class weights", asked and none
    yield ("balance_tasks",), "--balanced-sampling is off", sampler not in ("mixture", "joint")
    yield ("max_repeat",), "there is no sampler that balances", sampler == "shuffle"
    dynamic = ("dynamic_sampler_task", "dynamic_sampler_power")
    yield dynamic, "--dynamic-sampler is off", not config.sampling.dynamic_sampler


def _freezing(parsed: Source, choices: Choices) -> Iterator[Rule]:
    config, mode = parsed.config.freezing, choices.mode
    still = f"--freeze-mode is {mode}"
    yield ("unfreeze_schedule",), still, mode != "gradual" and not config.disable_gradual_unfreezing
    larger = parsed.config.core.batch_size <= config.unfreeze_batch_size
    yield ("reduce_batch_on_unfreeze",), "--batch-size is not larger", larger
    yield ("unfreeze_batch_size",), "--reduce-batch-on-unfreeze is off", not config.reduce_batch_on_unfreeze
    yield SCALES, "--adaptive-lr is off", not config.adaptive_lr
    nothing = ("reduce_batch_on_unfreeze", "adaptive_lr", "warmup_epochs")
    yield nothing, f"{still}: nothing opens", not choices.opens
    both = {"head_lr", "backbone_lr"} <= parsed.typed
    yield ("lr",), "--head-lr and --backbone-lr are the rates in use", both


def _schedule(config: ClassWeightsConfig) -> Iterator[Rule]:
    name, test = config.schedule.lr_scheduler, config.testing.test_run
    yield PLATEAU, f"--lr-scheduler is {name}", name != "plateau"
    yield ("min_lr",), f"--lr-scheduler is {name}; take --plateau-min-lr", name == "plateau"
    yield STOPPING, "--early-stopping is off", not config.evaluation.early_stopping
    yield ("early_stopping", *STOPPING), "--test-run never stops early", test
    yield ("eval_batches",), "--test-run judges --test-batches", test


def _bags(config: ClassWeightsConfig) -> Iterator[Rule]:
    kind = config.bags.clip_pooling_type
    yield ("clip_pooling_temperature",), f"--clip-pooling-type is {kind}", kind != "attention"
    taken = config.bags.clip_sampling_strategy
    yield ("view_sampling",), "--clip-sampling-strategy takes all", taken == "all"
    yield BAGS, "--bag-of-clips is off", not config.bags.bag_of_clips
