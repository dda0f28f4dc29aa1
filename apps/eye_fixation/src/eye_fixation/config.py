"""Settings of training and comparison. Each field is a flag; its docstring is the flag's help."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from eye_fixation.loss_options import LossOptions
from eye_fixation.simvp_config import PRESETS as SIZES
from eye_fixation.simvp_config import SimVPOptions

PRESETS: dict[str, dict[str, object]] = {
    "full": {},
    "small": {**SIZES["small"]._asdict(), "batch_size": 32},
    "smoke": {
        **SIZES["smoke"]._asdict(),
        "batch_size": 16, "epochs": 2, "max_train": 64, "max_val": 32, "max_test": 32,
    },
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """Which sequences are used, and how much of them."""

    data_dir: Path | None = None
    """Folder of train_data.pt, val_data.pt and test_data.pt. Default: the first of the known places with all
    three."""
    coord_order: Literal["xy", "yx"] | None = None
    """Order of the coordinates in files that do not say it."""
    in_len: int = 10
    """Frames the model sees."""
    out_len: int = 10
    """Frames it predicts; later frames of a sequence are not used."""
    max_train: int = 0
    """Use the first so many training sequences; 0 = all."""
    max_val: int = 0
    """The same for validation."""
    max_test: int = 0
    """The same for test."""
    input_sigma: float = 0.0
    """Spread in cells of the input frames' Gaussians, peak 1; 0 = one pixel."""


@dataclass(frozen=True, kw_only=True)
class NetworkConfig(SimVPOptions):
    """The SimVP network."""

    preset: Literal["full", "small", "smoke"] = "full"
    """full: the documented sizes; small: for a CPU; smoke: to see that it runs."""
    init_from: Path | None = None
    """File of weights to start from, the same for every loss."""
    prior_bias: Literal["auto", "all", "off"] = "auto"
    """Readout bias -log(H W - 1) at the start: for losses made for it, for every bernoulli loss, or off."""


@dataclass(frozen=True, kw_only=True)
class OptimizationConfig:
    """How the weights are found."""

    epochs: int = 25
    """Passes over the training sequences."""
    batch_size: int = 8
    """Sequences per step."""
    lr: float = 1e-3
    """Learning rate."""
    weight_decay: float = 1e-5
    """Weight decay; adam couples it with the gradient."""
    optimizer: Literal["adam", "adamw"] = "adam"
    """Optimiser."""
    scheduler: Literal["plateau", "cosine", "none"] = "plateau"
    """plateau: the rate falls when the validation loss does not; cosine: it falls to 0 over all epochs."""
    plateau_patience: int = 5
    """plateau: epochs without gain before a drop."""
    plateau_factor: float = 0.5
    """plateau: factor of a drop."""
    clip_norm: float = 1.0
    """Largest gradient norm; 0 = off."""
    early_stopping_patience: int = 0
    """Epochs without gain before a run stops; 0 = off."""
    select: Literal["val_loss", "val_bits"] = "val_loss"
    """What chooses the best epoch."""


@dataclass(frozen=True, kw_only=True)
class JudgingConfig:
    """How the predictions are judged."""

    calibrate: bool = True
    """Fit sharpness and floor of the densities on the validation split."""
    baselines: bool = True
    """Judge what needs no network beside the losses."""
    bootstrap: int = 2000
    """Resamples of the test groups for the intervals; 0 = off."""
    ci: float = 0.95
    """Level of the intervals."""


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Where results go and on what the run happens."""

    out: Path | None = None
    """New folder of the run. Default: the next `runs/eye_fixation/run-NNNN`."""
    results_file: Path | None = None
    """File of the results. Default: loss_comparison.json in the run folder."""
    resume: Path | None = None
    """Run folder to continue exactly; finished trainings are kept if settings and data are the same."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
    precision: Literal["fp32", "bf16"] = "fp32"
    """Numbers of the network; losses are always fp32."""
    deterministic: bool = False
    """Refuse operators without a deterministic kernel."""
    num_threads: int = 0
    """CPU threads; 0 = as the machine says."""
    wandb: bool = False
    """Also send the curves to Weights & Biases."""
    wandb_project: str = "eye_fixation"
    """Its project."""
    test_run: bool = False
    """Two steps of each training and all that follows, to see that it works."""


@dataclass(frozen=True, kw_only=True)
class _Conditions:
    """What all trainings of a command have in common."""

    data: DataConfig = field(default_factory=DataConfig)
    network: NetworkConfig = field(default_factory=NetworkConfig)
    loss_options: LossOptions = field(default_factory=LossOptions)
    optimization: OptimizationConfig = field(default_factory=OptimizationConfig)
    judging: JudgingConfig = field(default_factory=JudgingConfig)
    run: RunConfig = field(default_factory=RunConfig)


@dataclass(frozen=True, kw_only=True)
class TrainConfig(_Conditions):
    """Train with one loss and one seed, judge on test."""

    loss: str = "composite"
    """Loss; an unknown name lists all."""
    seed: int = 42
    """Seed of weights and order."""


@dataclass(frozen=True, kw_only=True)
class CompareConfig(_Conditions):
    """Train with several losses under identical conditions, judge on test, compare."""

    losses: tuple[str, ...] = ("mse", "focal", "dice", "weighted_mse", "composite")
    """Losses, or the groups `documented` and `all`."""
    seeds: tuple[int, ...] = (42,)
    """Seeds of weights and order, the same for every loss. A ranking needs three or more."""
    demo: bool = False
    """Simulate data into the run folder and compare on them, with the preset smoke."""


@dataclass(frozen=True, kw_only=True)
class EvaluateConfig:
    """Judge a trained model or a baseline on one split."""

    checkpoint: Path | None = None
    """model.pt of a training, or its folder."""
    baseline: str | None = None
    """Name of a baseline, fitted on the data's train and val."""
    data_dir: Path | None = None
    """Folder of the three files. Default: the first of the known places with all three."""
    coord_order: Literal["xy", "yx"] | None = None
    """Order of the coordinates in files that do not say it."""
    split: Literal["train", "val", "test"] = "test"
    """Split to judge on; val has served the calibration."""
    out: Path | None = None
    """JSON file. Default: the console alone."""
    bootstrap: int = JudgingConfig.bootstrap
    """Resamples of the groups for the intervals; 0 = off."""
    ci: float = JudgingConfig.ci
    """Level of the intervals."""
    device: str = "auto"
    """auto, cpu, cuda or cuda:N."""
