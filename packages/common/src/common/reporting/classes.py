"""Per-class numbers with interval bars, and the confusion matrix."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from common.reporting.html import (
    Html,
    compact,
    interval,
    join,
    meter,
    meter_scale,
    node,
    number,
    percent,
    section,
    table,
)
from common.reporting.overview import origin, split_title
from common.reporting.plots import shorten
from common.reporting.run_data import RunData

MOST_CLASSES_IN_MATRIX = 40
CONFUSIONS_SHOWN = 6
LONGEST_NAME = 22


def swatch(color: str | None) -> Html:
    """Return a small square of a class's colour, or nothing when it has none."""
    return node("i", css="swatch", attributes={"style": f"background:{color}"}) if color else Html("")


def class_cell(identity: str, name: str, colors: dict[str, str]) -> Html:
    """Return the first cell of a class's row: swatch, name, id."""
    number_of = node("span", identity, css="id") if identity != name else Html("")
    return join([swatch(colors.get(identity)), name, number_of])


def per_class_section(run: RunData) -> Html | None:
    """Return the table of classes with support, values and interval bars, one per split and task."""
    events = [event for event in run.chosen("per_class", "split", "task") if event["rows"]]
    if not events:
        return None
    lead = "Bars show the value, the thin line over them the 95 % interval. Classes without support are n/a."
    tables = []
    for event in events:
        title = split_title(event) if len(events) > 1 else Html("")
        tables += [title, _per_class_table(event, run.class_colors()), origin(event)]
    return section("classes", "Classes", *tables, lead=lead)


def _per_class_table(event: dict[str, Any], colors: dict[str, str]) -> Html:
    columns, rows = event["columns"], event["rows"]
    scales = {column: meter_scale(_values(rows, column)) for column in columns}
    lines = [
        [
            class_cell(str(row["id"]), str(row["name"]), colors),
            number(row["support"]),
            *(_value_cell(row.get(column), scales[column]) for column in columns),
        ]
        for row in rows
    ]
    return table(["Class", "Support", *columns], lines, css="bars")


def _values(rows: Sequence[dict[str, Any]], column: str) -> list[object]:
    entries = [row.get(column) or {} for row in rows]
    return [entry.get(key) for entry in entries for key in ("value", "high")]


def _value_cell(entry: dict[str, Any] | None, scale: tuple[float, float] | None) -> Html:
    value, low, high = (None if entry is None else entry.get(key) for key in ("value", "low", "high"))
    bar = meter(value, low, high, scale) if scale else Html("")
    return join([node("b", number(value)), bar, node("small", interval(low, high))])


def confusion_section(run: RunData) -> Html | None:
    """Return the confusion matrix of each split and task as a heat map of row shares, with the counts."""
    events = [event for event in run.chosen("confusion", "split", "task") if event["matrix"]]
    if not events:
        return None
    parts = []
    for event in events:
        parts += [split_title(event) if len(events) > 1 else Html(""), _confusion(event), origin(event)]
    lead = "Rows are the truth, columns the prediction: the share of the row in per cent, the count below it."
    if all(len(event["matrix"]) > MOST_CLASSES_IN_MATRIX for event in events):
        lead = f"With more than {MOST_CLASSES_IN_MATRIX} classes only the largest confusions are listed."
    return section("confusion", "Confusion matrix", *parts, lead=lead)


def _confusion(event: dict[str, Any]) -> Html:
    matrix, names = event["matrix"], [str(name) for name in event["names"]]
    if any(len(row) != len(matrix) for row in matrix) or len(names) != len(matrix):
        raise ValueError(
            f"confusion event of step {event['step']}: {len(names)} names and a matrix of another shape"
        )
    shown = _heat_map(matrix, names) if len(matrix) <= MOST_CLASSES_IN_MATRIX else Html("")
    return node("div", shown, _largest_confusions(matrix, names), css="confusion")


def _heat_map(matrix: Sequence[Sequence[int]], names: Sequence[str]) -> Html:
    size = "few" if len(names) <= 7 else "some" if len(names) <= 14 else "many"
    corner = node("th", node("span", "truth \\ prediction", css="corner"))
    short = names if size == "few" else [shorten(name, LONGEST_NAME) for name in names]
    heads = [node("th", node("span", name), attributes={"scope": "col"}) for name in short]
    head = node("tr", corner, *heads, node("th", node("span", "support"), css="total"))
    rows = [
        node(
            "tr",
            node("th", short[i], attributes={"scope": "row"}),
            *(_heat_cell(row, i, j, names) for j in range(len(row))),
            node("td", compact(sum(row)), css="total", attributes={"title": f"{sum(row):,}"}),
        )
        for i, row in enumerate(matrix)
    ]
    heat = node("table", node("thead", head), node("tbody", *rows), css=f"heat {size}")
    return node("div", heat, css="scroll")


def _heat_cell(row: Sequence[int], truth: int, prediction: int, names: Sequence[str]) -> Html:
    count, total = row[prediction], sum(row)
    share = count / total if total else 0.0
    css = " ".join(
        name
        for name, holds in (("hit", truth == prediction), ("strong", share > 0.55), ("none", not count))
        if holds
    )
    text = f"{names[truth]} predicted as {names[prediction]}: {count:,} of {total:,}"
    label = "&middot;" if not count else f"{100 * share:.0f}" if share >= 0.01 else "&lt;1"
    attributes = {"style": f"--share:{share:.3f}", "title": text}
    return node("td", node("b", Html(label)), node("small", compact(count)), css=css, attributes=attributes)


def _largest_confusions(matrix: Sequence[Sequence[int]], names: Sequence[str]) -> Html:
    """Return the off-diagonal cells that take the largest share of their row."""
    found = [
        (count / sum(row), i, j, sum(row))
        for i, row in enumerate(matrix)
        for j, count in enumerate(row)
        if i != j and count
    ]
    found.sort(key=lambda entry: (-entry[0], -entry[3]))
    if not found or len(names) < 3:
        return Html("")
    most = CONFUSIONS_SHOWN if len(names) <= MOST_CLASSES_IN_MATRIX else 4 * CONFUSIONS_SHOWN
    items = [
        node(
            "li",
            node("b", names[i]),
            " taken for ",
            node("b", names[j]),
            f": {percent(share)} of its {total:,}",
        )
        for share, i, j, total in found[:most]
    ]
    return node("div", node("h3", "Largest confusions"), node("ol", *items), css="confusions")
