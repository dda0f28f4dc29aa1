"""What a step needs to be taken back: buffers, metrics and random state; which errors mean out of memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence

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
    """Buffers (running statistics), training metrics and torch's random state, as they were at `mark`.

    `metrics` returns the tensors in which the task counts; `random` says whether steps may be replayed.
    """

    def __init__(
        self, model: nn.Module, metrics: Callable[[], Sequence[Tensor]], device: torch.device, *, random: bool
    ) -> None:
        self._metrics, self._device, self._random = metrics, device, random
        self._holders = [module._buffers for module in model.modules() if module._buffers]
        self._saved: list[Tensor] = []
        self._cpu = self._cuda = torch.empty(0)

    @torch.no_grad()
    def mark(self) -> None:
        """Remember the present state."""
        live = self._live()
        if [tensor.shape for tensor in live] != [tensor.shape for tensor in self._saved]:
            self._saved = [tensor.clone() for tensor in live]
        elif live:
            torch._foreach_copy_(self._saved, live)
        if self._random:
            self._cpu = torch.get_rng_state()
            if self._device.type == "cuda":
                self._cuda = torch.cuda.get_rng_state(self._device)

    @torch.no_grad()
    def discard(self) -> None:
        """Restore buffers and metrics, for a step whose result does not count."""
        for tensor, saved in zip(self._live(), self._saved, strict=True):
            tensor.copy_(saved)

    def replay(self) -> None:
        """Restore buffers, metrics and random state, so that the same step can be made again."""
        self.discard()
        torch.set_rng_state(self._cpu)
        if self._device.type == "cuda":
            torch.cuda.set_rng_state(self._cuda, self._device)

    def _live(self) -> list[Tensor]:
        buffers = [buffer for held in self._holders for buffer in held.values() if buffer is not None]
        return [*buffers, *self._metrics()]
