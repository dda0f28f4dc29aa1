"""From the command line of `train_with_class_weights.py` to the settings of a run."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from common.config import UserError
from common.engine.settings import FitConfig, OptimizerConfig
from common.freezing.blocks import Block
from common.freezing.rates import RateConfig
from common.freezing.strategies import FreezingConfig, timetable
from common.schedulers.learning_rate import ScheduleConfig
from mvfouls.adaptation import Lines, Phases, settle_phases
from mvfouls.choices_class_weights import Choices, Source, choose
from mvfouls.config_class_weights import ClassWeightsConfig
from mvfouls.layout import DATA_SET
from mvfouls.notes_class_weights import notes_of
from mvfouls.openings import open_blocks, rate_multipliers
from mvfouls.parts_shared import (
    augment_of,
    cache_of,
    channels_last,
    freezing_of,
    heads_of,
    joined,
    judge_of,
    loader_of,
    pixels_of,
    policies_of,
)
from mvfouls.settings import (
    BalanceSettings,
    DataSettings,
    HeadSpec,
    LossSettings,
    ModelSettings,
    Pixels,
    RunSettings,
    SplitSource,
    TaskWeighting,
    ViewSettings,
)

EFFECTIVE_BETA = 0.9999


def resolve(parsed: Source, *, cuda: bool = False, processes: int = 1) -> RunSettings:
    """Return the settings of a run; `cuda`: it runs on such a device; `processes` train together.

    UserError for a batch that does not divide among the processes, JSON that cannot be read, and values no
    run can have; everything else that is odd is for `check_class_weights`.
    """
    try:
        return _settings(parsed, choose(parsed), cuda, processes)
    except UserError:
        raise
    except ValueError as error:
        raise UserError(str(error)) from error


def _settings(parsed: Source, choices: Choices, cuda: bool, processes: int) -> RunSettings:
    config, evaluation = parsed.config, parsed.config.evaluation
    pixels, pixel_lines = pixels_of(parsed, choices.network)
    freezing, freezing_lines = _freezing(parsed, choices)
    judge, judge_lines = judge_of(
        config,
        choices.tasks,
        choices.metric,
        typed=choices.metric_typed,
        batches=evaluation.eval_batches,
        save_logits=evaluation.save_val_logits,
    )
    reduces = config.freezing.reduce_batch_on_unfreeze and choices.opens
    loader, loader_lines = loader_of(
        config,
        config.core.batch_size,
        optimized=choices.optimized,
        cuda=cuda,
        processes=processes,
        unfreeze_batch=config.freezing.unfreeze_batch_size if reduces else None,
    )
    rates, rate_lines = _rates(parsed, choices)
    lines = (pixel_lines, freezing_lines, rate_lines, judge_lines, loader_lines)
    return RunSettings(
        frontend="class_weights",
        data=_data(config, choices, pixels),
        augment=augment_of(config, choices.augment),
        model=_model(config, choices, cuda),
        losses=_losses(config, choices),
        balance=_balance(config, choices),
        task_weighting=_task_weighting(config),
        freezing=freezing,
        rates=rates,
        judge=judge,
        loader=loader,
        fit=_fit(config, choices, rates),
        probe_batches=config.compute.probe_batches,
        seed=config.core.seed,
        device=config.run.device,
        deterministic=config.run.deterministic,
        save_dir=config.saving.output_dir,
        overwrite=config.run.overwrite,
        resume=config.saving.resume,
        resume_best=config.saving.resume_best_acc,
        allow_config_change=config.run.allow_config_change,
        test_run=config.testing.test_run,
        wandb=config.run.wandb,
        notes=(*notes_of(parsed, choices), *joined(lines)),
    )


def _data(config: ClassWeightsConfig, choices: Choices, pixels: Pixels) -> DataSettings:
    splits = config.splits
    return DataSettings(
        train=SplitSource(name="train", folder=splits.train_dir, annotations=splits.train_annotations),
        valid=SplitSource(name="valid", folder=splits.val_dir, annotations=splits.val_annotations),
        pixels=pixels,
        policies=policies_of(config),
        views=_views(config),
        cache=cache_of(config, data_root(splits.train_dir), optimized=choices.optimized),
        junk_ids="class_weights" if config.labels.keep_junk_classes else None,
        undecided=choices.undecided,
        soft=config.labels.soft_labels,
        train_fraction=splits.train_fraction,
    )


def data_root(folder: Path) -> Path:
    """Return the root of the data set with a split in `folder`, where `mvfouls prepare` puts its store."""
    parent = folder.parent
    return parent.parent if parent.name.casefold() == DATA_SET else parent


def _views(config: ClassWeightsConfig) -> ViewSettings:
    bags = config.bags
    if not bags.bag_of_clips:
        return ViewSettings(bags=False)
    if bags.clip_sampling_strategy == "all":
        return ViewSettings(min_clips=bags.min_clips_per_action)
    first = config.input.view_sampling == "first"
    return ViewSettings(
        max_clips=bags.max_clips_per_action,
        min_clips=bags.min_clips_per_action,
        sampling="first" if first else bags.clip_sampling_strategy,
    )


def _model(config: ClassWeightsConfig, choices: Choices, cuda: bool) -> ModelSettings:
    bags, compute = config.bags, config.compute
    pooling = bags.clip_pooling_type if bags.bag_of_clips else "mean"
    linear = HeadSpec(kind="linear", dropout=config.heads.head_dropout)
    return ModelSettings(
        backbone=choices.network.name,
        weights=config.backbone_weights.weights,
        weights_dir=config.backbone_weights.weights_dir,
        weights_classes=choices.weights_classes,
        aggregation=pooling,
        temperature=bags.clip_pooling_temperature if pooling == "attention" else 1.0,
        heads=heads_of(config, choices.tasks, linear),
        dropout=config.features.dropout_rate,
        activation_checkpointing=(
            compute.activation_checkpointing or config.architecture.backbone_checkpointing
        ),
        channels_last=channels_last(config, choices.network, cuda=cuda),
        compile=compute.compile,
    )


def _losses(config: ClassWeightsConfig, choices: Choices) -> dict[str, LossSettings]:
    given = config.task_losses
    return {
        task: LossSettings(
            kind=kind,
            weighted=task in choices.weighted,
            class_weights=choices.given.get(task),
            gamma=given.focal_gamma,
            smoothing=given.label_smoothing,
            max_margin=given.ldam_max_m,
            scale=given.ldam_s,
            drw_start=given.ldam_drw_start if kind == "ldam" else None,
            adjustment=given.logit_adjustment_temperature if task in choices.adjusted else None,
            weight=choices.task_weights[task],
        )
        for task, kind in choices.kinds.items()
    }


def _balance(config: ClassWeightsConfig, choices: Choices) -> BalanceSettings:
    balance = BalanceSettings(
        sampler=choices.sampler,
        max_repeat=config.balance.max_repeat,
        basis=config.balance.weight_basis,
        allow_overcorrection=config.balance.allow_overcorrection,
    )
    if choices.sampler in ("mixture", "joint"):
        balance = replace(balance, sampler_tasks=choices.sampler_tasks)
    if choices.sampler == "dynamic":
        power = config.sampling.dynamic_sampler_power
        balance = replace(balance, dynamic_task=choices.dynamic_task, dynamic_power=power)
    if choices.weighting == "none":
        return balance
    balance = replace(
        balance,
        strategy=choices.weighting,
        limit=config.weighting.class_weight_cap,
        limit_rule="value",
    )
    effective = choices.weighting == "effective_number"
    return replace(balance, beta=EFFECTIVE_BETA) if effective else balance


def _task_weighting(config: ClassWeightsConfig) -> TaskWeighting:
    given = config.task_weights
    if not (given.adaptive_weights and config.core.multi_task):
        return TaskWeighting()
    return TaskWeighting(strategy=given.weighting_strategy, source=given.task_weight_source)


def _freezing(parsed: Source, choices: Choices) -> tuple[FreezingConfig, Lines]:
    wanted, mode = Phases(), choices.mode
    usual = FreezingConfig().unfreeze_blocks
    if mode == "gradual":
        config = freezing_of(parsed, "schedule", wanted, blocks=usual)
        return replace(config, schedule=choices.schedule), ()
    if mode in ("fixed", "progressive"):
        phases, lines = settle_phases(wanted, choices.epochs, ())
        config = freezing_of(parsed, mode, phases, blocks=usual)
        return (_listed(config, choices) if mode == "fixed" else config), lines
    if mode in ("none", "adaptive", "gradient_guided", "advanced"):
        return freezing_of(parsed, mode, wanted, blocks=usual), ()
    kept = open_blocks(mode, choices.network)
    return freezing_of(parsed, "closed", wanted, blocks=usual, open_blocks=kept), ()


def _listed(fixed: FreezingConfig, choices: Choices) -> FreezingConfig:
    """Return the same openings as a list: the phases of `fixed` would bring rates of their own."""
    blocks = [Block(name, (name,), ()) for name in choices.network.blocks]
    times = timetable(fixed, blocks, choices.epochs)
    return replace(fixed, strategy="schedule", schedule=tuple(times))


def _rates(parsed: Source, choices: Choices) -> tuple[RateConfig, Lines]:
    """Return one rate for the heads and one for every block, whatever is open."""
    core, freezing = parsed.config.core, parsed.config.freezing
    head = core.lr if core.head_lr is None else core.head_lr
    backbone = core.lr if core.backbone_lr is None else core.backbone_lr
    rates = RateConfig(
        lr=backbone,
        head_lr=head,
        backbone_lr=backbone,
        gradual=False,
        warmup_epochs=parsed.config.gradient_guided.warmup_epochs,
    )
    if head != backbone:
        rates = replace(rates, discriminative=True, layer_decay=1.0)
    if not (freezing.adaptive_lr and choices.opens):
        return rates, ()
    multipliers = rate_multipliers(
        choices.network,
        minor=freezing.lr_scale_minor,
        major=freezing.lr_scale_major,
        massive=freezing.lr_scale_massive,
    )
    told = " ".join(f"{name} x{factor:g}" for name, factor in multipliers)
    return replace(rates, multipliers=multipliers), (f"rates of opened blocks: {told}",)


def _fit(config: ClassWeightsConfig, choices: Choices, rates: RateConfig) -> FitConfig:
    step, memory, evaluation = config.optimization, config.out_of_memory, config.evaluation
    stops = evaluation.early_stopping and not config.testing.test_run
    return FitConfig(
        epochs=choices.epochs,
        accumulation_steps=config.core.gradient_accumulation_steps,
        optimizer=OptimizerConfig(
            name=step.optimizer,
            lr=rates.lr,
            weight_decay=config.core.weight_decay,
            momentum=step.momentum,
        ),
        schedule=_schedule(config, choices),
        precision="bf16" if step.mixed_precision else "fp32",
        clip_norm=step.gradient_clip_norm,
        max_rollbacks=0,
        ema_decay=config.compute.ema_decay,
        early_stopping_patience=evaluation.early_stopping_patience if stops else None,
        early_stopping_min_delta=evaluation.early_stopping_min_delta if stops else 0.0,
        validate_every=evaluation.eval_freq,
        oom_recovery=memory.enable_oom_recovery,
        oom_reduction_factor=memory.oom_reduction_factor,
        min_batch_size=memory.min_batch_size,
    )


def _schedule(config: ClassWeightsConfig, choices: Choices) -> ScheduleConfig:
    given, warmup = config.schedule, config.schedule.scheduler_warmup_epochs
    warmup = min(warmup, choices.epochs - 1)
    if given.lr_scheduler == "cosine":
        return ScheduleConfig(name="cosine", warmup_epochs=warmup, min_lr=given.min_lr)
    return ScheduleConfig(
        name="reduce_on_plateau",
        warmup_epochs=warmup,
        min_lr=given.plateau_min_lr,
        plateau_patience=given.plateau_patience,
        plateau_factor=given.plateau_factor,
        plateau_threshold=given.plateau_threshold,
    )
