"""Confidence intervals of any function of a confusion matrix, by resampling groups."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
Statistic = Callable[[NDArray[np.int64]], Any]

_ENTRIES_PER_CHUNK = 2**23
_log = logging.getLogger(__name__)


class Interval(NamedTuple):
    """A value with the ends of its confidence interval; three arrays of the statistic's own shape."""

    value: FloatArray
    low: FloatArray
    high: FloatArray


def bootstrap_ci(
    group_matrices: NDArray[np.int64],
    fn: Statistic,
    *,
    n: int = 2000,
    level: float = 0.95,
    seed: int = 0,
    vectorized: bool = True,
) -> Interval:
    """Return fn(sum of all groups) and the percentile interval of fn over `n` resamples of the groups.

    `group_matrices` is int64 [G, K, K], one confusion matrix per group of dependent samples; `fn` returns a
    number or an array and, when `vectorized`, maps [n, K, K] to [n, ...] like the functions of
    `common.metrics.report`. Resamples where the statistic is NaN are left out. With fewer than two groups the
    ends are NaN and a line is logged. ValueError for other shapes, and if `fn` does not map resamples one by
    one. Source: Efron and Tibshirani 1993, chapter 13.
    """
    groups = np.asarray(group_matrices)
    if groups.ndim != 3 or groups.shape[1] != groups.shape[2]:
        raise ValueError(f"group_matrices is [G, K, K], not shape {groups.shape}")
    if not 0 < level < 1 or n < 1:
        raise ValueError(f"level lies in (0, 1) and n is at least 1, not {level} and {n}")
    value = np.asarray(fn(groups.sum(0)), dtype=np.float64)
    if len(groups) < 2:
        _log.warning("no confidence interval: %d group, resampling needs at least 2", len(groups))
        return Interval(value, np.full_like(value, np.nan), np.full_like(value, np.nan))
    chunks = _resamples(groups, n, np.random.default_rng(seed))
    values = np.concatenate([_apply(fn, chunk, value.shape, vectorized) for chunk in chunks])
    tail = (1.0 - level) / 2.0
    return Interval(value, _quantile(values, tail), _quantile(values, 1.0 - tail))


def _resamples(
    groups: NDArray[np.int64], n: int, generator: np.random.Generator
) -> Iterator[NDArray[np.int64]]:
    """Yield [n_i, K, K], sums of G groups drawn with replacement, n resamples in all."""
    count, classes = len(groups), groups.shape[1]
    draws = generator.multinomial(count, np.full(count, 1.0 / count), size=n).astype(np.float64)
    flat = groups.reshape(count, -1).astype(np.float64)
    step = max(1, _ENTRIES_PER_CHUNK // max(1, classes * classes))
    for start in range(0, n, step):
        yield np.rint(draws[start : start + step] @ flat).astype(np.int64).reshape(-1, classes, classes)


def _apply(
    fn: Statistic, resamples: NDArray[np.int64], shape: tuple[int, ...], vectorized: bool
) -> FloatArray:
    if not vectorized:
        return np.stack([np.asarray(fn(matrix), dtype=np.float64) for matrix in resamples])
    values = np.asarray(fn(resamples), dtype=np.float64)
    first = np.asarray(fn(resamples[0]), dtype=np.float64)
    wanted = (len(resamples), *shape)
    if values.shape != wanted or not np.allclose(values[0], first, equal_nan=True):
        raise ValueError(
            f"fn does not map [n, K, K] to {('n', *shape)} one resample at a time: "
            "index from the back (m[..., i, j]) or pass vectorized=False"
        )
    return values


def _quantile(values: FloatArray, q: float) -> FloatArray:
    """Return the quantile over dimension 0 of the values that are not NaN, NaN where there is none."""
    columns = values.reshape(len(values), -1).T
    ends = [np.quantile(kept, q) if len(kept) else np.nan for kept in (c[~np.isnan(c)] for c in columns)]
    return np.asarray(ends, dtype=np.float64).reshape(values.shape[1:])
