"""Settings of every command. Each field is a flag; its docstring is the flag's help."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

FORMATS = Literal["auto", "sdd", "sdd_tugraz", "udd6", "dronedeploy", "aeroscapes", "folder", "synthetic"]
MODELS = Literal[
    "compact",
    "mmseg_bisenetv2",
    "lraspp_mobilenet_v3_large",
    "deeplabv3_mobilenet_v3_large",
    "deeplabv3_resnet50",
    "deeplabv3plus_resnet50",
]
SPLIT_MODES = Literal["auto", "random", "grouped", "official", "file"]

PRESETS: dict[str, dict[str, object]] = {
    "guide": {
        "void": "train",
        "class_weights": ["guide"],
        "scale_range": [1.0, 1.0],
        "rare_crop_fraction": 0.0,
        "split_mode": "random",
        "monitor": "miou",
    },
    "safe": {
        "void": "ignore",
        "class_weights": ["balanced"],
        "scale_range": [0.5, 2.0],
        "rare_crop_fraction": 0.5,
        "split_mode": "auto",
        "monitor": "expected_cost",
    },
}


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Where the photos are and how their labels read."""

    dataset_path: Path | None = None
    """Root of the data set. Default: $UAV_LANDING_DATASET, else the documented datasets folder."""
    dataset_format: FORMATS = "auto"
    """Layout of the root. `synthetic` writes generated scenes there when the folder is absent or empty;
    without a path into `datasets/synthetic`."""
    label_table: str | None = None
    """Label table: sdd, udd6, dronedeploy, aeroscapes, landing4 or a YAML file. Default: the layout's own."""
    mapping: Path | None = None
    """YAML file, fine id -> landing class 0..3, in place of the table's own mapping."""
    color_tolerance: int = 0
    """Colour masks: largest difference per channel (0..20) to the nearest table colour."""


@dataclass(frozen=True, kw_only=True)
class SplitConfig:
    """How photos are divided into train, val and test."""

    split_mode: SPLIT_MODES = "auto"
    """auto, random, grouped, official or file."""
    split_file: str | None = None
    """YAML file {train, val, test: [stems]}, or the shipped name `sdd32`. Only with --split-mode file."""
    split_seed: int = 42
    """Seed of the random split."""
    train_fraction: float = 0.70
    """Share of photos (or groups) for training."""
    val_fraction: float = 0.15
    """Share for validation; the rest is test."""


@dataclass(frozen=True, kw_only=True)
class StoreConfig:
    """The decode-once store of pixels."""

    store_scale: float | Literal["auto"] = "auto"
    """Pixel scale of the store in (0, 1]; auto: 0.5 for Semantic Drone photos longer than 4096 px, else 1."""
    cache_dir: Path | None = None
    """Folder of the store. Default: .uav_landing_store beside the data set."""
    max_disk_gb: float = 40.0
    """A store larger than this is refused before anything is written."""
    rebuild_cache: bool = False
    """Build the store anew."""


