"""One optimiser step over a window of micro-batches, divided by the window's own totals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from common.engine.distributed import World
from common.engine.precision import MixedPrecision
from common.engine.task import Batch, LossTerm, Task

_TINY = 1e-12
"""Stands for a count of zero in a division; the total is zero then as well."""


@dataclass
class TermSums:
    """Running totals and counts of named losses, kept on the device."""

    totals: dict[str, Tensor]
    counts: dict[str, Tensor]
    weights: dict[str, float]

    @classmethod
    def empty(cls) -> TermSums:
        """Return sums of nothing."""
        return cls({}, {}, {})

    def add(self, terms: dict[str, LossTerm]) -> None:
        """Add the terms of one batch."""
        for name, term in terms.items():
            total, count = term.total.detach().double(), term.count.detach().double()
            self.totals[name] = self.totals[name] + total if name in self.totals else total
            self.counts[name] = self.counts[name] + count if name in self.counts else count
            self.weights[name] = term.weight

    def merge(self, other: TermSums) -> None:
        """Add another collection of sums."""
        self.add(
            {
                name: LossTerm(total, other.counts[name], other.weights[name])
                for name, total in other.totals.items()
            }
        )

    def reduced(self, world: World) -> TermSums:
        """Return the sums over all processes; one that has seen no batch adds nothing."""
        if world.size == 1:
            return self
        merged = TermSums.empty()
        for part in world.gather(self.state_dict()):
            merged.merge(TermSums(**part))
        return merged

    def means(self) -> dict[str, float]:
        """Return each term's mean, and `loss`, their weighted sum. Waits for the device once."""
        if not self.totals:
            return {"loss": float("nan")}
        means = [total / self.counts[name].clamp_min(_TINY) for name, total in self.totals.items()]
        values = dict(zip(self.totals, torch.stack(means).tolist(), strict=True))
        return {**values, "loss": sum(self.weights[name] * value for name, value in values.items())}

    def state_dict(self) -> dict[str, Any]:
        """Return the sums as plain types and tensors on the CPU."""
        return {
            "totals": {name: total.cpu() for name, total in self.totals.items()},
            "counts": {name: count.cpu() for name, count in self.counts.items()},
            "weights": dict(self.weights),
        }

    @classmethod
    def from_state(cls, state: dict[str, Any], device: torch.device) -> TermSums:
        """Restore what `state_dict` returned."""
        return cls(
            {name: total.to(device) for name, total in state["totals"].items()},
            {name: count.to(device) for name, count in state["counts"].items()},
            dict(state["weights"]),
        )


def window_normalizers(task: Task, batches: Sequence[Batch], world: World) -> dict[str, Tensor]:
    """Return each term's normaliser summed over the window and over all processes."""
    norms: dict[str, Tensor] = {}
    for batch in batches:
        for name, count in task.normalizers(batch).items():
            norms[name] = norms[name] + count.double() if name in norms else count.double()
    if world.size > 1:
        norms = {name: norms[name].clone() for name in sorted(norms)}
        world.sum_(norms.values())
    return norms


def accumulate(
    task: Task, batches: Sequence[Batch], norms: dict[str, Tensor], precision: MixedPrecision
) -> TermSums:
    """Run every micro-batch forward and backward; gradients end up as those of one large batch.

    The objective is sum_j weight_j * sum(total_j) / sum(count_j), both sums over the whole window, so any
    cut of the same samples into micro-batches gives the same gradient. Terms without a valid element add 0.
    """
    sums = TermSums.empty()
    for batch in batches:
        with precision.autocast():
            terms = task.training_step(batch)
        if terms.keys() != norms.keys():
            raise ValueError(f"training_step gave terms {sorted(terms)}, normalizers gave {sorted(norms)}")
        parts = [
            term.weight * term.total / norms[name].clamp_min(_TINY).to(term.total.dtype)
            for name, term in terms.items()
        ]
        precision.backward(parts[0] if len(parts) == 1 else torch.stack(parts).sum())
        sums.add(terms)
    return sums
