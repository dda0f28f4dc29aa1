"""How a run was made: console header, command, configuration, environment."""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterator
from typing import Any

from common.reporting.html import Html, node, section
from common.reporting.run_data import RunData


def provenance_section(run: RunData) -> Html | None:
    """Return command, console header, configuration and environment, each folded; nothing without any."""
    environment = dict(run.environment) if isinstance(run.environment, dict) else {}
    command = environment.pop("command", None)
    header = run.latest("header") or {}
    parts = []
    if command:
        text = shlex.join(map(str, command)) if isinstance(command, list) else str(command)
        parts.append(node("pre", text, css="command"))
    if header.get("lines"):
        parts.append(_folded("Console header", node("pre", "\n".join(map(str, header["lines"])))))
    if run.config:
        parts.append(_folded("Configuration", settings(run.config), opened=True))
    if environment:
        parts.append(_folded("Environment", settings(environment)))
    return section("provenance", "Provenance", *parts) if parts else None


def _folded(title: str, content: Html, *, opened: bool = False) -> Html:
    return node("details", node("summary", title), content, attributes={"open": ""} if opened else None)


def settings(tree: Any) -> Html:
    """Return a nested mapping as a list of dotted names and values."""
    pairs = [node("div", node("dt", name), node("dd", value)) for name, value in flatten(tree)]
    return node("dl", *pairs, css="settings")


def flatten(tree: Any, prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield (dotted name, value as text) of each leaf; lists of plain values count as one leaf.

    >>> list(flatten({"model": {"width": 32}, "ids": [1, 2]}))
    [('model.width', '32'), ('ids', '1, 2')]
    """
    if isinstance(tree, dict) and tree:
        for key, value in tree.items():
            yield from flatten(value, f"{prefix}.{key}" if prefix else str(key))
    elif isinstance(tree, list) and any(isinstance(value, dict | list) for value in tree):
        for position, value in enumerate(tree):
            yield from flatten(value, f"{prefix}.{position}")
    else:
        yield prefix, _leaf(tree)


def _leaf(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(_leaf(item) for item in value) if value else "[]"
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    return str(value) if value != "" else '""'
