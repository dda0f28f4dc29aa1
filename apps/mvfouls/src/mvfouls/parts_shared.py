"""The parts of a run's settings that both training command lines make alike."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import replace
from pathlib import Path

from common.config import Parsed, UserError
from common.freezing.strategies import FreezingConfig, Strategy
from mvfouls.adaptation import Lines, Phases, frame_rule
from mvfouls.architectures import Architecture
from mvfouls.augment_presets import AugmentValues
from mvfouls.choices_shared import unaugmented
from mvfouls.config_both import BothConfig, Either
from mvfouls.config_shared import Linear, Ordinal, SeMlp, TaskHead, task_name
from mvfouls.frames import FrameRule
from mvfouls.projection import missing_heads
from mvfouls.settings import (
    AugmentSettings,
    CacheSettings,
    HeadSpec,
    JudgeSettings,
    LoaderSettings,
    Pixels,
    Policies,
    ProjectionSettings,
)

CACHE_FOLDER = "mvfouls_cache"


def frames_of(parsed: Parsed[Either], network: Architecture) -> tuple[FrameRule, Lines]:
    """Return which frames a clip gives, and what to tell about them. ValueError for an impossible window."""
    clip, video = parsed.config.architecture, parsed.config.video
    return frame_rule(
        typed=parsed.typed,
        start=video.start_frame,
        end=video.end_frame,
        count=clip.frames_per_clip,
        fps=clip.target_fps,
        native=network.frames,
    )


def size_of(parsed: Parsed[Either], network: Architecture) -> tuple[int, int]:
    """Return height and width of the network's input."""
    video, (height, width) = parsed.config.video, network.default_size
    return (
        video.img_height if "img_height" in parsed.typed else height,
        video.img_width if "img_width" in parsed.typed else width,
    )


def pixels_of(parsed: Parsed[Either], network: Architecture) -> tuple[Pixels, Lines]:
    """Return how a clip becomes input. UserError or ValueError for what the network cannot take."""
    frames, lines = frames_of(parsed, network)
    height, width = size_of(parsed, network)
    network.check_input(frames.count, height, width)
    video = parsed.config.video
    if (height, width) != (video.img_height, video.img_width):
        lines += (f"input {height}x{width}: that of {network.name}",)
    return Pixels(frames=frames, height=height, width=width, fit=parsed.config.input.fit), lines


def policies_of(config: BothConfig) -> Policies:
    """Return what happens to data that is not as it should be."""
    labels = config.labels
    return Policies(
        missing_clip=labels.missing_clip,
        short_clip=labels.short_clip,
        unknown_labels=labels.unknown_labels,
    )


def cache_of(config: BothConfig, root: Path, *, optimized: bool) -> CacheSettings:
    """Return the store of decoded windows; in the data set's `root` when no folder is given."""
    folder = config.input.cache_dir or root / CACHE_FOLDER
    return CacheSettings(folder=folder if optimized else None, format=config.input.cache_format)


def augment_of(config: BothConfig, values: AugmentValues) -> AugmentSettings:
    """Return what is changed at random in training."""
    off, device = unaugmented(config), config.device_augmentation
    in_model = not (off or config.modes.disable_in_model_augmentation)
    return AugmentSettings(
        **vars(values),
        on_device=device.gpu_augmentation and in_model,
        severity_aware=device.severity_aware_augmentation and not off,
        multi_scale=config.features.multi_scale and not off,
        in_model=in_model,
    )


def heads_of(config: BothConfig, tasks: Collection[str], default: HeadSpec) -> dict[str, HeadSpec]:
    """Return each task's head; `default` is that of a task that --task-head does not name."""
    given = {task_name(head.task): head for head in config.heads.task_head}
    return {task: _head(given[task], config) if task in given else default for task in tasks}


def _head(given: TaskHead, config: BothConfig) -> HeadSpec:
    head = given.head
    if isinstance(head, Linear):
        return HeadSpec(kind="linear", dropout=config.heads.head_dropout)
    spec = HeadSpec(kind="deep_mlp", hidden=head.hidden, depth=head.depth, dropout=head.dropout)
    if isinstance(head, SeMlp):
        return replace(spec, kind="se_mlp", reduction=head.reduction)
    return replace(spec, kind="ordinal") if isinstance(head, Ordinal) else spec


def channels_last(config: BothConfig, network: Architecture, *, cuda: bool) -> bool:
    """Return whether convolutions keep their channels last; `cuda`: the run uses such a device."""
    wanted = config.compute.channels_last
    return (cuda if wanted == "auto" else wanted) and network.family == "conv"


def judge_of(
    config: BothConfig,
    tasks: Collection[str],
    metric: str,
    *,
    typed: bool,
    batches: int | None = None,
    save_logits: bool = False,
) -> tuple[JudgeSettings, Lines]:
    """Return how validation judges; a `metric` nobody typed that the tasks cannot give becomes mean_ba."""
    lacking = missing_heads(tasks)
    lines: Lines = ()
    if lacking is not None and not typed:
        metric = "mean_ba"
        lines = (f"selection by mean_ba: no leaderboard value without the task {lacking}",)
    given = config.projection
    judge = JudgeSettings(
        projection=ProjectionSettings(
            between=given.between_policy, borderline=given.borderline_policy, decision=given.os_decision
        ),
        headline="loss" if metric == "val_loss" else metric,
        batches=config.testing.test_batches if config.testing.test_run else batches,
        tta=config.judging.tta,
        save_logits=save_logits,
    )
    return judge, lines


def loader_of(
    config: BothConfig,
    batch_size: int,
    *,
    optimized: bool,
    cuda: bool,
    processes: int,
    unfreeze_batch: int | None = None,
) -> tuple[LoaderSettings, Lines]:
    """Return batches and workers. UserError for a global batch that does not divide among the processes."""
    loading, testing, size = config.loading, config.testing, batch_size
    if testing.force_batch_size:
        if size % processes:
            raise UserError(
                f"--force-batch-size: --batch-size {size} does not divide among {processes} processes"
            )
        size //= processes
    lines = (f"batch {size} x {processes} processes = {size * processes} actions",) if processes > 1 else ()
    loader = LoaderSettings(
        batch_size=size,
        workers=loading.num_workers,
        timeout=loading.worker_timeout,
        prefetch=loading.prefetch_factor,
        pin_memory=loading.pin_memory and cuda,
        optimized=optimized,
        cleanup_interval=max(0, config.memory.memory_cleanup_interval),
        train_batches=testing.test_batches if testing.test_run else None,
        unfreeze_batch=unfreeze_batch,
    )
    return loader, lines


def freezing_of(
    parsed: Parsed[Either], strategy: Strategy, phases: Phases, *, blocks: int, open_blocks: int = 0
) -> FreezingConfig:
    """Return when blocks open; `blocks` are those that `fixed` opens."""
    config = parsed.config
    guided = config.gradient_guided
    return FreezingConfig(
        strategy=strategy,
        open_blocks=open_blocks,
        phase1_epochs=phases.first,
        phase2_epochs=phases.second,
        unfreeze_blocks=blocks,
        importance_threshold=guided.importance_threshold,
        unfreeze_patience=guided.unfreeze_patience if "unfreeze_patience" in parsed.typed else None,
        max_layers_per_step=guided.max_layers_per_step,
        sampling_epochs=guided.sampling_epochs,
        **vars(config.adaptive),
        **vars(config.advanced),
        **vars(config.emergency),
    )


def joined(lines: Iterable[Lines]) -> Lines:
    """Return all lines."""
    return tuple(line for group in lines for line in group)
