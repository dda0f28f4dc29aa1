"""What the switches of `train_with_class_weights.py` amount to, whichever flag said it."""

from __future__ import annotations

from dataclasses import dataclass

from common.config import Parsed
from mvfouls.architectures import ARCHITECTURES, WEIGHTS_CLASSES, Architecture, architecture
from mvfouls.augment_presets import AugmentValues, Strength
from mvfouls.choices_shared import WEIGHTABLE, augment_values, optimized, shortened, strength_of
from mvfouls.config_class_weights import ClassWeightsConfig, FreezeMode
from mvfouls.config_shared import task_name
from mvfouls.json_flags import read_class_weights, read_task_weights
from mvfouls.labels import task_labels
from mvfouls.openings import Schedule, given_schedule, usual_schedule
from mvfouls.settings import LossKind, SamplerKind, WeightStrategy

MULTI_TASKS = ("severity", "action_class", "offence")
"""In the order of `train_modular.py`: heads draw their first weights one after the other."""
SINGLE_TASKS = {2: "offence", 3: "offence", 4: "offence_severity", 5: "severity", 8: "action_class"}
"""Task that --num-classes means."""
USUAL_KINDS: dict[str, LossKind] = {"severity": "focal"}
"""Losses nobody asked for; ce where nothing is said."""
CORE_TASKS, SUPPORT_TASKS = ("action_class", "severity"), ("offence",)
OPENING_MODES = ("gradual", "fixed", "adaptive", "progressive", "gradient_guided", "advanced")
"""Freeze modes under which blocks open during the run."""

Source = Parsed[ClassWeightsConfig]


@dataclass(frozen=True, kw_only=True)
class Choices:
    """The effective choices of one command line."""

    epochs: int
    mode: FreezeMode
    schedule: Schedule
    """`gradual`: when blocks open."""
    network: Architecture
    weights_classes: int | None
    """Classes that the head of the weights file must have."""
    classes: dict[str, int]
    """Number of classes of each task; its order is that of the tasks."""
    undecided: bool
    """Between is a class of offence."""
    task_weights: dict[str, float]
    kinds: dict[str, LossKind]
    adjusted: frozenset[str]
    """Tasks whose logits are adjusted."""
    weighted: frozenset[str]
    """Tasks with class weights."""
    given: dict[str, tuple[float, ...]]
    """Class weights that were typed."""
    weighting: WeightStrategy
    sampler: SamplerKind
    sampler_tasks: tuple[str, ...]
    dynamic_task: str
    strength: Strength
    augment: AugmentValues
    optimized: bool
    """Data loading is optimised."""
    metric: str
    """Chooses the best model."""
    metric_typed: bool

    @property
    def tasks(self) -> tuple[str, ...]:
        """Tasks in their order."""
        return tuple(self.classes)

    @property
    def opens(self) -> bool:
        """Whether blocks open during the run."""
        return self.mode in OPENING_MODES

    @property
    def computed(self) -> frozenset[str]:
        """Tasks whose class weights follow from counts."""
        return self.weighted - self.given.keys()


def choose(parsed: Source) -> Choices:
    """Return what a command line amounts to; where flags contradict each other, the stronger one.

    UserError for JSON that cannot be read.
    """
    config = parsed.config
    network = architecture(ARCHITECTURES[config.architecture.backbone_arch])
    classes = _classes(config)
    kinds = _kinds(parsed, classes)
    sampler = _sampler(config)
    adjusted = frozenset(
        task for task, kind in kinds.items() if kind == "ce" and config.task_losses.logit_adjustment
    )
    text = config.weighting.task_class_weights
    given = {} if text is None else read_class_weights("--task-class-weights", text, classes)
    weighted = _weighted(config, kinds, adjusted, sampler) | given.keys()
    mode = "freeze_all" if config.freezing.disable_gradual_unfreezing else config.freezing.freeze_mode
    strength = strength_of(parsed)
    epochs = 1 if shortened(parsed) else config.core.epochs
    return Choices(
        epochs=epochs,
        mode=mode,
        schedule=_schedule(parsed, mode, network, epochs),
        network=network,
        weights_classes=WEIGHTS_CLASSES.get(config.architecture.backbone_arch),
        classes=classes,
        undecided=_undecided(config),
        task_weights=_task_weights(config, classes),
        kinds=kinds,
        adjusted=adjusted,
        weighted=weighted,
        given=given,
        weighting=_weighting(config, weighted - given.keys()),
        sampler=sampler,
        sampler_tasks=_sampler_tasks(parsed, sampler, classes),
        dynamic_task=_dynamic_task(parsed, classes),
        strength=strength,
        augment=augment_values(parsed, strength),
        optimized=optimized(config),
        metric=_metric(parsed),
        metric_typed=not parsed.typed.isdisjoint({"checkpoint_metric", "selection_metric"}),
    )


