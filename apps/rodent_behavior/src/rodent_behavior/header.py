"""What a training run says about itself before the first step."""

from __future__ import annotations

import os

import torch
from torch import Tensor

from common.engine.distributed import World
from common.engine.loading import Loaders
from common.engine.run import Run, git_commit
from common.statistics import ClassStatistics
from rodent_behavior.checks import WITHOUT_WEIGHTS
from rodent_behavior.config import TrainConfig
from rodent_behavior.data import BehaviorData
from rodent_behavior.model_config import receptive_field
from rodent_behavior.network import BehaviorNetwork
from rodent_behavior.plan import BalancePlan
from rodent_behavior.task import Opening


def print_header(
    run: Run,
    config: TrainConfig,
    data: BehaviorData,
    statistics: ClassStatistics,
    plan: BalancePlan,
    loaders: Loaders,
    network: BehaviorNetwork,
    world: World,
) -> None:
    """Print and record the run, its data, network, balance and length."""
    lines = [
        ("run", _run_line(run, config, world)),
        ("data", _data_line(data)),
        ("data", _frames_line(statistics)),
        *(("skipped", f"{number} {kind}") for kind, number in data.found.skip_counts.items()),
        ("labels", _labels_line(data)),
        ("split", _split_line(data)),
        *_unjudged_lines(config, data),
        ("model", _model_line(config, network)),
        ("model", _reach_line(network, data.fps)),
        *_backbone_lines(config, network),
        *_loss_lines(config),
        ("plan", _plan_line(config, loaders, world)),
    ]
    for label, text in lines:
        run.console.line(label, text)
    block = [*plan.repetition.lines(), *plan.budget.lines()]
    for line in [*block, *plan.budget.table(), *_first_batch(loaders)]:
        run.console.raw(line)
    headline = {
        "metric": "macro_f1",
        "mode": "max",
        "meaning": "mean F1 of the behaviours present in the validation labels, every frame once",
    }
    header = {"lines": [f"{label:<8} {text}" for label, text in lines]}
    run.events.write("header", 0, 0, header | ({"headline": headline} if data.val else {}))
    run.events.write("statistics", 0, 0, {"statistics": statistics.to_dict()})
    run.events.write("balance", 0, 0, {"budget": plan.budget.to_dict(), "lines": block})


def _run_line(run: Run, config: TrainConfig, world: World) -> str:
    commit = (git_commit() or "none")[:8]
    threads = f" {torch.get_num_threads()} threads" if world.device.type == "cpu" else ""
    ranks = f"   {world.size} processes" if world.size > 1 else ""
    return f"{run.folder}   seed {config.run.seed}   {world.device}{threads}   git {commit}{ranks}"


def _data_line(data: BehaviorData) -> str:
    videos = {trial.video_id for trial in data.found.trials}
    return (
        f"{len(data.found.trials)} trials of {len(videos)} videos: train {len(data.train)}   "
        f"valid {len(data.val)}   unlabelled {len(data.unlabelled)}   {data.fps:g} fps   "
        f"{data.frame_size[0]} x {data.frame_size[1]} px"
    )


def _frames_line(statistics: ClassStatistics) -> str:
    names = statistics.names or ()
    shares = "   ".join(f"{name} {100 * share:.2f}" for name, share in zip(names, statistics.prior))
    total = int(statistics.counts.sum())
    return f"{total} labelled frames in training: {shares} %   ratio {statistics.ratio:.1f}"


def _labels_line(data: BehaviorData) -> str:
    labels = data.labels
    merged = [
        f"{name} <- {', '.join(labels.raw_names[raw] for raw, to in labels.raw.items() if to == index)}"
        for index, name in enumerate(labels.names)
    ]
    return "   ".join(merged)


def _split_line(data: BehaviorData) -> str:
    parts = [f"{side} {', '.join(groups)}" for side, groups in data.split.to_dict().items() if groups]
    return f"{data.split.how}: " + "   ".join(parts)


