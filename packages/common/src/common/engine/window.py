"""One optimiser step over a window of micro-batches, divided by the window's own totals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from common.engine.distributed import World
from common.engine.precision import MixedPrecision
from common.engine.task import Batch, LossTerm, Task

_TINY = 1e-12
"""Stands for a count of zero in a division; the total is zero then as well."""


@dataclass
class LossSums:
    """Totals and counts of named losses."""

    totals: dict[str, float] = field(default_factory=dict)
    counts: dict[str, float] = field(default_factory=dict)
    weights: dict[str, float] = field(default_factory=dict)

    def merge(self, other: LossSums) -> None:
        """Add another collection of sums."""
        for name, total in other.totals.items():
            self.totals[name] = self.totals.get(name, 0.0) + total
            self.counts[name] = self.counts.get(name, 0.0) + other.counts[name]
        self.weights.update(other.weights)

    def means(self) -> dict[str, float]:
        """Return each term's mean, and `loss`, their weighted sum; NaN when there is no term."""
        values = {name: total / max(self.counts[name], _TINY) for name, total in self.totals.items()}
        loss = sum(self.weights[name] * value for name, value in values.items())
        return {**values, "loss": loss if values else float("nan")}


class TermSums:
    """Running totals and counts of named losses, kept on the device until `read`."""

    def __init__(self) -> None:
        self._sums: dict[str, Tensor] = {}
        self._weights: dict[str, float] = {}

    def add(self, terms: dict[str, LossTerm]) -> None:
        """Add the terms of one batch."""
        for name, term in terms.items():
            total = term.total.detach().double()
            pair = torch.stack([total, term.count.to(total.device, torch.float64)])
            self._sums[name] = self._sums[name] + pair if name in self._sums else pair
            self._weights[name] = term.weight

    def read(self, world: World) -> LossSums:
        """Return the sums over all processes; one that has seen no batch adds nothing."""
        pairs = {name: pair.tolist() for name, pair in self._sums.items()}
        own = LossSums(
            {name: total for name, (total, _) in pairs.items()},
            {name: count for name, (_, count) in pairs.items()},
            self._weights,
        )
        merged = LossSums()
        for part in world.gather(own):
            merged.merge(part)
        return merged


@dataclass
class WindowLosses:
    """Losses of each micro-batch of a window, on the device, without graph."""

    totals: dict[str, list[Tensor]]
    weights: dict[str, float]


def window_normalizers(task: Task, batches: Sequence[Batch], world: World) -> dict[str, Tensor]:
    """Return each term's normaliser summed over the window and over all processes."""
    norms: dict[str, Tensor] = {}
    for batch in batches:
        for name, count in task.normalizers(batch).items():
            count = count.to(world.device, torch.float64)
            norms[name] = norms[name] + count if name in norms else count
    if world.size > 1:
        norms = {name: norms[name].clone() for name in sorted(norms)}
        world.sum_(norms.values())
    return norms


def accumulate(
    task: Task, batches: Sequence[Batch], norms: dict[str, Tensor], precision: MixedPrecision
) -> WindowLosses:
    """Run every micro-batch forward and backward; gradients end up as those of one large batch.

    The objective is sum_j weight_j * sum(total_j) / sum(count_j), both sums over the whole window, so any
    cut of the same samples into micro-batches gives the same gradient. Terms without a valid element add 0.
    """
    losses = WindowLosses({name: [] for name in norms}, {})
    for batch in batches:
        with precision.autocast():
            terms = task.training_step(batch)
        if terms.keys() != norms.keys():
            raise ValueError(f"training_step gave terms {sorted(terms)}, normalizers gave {sorted(norms)}")
        held = [(term.total, _share(term, norms[name])) for name, term in terms.items()]
        precision.backward([pair for pair in held if pair[0].requires_grad] or held)
        for name, term in terms.items():
            losses.totals[name].append(term.total.detach())
            losses.weights[name] = term.weight
    return losses


def _share(term: LossTerm, norm: Tensor) -> Tensor:
    """Return the derivative of the objective by a term's total."""
    share = norm.clamp_min(_TINY).reciprocal_()
    return (share if term.weight == 1 else share.mul_(term.weight)).to(term.total.dtype)
