"""The few collective operations training needs; all of them do nothing in a single process."""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

_T = TypeVar("_T")


@dataclass(frozen=True)
class World:
    """This process among those that train together."""

    rank: int = 0
    size: int = 1
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    @property
    def main(self) -> bool:
        """Whether this process writes files and prints."""
        return self.rank == 0

    def sum_(self, tensors: Iterable[Tensor]) -> None:
        """Sum each tensor over the processes, in place; the processes hold the same shapes."""
        if self.size == 1:
            return
        for group in _by_kind(tensors):
            flat = torch.cat([tensor.reshape(-1) for tensor in group]).to(self.device)
            dist.all_reduce(flat)
            _scatter(flat, group)

    def largest(self, value: int) -> int:
        """Return the largest of the processes' values."""
        if self.size == 1:
            return value
        shared = torch.tensor(value, device=self.device)
        dist.all_reduce(shared, op=dist.ReduceOp.MAX)
        return int(shared)

    def gather(self, value: Any) -> list[Any]:
        """Return every process's value, in rank order."""
        if self.size == 1:
            return [value]
        values: list[Any] = [None] * self.size
        dist.all_gather_object(values, value)
        return values

    def from_main(self, value: _T) -> _T:
        """Return rank 0's value on every process."""
        if self.size == 1:
            return value
        held = [value]
        dist.broadcast_object_list(held, src=0)
        return held[0]

    def share_module(self, module: nn.Module) -> None:
        """Give every process rank 0's parameters and buffers."""
        if self.size > 1:
            self._share([parameter.detach() for parameter in module.parameters()])
            self.share_buffers(module)

    def share_buffers(self, module: nn.Module) -> None:
        """Give every process rank 0's buffers."""
        if self.size > 1:
            self._share(module.buffers())

    def _share(self, tensors: Iterable[Tensor]) -> None:
        for group in _by_kind(tensors):
            flat = torch.cat([tensor.reshape(-1) for tensor in group])
            flat = flat.byte() if flat.dtype == torch.bool else flat
            dist.broadcast(flat, src=0)
            _scatter(flat, group)

    def sum_gradients(self, parameters: Sequence[nn.Parameter]) -> None:
        """Sum gradients over the processes.

        A parameter that has one on some processes counts as zero on the others; one that has none anywhere
        keeps none, so that the optimiser leaves it alone as it does in a single process.
        """
        if self.size == 1 or not parameters:
            return
        has = torch.tensor([parameter.grad is not None for parameter in parameters], device=self.device).int()
        dist.all_reduce(has)
        gradients = []
        for parameter, count in zip(parameters, has.tolist(), strict=True):
            if count and parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
            if parameter.grad is not None:
                gradients.append(parameter.grad)
        self.sum_(gradients)

    def barrier(self) -> None:
        """Wait for every process."""
        if self.size > 1:
            dist.barrier()


def _by_kind(tensors: Iterable[Tensor]) -> list[list[Tensor]]:
    """Group tensors by type, in the order in which the types first appear."""
    groups: dict[torch.dtype, list[Tensor]] = {}
    for tensor in tensors:
        groups.setdefault(tensor.dtype, []).append(tensor)
    return list(groups.values())


@torch.no_grad()
def _scatter(flat: Tensor, tensors: list[Tensor]) -> None:
    parts = torch.split(flat, [tensor.numel() for tensor in tensors])
    for tensor, part in zip(tensors, parts, strict=True):
        tensor.copy_(part.view(tensor.shape))


def join_world(device: str = "auto", *, timeout_minutes: float = 10.0) -> World:
    """Join the processes `torchrun` started, or stand alone.

    Raises ValueError for a named CUDA device that is absent.
    """
    size = int(os.environ.get("WORLD_SIZE", "1"))
    rank = int(os.environ.get("RANK", "0"))
    chosen = pick_device(device, int(os.environ.get("LOCAL_RANK", "0")))
    if chosen.type == "cuda":
        torch.cuda.set_device(chosen)
    if size > 1 and not dist.is_initialized():
        backend = "nccl" if chosen.type == "cuda" else "gloo"
        dist.init_process_group(backend, timeout=timedelta(minutes=timeout_minutes))
    return World(rank, size, chosen)


def leave_world() -> None:
    """Leave the group joined by `join_world`."""
    if dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()


def pick_device(name: str, local_rank: int = 0) -> torch.device:
    """Return the device called `name` (auto, cpu, cuda, cuda:N).

    Raises ValueError when a CUDA device is named that is not there.
    """
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        return torch.device("cuda", local_rank % count) if count else torch.device("cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"device {name!r}: expected auto, cpu, cuda or cuda:N") from error
    if device.type == "cuda" and (device.index or 0) >= count:
        raise ValueError(f"device {name!r} is not there: {count} CUDA devices found; use auto or cpu")
    if device.type not in {"cpu", "cuda"}:
        raise ValueError(f"device {name!r}: expected auto, cpu, cuda or cuda:N")
    return torch.device("cuda", local_rank % count) if name == "cuda" else device
