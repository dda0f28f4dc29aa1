"""Learning-rate schedules: pure functions `position -> lr / base_lr`, and the object the engine asks.

Positions count from 0 and nothing is remembered between calls, so a resumed run continues exactly. `floor` is
the lowest rate a decay may reach, divided by the base rate.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

ScheduleName = Literal[
    "none",
    "cosine",
    "cosine_warm_restarts",
    "onecycle",
    "step",
    "exponential",
    "polynomial",
    "plateau",
    "reduce_on_plateau",
]
Mode = Literal["max", "min"]
Interval = Literal["step", "epoch"]
History = Sequence[tuple[int, float | None]]
"""One (optimizer steps done, headline value) per validation; None stands for NaN, as JSON writes it."""

_PER_EPOCH = frozenset({"cosine_warm_restarts", "step", "exponential", "plateau", "reduce_on_plateau"})


def warmup(position: float, length: float, *, start: float = 0.01) -> float:
    """Return the linear rise from `start` at 0 to 1 at `length`, and 1 from there on."""
    if position >= length:
        return 1.0
    return start + (1.0 - start) * position / length


def cosine(position: float, length: float, *, floor: float = 0.0) -> float:
    """Return half a cosine from 1 at 0 to `floor` at `length`, and `floor` from there on.

    Source: Loshchilov and Hutter 2017, SGDR, equation 5.
    """
    if position >= length:
        return floor
    return floor + (1.0 - floor) * (1.0 + math.cos(math.pi * position / length)) / 2.0


def cosine_warm_restarts(position: float, *, t_0: int = 10, t_mult: int = 2, floor: float = 0.0) -> float:
    """Return `cosine` within cycles of length t_0, t_0 t_mult, t_0 t_mult^2, ...

    Source: Loshchilov and Hutter 2017, SGDR, equation 5.
    """
    if t_mult == 1:
        return cosine(position % t_0, t_0, floor=floor)
    length = t_0
    while position >= length:
        position -= length
        length *= t_mult
    return cosine(position, length, floor=floor)


def clean_epoch_lengths(t_0: int, t_mult: int, *, count: int = 5) -> list[int]:
    """Return the first `count` lengths at which a cycle of `cosine_warm_restarts` ends.

    >>> clean_epoch_lengths(10, 2)
    [10, 30, 70, 150, 310]
    """
    lengths = [t_0]
    for cycle in range(1, count):
        lengths.append(lengths[-1] + t_0 * t_mult**cycle)
    return lengths


def one_cycle(
    position: float,
    length: int,
    *,
    pct_start: float = 0.3,
    div_factor: float = 25.0,
    final_div_factor: float = 1e4,
    floor: float = 0.0,
) -> float:
    """Return a cosine rise from 1 / div_factor to 1 and a cosine fall to 1 / (div_factor final_div_factor).

    The top lies at position pct_start x length - 1 and the end at length - 1, as in torch; `floor` bounds the
    fall only. Source: Smith and Topin 2018, super-convergence.
    """
    top = pct_start * length - 1.0
    start = 1.0 / div_factor
    if top > 0.0 and position <= top:
        return 1.0 + (start - 1.0) * (1.0 + math.cos(math.pi * position / top)) / 2.0
    end = start / final_div_factor
    return max(floor, cosine(position - top, length - 1.0 - top, floor=end))


def step_decay(position: float, *, step_size: int = 10, gamma: float = 0.5, floor: float = 0.0) -> float:
    """Return gamma^floor(position / step_size), not below `floor`."""
    return max(floor, math.pow(gamma, position // step_size))


def exponential(position: float, *, gamma: float = 0.5, floor: float = 0.0) -> float:
    """Return gamma^position, not below `floor`."""
    return max(floor, math.pow(gamma, position))


def polynomial(position: float, length: float, *, power: float = 0.9, floor: float = 0.0) -> float:
    """Return (1 - position / length)^power, not below `floor`; `floor` from `length` on."""
    if position >= length:
        return floor
    return max(floor, math.pow(1.0 - position / length, power))


def plateau(
    values: Iterable[float | None],
    *,
    mode: Mode = "max",
    patience: int = 10,
    reduction: float = 0.5,
    threshold: float = 1e-4,
    cooldown: int = 0,
    floor: float = 0.0,
) -> float:
    """Return reduction^r, r = how often more than `patience` values in a row brought no new best.

    A value is a new best when it beats the old one by more than threshold x |best|; NaN and None never are.
    After a reduction the next `cooldown` values are not counted as bad. Not below `floor`.
    """
    sign = 1.0 if mode == "max" else -1.0
    best, bad, resting, reductions = -math.inf, 0, 0, 0
    for value in values:
        signed = -math.inf if value is None or math.isnan(value) else sign * value
        margin = threshold * abs(best) if math.isfinite(best) else 0.0
        if signed > best + margin:
            best, bad = signed, 0
        else:
            bad += 1
        if resting > 0:
            resting, bad = resting - 1, 0
        if bad > patience:
            reductions, resting, bad = reductions + 1, cooldown, 0
    return max(floor, math.pow(reduction, reductions))


@dataclass(frozen=True, kw_only=True)
class ScheduleConfig:
    """Which schedule multiplies the base learning rates, and its settings. ValueError names a bad field."""

    name: ScheduleName = "cosine"
    """Schedule; reduce_on_plateau is another spelling of plateau."""

    interval: Interval | None = None
    """Unit of the position: optimizer steps or completed epochs. None takes the schedule's own."""

    warmup_epochs: float = 0.0
    """Length of the linear warm-up before the schedule starts, taken in optimizer steps."""

    warmup_start: float = 0.01
    """Share of the base rate at the first step of the warm-up."""

    min_lr: float = 0.0
    """Absolute rate below which no decay goes."""

    t_0: int = 10
    """Length of the first cycle of cosine_warm_restarts."""

    t_mult: int = 2
    """Ratio of one cycle's length to the one before."""

    pct_start: float = 0.3
    """Share of onecycle spent rising."""

    div_factor: float = 25.0
    """onecycle starts at the base rate divided by this."""

    final_div_factor: float = 1e4
    """onecycle ends at its first rate divided by this."""

    step_size: int = 10
    """Positions between two drops of step."""

    gamma: float = 0.5
    """Factor of step and exponential."""

    power: float = 0.9
    """Exponent of polynomial."""

    plateau_patience: int = 10
    """Validations without a new best that plateau tolerates."""

    plateau_factor: float = 0.5
    """Factor of one reduction of plateau."""

    plateau_threshold: float = 1e-4
    """Relative gain that makes a new best for plateau."""

    plateau_cooldown: int = 0
    """Validations after a reduction that plateau does not count."""

    def __post_init__(self) -> None:
        _check_name(self.name)
        if self.interval not in (None, "step", "epoch"):
            raise ValueError(f"interval is step or epoch, not {self.interval!r}")
        _require(self, ("t_0", "t_mult", "step_size"), lambda value: value >= 1, "at least 1")
        _require(self, ("gamma", "warmup_start"), lambda value: 0 < value <= 1, "in (0, 1]")
        _require(self, ("plateau_factor",), lambda value: 0 < value < 1, "in (0, 1)")
        _require(self, ("pct_start",), lambda value: 0 <= value <= 1, "in [0, 1]")
        _require(self, ("div_factor", "final_div_factor", "power"), lambda value: value > 0, "positive")
        _require(
            self,
            ("warmup_epochs", "min_lr", "plateau_patience", "plateau_threshold", "plateau_cooldown"),
            lambda value: value >= 0,
            "not negative",
        )
        if self.name == "onecycle" and self.warmup_epochs > 0:
            raise ValueError("warmup_epochs: onecycle has its own rise, set pct_start instead")

    @property
    def unit(self) -> Interval:
        """Return the unit of the schedule's position."""
        return self.interval or ("epoch" if self.name in _PER_EPOCH else "step")


