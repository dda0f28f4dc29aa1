"""Validation: every batch judged once, metrics and losses over all processes."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch.utils.data import DataLoader

from common.engine.distributed import World
from common.engine.loading import iterate
from common.engine.precision import MixedPrecision
from common.engine.recovery import is_out_of_memory
from common.engine.signals import StopRequest
from common.engine.task import Batch, LossTerm, Task
from common.engine.transfer import on_device
from common.engine.window import TermSums


@torch.no_grad()
def measure(
    task: Task,
    batches: DataLoader[Batch],
    precision: MixedPrecision,
    world: World,
    stop: StopRequest,
    *,
    oom_recovery: bool = True,
    copy_ahead: bool = False,
) -> dict[str, float] | None:
    """Return the task's metrics and mean losses, or None when a signal cut the validation short.

    There is no loss where nothing is judged.

    With `oom_recovery`, a batch that does not fit into memory is judged in halves, down to single samples;
    with `copy_ahead` the next one is copied to the device meanwhile.
    """
    task.begin_validation()
    sums = TermSums()
    for batch in on_device(iterate(batches), world.device, ahead=copy_ahead):
        if stop.signal:
            break
        _judge(task, batch, precision, sums, oom_recovery)
    if world.largest(stop.exit_code):
        return None
    world.sum_(task.metric_states())
    metrics = {name: float(value) for name, value in task.metrics().items()}
    losses = sums.read(world)
    return {**(losses.means() if losses.totals else {}), **metrics}


def train_metrics(task: Task, world: World) -> dict[str, float]:
    """Return the task's training metrics over all processes; its own counts stay as they are."""
    states = task.train_metric_states()
    own = [state.clone() for state in states] if world.size > 1 else []
    world.sum_(states)
    metrics = {name: float(value) for name, value in task.train_metrics().items()}
    for state, saved in zip(states, own):
        state.copy_(saved)
    return metrics


def logged(metrics: Mapping[str, float]) -> dict[str, float]:
    """Return training metrics under their names in the log; those of samples, `data/...`, keep theirs."""
    return {name if name.startswith("data/") else f"train/{name}": value for name, value in metrics.items()}


def _judge(task: Task, batch: Batch, precision: MixedPrecision, sums: TermSums, recover: bool) -> None:
    before = [state.clone() for state in task.metric_states()] if recover else []
    terms = _try(task, batch, precision, recover and task.size(batch) > 1)
    if terms is not None:
        sums.add(terms)
        return
    for state, value in zip(task.metric_states(), before, strict=True):
        state.copy_(value)
    for half in task.split(batch, 2):
        _judge(task, half, precision, sums, recover)


def _try(task: Task, batch: Batch, precision: MixedPrecision, recover: bool) -> dict[str, LossTerm] | None:
    """Return the losses of a batch, or None when it was too large and that is to be mended."""
    try:
        with precision.autocast():
            return task.validation_step(batch)
    except (RuntimeError, MemoryError) as error:
        if not (recover and is_out_of_memory(error)):
            raise
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    return None
