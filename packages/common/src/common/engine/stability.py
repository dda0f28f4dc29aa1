"""Signs that training diverges, and what the task says may help against it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from common.engine.journal import Journal
from common.engine.state import Progress
from common.engine.step import TrainingError
from common.engine.task import Task

RISEN = 2.0
"""A mean training loss more than so many times that of the first epoch has diverged."""


class Stability:
    """Tells the task's hints at the first sign that its losses diverge, once in a run."""

    def __init__(self, task: Task, progress: Progress, journal: Journal) -> None:
        self._task, self._progress, self._journal = task, progress, journal
        self._terms: Sequence[str] = ()
        self._text = ""

    def not_finite(self, terms: Sequence[str], drawn: str) -> None:
        """Write down a step at which the losses called `terms`, or the `gradient`, were not finite."""
        progress = self._progress
        where = f"step {progress.step}, epoch {progress.epoch + 1}, {drawn}"
        self._terms = terms
        self._text = f"not finite: {', '.join(terms)} at {where}; step skipped ({progress.skipped} in a row)"
        self._journal.event("nonfinite", {"terms": terms}, text=self._text)
        self._tell(terms, [])

    def error(self, ending: str = "") -> TrainingError:
        """Return the error for a run that ends at the last such step, with the task's hints."""
        lines = [self._text + ending, *self._task.divergence_hints(self._terms)]
        return TrainingError("\n       ".join(lines))

    def close_epoch(self, losses: Mapping[str, float]) -> None:
        """Compare the mean losses of an epoch with those of the first one."""
        first = self._progress.first_losses
        if not first:
            first.update({name: loss for name, loss in losses.items() if math.isfinite(loss)})
            return
        risen = [name for name, loss in losses.items() if loss > RISEN * first.get(name, loss) > 0]
        reasons = [
            f"{name}: training loss {losses[name]:.4g}, "
            f"{losses[name] / first[name]:.1f} times that of the first epoch"
            for name in risen
        ]
        self._tell(risen, reasons)

    def _tell(self, terms: Sequence[str], reasons: list[str]) -> None:
        hints = self._task.divergence_hints(terms) if terms and not self._progress.hinted else []
        if hints:
            self._progress.hinted = True
            self._journal.event("hint", {"terms": terms}, text="\n".join([*reasons, *hints]))
