"""Weights of tasks that follow how well each task did in the last epoch."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from common.metrics import report
from mvfouls.objective import Objective, TaskScore, adapted_weights
from mvfouls.settings import TaskWeighting

Matrix = NDArray[np.int64]


class TaskWeights:
    """The task weights of an objective; with a strategy they change after each epoch.

    `see` takes the confusion matrices [K, K] of an epoch, of training or validation as `source` says, and
    `begin_epoch` puts what follows from them into the objective.
    """

    def __init__(self, objective: Objective, settings: TaskWeighting) -> None:
        self.objective, self.settings = objective, settings
        self._next: dict[str, float] | None = None

    def see(self, source: str, matrices: Mapping[str, Matrix]) -> None:
        """Take in the confusion matrices of all tasks."""
        if self.settings.strategy is None or source != self.settings.source:
            return
        base = self.objective.base_weights
        scores = {task: score_of(matrices[task]) for task in base}
        self._next = adapted_weights(self.settings.strategy, base, scores)

    def begin_epoch(self) -> None:
        """Weigh the tasks of the epoch that begins."""
        if self._next is not None:
            self.objective.set_task_weights(self._next)

    def metrics(self) -> dict[str, float]:
        """Return the weights in force under their logged names; none where they never change."""
        if self.settings.strategy is None:
            return {}
        return {f"{task}_weight": weight for task, weight in self.objective.task_weights.items()}

    def state_dict(self) -> dict[str, Any]:
        """Return the weights in force and those of the next epoch."""
        return {"current": self.objective.task_weights, "next": self._next}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.objective.set_task_weights(state["current"])
        self._next = state["next"]


def score_of(matrix: Matrix) -> TaskScore:
    """Return how well a task did, averages over the classes present; NaN without any sample."""
    return TaskScore(
        accuracy=float(report.accuracy(matrix)),
        macro_f1=float(report.macro(matrix)),
        num_classes=len(matrix),
    )
