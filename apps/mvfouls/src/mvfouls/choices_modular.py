"""What the switches of `train_modular.py` amount to, whichever flag said it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal

from common.config import Parsed
from mvfouls.architectures import Architecture, architecture
from mvfouls.augment_presets import AugmentValues, Strength
from mvfouls.choices_shared import (
    MEASURED,
    WEIGHTABLE,
    augment_values,
    legacy_strengths,
    optimized,
    shortened,
    strength_of,
)
from mvfouls.config_modular import ModularConfig, Strategy
from mvfouls.config_shared import task_name
from mvfouls.settings import LossKind, WeightStrategy

LossFunction = Literal["focal", "weighted", "plain"]
__all__ = ["MEASURED", "Choices", "choose", "legacy_strengths", "shortened"]

MAIN_TASKS = ("severity", "action_class")
"""In the order of --main-task-weights."""
KINDS: dict[LossFunction, LossKind] = {"focal": "focal", "weighted": "ce", "plain": "ce"}
TIMED = ("fixed", "progressive")


@dataclass(frozen=True, kw_only=True)
class Choices:
    """The effective choices of one command line."""

    epochs: int
    strategy: Strategy
    gradual: bool
    """Heads and open blocks have rates of their own."""
    closed: bool
    """`fixed` without phases: the same blocks train from the first epoch."""
    architecture: Architecture
    tasks: tuple[str, ...]
    task_weights: dict[str, float]
    loss_function: LossFunction
    kinds: dict[str, LossKind]
    adjusted: frozenset[str]
    """Tasks whose logits are adjusted."""
    weighted: frozenset[str]
    """Tasks with class weights."""
    weighting: WeightStrategy
    sampler: bool
    progressive: bool
    smoothing: float
    strength: Strength
    augment: AugmentValues
    optimized: bool
    """Data loading is optimised."""

    @property
    def timed(self) -> bool:
        """Whether blocks open at set times."""
        return self.strategy in TIMED and not self.closed

    @property
    def emergency(self) -> bool:
        """Whether the strategy knows an emergency."""
        return self.strategy not in ("none", *TIMED)

    @property
    def uses(self) -> frozenset[LossKind]:
        """Kinds of losses in use."""
        return frozenset(self.kinds.values())


def choose(parsed: Parsed[ModularConfig]) -> Choices:
    """Return what a command line amounts to; where flags contradict each other, the stronger one."""
    config = parsed.config
    strategy = config.freezing.freezing_strategy
    strength = strength_of(parsed)
    gradual = config.phases.gradual_finetuning and strategy != "none"
    task_weights = _task_weights(config)
    loss_function = _loss_function(config)
    kinds = _kinds(config, loss_function, task_weights)
    weighting = _weighting(config, loss_function)
    adjusted = frozenset(
        t for t, kind in kinds.items() if kind == "ce" and config.task_losses.logit_adjustment
    )
    sampler = config.sampling.use_class_balanced_sampler and not _unbalanced(config)
    return Choices(
        epochs=1 if shortened(parsed) else config.core.epochs,
        strategy=strategy,
        gradual=gradual,
        closed=strategy == "fixed" and not gradual,
        architecture=architecture(config.architecture.backbone_name),
        tasks=tuple(task_weights),
        task_weights=task_weights,
        loss_function=loss_function,
        kinds=kinds,
        adjusted=adjusted,
        weighted=_weighted(parsed, kinds, adjusted, weighting),
        weighting=weighting,
        sampler=sampler,
        progressive=sampler and config.progressive.progressive_class_balancing,
        smoothing=0.0 if config.modes.simple_training else config.task_weights.label_smoothing,
        strength=strength,
        augment=augment_values(parsed, strength),
        optimized=optimized(config),
    )


def _task_weights(config: ModularConfig) -> dict[str, float]:
    weights = dict(zip(MAIN_TASKS, config.task_weights.main_task_weights))
    share = config.task_weights.auxiliary_task_weight
    if share:
        weights |= {task: share for task in config.tasks.auxiliary_tasks if task != "none"}
    return weights


def _unbalanced(config: ModularConfig) -> bool:
    return config.modes.simple_training or config.modes.disable_class_balancing


def _loss_function(config: ModularConfig) -> LossFunction:
    name = config.loss.loss_function
    if config.modes.simple_training or (config.modes.disable_class_balancing and name == "weighted"):
        return "plain"
    return name


def _kinds(config: ModularConfig, loss_function: LossFunction, tasks: Collection[str]) -> dict[str, LossKind]:
    single = {task_name(word): kind for word, kind in config.task_losses.loss_types.items()}
    return {task: single.get(task, KINDS[loss_function]) for task in tasks}


def _weighting(config: ModularConfig, loss_function: LossFunction) -> WeightStrategy:
    if _unbalanced(config) or loss_function == "plain":
        return "none"
    return config.weighting.class_weighting_strategy


def _weighted(
    parsed: Parsed[ModularConfig],
    kinds: dict[str, LossKind],
    adjusted: frozenset[str],
    weighting: WeightStrategy,
) -> frozenset[str]:
    """Return the tasks with class weights.

    Margins and logit offsets correct the same shares: weights go with them only when asked for.
    """
    if weighting == "none":
        return frozenset()
    typed = "class_weighting_strategy" in parsed.typed
    forced = typed and parsed.config.balance.allow_overcorrection
    plain = {task for task, kind in kinds.items() if kind in WEIGHTABLE and (typed or task not in adjusted)}
    return frozenset(plain | {task for task, kind in kinds.items() if forced and kind == "ldam"})
