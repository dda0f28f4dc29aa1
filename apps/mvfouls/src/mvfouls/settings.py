"""A run with every flag, default and preset settled: what both command lines end in."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from common.engine.settings import FitConfig
from common.freezing.rates import RateConfig
from common.freezing.strategies import FreezingConfig
from mvfouls.frames import FrameRule

LossKind = Literal["ce", "focal", "bce", "ldam", "balanced_softmax"]
WeightStrategy = Literal["balanced_capped", "balanced", "sqrt", "log", "effective_number", "none"]
SamplerKind = Literal["shuffle", "factor", "mixture", "joint", "dynamic"]
Fit = Literal["crop", "letterbox", "stretch"]


@dataclass(frozen=True, kw_only=True)
class SplitSource:
    """Where one split is."""

    name: str
    """train, valid, test or challenge."""
    folder: Path
    """Folder of `action_<id>/clip_<k>.mp4`."""
    annotations: Path


@dataclass(frozen=True, kw_only=True)
class Policies:
    """What happens to data that is not as it should be."""

    missing_clip: Literal["skip", "error"] = "skip"
    short_clip: Literal["pad", "skip", "error"] = "pad"
    unknown_labels: Literal["error", "ignore"] = "error"


@dataclass(frozen=True, kw_only=True)
class Pixels:
    """How a clip becomes the network's input."""

    frames: FrameRule
    height: int = 224
    width: int = 398
    fit: Fit = "crop"


@dataclass(frozen=True, kw_only=True)
class ViewSettings:
    """Which views of an action a sample holds."""

    bags: bool = True
    """A sample is an action with its views; off: one clip."""
    max_views: int | None = None
    """Keep the first so many views in clip order, in training and evaluation."""
    max_clips: int | None = None
    """Largest number of views of a training sample, chosen by `sampling`; evaluation takes them evenly."""
    min_clips: int = 1
    """Actions with fewer views are left out and counted."""
    sampling: Literal["first", "random", "uniform", "all"] = "first"


@dataclass(frozen=True, kw_only=True)
class CacheSettings:
    """The store of decoded windows."""

    folder: Path | None
    """None: every clip is decoded each time."""
    format: Literal["uint8", "jpeg"] = "uint8"
    max_gb: float | None = None


@dataclass(frozen=True, kw_only=True)
class DataSettings:
    """The training and validation data."""

    train: SplitSource
    valid: SplitSource
    pixels: Pixels
    policies: Policies = field(default_factory=Policies)
    views: ViewSettings = field(default_factory=ViewSettings)
    cache: CacheSettings
    junk_ids: Literal["modular", "class_weights"] | None = None
    """Legacy ids in which "" and Dont know are classes; None: they are ignored."""
    undecided: bool = True
    """Between is a class of offence; off: it has no label."""
    soft: tuple[str, ...] = ()
    """Tasks whose labels between two classes are halves of both."""
    train_fraction: float = 1.0


@dataclass(frozen=True, kw_only=True)
class AugmentSettings:
    """What is changed at random in training; the values after presets and typed flags."""

    jitter: int = 0
    crop: float = 1.0
    """Smallest side of the crop, as a share."""
    colour: float = 0.0
    noise: float = 0.0
    frame_dropout: float = 0.0
    flip: float = 0.0
    rotation: float = 0.0
    """Degrees."""
    cutout: int = 0
    """Boxes."""
    on_device: bool = False
    """Crop, colour and frame dropout on the compute device instead of in the loader."""
    severity_aware: bool = False
    multi_scale: bool = False
    in_model: bool = True
    """Flip and noise."""


@dataclass(frozen=True, kw_only=True)
class ModelSettings:
    """The network."""

    backbone: str = "r2plus1d_18"
    weights: str = "none"
    """none, auto, or a path."""
    weights_dir: Path = Path("weights")
    weights_classes: int | None = None
    """Classes that the head in the weights file must have; None: any head, or none."""
    aggregation: Literal["attention", "mean", "max"] = "attention"
    temperature: float = 1.0
    heads: dict[str, HeadSpec] = field(default_factory=dict)
    """Head of each task; its order is the order of tasks."""
    dropout: float = 0.1
    """On the aggregated feature."""
    activation_checkpointing: bool = False
    channels_last: bool = False
    compile: bool = False


