"""The tables of an experiment on the console: a line per method, and the recall of every class."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from mvfouls.console import percent, share

Content = Mapping[str, Any]


def table_lines(content: Content) -> list[str]:
    """Return the table of methods, that of the classes of each part, and what the intervals cover."""
    lines = _aligned(list(_method_rows(content)))
    for part in content["parts"]:
        lines += ["", f"recall   {part['title']}", *_aligned(list(_class_rows(content, part)))]
    lines += ["", "* rare: the rarest third of the classes in training"]
    return [*lines, f"+- is the standard deviation over seeds; {interval_text(content)}"]


def interval_text(content: Content) -> str:
    """Return what the intervals are and cover."""
    interval = content["interval"]
    told = f"{100 * interval['level']:g} %, {interval['resamples']} resamples"
    return f"intervals ({told}) are {interval['covers']}"


def signed(value: float) -> str:
    """Return a difference of shares in points with its sign, `-` for NaN.

    >>> signed(0.0123), signed(-0.2)
    ('+1.2', '-20.0')
    """
    return f"{100 * value:+.1f}" if value == value else "-"


def _method_rows(content: Content) -> Iterator[list[str]]:
    reference, tasks = content["reference"], content["settings"]["tasks"]
    head = ["method", "LB", "interval"] + ([f"to {reference}", "interval"] if reference else [])
    yield [*head, "OS BA", "action BA", "rare", *(f"{task} BA" for task in tasks)]
    for name, found in content["methods"].items():
        numbers, other = found["numbers"], found["differences"]
        leaderboard = numbers["leaderboard"]
        row = [name, f"{percent(leaderboard['mean'])} +- {percent(leaderboard['sd'])}", _ends(leaderboard)]
        if reference:
            gain = None if other is None else other["leaderboard"]
            row += ["", ""] if gain is None else [signed(gain["value"]), _ends(gain, signed)]
        shown = ["os_ba", "action_ba", "rare", *(f"{task}_ba" for task in tasks)]
        yield [*row, *(percent(numbers[key]["mean"]) for key in shown)]


def _class_rows(content: Content, part: Content) -> Iterator[list[str]]:
    yield ["class", "train", "judged", *content["methods"]]
    for place in part["order"]:
        each = part["classes"][place]
        name = f"{each['name']}{' *' if place in part['rare'] else ''}"
        recalls = (found["recall"][part["name"]][place] for found in content["methods"].values())
        yield [
            name,
            str(each["trained"]),
            str(each["judged"]),
            *(share(recall["mean"]) for recall in recalls),
        ]


def _ends(number: Content, shown: Callable[[float], str] = percent) -> str:
    return f"[{shown(number['low'])}, {shown(number['high'])}]"


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Return rows as lines, the first column set left and the others right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(f"{cell:{'>' if place else '<'}{widths[place]}}" for place, cell in enumerate(row)).rstrip()
        for row in rows
    ]
