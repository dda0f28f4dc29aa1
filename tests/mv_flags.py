"""Command lines of `train_modular.py`, and what its document says about each flag."""

import re
from dataclasses import dataclass, field
from pathlib import Path

from common.config import Parsed, UserError, parse
from mvfouls.checks_modular import check_modular
from mvfouls.config_modular import ALIASES, PRESETS, ModularConfig
from mvfouls.resolve_modular import resolve
from mvfouls.settings import RunSettings

DOCUMENT = Path(__file__).parents[2] / "shared" / "seeds" / "train_modular_arguments.txt"

M1 = (
    "--epochs 50 --batch_size 16 --lr 2e-4 --backbone_name r2plus1d_18 --freezing_strategy advanced "
    "--loss_function focal --use_class_balanced_sampler --progressive_class_balancing "
    "--aggressive_augmentation --gpu_augmentation --severity_aware_augmentation --mixed_precision "
    "--scheduler cosine --label_smoothing 0.1 --num_workers 12 --save_dir checkpoints"
)
M2 = (
    "--test_run --test_batches 3 --batch_size 2 --epochs 2 --num_workers 0 --frames_per_clip 8 "
    "--img_height 112 --img_width 200 --emergency_unfreeze_epoch 1 --freezing_strategy advanced "
    "--save_dir test_checkpoints"
)
FRAGMENTS = {
    "very_small": "--augmentation_strength extreme --progressive_class_balancing "
    "--progressive_end_factor 6.0 --label_smoothing 0.15 --loss_function focal "
    "--severity_aware_augmentation",
    "small": "--augmentation_strength aggressive --progressive_class_balancing "
    "--progressive_end_factor 4.0 --label_smoothing 0.1 --loss_function focal",
    "medium": "--augmentation_strength aggressive --use_class_balanced_sampler --oversample_factor 3.0 "
    "--label_smoothing 0.1",
    "large": "--augmentation_strength moderate --use_class_balanced_sampler --oversample_factor 2.0 "
    "--label_smoothing 0.05",
}

DEFAULTS: dict[str, object] = {
    "dataset_root": "", "epochs": 50, "batch_size": 8, "lr": 2e-4, "weight_decay": 1e-4, "seed": 42,
    "num_workers": 4, "worker_timeout": 0, "prefetch_factor": 2, "pin_memory": False,
    "backbone_name": "r2plus1d_18", "frames_per_clip": 16, "target_fps": 15,
    "start_frame": 67, "end_frame": 82, "img_height": 224, "img_width": 398, "max_views": None,
    "attention_aggregation": True,
    "optimizer": "adamw", "momentum": 0.9, "mixed_precision": False, "gradient_clip_norm": 1.0,
    "early_stopping_patience": None,
    "scheduler": "cosine", "scheduler_warmup_epochs": 5, "step_size": 10, "gamma": 0.5,
    "plateau_patience": 5, "min_lr": 1e-6,
    "main_task_weights": (3.0, 3.0), "auxiliary_task_weight": 0.5, "label_smoothing": 0.1,
    "loss_function": "weighted", "focal_gamma": 2.0,
    "class_weighting_strategy": "balanced_capped", "max_weight_ratio": 10.0,
    "use_class_balanced_sampler": True, "oversample_factor": 4.0,
    "progressive_class_balancing": False, "progressive_start_factor": 1.5, "progressive_end_factor": 3.0,
    "progressive_epochs": 15,
    "emergency_unfreeze_epoch": 4, "min_unfreeze_layers": 1, "emergency_unfreeze_gradual": True,
    "validation_plateau_patience": 2, "freezing_strategy": "fixed",
    "adaptive_patience": 3, "adaptive_min_improvement": 0.001,
    "importance_threshold": 0.01, "warmup_epochs": 3, "unfreeze_patience": 2, "max_layers_per_step": 1,
    "sampling_epochs": 2,
    "base_importance_threshold": 0.002, "performance_threshold": 0.001, "rollback_patience": 2,
    "gradient_momentum": 0.9, "analysis_window": 2, "enable_rollback": True,
    "enable_dependency_analysis": True,
    "gradual_finetuning": True, "phase1_epochs": 8, "phase2_epochs": 15,
    "head_lr": 1e-3, "backbone_lr": 1e-5, "unfreeze_blocks": 3,
    "phase2_backbone_lr_scale_factor": 1.0, "phase2_head_lr_ratio": 5.0,
    "phase1_plateau_patience": 3, "phase1_plateau_factor": 0.2,
    "augmentation_strength": "aggressive", "aggressive_augmentation": True, "extreme_augmentation": False,
    "temporal_jitter_strength": 3, "dropout_prob": 0.2, "spatial_crop_strength": 0.7,
    "color_aug_strength": 0.3,
    "noise_strength": 0.06, "gpu_augmentation": False, "severity_aware_augmentation": False,
    "simple_training": False, "disable_class_balancing": False, "disable_augmentation": False,
    "disable_in_model_augmentation": False,
    "save_dir": Path("checkpoints"), "resume": None, "resume_best_acc": None, "memory_cleanup_interval": 20,
    "enable_data_optimization": True, "disable_data_optimization": False,
    "enable_oom_recovery": True, "oom_reduction_factor": 0.75, "min_batch_size": 1,
    "enable_config_validation": True, "strict_config_validation": False,
    "test_run": False, "test_batches": 2, "force_batch_size": False,
    "multi_scale": False, "dropout_rate": 0.1, "lr_warmup": "auto", "discriminative_lr": False,
}  # fmt: skip
"""The 104 flags of the document with their defaults; the two that follow are other spellings."""
DEPRECATED = ("use_focal_loss", "use_class_weighted_loss")
NEW_DEFAULTS = {"lr_warmup"}
"""The document has a bare flag; a third state was added."""


