"""The head of a report: what was run, the headline number and what it means, the summary table."""

from __future__ import annotations

from typing import Any

from common.reporting.figures import legend
from common.reporting.html import (
    Html,
    duration,
    interval,
    is_number,
    join,
    meter,
    meter_scale,
    node,
    number,
    section,
    table,
)
from common.reporting.plots import curves
from common.reporting.run_data import BestPoint, RunData
from common.reporting.series import Panel

FACTS_FROM_ENVIRONMENT = ("device", "seed", "precision", "git")


def overview(run: RunData, headline: Panel | None) -> Html:
    """Return the opening block: name, date, headline value with its curve, facts."""
    best = run.best()
    title = node("h1", run.name)
    when = node("p", f"Training run of {run.date:%d %B %Y, %H:%M %Z}".strip(), css="lead")
    parts = [node("p", "Run report", css="eyebrow"), title, when]
    if best is not None and headline is not None:
        plot = curves(best.metric, headline.lines, best_step=run.best_step, wide=True)
        figure = node("figure", plot, legend(headline.lines, run.best_step))
        parts.append(node("div", _headline(best), figure, css="hero"))
    return node("header", *parts, _facts(run))


def _headline(best: BestPoint) -> Html:
    direction = "best checkpoint" if best.outdone else "highest" if best.mode == "max" else "lowest"
    many = f"the {direction} of {best.count} validations" if best.count > 1 else "the only validation"
    last = f" The last one was {number(best.last)}." if best.count > 1 and best.last != best.value else ""
    text = f"Epoch {best.epoch}, step {best.step:,}: {many}.{last}"
    return node(
        "div",
        node("p", best.metric, css="metric"),
        node("p", number(best.value), css="value"),
        node("p", text),
        node("p", best.meaning, css="meaning") if best.meaning else Html(""),
    )


def _facts(run: RunData) -> Html:
    alarms = len(run.of_kind("alarm"))
    facts: list[tuple[str, str]] = []
    if run.metrics:
        for name, key in (("epochs", "epoch"), ("steps", "step")):
            facts.append((name, number(max(int(record[key]) for record in run.metrics))))
        facts += [("running time", duration(run.seconds))] if run.seconds else []
    facts += [("alarms", str(alarms))]
    known = run.environment if isinstance(run.environment, dict) else {}
    facts += [
        (name, _plain(known[name]))
        for name in FACTS_FROM_ENVIRONMENT
        if isinstance(known.get(name), str | int) and known[name] != ""
    ]
    return node("dl", *(node("div", node("dt", k), node("dd", v)) for k, v in facts), css="facts")


def _plain(value: str | int) -> str:
    return str(value)[:12] if isinstance(value, str) and len(value) == 40 else str(value)


def summary(run: RunData) -> Html:
    """Return the table of summary numbers with intervals, one per split."""
    events = run.chosen("summary", "split")
    return join(_summary_table(event, titled=len(events) > 1) for event in events if event["rows"])


def summary_section(run: RunData) -> Html | None:
    """Return the summary section, or nothing without summary events."""
    content = summary(run)
    if not content:
        return None
    return section("summary", "Summary", content)


def _summary_table(event: dict[str, Any], *, titled: bool) -> Html:
    rows = event["rows"]
    has_interval = any(is_number(row.get("low")) and is_number(row.get("high")) for row in rows)
    has_note = any(row.get("note") for row in rows)
    columns = ["Number", "Value"] + ["95 % interval", ""] * has_interval + ["Note"] * has_note
    cells = []
    for row in rows:
        low, high = row.get("low"), row.get("high")
        line = [str(row["name"]), node("b", number(row["value"]))]
        if has_interval:
            known, scale = interval(low, high), meter_scale([row["value"], low, high])
            line += [known, meter(row["value"], low, high, scale) if known and scale == (0, 1) else ""]
        cells.append([*line, str(row.get("note") or "")] if has_note else line)
    title = split_title(event) if titled else Html("")
    return join([title, table(columns, cells), origin(event)])


def split_title(event: dict[str, Any]) -> Html:
    """Return what an event was measured on as a sub-heading: its title if it has one, else its split."""
    return node("h3", str(event.get("title") or f"Split: {event.get('split', 'unnamed')}"))


def origin(event: dict[str, Any]) -> Html:
    """Return the line that says on which split, and when in the run, something was measured."""
    split = f"Split {event['split']}, " if event.get("split") else "Measured at "
    return node("p", f"{split}epoch {event['epoch']}, step {int(event['step']):,}.", css="origin")
