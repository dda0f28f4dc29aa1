"""The way of batches to the device: one may be copied while the step before it computes."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import TypeVar

import torch
from torch import Tensor

from common.engine.task import Batch, map_tensors, to_device

Item = TypeVar("Item")
Begun = TypeVar("Begun")


def on_device(batches: Iterator[Batch], device: torch.device, *, ahead: bool = False) -> Iterator[Batch]:
    """Yield every batch with its tensors on `device`; nothing here waits for the copies.

    With `ahead`, on CUDA, a batch is handed out when the one after it has been fetched and its copy has begun
    on a stream of its own; copies overlap with the computation where host memory is pinned. An error of
    `batches` is still raised when its batch is due. Elsewhere `ahead` changes nothing.
    """
    if not ahead or device.type != "cuda":
        return (to_device(batch, device) for batch in batches)
    side = SideStream(device)
    return (side.finish(*begun) for begun in one_ahead(batches, side.begin))


def one_ahead(items: Iterator[Item], begin: Callable[[Item], Begun]) -> Iterator[Begun]:
    """Yield `begin(item)` of every item, begun before the one ahead of it is handed out.

    What ends `items` early, an error or the end of the process, takes effect behind the last item it gave.
    """
    held: deque[Begun] = deque()
    try:
        for item in items:
            held.append(begin(item))
            if len(held) > 1:
                yield held.popleft()
    except GeneratorExit:
        held.clear()
        raise
    finally:
        yield from held


class SideStream:
    """Copies to a CUDA device that do not queue up behind its computation."""

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self.stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def begin(self, batch: Batch) -> tuple[Batch, torch.cuda.Event]:
        """Start to copy a batch; return it as it will be, and what happens when it is there."""
        consumer = torch.cuda.current_stream(self.device)

        def copied(tensor: Tensor) -> Tensor:
            there = tensor.to(self.device, non_blocking=True)
            # its memory belongs to the side stream, which must not reuse it while the consumer reads
            there.record_stream(consumer)
            return there

        with torch.cuda.stream(self.stream):
            return map_tensors(batch, copied), self.stream.record_event()

    def finish(self, batch: Batch, there: torch.cuda.Event) -> Batch:
        """Return a batch whose use, from here on, waits for its copy on the device."""
        torch.cuda.current_stream(self.device).wait_event(there)
        return batch
