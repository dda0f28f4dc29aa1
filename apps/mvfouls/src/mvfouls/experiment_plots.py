"""The plots of an experiment: numbers of the methods with their seeds, and the recall of every class."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from common.reporting.html import Html
from common.reporting.plots import INK, MUTED, drawing, palette_color, to_svg

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Content = Mapping[str, Any]

ROW = 0.34
"""Height of a method in inches."""
SPREAD = 0.72
"""Share of a class's width that its methods take."""


def number_chart(content: Content, name: str, title: str) -> Html:
    """Return a number of every method: mean, interval, a ring for each seed; beside it the differences."""
    methods, reference = content["methods"], content["reference"]
    with drawing((9.6, 0.75 + ROW * len(methods))) as figure:
        figure.set_layout_engine("constrained")
        sides = figure.subplots(1, 2 if reference else 1, sharey=True, squeeze=False)[0]
        for place, found in enumerate(methods.values()):
            color = palette_color(place)
            own = found["numbers"][name]
            _interval(sides[0], place, own["mean"], own, color)
            seeds = [_points(run[name]) for run in found["runs"]]
            sides[0].plot(
                seeds, [place + 0.27] * len(seeds), "o", markersize=4, markerfacecolor="none", color=color
            )
            if reference and found["differences"] is not None:
                gain = found["differences"][name]
                _interval(sides[1], place, gain["value"], gain, color)
        sides[0].set_xlabel(f"{title}, per cent")
        if reference:
            sides[0].axvline(_points(methods[reference]["numbers"][name]["mean"]), **_DASHED)
            sides[1].axvline(0, **_DASHED)
            sides[1].set_xlabel(f"difference to {reference}, points")
        for axes in sides:
            axes.grid(visible=False, axis="y")
            axes.grid(visible=True, axis="x")
        sides[0].set_yticks(range(len(methods)), list(methods))
        sides[0].tick_params(axis="y", labelcolor=INK)
        sides[0].set_ylim(len(methods) - 0.4, -0.6)
        return to_svg(figure, f"{title} of every method")


def recall_chart(content: Content, part: Content) -> Html:
    """Return the recall of each class, commonest in training first, by method with its interval."""
    order, methods = part["order"], content["methods"]
    step = SPREAD / max(len(methods) - 1, 1)
    with drawing((9.6, 2.9)) as figure:
        figure.set_layout_engine("constrained")
        axes = figure.add_subplot()
        for number, found in enumerate(methods.values()):
            color = palette_color(number)
            shift = step * number - SPREAD / 2 if len(methods) > 1 else 0.0
            recalls = [found["recall"][part["name"]][place] for place in order]
            for x, recall in enumerate(recalls):
                axes.plot([x + shift] * 2, _ends(recall), color=color, linewidth=1.4, alpha=0.55)
            means = [_points(recall["mean"]) for recall in recalls]
            axes.plot([x + shift for x in range(len(order))], means, "o", color=color, markersize=5)
        for x in range(1, len(order)):
            axes.axvline(x - 0.5, color=MUTED, linewidth=0.5, alpha=0.5)
        axes.set_xticks(range(len(order)), [_class_label(part, place) for place in order])
        axes.tick_params(axis="x", labelcolor=INK, length=0)
        axes.set(xlim=(-0.5, len(order) - 0.5), ylim=(-4, 104), ylabel="recall, per cent")
        return to_svg(figure, f"recall of every class: {part['title']}")


_DASHED: dict[str, Any] = {"color": MUTED, "linewidth": 1.0, "linestyle": (0, (4.0, 2.0)), "zorder": 1}


def _interval(axes: Axes, y: float, value: float | None, ends: Content, color: str) -> None:
    axes.plot(_ends(ends), [y, y], color=color, linewidth=1.6, alpha=0.6)
    axes.plot([_points(value)], [y], "o", color=color, markersize=7)


def _class_label(part: Content, place: int) -> str:
    each = part["classes"][place]
    rare = " (rare)" if place in part["rare"] else ""
    return f"{each['name']}{rare}\ntrain {each['trained']}, judged {each['judged']}"


def _ends(number: Content) -> list[float]:
    return [_points(number["low"]), _points(number["high"])]


def _points(value: float | None) -> float:
    return math.nan if value is None else 100 * value
