"""Settings of the verbs besides `train`. Each field is a flag; its docstring is the flag's help."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, get_args

import tyro

from mvfouls.config_modular import ClassWeightingConfig, SamplingConfig
from mvfouls.config_shared import BackboneName, BalanceConfig, TaskLossConfig, TaskName

Split = Literal["train", "valid", "test", "challenge"]
MethodName = Literal["ce", "focal", "ldam", "ldam_drw", "logit_adjusted", "balanced_sampling", "recommended"]


@dataclass(frozen=True, kw_only=True)
class InferenceConfig:
    """How clips are read and the network is run."""

    dataset_root: Path = Path(".")
    """Folder that holds the split, or `mvfouls` with the split in it."""
    missing_clip: Literal["skip", "error"] = "skip"
    """A clip that is listed but not there: leave it out and count it, or stop."""
    short_clip: Literal["pad", "skip", "error"] = "pad"
    """A clip that ends inside the window: repeat its last frame, leave it out, or stop."""
    cache_dir: Path | None = None
    """Folder of decoded windows. Default: `mvfouls_cache` in the data set's root."""
    cache_format: Literal["uint8", "jpeg"] = "uint8"
    """How they are stored."""
    batch_size: int = 2
    """Actions per pass of the network; no result depends on it."""
    num_workers: int = 2
    """Processes that read clips; 0: none besides this one."""
    tta: bool = False
    """Mean over each clip and its mirror image."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """Judge a checkpoint, or a file of predictions, with the official evaluator."""

    checkpoint: Path | None = None
    """Run folder or checkpoint folder to judge on --split."""
    split: Literal["train", "valid", "test"] = "valid"
    """Split for --checkpoint."""
    predictions: Path | None = None
    """Predictions in the official form, judged against --annotations instead of a checkpoint."""
    annotations: Path | None = None
    """Annotation file with labels. Default with --checkpoint: that of the split."""
    mode: Literal["both", "strict", "compat"] = "both"
    """strict: label rules for truth and prediction; compat: as the published tool computes it."""
    unknown_labels: Literal["error", "ignore"] = "error"
    """A label that no class has: stop, or count and ignore it."""
    bootstrap: int = 2000
    """Resamples of actions behind the interval of the leaderboard value; 0: no interval."""
    json: Path | None = None
    """File for the result. Default: none is written."""
    inference: InferenceConfig = field(default_factory=InferenceConfig)


@dataclass(frozen=True, kw_only=True)
class CompareConfig:
    """Compare runs by what they predict for the same validation actions."""

    runs: tyro.conf.Positional[tuple[Path, ...]] = ()
    """Run folders of either command line, or files of official predictions; two or more."""
    baseline: Path | None = None
    """The one of them that the others are compared with. Default: the first."""
    annotations: Path | None = None
    """Annotation file with labels; needed for files of predictions. Default: the one each run recorded."""
    unknown_labels: Literal["error", "ignore"] = "error"
    """A label that no class has: stop, or count and ignore it."""
    bootstrap: int = 2000
    """Resamples of actions behind every interval and p; the same ones for all runs."""
    out: Path = Path("comparison")
    """Folder of the page, comparison.html."""
    json: Path | None = None
    """File for the result. Default: none is written."""


@dataclass(frozen=True, kw_only=True)
class PredictConfig:
    """Name the foul of every action; needs no annotations with labels."""

    checkpoint: Path
    """Run folder or checkpoint folder."""
    split: Split | None = None
    """Split in --dataset-root to predict."""
    action_dir: Path | None = None
    """Folder of the clips of one action, or of action folders, instead of a split."""
    clips: tuple[Path, ...] = ()
    """Clips of one action instead of a split."""
    top_k: int = 2
    """Classes named per task, likeliest first."""
    calibration: Path | None = None
    """Logit offsets that `analyze --val_logits` wrote."""
    out: Path = Path("predictions.json")
    """File for the result, .json or .csv."""
    page_actions: int = 50
    """Actions on the page beside --out, .html, that plays their clips; 0: no page."""
    inference: InferenceConfig = field(default_factory=InferenceConfig)


@dataclass(frozen=True, kw_only=True)
class SubmitConfig:
    """Write the file that the official evaluation takes."""

    checkpoint: Path
    """Run folder or checkpoint folder."""
    split: Literal["test", "challenge"] = "test"
    """Split to submit for."""
    out: Path
    """File for the submission."""
    allow_missing_clips: bool = False
    """An action without a readable view gets the commonest labels of training instead of stopping."""
    calibration: Path | None = None
    """Logit offsets that `analyze --val_logits` wrote."""
    inference: InferenceConfig = field(default_factory=InferenceConfig)


@dataclass(frozen=True, kw_only=True)
class ExperimentConfig:
    """Train fresh heads on the features of a trained backbone, once per method and seed, and compare them."""

    checkpoint: Path
    """Run folder or checkpoint folder whose backbone is used as it is."""
    dataset_root: Path = InferenceConfig.dataset_root
    """Folder that holds the splits, or `mvfouls` with the splits in it."""
    split: Literal["valid", "test"] = "valid"
    """Split to judge on; the heads always learn from the training split."""
    methods: tuple[MethodName, ...] = get_args(MethodName)
    """Methods to compare; differences are to ce, where it is among them."""
    seeds: tuple[int, ...] = (0, 1, 2, 3, 4)
    """Seeds of the heads' first weights, the order of samples and dropout; the same for every method."""
    epochs: int = 60
    """Epochs of every training; what the last one leaves is judged."""
    lr: float = 1e-3
    """Learning rate of every training at its start; it falls to 0 along a cosine."""
    batch_size: int = 128
    """Actions of a step."""
    tasks: tuple[TaskName, ...] | None = None
    """Tasks that get a head, equally weighted. Default: those of the checkpoint."""
    bootstrap: int = 2000
    """Resamples of the judged actions behind the intervals."""
    out: Path = Path("experiment")
    """Folder of the page and of the features, which a second call uses again."""
    json: Path | None = None
    """File for every number. Default: none is written."""
    missing_clip: Literal["skip", "error"] = InferenceConfig.missing_clip
    """A clip that is listed but not there: leave it out and count it, or stop."""
    short_clip: Literal["pad", "skip", "error"] = InferenceConfig.short_clip
    """A clip that ends inside the window: repeat its last frame, leave it out, or stop."""
    unknown_labels: Literal["error", "ignore"] = EvaluateConfig.unknown_labels
    """A label that no class has: stop, or count and ignore it."""
    cache_dir: Path | None = InferenceConfig.cache_dir
    """Folder of decoded windows. Default: `mvfouls_cache` in the data set's root."""
    cache_format: Literal["uint8", "jpeg"] = InferenceConfig.cache_format
    """How they are stored."""
    device: str = InferenceConfig.device
    """auto, cpu, cuda or cuda:N."""


