"""Why flags that both training command lines have may be typed and cannot act."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator

from common.config import Finding, has_no_effect
from mvfouls.architectures import Architecture
from mvfouls.augment_presets import AugmentValues
from mvfouls.choices_shared import MEASURED, optimized
from mvfouls.config_both import BothConfig
from mvfouls.config_groups import AdaptiveConfig, AdvancedConfig

Rule = tuple[tuple[str, ...], str, bool]
"""Flags, why they cannot act, and whether that is so."""
EMERGENCY = ("emergency_unfreeze_epoch", "min_unfreeze_layers", "emergency_unfreeze_gradual")
ADAPTIVE = tuple(vars(AdaptiveConfig()))
ADVANCED = tuple(name for name in vars(AdvancedConfig()) if name != "gradient_momentum")
LDAM = ("ldam_max_m", "ldam_s", "ldam_drw_start")


def told(rules: Iterable[Rule], typed: Collection[str]) -> Iterator[Finding]:
    """Yield a warning for each typed flag that cannot act; of several reasons the last one counts."""
    found: dict[str, str] = {}
    for names, reason, idle in rules:
        found |= {name: reason for name in names if idle and name in typed}
    yield from (Finding("warning", has_no_effect(name, reason)) for name, reason in found.items())


def loading_rules(config: BothConfig, *, cuda: bool) -> Iterator[Rule]:
    """Yield the rules about loading; `cuda`: the run uses such a device."""
    loading = config.loading
    alone = loading.num_workers == 0
    yield ("prefetch_factor",), "--num-workers is 0", alone
    yield ("worker_timeout",), "--num-workers is 0", alone and loading.worker_timeout > 0
    yield ("pin_memory",), "no CUDA device is used", loading.pin_memory and not cuda
    yield ("cache_dir", "cache_format"), "data optimisation is off", not optimized(config)
    optimizer = config.optimization.optimizer
    yield ("momentum",), f"--optimizer is {optimizer}", optimizer != "sgd"


def loss_rules(config: BothConfig, kinds: Collection[str]) -> Iterator[Rule]:
    """Yield the rules about losses of the `kinds` in use."""
    adjustment = config.task_losses.logit_adjustment
    yield ("focal_gamma",), "no task has the loss focal", "focal" not in kinds
    yield LDAM, "no task has the loss ldam", "ldam" not in kinds
    yield ("logit_adjustment",), "no task has the loss ce", adjustment and "ce" not in kinds
    yield ("logit_adjustment_temperature",), "--logit-adjustment is off", not adjustment


def strategy_rules(config: BothConfig, strategy: str, reason: str) -> Iterator[Rule]:
    """Yield the rules about flags that belong to some freezing strategies."""
    rest = ("emergency_unfreeze_epoch", "emergency_unfreeze_gradual")
    yield rest, "--min-unfreeze-layers is 0", config.emergency.min_unfreeze_layers == 0
    yield EMERGENCY, reason, strategy not in ("adaptive", *MEASURED)
    yield ("validation_plateau_patience",), reason, strategy not in MEASURED
    yield ADAPTIVE, reason, strategy != "adaptive"
    yield ("importance_threshold", "sampling_epochs"), reason, strategy != "gradient_guided"
    paced = ("unfreeze_patience", "max_layers_per_step")
    yield paced, reason, strategy not in ("progressive", *MEASURED)
    yield ("rollback_patience",), "--no-enable-rollback", not config.advanced.enable_rollback
    yield ADVANCED, reason, strategy != "advanced"
    yield ("gradient_momentum", "probe_batches"), reason, strategy not in MEASURED


def rest_rules(
    config: BothConfig, values: AugmentValues, network: Architecture, tasks: Collection[str]
) -> Iterator[Rule]:
    """Yield the rules about augmentation, files, memory, tests, the network and the projection."""
    still = values.crop == 1 and values.colour == 0 and values.frame_dropout == 0
    on_device = config.device_augmentation.gpu_augmentation
    yield ("gpu_augmentation",), "crop, colour and frame dropout are off", on_device and still
    yield ("weights_dir",), "--weights is not auto", config.backbone_weights.weights != "auto"
    smaller = ("oom_reduction_factor", "min_batch_size")
    yield smaller, "--no-enable-oom-recovery", not config.out_of_memory.enable_oom_recovery
    yield ("test_batches",), "--test-run is off", not config.testing.test_run
    changed = config.run.allow_config_change and config.saving.resume is None
    yield ("allow_config_change",), "--resume is not given", changed
    foreign = config.compute.channels_last is True and network.family != "conv"
    yield ("channels_last",), f"{network.name} is no convolutional network", foreign
    answered = "offence_severity" in tasks
    yield ("between_policy", "borderline_policy"), "the task offence_severity answers it", answered
