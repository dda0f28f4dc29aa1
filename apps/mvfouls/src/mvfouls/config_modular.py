"""Settings of `train_modular.py`, in the groups of its document. Each field is a flag; its docstring is the
flag's help."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from common.config import Aliases, Presets
from mvfouls import config_groups as groups
from mvfouls import config_shared as shared

PresetName = Literal["very_small", "small", "medium", "large"]
Strategy = Literal["none", "fixed", "adaptive", "progressive", "gradient_guided", "advanced"]

PRESETS: Presets = {
    "very_small": {
        "augmentation_strength": "extreme",
        "progressive_class_balancing": True,
        "progressive_end_factor": 6.0,
        "label_smoothing": 0.15,
        "loss_function": "focal",
        "severity_aware_augmentation": True,
    },
    "small": {
        "augmentation_strength": "aggressive",
        "progressive_class_balancing": True,
        "progressive_end_factor": 4.0,
        "label_smoothing": 0.1,
        "loss_function": "focal",
    },
    "medium": {
        "augmentation_strength": "aggressive",
        "use_class_balanced_sampler": True,
        "oversample_factor": 3.0,
        "label_smoothing": 0.1,
    },
    "large": {
        "augmentation_strength": "moderate",
        "use_class_balanced_sampler": True,
        "oversample_factor": 2.0,
        "label_smoothing": 0.05,
    },
}
"""What the document recommends for fewer than 100 training actions, up to 500, up to 1000, and more."""
ALIASES: Aliases = {
    "use_focal_loss": ("loss_function", "focal"),
    "use_class_weighted_loss": ("loss_function", "weighted"),
}


@dataclass(frozen=True, kw_only=True)
class CoreConfig:
    """Core settings."""

    dataset_root: str = ""
    """Folder that holds `mvfouls`, or train and valid themselves; must be given."""
    epochs: int = 50
    """Epochs, also the length of the schedule; nothing but early stopping or a signal shortens them."""
    batch_size: int = 8
    """Actions of a step and process."""
    lr: float = 2e-4
    """Base learning rate; --head-lr and --backbone-lr scale with it unless typed."""
    weight_decay: float = 1e-4
    """Not applied to biases, norms, class token and position tables."""
    seed: int = 42
    """Seed of weights, order, augmentation and measuring."""


@dataclass(frozen=True, kw_only=True)
class ArchitectureConfig(groups.ClipConfig):
    """Architecture."""

    backbone_name: shared.BackboneName = "r2plus1d_18"
    """Network applied to each view."""


@dataclass(frozen=True, kw_only=True)
class VideoConfig(groups.WindowConfig):
    """Video processing."""

    max_views: int | None = None
    """Use so many views of an action, the live camera first. Default: all."""
    attention_aggregation: bool = True
    """Weight the views by attention; off: their mean."""


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig(groups.StepConfig):
    """Optimiser settings."""

    early_stopping_patience: int | None = None
    """Epochs without a new best before the run stops; 0 = off. Default: depends on --freezing-strategy."""


@dataclass(frozen=True, kw_only=True)
class SchedulerConfig:
    """Scheduler types."""

    scheduler: Literal["cosine", "onecycle", "step", "exponential", "reduce_on_plateau", "none"] = "cosine"
    """Multiplies every base learning rate, whatever is frozen."""
    scheduler_warmup_epochs: int = 5
    """Epochs of linear rise; 0 = none. Not typed: at most a quarter of the epochs."""


@dataclass(frozen=True, kw_only=True)
class SchedulerParametersConfig:
    """Scheduler parameters."""

    step_size: int = 10
    """Epochs of a step; step only."""
    gamma: float = 0.5
    """Factor of step, exponential and reduce_on_plateau."""
    plateau_patience: int = 5
    """Epochs without a new best before a reduction; reduce_on_plateau only."""
    min_lr: float = 1e-6
    """Learning rate below which no decay goes."""


@dataclass(frozen=True, kw_only=True)
class TaskWeightsConfig:
    """Task weights."""

    main_task_weights: tuple[float, float] = (3.0, 3.0)
    """Weights of severity and action class in the loss; 0 switches a loss off."""
    auxiliary_task_weight: float = 0.5
    """Weight of each of --auxiliary-tasks; 0 leaves them out."""
    label_smoothing: float = 0.1
    """Share of the target that is spread over all classes."""


@dataclass(frozen=True, kw_only=True)
class LossFunctionConfig:
    """Loss function types."""

    loss_function: Literal["focal", "weighted", "plain"] = "weighted"
    """Loss of all tasks: focal with class weights, weighted or plain cross-entropy. Deprecated spellings:
    --use-focal-loss, --use-class-weighted-loss."""
    focal_gamma: float = 2.0
    """Focal exponent; 0 = cross-entropy."""


@dataclass(frozen=True, kw_only=True)
class ClassWeightingConfig:
    """Class weighting."""

    class_weighting_strategy: Literal["balanced_capped", "sqrt", "log", "effective_number", "none"] = (
        "balanced_capped"
    )
    """Formula of the class weights, from the training labels of each task."""
    max_weight_ratio: float = 10.0
    """Largest ratio of two class weights."""


@dataclass(frozen=True, kw_only=True)
class SamplingConfig:
    """Sampling strategies."""

    use_class_balanced_sampler: bool = True
    """Draw actions of rare classes more often."""
    oversample_factor: float = 4.0
    """How much more often at most."""


@dataclass(frozen=True, kw_only=True)
class ProgressiveConfig:
    """Progressive balancing."""

    progressive_class_balancing: bool = False
    """Let that factor grow with the epochs."""
    progressive_start_factor: float = 1.5
    """Factor of the first epoch."""
    progressive_end_factor: float = 3.0
    """Factor after the transition."""
    progressive_epochs: int = 15
    """Epochs of the transition."""


@dataclass(frozen=True, kw_only=True)
class FreezingStrategyConfig:
    """Freezing strategy types."""

    freezing_strategy: Strategy = "fixed"
    """When blocks of the backbone begin to train: at once, at set times, when the metric stalls, one after
    the other, or by the importance of their gradients."""


@dataclass(frozen=True, kw_only=True)
class PhaseConfig:
    """Phase configuration."""

    gradual_finetuning: bool = True
    """Heads first, then backbone and heads at rates of their own; off: one rate."""
    phase1_epochs: int = 8
    """Epochs of the heads alone; fixed, progressive."""
    phase2_epochs: int = 15
    """Epochs in which blocks open; fixed."""


@dataclass(frozen=True, kw_only=True)
class RatesConfig:
    """Learning rates."""

    head_lr: float = 1e-3
    """Rate of heads and aggregator before a block is open."""
    backbone_lr: float = 1e-5
    """Rate of open blocks."""
    unfreeze_blocks: int = 3
    """Blocks that open, the last first; fixed."""


@dataclass(frozen=True, kw_only=True)
class Phase2Config:
    """Phase 2 adjustments."""

    phase2_backbone_lr_scale_factor: float = 1.0
    """Factor of --backbone-lr once a block is open."""
    phase2_head_lr_ratio: float = 5.0
    """Rate of the heads relative to the backbone's once a block is open."""


