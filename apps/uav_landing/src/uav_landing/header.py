"""What a training run says about itself before the first step."""

from __future__ import annotations

import math
import os

import torch

from common.config import Parsed
from common.engine.distributed import World
from common.engine.loading import Loaders
from common.engine.run import Run, git_commit
from common.schedulers.learning_rate import clean_epoch_lengths, cosine_warm_restarts
from common.statistics import ClassStatistics
from uav_landing.balance import Balance, RareCrops
from uav_landing.config import TrainConfig
from uav_landing.data.dataset import CropDataset
from uav_landing.judging import NOTES, hex_colors
from uav_landing.landing_data import LandingData, data_line
from uav_landing.metrics import LOWER_IS_BETTER
from uav_landing.models.base import SegmentationModel


def print_header(
    run: Run,
    parsed: Parsed[TrainConfig],
    config: TrainConfig,
    data: LandingData,
    statistics: ClassStatistics,
    balance: Balance,
    rare: RareCrops,
    loaders: Loaders,
    model: SegmentationModel,
    world: World,
    *,
    held: bool,
) -> None:
    """Print and record the run, its data, network, balance and length."""
    lines = [
        ("run", _run_line(run, config, world)),
        ("preset", _preset_line(parsed)),
        ("data", data_line(data, statistics)),
        ("store", _store_line(data, held=held)),
        ("model", _model_line(config, model)),
        ("plan", _plan_line(config, loaders, world)),
        *(("data", text) for text in _padding(loaders)),
        *(("warning", text) for text in (*balance.weights.warnings, *_schedule_warning(config))),
    ]
    for label, text in lines:
        run.console.line(label, text)
    block = balance.budget.lines()
    table = balance.budget.table()
    exposure = _exposure_lines(data, rare, loaders)
    for line in [*block, *table, *exposure]:
        run.console.raw(line)
    monitor = config.evaluation.monitor
    header = [f"{label:<8} {text}" for label, text in lines]
    _record(run, data, statistics, balance, monitor, header, [*block, *exposure])


def _record(
    run: Run,
    data: LandingData,
    statistics: ClassStatistics,
    balance: Balance,
    monitor: str,
    lines: list[str],
    block: list[str],
) -> None:
    mode = "min" if monitor in LOWER_IS_BETTER else "max"
    headline = {"metric": monitor, "mode": mode, "meaning": NOTES[monitor]}
    colors = [hex_colors()[index] for index in data.class_ids]
    run.events.write("header", 0, 0, {"lines": lines, "headline": headline})
    counted = {"statistics": statistics.to_dict(), "colors": colors, "ids": list(data.class_ids)}
    run.events.write("statistics", 0, 0, counted)
    run.events.write("balance", 0, 0, {"budget": balance.budget.to_dict(), "lines": block})


def _run_line(run: Run, config: TrainConfig, world: World) -> str:
    commit = (git_commit() or "none")[:8]
    threads = f" {torch.get_num_threads()} threads" if world.device.type == "cpu" else ""
    ranks = f"   {world.size} processes" if world.size > 1 else ""
    return f"{run.folder}   seed {config.run.seed}   {world.device}{threads}   git {commit}{ranks}"


def _preset_line(parsed: Parsed[TrainConfig]) -> str:
    def shown(value: object) -> str:
        return " ".join(map(str, value)) if isinstance(value, tuple | list) else str(value)

    fields = "   ".join(f"{name} {shown(value)}" for name, value in parsed.preset_fields.items())
    return f"{parsed.config.preset}: {fields or 'every field typed'}"


def _store_line(data: LandingData, *, held: bool) -> str:
    store = data.store
    where = "held in memory" if held else "read from disk"
    return f"{len(store.ids)} photos at scale {store.scale:g}, {store.nbytes / 1e9:.2f} GB, {where}"


def _model_line(config: TrainConfig, model: SegmentationModel) -> str:
    count = sum(p.numel() for p in model.parameters())
    trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
    origin = config.model.pretrained_path
    weights = "random weights" if origin == "none" else f"weights {os.path.basename(origin)}"
    return (
        f"{config.model.model_type}   {count / 1e6:.2f}M parameters, {trainable / 1e6:.2f}M trainable   "
        f"{model.num_classes} outputs   {weights}"
    )


def _plan_line(config: TrainConfig, loaders: Loaders, world: World) -> str:
    run, batches = config.run, loaders.batches
    steps = -(-len(batches) // run.accumulation_steps)
    effective = run.batch_size * run.accumulation_steps * world.size
    dropped = f"   {batches.dropped} crop dropped per epoch (batch of one)" if batches.dropped else ""
    limit = f", stopping at {run.max_steps}" if run.max_steps else ""
    return (
        f"{run.epochs} epochs x {steps} steps = {run.epochs * steps} steps{limit}   "
        f"effective batch {effective} ({run.batch_size} x {run.accumulation_steps} x {world.size}){dropped}"
    )


def _padding(loaders: Loaders) -> list[str]:
    crops = loaders.train.dataset
    assert isinstance(crops, CropDataset)
    count = len(crops.padded)
    return [f"{count} photos are smaller than the largest crop window and padded"] if count else []


def _schedule_warning(config: TrainConfig) -> list[str]:
    optimizer, epochs = config.optimizer, config.run.epochs
    if optimizer.scheduler != "cosine_warm_restarts":
        return []
    lengths = clean_epoch_lengths(optimizer.t_0, optimizer.t_mult)
    if epochs - optimizer.warmup_epochs in lengths:
        return []
    floor = min(1.0, optimizer.eta_min / optimizer.learning_rate)
    last = max(0.0, epochs - 1 - math.ceil(optimizer.warmup_epochs))
    rate = optimizer.learning_rate * cosine_warm_restarts(
        last, t_0=optimizer.t_0, t_mult=optimizer.t_mult, floor=floor
    )
    clean = ", ".join(f"{length + optimizer.warmup_epochs:g}" for length in lengths)
    return [f"--epochs {epochs} ends mid-cycle at lr {rate:.3g}; clean lengths: {clean}"]


def _exposure_lines(data: LandingData, rare: RareCrops, loaders: Loaders) -> list[str]:
    if rare.exposure is None or rare.sampler is None:
        return []
    names = [
        data.photos.table.name_of(index) if index in data.photos.table.ids else "" for index in range(256)
    ]
    return rare.exposure.lines(len(loaders.sampler), list(rare.sampler.candidates), names)
