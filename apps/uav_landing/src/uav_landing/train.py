"""Training, from settings to a judged model. `main` tells the story; each step is one call."""

from __future__ import annotations

import logging
from pathlib import Path

from common.balancing.samplers import ShardedEvalSampler, ShuffleSampler
from common.config import Parsed, UserError, check, to_yaml
from common.engine.command import (
    choose_precision,
    open_run_folder,
    require_checkpoints,
    run_folder_of,
    run_training,
    use_deterministic_kernels,
)
from common.engine.distributed import World
from common.engine.fit import Summary, fit
from common.engine.loading import Batches, Loaders, make_loader
from common.engine.logging import Console
from common.engine.randomness import seed_everything
from common.engine.run import Run, next_run_folder
from common.engine.settings import FitConfig, OptimizerConfig
from common.engine.state import Provenance
from common.engine.step import TrainingError
from common.engine.wandb import WandbSink
from common.schedulers.learning_rate import ScheduleConfig
from uav_landing.alarms import AlarmBoard, initial_focal_loss
from uav_landing.balance import Balance, RareCrops, plan_balance, plan_rare_crops
from uav_landing.checks import check_training, shortened
from uav_landing.config import TrainConfig
from uav_landing.data.dataset import CropDataset, PhotoDataset
from uav_landing.header import print_header
from uav_landing.landing_data import LandingData, open_data
from uav_landing.models.base import SegmentationModel
from uav_landing.models.build import build_model
from uav_landing.models.pretrained import load_pretrained
from uav_landing.outcome import finish
from uav_landing.predictor import PhotoPredictor
from uav_landing.rebuild import FIXED, describe
from uav_landing.task import LandingTask

FREE_SETTINGS = frozenset(
    {
        "_typed", "preset", "dataset_path", "cache_dir", "max_disk_gb", "rebuild_cache", "epochs",
        "max_memory_gb", "output_dir", "wandb_project", "wandb_mode", "workers", "device",
        "save_every_steps", "resume", "max_steps", "tile_batch", "pretrained_path",
        "pretrained_min_coverage",
    }
)  # fmt: skip

_log = logging.getLogger("uav_landing")


def main(parsed: Parsed[TrainConfig]) -> int:
    """Train as configured; return the exit code: 0 done, 1 failed, 2 bad input, 3 alarm, 130/143 signal."""
    check(check_training(parsed), False, _log)
    config = shortened(parsed.config)
    return run_training(lambda world: train(config, parsed, world), config.run.device)


def train(config: TrainConfig, parsed: Parsed[TrainConfig], world: World) -> Summary:
    """Read, check, build, fit, judge."""
    console = Console(enabled=world.main)
    settings = fit_config(config, world)
    data = open_data(
        config.data,
        config.split,
        config.store,
        unknown_labels=config.unknown_labels,
        void=config.loss.void,
        max_images=config.run.max_images,
        console=console,
    )
    held = data.store.preload(config.run.max_memory_gb)
    statistics = data.statistics()
    rare = plan_rare_crops(data, config.crops, config.run.seed)
    balance = plan_balance(
        config.loss, statistics, data.class_ids, rare, rare_fraction=config.crops.rare_crop_fraction
    )
    seed_everything(config.run.seed, world.rank)
    if config.run.deterministic:
        use_deterministic_kernels()
    model = prepare_model(config, data, console)
    loaders = build_loaders(config, data, rare, model, world)
    task = build_task(config, data, balance, model, world)
    provenance = Provenance(
        config=to_yaml(config, typed=parsed.typed),
        metadata=describe(config, data, model),
        statistics=statistics.to_dict(),
        free_settings=FREE_SETTINGS,
        fixed_metadata=FIXED,
    )
    with open_run(config, provenance.config, world) as run:
        print_header(run, parsed, config, data, statistics, balance, rare, loaders, model, world, held=held)
        sink = open_wandb(config, run, world)
        summary = fit(
            run,
            task,
            loaders,
            settings,
            provenance=provenance,
            world=world,
            resume=config.run.resume,
            sink=sink,
        )
        if world.main:
            finish(run, config, data, task, summary)
    if config.run.test_run and summary.best is None:
        raise TrainingError("--test-run ended without a validation")
    return summary


def prepare_model(config: TrainConfig, data: LandingData, console: Console) -> SegmentationModel:
    """Build the network and load the weights file, if one is named."""
    model = build_model(config.model, len(data.class_ids), aux=config.loss.aux_weight > 0)
    if config.model.pretrained_path != "none":
        path = Path(config.model.pretrained_path)
        report = load_pretrained(model, path, config.model.pretrained_min_coverage)
        for line in report.lines:
            console.line("weights", line)
    return model


def build_loaders(
    config: TrainConfig, data: LandingData, rare: RareCrops, model: SegmentationModel, world: World
) -> Loaders:
    """Return fresh crops for training and whole photos for validation."""
    crops = CropDataset(
        data.store, data.split.train, data.lookup, config.crops, config.run.seed, rare=rare.sampler
    )
    photos = PhotoDataset(data.store, data.split.val, data.lookup)
    sampler = ShuffleSampler(len(crops), seed=config.run.seed, rank=world.rank, world=world.size)
    batches = Batches(sampler, config.run.batch_size, smallest=2 if model.needs_batch_above_one else 1)
    _check_length(config, batches)
    evaluation = Batches(ShardedEvalSampler(len(photos), rank=world.rank, world=world.size), 1)
    return Loaders(
        train=make_loader(crops, batches, workers=config.run.workers, pin_memory=world.device.type == "cuda"),
        sampler=sampler,
        batches=batches,
        valid=make_loader(photos, evaluation),
    )


