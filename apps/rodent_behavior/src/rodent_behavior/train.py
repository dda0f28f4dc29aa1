"""Training, from settings to an exported model. `main` tells the story; each step is one call."""

from __future__ import annotations

import logging
import time
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch.utils.data import DataLoader

from common.balancing.samplers import RepeatSampler, ShardedEvalSampler
from common.config import Parsed, UserError, check, from_yaml, to_yaml
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
from common.engine.run import Run
from common.engine.settings import FitConfig, OptimizerConfig
from common.engine.state import Provenance
from common.schedulers.learning_rate import ScheduleConfig
from common.video import FrameCache, VideoError
from rodent_behavior.augment import Augmenter, Views
from rodent_behavior.backbones import Backbone, build_backbone
from rodent_behavior.checks import check_training, resolved
from rodent_behavior.config import TrainConfig
from rodent_behavior.curves import CurveSink
from rodent_behavior.data import BehaviorData, learns_keypoints, open_data
from rodent_behavior.dataset import Inputs, TrialDataset, WindowDataset, base_windows, collate
from rodent_behavior.export import FILE_NAME
from rodent_behavior.feature_cache import FeatureCache
from rodent_behavior.frames import Resize
from rodent_behavior.header import opening_of, print_header
from rodent_behavior.model import BehaviorModel, BehaviorModelConfig
from rodent_behavior.model_config import DEFAULT_SIZES
from rodent_behavior.network import BehaviorNetwork
from rodent_behavior.outcome import BestModel, describe, finish, write_data
from rodent_behavior.plan import BalancePlan, plan_balance
from rodent_behavior.task import BehaviorTask
from rodent_behavior.trial_data import PoseEncoder, fit_normalizer
from rodent_behavior.visual import VisualSource

FREE_SETTINGS = frozenset(
    {
        "_typed", "annotations", "videos", "pose_dir", "cache_dir", "cache_max_gb", "epochs", "num_workers",
        "device", "run_dir", "resume", "max_steps", "use_wandb", "wandb_project", "wandb_entity",
        "wandb_run_name", "strict_config_validation", "oom_recovery",
    }
)  # fmt: skip
FIXED = ("classes", "kp_names", "pose_features", "model", "split", "backbone")

_log = logging.getLogger("rodent_behavior")


def main(parsed: Parsed[TrainConfig]) -> int:
    """Train as configured; return the exit code: 0 done, 1 failed, 2 bad input, 130/143 signal."""
    check(check_training(parsed), parsed.config.run.strict_config_validation, _log)
    config = keep_warmup(resolved(parsed), parsed.typed)
    return run_training(
        lambda world: train(config, parsed, world), config.run.device, bad_input=(VideoError,)
    )


def train(config: TrainConfig, parsed: Parsed[TrainConfig], world: World) -> Summary:
    """Read, check, build, fit, export."""
    console = Console(enabled=world.main)
    settings = fit_config(config, world)
    data = open_data(config, console)
    statistics = data.statistics()
    plan = plan_balance(config, statistics, [trial.actions for trial in data.train])
    seed_everything(config.run.seed, world.rank)
    if config.run.deterministic:
        use_deterministic_kernels()
    network = build_network(config, data).to(world.device)
    inputs = build_inputs(config, data, network.backbone, console)
    loaders = build_loaders(config, data, plan, inputs, network, world)
    best = BestModel(
        describe(config, data, network, inputs.encoder, parsed),
        model_path(config),
        with_backbone=config.model.save_backbone,
    )
    task = build_task(config, data, plan, network, best if world.main else None, console)
    provenance = Provenance(
        config=to_yaml(config, typed=parsed.typed),
        metadata=best.metadata(),
        statistics=statistics.to_dict(),
        free_settings=FREE_SETTINGS,
        fixed_metadata=FIXED,
    )
    with open_run(config, provenance.config, world) as run:
        best.belong_to(run.folder.name, resuming=config.run.resume is not None)
        write_data(run, config, data)
        print_header(run, config, data, statistics, plan, loaders, network, world)
        summary = fit(
            run,
            task,
            loaders,
            settings,
            provenance=provenance,
            world=world,
            resume=config.run.resume,
            sink=open_curves(config, plan, loaders, run, world),
        )
        if world.main:
            finish(run, config, data, inputs, task, summary, best)
    return summary


