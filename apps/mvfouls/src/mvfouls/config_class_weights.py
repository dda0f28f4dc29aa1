"""Settings of `train_with_class_weights.py`. Each field is a flag; its docstring is the flag's help."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from common.config import Aliases
from mvfouls import config_groups as groups
from mvfouls import config_shared as shared
from mvfouls.augment_presets import PRESETS, Strength

BackboneArch = Literal[
    "swin",
    "mvit",
    "mvitv2",
    "mvitv2_base",
    "k600",
    "kinetics600",
    "k400",
    "kinetics400",
    "pyslowfast",
    "true-mvitv2b",
    "mvitv2_s",
    "mvitv2_small",
    shared.BackboneName,
]
FreezeMode = Literal[
    "gradual",
    "freeze_all",
    "freeze_stages0",
    "freeze_stages1",
    "freeze_stages2",
    "freeze_stages3",
    "freeze_stages4",
    "none",
    "fixed",
    "adaptive",
    "progressive",
    "gradient_guided",
    "advanced",
]
Weighting = Literal["uniform", "inverse_accuracy", "inverse_f1", "difficulty"]
USUAL_STRENGTH: Strength = "moderate"
ALIASES: Aliases = {"balance_task": "balance_tasks"}


@dataclass(frozen=True, kw_only=True)
class SplitsConfig:
    """Where the data are."""

    train_dir: Path
    """Folder of the training clips, action_ID/clip_K.mp4."""
    val_dir: Path
    """Folder of the validation clips."""
    train_annotations: Path
    """Label file of the training clips; may lie elsewhere."""
    val_annotations: Path
    """Label file of the validation clips."""
    train_fraction: float = 1.0
    """Share of the training actions in use, the same of each action class."""


@dataclass(frozen=True, kw_only=True)
class CoreConfig:
    """What is learned, and for how long."""

    multi_task: bool = False
    """Learn action class, severity and offence together."""
    num_classes: Literal[2, 3, 4, 5, 8] = 2
    """Without --multi-task: 2 offence or not, 3 offence with Between, 4 the official classes of offence and
    severity, 5 severity, 8 action class."""
    epochs: int = 20
    """Epochs, also the length of the schedule; nothing but early stopping or a signal shortens them."""
    batch_size: int = 8
    """Samples of a step and process: clips, or actions with --bag-of-clips."""
    gradient_accumulation_steps: int = 1
    """Batches that make one step together."""
    lr: float = 1e-4
    """Learning rate."""
    head_lr: float | None = None
    """Rate of heads and aggregator. Default: --lr."""
    backbone_lr: float | None = None
    """Rate of the backbone. Default: --lr."""
    weight_decay: float = 1e-4
    """Not applied to biases, norms, class token and position tables."""
    seed: int = 42
    """Seed of weights, order, augmentation and measuring."""


@dataclass(frozen=True, kw_only=True)
class ArchitectureConfig(groups.ClipConfig):
    """Architecture."""

    backbone_arch: BackboneArch = "swin"
    """Network applied to each clip. k400 and k600 are mvitv2_b with a --weights file whose head has so many
    classes."""
    backbone_checkpointing: bool = False
    """Less memory, more time, equal gradients; the same as --activation-checkpointing."""


@dataclass(frozen=True, kw_only=True)
class FreezeConfig:
    """Freezing."""

    freeze_mode: FreezeMode = "gradual"
    """gradual: blocks open by --unfreeze-schedule; freeze_all: heads only; freeze_stagesK: all but
    patch_embed and the first K stages; none: everything trains; or a strategy of train_modular.py."""
    disable_gradual_unfreezing: bool = False
    """Nothing opens."""
    unfreeze_schedule: str | None = None
    """JSON of completed epochs and groups, such as '{"3": "stage_3"}'; then stage_2, stage_1, stage_0,
    patch_embed. Default: by the number of epochs."""
    reduce_batch_on_unfreeze: bool = False
    """From the first opening on, compute a step in parts of --unfreeze-batch-size, with the same result."""
    unfreeze_batch_size: int = 3
    """Largest part."""
    adaptive_lr: bool = False
    """Raise the learning rate of groups as they open, by their place and size."""
    lr_scale_minor: float = 1.2
    """Factor of patch_embed and stage_0."""
    lr_scale_major: float = 1.5
    """Factor of stage_1, stage_2 and stage_3."""
    lr_scale_massive: float = 2.0
    """Factor of stage_2 and stage_3 with more than ten million parameters."""


@dataclass(frozen=True, kw_only=True)
class ClassWeightsGroup:
    """Class weights."""

    disable_class_weights: bool = False
    """No class weights."""
    enable_class_weights: bool = False
    """Class weights also with a balancing sampler, for what it presents."""
    class_weight_cap: float = 10.0
    """Largest class weight."""
    effective_class_weights: bool = False
    """Weights from effective numbers of samples instead of inverse counts."""
    task_class_weights: str | None = None
    """JSON of given class weights, such as '{"offence": [1, 4, 9]}'."""


@dataclass(frozen=True, kw_only=True)
class TaskWeightsConfig:
    """Task weights; only their ratios matter."""

    primary_task_weight: float = 3.0
    """Weight of --primary-tasks in the loss."""
    auxiliary_task_weight: float = 1.0
    """Weight of the other tasks."""
    primary_tasks: tuple[shared.TaskName, ...] = ("action_class", "severity", "offence")
    """Tasks of the first weight."""
    use_smart_weighting: bool = False
    """Weights by role: action class and severity core, offence support, others context."""
    core_task_weight: float = 20.0
    """Weight of core tasks."""
    support_task_weight: float = 2.0
    """Weight of support tasks."""
    context_task_weight: float = 0.5
    """Weight of context tasks."""
    task_loss_weights: str | None = None
    """JSON of given task weights, such as '{"severity": 2}'."""
    adaptive_weights: bool = False
    """Weigh tasks anew after each epoch, those that did badly more."""
    weighting_strategy: Weighting = "inverse_accuracy"
    """How."""
    task_weight_source: Literal["train", "valid"] = "train"
    """Metrics that the weights follow."""


@dataclass(frozen=True, kw_only=True)
class SamplerConfig:
    """Sampling."""

    balanced_sampling: bool = False
    """Draw the classes of --balance-tasks equally often."""
    joint_severity_sampling: bool = False
    """Draw the pairs of action class and severity equally often."""
    dynamic_sampler: bool = False
    """Draw classes of low training recall more often, anew each epoch."""
    dynamic_sampler_task: shared.TaskName = "action_class"
    """Task whose recall counts."""
    dynamic_sampler_power: float = 1.0
    """Exponent of one over the recall."""


@dataclass(frozen=True, kw_only=True)
class BalanceConfig(shared.BalanceConfig):
    """How sampler and class weights go together."""

    balance_tasks: tuple[shared.TaskName, ...] = ("action_class", "severity", "offence")
    """Tasks that --balanced-sampling balances. Deprecated spelling: --balance-task."""


@dataclass(frozen=True, kw_only=True)
class TaskLossConfig(shared.TaskLossConfig):
    """Losses."""

    loss_type: Literal["ce", "focal"] | None = None
    """Loss of all tasks. Default: focal for severity, ce for the others."""
    focal_gamma: float = 2.0
    """Focal exponent; 0 = cross-entropy."""
    label_smoothing: float = 0.0
    """Share of the target that is spread over all classes."""


@dataclass(frozen=True, kw_only=True)
class TasksConfig(shared.TasksConfig):
    """What else is learned."""

    auxiliary_tasks: tuple[shared.AuxiliaryTask, ...] = ("none",)
    """Tasks learned besides those of --multi-task; targets only, never inputs."""


@dataclass(frozen=True, kw_only=True)
class BagConfig:
    """Clips or actions."""

    bag_of_clips: bool = False
    """A sample is an action with its clips; off: one clip."""
    max_clips_per_action: int = 8
    """Clips of a sample at most."""
    min_clips_per_action: int = 1
    """Training actions with fewer clips are left out."""
    clip_sampling_strategy: Literal["random", "uniform", "all"] = "random"
    """Which clips when there are more: others each epoch, evenly spaced ones, or all after all."""
    clip_pooling_type: Literal["mean", "max", "attention"] = "mean"
    """How the clips of an action are joined."""
    clip_pooling_temperature: float = 1.0
    """Divides the scores of attention."""


@dataclass(frozen=True, kw_only=True)
class EvalConfig:
    """Validation."""

    eval_freq: int = 1
    """Epochs between validations; the last epoch is always validated."""
    eval_batches: int | None = None
    """Validation batches, and no leaderboard value. Default: all."""
    save_val_logits: bool = False
    """Write val_logits.npz of the best epoch."""
    checkpoint_metric: str = "leaderboard"
    """Chooses the best model: leaderboard, os_ba, action_ba, TASK_macro_f1, TASK_ba, TASK_acc, mean_ba or
    val_loss."""
    early_stopping: bool = False
    """Stop when the metric no longer improves."""
    early_stopping_patience: int = 6
    """Validations without a better metric before the run stops."""
    early_stopping_min_delta: float = 0.001
    """Smallest gain that counts."""


@dataclass(frozen=True, kw_only=True)
class JudgingConfig(shared.JudgingConfig):
    """How validation chooses the best model."""

    selection_metric: str = "leaderboard"
    """The same as --checkpoint-metric."""


@dataclass(frozen=True, kw_only=True)
class ScheduleConfig:
    """Learning-rate schedule."""

    lr_scheduler: Literal["cosine", "plateau"] = "cosine"
    """Multiplies every learning rate, whatever is frozen."""
    scheduler_warmup_epochs: int = 0
    """Epochs of linear rise."""
    min_lr: float = 1e-6
    """Learning rate below which cosine does not go."""
    plateau_patience: int = 3
    """Validations without a new best before a reduction; plateau, like all that follow."""
    plateau_factor: float = 0.5
    """Factor of a reduction."""
    plateau_threshold: float = 0.001
    """Relative gain that makes a new best."""
    plateau_min_lr: float = 1e-7
    """Learning rate below which no reduction goes."""
    plateau_mode: Literal["auto", "min", "max"] = "auto"
    """Direction of the metric; auto: that of --checkpoint-metric."""


@dataclass(frozen=True, kw_only=True)
class StrengthConfig(groups.StrengthConfig):
    """Augmentation strength."""

    augmentation_strength: Strength = USUAL_STRENGTH


@dataclass(frozen=True, kw_only=True)
class LegacyAugmentationConfig(groups.LegacyAugmentationConfig):
    """Legacy augmentation flags."""

    aggressive_augmentation: bool = False


@dataclass(frozen=True, kw_only=True)
class AugmentationConfig(groups.AugmentationConfig):
    """Specific augmentation parameters; a typed one beats the preset."""

    temporal_jitter_strength: int = PRESETS[USUAL_STRENGTH].jitter
    dropout_prob: float = PRESETS[USUAL_STRENGTH].frame_dropout
    spatial_crop_strength: float = PRESETS[USUAL_STRENGTH].crop
    color_aug_strength: float = PRESETS[USUAL_STRENGTH].colour
    noise_strength: float = PRESETS[USUAL_STRENGTH].noise


@dataclass(frozen=True, kw_only=True)
class InputConfig(shared.InputConfig):
    """How clips are fitted, chosen and kept."""

    view_sampling: Literal["first", "random"] = "random"
    """Clips of a training action with more than --max-clips-per-action: the first, or others each epoch."""


@dataclass(frozen=True, kw_only=True)
class SaveConfig(groups.ResumeConfig):
    """Saving and resuming."""

    output_dir: Path = Path("outputs_balanced")
    """Run folder."""


@dataclass(frozen=True, kw_only=True)
class RunConfig(shared.RunConfig):
    """The run itself."""

    overwrite: bool = False
    """Replace the run in --output-dir."""
    verbose: bool = False
    """Also print the settings that all flags amount to."""
    analyze_only: bool = False
    """Count the classes, show weights, margins and their effect, and stop."""


@dataclass(frozen=True, kw_only=True)
class ClassWeightsConfig:
    """Train on clips or actions with class weights, margins or balanced sampling."""

    splits: SplitsConfig
    core: CoreConfig = field(default_factory=CoreConfig)
    loading: groups.LoadingConfig = field(default_factory=groups.LoadingConfig)
    architecture: ArchitectureConfig = field(default_factory=ArchitectureConfig)
    video: groups.WindowConfig = field(default_factory=groups.WindowConfig)
    bags: BagConfig = field(default_factory=BagConfig)
    optimization: groups.StepConfig = field(default_factory=groups.StepConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    task_losses: TaskLossConfig = field(default_factory=TaskLossConfig)
    heads: shared.HeadConfig = field(default_factory=shared.HeadConfig)
    weighting: ClassWeightsGroup = field(default_factory=ClassWeightsGroup)
    task_weights: TaskWeightsConfig = field(default_factory=TaskWeightsConfig)
    sampling: SamplerConfig = field(default_factory=SamplerConfig)
    balance: BalanceConfig = field(default_factory=BalanceConfig)
    tasks: TasksConfig = field(default_factory=TasksConfig)
    freezing: FreezeConfig = field(default_factory=FreezeConfig)
    emergency: groups.EmergencyConfig = field(default_factory=groups.EmergencyConfig)
    adaptive: groups.AdaptiveConfig = field(default_factory=groups.AdaptiveConfig)
    gradient_guided: groups.GradientConfig = field(default_factory=groups.GradientConfig)
    advanced: groups.AdvancedConfig = field(default_factory=groups.AdvancedConfig)
    evaluation: EvalConfig = field(default_factory=EvalConfig)
    judging: JudgingConfig = field(default_factory=JudgingConfig)
    strength: StrengthConfig = field(default_factory=StrengthConfig)
    legacy_augmentation: LegacyAugmentationConfig = field(default_factory=LegacyAugmentationConfig)
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    device_augmentation: groups.DeviceAugmentationConfig = field(
        default_factory=groups.DeviceAugmentationConfig
    )
    modes: groups.ModesConfig = field(default_factory=groups.ModesConfig)
    saving: SaveConfig = field(default_factory=SaveConfig)
    memory: groups.MemoryConfig = field(default_factory=groups.MemoryConfig)
    data_optimization: groups.DataOptimizationConfig = field(default_factory=groups.DataOptimizationConfig)
    out_of_memory: groups.OomConfig = field(default_factory=groups.OomConfig)
    validation: groups.ValidationConfig = field(default_factory=groups.ValidationConfig)
    testing: groups.TrialRunConfig = field(default_factory=groups.TrialRunConfig)
    features: groups.FeatureConfig = field(default_factory=groups.FeatureConfig)
    backbone_weights: shared.WeightsConfig = field(default_factory=shared.WeightsConfig)
    labels: shared.LabelConfig = field(default_factory=shared.LabelConfig)
    projection: shared.ProjectionConfig = field(default_factory=shared.ProjectionConfig)
    input: InputConfig = field(default_factory=InputConfig)
    compute: shared.ComputeConfig = field(default_factory=shared.ComputeConfig)
    run: RunConfig = field(default_factory=RunConfig)
