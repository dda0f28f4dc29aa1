"""Fixations and saccades in samples of gaze by velocity or dispersion, and agreement with labels."""

from __future__ import annotations

from math import ceil
from typing import Any, TypeAlias

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view
from numpy.typing import NDArray
from scipy.signal import savgol_filter

from eye_fixation.labels import FIXATION, OSCILLATION, SACCADE, UNDEFINED

Floats: TypeAlias = NDArray[np.float64]
Flags: TypeAlias = NDArray[np.bool_]
Events: TypeAlias = NDArray[np.uint8]

SCORED = (FIXATION, SACCADE, OSCILLATION)
"""Labels on which saccades are compared."""
ORDER = 2
"""Order of the polynomial of the velocity filter."""
TOLERANCE = 1e-6
"""Samples by which rounded times may miss a duration."""


def ivt(
    t: Floats, x: Floats, y: Floats, valid: Flags, *, threshold: float = 45.0, window_ms: float = 21.0
) -> Events:
    """Label samples faster than `threshold` deg/s as saccades and the others as fixations.

    `t` [N] s, rising, `x` and `y` [N] deg, `valid` [N]; returns uint8 [N], 0 where a sample is invalid.
    Velocity is the slope of a Savitzky-Golay filter of order 2 over `window_ms`, an odd number of samples and
    at least three, on a grid of the median step; gaps are bridged linearly before the filter. ValueError for
    arrays of other lengths, times that do not rise and a threshold or window of 0 or less. Source: Salvucci
    and Goldberg, Identifying fixations and saccades in eye-tracking protocols (2000), I-VT.
    """
    _check(t, x, y, valid)
    _check_positive("threshold", threshold)
    _check_positive("window_ms", window_ms)
    events = np.full(len(t), UNDEFINED, dtype=np.uint8)
    if valid.sum() > 1:
        fast = _speed(t, x, y, valid, window_ms) > threshold
        events[valid] = np.where(fast[valid], SACCADE, FIXATION)
    elif valid.any():
        events[valid] = FIXATION
    return events


def idt(
    t: Floats, x: Floats, y: Floats, valid: Flags, *, dispersion: float = 1.0, duration_ms: float = 100.0
) -> Events:
    """Label runs of at least `duration_ms` within `dispersion` deg as fixations and the others as saccades.

    Arguments and result as in `ivt`. Dispersion is the extent in x plus the extent in y; a run grows while it
    stays within, and an invalid sample ends it. ValueError as in `ivt`. Source: Salvucci and Goldberg (2000),
    I-DT.
    """
    _check(t, x, y, valid)
    _check_positive("dispersion", dispersion)
    _check_positive("duration_ms", duration_ms)
    events = np.where(valid, SACCADE, UNDEFINED).astype(np.uint8)
    step = float(np.median(np.diff(t))) if len(t) > 1 else np.inf
    least = max(ceil(duration_ms / 1000 / step - TOLERANCE), 1)
    for start, stop in _runs(t, valid, step):
        for first, end in _fixations(x[start:stop], y[start:stop], least, dispersion):
            events[start + first : start + end] = FIXATION
    return events


def kappa(truth: NDArray[Any], predicted: NDArray[Any]) -> float:
    """Return Cohen's kappa of two labels per sample, [N] each; NaN where chance agreement is complete.

    ValueError for other shapes. Source: Cohen, A coefficient of agreement for nominal scales (1960).
    """
    if truth.ndim != 1 or truth.shape != predicted.shape:
        raise ValueError(f"truth is {list(truth.shape)} and predicted {list(predicted.shape)}: both are [N]")
    _, ids = np.unique(np.concatenate([truth, predicted]), return_inverse=True)
    first, second = np.split(ids.ravel(), 2)
    if not len(first):
        return float("nan")
    bins = int(ids.max()) + 1
    chance = float(np.bincount(first, minlength=bins) @ np.bincount(second, minlength=bins)) / len(first) ** 2
    if chance == 1.0:
        return float("nan")
    return float(((first == second).mean() - chance) / (1 - chance))