def build_network(config: TrainConfig, data: BehaviorData) -> BehaviorNetwork:
    """Return the image backbone and the model over time; UserError for flags that do not fit together."""
    model, opening = config.model, opening_of(config)
    backbone = build_backbone(
        model.backbone, model.backbone_weights, random=model.random_backbone, img_size=model.img_size
    )
    if opening is not None and backbone is not None and opening.blocks > len(backbone.blocks):
        raise UserError(
            f"--unfreeze_blocks {opening.blocks}: {backbone.name} has {len(backbone.blocks)} blocks"
        )
    sizes = DEFAULT_SIZES[model.temporal_model]
    keypoints = learns_keypoints(model, 1.0) and data.features is not None
    try:
        behavior = BehaviorModelConfig(
            num_classes=len(data.labels.names),
            visual_dim=0 if backbone is None else backbone.dim,
            pose_dim=0 if data.features is None else data.features.size,
            num_keypoints=len(data.kp_names) if keypoints else 0,
            temporal_model=model.temporal_model,
            hidden_dim=sizes.hidden_dim if model.hidden_dim is None else model.hidden_dim,
            num_layers=sizes.num_layers if model.num_layers is None else model.num_layers,
            refinements=sizes.refinements if model.refinements is None else model.refinements,
            causal=model.causal,
            dropout=model.dropout,
            head_dropout=model.head_dropout,
            head="cosine" if config.loss.loss == "ldam" else "linear",
        )
    except ValueError as error:
        raise UserError(f"--{error}") from error
    return BehaviorNetwork(BehaviorModel(behavior), backbone)


def build_inputs(
    config: TrainConfig, data: BehaviorData, backbone: Backbone | None, console: Console
) -> Inputs:
    """Return the keypoint features with their standardisation, and the video's features, cached."""
    encoder = None
    if data.features is not None:
        encoder = PoseEncoder(data.features, fit_normalizer(data.features, data.train))
    if backbone is None:
        return Inputs(encoder, None)

    def say(text: str) -> None:
        console.line("cache", text)

    folder = config.cache.cache_dir or default_runs(config) / "cache"
    views = Views.of(config.augmentation, config.cache.cache_views, config.run.seed)
    resize = Resize(config.model.img_size, config.model.resize_mode)
    features = FeatureCache(folder / "features", backbone, resize, views, say=say)
    frames = FrameCache(folder / "frames", max_gb=config.cache.cache_max_gb, say=say)
    trials = [trial.index for trial in (*data.train, *data.val, *data.unlabelled)]
    visual = VisualSource(features, frames, trials)
    visual.prepare()
    return Inputs(encoder, visual)


def build_loaders(
    config: TrainConfig,
    data: BehaviorData,
    plan: BalancePlan,
    inputs: Inputs,
    network: BehaviorNetwork,
    world: World,
) -> Loaders:
    """Return windows with repeated bouts for training, whole trials for validation."""
    run, opening = config.run, opening_of(config)
    trials = [*data.train, *data.unlabelled]
    windows = base_windows(trials, run.train_T)
    bouts = plan.repetition.items
    masked = learns_keypoints(config.model, config.loss.lambda_kp) and config.loss.kp_task == "masked"
    augmenter = Augmenter(
        config.augmentation,
        seed=run.seed,
        kp_names=data.kp_names if data.features is not None else (),
        pose_features=config.pose.pose_features,
        hide=masked,
        views=None if inputs.visual is None else inputs.visual.views,
    )
    dataset = WindowDataset(
        trials, windows, bouts, inputs, augmenter, open_epoch=None if opening is None else opening.epoch
    )
    sampler = RepeatSampler(
        len(windows),
        [bout.repeats for bout in bouts],
        presented_shares=plan.repetition.presented,
        seed=run.seed,
        rank=world.rank,
        world=world.size,
    )
    batches = Batches(sampler, run.batch_size)
    return Loaders(
        train=make_loader(
            dataset,
            batches,
            workers=run.num_workers,
            collate=collate,
            pin_memory=world.device.type == "cuda",
        ),
        sampler=sampler,
        batches=batches,
        valid=build_valid_loader(config, data, inputs, network, world),
    )


def build_valid_loader(
    config: TrainConfig, data: BehaviorData, inputs: Inputs, network: BehaviorNetwork, world: World
) -> DataLoader[Any]:
    """Return whole validation trials one by one, nothing when none are held out."""
    judged = TrialDataset(
        data.val, inputs, opened=lambda: network.opened > 0, copy=config.loss.kp_task == "copy"
    )
    if not data.val:
        return DataLoader(judged)
    evaluation = Batches(ShardedEvalSampler(len(judged), rank=world.rank, world=world.size), 1)
    return make_loader(judged, evaluation, collate=collate)


