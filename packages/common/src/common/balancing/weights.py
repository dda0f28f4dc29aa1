"""Class weights, margins and repeat factors as functions of label counts."""

from __future__ import annotations

import logging
from typing import Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from common.statistics import ClassStatistics, Shares

logger = logging.getLogger(__name__)

Strategy = Literal[
    "none",
    "balanced",
    "balanced_capped",
    "sqrt",
    "log",
    "effective_number",
    "median_frequency",
    "enet_log",
]
Normalization = Literal["sample", "mean", "min", "none"]

DEFAULT_CAP = 10.0
SATURATED_RATIO = 1.05
NOTICEABLE_IMBALANCE = 2.0


def class_weights(
    statistics: ClassStatistics,
    strategy: Strategy,
    *,
    max_ratio: float | None = None,
    max_value: float | None = None,
    beta: float = 0.9999,
    normalize: Normalization = "sample",
    presented: ArrayLike | None = None,
) -> Shares:
    """Return loss weights, float64 [K]; absent classes get 0 and a warning in the log.

    `presented` [K] are the label shares the sampler really presents: weights then correct only what the
    sampler left. None means the natural shares. See `weights_from_counts` for the other arguments.
    ValueError when the statistics are not those of the train split, or a presented class was never counted.
    """
    require_train(statistics, "class weights")
    counts: NDArray[np.float64] = statistics.counts.astype(np.float64)
    if presented is not None:
        counts = check_shares(statistics, presented) * statistics.support
    for index in np.flatnonzero(~statistics.present):
        logger.warning("%s has no training label: its weight is 0", statistics.label(int(index)))
    weights = weights_from_counts(
        counts, strategy, max_ratio=max_ratio, max_value=max_value, beta=beta, normalize=normalize
    )
    _report(counts, strategy, max_ratio, beta, weights)
    return weights


def weights_from_counts(
    counts: ArrayLike,
    strategy: Strategy,
    *,
    max_ratio: float | None = None,
    max_value: float | None = None,
    beta: float = 0.9999,
    normalize: Normalization = "sample",
) -> Shares:
    """Return weights [K] for counts [K] of any split or resample, without a word in the log.

    With N labels and K present classes: `balanced` N / (K n_c); `sqrt` its root; `log` log(1 + N / (K n_c));
    `effective_number` (1 - beta) / (1 - beta^n_c) (Cui 2019); `median_frequency` median(pi) / pi_c (Eigen
    2015); `enet_log` 1 / ln(1.02 + pi_c) (Paszke 2016). `max_ratio` >= 1 bounds largest / smallest weight of
    any strategy; `balanced_capped` has 10 unless told. `normalize`: `sample` makes the expected weight
    sum(pi_c w_c) 1, `mean` the mean over present classes, `min` the smallest weight, `none` leaves them.

    `max_value` >= 1 bounds the weights themselves instead: min(s u_c, max_value) with the one s that makes
    the expected weight 1, so the bound holds after normalising (`water_filling`); it replaces max_ratio.
    """
    number = np.asarray(counts, dtype=np.float64)
    _check_arguments(strategy, max_ratio, beta, normalize)
    _check_max_value(max_value, max_ratio, normalize)
    seen = number > 0
    if not seen.any():
        raise ValueError("counts are all 0: no class can be weighted")
    weights, raw = np.zeros(len(number)), _raw(number[seen], strategy, beta)
    if max_value is not None:
        weights[seen] = water_filling(raw, number[seen], cap=max_value, total=number.sum())
        return weights
    cap = _cap(strategy, max_ratio)
    weights[seen] = _capped(_normalized(_capped(raw, cap), number[seen], normalize), cap)
    return weights


