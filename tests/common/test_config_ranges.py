"""Numbers that flags may take: which, how they are called, and what is said of the others."""

from __future__ import annotations

from dataclasses import dataclass, field
from math import inf, nan
from typing import Any, Literal

import pytest

from common.config import NOT_NEGATIVE, POSITIVE, SHARE, Finding, Range, out_of_range


@dataclass(frozen=True, kw_only=True)
class Inner:
    """A group."""

    rate: float = 0.5
    sizes: tuple[int, int] = (1, 2)


@dataclass(frozen=True, kw_only=True)
class Outer:
    """Every kind of value."""

    epochs: int = 1
    batch_size: int | None = None
    scale: float | Literal["auto"] = "auto"
    switch: bool = False
    word: str = "0"
    free: float = -3.0
    marks: tuple[float, ...] = (nan,)
    inner: Inner = field(default_factory=Inner)


def said(config: Any, ranges: dict[Range, tuple[str, ...]], **options: bool) -> list[str]:
    found = list(out_of_range(config, ranges, **options))
    assert all(finding == Finding("error", finding.text) for finding in found)
    return [finding.text for finding in found]


@pytest.mark.parametrize(
    ("limits", "text", "inside", "outside"),
    [
        (Range(), "a finite number", (-1e300, 0), ()),
        (Range(2), "at least 2", (2, 1e300), (1.999,)),
        (POSITIVE, "greater than 0", (1e-300,), (0, -1)),
        (NOT_NEGATIVE, "at least 0", (0,), (-1e-9,)),
        (SHARE, "from 0 to 1", (0, 1), (-0.1, 1.1)),
        (Range(0, 1, below=True), "from 0 to below 1", (0, 0.999), (1, -0.1)),
        (Range(0, 4, above=True), "above 0 and at most 4", (4, 0.1), (0, 4.1)),
        (Range(0, 1, above=True, below=True), "above 0 and below 1", (0.5,), (0, 1)),
        (Range(high=3), "at most 3", (3, -9), (3.1,)),
        (Range(high=3, below=True), "below 3", (2.9,), (3,)),
    ],
)
def test_a_range_says_what_it_holds(
    limits: Range, text: str, inside: tuple[float, ...], outside: tuple[float, ...]
) -> None:
    assert str(limits) == text
    assert [number for number in inside if number not in limits] == []
    assert [number for number in (*outside, nan, inf, -inf) if number in limits] == []


def test_a_number_outside_is_named_with_its_flag_and_range() -> None:
    config = Outer(epochs=0, batch_size=-1, inner=Inner(rate=1.5, sizes=(0, 2)))
    ranges = {Range(1): ("epochs", "batch_size", "sizes"), SHARE: ("rate",)}
    assert said(config, ranges) == [
        "--epochs 0: at least 1 is expected",
        "--batch-size -1: at least 1 is expected",
        "--rate 1.5: from 0 to 1 is expected",
        "--sizes 0: at least 1 is expected",
    ]
    assert said(config, {Range(0): ("batch_size",)}, hyphens=False) == [
        "--batch_size -1: at least 0 is expected"
    ]


def test_none_and_words_pass_and_so_do_switches() -> None:
    assert said(Outer(), {Range(5): ("batch_size", "scale", "switch", "word")}) == []


@pytest.mark.parametrize("value", [nan, inf, -inf])
def test_a_number_that_no_range_names_must_be_finite(value: float) -> None:
    assert said(Outer(free=value), {}) == [f"--free {value:g}: a finite number is expected"]


@pytest.mark.parametrize("value", [nan, inf, -inf])
def test_a_number_that_is_not_finite_is_called_so_whatever_its_range(value: float) -> None:
    assert said(Outer(free=value), {POSITIVE: ("free",)}) == [
        f"--free {value:g}: a finite number is expected"
    ]


def test_the_word_that_a_flag_takes_beside_numbers_is_named() -> None:
    assert said(Outer(scale=5.0), {Range(0, 4, above=True): ("scale",)}) == [
        "--scale 5: above 0 and at most 4 or auto is expected"
    ]


def test_a_range_for_a_flag_that_is_not_there_is_a_mistake() -> None:
    with pytest.raises(AssertionError, match=r"no such flags: \['epoch'\]"):
        said(Outer(), {Range(1): ("epoch",)})