def build_task(
    config: TrainConfig,
    data: BehaviorData,
    plan: BalancePlan,
    network: BehaviorNetwork,
    best: BestModel | None,
    console: Console,
) -> BehaviorTask:
    """Return losses and metrics around the network."""
    return BehaviorTask(
        network,
        plan.objective,
        data.labels,
        window=config.run.val_T,
        num_keypoints=len(data.kp_names),
        opening=opening_of(config),
        on_best=None if best is None else best.write,
        say=console.raw,
        epochs=config.run.epochs,
        judged=bool(data.val),
    )


def fit_config(config: TrainConfig, world: World) -> FitConfig:
    """Return the engine's settings."""
    run, optimizer = config.run, config.optimizer
    return FitConfig(
        epochs=run.epochs,
        accumulation_steps=run.accumulation_steps,
        optimizer=OptimizerConfig(lr=optimizer.lr, weight_decay=optimizer.weight_decay),
        schedule=ScheduleConfig(
            name=optimizer.lr_schedule,
            warmup_epochs=optimizer.warmup_epochs,
            min_lr=optimizer.min_lr,
            plateau_patience=optimizer.lr_patience,
            plateau_factor=optimizer.lr_factor,
        ),
        precision=choose_precision(run.mixed_precision, world.device, flag="--mixed_precision"),
        clip_norm=optimizer.clip_norm,
        ema_decay=optimizer.ema_decay if optimizer.use_ema else 0.0,
        early_stopping_patience=run.early_stopping_patience or None,
        max_steps=run.max_steps,
        oom_recovery=run.oom_recovery,
    )


def model_path(config: TrainConfig) -> Path:
    """Return where the best model is exported: beside the annotations."""
    return config.trials.annotations.parent / FILE_NAME


def default_runs(config: TrainConfig) -> Path:
    """Return the folder of run folders."""
    if config.run.run_dir is not None:
        return config.run.run_dir.parent
    return config.trials.annotations.parent / "runs"


def open_run(config: TrainConfig, text: str, world: World) -> Run:
    """Open a new run folder, or the one that `--resume` names."""
    if config.run.resume is not None:
        return open_run_folder(resumed_folder(config), text, resuming=True, flag="--resume")
    name = f"{time.strftime('%Y%m%d-%H%M%S')}_{run_name(config)}"
    folder = config.run.run_dir or default_runs(config) / name
    if (folder / "checkpoints").is_dir():
        raise UserError(f"--run_dir {folder}: a run is there already; --resume continues it")
    return open_run_folder(world.from_main(folder), text, resuming=False, flag="--run_dir")


def resumed_folder(config: TrainConfig) -> Path:
    """Return the run folder to continue; `--resume last` and `best` mean checkpoints of `--run_dir`."""
    resume, given = config.run.resume, config.run.run_dir
    assert resume is not None
    if resume not in ("last", "best"):
        folder = run_folder_of(Path(resume))
        if given is not None and given.resolve() != folder.resolve():
            raise UserError(f"--run_dir {given} with --resume {resume}, which is in another folder")
        return require_checkpoints(folder, resume)
    if given is None:
        raise UserError(f"--resume {resume} needs --run_dir")
    return require_checkpoints(given, resume)


def keep_warmup(config: TrainConfig, typed: Collection[str]) -> TrainConfig:
    """Return the settings with the warm-up of the run that is resumed, unless one is typed.

    It was derived from the first number of epochs; another one must not change the steps already taken.
    """
    if config.run.resume is None or config.run.test_run or "warmup_epochs" in typed:
        return config
    first = resumed_folder(config) / "config.yaml"
    if not first.is_file():
        return config
    warmup = from_yaml(TrainConfig, first).optimizer.warmup_epochs
    if warmup >= config.run.epochs:
        raise UserError(f"--epochs {config.run.epochs}: the run to resume warms up for {warmup} epochs")
    return replace(config, optimizer=replace(config.optimizer, warmup_epochs=warmup))


def run_name(config: TrainConfig) -> str:
    """Return the name made of the settings, as the original script did."""
    run, model = config.run, config.model
    return run.wandb_run_name or (
        f"{model.backbone}_{model.model_type}_lr{config.optimizer.lr:g}_bs{run.batch_size}"
        f"_drop{model.dropout:g}_T{run.train_T}"
    )


def open_curves(
    config: TrainConfig, plan: BalancePlan, loaders: Loaders, run: Run, world: World
) -> CurveSink | None:
    """Start the optional copy of the metrics; nothing on other ranks."""
    if not world.main or not config.run.use_wandb:
        return None
    steps = -(-len(loaders.batches) // config.run.accumulation_steps)
    sink = CurveSink(config, plan.objective, name=run_name(config), folder=run.folder, steps_per_epoch=steps)
    return sink.start(run.console)
