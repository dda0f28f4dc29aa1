"""Settings of every command. Each field is a flag; its docstring is the flag's help."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import tyro

KEYPOINTS = ("mouth", "tail_base", "L_frontpaw", "R_frontpaw", "L_hindpaw", "R_hindpaw")
BACKBONES = Literal[
    "none",
    "tiny_cnn",
    "resnet18",
    "resnet50",
    "vit_small_patch14_dinov2.lvd142m",
    "vit_base_patch14_dinov2.lvd142m",
    "vit_small_patch16_224.augreg_in21k",
    "vit_base_patch16_224.augreg_in21k",
]
WEIGHTINGS = Literal[
    "none", "balanced", "balanced_capped", "sqrt", "log", "effective_number", "median_frequency", "enet_log"
]


@dataclass(frozen=True, kw_only=True)
class TrialConfig:
    """Where labels, videos and keypoints are, and how they line up."""

    annotations: Path
    """Folder of label files `prediction_<video file>_<trial>.csv`; its parent receives the best model."""
    videos: Path
    """Folder of videos and DeepLabCut files."""
    pose_dir: Path | None = None
    """Folder of the DeepLabCut files. Default: the videos folder."""
    trial_frames: int = 360
    """Frames of a trial's slot in its video."""
    min_frames: int = 345
    """Label files with fewer rows and videos with fewer frames are skipped, counted and listed."""
    manifest: Path | None = None
    """CSV `video,trial,start,rows,group` that overrides the alignment row by row."""
    label_map: Path | None = None
    """YAML file of classes, background and raw ids. Default: the six merged classes."""
    frame_size: str | None = None
    """`W,H` in pixels, only when neither video nor metadata says it."""
    fps: float | None = None
    """Frames per second, only when neither video nor metadata says it."""
    on_bad_trial: Literal["error", "skip"] = "error"
    """A trial that cannot be used: stop, or skip and count it."""
    on_missing_pose: Literal["error", "skip", "zeros"] = "error"
    """A trial without keypoints: stop, skip and count it, or use it with every keypoint missing."""


@dataclass(frozen=True, kw_only=True)
class PoseConfig:
    """Which keypoints are read, and what the network sees of them."""

    kp_names: str = ",".join(KEYPOINTS)
    """Comma list of body parts, in channel order."""
    kp_alias: tuple[str, ...] = ()
    """`FILE_NAME=kp_name`, once per name: how a body part is called in the files."""
    kp_likelihood_thr: float = 0.90
    """Smallest likelihood of a visible keypoint."""
    dlc_pick: Literal["raw", "filtered"] = "raw"
    """Which of two DeepLabCut files of one video."""
    dlc_scorer: str | None = None
    """Which scorer, when a video has files of several."""
    individual: str | None = None
    """Which animal of a multi-animal file."""
    pose_features: Literal["invariant", "graph18", "generic", "none"] = "invariant"
    """Features made of the keypoints."""
    axis_points: str | None = None
    """`A,B`: body axis of the generic features. Default: the first two keypoints."""
    max_gap: int = 15
    """Longest run of missing frames that is filled."""


@dataclass(frozen=True, kw_only=True)
class SplitConfig:
    """How videos are divided into train, val and test."""

    group_by: Literal["video", "trial"] = "video"
    """Unit that is never on two sides."""
    group_regex: str | None = None
    """Expression with (?P<group>...) that finds the unit, such as the animal, in a video's name."""
    val_share: float = 0.1
    """Share of labelled frames for validation; 0 = train all epochs and export the last weights, unscored."""
    test_share: float = 0.0
    """Share of labelled frames for test."""
    split_file: Path | None = None
    """JSON file {"train": [units], "val": [...], "test": [...]}."""


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """What is changed at random in a training window."""

    augment: bool = True
    """Master switch of all that follows."""
    kp_jitter_std: float = 0.02
    """Standard deviation of noise on visible keypoints, in frame sizes; 0 = off."""
    kp_jitter_mode: Literal["auto", "frame", "window"] = "auto"
    """Noise per frame, or one offset per window; auto: frame for graph18, window for speeds."""
    aug_brightness: float = 0.2
    """Brightness factor 1 - b to 1 + b with probability 0.5; 0 = off."""
    aug_contrast: float = 0.2
    """Contrast factor 1 - c to 1 + c with probability 0.5; 0 = off."""
    aug_temporal_drop: float = 0.1
    """Share of video frames replaced by the one before, with probability 0.3; 0 = off."""
    aug_hflip: float = 0.0
    """Probability of a horizontal flip that swaps left and right keypoints."""
    aug_noise_std: float = 0.02
    """Standard deviation of noise on the video, with probability 0.3; 0 = off."""
    aug_roll: int = 5
    """Largest circular shift in frames, with probability 0.2; wrapped frames carry no loss; 0 = off."""


