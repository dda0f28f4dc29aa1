"""What an application tells the training loop: its losses, its metrics and how a batch splits."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

Batch = Any


@dataclass(frozen=True)
class LossTerm:
    """A named loss before division, so that any split of a batch adds up to the same value.

    `total` is the sum of weighted element losses (a scalar with a graph), `count` its normaliser (elements,
    sum of weights, or batch size for losses that couple the elements of a batch), `weight` its share of the
    objective. The engine minimises the sum over terms of weight * sum(total) / sum(count), both sums running
    over all micro-batches and ranks of one optimizer step.
    """

    total: Tensor
    count: Tensor
    weight: float = 1.0


@dataclass(frozen=True)
class Headline:
    """The validation metric that chooses the best checkpoint."""

    metric: str
    mode: Literal["max", "min"] = "max"

    def better(self, value: float, best: float | None, min_delta: float = 0.0) -> bool:
        """Return whether `value` improves on `best`; the first finite value always does, NaN never."""
        if value != value:
            return False
        if best is None:
            return True
        return value > best + min_delta if self.mode == "max" else value < best - min_delta


@dataclass(frozen=True)
class EpochReport:
    """Everything known at the end of one validation."""

    epoch: int
    step: int
    train: Mapping[str, float]
    valid: Mapping[str, float]
    improved: bool
    seconds: float
    lr: Mapping[str, float] = field(default_factory=dict)
    recoveries: int = 0
    """Out-of-memory recoveries since the run began."""


class Task(ABC):
    """A model with its losses and metrics. One subclass per application; the engine knows nothing else.

    A batch is whatever the loader yields: a dictionary or list of tensors, ragged lists of views, sequences.
    Metric state lives in the task: `training_step` and `validation_step` update it, `train_metrics` and
    `metrics` read it, `begin_epoch` and `begin_validation` reset it. State needed to resume in mid-epoch
    is returned by `state_dict`.
    """

    model: nn.Module
    headline: Headline
    console_metrics: tuple[str, ...] = ()
    """Metrics of the console's `valid` line besides the headline and the loss."""

    @abstractmethod
    def training_step(self, batch: Batch) -> dict[str, LossTerm]:
        """Run the model on one micro-batch and return its named losses."""

    @abstractmethod
    def normalizers(self, batch: Batch) -> dict[str, Tensor]:
        """Return each term's `count` from the labels alone, before the model runs."""

    @abstractmethod
    def validation_step(self, batch: Batch) -> dict[str, LossTerm]:
        """Update the validation metrics and return the named losses (without a graph)."""

    @abstractmethod
    def metrics(self) -> dict[str, float]:
        """Return the validation metrics as flat names without prefix; must hold the headline."""

    def metric_states(self) -> list[Tensor]:
        """Return the tensors to sum over ranks before `metrics`; they are reduced in place."""
        return []

    def begin_epoch(self, epoch: int) -> None:
        """Reset training metrics."""

    def begin_validation(self) -> None:
        """Reset validation metrics."""

    def train_metrics(self) -> dict[str, float]:
        """Return metrics accumulated by `training_step` since `begin_epoch`."""
        return {}

    def epoch_lines(self, report: EpochReport) -> list[str]:
        """Return the application's own console lines for this epoch."""
        return []

    def epoch_events(self, report: EpochReport) -> list[dict[str, Any]]:
        """Return alarms and other events of this epoch; `stop: True` in one ends the run, exit code 3.

        Each holds `kind`, `name` and `text` (the console line).
        """
        return []

    def split(self, batch: Batch, parts: int) -> list[Batch]:
        """Cut a batch into up to `parts` smaller ones along dimension 0 of every tensor and list."""
        return split_batch(batch, parts)

    def state_dict(self) -> dict[str, Any]:
        """Return metric and alarm state as plain types and tensors."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""


def batch_size(batch: Batch) -> int:
    """Return the number of samples: the length of the first tensor or list found."""
    if isinstance(batch, Tensor | list):
        return len(batch)
    if isinstance(batch, Mapping):
        return batch_size(next(iter(batch.values())))
    if isinstance(batch, tuple):
        return batch_size(batch[0])
    raise TypeError(f"a batch holds tensors, lists, tuples or mappings, not {type(batch).__name__}")


def split_batch(batch: Batch, parts: int) -> list[Batch]:
    """Cut `batch` along dimension 0 into up to `parts` pieces of equal size, the last one maybe smaller."""
    size = batch_size(batch)
    step = -(-size // min(parts, size))
    return [_slice(batch, start, start + step) for start in range(0, size, step)]


def _slice(value: Any, start: int, stop: int) -> Any:
    if isinstance(value, Tensor | list):
        return value[start:stop]
    if isinstance(value, Mapping):
        return {name: _slice(item, start, stop) for name, item in value.items()}
    if isinstance(value, tuple):
        return tuple(_slice(item, start, stop) for item in value)
    return value


def to_device(batch: Batch, device: torch.device) -> Batch:
    """Move every tensor of a nested batch to `device` without waiting for the copy."""
    if isinstance(batch, Tensor):
        return batch.to(device, non_blocking=True)
    if isinstance(batch, Mapping):
        return {name: to_device(item, device) for name, item in batch.items()}
    if isinstance(batch, list | tuple):
        return type(batch)(to_device(item, device) for item in batch)
    return batch
