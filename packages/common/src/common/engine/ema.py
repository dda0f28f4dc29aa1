"""Exponential moving average of a model's weights."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Ema:
    """Averaged copy of parameters and floating-point buffers; counters are copied as they are.

    Running statistics of a normalisation layer belong to the weights they were taken with, so they are
    averaged alike. The decay warms up as min(decay, (1 + t) / (10 + t)) over t applied updates, so that early
    averages follow the weights.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self.shadow = {name: value.detach().clone() for name, value in model.state_dict().items()}
        parameters = dict(model.named_parameters(remove_duplicate=False))
        names = [name for name in self.shadow if name in parameters]
        self._averages = [self.shadow[name] for name in names]
        self._weights: list[Tensor] = [parameters[name] for name in names]
        self._buffers = [name for name in self.shadow if name not in parameters]

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Move the average towards the model's weights; call after an applied optimiser step only."""
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        self.updates += 1
        torch._foreach_lerp_(self._averages, self._weights, 1 - decay)
        if self._buffers:
            # looked up anew: a module may put another tensor in the place of a buffer
            buffers = dict(model.named_buffers(remove_duplicate=False))
            for name in self._buffers:
                _follow(self.shadow[name], buffers[name], 1 - decay)

    @contextmanager
    def applied_to(self, model: nn.Module) -> Iterator[None]:
        """Let the model hold the averaged weights inside the block, and its own again afterwards."""
        own = {name: value.detach().clone() for name, value in model.state_dict().items()}
        model.load_state_dict(self.shadow)
        try:
            yield
        finally:
            model.load_state_dict(own)

    def restart(self, model: nn.Module) -> None:
        """Begin anew from the model's weights."""
        self.load(model.state_dict(), 0)

    def load(self, shadow: dict[str, Tensor], updates: int) -> None:
        """Restore a saved average."""
        for name, value in shadow.items():
            self.shadow[name].copy_(value)
        self.updates = updates


def _follow(average: Tensor, value: Tensor, share: float) -> None:
    if average.is_floating_point():
        average.lerp_(value, share)
    else:
        average.copy_(value)
