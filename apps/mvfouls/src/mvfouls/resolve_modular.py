"""From the command line of `train_modular.py` to the settings of a run; what was adapted is told in notes."""

from __future__ import annotations

from dataclasses import replace

from common.config import Parsed, UserError
from common.engine.settings import FitConfig, OptimizerConfig
from common.freezing.rates import RateConfig
from common.freezing.strategies import FreezingConfig, Strategy
from common.schedulers.learning_rate import ScheduleConfig
from mvfouls.adaptation import (
    Lines,
    Phases,
    auto_patience,
    settle_phases,
    settle_warmup,
)
from mvfouls.choices_modular import Choices, choose
from mvfouls.config_modular import CoreConfig, ModularConfig
from mvfouls.notes_modular import notes_of
from mvfouls.parts_modular import balance_of, data_of, losses_of, model_of
from mvfouls.parts_shared import augment_of, freezing_of, joined, judge_of, loader_of, pixels_of
from mvfouls.settings import RunSettings

ONECYCLE_RISE = 0.3
Source = Parsed[ModularConfig]


def resolve(parsed: Source, *, cuda: bool = False, processes: int = 1) -> RunSettings:
    """Return the settings of a run; `cuda`: it runs on such a device; `processes` train together.

    UserError for a data set that is not there, a batch that does not divide among the processes, and values
    no run can have; everything else that is odd is for `check_modular`.
    """
    try:
        return _settings(parsed, choose(parsed), cuda, processes)
    except UserError:
        raise
    except ValueError as error:
        raise UserError(str(error)) from error


def _settings(parsed: Source, choices: Choices, cuda: bool, processes: int) -> RunSettings:
    config = parsed.config
    pixels, pixel_lines = pixels_of(parsed, choices.architecture)
    phases, phase_lines = phases_of(parsed, choices)
    schedule, schedule_lines = _schedule(parsed, choices)
    rates, rate_lines = _rates(parsed, choices)
    typed = "selection_metric" in parsed.typed
    judge, judge_lines = judge_of(config, choices.tasks, config.judging.selection_metric, typed=typed)
    loader, loader_lines = loader_of(
        config, config.core.batch_size, optimized=choices.optimized, cuda=cuda, processes=processes
    )
    patience, patience_lines = _patience(parsed, choices, phases)
    lines = (pixel_lines, phase_lines, schedule_lines, rate_lines, judge_lines, loader_lines)
    return RunSettings(
        frontend="modular",
        data=data_of(config, choices, pixels),
        augment=augment_of(config, choices.augment),
        model=model_of(config, choices, cuda),
        losses=losses_of(config, choices),
        balance=balance_of(config, choices),
        freezing=_freezing(parsed, choices, phases),
        rates=rates,
        judge=judge,
        loader=loader,
        fit=_fit(config, choices, schedule, patience),
        probe_batches=config.compute.probe_batches,
        seed=config.core.seed,
        device=config.run.device,
        deterministic=config.run.deterministic,
        save_dir=config.saving.save_dir,
        overwrite=config.run.overwrite,
        resume=config.saving.resume,
        resume_best=config.saving.resume_best_acc,
        allow_config_change=config.run.allow_config_change,
        test_run=config.testing.test_run,
        wandb=config.run.wandb,
        notes=(*notes_of(parsed, choices), *joined(lines), *patience_lines),
    )


def phases_of(parsed: Source, choices: Choices) -> tuple[Phases, Lines]:
    """Return the phases of a timed strategy, and what was changed to make them fit."""
    wanted = Phases(first=parsed.config.phases.phase1_epochs, second=parsed.config.phases.phase2_epochs)
    if not choices.timed:
        return wanted, ()
    typed = parsed.typed if choices.strategy == "fixed" else parsed.typed - {"phase2_epochs"}
    phases, lines = settle_phases(wanted, choices.epochs, typed)
    rest = choices.epochs - phases.first - phases.second
    if choices.strategy == "fixed" and rest > 0 and not typed.isdisjoint({"phase1_epochs", "phase2_epochs"}):
        lines += (f"phase 2 is extended by {rest} epochs with the same blocks open",)
    return phases, lines


