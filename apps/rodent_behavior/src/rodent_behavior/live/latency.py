"""How long each part of the live loop takes."""

from __future__ import annotations

from array import array

import numpy as np

PERCENTILES = (50, 95, 99)


class Latency:
    """Durations by part (pose, behaviour, total), summed up over all and over the time since a report."""

    def __init__(self, period_s: float = 10.0) -> None:
        self._period_s = period_s
        self._seconds: dict[str, array[float]] = {}
        self._reported: dict[str, int] = {}
        self._due = float("-inf")

    def add(self, part: str, seconds: float) -> None:
        """Note one duration."""
        self._seconds.setdefault(part, array("f")).append(seconds)

    def summary(self) -> dict[str, dict[str, float]]:
        """Return count, p50_ms, p95_ms, p99_ms and max_ms of each part."""
        return {part: _summary(values) for part, values in self._seconds.items()}

    def report(self, now: float) -> dict[str, dict[str, float]] | None:
        """Return the summary of what came since the last report, once every `period_s`; else None."""
        if now < self._due:
            return None
        first = self._due == float("-inf")
        self._due = now + self._period_s
        if first:
            return None
        recent = {part: values[self._reported.get(part, 0) :] for part, values in self._seconds.items()}
        self._reported = {part: len(values) for part, values in self._seconds.items()}
        return {part: _summary(values) for part, values in recent.items() if values}


def _summary(seconds: array[float]) -> dict[str, float]:
    milliseconds = 1000 * np.asarray(seconds, dtype=np.float64)
    values = np.percentile(milliseconds, PERCENTILES).tolist()
    named = {f"p{percent}_ms": value for percent, value in zip(PERCENTILES, values, strict=True)}
    return {"count": len(seconds), **named, "max_ms": float(milliseconds.max())}
