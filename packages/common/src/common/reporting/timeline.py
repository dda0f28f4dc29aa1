"""Alarms, and everything else that happened during a run, in order."""

from __future__ import annotations

import json
from typing import Any

from common.reporting.html import Html, duration, node, section, table
from common.reporting.run_data import RunData

DATA_KINDS = frozenset({"header", "statistics", "balance", "confusion", "per_class", "summary", "samples"})
KNOWN_FIELDS = frozenset({"kind", "step", "epoch", "seconds", "text", "headline"})
ROWS_SHOWN = 12


def alarms_section(run: RunData) -> Html | None:
    """Return one card per alarm name: how often, the last text, the suggestion."""
    groups: dict[str, list[dict[str, Any]]] = {}
    for event in run.of_kind("alarm"):
        groups.setdefault(str(event["name"]), []).append(event)
    if not groups:
        return None
    cards = [_alarm_card(name, events) for name, events in groups.items()]
    return section("alarms", "Alarms", node("div", *cards, css="alarms"))


def _alarm_card(name: str, events: list[dict[str, Any]]) -> Html:
    epochs = sorted({int(event["epoch"]) for event in events})
    when = f"epoch {epochs[0]}" if len(epochs) == 1 else f"{len(epochs)} epochs, {epochs[0]} to {epochs[-1]}"
    suggestion = str(events[-1].get("suggestion") or "")
    return node(
        "article",
        node("h3", name, node("span", when, css="when")),
        node("p", str(events[-1]["text"])),
        node("p", suggestion, css="suggestion") if suggestion else Html(""),
    )


def timeline_section(run: RunData) -> Html | None:
    """Return the events of the run as a track of dots and a table; ordinary checkpoints are left out."""
    events = [event for event in run.events if _is_told(event)]
    if not events:
        return None
    end = max([int(record["step"]) for record in [*run.metrics, *run.events]] or [1])
    rows = [
        [
            node("span", _label(event), css=f"chip {_tone(event)}"),
            _text(event),
            "" if event["epoch"] is None else str(event["epoch"]),
            f"{int(event['step']):,}",
            duration(float(event["seconds"])),
        ]
        for event in events
    ]
    content = table(["Event", "What", "Epoch", "Step", "At"], rows, text_columns=2, css="events")
    if len(rows) > ROWS_SHOWN:
        content = node("details", node("summary", f"All {len(rows)} events"), content)
    return section("timeline", "Timeline", _track(events, end), content)


def _is_told(event: dict[str, Any]) -> bool:
    return event["kind"] not in DATA_KINDS and (event["kind"] != "checkpoint" or bool(event.get("best")))


def _track(events: list[dict[str, Any]], end: int) -> Html:
    dots = [
        node(
            "i",
            css=_tone(event),
            attributes={
                "style": f"left:{100 * int(event['step']) / max(end, 1):.2f}%",
                "title": f"{_label(event)}, step {int(event['step']):,}: {_text(event)}",
            },
        )
        for event in events
    ]
    ends = node("p", node("span", "start"), node("span", f"step {end:,}"), css="ends")
    return node("div", node("div", *dots, css="track"), ends)


def _label(event: dict[str, Any]) -> str:
    return "new best" if event["kind"] == "checkpoint" else str(event["kind"]).replace("_", " ")


def _tone(event: dict[str, Any]) -> str:
    """Return the style of an event: what needs attention stands out."""
    kind = event["kind"]
    if kind == "checkpoint":
        return "good"
    return "plain" if kind in ("note", "resume") else "bad"


def _text(event: dict[str, Any]) -> str:
    if event["kind"] == "checkpoint":
        return str(event["path"])
    if event["kind"] == "alarm":
        return f"{event['name']}: {event['text']}"
    if event.get("text"):
        return str(event["text"])
    rest = {key: value for key, value in event.items() if key not in KNOWN_FIELDS}
    return json.dumps(rest) if rest else ""
