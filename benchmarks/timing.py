"""Interleaved timing, ratios with bootstrap intervals, and budgets."""

from __future__ import annotations

import importlib.util
import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

REPEATS = 7
RESAMPLES = 2000
LEVEL = 0.95
SHORTEST = 0.02
TOLERATED = 1.5
UNITS = {"us": 1e6, "ms": 1e3, "s": 1.0}

Action = Callable[[], object]
Seconds = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How thoroughly to measure."""

    repeats: int = REPEATS
    small: bool = False
    """Reduced sizes, to see that an entry works; budgets are not judged."""
    full: bool = False
    """Measure what is otherwise extrapolated."""


@dataclass(frozen=True)
class Budget:
    """A limit that a value must stay under (`<=`) or reach (`>=`)."""

    sign: Literal["<=", ">="]
    limit: float

    def excess(self, value: float) -> float:
        """Return by which factor the value misses the limit; at most 1 within it."""
        return value / self.limit if self.sign == "<=" else self.limit / value


@dataclass(frozen=True, kw_only=True)
class Row:
    """One line of the table. `value` is in `unit`, `seconds` are the medians behind a ratio.

    `skipped` says why there is no value.
    """

    what: str
    unit: str
    budget: Budget | None = None
    value: float = math.nan
    low: float = math.nan
    high: float = math.nan
    seconds: Mapping[str, float] | None = None
    note: str = ""
    skipped: str = ""

    @property
    def status(self) -> Literal["ok", "over", "BREACH", "skipped", ""]:
        """Return where the value lies: within the budget, up to 1.5 times beyond it, or farther."""
        if self.skipped:
            return "skipped"
        if self.budget is None:
            return ""
        excess = self.budget.excess(self.value)
        if not excess <= TOLERATED:
            return "BREACH"
        return "ok" if excess <= 1 else "over"


Entry = Callable[[Settings], Iterator[Row]]


def at_most(limit: float) -> Budget:
    """Return the budget of a cost."""
    return Budget("<=", limit)


def at_least(limit: float) -> Budget:
    """Return the budget of a gain."""
    return Budget(">=", limit)


def interleave(
    actions: Mapping[str, Action], settings: Settings, *, prepare: Action | None = None
) -> dict[str, Seconds]:
    """Return the seconds per call of each action, one number per repeat.

    Every repeat runs each action in turn, backwards every second time, so that a drift of the machine meets
    all of them. Fast actions are called until 20 ms are full; `prepare` runs before each action, untimed. The
    first call of each, which warms caches up, is not counted.
    """
    calls = {name: _calls(action, prepare) for name, action in actions.items()}
    seconds: dict[str, list[float]] = {name: [] for name in actions}
    for repeat in range(settings.repeats):
        names = list(actions)
        for name in names if repeat % 2 == 0 else reversed(names):
            seconds[name].append(_time(actions[name], calls[name], prepare))
    return {name: np.array(values) for name, values in seconds.items()}


def _calls(action: Action, prepare: Action | None) -> int:
    _time(action, 1, prepare)
    return 1 if prepare is not None else math.ceil(SHORTEST / max(_time(action, 1, None), 1e-7))


def _time(action: Action, calls: int, prepare: Action | None) -> float:
    if prepare is not None:
        prepare()
    started = time.perf_counter()
    for _ in range(calls):
        action()
    return (time.perf_counter() - started) / calls


def ratio(
    what: str,
    seconds: Mapping[str, Seconds],
    over: str,
    under: str,
    budget: Budget | None = None,
    *,
    note: str = "",
) -> Row:
    """Return the row of median(over) / median(under), with the interval over paired repeats."""

    def value(drawn: NDArray[np.intp]) -> Seconds:
        return np.median(seconds[over][drawn], axis=-1) / np.median(seconds[under][drawn], axis=-1)

    medians = {name: float(np.median(seconds[name])) for name in (over, under)}
    return _row(what, "x", value, len(seconds[over]), budget, medians, note)


def absolute(
    what: str,
    seconds: Seconds,
    unit: Literal["us", "ms", "s"],
    budget: Budget | None = None,
    *,
    note: str = "",
) -> Row:
    """Return the row of the median time in `unit`, with its interval."""

    def value(drawn: NDArray[np.intp]) -> Seconds:
        return np.asarray(np.median(seconds[drawn], axis=-1) * UNITS[unit])

    return _row(what, unit, value, len(seconds), budget, None, note)


def _row(
    what: str,
    unit: str,
    value: Callable[[NDArray[np.intp]], Seconds],
    repeats: int,
    budget: Budget | None,
    medians: dict[str, float] | None,
    note: str,
) -> Row:
    drawn = np.random.default_rng(0).integers(repeats, size=(RESAMPLES, repeats))
    low, high = np.quantile(value(drawn), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    middle = float(value(np.arange(repeats)))
    return Row(
        what=what,
        unit=unit,
        value=middle,
        low=float(low),
        high=float(high),
        budget=budget,
        seconds=medians,
        note=note,
    )


def missing(package: str) -> str:
    """Return why a peer cannot be measured, or nothing when it is installed."""
    return "" if importlib.util.find_spec(package) else f"{package} is not installed"
