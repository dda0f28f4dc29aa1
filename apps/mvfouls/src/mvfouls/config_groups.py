"""Documented settings that both training command lines have. Each field is a flag; its docstring is the
flag's help."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mvfouls.augment_presets import PRESETS, Strength

USUAL_STRENGTH: Strength = "aggressive"


@dataclass(frozen=True, kw_only=True)
class LoadingConfig:
    """Data loading."""

    num_workers: int = 4
    """Loader processes; 0: in this process. Batches do not depend on their number."""
    worker_timeout: int = 0
    """Seconds to wait for a worker before an error names its clip; 0: for ever."""
    prefetch_factor: int = 2
    """Batches each worker loads ahead."""
    pin_memory: bool = False
    """Page-locked batches, copied to the GPU while it computes."""


@dataclass(frozen=True, kw_only=True)
class ClipConfig:
    """How many frames, and how fast."""

    frames_per_clip: int = 16
    """Frames from the window. Not typed: those the network was made for. More than 16 widen a window that is
    not typed."""
    target_fps: int = 15
    """Typed: frames at this rate around the foul. Not typed: frames spread over the window."""


@dataclass(frozen=True, kw_only=True)
class WindowConfig:
    """Video processing: window and size."""

    start_frame: int = 67
    """First frame of the window, from 0; the foul is frame 75."""
    end_frame: int = 82
    """Last frame of the window."""
    img_height: int = 224
    """Height of the network's input."""
    img_width: int = 398
    """Width of the network's input. Not typed: 224 for transformers."""


@dataclass(frozen=True, kw_only=True)
class StepConfig:
    """Optimiser settings."""

    optimizer: Literal["adamw", "sgd", "adam"] = "adamw"
    """adam couples weight decay with the gradient."""
    momentum: float = 0.9
    """sgd only."""
    mixed_precision: bool = False
    """bfloat16 where the network allows it; losses stay in float32."""
    gradient_clip_norm: float = 1.0
    """Largest L2 norm of all gradients; 0 = off."""


@dataclass(frozen=True, kw_only=True)
class EmergencyConfig:
    """Emergency unfreezing, and the plateau test."""

    emergency_unfreeze_epoch: int = 4
    """After so many epochs with too few blocks open, some are opened; adaptive, gradient_guided, advanced."""
    min_unfreeze_layers: int = 1
    """Blocks the emergency opens; 0 = no emergency."""
    emergency_unfreeze_gradual: bool = True
    """It opens parts of blocks (layer4.1) instead of whole ones (layer4)."""
    validation_plateau_patience: int = 2
    """Epochs without a better metric after which blocks open more easily; gradient_guided, advanced."""


@dataclass(frozen=True, kw_only=True)
class AdaptiveConfig:
    """Adaptive freezing."""

    adaptive_patience: int = 3
    """Epochs without improvement before the next block opens."""
    adaptive_min_improvement: float = 0.001
    """Gain of the metric, as a fraction, that counts as improvement."""


@dataclass(frozen=True, kw_only=True)
class GradientConfig:
    """Gradient-guided freezing."""

    importance_threshold: float = 0.01
    """Smallest importance of a block that opens; gradient_guided."""
    warmup_epochs: int = 3
    """Epochs in which a new block's learning rate rises from a tenth; 0 = off; all strategies."""
    unfreeze_patience: int = 2
    """Epochs between openings; gradient_guided, advanced, and where typed progressive."""
    max_layers_per_step: int = 1
    """Blocks of one opening; progressive, gradient_guided, advanced."""
    sampling_epochs: int = 2
    """Epochs of measuring before the first decision; gradient_guided."""


@dataclass(frozen=True, kw_only=True)
class AdvancedConfig:
    """Advanced freezing."""

    base_importance_threshold: float = 0.002
    """Importance a block needs to open; falls to half of it over the run."""
    performance_threshold: float = 0.001
    """Gain of the metric, as a fraction, below which the open blocks no longer improve."""
    rollback_patience: int = 2
    """Epochs after an opening at whose end it is judged."""
    gradient_momentum: float = 0.9
    """Share of the past in the importance; gradient_guided and advanced."""
    analysis_window: int = 2
    """Epochs of a trend, and of rest after each event."""
    enable_rollback: bool = True
    """Undo openings that made the metric worse."""
    enable_dependency_analysis: bool = True
    """A block opens only after all blocks nearer the heads."""