def saccade_kappa(labels: NDArray[Any], predicted: NDArray[Any]) -> float:
    """Return the kappa of saccade against the rest over samples labelled fixation, saccade or oscillation."""
    scored = np.isin(labels, SCORED)
    return kappa(labels[scored] == SACCADE, predicted[scored] == SACCADE)


def _check(t: Floats, x: Floats, y: Floats, valid: Flags) -> None:
    if t.ndim != 1 or not t.shape == x.shape == y.shape == valid.shape:
        shapes = [list(part.shape) for part in (t, x, y, valid)]
        raise ValueError(f"t, x, y and valid are {shapes}: all are [N]")
    if not (np.diff(t) > 0).all():
        raise ValueError("t does not rise")


def _check_positive(name: str, value: float) -> None:
    if not value > 0:
        raise ValueError(f"{name} is {value}: more than 0 is expected")


def _speed(t: Floats, x: Floats, y: Floats, valid: Flags, window_ms: float) -> Floats:
    """Return the speed at each sample in deg/s, [N]; at least two samples are valid."""
    step = float(np.median(np.diff(t)))
    last = round((t[-1] - t[0]) / step)
    grid = t[0] + step * np.arange(last + 1)
    window = min(max(_odd(window_ms / 1000 / step), ORDER + 1), _odd(last))
    slopes = (_slope(np.interp(grid, t[valid], part[valid]), window, step) for part in (x, y))
    places = np.rint((t - t[0]) / step).astype(np.int64).clip(0, last)
    speed: Floats = np.hypot(*slopes)[places]
    return speed


def _odd(samples: float) -> int:
    """Return the odd number of samples nearest to a length in samples."""
    return 2 * int(samples // 2) + 1


def _slope(values: Floats, window: int, step: float) -> Floats:
    """Return the derivative of `values` [M]; the window is an odd number of samples."""
    if window <= ORDER:
        return np.asarray(np.gradient(values, step))
    slope: Floats = savgol_filter(values, window, ORDER, deriv=1, delta=step)
    return slope


def _runs(t: Floats, valid: Flags, step: float) -> list[tuple[int, int]]:
    """Return starts and stops of the runs of valid samples without a pause."""
    joined = valid[1:] & valid[:-1] & (np.diff(t) < 1.5 * step)
    padded = np.concatenate([[False], joined, [False]])
    starts = np.flatnonzero(valid & ~padded[:-1])
    stops = np.flatnonzero(valid & ~padded[1:]) + 1
    return list(zip(starts.tolist(), stops.tolist()))


def _fixations(x: Floats, y: Floats, least: int, dispersion: float) -> list[tuple[int, int]]:
    """Return starts and stops of the fixations of at least `least` samples in one run."""
    if len(x) < least:
        return []
    extents = sum(np.ptp(sliding_window_view(axis, least), axis=-1) for axis in (x, y))
    compact = np.flatnonzero(extents <= dispersion)
    spans: list[tuple[int, int]] = []
    stop = 0
    while (place := int(np.searchsorted(compact, stop))) < len(compact):
        start = int(compact[place])
        stop = _grow(x, y, (start, start + least), dispersion)
        spans.append((start, stop))
    return spans


def _grow(x: Floats, y: Floats, span: tuple[int, int], dispersion: float) -> int:
    """Return where the fixation that holds the samples of `span` stops."""
    start, stop = span
    left, right = float(x[start:stop].min()), float(x[start:stop].max())
    top, bottom = float(y[start:stop].min()), float(y[start:stop].max())
    for number in range(stop, len(x)):
        across, down = float(x[number]), float(y[number])
        left, right, top, bottom = min(left, across), max(right, across), min(top, down), max(bottom, down)
        if (right - left) + (bottom - top) > dispersion:
            return number
    return len(x)
