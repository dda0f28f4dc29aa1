"""Triggers: when the probability of an action switches an output on and off."""

from __future__ import annotations

from typing import Literal, NamedTuple

Reason = Literal["level", "abstain", "fault", "watchdog", "restart", "closed"]

_ROUNDING = 1e-9


class Edge(NamedTuple):
    """A trigger going on or off; `p` is the probability that caused it, None when something else did."""

    label: str
    on: bool
    p: float | None
    reason: Reason


class Trigger:
    """Hysteresis on the probability of the action `label`.

    On after `min_on` consecutive frames with p >= `level`; off at p < `off_at` (half the level by default),
    at a frame without an answer, and after `watchdog_ms` without a frame. Once off it stays off for
    `refractory_ms` of stream time. ValueError names a setting out of range.
    """

    def __init__(
        self,
        label: str,
        level: float,
        *,
        off_at: float | None = None,
        min_on: int = 2,
        refractory_ms: float = 500.0,
        watchdog_ms: float = 200.0,
    ) -> None:
        self.label = label
        self.level = level
        self.off_at = level / 2 if off_at is None else off_at
        self.min_on = min_on
        self.refractory_ms = refractory_ms
        self.watchdog_ms = watchdog_ms
        self._check()
        self.active = False
        self._run = 0
        self._at = 0.0
        self._arrival = float("-inf")
        self._free_at = float("-inf")

    def update(self, p: float | None, *, at: float, now: float, why: Reason = "abstain") -> list[Edge]:
        """Take the probability of a frame, None for no answer and `why`, and return the edges it causes.

        `at` is the time of the frame on the stream's own grid, in seconds, in which the refractory time is
        counted, so that a replay gives the same edges; `now` is its arrival on a monotonic clock, for the
        watchdog.
        """
        edges = self.expire(now)
        self._at, self._arrival = at, now
        if p is None:
            return edges + self.release(why)
        if self.active:
            return edges + (self.release("level", p) if p < self.off_at else [])
        self._run = self._run + 1 if p >= self.level else 0
        if self._run >= self.min_on and at >= self._free_at - _ROUNDING:
            self.active = True
            edges.append(Edge(self.label, True, p, "level"))
        return edges

    def expire(self, now: float) -> list[Edge]:
        """Return the off edge when the last frame is more than `watchdog_ms` ago."""
        return self.release("watchdog") if now - self._arrival > self.watchdog_ms / 1000 else []

    def release(self, reason: Reason, p: float | None = None) -> list[Edge]:
        """Forget the frames counted so far and return the off edge if the trigger was on."""
        self._run = 0
        if not self.active:
            return []
        self.active = False
        self._free_at = self._at + self.refractory_ms / 1000
        return [Edge(self.label, False, p, reason)]

    def _check(self) -> None:
        if not 0 < self.level <= 1:
            raise ValueError(f"level of trigger {self.label} is {self.level}: 0 < level <= 1 is expected")
        if not 0 <= self.off_at <= self.level:
            raise ValueError(f"off_at of trigger {self.label} is {self.off_at}: 0 to the level is expected")
        if self.min_on < 1:
            raise ValueError(f"min_on of trigger {self.label} is {self.min_on}: at least 1 is expected")
        if not (self.refractory_ms >= 0 and self.watchdog_ms > 0):
            raise ValueError(
                f"refractory_ms and watchdog_ms of trigger {self.label} are {self.refractory_ms} and "
                f"{self.watchdog_ms}: at least 0 and more than 0 are expected"
            )