@dataclass(frozen=True, kw_only=True)
class StrengthConfig:
    """Augmentation strength."""

    augmentation_strength: Strength = USUAL_STRENGTH
    """Preset of everything that is changed at random in training and not typed."""


@dataclass(frozen=True, kw_only=True)
class LegacyAugmentationConfig:
    """Legacy augmentation flags."""

    aggressive_augmentation: bool = True
    """Deprecated: --augmentation-strength aggressive; off: moderate."""
    extreme_augmentation: bool = False
    """Deprecated: --augmentation-strength extreme."""


@dataclass(frozen=True, kw_only=True)
class AugmentationConfig:
    """Specific augmentation parameters; a typed one beats the preset."""

    temporal_jitter_strength: int = PRESETS[USUAL_STRENGTH].jitter
    """Largest shift of the window in frames."""
    dropout_prob: float = PRESETS[USUAL_STRENGTH].frame_dropout
    """Probability that a frame is replaced by the one before."""
    spatial_crop_strength: float = PRESETS[USUAL_STRENGTH].crop
    """Smallest side of the crop, as a share."""
    color_aug_strength: float = PRESETS[USUAL_STRENGTH].colour
    """Largest change of brightness, contrast and saturation."""
    noise_strength: float = PRESETS[USUAL_STRENGTH].noise
    """Largest standard deviation of the noise, on the scale 0..1."""


@dataclass(frozen=True, kw_only=True)
class DeviceAugmentationConfig:
    """GPU augmentation."""

    gpu_augmentation: bool = False
    """Crop, colour and frame dropout on the compute device instead of in the loader."""
    severity_aware_augmentation: bool = False
    """A little stronger for severe fouls, without giving the severity away."""


@dataclass(frozen=True, kw_only=True)
class ModesConfig:
    """Training modes."""

    disable_augmentation: bool = False
    """Every augmentation off."""
    disable_in_model_augmentation: bool = False
    """Flip and noise off."""


@dataclass(frozen=True, kw_only=True)
class ResumeConfig:
    """Resuming."""

    resume: str | None = None
    """Run folder or checkpoint folder to continue from."""
    resume_best_acc: float | None = None
    """Replaces the stored best metric, as a fraction 0..1."""


@dataclass(frozen=True, kw_only=True)
class MemoryConfig:
    """Memory management."""

    memory_cleanup_interval: int = 20
    """Batches between releases of cached memory; 0 or less = off."""


@dataclass(frozen=True, kw_only=True)
class DataOptimizationConfig:
    """Data loading optimisation."""

    enable_data_optimization: bool = True
    """Window cache, lasting workers, and the next batch copied ahead; batches are the same without."""
    disable_data_optimization: bool = False
    """The same as --no-enable-data-optimization."""


@dataclass(frozen=True, kw_only=True)
class OomConfig:
    """Running out of memory."""

    enable_oom_recovery: bool = True
    """Repeat a batch that did not fit in smaller parts, with the same effective batch."""
    oom_reduction_factor: float = 0.75
    """Size of the next part relative to the one that failed."""
    min_batch_size: int = 1
    """Smallest part tried."""


@dataclass(frozen=True, kw_only=True)
class ValidationConfig:
    """Configuration validation."""

    enable_config_validation: bool = True
    """Contradictions and values out of range stop the run; off: they are only printed."""
    strict_config_validation: bool = False
    """Warnings are errors."""


@dataclass(frozen=True, kw_only=True)
class TrialRunConfig:
    """Test mode."""

    test_run: bool = False
    """A few batches of one epoch, or of --epochs; nothing is written to the run folder."""
    test_batches: int = 2
    """Batches of training and of validation in each epoch of a test run."""
    force_batch_size: bool = False
    """Several processes: --batch-size is that of all together."""


@dataclass(frozen=True, kw_only=True)
class FeatureConfig:
    """Additional features."""

    multi_scale: bool = False
    """Training batches at 0.75, 0.875 or 1 of the size; convolutional networks only."""
    dropout_rate: float = 0.1
    """Dropout on the joined views and in the default heads."""