def _undecided(config: ClassWeightsConfig) -> bool:
    return config.core.multi_task or config.core.num_classes != 2


def _classes(config: ClassWeightsConfig) -> dict[str, int]:
    if config.core.multi_task:
        others = [task_name(word) for word in config.tasks.auxiliary_tasks if word != "none"]
        tasks = tuple(dict.fromkeys([*MULTI_TASKS, *others]))
    else:
        tasks = (SINGLE_TASKS[config.core.num_classes],)
    junk = "class_weights" if config.labels.keep_junk_classes else None
    return {
        task: len(task_labels(task, junk, undecided=_undecided(config)).classes)  # type: ignore[arg-type]
        for task in tasks
    }


def _kinds(parsed: Source, classes: dict[str, int]) -> dict[str, LossKind]:
    config = parsed.config.task_losses
    if config.loss_type is not None:
        return dict.fromkeys(classes, config.loss_type)
    single = {task_name(word): kind for word, kind in config.loss_types.items()}
    return {task: single.get(task, USUAL_KINDS.get(task, "ce")) for task in classes}


def _task_weights(config: ClassWeightsConfig, classes: dict[str, int]) -> dict[str, float]:
    given = config.task_weights
    if given.use_smart_weighting:
        roles = dict.fromkeys(CORE_TASKS, given.core_task_weight)
        roles |= dict.fromkeys(SUPPORT_TASKS, given.support_task_weight)
        weights = {task: roles.get(task, given.context_task_weight) for task in classes}
    else:
        primary = {task_name(word) for word in given.primary_tasks}
        weights = {
            task: given.primary_task_weight if task in primary else given.auxiliary_task_weight
            for task in classes
        }
    text = given.task_loss_weights
    return weights if text is None else weights | read_task_weights("--task-loss-weights", text, classes)


def _sampler(config: ClassWeightsConfig) -> SamplerKind:
    sampling = config.sampling
    if sampling.joint_severity_sampling:
        return "joint"
    if sampling.balanced_sampling:
        return "mixture"
    return "dynamic" if sampling.dynamic_sampler else "shuffle"


def _sampler_tasks(parsed: Source, sampler: SamplerKind, classes: dict[str, int]) -> tuple[str, ...]:
    if sampler == "joint":
        return ("action_class", "severity")
    named = tuple(task_name(word) for word in parsed.config.balance.balance_tasks)
    if "balance_tasks" in parsed.typed:
        return named
    return tuple(task for task in classes if task in named) or tuple(classes)


def _dynamic_task(parsed: Source, classes: dict[str, int]) -> str:
    named = task_name(parsed.config.sampling.dynamic_sampler_task)
    typed = "dynamic_sampler_task" in parsed.typed
    return named if typed or named in classes else next(iter(classes))


def _weighted(
    config: ClassWeightsConfig, kinds: dict[str, LossKind], adjusted: frozenset[str], sampler: SamplerKind
) -> frozenset[str]:
    """Return the tasks whose class weights are computed.

    Margins, logit offsets and samplers correct the same shares: weights go with them only when asked for.
    """
    forced = config.weighting.enable_class_weights
    if config.weighting.disable_class_weights or (sampler != "shuffle" and not forced):
        return frozenset()
    plain = {task for task, kind in kinds.items() if kind in WEIGHTABLE and (forced or task not in adjusted)}
    both = forced and config.balance.allow_overcorrection
    return frozenset(plain | {task for task, kind in kinds.items() if both and kind == "ldam"})


def _weighting(config: ClassWeightsConfig, computed: frozenset[str]) -> WeightStrategy:
    if not computed:
        return "none"
    return "effective_number" if config.weighting.effective_class_weights else "balanced"


def _schedule(parsed: Source, mode: FreezeMode, network: Architecture, epochs: int) -> Schedule:
    text = parsed.config.freezing.unfreeze_schedule
    if text is not None:
        given = given_schedule(text, network, None if shortened(parsed) else epochs)
        return given if mode == "gradual" else ()
    return usual_schedule(network, epochs) if mode == "gradual" else ()


def _metric(parsed: Source) -> str:
    other = "selection_metric" in parsed.typed and "checkpoint_metric" not in parsed.typed
    return parsed.config.judging.selection_metric if other else parsed.config.evaluation.checkpoint_metric
