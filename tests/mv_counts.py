"""Training labels with the documented class counts, and plans made of them."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from mvfouls.balance import BalancePlan, plan_balance
from mvfouls.labels import IGNORE, TASKS
from mvfouls.settings import BalanceSettings, LossSettings

COUNTS: dict[str, list[int]] = {
    "action_class": [448, 1264, 103, 361, 88, 178, 383, 28],
    "severity": [1402, 403, 687, 44, 27],
    "offence": [2495, 324, 96],
}
SAMPLES = 2916


def labels_of(counts: Mapping[str, list[int]], samples: int) -> dict[str, NDArray[np.int64]]:
    """Return labels [samples] per task in an order of its own, those that are left over ignored."""
    rng = np.random.default_rng(0)
    return {
        task: rng.permutation(np.repeat([*range(len(n)), IGNORE], [*n, samples - sum(n)]))
        for task, n in counts.items()
    }


def make_plan(
    balance: BalanceSettings,
    losses: Mapping[str, LossSettings],
    counts: Mapping[str, list[int]] | None = None,
    *,
    samples: int = SAMPLES,
    epochs: int = 50,
) -> BalancePlan:
    """Return a plan for samples with `counts` (the documented ones) per task."""
    labels = labels_of(COUNTS if counts is None else counts, samples)
    return plan_balance(balance, losses, labels, TASKS, epochs=epochs, seed=3)


def every_task(loss: LossSettings) -> dict[str, LossSettings]:
    """Return the same loss for the three tasks."""
    return dict.fromkeys(COUNTS, loss)