@dataclass(frozen=True, kw_only=True)
class HeadSpec:
    """One task's head; what a type does not have is not read."""

    kind: Literal["mlp", "linear", "deep_mlp", "se_mlp", "ordinal"] = "mlp"
    hidden: int = 1024
    depth: int = 3
    dropout: float = 0.1
    reduction: int = 4


@dataclass(frozen=True, kw_only=True)
class LossSettings:
    """The loss of one task."""

    kind: LossKind = "ce"
    weighted: bool = False
    """Class weights of `BalanceSettings`; the alpha of focal."""
    class_weights: tuple[float, ...] | None = None
    """Given weights, one per class, instead of computed ones."""
    gamma: float = 2.0
    smoothing: float = 0.0
    max_margin: float = 0.5
    scale: float = 30.0
    drw_start: float | None = None
    """Share of the epochs after which ldam is re-weighted."""
    adjustment: float | None = None
    """tau of a logit-adjusted ce."""
    weight: float = 1.0
    """Share of the task in the objective; 0: the task has a head and no loss."""


@dataclass(frozen=True, kw_only=True)
class TaskWeighting:
    """How the weights of tasks follow what was learned."""

    strategy: Literal["uniform", "inverse_accuracy", "inverse_f1", "difficulty"] | None = None
    """None: they stay."""
    source: Literal["train", "valid"] = "train"


@dataclass(frozen=True, kw_only=True)
class BalanceSettings:
    """How rare classes are favoured."""

    sampler: SamplerKind = "shuffle"
    sampler_tasks: tuple[str, ...] = ("severity", "action_class")
    factor_start: float = 4.0
    factor_end: float = 4.0
    factor_epochs: int = 1
    """Epochs from the first factor to the last."""
    max_repeat: float = 20.0
    strategy: WeightStrategy = "none"
    limit: float = 10.0
    """Largest weight over the smallest (`ratio`), or largest weight (`value`)."""
    limit_rule: Literal["ratio", "value"] = "ratio"
    beta: float = 0.999
    basis: Literal["presented", "natural"] = "presented"
    allow_overcorrection: bool = False
    dynamic_task: str = "action_class"
    dynamic_power: float = 1.0


@dataclass(frozen=True, kw_only=True)
class ProjectionSettings:
    """How predictions become official labels."""

    between: Literal["drop", "half"] = "drop"
    borderline: Literal["split", "drop"] = "split"
    decision: Literal["joint", "cascade"] = "joint"


@dataclass(frozen=True, kw_only=True)
class JudgeSettings:
    """Validation."""

    projection: ProjectionSettings = field(default_factory=ProjectionSettings)
    headline: str = "leaderboard"
    batches: int | None = None
    """Validation batches per epoch; None: all, and only then is a leaderboard value claimed."""
    tta: bool = False
    save_logits: bool = False


@dataclass(frozen=True, kw_only=True)
class LoaderSettings:
    """Batches and workers."""

    batch_size: int = 8
    """Samples per process and micro-batch."""
    workers: int = 4
    timeout: int = 0
    prefetch: int = 2
    pin_memory: bool = False
    optimized: bool = True
    """Persistent workers and prefetch to the device."""
    cleanup_interval: int = 20
    train_batches: int | None = None
    """Batches of an epoch in a test run."""
    unfreeze_batch: int | None = None
    """Largest part in which a step is computed once a block has opened; None: as before."""


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """One training run."""

    frontend: Literal["modular", "class_weights"]
    data: DataSettings
    augment: AugmentSettings
    model: ModelSettings
    losses: dict[str, LossSettings]
    """By task, in the order of `model.heads`."""
    balance: BalanceSettings
    task_weighting: TaskWeighting = field(default_factory=TaskWeighting)
    freezing: FreezingConfig
    rates: RateConfig
    judge: JudgeSettings
    loader: LoaderSettings
    fit: FitConfig
    probe_batches: int = 4
    seed: int = 42
    device: str = "auto"
    deterministic: bool = False
    save_dir: Path
    """The run folder."""
    overwrite: bool = False
    resume: str | None = None
    resume_best: float | None = None
    allow_config_change: bool = False
    test_run: bool = False
    wandb: bool = False
    notes: tuple[str, ...] = ()
    """Lines about what was adapted or switched off, printed at the start."""
