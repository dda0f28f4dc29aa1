"""What an application tells the training loop: its losses, its metrics and how a batch splits."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor, nn

from common.schedulers.groups import param_groups

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
        if not math.isfinite(value):
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
    train_seconds: float = 0.0
    waited: float = 0.0
    """Share of the training time spent waiting for the loader."""
    grad_norm: float = math.nan
    """Norm of the last step's gradients before clipping."""
    best: float | None = None
    """The best headline so far, that of this epoch included."""
    best_epoch: int = 0


class Task(ABC):
    """A model with its losses and metrics. One subclass per application; the engine knows nothing else.

    A batch is a mapping, tuple or list of fields (tensors, nested fields, or lists with one entry per sample,
    such as ragged views); one of another form needs `size` and `split` of its own. Metric state lives in the
    task: `training_step` and `validation_step` update it, `train_metrics` and `metrics` read it,
    `begin_epoch` and `begin_validation` reset it. State needed to resume in mid-epoch is returned by
    `state_dict`.
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
        """Return the tensors that `validation_step` updates.

        They are summed over ranks, in place, before `metrics`, and put back when a batch is judged again.
        """
        return []

    def train_metric_states(self) -> list[Tensor]:
        """Return the tensors that `training_step` updates.

        They are put back when a step is discarded or replayed, and hold the sums over ranks while
        `train_metrics` reads them.
        """
        return []

    def begin_epoch(self, epoch: int) -> None:
        """Reset training metrics. Called once more, before `load_state_dict`, on a resume in mid-epoch."""

    def begin_validation(self) -> None:
        """Reset validation metrics."""

    def train_metrics(self) -> dict[str, float]:
        """Return metrics accumulated by `training_step` since `begin_epoch`.

        They are logged under `train/`, but for names that begin with `data/`.
        """
        return {}

    def epoch_lines(self, report: EpochReport) -> list[str]:
        """Return the application's own console lines for this epoch."""
        return []

    def epoch_events(self, report: EpochReport) -> list[dict[str, Any]]:
        """Return alarms and other events of this epoch; `stop: True` in one ends the run, exit code 3.

        Each holds `kind`, `name` and `text` (the console line).
        """
        return []

    def parameter_groups(self, lr: float, weight_decay: float, *, decay_all: bool) -> list[dict[str, Any]]:
        """Return the optimiser's groups, {name, params, param_names, lr, weight_decay} each.

        A parameter that is frozen for a part of the run is in its group all the time: without a gradient
        nothing moves it, and its moments stay. One that is in no group is never trained.
        """
        return param_groups(self.model, lr, weight_decay, decay_all=decay_all)

    def sample_names(self, batch: Batch) -> list[str]:
        """Return what messages call the samples of a batch; nothing when they have no names."""
        return []

    def divergence_hints(self, terms: Sequence[str]) -> list[str]:
        """Return lines about what may help when the losses called `terms` diverge, or their `gradient`.

        They are told at the first step that is not finite or the first epoch whose mean loss is more than
        twice that of the first one, once in a run, and with the error that ends it.
        """
        return []

    def size(self, batch: Batch) -> int:
        """Return the number of samples of a batch."""
        return batch_size(batch)

    def split(self, batch: Batch, parts: int) -> list[Batch]:
        """Cut a batch into up to `parts` smaller ones along dimension 0 of every tensor and list."""
        return split_batch(batch, parts)

    def state_dict(self) -> dict[str, Any]:
        """Return metric and alarm state as plain types and tensors."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""


def batch_size(batch: Batch) -> int:
    """Return the number of samples: the common length of the tensors and lists in `batch`.

    Raises TypeError when there are none, ValueError when their lengths differ.
    """
    lengths = set(_lengths(batch))
    if not lengths:
        raise TypeError(f"a batch holds tensors or lists with one entry per sample; {type(batch)} has none")
    if len(lengths) > 1:
        raise ValueError(
            f"the fields of a batch have {', '.join(map(str, sorted(lengths)))} entries: one per sample is "
            "expected; a list of samples goes inside a mapping, other forms need Task.size and Task.split"
        )
    return lengths.pop()


def split_batch(batch: Batch, parts: int) -> list[Batch]:
    """Cut `batch` along dimension 0 into up to `parts` pieces of equal size, the last one maybe smaller."""
    size = batch_size(batch)
    step = -(-size // max(1, min(parts, size)))
    return [_slice(batch, start, start + step) for start in range(0, size, step)]


def _lengths(batch: Batch) -> Iterator[int]:
    fields = batch.values() if isinstance(batch, Mapping) else batch
    if isinstance(batch, Tensor):
        fields = [batch]
    elif not isinstance(batch, Mapping | list | tuple):
        return
    for field_ in fields:
        if isinstance(field_, Tensor):
            if field_.dim():
                yield len(field_)
        elif isinstance(field_, list):
            yield len(field_)
        else:
            yield from _lengths(field_)


def _slice(batch: Batch, start: int, stop: int) -> Batch:
    def cut(field: Any) -> Any:
        whole = isinstance(field, Tensor) and not field.dim()
        if isinstance(field, Tensor | list):
            return field if whole else field[start:stop]
        return _slice(field, start, stop)

    return cut(batch) if isinstance(batch, Tensor) else _rebuilt(batch, cut)


def to_device(batch: Batch, device: torch.device) -> Batch:
    """Return `batch` with every tensor on `device`; copies to the host alone are waited for."""
    waits = device.type == "cpu"  # the host would read what is not there yet
    return map_tensors(batch, lambda tensor: tensor.to(device, non_blocking=not waits))


def map_tensors(batch: Batch, change: Callable[[Tensor], Tensor]) -> Batch:
    """Return `batch` with `change` applied to every tensor."""
    if isinstance(batch, Tensor):
        return change(batch)
    return _rebuilt(batch, lambda item: map_tensors(item, change))


def _rebuilt(value: Any, change: Callable[[Any], Any]) -> Any:
    """Return a container of the same kind with `change` applied to its items; other values as they are."""
    if isinstance(value, Mapping):
        return {name: change(item) for name, item in value.items()}
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*map(change, value))
    if isinstance(value, list | tuple):
        return type(value)(map(change, value))
    return value
