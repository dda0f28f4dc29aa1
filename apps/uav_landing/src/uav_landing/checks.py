"""Settings of a training run that contradict each other, are out of range, or cannot act."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from common.config import (
    NOT_NEGATIVE,
    POSITIVE,
    SHARE,
    Finding,
    Parsed,
    Range,
    UserError,
    has_no_effect,
    out_of_range,
)
from uav_landing.config import TrainConfig
from uav_landing.models.build import MODELS_WITH_AUXILIARY_HEADS
from uav_landing.weights import STRATEGIES, typed_weights

BATCH_ABOVE_ONE = frozenset(
    {"mmseg_bisenetv2", "deeplabv3_mobilenet_v3_large", "deeplabv3_resnet50", "deeplabv3plus_resnet50"}
)
MAIN_LOSS = frozenset({"loss", "gamma", "class_weights", "weight_cap", "focal_normalize"})
FRACTIONS = frozenset({"train_fraction", "val_fraction"})
LENGTHS = frozenset({"epochs", "max_steps", "max_images", "warmup_epochs"})
FIXED_SPLITS = frozenset({"official", "file"})
OVERLAP = Range(0, 0.9)
RANGES = {
    OVERLAP: ("tile_overlap",),
    Range(1): (
        "batch_size", "epochs", "accumulation_steps", "t_0", "t_mult", "crops_per_image", "tile_batch",
        "eval_every", "alarm_patience",
    ),
    POSITIVE: (
        "learning_rate", "max_memory_gb", "max_disk_gb", "width_multiplier", "scale_range",
        "rare_temperature",
    ),
    NOT_NEGATIVE: (
        "weight_decay", "grad_clip", "eta_min", "warmup_epochs", "workers", "max_images", "max_steps",
        "save_every_steps", "gamma", "focal_weight", "dice_weight", "aux_weight", "patience",
    ),
    Range(0, 1, below=True): ("ema_decay",),
    SHARE: (
        "pretrained_min_coverage", "rare_crop_fraction", "hflip_p", "rot90_p", "brightness_contrast_p",
        "color_jitter_p", "mosaic_p",
    ),
}  # fmt: skip


def check_training(parsed: Parsed[TrainConfig]) -> list[Finding]:
    """Return every error and warning about the settings themselves; data are not looked at."""
    config = parsed.config
    return [*out_of_range(config, RANGES), *_contradictions(config), *_without_effect(parsed)]


def _contradictions(config: TrainConfig) -> Iterator[Finding]:
    run, loss, model, crops = config.run, config.loss, config.model.model_type, config.crops
    if any(side <= 0 or side % 32 for side in crops.input_size):
        yield Finding("error", "--input-size: both multiples of 32")
    if crops.scale_range[0] > crops.scale_range[1]:
        yield Finding("error", "--scale-range: 0 < low <= high")
    if loss.weight_cap < 1 and loss.weight_cap != 0:
        yield Finding("error", "--weight-cap: 0, or at least 1")
    if config.optimizer.warmup_epochs >= max(run.epochs, 1):
        yield Finding("error", "--warmup-epochs: from 0 to below --epochs")
    if run.batch_size == 1 and model in BATCH_ABOVE_ONE:
        yield Finding(
            "error", f"--batch-size 1 with --model-type {model}: BatchNorm over one pixel; use 2 or more"
        )
    if loss.focal_weight == 0 and loss.dice_weight == 0:
        yield Finding("error", "--focal-weight 0 with --dice-weight 0 leaves no loss")
    if config.optimizer.scheduler == "onecycle" and config.optimizer.warmup_epochs:
        yield Finding("error", "--warmup-epochs with --scheduler onecycle: onecycle has its own rise")
    if not is_named(loss.class_weights):
        try:
            typed_weights(loss.class_weights, 4 if loss.void == "train" else 3)
        except UserError as error:
            yield Finding("error", str(error))
    if config.split.split_file is not None and config.split.split_mode != "file":
        mode = config.split.split_mode
        yield Finding("error", f"--split-file with --split-mode {mode}: add --split-mode file")


def _without_effect(parsed: Parsed[TrainConfig]) -> Iterator[Finding]:
    config, typed = parsed.config, parsed.typed
    loss, optimizer, model = config.loss, config.optimizer, config.model.model_type
    weights = " ".join(loss.class_weights)
    idle = {
        "gamma": (loss.loss != "balanced_focal", f"--loss {loss.loss} has no gamma"),
        "weight_cap": (weights not in STRATEGIES, f"--class-weights {weights} is used as it is"),
        "focal_normalize": (weights == "none", "--class-weights none makes both the same"),
        "width_multiplier": (model != "compact", f"--model-type {model} has one width"),
        "aux_weight": (
            model not in MODELS_WITH_AUXILIARY_HEADS,
            f"--model-type {model} has no auxiliary heads",
        ),
        "t_0": (optimizer.scheduler != "cosine_warm_restarts", f"--scheduler is {optimizer.scheduler}"),
        "t_mult": (optimizer.scheduler != "cosine_warm_restarts", f"--scheduler is {optimizer.scheduler}"),
        "eta_min": (optimizer.scheduler == "none", "--scheduler is none"),
        "pretrained_min_coverage": (config.model.pretrained_path == "none", "--pretrained-path is none"),
        "rare_temperature": (config.crops.rare_crop_fraction == 0, "--rare-crop-fraction is 0"),
        "hflip_p": (not config.crops.augment, "--no-augment"),
        "rot90_p": (not config.crops.augment, "--no-augment"),
        "brightness_contrast_p": (not config.crops.augment, "--no-augment"),
        "color_jitter_p": (not config.crops.augment, "--no-augment"),
        "alarm_patience": (not config.evaluation.alarms, "--no-alarms"),
        "stop_on_alarm": (not config.evaluation.alarms, "--no-alarms"),
        "wandb_project": (config.run.wandb_mode == "disabled", "--wandb-mode is disabled"),
        "split_seed": (config.split.split_mode not in {"random", "auto"}, "the split is not random"),
    }
    for name, (acts_not, reason) in idle.items():
        if name in typed and acts_not:
            yield Finding("warning", has_no_effect(name, reason))
    for names, overruled, reason in _overruled(config):
        for name in sorted(typed & names if overruled else ()):
            yield Finding("warning", has_no_effect(name, reason))


def _overruled(config: TrainConfig) -> Iterator[tuple[frozenset[str], bool, str]]:
    """Yield flags that one other setting overrules together, whether it does, and how that is said."""
    heads = config.model.model_type in MODELS_WITH_AUXILIARY_HEADS and config.loss.aux_weight > 0
    yield MAIN_LOSS, config.loss.focal_weight == 0 and not heads, "--focal-weight is 0"
    mode = config.split.split_mode
    yield FRACTIONS, mode in FIXED_SPLITS, f"--split-mode {mode} names the photos of each part"
    yield LENGTHS, config.run.test_run, "--test-run sets it"


def is_named(weights: tuple[str, ...]) -> bool:
    """Return whether `--class-weights` is one of its words and not a list of numbers."""
    return len(weights) == 1 and weights[0] in ("guide", "none", *STRATEGIES)


def shortened(config: TrainConfig) -> TrainConfig:
    """Return the settings that `--test-run` stands for, or `config` itself."""
    if not config.run.test_run:
        return config
    run = replace(config.run, epochs=1, max_steps=2, max_images=2)
    optimizer = replace(config.optimizer, warmup_epochs=0.0)
    return replace(config, run=run, optimizer=optimizer)