def water_filling(values: ArrayLike, sizes: ArrayLike, *, cap: float, total: float) -> Shares:
    """Return min(s values, cap) [C] with the one s >= 0 for which the sum of sizes x result is `total`.

    `sizes` [C] > 0 say how often each of the `values` [C] >= 0 stands. What the cap takes from the largest
    goes to the others in proportion to their values. ValueError when the cap is too small for the total.
    """
    value, size = np.asarray(values, dtype=np.float64), np.asarray(sizes, dtype=np.float64)
    result = np.zeros(len(value))
    order = np.argsort(-value, kind="stable")[: np.count_nonzero(value > 0)]
    value, size = value[order], size[order]
    if not cap * size.sum() >= total * (1 - 1e-12):
        raise ValueError(f"cap is {cap}: {total} cannot be reached by {size.sum():g} positive values")
    left = total - cap * (np.cumsum(size) - size)
    scale = left / np.cumsum((size * value)[::-1])[::-1]
    fits = np.flatnonzero(scale * value <= cap)
    result[order] = np.minimum(scale[fits[0]] * value, cap) if len(fits) else cap
    return result


def balanced_pos_weight(counts: ArrayLike, *, cap: float | None = None) -> Shares:
    """Return (N - n_c) / n_c, at most `cap`, of one-vs-rest losses [K]; counts or shares [K] sum to N.

    A class that holds nothing or everything gets 1.
    """
    number = np.asarray(counts, dtype=np.float64)
    ratio, rest = np.ones(len(number)), number.sum() - number
    np.divide(rest, number, out=ratio, where=(number > 0) & (rest > 0))
    return ratio if cap is None else np.minimum(ratio, cap)


def ldam_margins(counts: ArrayLike, *, max_margin: float = 0.5) -> Shares:
    """Return margins [K] = max_margin (n_min / n_c)^(1/4), n_min over present classes (LDAM, Cao 2019).

    Absent classes get 0, so that the largest margin goes to the rarest class that can be learned.
    """
    number = np.asarray(counts, dtype=np.float64)
    if max_margin < 0 or not (number > 0).any():
        raise ValueError(f"max_margin {max_margin} must be >= 0 and one count positive")
    margins = np.zeros(len(number))
    seen = number > 0
    margins[seen] = max_margin * (number[seen].min() / number[seen]) ** 0.25
    return margins


def repeat_factors(
    frequencies: ArrayLike, *, threshold: float = 0.001, power: float = 0.5, cap: float | None = None
) -> Shares:
    """Return r_c = clamp((threshold / f_c)^power, 1, cap) for class frequencies [K] (LVIS, Gupta 2019).

    The defaults are the paper's, with f_c the share of images that hold the class. Absent classes get 1.
    """
    frequency = np.asarray(frequencies, dtype=np.float64)
    factors = np.ones(len(frequency))
    seen = frequency > 0
    factors[seen] = np.maximum(1.0, (threshold / frequency[seen]) ** power)
    return factors if cap is None else np.minimum(factors, cap)


def weight_ratio(weights: ArrayLike, present: NDArray[np.bool_]) -> float:
    """Return largest over smallest weight of the present classes; infinite when one of them is 0."""
    values = np.asarray(weights, dtype=np.float64)[present]
    return float(values.max() / values.min()) if values.min() > 0 else float("inf")


def check_weights(statistics: ClassStatistics, weights: ArrayLike, argument: str = "weights") -> Shares:
    """Return weights as float64 [K]; ValueError names the argument and the entry that is not one."""
    values = np.asarray(weights, dtype=np.float64)
    if values.shape != (statistics.num_classes,):
        raise ValueError(f"{argument} has shape {values.shape}: ({statistics.num_classes},) is expected")
    bad = np.flatnonzero(~np.isfinite(values) | (values < 0))
    if len(bad):
        raise ValueError(f"{argument}[{bad[0]}] is {values[bad[0]]}: finite and >= 0 is expected")
    return values


def check_shares(statistics: ClassStatistics, presented: ArrayLike) -> Shares:
    """Return presented shares as float64 [K] that sum to 1; ValueError when they do not fit."""
    shares = check_weights(statistics, presented, "presented")
    if abs(shares.sum() - 1) > 1e-6:
        raise ValueError(f"presented sums to {shares.sum()}: shares sum to 1")
    never_counted = np.flatnonzero((shares > 0) & ~statistics.present)
    if len(never_counted):
        index = int(never_counted[0])
        raise ValueError(f"presented[{index}] is {shares[index]}: {statistics.label(index)} has no label")
    return np.asarray(shares / shares.sum())