@dataclass(frozen=True, kw_only=True)
class BalanceConfig:
    """How rare behaviours are made to count."""

    rare_boost_cap: float = 30.0
    """Largest repetition factor of a rare class; 1 = off."""
    rare_threshold_share: float = 0.02
    """A class is rare below this share of training frames; 0 = off."""
    rare_margin: int = 15
    """Frames on either side of a repeated bout that also carry loss."""
    class_weighting: WEIGHTINGS = "balanced_capped"
    """Class weights from the frames that training presents."""
    max_weight_ratio: float = 10.0
    """Largest ratio between two class weights; balanced_capped only."""


@dataclass(frozen=True, kw_only=True)
class LossConfig:
    """Losses and their weights."""

    loss: Literal["focal", "ce", "logit_adjusted", "ldam"] = "focal"
    """Action loss; ldam brings a cosine head and takes no class weights."""
    focal_gamma: float = 2.5
    """Focal exponent; 0 = cross-entropy."""
    label_smoothing: float = 0.1
    """Share of the target spread over all classes."""
    lambda_smooth: float = 5e-4
    """Weight of the difference of neighbouring action logits."""
    lambda_tmse: float = 0.15
    """Weight of the truncated squared difference of neighbouring log-probabilities."""
    lambda_kp: float = 1.0
    """Weight of the keypoint loss."""
    kp_task: Literal["masked", "copy"] = "masked"
    """masked: predict keypoints hidden from the input; copy: all visible ones."""
    kp_beta: float = 0.05
    """Where the keypoint loss turns from quadratic to linear, in frame sizes."""


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The network."""

    model_type: Literal["multitask", "action_only"] = "multitask"
    """With or without the keypoint head."""
    backbone: BACKBONES = "tiny_cnn"
    """Image network applied to every frame; none: keypoints only."""
    backbone_weights: Path | None = None
    """Local weights file, required for every backbone but none and tiny_cnn."""
    random_backbone: bool = False
    """Allow a large backbone without weights."""
    backbone_type: Literal["vit_2d", "videomae2_3d"] | None = None
    """Legacy: vit_2d needs the ViT's name in --encoder_name; videomae2_3d is not available."""
    clip_T: int = 16
    """Frames per clip of a clip backbone; none of the backbones here is one."""
    img_size: int = 224
    """Side of the square network input."""
    resize_mode: Literal["letterbox", "stretch"] = "letterbox"
    """Keep the frame's shape and pad, or distort it."""
    freeze_backbone_epochs: int = 3
    """Epochs during which the backbone is frozen and its features come from a cache."""
    unfreeze_blocks: int = 4
    """Backbone blocks that open afterwards; 0 = never."""
    backbone_lr_scale: float = 0.1
    """Learning rate of the backbone relative to --lr."""
    save_backbone: bool = True
    """Store the backbone in the exported model; without it, loading needs --backbone_weights."""
    temporal_model: Literal["mstcnpp", "tcn"] = "mstcnpp"
    """Network over time."""
    causal: bool = False
    """No output depends on later frames; needed for live use."""
    hidden_dim: int | None = None
    """Channels of the temporal network. Default: 64, for tcn 512."""
    num_layers: int | None = None
    """Layers of each stage. Default: 10, for tcn 3."""
    refinements: int | None = None
    """Refinement stages. Default: 1; tcn has none."""
    dropout: float = 0.3
    """Dropout of the temporal layers; half of it in the keypoint projection."""
    head_dropout: float = 0.2
    """Dropout before the outputs."""


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """Optimiser and learning-rate schedule."""

    lr: float = 5e-5
    """Learning rate of heads and temporal network."""
    weight_decay: float = 5e-2
    """AdamW weight decay; none on biases and norms."""
    lr_schedule: Literal["cosine", "plateau"] = "cosine"
    """cosine, or a drop when Val macro F1 stalls."""
    lr_patience: int = 10
    """plateau: epochs without gain before a drop."""
    lr_factor: float = 0.5
    """plateau: factor of a drop."""
    min_lr: float = 1e-6
    """Smallest learning rate."""
    warmup_epochs: int = 10
    """Epochs of linear warm-up; unless typed, at most half of --epochs, or as before on --resume."""
    clip_norm: float = 1.0
    """Largest gradient norm; 0 = off."""
    use_ema: bool = False
    """Validate, keep and serve averaged weights."""
    ema_decay: float = 0.999
    """Decay of the average."""


