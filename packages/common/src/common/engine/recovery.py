"""What a step needs to be taken back: buffers and random state, and which errors mean out of memory."""

from __future__ import annotations

import torch
from torch import Tensor, nn

_PHRASES = ("out of memory", "can't allocate memory")


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether `error` says that an allocation failed, on the device or the host."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(phrase in str(error).lower() for phrase in _PHRASES)


def smaller_micro_batch(size: int, factor: float, smallest: int) -> int | None:
    """Return the next micro-batch size to try, or None when `size` cannot shrink further."""
    if size <= smallest:
        return None
    return max(smallest, min(size - 1, int(size * factor)))


class Rewind:
    """Buffers (running statistics) and the torch random state at the start of a step."""

    def __init__(self, model: nn.Module, device: torch.device) -> None:
        self._device = device
        self._buffers = list(model.buffers())
        self._saved = [buffer.clone() for buffer in self._buffers]
        self._cpu = torch.get_rng_state()
        self._cuda: Tensor | None = torch.cuda.get_rng_state(device) if device.type == "cuda" else None

    @torch.no_grad()
    def buffers(self) -> None:
        """Restore the buffers, for a step whose result is discarded."""
        for buffer, saved in zip(self._buffers, self._saved, strict=True):
            buffer.copy_(saved)

    def everything(self) -> None:
        """Restore buffers and random state, so that the same step can be replayed."""
        self.buffers()
        torch.set_rng_state(self._cpu)
        if self._cuda is not None:
            torch.cuda.set_rng_state(self._cuda, self._device)