def _unjudged_lines(config: TrainConfig, data: BehaviorData) -> list[tuple[str, str]]:
    if data.val:
        return []
    return [("split", f"no validation: {config.run.epochs} epochs, the last weights are kept, no scores")]


def _model_line(config: TrainConfig, network: BehaviorNetwork) -> str:
    behavior = sum(p.numel() for p in network.behavior.parameters())
    image = 0 if network.backbone is None else sum(p.numel() for p in network.backbone.parameters())
    sizes = network.behavior.config
    kind = "causal" if sizes.causal else "looks ahead"
    return (
        f"{sizes.temporal_model} {config.model.model_type}   {behavior:,} parameters   backbone {image:,}   "
        f"pose {sizes.pose_dim}   visual {sizes.visual_dim}   {kind}"
    )


def _reach_line(network: BehaviorNetwork, fps: float) -> str:
    frames = receptive_field(network.behavior.config)
    return f"receptive field {frames} frames ({frames / fps:.1f} s)"


def _backbone_lines(config: TrainConfig, network: BehaviorNetwork) -> list[tuple[str, str]]:
    backbone, model = network.backbone, config.model
    if backbone is None:
        return []
    weights = "none" if backbone.weights is None else os.path.basename(backbone.weights)
    frozen = config.run.epochs if opening_of(config) is None else model.freeze_backbone_epochs
    text = f"Backbone: {backbone.name} D={backbone.dim} weights={weights} frozen for {frozen} epochs"
    lines = [("model", text)]
    if frozen >= config.run.epochs:
        lines.append(("model", "the backbone stays frozen for the whole run"))
        if backbone.weights is None:
            lines.append(("warning", "the backbone keeps its random weights for the whole run"))
    return lines


def _loss_lines(config: TrainConfig) -> list[tuple[str, str]]:
    loss, weighting = config.loss.loss, config.balance.class_weighting
    if loss not in WITHOUT_WEIGHTS or weighting == "none":
        return []
    return [("loss", f"{loss} corrects the shares itself: class weights {weighting} are off")]


def opening_of(config: TrainConfig) -> Opening | None:
    """Return when backbone blocks open, None when they never do."""
    model = config.model
    if model.backbone == "none" or not model.unfreeze_blocks:
        return None
    if model.freeze_backbone_epochs >= config.run.epochs:
        return None
    return Opening(
        epoch=model.freeze_backbone_epochs, blocks=model.unfreeze_blocks, lr_scale=model.backbone_lr_scale
    )


def _plan_line(config: TrainConfig, loaders: Loaders, world: World) -> str:
    run, batches = config.run, loaders.batches
    steps = -(-len(batches) // run.accumulation_steps)
    limit = f", stopping at {run.max_steps}" if run.max_steps else ""
    return (
        f"{run.epochs} epochs x {steps} steps = {run.epochs * steps} steps{limit}   "
        f"{len(batches.sampler)} windows of {run.train_T} frames per epoch   "
        f"effective batch {run.batch_size * run.accumulation_steps * world.size}"
    )


def _first_batch(loaders: Loaders) -> list[str]:
    """Return shape and range of every field of the first batch."""
    dataset, keys = loaders.train.dataset, next(iter(loaders.batches))
    collate = loaders.train.collate_fn
    assert collate is not None
    batch: dict[str, Tensor] = collate([dataset[key] for key in keys])
    return ["First batch:", *(f"  {name:<10} {_summary(value)}" for name, value in batch.items())]


def _summary(value: Tensor) -> str:
    numbers = value.double()
    bad = int((~numbers.isfinite()).sum())
    return (
        f"{list(value.shape)!s:<22} min {numbers.min():.3g}  max {numbers.max():.3g}  "
        f"mean {numbers.mean():.3g}  std {numbers.std():.3g}  not finite {bad}"
    )
