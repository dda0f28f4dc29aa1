"""Which numbers a flag takes, as a table beside the configuration class."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import reduce
from math import inf
from typing import Any

from common.config.findings import Finding
from common.config.schema import choice_words, flags


@dataclass(frozen=True)
class Range:
    """The finite numbers from `low` to `high`; `above` and `below` leave out the ends themselves.

    >>> 1 in Range(0, 1), 1 in Range(0, 1, below=True), float("inf") in Range(0), float("nan") in Range()
    (True, False, False, False)
    """

    low: float = -inf
    high: float = inf
    above: bool = False
    below: bool = False

    def __contains__(self, value: float) -> bool:
        """Whether `value` is one of the numbers."""
        over = self.low < value if self.above else self.low <= value
        under = value < self.high if self.below else value <= self.high
        return over and under and -inf < value < inf

    def __str__(self) -> str:
        """Return the range in words.

        >>> print(Range(0, above=True), Range(2), Range(0, 1, below=True), Range(), sep=" | ")
        greater than 0 | at least 2 | from 0 to below 1 | a finite number
        """
        if self.low == -inf and self.high == inf:
            return "a finite number"
        if self.high == inf:
            return f"{'greater than' if self.above else 'at least'} {self.low:g}"
        end = f"below {self.high:g}" if self.below else f"at most {self.high:g}"
        if self.low == -inf:
            return end
        if self.above:
            return f"above {self.low:g} and {end}"
        return f"from {self.low:g} to {end.removeprefix('at most ')}"


POSITIVE = Range(0, above=True)
NOT_NEGATIVE = Range(0)
SHARE = Range(0, 1)


def out_of_range(
    config: Any, ranges: Mapping[Range, tuple[str, ...]], *, hyphens: bool = True
) -> Iterator[Finding]:
    """Yield an error for every number of `config` outside the range that names its field.

    Each number of a tuple that a range names counts; other tuples, None and words pass. A single number that
    no range names must be finite. `hyphens` False spells flags as their fields. AssertionError for a range
    that names no field.
    """
    found = {flag.name: flag for flag in flags(type(config))}
    limits = {name: numbers for numbers, names in ranges.items() for name in names}
    assert limits.keys() <= found.keys(), f"no such flags: {sorted(limits.keys() - found.keys())}"
    for name, flag in found.items():
        value = reduce(getattr, (*flag.groups, name), config)
        allowed = limits.get(name, Range())
        for number in value if isinstance(value, tuple) and name in limits else (value,):
            if _is_number(number) and number not in allowed:
                shown = f"{number:g}" if isinstance(number, float) else number
                option = flag.option if hyphens else f"--{name}"
                expected = allowed if number in Range() else Range()
                words = " or ".join((str(expected), *choice_words(flag)))
                yield Finding("error", f"{option} {shown}: {words} is expected")


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
