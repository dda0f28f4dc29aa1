"""The parts of a run's settings that follow from the choices alone."""

from __future__ import annotations

from pathlib import Path

from mvfouls.choices_modular import Choices
from mvfouls.config_modular import ModularConfig
from mvfouls.config_shared import task_name
from mvfouls.layout import find_split
from mvfouls.parts_shared import cache_of, channels_last, heads_of, policies_of
from mvfouls.settings import (
    BalanceSettings,
    DataSettings,
    HeadSpec,
    LossSettings,
    ModelSettings,
    Pixels,
    ViewSettings,
)

HIDDEN = 256
"""Hidden units of the default heads."""


def data_of(config: ModularConfig, choices: Choices, pixels: Pixels) -> DataSettings:
    """Return where the data are and how they are read. UserError when they are not there."""
    root = config.core.dataset_root
    return DataSettings(
        train=find_split(root, "train"),
        valid=find_split(root, "valid"),
        pixels=pixels,
        policies=policies_of(config),
        views=_views(config),
        cache=cache_of(config, Path(root), optimized=choices.optimized),
        junk_ids="modular" if config.labels.keep_junk_classes else None,
        soft=config.labels.soft_labels,
    )


def _views(config: ModularConfig) -> ViewSettings:
    if config.input.view_sampling == "random":
        return ViewSettings(max_clips=config.video.max_views, sampling="random")
    return ViewSettings(max_views=config.video.max_views)


def model_of(config: ModularConfig, choices: Choices, cuda: bool) -> ModelSettings:
    """Return the network; `cuda`: it runs on such a device."""
    compute, dropout = config.compute, config.features.dropout_rate
    return ModelSettings(
        backbone=choices.architecture.name,
        weights=config.backbone_weights.weights,
        weights_dir=config.backbone_weights.weights_dir,
        aggregation="attention" if config.video.attention_aggregation else "mean",
        heads=heads_of(config, choices.tasks, HeadSpec(kind="mlp", hidden=HIDDEN, dropout=dropout)),
        dropout=dropout,
        activation_checkpointing=compute.activation_checkpointing,
        channels_last=channels_last(config, choices.architecture, cuda=cuda),
        compile=compute.compile,
    )


def losses_of(config: ModularConfig, choices: Choices) -> dict[str, LossSettings]:
    """Return the loss of each task."""
    given = config.task_losses
    return {
        task: LossSettings(
            kind=kind,
            weighted=task in choices.weighted,
            gamma=config.loss.focal_gamma,
            smoothing=choices.smoothing,
            max_margin=given.ldam_max_m,
            scale=given.ldam_s,
            drw_start=given.ldam_drw_start if kind == "ldam" else None,
            adjustment=given.logit_adjustment_temperature if task in choices.adjusted else None,
            weight=choices.task_weights[task],
        )
        for task, kind in choices.kinds.items()
    }


def balance_of(config: ModularConfig, choices: Choices) -> BalanceSettings:
    """Return how rare classes are favoured."""
    progressive, cap = config.progressive, config.sampling.oversample_factor
    start, end, epochs = (
        (
            progressive.progressive_start_factor,
            progressive.progressive_end_factor,
            progressive.progressive_epochs,
        )
        if choices.progressive
        else (cap, cap, 1)
    )
    return BalanceSettings(
        sampler="factor" if choices.sampler else "shuffle",
        sampler_tasks=tuple(task_name(word) for word in config.balance.balance_tasks),
        factor_start=start,
        factor_end=end,
        factor_epochs=epochs,
        max_repeat=config.balance.max_repeat,
        strategy=choices.weighting,
        limit=config.weighting.max_weight_ratio,
        basis=config.balance.weight_basis,
        allow_overcorrection=config.balance.allow_overcorrection,
    )
