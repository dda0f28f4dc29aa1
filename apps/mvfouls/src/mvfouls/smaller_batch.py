"""Smaller parts of a step once the backbone trains, when its memory is needed."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from torch import nn

from common.engine.state import Progress
from common.engine.task import Batch, Headline
from common.freezing.blocks import Block
from common.freezing.driver import Freezer
from common.freezing.rates import RateConfig
from common.freezing.state import Decision
from common.freezing.strategies import FreezingConfig

if TYPE_CHECKING:
    from common.engine.step import Optimization


class ShrinkingFreezer(Freezer):
    """A freezer that lets a step be computed in parts of at most `largest` from the first opening on.

    The gradient of a step stays that of its whole batch. The size is part of the optimisation's state.
    """

    def __init__(
        self,
        model: nn.Module,
        blocks: Sequence[Block],
        config: FreezingConfig,
        rates: RateConfig,
        *,
        largest: int,
        probe: Iterable[Batch] = (),
    ) -> None:
        super().__init__(model, blocks, config, rates, probe=probe)
        self.largest = largest

    def close_epoch(
        self, optimization: Optimization, progress: Progress, headline: Headline, metric: float | None
    ) -> tuple[tuple[Decision, ...], float]:
        """Decide and apply what follows from an epoch; every process calls this together."""
        decided = super().close_epoch(optimization, progress, headline, metric)
        if self.state.changed is not None:
            optimization.micro_batch = min(optimization.micro_batch or self.largest, self.largest)
        return decided
