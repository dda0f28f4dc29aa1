"""A landing page over the reports of several runs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from common.reporting.html import Html, join, node, number, page


@dataclass(frozen=True)
class IndexEntry:
    """One report: its title, a few (name, value) pairs of which the first is shown large, its file."""

    title: str
    summary: Sequence[tuple[str, object]]
    report: Path


def write_index(path: Path, entries: Sequence[IndexEntry], title: str) -> Path:
    """Write a page that links to each entry's report by a relative link, and return `path`.

    Raises FileNotFoundError when a report does not exist, ValueError without entries.
    """
    if not entries:
        raise ValueError("entries: an index needs at least one report")
    for entry in entries:
        if not entry.report.is_file():
            raise FileNotFoundError(f"{entry.report}: the report of {entry.title!r} does not exist")
    cards = [_card(entry, path.parent) for entry in entries]
    count = f"{len(entries)} reports" if len(entries) > 1 else "One report"
    head = node("header", node("h1", title), node("p", f"{count}. Each opens on one page.", css="lead"))
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page(title, join([head, node("div", *cards, css="cards")])), encoding="utf-8")
    return path


def _card(entry: IndexEntry, folder: Path) -> Html:
    relative = Path(os.path.relpath(entry.report.resolve(), folder.resolve())).as_posix()
    first, rest = entry.summary[:1], entry.summary[1:]
    large = [
        join([node("p", name, css="metric"), node("p", number(value), css="value")]) for name, value in first
    ]
    others = [node("div", node("dt", name), node("dd", number(value))) for name, value in rest]
    facts = node("dl", *others, css="facts") if others else Html("")
    more = node("p", "Open the report", css="open")
    attributes = {"href": quote(relative)}
    return node("a", node("h2", entry.title), *large, facts, more, css="card", attributes=attributes)
