"""Settings of a training run that contradict each other, are out of range, or cannot act."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

from common.config import Finding, Parsed, UserError, has_no_effect
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


def check_training(parsed: Parsed[TrainConfig]) -> list[Finding]:
    """Return every error and warning about the settings themselves; data are not looked at."""
    return [*_ranges(parsed.config), *_contradictions(parsed.config), *_without_effect(parsed)]


def _ranges(config: TrainConfig) -> Iterator[Finding]:
    run, crops, loss, optimizer = config.run, config.crops, config.loss, config.optimizer
    low, high = crops.scale_range
    rules = {
        "--batch-size: at least 1": run.batch_size >= 1,
        "--epochs: at least 1": run.epochs >= 1,
        "--accumulation-steps: at least 1": run.accumulation_steps >= 1,
        "--learning-rate: greater than 0": optimizer.learning_rate > 0,
        "--weight-decay: not negative": optimizer.weight_decay >= 0,
        "--grad-clip: not negative": optimizer.grad_clip >= 0,
        "--eta-min: not negative": optimizer.eta_min >= 0,
        "--t-0, --t-mult: at least 1": optimizer.t_0 >= 1 and optimizer.t_mult >= 1,
        "--warmup-epochs: from 0 to below --epochs": 0 <= optimizer.warmup_epochs < max(run.epochs, 1),
        "--max-memory-gb: greater than 0": run.max_memory_gb > 0,
        "--max-disk-gb: greater than 0": config.store.max_disk_gb > 0,
        "--workers: not negative": run.workers >= 0,
        "--max-images, --max-steps, --save-every-steps: not negative": min(
            run.max_images, run.max_steps, run.save_every_steps
        )
        >= 0,
        "--width-multiplier: greater than 0": config.model.width_multiplier > 0,
        "--pretrained-min-coverage: from 0 to 1": 0 <= config.model.pretrained_min_coverage <= 1,
        "--input-size: both multiples of 32": all(n > 0 and n % 32 == 0 for n in crops.input_size),
        "--crops-per-image: at least 1": crops.crops_per_image >= 1,
        "--scale-range: 0 < low <= high": 0 < low <= high,
        "--rare-crop-fraction: from 0 to 1": 0 <= crops.rare_crop_fraction <= 1,
        "--rare-temperature: greater than 0": crops.rare_temperature > 0,
        "--hflip-p, --rot90-p, --brightness-contrast-p, --color-jitter-p, --mosaic-p: from 0 to 1": all(
            0 <= p <= 1
            for p in (
                crops.hflip_p,
                crops.rot90_p,
                crops.brightness_contrast_p,
                crops.color_jitter_p,
                crops.mosaic_p,
            )
        ),
        "--ema-decay: from 0 to below 1": 0 <= optimizer.ema_decay < 1,
        "--gamma: not negative": loss.gamma >= 0,
        "--weight-cap: 0, or at least 1": loss.weight_cap == 0 or loss.weight_cap >= 1,
        "--focal-weight, --dice-weight, --aux-weight: not negative": min(
            loss.focal_weight, loss.dice_weight, loss.aux_weight
        )
        >= 0,
        "--tile-overlap: from 0 to 0.9": 0 <= config.evaluation.tile_overlap <= 0.9,
        "--tile-batch, --eval-every, --alarm-patience: at least 1": min(
            config.evaluation.tile_batch, config.evaluation.eval_every, config.evaluation.alarm_patience
        )
        >= 1,
        "--patience: not negative": config.evaluation.patience >= 0,
    }
    yield from (Finding("error", text) for text, holds in rules.items() if not holds)


def _contradictions(config: TrainConfig) -> Iterator[Finding]:
    run, loss, model = config.run, config.loss, config.model.model_type
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
