"""A plot with its title and its key."""

from __future__ import annotations

from collections.abc import Sequence

from common.reporting.html import Html, is_number, node, number
from common.reporting.plots import Line, css_color, curves
from common.reporting.series import Panel


def figure(panel: Panel, best_step: int | None, *, wide: bool = False) -> Html:
    """Return one panel: title, plot, legend."""
    plot = curves(panel.title, panel.lines, best_step=best_step, wide=wide)
    remark = node("p", panel.remark, css="origin") if panel.remark else Html("")
    title = node("figcaption", panel.title)
    return node("figure", title, plot, legend(panel.lines, best_step), remark)


def legend(lines: Sequence[Line], best_step: int | None) -> Html:
    """Return the key of a figure with each curve's value at the best step, else its last."""
    items = []
    for line in lines:
        if line.faint and len(lines) > 8:
            continue
        value = None if line.faint else line.at(best_step) if best_step is not None else line.values[-1]
        items.append(key_item(line, value))
    return node("ul", *items, css="legend")


def key_item(line: Line, value: object = None) -> Html:
    """Return the stroke of a line, its label and a value that belongs to it, for a list of class `legend`."""
    stroke = {"-": "solid", "--": "dashed", ":": "dotted"}[line.dash]
    style = f"border-top:{1 if line.faint else 3}px {stroke} {css_color(line.color)}"
    shown = node("b", number(value)) if is_number(value) else Html("")
    return node("li", node("i", attributes={"style": style}), line.label, " ", shown)
