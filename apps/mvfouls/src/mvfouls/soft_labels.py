"""Labels that two classes share, counted and weighted."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from common.statistics import ClassStatistics, Shares
from mvfouls.labels import TaskLabels

PARTS = 2
"""Halves of a label."""


def shares_of(tasks: Mapping[str, TaskLabels]) -> dict[str, Shares]:
    """Return the shares [K, K] of the tasks with soft labels."""
    return {task: np.array(labels.shares()) for task, labels in tasks.items() if labels.soft}


def halved(statistics: ClassStatistics, shares: Shares) -> ClassStatistics:
    """Return the statistics of annotated classes in half samples, those of shared labels at both classes."""
    counts = np.rint(PARTS * statistics.counts @ shares).astype(np.int64)
    return ClassStatistics.from_counts(
        counts, names=statistics.names, unit="half sample", ignored=PARTS * statistics.ignored
    )


def shared_weights(drawn: Shares, shares: Shares, weights: Shares) -> Shares:
    """Return by what class weights [K] multiply the share of each class [K] when `drawn` [K] are annotated.

    A sample weighs what its label says of the weights, so a rare class lends its weight to the class that it
    shares a label with. 0 for a class that is never drawn.
    """
    presented = drawn @ shares
    weighted = (drawn * (shares @ weights)) @ shares
    return np.divide(weighted, presented, out=np.zeros(len(drawn)), where=presented > 0)
