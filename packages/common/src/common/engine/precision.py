"""Mixed precision: autocast for the forward pass, gradient scaling for fp16."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.optim import Optimizer

from common.engine.settings import Precision

_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


class MixedPrecision:
    """Autocast and the gradient scaler behind one face; fp32 makes both do nothing."""

    def __init__(self, precision: Precision, device: torch.device) -> None:
        if precision == "fp16" and device.type != "cuda":
            raise ValueError("precision fp16 needs a CUDA device; use bf16 or fp32")
        self.precision = precision
        self.device = device
        self._scaler = torch.amp.GradScaler("cuda") if precision == "fp16" else None

    def autocast(self) -> AbstractContextManager[Any]:
        """Return the context in which models run."""
        if self.precision == "fp32":
            return nullcontext()
        return torch.autocast(self.device.type, _DTYPES[self.precision])

    def backward(self, terms: Sequence[tuple[Tensor, Tensor]]) -> None:
        """Add the gradients of sum(value * share) over (value, share) pairs, scaled when needed."""
        shares = [share if self._scaler is None else self._scaler.scale(share) for _, share in terms]
        torch.autograd.backward([value for value, _ in terms], shares)

    def unscale(self, optimizer: Optimizer) -> None:
        """Bring gradients back to their true size, before clipping."""
        if self._scaler is not None:
            self._scaler.unscale_(optimizer)

    def step(self, optimizer: Optimizer) -> bool:
        """Apply the optimiser; return False when the scaler skipped it."""
        if self._scaler is None:
            optimizer.step()
            return True
        before = self._scaler.get_scale()
        self._scaler.step(optimizer)
        self._scaler.update()
        return bool(self._scaler.get_scale() >= before)

    def skip(self) -> None:
        """Account for a step that is not taken although its gradients were unscaled."""
        if self._scaler is not None:
            self._scaler.update()

    @property
    def may_overflow(self) -> bool:
        """Whether gradients that are not finite only mean that the scale is still too large."""
        return self._scaler is not None and self._scaler.get_scale() >= 1.0

    def state_dict(self) -> dict[str, Any]:
        """Return the scaler's state."""
        return {} if self._scaler is None else self._scaler.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore the scaler's state."""
        if self._scaler is not None and state:
            self._scaler.load_state_dict(state)
