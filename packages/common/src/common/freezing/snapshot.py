"""A copy of everything training moves, on the host, to which an opening can be taken back."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from common.engine.state import load_optimizer_state, optimizer_state

if TYPE_CHECKING:
    from common.engine.step import Optimization


@dataclass(frozen=True)
class Snapshot:
    """Weights and buffers, optimiser state by parameter name, and averaged weights."""

    model: dict[str, Tensor]
    optimizer: dict[str, dict[str, Any]]
    ema: dict[str, Tensor] | None
    ema_updates: int

    @classmethod
    def take(cls, optimization: Optimization) -> Snapshot:
        """Copy the present state to the host."""
        ema = optimization.ema
        return cls(
            {name: _kept(value) for name, value in _tensors(optimization.model).items()},
            {
                name: {key: _kept(item) if isinstance(item, Tensor) else item for key, item in state.items()}
                for name, state in optimizer_state(optimization.optimizer).items()
            },
            None if ema is None else {name: _kept(value) for name, value in ema.shadow.items()},
            0 if ema is None else ema.updates,
        )

    @torch.no_grad()
    def restore(self, optimization: Optimization) -> None:
        """Bring the state back, bit for bit."""
        live = _tensors(optimization.model)
        for name, value in self.model.items():
            live[name].copy_(value)
        load_optimizer_state(optimization.optimizer, self.optimizer)
        if optimization.ema is not None:
            if self.ema is None:
                optimization.ema.restart(optimization.model)
            else:
                optimization.ema.load(self.ema, self.ema_updates)

    def to_dict(self) -> dict[str, Any]:
        """Return plain types and tensors; nothing is copied."""
        return dict(vars(self))


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    return dict(chain(model.named_parameters(), model.named_buffers()))


def _kept(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", copy=True)
