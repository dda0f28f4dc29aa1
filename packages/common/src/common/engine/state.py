"""Where a run is, and how that is stored: progress, optimiser state by parameter name, settings compared."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
import yaml
from torch import Tensor, nn
from torch.optim import SGD, Adam, AdamW, Optimizer

from common.engine.settings import OptimizerConfig


@dataclass
class Progress:
    """Position and history of a run; everything here is in each checkpoint."""

    step: int = 0
    """Optimiser steps attempted."""
    epoch: int = 0
    """Epochs completed."""
    batch: int = 0
    """Micro-batches of the current epoch already used, on each process."""
    best: float | None = None
    best_step: int = 0
    stale: int = 0
    """Validations since the headline last improved."""
    history: list[tuple[int, float]] = field(default_factory=list)
    """(step, headline) of each validation."""
    skipped: int = 0
    """Steps skipped in a row because a loss or gradient was not finite."""
    discarded: int = 0
    """All steps without effect: skipped ones, and those at which the scale of fp16 gradients was found."""
    rollbacks: int = 0
    recoveries: int = 0
    """Out-of-memory recoveries."""
    restarts: int = 0
    """How often dead workers were started anew."""
    lr_scale: float = 1.0
    first_losses: dict[str, float] = field(default_factory=dict)
    """Mean training losses of the first epoch."""
    hinted: bool = False
    """Whether hints against divergence were told."""

    def state_dict(self) -> dict[str, Any]:
        """Return plain types."""
        return asdict(self)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        for name in asdict(self):
            setattr(self, name, copy.copy(state[name]))


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """What a checkpoint says about the run besides its weights.

    `config` is the YAML text of the settings, `metadata` what the application needs to rebuild the model,
    labels and preprocessing (JSON types). On resume, settings must agree except those in `free_settings`
    (the name of a setting or of the group it is in), and metadata must agree in `fixed_metadata`. With
    `allow_changes` settings may differ all the same, and each that does is told.
    """

    config: str
    metadata: dict[str, Any]
    statistics: dict[str, Any] | None = None
    free_settings: frozenset[str] = frozenset()
    fixed_metadata: tuple[str, ...] = ()
    allow_changes: bool = False


def build_optimizer(groups: list[dict[str, Any]], config: OptimizerConfig) -> Optimizer:
    """Return the optimiser over parameter groups, which carry `name`, `param_names` and their own rates."""
    if config.name == "sgd":
        return SGD(groups, lr=config.lr, momentum=config.momentum)
    kind = AdamW if config.name == "adamw" else Adam
    return kind(groups, lr=config.lr, fused=True)


def optimizer_state(optimizer: Optimizer) -> dict[str, dict[str, Any]]:
    """Return each parameter's optimiser state under the parameter's name."""
    return {
        name: dict(optimizer.state[parameter])
        for group in optimizer.param_groups
        for name, parameter in zip(group["param_names"], group["params"], strict=True)
        if parameter in optimizer.state
    }


def load_optimizer_state(optimizer: Optimizer, state: Mapping[str, dict[str, Any]]) -> None:
    """Restore `optimizer_state` by name; parameters without saved state start fresh.

    Raises ValueError naming saved parameters that the optimiser does not have.
    """
    known = {
        name: parameter
        for group in optimizer.param_groups
        for name, parameter in zip(group["param_names"], group["params"], strict=True)
    }
    foreign = sorted(set(state) - set(known))
    if foreign:
        raise ValueError(f"optimizer state names unknown parameters: {', '.join(foreign[:10])}")
    optimizer.state.clear()
    for name, saved in state.items():
        parameter = known[name]
        optimizer.state[parameter] = {
            key: _beside(value, parameter) if isinstance(value, Tensor) else value
            for key, value in saved.items()
        }


def _beside(value: Tensor, parameter: nn.Parameter) -> Tensor:
    """Return a copy where the optimiser wants it: counters on the device, moments laid out as the weights."""
    if not value.dim():
        return value.clone().to(parameter.device)
    return torch.empty_like(parameter, requires_grad=False).copy_(value)


def changed_settings(old: str, new: str, free: frozenset[str]) -> list[str]:
    """Return a line for each setting that differs between two YAML texts and is not free to change."""
    before, after = _flat(yaml.safe_load(old) or {}), _flat(yaml.safe_load(new) or {})
    names = sorted(name for name in before.keys() | after.keys() if free.isdisjoint(name.split(".")))
    return [
        f"{name}: {before.get(name)!r} in the checkpoint, {after.get(name)!r} asked for"
        for name in names
        if before.get(name) != after.get(name)
    ]


def _flat(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping):
            flat.update(_flat(value, f"{prefix}{name}."))
        else:
            flat[f"{prefix}{name}"] = value
    return flat