def _check_name(name: str) -> None:
    choices = get_args(ScheduleName)
    if name in choices:
        return
    close = difflib.get_close_matches(name, choices, n=3)
    hint = f"; did you mean {', '.join(close)}?" if close else ""
    raise ValueError(f"schedule {name!r} is not one of {', '.join(choices)}{hint}")


def _require(
    config: ScheduleConfig, names: Sequence[str], holds: Callable[[float], bool], wanted: str
) -> None:
    for name in names:
        value = getattr(config, name)
        if not holds(value):
            raise ValueError(f"{name} must be {wanted}, not {value}")


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """The schedule of one base rate over one run; the engine asks it before every optimizer step.

    total_steps and steps_per_epoch count optimizer steps. `mode` is the headline's direction, read by plateau
    alone. Every parameter group with its own base rate has its own Schedule. ValueError if base_lr is not
    positive or the warm-up does not end before the run does.
    """

    config: ScheduleConfig
    base_lr: float
    total_steps: int
    steps_per_epoch: int
    mode: Mode = "max"

    def __post_init__(self) -> None:
        if not self.base_lr > 0:
            raise ValueError(f"base_lr must be positive, not {self.base_lr}")
        if self.total_steps < 1 or self.steps_per_epoch < 1:
            raise ValueError(
                "total_steps and steps_per_epoch must be at least 1, "
                f"not {self.total_steps} and {self.steps_per_epoch}"
            )
        if self.warmup_steps >= self.total_steps:
            raise ValueError(
                f"warmup_epochs {self.config.warmup_epochs} ({self.warmup_steps} steps) never ends "
                f"in {self.total_steps} steps"
            )

    @property
    def warmup_steps(self) -> int:
        """Return the optimizer steps of the warm-up."""
        return round(self.config.warmup_epochs * self.steps_per_epoch)

    @property
    def floor(self) -> float:
        """Return min_lr as a share of the base rate, at most 1."""
        return min(1.0, self.config.min_lr / self.base_lr)

    @property
    def length(self) -> int:
        """Return the positions left to the schedule after the warm-up; a begun warm-up epoch counts whole."""
        if self.config.unit == "step":
            return self.total_steps - self.warmup_steps
        return max(1, math.ceil(self.total_steps / self.steps_per_epoch) - self._warmup_epochs)

    def factor(self, step: int, epoch: int, history: History = ()) -> float:
        """Return lr / base_lr of the update after `step` attempted updates and `epoch` completed epochs.

        `history` is read by plateau alone; validations made during the warm-up are left out.
        """
        if step < self.warmup_steps:
            return warmup(step, self.warmup_steps, start=self.config.warmup_start)
        if self.config.unit == "step":
            return self._decay(step - self.warmup_steps, history)
        return self._decay(max(0, epoch - self._warmup_epochs), history)

    def lr(self, step: int, epoch: int, history: History = ()) -> float:
        """Return the learning rate `factor` stands for."""
        return self.base_lr * self.factor(step, epoch, history)

    def warnings(self) -> list[str]:
        """Return what is odd about this schedule over this run, one line each."""
        if self.config.name != "cosine_warm_restarts":
            return []
        clean = self._clean_lengths()
        total = self.length + self._warmup_positions
        if total in clean:
            return []
        lr = self.base_lr * self._decay(self.length - 1, ())
        shorter = [length for length in clean if length < total][-1:]
        nearest = shorter + [length for length in clean if length > total]
        return [f"ends mid-cycle at lr {lr:.1e}; clean lengths: {nearest[0]}, {nearest[1]}"]

    @property
    def _warmup_epochs(self) -> int:
        return math.ceil(self.warmup_steps / self.steps_per_epoch)

    @property
    def _warmup_positions(self) -> int:
        return self.warmup_steps if self.config.unit == "step" else self._warmup_epochs

    def _clean_lengths(self) -> list[int]:
        """Return run lengths at which a cycle ends, at least two of them beyond this run's length."""
        config, count = self.config, 2
        while clean_epoch_lengths(config.t_0, config.t_mult, count=count)[-2] <= self.length:
            count *= 2
        return [
            self._warmup_positions + length
            for length in clean_epoch_lengths(config.t_0, config.t_mult, count=count)
        ]

    def _decay(self, position: int, history: History) -> float:
        config, floor = self.config, self.floor
        match config.name:
            case "none":
                return 1.0
            case "cosine":
                return cosine(position, self.length, floor=floor)
            case "cosine_warm_restarts":
                return cosine_warm_restarts(position, t_0=config.t_0, t_mult=config.t_mult, floor=floor)
            case "onecycle":
                return one_cycle(
                    position,
                    self.length,
                    pct_start=config.pct_start,
                    div_factor=config.div_factor,
                    final_div_factor=config.final_div_factor,
                    floor=floor,
                )
            case "step":
                return step_decay(position, step_size=config.step_size, gamma=config.gamma, floor=floor)
            case "exponential":
                return exponential(position, gamma=config.gamma, floor=floor)
            case "polynomial":
                return polynomial(position, self.length, power=config.power, floor=floor)
            case "plateau" | "reduce_on_plateau":
                return plateau(
                    (value for step, value in history if step > self.warmup_steps),
                    mode=self.mode,
                    patience=config.plateau_patience,
                    reduction=config.plateau_factor,
                    threshold=config.plateau_threshold,
                    cooldown=config.plateau_cooldown,
                    floor=floor,
                )
