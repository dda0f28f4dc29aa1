"""Small parts that run once per sample or once per run."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from timing import Entry, Row, Settings, absolute, at_most, interleave

from common.balancing.budget import balance_budget
from common.balancing.weights import class_weights
from common.engine.randomness import SampleKey, sample_rng
from common.statistics import ClassStatistics


def random_generator(settings: Settings) -> Iterator[Row]:
    """The generator of one draw."""
    seconds = interleave({"ours": lambda: sample_rng(0, SampleKey(7, 3, 11))}, settings)
    yield absolute("generator of one sample", seconds["ours"], "us", at_most(30))


def budget(settings: Settings) -> Iterator[Row]:
    """The balance budget with its findings and lines, of a thousand classes."""
    counts = np.geomspace(100_000, 10, 1000).astype(np.int64)
    statistics = ClassStatistics.from_counts(counts)
    weights = class_weights(statistics, "sqrt")
    seconds = interleave({"ours": lambda: balance_budget(statistics, weights=weights).lines()}, settings)
    yield absolute("balance budget, K 1000", seconds["ours"], "ms", at_most(50))


ENTRIES: dict[str, Entry] = {"rng": random_generator, "budget": budget}
