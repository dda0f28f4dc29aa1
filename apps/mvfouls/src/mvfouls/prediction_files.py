"""What `predict` found as a table: a row per action."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from typing import Any

from mvfouls.official import ACTION, OFFENCE, SEVERITY

Row = dict[str, object]


def csv_text(content: Mapping[str, Any]) -> str:
    """Return the actions of a file of predictions as CSV.

    Columns: `action`, `views`, the official labels and which share of the views agrees with them, per task
    the likeliest classes, the agreement and `TASK/CLASS` probabilities, and `attention_V` of each view.
    """
    actions: Mapping[str, Mapping[str, Any]] = content["actions"]
    widest = max(len(action["views"]) for action in actions.values())
    rows = [_row(name, action, widest) for name, action in actions.items()]
    text = io.StringIO()
    writer = csv.DictWriter(text, list(rows[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _row(name: str, action: Mapping[str, Any], widest: int) -> Row:
    views = action["views"]
    row: Row = {"action": name, "views": sum(view["used"] for view in views)}
    row |= _official(action["official"])
    for task, found in action["tasks"].items():
        for place, choice in enumerate(found["top"], start=1):
            row[f"{task}_{place}"] = choice["class"]
            row[f"{task}_{place}_probability"] = choice["probability"]
        row[f"{task}_agreement"] = found["agreement"]
        row |= {f"{task}/{label}": value for label, value in found["probabilities"].items()}
    shares = [view.get("attention", "") for view in views]
    return row | {f"attention_{k}": shares[k] if k < len(shares) else "" for k in range(widest)}


def _official(official: Mapping[str, Any] | None) -> Row:
    if official is None:
        return {}
    labels: Row = {field: official[field] for field in (ACTION, OFFENCE, SEVERITY)}
    return labels | {f"{name}_agreement": value for name, value in official["agreement"].items()}
