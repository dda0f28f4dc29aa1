"""The balance budget: what every correction together makes of the class frequencies."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from common.reporting.classes import class_cell
from common.reporting.html import Html, is_number, join, node, number, percent, section, table
from common.reporting.plots import css_color, palette_color, share_bars, share_ranks
from common.reporting.run_data import Event, RunData

MOST_BARS = 30
CORRECTION_COLUMNS = {
    "presented": ("Presented", ("sampler",)),
    "weights": ("Weight", ("weights",)),
    "alpha": ("Alpha", ("alpha",)),
    "offset": ("Offset", ("offset", "posthoc_offset")),
}
"""Budget key -> column title and the names of the factors that make the column worth showing."""


def balance_section(run: RunData) -> Html | None:
    """Return the class distribution and the balance budget, or nothing when neither was recorded."""
    events = {event.get("task"): event for event in run.chosen("balance", "task")}
    counted = {event.get("task"): event for event in run.chosen("statistics", "task")}
    tasks = list(dict.fromkeys([*events, *counted]))
    parts = [_task(events.get(task, {}), counted.get(task, {}), run) for task in tasks]
    lines = [str(line) for event in events.values() for line in event.get("lines", ())]
    if lines:
        text = node("pre", "\n".join(lines))
        parts.append(node("details", node("summary", "As printed at the start"), text))
    if not any(parts):
        return None
    title = "Balance budget" if events else "Class distribution"
    lead = (
        "Effective prior: the class shares the loss sees after sampler, weights and offsets."
        if any(event.get("budget") for event in events.values())
        else ""
    )
    return section("balance", title, *parts, lead=lead)


def _task(event: Event, counted: Event, run: RunData) -> Html:
    """Return the distribution and the budget of the classes that two events are about."""
    budget: dict[str, Any] = event.get("budget") or {}
    statistics: dict[str, Any] = counted.get("statistics") or budget
    parts = []
    if statistics.get("counts"):
        names = _names(statistics, run)
        shares = _distributions(statistics, budget)
        parts += [_sentence(statistics), _strength(budget), _figure(names, shares)]
        parts.append(_table(names, statistics, budget, run.class_colors()))
    parts += [_finding(level, text) for level, text in budget.get("findings", ())]
    title = event.get("title") or event.get("task") or counted.get("title") or counted.get("task")
    return join([node("h3", str(title)), *parts] if title and parts else parts)


def _names(statistics: Mapping[str, Any], run: RunData) -> list[str]:
    known = run.class_names()
    given = statistics.get("names") or [
        known.get(str(i), f"class {i}") for i in range(len(statistics["counts"]))
    ]
    return [str(name) for name in given]


def _distributions(statistics: Mapping[str, Any], budget: Mapping[str, Any]) -> dict[str, list[float]]:
    """Return the natural class shares and, when there is a budget, the effective ones."""
    total = sum(statistics["counts"])
    shares = {"natural": [count / total if total else math.nan for count in statistics["counts"]]}
    if budget.get("effective"):
        shares["effective"] = _floats(budget["effective"])
    return shares


def _floats(values: Sequence[float | None]) -> list[float]:
    return [math.nan if value is None else float(value) for value in values]


def _sentence(statistics: Mapping[str, Any]) -> Html:
    counts = [int(count) for count in statistics["counts"]]
    present = [count for count in counts if count]
    ratio = max(present) / min(present) if present else math.nan
    ignored = int(statistics.get("ignored") or 0)
    counted = (
        f"{sum(counts):,} {statistics.get('unit') or 'label'}s in split {statistics.get('split', 'train')}"
    )
    more = f", {ignored:,} ignored" if ignored else ""
    return node("p", f"{counted}{more}. Imbalance ratio ", node("b", f"{number(ratio)} : 1"), ".")


def _strength(budget: Mapping[str, Any]) -> Html:
    """Return what the corrections do together: their factors and the strength rho of their product."""
    known = {name: value for name, value in budget.get("factors", {}).items() if value is not None}
    factors = [f"{name.replace('_', ' ')} x{value:.3g}" for name, value in known.items()]
    if not factors:
        return Html("")
    parts = [f"In favour of the rarest class over the most frequent one: {', '.join(factors)}."]
    strength = budget.get("strength")
    if is_number(strength):
        parts += [
            " Together a strength of ",
            node("b", number(strength)),
            " (0 natural, 1 uniform, 2 inverted).",
        ]
    return node("p", *parts)


def _figure(names: Sequence[str], shares: Mapping[str, Sequence[float]]) -> Html:
    plot = share_bars(names, shares) if len(names) <= MOST_BARS else share_ranks(shares)
    keys = []
    for position, name in enumerate(shares):
        style = f"border-top:6px solid {css_color(palette_color(position))}"
        keys.append(node("li", node("i", attributes={"style": style}), f"{name} share"))
    return node("figure", node("ul", *keys, css="legend"), plot, css="plain")


def _table(
    names: Sequence[str], statistics: Mapping[str, Any], budget: Mapping[str, Any], colors: dict[str, str]
) -> Html:
    shares = _distributions(statistics, budget)
    columns: dict[str, list[str]] = {
        "Class": [class_cell(str(i), name, colors) for i, name in enumerate(names)],
        "Count": [number(count) for count in statistics["counts"]],
        "Share": [percent(value) for value in shares["natural"]],
    }
    for key, (title, causes) in CORRECTION_COLUMNS.items():
        if any(cause in budget.get("factors", {}) for cause in causes):
            written = percent if key == "presented" else number
            columns[title] = [written(value) for value in budget[key]]
    if "effective" in shares:
        columns["Effective prior"] = [node("b", percent(value)) for value in shares["effective"]]
    return table(list(columns), zip(*columns.values(), strict=True))


def _finding(level: str, text: str) -> Html:
    tone = {"error": "bad", "warning": "warn"}.get(level, "plain")
    return node("p", node("span", level, css=f"chip {tone}"), " ", text, css="finding")