def warmup_of(parsed: Source, choices: Choices) -> tuple[int, Lines]:
    """Return the epochs of linear warm-up before the schedule, and what to tell about them."""
    scheduling, wanted = parsed.config.scheduling, parsed.config.features.lr_warmup
    off = scheduling.scheduler == "none" and wanted == "auto"
    if off or wanted is False or scheduling.scheduler == "onecycle":
        return 0, ()
    typed = "scheduler_warmup_epochs" in parsed.typed
    return settle_warmup(scheduling.scheduler_warmup_epochs, choices.epochs, typed=typed)


def _freezing(parsed: Source, choices: Choices, phases: Phases) -> FreezingConfig:
    opened = parsed.config.rates.unfreeze_blocks
    strategy: Strategy = "closed" if choices.closed else choices.strategy
    kept = opened if choices.closed else 0
    return freezing_of(parsed, strategy, phases, blocks=opened, open_blocks=kept)


def _rates(parsed: Source, choices: Choices) -> tuple[RateConfig, Lines]:
    config, base = parsed.config, CoreConfig().lr
    scale = config.core.lr / base
    head = config.rates.head_lr * (1 if "head_lr" in parsed.typed else scale)
    backbone = config.rates.backbone_lr * (1 if "backbone_lr" in parsed.typed else scale)
    rates = RateConfig(
        lr=config.core.lr,
        head_lr=head,
        backbone_lr=backbone,
        gradual=choices.gradual,
        discriminative=config.features.discriminative_lr,
        warmup_epochs=config.gradient_guided.warmup_epochs,
        **vars(config.phase2),
        **vars(config.phase1_plateau),
    )
    used = choices.gradual or config.features.discriminative_lr
    if (head, backbone) == (config.rates.head_lr, config.rates.backbone_lr) or not used:
        return rates, ()
    return rates, (
        f"rates {head:g} of heads and {backbone:g} of blocks: they follow --lr {config.core.lr:g}",
    )


def _schedule(parsed: Source, choices: Choices) -> tuple[ScheduleConfig, Lines]:
    config, name = parsed.config, parsed.config.scheduling.scheduler
    values = config.scheduler_parameters
    warmup, lines = warmup_of(parsed, choices)
    rise = ONECYCLE_RISE
    if "scheduler_warmup_epochs" in parsed.typed:
        rise = min(1.0, config.scheduling.scheduler_warmup_epochs / choices.epochs)
    schedule = ScheduleConfig(
        name=name,
        warmup_epochs=warmup,
        min_lr=0.0 if name == "none" else values.min_lr,
        pct_start=rise,
        step_size=values.step_size,
        gamma=values.gamma,
    )
    if name == "reduce_on_plateau":
        patience, factor = values.plateau_patience, values.gamma
        schedule = replace(schedule, plateau_patience=patience, plateau_factor=factor, plateau_threshold=0.0)
    return schedule, lines


def _patience(parsed: Source, choices: Choices, phases: Phases) -> tuple[int | None, Lines]:
    config = parsed.config
    typed = config.optimization.early_stopping_patience
    if config.testing.test_run:
        return None, ()
    if typed is not None:
        return typed or None, ()
    patience = auto_patience(choices.strategy, phases, simple=config.modes.simple_training)
    return patience, (f"early stopping after {patience} epochs without a new best",)


def _fit(
    config: ModularConfig, choices: Choices, schedule: ScheduleConfig, patience: int | None
) -> FitConfig:
    step, memory = config.optimization, config.out_of_memory
    return FitConfig(
        epochs=choices.epochs,
        optimizer=OptimizerConfig(
            name=step.optimizer,
            lr=config.core.lr,
            weight_decay=config.core.weight_decay,
            momentum=step.momentum,
        ),
        schedule=schedule,
        precision="bf16" if step.mixed_precision else "fp32",
        clip_norm=step.gradient_clip_norm,
        max_rollbacks=0,
        ema_decay=config.compute.ema_decay,
        early_stopping_patience=patience,
        oom_recovery=memory.enable_oom_recovery,
        oom_reduction_factor=memory.oom_reduction_factor,
        min_batch_size=memory.min_batch_size,
    )