@dataclass(frozen=True, kw_only=True)
class Phase1PlateauConfig:
    """Phase 1 plateau settings."""

    phase1_plateau_patience: int = 3
    """Epochs without a new best, while no block is open, before the heads' rate falls."""
    phase1_plateau_factor: float = 0.2
    """Factor by which it falls."""


@dataclass(frozen=True, kw_only=True)
class ModesConfig(groups.ModesConfig):
    """Training modes."""

    simple_training: bool = False
    """Plain loss, no balancing, no augmentation, no label smoothing."""
    disable_class_balancing: bool = False
    """Neither sampler nor class weights."""


@dataclass(frozen=True, kw_only=True)
class SaveConfig(groups.ResumeConfig):
    """Saving and resuming."""

    save_dir: Path = Path("checkpoints")
    """Run folder."""


@dataclass(frozen=True, kw_only=True)
class FeatureConfig(groups.FeatureConfig):
    """Additional features."""

    lr_warmup: bool | Literal["auto"] = "auto"
    """Warm-up before the schedule; auto: on unless --scheduler none."""
    discriminative_lr: bool = False
    """Lower rates for blocks farther from the heads."""


@dataclass(frozen=True, kw_only=True)
class ModularConfig:
    """Train on actions with every documented setting."""

    preset: PresetName | None = None
    """What the document recommends for a data set of this size; typed flags win."""
    core: CoreConfig = field(default_factory=CoreConfig)
    loading: groups.LoadingConfig = field(default_factory=groups.LoadingConfig)
    architecture: ArchitectureConfig = field(default_factory=ArchitectureConfig)
    video: VideoConfig = field(default_factory=VideoConfig)
    optimization: OptimizerConfig = field(default_factory=OptimizerConfig)
    scheduling: SchedulerConfig = field(default_factory=SchedulerConfig)
    scheduler_parameters: SchedulerParametersConfig = field(default_factory=SchedulerParametersConfig)
    task_weights: TaskWeightsConfig = field(default_factory=TaskWeightsConfig)
    loss: LossFunctionConfig = field(default_factory=LossFunctionConfig)
    weighting: ClassWeightingConfig = field(default_factory=ClassWeightingConfig)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    progressive: ProgressiveConfig = field(default_factory=ProgressiveConfig)
    emergency: groups.EmergencyConfig = field(default_factory=groups.EmergencyConfig)
    freezing: FreezingStrategyConfig = field(default_factory=FreezingStrategyConfig)
    adaptive: groups.AdaptiveConfig = field(default_factory=groups.AdaptiveConfig)
    gradient_guided: groups.GradientConfig = field(default_factory=groups.GradientConfig)
    advanced: groups.AdvancedConfig = field(default_factory=groups.AdvancedConfig)
    phases: PhaseConfig = field(default_factory=PhaseConfig)
    rates: RatesConfig = field(default_factory=RatesConfig)
    phase2: Phase2Config = field(default_factory=Phase2Config)
    phase1_plateau: Phase1PlateauConfig = field(default_factory=Phase1PlateauConfig)
    strength: groups.StrengthConfig = field(default_factory=groups.StrengthConfig)
    legacy_augmentation: groups.LegacyAugmentationConfig = field(
        default_factory=groups.LegacyAugmentationConfig
    )
    augmentation: groups.AugmentationConfig = field(default_factory=groups.AugmentationConfig)
    device_augmentation: groups.DeviceAugmentationConfig = field(
        default_factory=groups.DeviceAugmentationConfig
    )
    modes: ModesConfig = field(default_factory=ModesConfig)
    saving: SaveConfig = field(default_factory=SaveConfig)
    memory: groups.MemoryConfig = field(default_factory=groups.MemoryConfig)
    data_optimization: groups.DataOptimizationConfig = field(default_factory=groups.DataOptimizationConfig)
    out_of_memory: groups.OomConfig = field(default_factory=groups.OomConfig)
    validation: groups.ValidationConfig = field(default_factory=groups.ValidationConfig)
    testing: groups.TrialRunConfig = field(default_factory=groups.TrialRunConfig)
    features: FeatureConfig = field(default_factory=FeatureConfig)
    task_losses: shared.TaskLossConfig = field(default_factory=shared.TaskLossConfig)
    heads: shared.HeadConfig = field(default_factory=shared.HeadConfig)
    backbone_weights: shared.WeightsConfig = field(default_factory=shared.WeightsConfig)
    tasks: shared.TasksConfig = field(default_factory=shared.TasksConfig)
    balance: shared.BalanceConfig = field(default_factory=shared.BalanceConfig)
    labels: shared.LabelConfig = field(default_factory=shared.LabelConfig)
    projection: shared.ProjectionConfig = field(default_factory=shared.ProjectionConfig)
    input: shared.InputConfig = field(default_factory=shared.InputConfig)
    judging: shared.JudgingConfig = field(default_factory=shared.JudgingConfig)
    compute: shared.ComputeConfig = field(default_factory=shared.ComputeConfig)
    run: shared.RunConfig = field(default_factory=shared.RunConfig)
