"""One optimiser step over a window of micro-batches, divided by the window's own totals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from common.engine.distributed import World
from common.engine.precision import MixedPrecision
from common.engine.task import Batch, LossTerm, Task


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
        """Return the sums over all processes."""
        copy = TermSums(
            {name: value.clone() for name, value in self.totals.items()},
            {name: value.clone() for name, value in self.counts.items()},
            dict(self.weights),
        )
        world.sum_(copy.totals.values())
        world.sum_(copy.counts.values())
        return copy

    def means(self) -> dict[str, float]:
        """Return each term's mean and `loss`, their weighted sum. Waits for the device."""
        means = {
            name: float(total / self.counts[name].clamp_min(1e-12)) for name, total in self.totals.items()
        }
        return {"loss": sum(self.weights[name] * value for name, value in means.items()), **means}

    def state_dict(self) -> dict[str, dict[str, Tensor] | dict[str, float]]:
        """Return the sums as plain types."""
        return {"totals": self.totals, "counts": self.counts, "weights": self.weights}


def window_normalizers(task: Task, batches: Sequence[Batch], world: World) -> dict[str, Tensor]:
    """Return each term's normaliser summed over the window and over all processes."""
    norms: dict[str, Tensor] = {}
    for batch in batches:
        for name, count in task.normalizers(batch).items():
            norms[name] = norms[name] + count.double() if name in norms else count.double()
    world.sum_(norms[name] for name in sorted(norms))
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
            term.weight * term.total / norms[name].clamp_min(1e-12).to(term.total.dtype)
            for name, term in terms.items()
        ]
        precision.backward(torch.stack(parts).sum())
        sums.add(terms)
    return sums
