"""Settings of the training loop."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Literal, get_args

from common.schedulers.learning_rate import ScheduleConfig

Precision = Literal["fp32", "bf16", "fp16"]
OptimizerName = Literal["adamw", "adam", "sgd"]
Nonfinite = Literal["skip", "rollback", "abort"]


@dataclass(frozen=True, kw_only=True)
class OptimizerConfig:
    """Optimiser of all trainable parameters."""

    name: OptimizerName = "adamw"
    """adam couples weight decay with the gradient (L2); sgd uses `momentum`."""
    lr: float = 3e-4
    """Base learning rate, never scaled by the batch size."""
    weight_decay: float = 1e-4
    """Not applied to norm weights, biases and names in `model.no_weight_decay()`."""
    momentum: float = 0.9
    """SGD only."""
    decay_all: bool = False
    """Apply weight decay to every parameter."""

    def __post_init__(self) -> None:
        _check_choice("optimizer", self.name, OptimizerName)
        _check_not_negative("weight_decay", self.weight_decay)
        _check_not_negative("lr", self.lr)
        if not 0 <= self.momentum < 1:
            raise ValueError(f"momentum must be in [0, 1), got {self.momentum}")


@dataclass(frozen=True, kw_only=True)
class FitConfig:
    """How long, how precisely and how safely to train."""

    epochs: int
    """Always completed unless a patience, a step limit or a signal ends the run."""
    accumulation_steps: int = 1
    """Micro-batches per optimiser step; the remainder of an epoch is a step of its own."""
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    precision: Precision = "fp32"
    """bf16: autocast; fp16: autocast and gradient scaling, CUDA only."""
    clip_norm: float = 1.0
    """Largest global L2 norm of the gradients of a step; 0 = off."""
    ema_decay: float = 0.0
    """Decay of the averaged weights; 0 = off. Validation and `best` use them when on."""
    early_stopping_patience: int | None = None
    """Validations without a better headline before the run stops; None or 0 = off."""
    early_stopping_min_delta: float = 0.0
    """Smallest gain that counts as better."""
    validate_every: int = 1
    """Epochs between validations; the last epoch is always validated."""
    save_every_steps: int = 0
    """Optimiser steps between checkpoints within an epoch; 0 = off."""
    save_every_minutes: float = 0.0
    """Minutes between checkpoints within an epoch; 0 = off."""
    keep_last: int = 2
    """Checkpoints kept besides the best one."""
    log_every: int = 10
    """Optimiser steps between console lines."""
    max_steps: int = 0
    """Stop after this many optimiser steps; 0 = off. Schedules still span all epochs."""
    nonfinite: Nonfinite = "skip"
    """What to do with a step whose loss or gradient is not finite."""
    max_consecutive_nonfinite: int = 5
    """Skipped steps in a row before a rollback to the last checkpoint at half the learning rate."""
    max_rollbacks: int = 2
    """Such rollbacks before the run ends; 0 = it ends at once."""
    resume_best: float | None = None
    """Headline that a resumed run has to beat, instead of the best one it had."""
    oom_recovery: bool = True
    """Replay a step that ran out of memory in smaller micro-batches, same samples, same effective batch."""
    oom_reduction_factor: float = 0.75
    """Size of the next micro-batch relative to the one that failed."""
    min_batch_size: int = 1
    """Smallest micro-batch tried."""

    def __post_init__(self) -> None:
        _check_choice("precision", self.precision, Precision)
        _check_choice("nonfinite", self.nonfinite, Nonfinite)
        for name in (
            "epochs",
            "accumulation_steps",
            "validate_every",
            "keep_last",
            "log_every",
            "min_batch_size",
            "max_consecutive_nonfinite",
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        for name in ("clip_norm", "early_stopping_min_delta", "save_every_minutes"):
            _check_not_negative(name, getattr(self, name))
        for name in ("save_every_steps", "max_steps", "early_stopping_patience", "max_rollbacks"):
            _check_not_negative(name, getattr(self, name) or 0)
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay must be in [0, 1), got {self.ema_decay}")
        if not 0 < self.oom_reduction_factor < 1:
            raise ValueError(f"oom_reduction_factor must be in (0, 1), got {self.oom_reduction_factor}")


def _check_choice(name: str, value: str, choices: object) -> None:
    if value not in get_args(choices):
        raise ValueError(f"{name} must be one of {', '.join(get_args(choices))}, got {value!r}")


def _check_not_negative(name: str, value: float) -> None:
    if not (math.isfinite(value) and value >= 0):
        raise ValueError(f"{name} must not be negative, got {value}")