def _check_length(config: TrainConfig, batches: Batches) -> None:
    """Refuse an epoch without a batch and a warm-up that outlasts the run; raises UserError."""
    steps = -(-len(batches) // config.run.accumulation_steps)
    if not steps:
        raise UserError(
            f"an epoch has {len(batches.sampler)} crop, too few for a batch of --model-type "
            f"{config.model.model_type}: raise --crops-per-image"
        )
    warmup = config.optimizer.warmup_epochs
    if round(warmup * steps) >= config.run.epochs * steps:
        raise UserError(
            f"--warmup-epochs {warmup:g} never ends in {config.run.epochs} epochs of {steps} steps"
        )


def build_task(
    config: TrainConfig, data: LandingData, balance: Balance, model: SegmentationModel, world: World
) -> LandingTask:
    """Return losses, metrics and alarms around the model."""
    predictor = PhotoPredictor(
        model=model,
        tile=config.crops.input_size,
        overlap=config.evaluation.tile_overlap,
        batch=config.evaluation.tile_batch,
        device=world.device,
    )
    start = _initial_focal(config, balance)
    alarms = AlarmBoard(
        patience=config.evaluation.alarm_patience,
        initial_focal=start,
        headline=config.evaluation.monitor,
    )
    return LandingTask(
        predictor,
        balance.losses,
        class_ids=data.class_ids,
        monitor=config.evaluation.monitor,
        alarms=alarms if config.evaluation.alarms else None,
        stop_on_alarm=config.evaluation.stop_on_alarm,
    )


def _initial_focal(config: TrainConfig, balance: Balance) -> float | None:
    """Return the focal loss of a uniform guess, None for other losses."""
    if config.loss.loss != "balanced_focal":
        return None
    shares, weights = balance.budget.presented.tolist(), balance.budget.weights.tolist()
    if config.loss.focal_normalize == "alpha":
        weights = [1.0] * len(weights)
    return initial_focal_loss(shares, weights, config.loss.gamma)


def fit_config(config: TrainConfig, world: World) -> FitConfig:
    """Return the engine's settings."""
    run, optimizer = config.run, config.optimizer
    return FitConfig(
        epochs=run.epochs,
        accumulation_steps=run.accumulation_steps,
        optimizer=OptimizerConfig(
            name=optimizer.optimizer, lr=optimizer.learning_rate, weight_decay=optimizer.weight_decay
        ),
        schedule=ScheduleConfig(
            name=optimizer.scheduler,
            warmup_epochs=optimizer.warmup_epochs,
            min_lr=optimizer.eta_min,
            t_0=optimizer.t_0,
            t_mult=optimizer.t_mult,
        ),
        precision=choose_precision(run.amp, world.device, flag="--amp"),
        clip_norm=optimizer.grad_clip,
        ema_decay=optimizer.ema_decay,
        early_stopping_patience=config.evaluation.patience or None,
        validate_every=config.evaluation.eval_every,
        save_every_steps=run.save_every_steps,
        max_steps=run.max_steps,
    )


def open_run(config: TrainConfig, text: str, world: World) -> Run:
    """Open a new run folder, or the one that `--resume` names."""
    resume = config.run.resume
    if resume is not None:
        folder = resumed_folder(resume, config.run.output_dir)
        return open_run_folder(folder, text, resuming=True, flag="--resume")
    try:
        own = str(next_run_folder(config.run.output_dir)) if world.main else ""
    except OSError as error:
        raise UserError(
            f"--output-dir {config.run.output_dir}: cannot be written: {error.strerror}"
        ) from error
    folder = Path(world.gather(own)[0])
    return open_run_folder(folder, text, resuming=False, flag="--output-dir")


def resumed_folder(resume: str, output_dir: Path) -> Path:
    """Return the run folder that a `--resume` value belongs to; raises UserError when there is none."""
    if resume not in {"last", "best"}:
        return require_checkpoints(run_folder_of(Path(resume)), resume)
    latest = output_dir / "latest"
    if not latest.is_file():
        raise UserError(f"--resume {resume}: no run in {output_dir} (see --output-dir)")
    return require_checkpoints(output_dir / latest.read_text().strip(), resume)


def open_wandb(config: TrainConfig, run: Run, world: World) -> WandbSink | None:
    """Start the optional copy of the metrics; nothing on other ranks."""
    if not world.main:
        return None
    name = f"fixed-memory-efficient-{config.model.model_type}"
    sink = WandbSink(
        config.run.wandb_project,
        mode=config.run.wandb_mode,
        name=f"{name}-{run.folder.name}",
        tags=["fixed", "balanced", "memory-efficient", config.model.model_type],
        config={"config": to_yaml(config)},
        folder=run.folder,
    )
    return sink.start(run.console)