@dataclass(frozen=True, kw_only=True)
class CacheConfig:
    """The cache of backbone features."""

    cache_dir: Path | None = None
    """Folder of the cache. Default: `cache` beside the run folders."""
    cache_views: int = 2
    """Augmented copies of each video's features besides the clean one."""
    cache_max_gb: float = 20.0
    """Largest size of cached frames; above it, frames are decoded for each window."""


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """The run itself: size, seed, device, files."""

    epochs: int = 30
    """Epochs; also the horizon of the schedule."""
    batch_size: int = 2
    """Windows per micro-batch and process."""
    accumulation_steps: int = 1
    """Micro-batches per optimiser step."""
    train_T: int = 180
    """Frames of a training window."""
    val_T: int = 240
    """Frames of an evaluation window."""
    early_stopping_patience: int = 20
    """Epochs without a higher Val macro F1 before the run stops; 0 = off."""
    seed: int = 123
    """Seed of split, weights, order and augmentation."""
    num_workers: int = 2
    """Loader processes; batches do not depend on their number."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    mixed_precision: Literal["auto", "off", "bf16"] = "auto"
    """auto: bf16 where the GPU supports it, off on CPU."""
    deterministic: bool = False
    """Deterministic kernels; an operator without one is an error."""
    oom_recovery: bool = True
    """Replay a step that ran out of memory in smaller micro-batches."""
    run_dir: Path | None = None
    """Run folder. Default: `runs/<time>_<name>` beside the annotations."""
    resume: str | None = None
    """Run folder or checkpoint folder to continue from."""
    max_steps: int = 0
    """Stop after N optimiser steps; 0 = all."""
    test_run: bool = False
    """One epoch of two steps, validation, checkpoint and report."""
    strict_config_validation: bool = False
    """Flags without effect are errors."""
    use_wandb: bool = False
    """Copy the metrics to Weights & Biases."""
    wandb_project: str = "rodent_behavior"
    """Weights & Biases project."""
    wandb_entity: str | None = None
    """Weights & Biases team."""
    wandb_run_name: str | None = None
    """Weights & Biases run name. Default: made of the settings."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """Train a behaviour model on labelled trials."""

    trials: TrialConfig
    pose: PoseConfig = field(default_factory=PoseConfig)
    split: SplitConfig = field(default_factory=SplitConfig)
    augmentation: AugmentConfig = field(default_factory=AugmentConfig)
    balance: BalanceConfig = field(default_factory=BalanceConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    model: ModelConfig = field(default_factory=ModelConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    cache: CacheConfig = field(default_factory=CacheConfig)
    run: RunConfig = field(default_factory=RunConfig)


@dataclass(frozen=True, kw_only=True)
class DoctorConfig:
    """Look for what is wrong with a data set before training."""

    trials: TrialConfig
    pose: PoseConfig = field(default_factory=PoseConfig)
    split: SplitConfig = field(default_factory=SplitConfig)
    seed: int = RunConfig.seed
    """Seed of the split."""
    json: Path | None = None
    """File for the report."""
    strict: bool = False
    """Warnings make exit code 1 as well."""


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """Judge a model on labelled trials."""

    checkpoint: Path
    """Exported model file."""
    backbone_weights: Path | None = None
    """Weights file of the backbone, for a model exported without it."""
    trials: TrialConfig
    split: Literal["train", "val", "test", "all"] = "val"
    """Side of the split stored in the checkpoint; all: every trial found."""
    min_bout: tuple[str, ...] = ()
    """`N` or `NAME=N`: shorter runs take the label of the longer neighbour."""
    val_T: int = RunConfig.val_T
    """Frames of an evaluation window."""
    bootstrap: int = 2000
    """Resamples of videos for the 95 % intervals; 0 = off."""
    out: Path = Path("evaluation")
    """Folder for report.json and report.html."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""


@dataclass(frozen=True, kw_only=True)
class PredictConfig:
    """Write a behaviour for every frame of every video in a folder."""

    folder: tyro.conf.Positional[Path]
    """Folder of videos and DeepLabCut files."""
    checkpoint: Path = Path("best_model_multitask.pt")
    """Exported model file."""
    backbone_weights: Path | None = None
    """Weights file of the backbone, for a model exported without it."""
    pose_dir: Path | None = None
    """Folder of the DeepLabCut files. Default: the folder of the videos."""
    annotations: Path | None = None
    """Folder of label files that say where trials lie; each is predicted by itself, as `evaluate` does."""
    manifest: Path | None = None
    """CSV `video,trial,start,rows,group` that overrides where the trials of --annotations lie."""
    frame_size: str | None = None
    """`W,H` in pixels, only when neither video nor metadata says it."""
    fps: float | None = None
    """Frames per second, only when neither video nor metadata says it."""
    format: tuple[Literal["table", "annotation", "bouts"], ...] = ("table",)
    """table: name and probabilities per frame; annotation: raw ids per trial; bouts: one row per bout."""
    min_bout: tuple[str, ...] = ()
    """`N` or `NAME=N`: shorter runs take the label of the longer neighbour."""
    video: bool = False
    """Also write the video with the behaviour drawn on it."""
    trial_frames: int | None = None
    """Frames of a trial's slot: for --annotations, and for the formats annotation and bouts without them.
    Default: as in training."""
    val_T: int = RunConfig.val_T
    """Frames of a window."""
    out: Path | None = None
    """Folder for the results. Default: `predictions_<folder>`."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""


@dataclass(frozen=True, kw_only=True)
class DemoConfig:
    """Generate trials, train on them, evaluate, predict, stream and replay; nothing is downloaded."""

    out: Path = Path("demo/rodent_behavior")
    """Folder for everything."""
    epochs: int = 20
    """Epochs of training."""
    seed: int = 0
    """Seed of the generated trials."""