@dataclass(frozen=True, kw_only=True)
class AnalyzeConfig:
    """Count classes and show what balancing would do; fit logit offsets on validation logits."""

    annotations: Path | None = None
    """Annotation file to count; needed unless --val-logits goes alone."""
    unknown_labels: Literal["error", "ignore"] = "error"
    """A label that no class has: stop, or count and ignore it."""
    keep_junk_classes: Literal["none", "modular", "class_weights"] = "none"
    """Count "" and Dont know as classes, with the ids of that training script."""
    tasks: tuple[TaskName, ...] = ("action_class", "severity", "offence", "offence_severity")
    """Tasks whose balance is shown; distributions are shown for all. action_type means action_class."""
    class_weighting_strategy: Literal["balanced_capped", "sqrt", "log", "effective_number", "none"] = (
        ClassWeightingConfig.class_weighting_strategy
    )
    """Formula of the class weights."""
    max_weight_ratio: float = ClassWeightingConfig.max_weight_ratio
    """Largest weight over the smallest."""
    use_class_balanced_sampler: bool = SamplingConfig.use_class_balanced_sampler
    """Draw rare classes more often."""
    oversample_factor: float = SamplingConfig.oversample_factor
    """Largest factor by which a class is drawn more often."""
    ldam_max_m: float = TaskLossConfig.ldam_max_m
    """ldam: margin of the rarest class."""
    balance: BalanceConfig = field(default_factory=BalanceConfig)
    val_logits: Path | None = None
    """val_logits.npz of a run, to fit logit offsets and thresholds on."""
    max_offset: float = 3.0
    """Largest logit offset, in nats."""
    out: Path = Path("calibration.json")
    """File for the offsets and thresholds, which `predict` and `submit` accept."""
    json: Path | None = None
    """File for everything that was counted. Default: none is written."""


@dataclass(frozen=True, kw_only=True)
class DoctorConfig:
    """Look for what is wrong with a data set, a weights file and this machine."""

    dataset_root: Path = Path(".")
    """Folder that holds the splits, or `mvfouls` with the splits in it."""
    weights: str = "none"
    """Weights file of --backbone-name to check, or auto for torchvision's file in --weights-dir."""
    weights_dir: Path = Path("weights")
    """Folder of weights files for auto."""
    backbone_name: BackboneName = "r2plus1d_18"
    """Network that the weights are for."""
    cache_dir: Path | None = None
    """Folder of decoded windows. Default: `mvfouls_cache` in the data set's root."""
    cache_format: Literal["uint8", "jpeg"] = "uint8"
    """How they would be stored."""
    decode_clips: bool = True
    """Decode every clip up to the end of the window; off: only what the files say of themselves is read."""
    num_workers: int = 2
    """Threads that decode clips."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""


@dataclass(frozen=True, kw_only=True)
class PrepareConfig:
    """Decode every clip once, or generate a data set."""

    dataset_root: Path | None = None
    """Folder that holds the splits, or `mvfouls` with the splits in it; needed without --synthetic."""
    cache_dir: Path | None = None
    """Folder of decoded windows. Default: `mvfouls_cache` in the data set's root."""
    window: tuple[int, int] = (59, 90)
    """First and last frame to keep, at 25 frames per second."""
    cache_format: Literal["uint8", "jpeg"] = "uint8"
    """uint8: fastest; jpeg: a tenth of the size, not exact."""
    max_cache_gb: float | None = None
    """Largest size of the store, in GB of 10^9 bytes. It is filled up to that: entries that this command has
    not come across are removed, the least recently used first, then no more are stored. Default: no limit."""
    workers: int = 2
    """Threads that decode."""
    synthetic: Path | None = None
    """Write a complete generated data set to `mvfouls` in this folder instead."""
    contents: Literal["complete", "motion"] = "complete"
    """complete: four splits with the real shares of classes and every oddity; motion: training and validation
    with four classes of action and of outcome that only motion tells apart, 50 of the commonest to one of the
    rarest."""
    actions: int = 24
    """Actions of the generated training split."""
    size: tuple[int, int] = (398, 224)
    """Width and height of the generated clips."""
    damaged_clips: bool = False
    """The generated training split has an empty clip, besides the missing and the short one it has anyway."""
    seed: int = 0
    """Seed of the generated data set."""