def documented() -> dict[str, str | None]:
    """Return the flags of the document and the texts of their defaults; None for a bare flag."""
    found = re.findall(r"^- \*\*`--(\w+)`\*\* \((.*?)\)(?:  | \u2192|$)", DOCUMENT.read_text("utf-8"), re.M)
    defaults = ((name, *about.partition("default=")[1:]) for name, about in found)
    return {name: text.strip("'\"") if given else None for name, given, text in defaults}


def parse_line(words: str) -> Parsed[ModularConfig]:
    """Return what a command line says."""
    return parse(ModularConfig, words.split(), prog="train_modular.py", presets=PRESETS, aliases=ALIASES)


def parsed(words: str, root: Path | str = "data") -> Parsed[ModularConfig]:
    """Return what a command line about a data set says."""
    return parse_line(f"--dataset_root {root} {words}")


def findings(words: str, *, cuda: bool = True) -> list[tuple[str, str]]:
    """Return level and text of everything there is to say about a command line."""
    return [(found.level, found.text) for found in check_modular(parsed(words), cuda=cuda)]


@dataclass
class Seen:
    """A command line's settings, when there are any, and what is said about it."""

    settings: RunSettings | None
    said: list[str] = field(default_factory=list)
    levels: set[str] = field(default_factory=set)


def seen(words: str, root: Path) -> Seen:
    """Return what becomes of a command line in a run of two processes on GPUs."""
    try:
        given = parsed(words, root)
        found = check_modular(given, cuda=True)
        said, levels = [finding.text for finding in found], {finding.level for finding in found}
        return Seen(resolve(given, cuda=True, processes=2), said, levels)
    except UserError as error:
        return Seen(None, [str(error)])


def write_roots(root: Path) -> dict[str, Path]:
    """Write the folders of two data sets, `data` and `other`, that hold no action."""
    for name in ("data", "other"):
        for split in ("train", "valid"):
            folder = root / name / "mvfouls" / split
            folder.mkdir(parents=True)
            (folder / "annotations.json").write_text("{}")
    return {name: root / name for name in ("data", "other")}
