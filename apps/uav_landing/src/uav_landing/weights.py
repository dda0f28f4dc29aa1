"""Class weights of the main loss, and how they were found."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
from numpy.typing import NDArray

from common.balancing.weights import Strategy, class_weights
from common.config import UserError
from common.statistics import ClassStatistics
from uav_landing.config import LossConfig
from uav_landing.labels import LANDING_NAMES

GUIDE_COUNTS = (3_343_002, 758_065_856, 225_910_153, 212_680_989)
"""Pixels of classes 0-3 in the 50 photos behind the documented weights."""
GUIDE_WEIGHTS = (89.74, 0.396, 1.328, 1.411)
STRATEGIES = (
    "balanced",
    "balanced_capped",
    "sqrt",
    "log",
    "effective_number",
    "median_frequency",
    "enet_log",
)


@dataclass(frozen=True)
class WeightChoice:
    """Weights [K], or None for equal ones, with their name and anything a user should know."""

    name: str
    values: NDArray[np.float64] | None
    warnings: tuple[str, ...] = ()


def choose_weights(
    config: LossConfig,
    statistics: ClassStatistics,
    class_ids: Sequence[int],
    presented: NDArray[np.float64] | None,
) -> WeightChoice:
    """Return the weights that `--class-weights` asks for, one per output.

    `statistics` counts the training split over the outputs, `presented` are the label shares rare crops show.
    Raises UserError for a list of the wrong length, a bad number or an unknown strategy.
    """
    names = config.class_weights
    if len(names) == 1 and names[0] == "none":
        return WeightChoice("none", None, _absent(statistics, class_ids, fatal=False))
    absent = _absent(statistics, class_ids, fatal=True)
    if len(names) == 1 and names[0] == "guide":
        guide = guide_weights(class_ids)
        return WeightChoice("guide", guide, (*absent, *_far_from(guide, statistics, class_ids)))
    if len(names) == 1 and names[0] in STRATEGIES:
        cap = config.weight_cap or None
        strategy = cast(Strategy, names[0])
        values = class_weights(statistics, strategy, max_ratio=cap, presented=presented)
        return WeightChoice(names[0], values, absent)
    return WeightChoice("typed", typed_weights(names, len(class_ids)), absent)


def guide_weights(class_ids: Sequence[int]) -> NDArray[np.float64]:
    """Return the documented weights, or those of its counts when void carries no loss."""
    if len(class_ids) == len(LANDING_NAMES):
        return np.array(GUIDE_WEIGHTS)
    counts = ClassStatistics.from_counts([GUIDE_COUNTS[index] for index in class_ids], unit="pixel")
    return class_weights(counts, "balanced")


def typed_weights(values: Sequence[str], outputs: int) -> NDArray[np.float64]:
    """Return a typed list as float64 [K]; UserError for a wrong length, words, and numbers that cannot be."""
    try:
        weights = np.array([float(value) for value in values])
    except ValueError as error:
        choices = ", ".join(("guide", "none", *STRATEGIES))
        raise UserError(
            f"--class-weights {' '.join(values)}: expected numbers or one of {choices}"
        ) from error
    if len(weights) != outputs:
        need = "4 with --void train, 3 with --void ignore"
        raise UserError(f"--class-weights: {len(weights)} numbers given, {outputs} outputs ({need})")
    if not np.isfinite(weights).all() or (weights < 0).any() or not weights.any():
        raise UserError(f"--class-weights {' '.join(values)}: finite, not negative, not all 0")
    return weights


def _absent(statistics: ClassStatistics, class_ids: Sequence[int], *, fatal: bool) -> tuple[str, ...]:
    missing = [index for index, count in zip(class_ids, statistics.counts, strict=True) if count == 0]
    landing = [f"{index} ({LANDING_NAMES[index]})" for index in missing if index > 0]
    if landing and fatal:
        raise UserError(
            f"class {', '.join(landing)} has no pixel in the training split, so its weight is undefined; "
            "use --class-weights none or another split"
        )
    return tuple(
        f"class {index} ({LANDING_NAMES[index]}) has no pixel in the training split" for index in missing
    )


def _far_from(
    guide: NDArray[np.float64], statistics: ClassStatistics, class_ids: Sequence[int]
) -> tuple[str, ...]:
    measured = class_weights(statistics, "balanced")
    return tuple(
        f"guide weight {documented:.4g} of class {index} ({LANDING_NAMES[index]}) is more than 2x off the "
        f"{own:.4g} measured here; --class-weights balanced uses the measured ones"
        for index, documented, own in zip(class_ids, guide, measured, strict=True)
        if own > 0 and not 0.5 <= documented / own <= 2
    )
