"""A comparison on the console: runs, differences, groups of seeds, recall by class, settings that differ."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from mvfouls.compare_numbers import FEWEST, KEYS, LEADERBOARD, TITLES
from mvfouls.console import NOTHING, percent, share

Content = Mapping[str, Any]
CHANCE = 0.05
"""The p below which a difference is usually called one."""


def content_lines(content: Content) -> Iterator[str]:
    """Yield everything `compare` found as text; values in percent, differences in points of it."""
    counted, total = content["counted"], content["actions"]
    drawn, level = content["bootstrap"]["resamples"], content["bootstrap"]["level"]
    yield (
        f"compare  {len(content['runs'])} runs on {counted} of {total} validation actions, which count "
        f"officially | {100 * level:g} % intervals, {drawn} resamples"
    )
    for note in content["notes"]:
        yield f"note     {note}"
    yield from aligned([["run", *TITLES.values()], *map(_run_row, content["runs"])])
    for name, found in content["differences"].items():
        yield f"{name} - {content['baseline']}, points"
        yield from aligned([_DIFFERENCE, *(_difference_row(TITLES[key], found[key]) for key in TITLES)])
    yield f"note     {count_text(content['differences'])}"
    if content["groups"]:
        yield "runs that differ in the seed alone"
        yield from aligned(list(_group_rows(content)))
    yield from aligned(list(_recall_rows(content)))
    yield from _settings_lines(content)


def aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Yield rows as lines of columns, the first set left and the others right.

    >>> print(*aligned([["run", "LB"], ["first", "9.5"]]), sep="\\n")
      run     LB
      first  9.5
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for first, *others in rows:
        cells = (cell.rjust(width) for cell, width in zip(others, widths[1:], strict=True))
        yield "  ".join(["  " + first.ljust(widths[0]), *cells]).rstrip()


def count_text(found: Mapping[str, Content]) -> str:
    """Return how many p are shown, and how many of so many chance alone takes below .05."""
    known = sum(not math.isnan(each["p"]) for part in found.values() for each in part.values())
    return (
        f"{known} differences have a p; of so many about {CHANCE * known:.1f} lie below {share(CHANCE)} by "
        f"chance alone. Only p of LB is adjusted, for {len(found)} compared with the baseline (Holm). "
        f"A class of fewer than {FEWEST} actions has no p."
    )


def points(value: float) -> str:
    """Return a difference of shares in percentage points with its sign, `-` for NaN.

    >>> points(0.0321), points(-0.1), points(0.0)
    ('+3.2', '-10.0', '0.0')
    """
    if math.isnan(value):
        return NOTHING
    text = f"{100 * value:+.1f}"
    return text[1:] if float(text) == 0 else text


def p_text(p: float) -> str:
    """Return a p of three decimals.

    >>> p_text(1.0), p_text(0.0412), p_text(0.0004), p_text(float("nan"))
    ('1.000', '.041', '<.001', '-')
    """
    if math.isnan(p):
        return NOTHING
    return "<.001" if p < 0.001 else f"{p:.3f}".removeprefix("0")


def ends_text(each: Content) -> str:
    """Return the interval of a difference in points; nothing when it has none."""
    if math.isnan(each["low"]):
        return ""
    return f"{points(each['low'])} to {points(each['high'])}"


def turned_text(each: Content) -> str:
    """Return how many actions were gained and lost; nothing for a mean."""
    return f"{each['gained']} gained, {each['lost']} lost" if "gained" in each else ""


def class_title(key: str) -> str:
    """Return the name of the class of `os_recall/Yellow`."""
    return key.partition("/")[2]


_DIFFERENCE = ["", "difference", "interval", "p", "Holm", "actions"]


def _difference_row(title: str, each: Content) -> list[str]:
    holm = p_text(each["p_holm"]) if "p_holm" in each else ""
    return [title, points(each["value"]), ends_text(each), p_text(each["p"]), holm, turned_text(each)]


def _run_row(run: Content) -> list[str]:
    return [run["name"], *(_value_text(run["values"][key]) for key in TITLES)]


def _value_text(value: Content) -> str:
    return f"{percent(value['value'])} [{percent(value['low'])}-{percent(value['high'])}]"


def _group_rows(content: Content) -> Iterator[list[str]]:
    yield ["group", "n", "LB mean", "sd", "interval", "difference", "interval", "p", "Holm"]
    for group in content["groups"]:
        value = group["values"][LEADERBOARD]
        row = [group["name"], str(len(group["runs"])), percent(value["mean"]), percent(value["sd"])]
        row.append(f"[{percent(value['low'])}-{percent(value['high'])}]")
        if group["differences"] is None:
            yield [*row, "baseline", "", "", ""]
        else:
            yield [*row, *_difference_row("", group["differences"][LEADERBOARD])[1:5]]


def _recall_rows(content: Content) -> Iterator[list[str]]:
    yield ["recall", "n", *(run["name"] for run in content["runs"])]
    for key in KEYS[len(TITLES) :]:
        values = [percent(run["values"][key]["value"]) for run in content["runs"]]
        yield [class_title(key), str(content["n"][key]), *values]


def _settings_lines(content: Content) -> Iterator[str]:
    rows = content["settings"]["differ"]
    if not rows:
        yield f"settings {same_text(content)}"
        return
    yield from aligned(
        [["settings", *(run["name"] for run in content["runs"])], *([k, *v] for k, v in rows.items())]
    )
    if content["settings"]["left_out"]:
        yield f"  {left_out_text(content)}"


def same_text(content: Content) -> str:
    """Return what is known of settings of which none differs."""
    total = len(content["runs"])
    known = sum(run["frontend"] is not None for run in content["runs"])
    return "do not differ" if known == total else f"known of {known} of {total} runs, none differs"


def left_out_text(content: Content) -> str:
    """Return how many settings of one command line alone are not listed."""
    number = content["settings"]["left_out"]
    return f"{number} flags that only one of the command lines has, and that nobody typed, are left out."
