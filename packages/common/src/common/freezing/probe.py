"""How much each block would move if it trained, measured without moving anything."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from common.engine.distributed import World
from common.engine.precision import MixedPrecision
from common.engine.randomness import random_state, set_random_state
from common.engine.recovery import is_out_of_memory
from common.engine.task import Batch, Task, to_device
from common.engine.window import accumulate, window_normalizers
from common.freezing.blocks import Block

_TINY = 1e-12


def probe_importance(
    task: Task,
    batches: Iterable[Batch],
    blocks: Sequence[Block],
    *,
    precision: MixedPrecision,
    world: World | None = None,
) -> dict[str, float]:
    """Return each block's gradient norm over its weight norm, averaged over the batches of all processes.

    The model runs in eval mode with every block requiring a gradient, so that frozen blocks are measured too;
    the losses are those of `task.training_step`, which must not augment while its model is in eval mode.
    Weights, buffers, gradients, flags, random state and training metrics are afterwards what they were.
    A batch that does not fit into memory is run in pieces. Raises ValueError when there is no batch.

    Source: relative gradient norm as in Lee et al. 2023, Surgical fine-tuning, section 4.
    """
    world = world or World()
    parameters = dict(task.model.named_parameters())
    members = [[parameters[name] for name in block.parameters] for block in blocks]
    total = torch.zeros(len(blocks) + 1, dtype=torch.float64, device=world.device)
    with _untouched(task), _measuring(task.model, [each for group in members for each in group]):
        weights = [_norm(group) for group in members]
        for batch in batches:
            _run(task, to_device(batch, world.device), precision)
            gradients = [_norm([p.grad for p in group if p.grad is not None]) for group in members]
            ratios = [norm / (weight + _TINY) for norm, weight in zip(gradients, weights, strict=True)]
            total += torch.stack([*(ratio.to(total.device) for ratio in ratios), total.new_ones(())])
            _drop_gradients(task.model)
    world.sum_([total])
    *sums, count = total.tolist()
    if not count:
        raise ValueError("probe: there is no batch to measure importance with")
    return {block.name: value / count for block, value in zip(blocks, sums, strict=True)}


def _norm(tensors: Sequence[Tensor]) -> Tensor:
    """Return the joint norm in float64; zero without tensors."""
    if not tensors:
        return torch.zeros((), dtype=torch.float64)
    each_norm: list[Tensor] = [
        torch.linalg.vector_norm(each.detach(), dtype=torch.float64) for each in tensors
    ]
    return torch.stack(each_norm).square().sum().sqrt()


def _run(task: Task, batch: Batch, precision: MixedPrecision) -> None:
    """Leave the gradients of one batch, in as many pieces as memory asks for."""
    pieces, size = 1, task.size(batch)
    norms = window_normalizers(task, [batch], World(device=precision.device))
    while not _fits(task, task.split(batch, pieces), norms, precision, last=pieces >= size):
        _drop_gradients(task.model)
        pieces = min(2 * pieces, size)


def _fits(
    task: Task, parts: list[Batch], norms: dict[str, Tensor], precision: MixedPrecision, *, last: bool
) -> bool:
    try:
        accumulate(task, parts, norms, precision)
    except (RuntimeError, MemoryError) as error:
        if last or not is_out_of_memory(error):
            raise
        return False
    return True


def _drop_gradients(model: nn.Module) -> None:
    for parameter in model.parameters():
        parameter.grad = None


@contextmanager
def _measuring(model: nn.Module, members: Sequence[nn.Parameter]) -> Iterator[None]:
    """Put the model into eval mode with a gradient for `members`; flags and gradients return afterwards."""
    modes = [(module, module.training) for module in model.modules()]
    flags = [(parameter, parameter.requires_grad, parameter.grad) for parameter in model.parameters()]
    try:
        model.eval()
        for parameter in members:
            parameter.requires_grad_(True)
        _drop_gradients(model)
        yield
    finally:
        for module, training in modes:
            module.training = training
        for parameter, required, gradient in flags:
            parameter.requires_grad_(required)
            parameter.grad = gradient


@contextmanager
def _untouched(task: Task) -> Iterator[None]:
    """Put buffers, training metrics and random state back afterwards."""
    live = [*task.model.buffers(), *task.train_metric_states()]
    saved = [tensor.clone() for tensor in live]
    random = random_state()
    try:
        yield
    finally:
        with torch.no_grad():
            live = [*task.model.buffers(), *task.train_metric_states()]
            for tensor, value in zip(live, saved, strict=True):
                tensor.copy_(value)
        set_random_state(random)