@dataclass(frozen=True, kw_only=True)
class CropConfig:
    """How training crops are drawn from a photo."""

    input_size: tuple[int, int] = (512, 512)
    """Height and width of training crops and inference tiles, multiples of 32."""
    crops_per_image: int = 6
    """Fresh random crops per training photo and epoch."""
    scale_range: tuple[float, float] = (0.5, 2.0)
    """Crops are taken at a log-uniform scale between these two."""
    rare_crop_fraction: float = 0.5
    """Share of crops centred on a rare dangerous object."""
    rare_temperature: float = 0.1
    """Lower prefers rarer objects more strongly."""
    augment: bool = True
    """Flips, quarter turns, brightness and contrast."""
    hflip_p: float = 0.5
    """Probability of a horizontal flip."""
    rot90_p: float = 0.3
    """Probability of a quarter turn (half turn for crops that are not square)."""
    brightness_contrast_p: float = 0.3
    """Probability of a brightness and contrast change of up to 0.2."""
    color_jitter_p: float = 0.0
    """Probability of a change of hue (up to 16 degrees) and saturation (up to 12 %)."""
    mosaic_p: float = 0.0
    """Probability that a crop not centred on a rare object is put together from four photos: with few
    photos, the network then cannot know a place by heart."""


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """Which network, and where its weights come from."""

    model_type: MODELS = "compact"
    """Network architecture."""
    width_multiplier: float = 1.0
    """Scale of the five stage widths; compact only."""
    pretrained_path: str = "none"
    """Local weights file, or `none` for random initialisation."""
    pretrained_min_coverage: float = 0.95
    """Share of backbone tensors that must match the weights file."""


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """Losses and their balance."""

    void: Literal["train", "ignore"] = "ignore"
    """train: class 0 is an output of its own; ignore: its pixels carry no loss and no metric."""
    loss: Literal["balanced_focal", "ce", "logit_adjusted"] = "balanced_focal"
    """Main loss."""
    gamma: float = 2.0
    """Focal exponent."""
    class_weights: tuple[str, ...] = ("balanced",)
    """guide, none, one number per class, or a strategy: balanced, balanced_capped, sqrt, log,
    effective_number, median_frequency, enet_log. Counted on the training split only."""
    weight_cap: float = 0.0
    """Largest ratio of two class weights (at least 1); 0 = no cap."""
    focal_normalize: Literal["pixels", "alpha"] = "pixels"
    """Divide the focal sum by the number of valid pixels, or by the sum of their weights."""
    focal_weight: float = 1.0
    """Weight of the main loss."""
    dice_weight: float = 0.5
    """Weight of the Dice loss; 0 removes it."""
    aux_weight: float = 0.4
    """Weight of each auxiliary head; 0 builds none. mmseg_bisenetv2 and deeplabv3_* only."""


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """Optimiser and learning-rate schedule."""

    learning_rate: float = 3e-4
    """Base learning rate."""
    optimizer: Literal["adamw", "sgd", "adam"] = "adamw"
    """Optimiser."""
    weight_decay: float = 1e-4
    """Weight decay; none on biases and norm weights."""
    ema_decay: float = 0.0
    """Decay of averaged weights, used for validation and the best checkpoint; 0 = off."""
    grad_clip: float = 0.0
    """Largest global gradient norm after accumulation; 0 = off."""
    scheduler: Literal[
        "cosine_warm_restarts", "cosine", "onecycle", "step", "exponential", "polynomial", "plateau", "none"
    ] = "cosine_warm_restarts"
    """Learning-rate schedule."""
    t_0: int = 10
    """Epochs of the first cycle; cosine_warm_restarts only."""
    t_mult: int = 2
    """Growth of each further cycle; cosine_warm_restarts only."""
    eta_min: float = 1e-6
    """Smallest learning rate of a decaying schedule."""
    warmup_epochs: float = 0.0
    """Epochs of linear warm-up before the schedule starts."""


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """Validation during training, and its alarms."""

    monitor: Literal["miou", "miou_landing", "expected_cost"] = "expected_cost"
    """Validation metric that chooses the best checkpoint."""
    patience: int = 0
    """Stop after this many epochs without a better one; 0 = off."""
    tile_overlap: float = 0.5
    """Overlap of neighbouring inference tiles, 0..0.9."""
    tile_batch: int = 4
    """Tiles per forward pass."""
    eval_every: int = 1
    """Epochs between validations; the last epoch is always validated."""
    alarms: bool = True
    """Print red flags."""
    alarm_patience: int = 5
    """Validations a red flag must hold."""
    stop_on_alarm: bool = False
    """Save and stop with exit code 3 at the first red flag."""


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """The run itself: size, seed, device, files."""

    batch_size: int = 6
    """Crops per micro-batch and process."""
    epochs: int = 30
    """One epoch is `crops-per-image` fresh crops of every training photo."""
    accumulation_steps: int = 3
    """Micro-batches per optimiser step."""
    max_memory_gb: float = 5.0
    """Memory budget for decoded pixels of all processes together; a larger store is read from disk."""
    output_dir: Path = Path("outputs/fixed_training")
    """Receives the run folders."""
    wandb_project: str = "uav-landing-fixed"
    """Weights & Biases project."""
    wandb_mode: Literal["auto", "online", "offline", "disabled"] = "auto"
    """auto: disabled without the package, offline without a key, else online."""
    workers: int = 2
    """Loader processes; batches do not depend on their number."""
    seed: int = 42
    """Seed of weights, crop order and augmentation."""
    deterministic: bool = False
    """Deterministic kernels; an operator without one is an error."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    amp: Literal["auto", "off", "bf16", "fp16"] = "auto"
    """Mixed precision; auto: bf16 where the GPU supports it, off on CPU."""
    save_every_steps: int = 0
    """Optimiser steps between extra checkpoints within an epoch; 0 = at the end of epochs only."""
    resume: str | None = None
    """Run folder, checkpoint folder, `last` or `best` to continue from."""
    max_images: int = 0
    """Use the first N photos of each split; 0 = all."""
    max_steps: int = 0
    """Stop after N optimiser steps; 0 = all."""
    test_run: bool = False
    """Two photos per split, one epoch of two steps, validation, checkpoint and report."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Train a landing-safety segmenter."""

    preset: Literal["guide", "safe"] = "safe"
    """Bundle of settings: `guide` as documented, `safe` as recommended. Typed flags win."""
    data: DataConfig = field(default_factory=DataConfig)
    unknown_labels: Literal["error", "ignore"] = "error"
    """A label outside the table: stop, or ignore those pixels and print how many."""
    split: SplitConfig = field(default_factory=SplitConfig)
    store: StoreConfig = field(default_factory=StoreConfig)
    crops: CropConfig = field(default_factory=CropConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    run: RunConfig = field(default_factory=RunConfig)


@dataclass(frozen=True, kw_only=True)
class AnalyzeConfig:
    """Count the classes of a data set and recommend weights."""

    data: DataConfig = field(default_factory=DataConfig)
    split_mode: SPLIT_MODES = "random"
    """How the split is made when --split is not all."""
    split_file: str | None = None
    """YAML file {train, val, test: [stems]}, or the shipped name `sdd32`. Only with --split-mode file."""
    split_seed: int = SplitConfig.split_seed
    """Seed of the random split."""
    split: Literal["all", "train", "val", "test"] = "all"
    """Photos to count."""
    samples: int = 0
    """Number of label files to count; 0 = all."""
    sample_order: Literal["random", "first"] = "random"
    """Which files when --samples is set."""
    unknown_labels: Literal["report", "error"] = "report"
    """A label outside the table: report it, or stop with exit code 2."""
    bootstrap: int = 2000
    """Photo-level resamples for the 95 % intervals; 0 = off."""
    void: Literal["train", "ignore"] = "train"
    """Four-class or three-class weights on the console; the JSON holds both."""
    output_dir: Path = Path()
    """Folder of the three files."""
    json: Path | None = Path("class_distribution.json")
    """JSON file; --json None or --no-json writes none."""
    csv: Path | None = Path("class_distribution.csv")
    """CSV file; --csv None or --no-csv writes none."""
    plot: Path | None = Path("class_distribution_analysis.png")
    """Plot; --plot None or --no-plot writes none."""
    workers: int = 2
    """Processes that decode masks; the result does not depend on it."""
    seed: int = 42
    """Seed of sampling and bootstrap."""


@dataclass(frozen=True, kw_only=True)
class PrepareConfig:
    """Decode every photo once into the store."""

    data: DataConfig = field(default_factory=DataConfig)
    unknown_labels: Literal["error", "ignore"] = "error"
    """A label outside the table: stop, or ignore those pixels and print how many."""
    store: StoreConfig = field(default_factory=StoreConfig)
    verify: bool = False
    """Hash every stored file again."""


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """Judge a checkpoint on full photos."""

    checkpoint: Path
    """Run folder or checkpoint folder."""
    data: DataConfig = field(default_factory=DataConfig)
    unknown_labels: Literal["error", "ignore"] = "error"
    """A label outside the table: stop, or ignore those pixels and print how many."""
    split_mode: SPLIT_MODES | Literal["checkpoint"] = "checkpoint"
    """checkpoint: the split stored at training; otherwise as in training."""
    split_file: str | None = None
    """YAML file {train, val, test: [stems]}, or the shipped name `sdd32`. Only with --split-mode file."""
    split_seed: int = SplitConfig.split_seed
    """Seed of the random split."""
    split: Literal["train", "val", "test", "all"] = "val"
    """Photos to judge; all: every photo of the data set."""
    foreign: bool = False
    """Accept photos whose label table or mapping is not the one of training."""
    store: StoreConfig = field(default_factory=StoreConfig)
    tile_overlap: float = EvaluationConfig.tile_overlap
    """Overlap of neighbouring tiles, 0..0.9."""
    tile_batch: int = EvaluationConfig.tile_batch
    """Tiles per forward pass."""
    tta: bool = False
    """Mean over the eight flips and quarter turns."""
    groups: Path | None = None
    """YAML file {group: [stems]} for the intervals. Default: the data set's own groups, else photos."""
    bootstrap: int = AnalyzeConfig.bootstrap
    """Resamples of the 95 % intervals; 0 = no intervals."""
    json: Path | None = Path("evaluation.json")
    """Result file; relative names are inside the run folder."""
    html: Path | None = Path("evaluation.html")
    """Report; relative names are inside the run folder."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""


@dataclass(frozen=True, kw_only=True)
class PredictConfig:
    """Write masks for photos, folders or videos."""

    checkpoint: Path
    """Run folder or checkpoint folder."""
    input: Path
    """Photo, folder of photos, or video."""
    output: Path = Path("predictions")
    """Folder for the results."""
    format: tuple[Literal["ids", "color", "overlay", "probs"], ...] = ("ids", "overlay")
    """What to write for each photo, besides its JSON file."""
    scale: float | Literal["auto"] = "auto"
    """Scale at which photos are shown to the network; auto: that of the training store."""
    every: int = 1
    """Take every N-th frame of a video."""
    tile_overlap: float = EvaluationConfig.tile_overlap
    """Overlap of neighbouring tiles, 0..0.9."""
    tile_batch: int = EvaluationConfig.tile_batch
    """Tiles per forward pass."""
    tta: bool = False
    """Mean over the eight flips and quarter turns."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