def require_train(statistics: ClassStatistics, purpose: str) -> None:
    """Raise ValueError unless the statistics are those of the train split."""
    if statistics.split != "train":
        raise ValueError(f"{purpose} need statistics of the train split, not of {statistics.split!r}")


def _check_arguments(strategy: str, max_ratio: float | None, beta: float, normalize: str) -> None:
    if strategy not in get_args(Strategy):
        raise ValueError(f"strategy is {strategy!r}: one of {', '.join(get_args(Strategy))} is expected")
    if normalize not in get_args(Normalization):
        raise ValueError(
            f"normalize is {normalize!r}: one of {', '.join(get_args(Normalization))} is expected"
        )
    if max_ratio is not None and not max_ratio >= 1:
        raise ValueError(f"max_ratio is {max_ratio}: it must be >= 1, or None for no cap")
    if not 0 <= beta <= 1:
        raise ValueError(f"beta is {beta}: 0 <= beta <= 1 is expected")


def _check_max_value(max_value: float | None, max_ratio: float | None, normalize: str) -> None:
    if max_value is None:
        return
    if not max_value >= 1:
        raise ValueError(f"max_value is {max_value}: it must be >= 1, or None for no cap")
    if max_ratio is not None or normalize != "sample":
        raise ValueError("max_value bounds weights of sample mean 1: max_ratio and normalize have no place")


def _cap(strategy: Strategy, max_ratio: float | None) -> float | None:
    return DEFAULT_CAP if strategy == "balanced_capped" and max_ratio is None else max_ratio


def _raw(counts: Shares, strategy: Strategy, beta: float) -> Shares:
    shares = counts / counts.sum()
    balanced: Shares = 1 / (len(counts) * shares)
    if strategy in ("balanced", "balanced_capped"):
        return balanced
    if strategy == "sqrt":
        return np.asarray(np.sqrt(balanced))
    if strategy == "log":
        return np.asarray(np.log1p(balanced))
    if strategy == "effective_number":
        return _effective_number(counts, beta)
    if strategy == "median_frequency":
        return np.asarray(np.median(shares) / shares)
    if strategy == "enet_log":
        return np.asarray(1 / np.log(1.02 + shares))
    return np.ones(len(counts))


def _effective_number(counts: Shares, beta: float) -> Shares:
    if beta == 0:
        return np.ones(len(counts))
    if beta == 1:
        return np.asarray(1 / counts)
    return np.asarray((1 - beta) / -np.expm1(counts * np.log(beta)))


def _capped(weights: Shares, max_ratio: float | None) -> Shares:
    if max_ratio is None:
        return weights
    smallest = weights.min()
    top = smallest * max_ratio
    while top / smallest > max_ratio:
        top = np.nextafter(top, 0)
    return np.asarray(np.minimum(weights, top))


def _normalized(weights: Shares, counts: Shares, normalize: Normalization) -> Shares:
    if normalize != "none" and np.ptp(weights) == 0:
        return np.ones(len(weights))
    if normalize == "sample":
        weights = weights / np.sum(weights * (counts / counts.sum()))
    elif normalize == "mean":
        weights = weights / weights.mean()
    elif normalize == "min":
        weights = weights / weights.min()
    return weights


def _report(
    counts: Shares, strategy: Strategy, max_ratio: float | None, beta: float, weights: Shares
) -> None:
    seen = counts > 0
    imbalance = counts[seen].max() / counts[seen].min()
    ratio = weight_ratio(weights, seen)
    free = weight_ratio(weights_from_counts(counts, strategy, max_ratio=np.inf, beta=beta), seen)
    if strategy == "effective_number" and ratio < SATURATED_RATIO and imbalance > NOTICEABLE_IMBALANCE:
        logger.warning(
            "effective_number with beta %g has no effect at these counts: weights %.3f:1, counts %.1f:1",
            beta,
            ratio,
            imbalance,
        )
    if ratio < free * (1 - 1e-9):
        logger.info("weights %s capped: largest to smallest %.1f:1 -> %.1f:1", strategy, free, ratio)
