"""From samples and fixations to frames of equal length, and from frames to windows."""

from __future__ import annotations

from math import gcd

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]

PHASES = 8
"""Fewest different phases of a repeating stimulus that windows should start at."""

_TICK = 1e-6
_ROUNDING = 1e-6
_CORRELATED = 0.2
_NEAR_BEST = 0.8
_SHORTEST_PERIOD = 4


def frame_samples(
    t: Array, x: Array, y: Array, valid: Bools, *, rate_hz: float
) -> tuple[Array, Bools, float]:
    """Return positions (F, 2) as (x, y), validity (F,) and the time of the first frame's beginning.

    `t` (n,) are seconds, strictly increasing. Frame k shows the valid sample nearest to the centre of
    [k / rate, (k + 1) / rate) counted from the first sample, the earlier of two as near; nothing is
    interpolated. A frame without valid sample is invalid and lies at (0, 0).
    """
    chosen = nearest_samples(t, valid, rate_hz=rate_hz)
    mask = chosen >= 0
    coordinates = np.where(mask[:, None], np.stack([x, y], 1)[chosen], 0.0)
    return coordinates, mask, float(t[0])


def frame_count(t: Array, rate_hz: float) -> int:
    """Return how many whole frames samples at times `t` (n,) fill; the last sample lasts a median step."""
    step = float(np.median(np.diff(t))) if len(t) > 1 else 0.0
    return int((t[-1] - t[0] + step + _TICK) * rate_hz)


def nearest_samples(t: Array, usable: Bools, *, rate_hz: float) -> Ints:
    """Return per frame (F,) the index of the usable sample nearest to its centre, -1 where there is none.

    Times are compared to the microsecond: seconds of a clock that counts from 1970 hold no more.
    """
    count = frame_count(t, rate_hz)
    elapsed = t - t[0]
    frame = np.floor((elapsed + _TICK) * rate_hz).astype(np.int64)
    distance = np.round(np.abs(elapsed - (frame + 0.5) / rate_hz) / _TICK)
    candidates = np.flatnonzero(usable & (frame < count))
    ordered = candidates[np.lexsort((candidates, distance[candidates], frame[candidates]))]
    frames, first = np.unique(frame[ordered], return_index=True)
    chosen = np.full(count, -1)
    chosen[frames] = ordered[first]
    return chosen


def frame_fixations(durations_ms: Array, *, rate_hz: float) -> Ints:
    """Return per frame (F,) the index of the fixation shown: end before < frame's centre <= own end.

    Fixations follow each other without gaps from time 0; only frames that end before the last fixation does.
    """
    ends = np.cumsum(durations_ms)
    step = 1000 / rate_hz
    count = int(ends[-1] / step + _ROUNDING) if len(ends) else 0
    return np.searchsorted(ends, (np.arange(count) + 0.5) * step - _ROUNDING, side="left").astype(np.int64)


def window_starts(mask: Bools, *, length: int, hop: int | None, min_valid: float) -> tuple[Ints, int]:
    """Return the first frames of the windows kept, and how many were dropped for masked frames.

    `mask` (F,) tells valid frames. Windows of `length` frames start every `hop` frames from 0; only one at 0
    when hop is None. Kept are those with at least one valid frame and a share of `min_valid` of them.
    """
    last = len(mask) - length
    if last < 0:
        return np.zeros(0, np.int64), 0
    starts = np.zeros(1, np.int64) if hop is None else np.arange(0, last + 1, hop)
    totals = np.concatenate([[0], np.cumsum(mask)])
    valid = totals[starts + length] - totals[starts]
    keep = (valid >= 1) & (valid >= min_valid * length - _ROUNDING)
    return starts[keep], int((~keep).sum())


def stimulus_period(recordings: list[tuple[Array, Bools]]) -> int | None:
    """Return the dominant period in frames of how far the gaze moves per frame, or None without one.

    `recordings` holds positions (F, 2) and validity (F,). The autocorrelation of the step length, steps with
    an invalid end left out, is averaged over the recordings; the period is the shortest peak near the best.
    """
    sums = [_lagged_products(*_steps(positions, mask)) for positions, mask in recordings if mask.sum() > 2]
    longest = max((len(products) for products, _ in sums), default=0)
    products, pairs = np.zeros(longest), np.zeros(longest)
    for part, count in sums:
        products[: len(part)] += part
        pairs[: len(count)] += count
    if longest <= _SHORTEST_PERIOD + 1 or products[0] <= 0:
        return None
    correlation = products / np.maximum(pairs, 1) / (products[0] / pairs[0])
    middle = correlation[1:-1]
    peak = (middle > correlation[:-2]) & (middle >= correlation[2:])
    lags = np.flatnonzero(peak & (middle > max(_CORRELATED, 4 / np.sqrt(pairs[0])))) + 1
    lags = lags[lags >= _SHORTEST_PERIOD]
    if not len(lags):
        return None
    return int(lags[correlation[lags] >= _NEAR_BEST * correlation[lags].max()][0])


def hop_warning(hop: int, period: int | None) -> str | None:
    """Return what is wrong with windows `hop` frames apart when the stimulus has this period, or None."""
    if period is None or period // gcd(hop, period) >= PHASES:
        return None
    phases = period // gcd(hop, period)
    better = next((other for other in range(hop - 1, 0, -1) if period // gcd(other, period) >= PHASES), None)
    advice = "" if better is None else f"; --hop {better} would give {period // gcd(better, period)}"
    return (
        f"--hop {hop}: the stimulus repeats every {period} frames, so windows share {phases} "
        f"phase{'s' if phases > 1 else ''} of it{advice}"
    )


def _steps(positions: Array, mask: Bools) -> tuple[Array, Bools]:
    """Return step lengths minus their mean, 0 where an end is invalid, and which are valid."""
    valid = mask[1:] & mask[:-1]
    steps = np.linalg.norm(np.diff(positions, axis=0), axis=1)
    mean = steps[valid].mean() if valid.any() else 0.0
    return np.where(valid, steps - mean, 0.0), valid


def _lagged_products(steps: Array, valid: Bools) -> tuple[Array, Array]:
    """Return for lags up to a third of the recording the summed products and the number of valid pairs."""
    size = 2 * len(steps)
    half = len(steps) // 3 + 1
    spectra = (np.fft.rfft(values, size) for values in (steps, valid.astype(float)))
    products, pairs = (np.fft.irfft(np.abs(s) ** 2, size)[:half] for s in spectra)
    return products, np.round(pairs)
