"""The plots of a comparison: differences to the baseline and recall by class, as dots with intervals."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from common.reporting.html import Html
from common.reporting.plots import INK, MUTED, drawing, palette_color, shorten, tick_label, to_svg
from mvfouls.compare_numbers import KEYS, TITLES
from mvfouls.compare_text import class_title

if TYPE_CHECKING:
    from matplotlib.axes import Axes

Content = Mapping[str, Any]
PANELS = ("leaderboard", "os_ba", "action_ba")
LONGEST_NAME = 26
_HUNDRED = 100.0


def difference_plot(content: Content) -> Html:
    """Return a row per run and a panel per averaged number: difference in points with its interval."""
    colors = run_colors(content)
    names = list(content["differences"])
    with drawing((9.6, 0.75 + 0.34 * len(names))) as figure:
        figure.set_layout_engine("constrained")
        panels = figure.subplots(1, len(PANELS), sharey=True, squeeze=False)[0]
        for axes, key in zip(panels, PANELS, strict=True):
            axes.axvline(0, color=INK, linewidth=1.0)
            for place, name in enumerate(names):
                _dot(axes, content["differences"][name][key], place, colors[name])
            axes.set_title(TITLES[key], fontsize=9, color=INK, loc="left")
            _horizontal(axes, [shorten(name, LONGEST_NAME) for name in names])
            axes.margins(x=0.1)
        return to_svg(figure, f"differences to {content['baseline']} in points")


def recall_plot(content: Content, part: str) -> Html:
    """Return a row per class of `os` or `action` that occurs: the recall of each run with its interval."""
    classes = [key for key in KEYS[len(TITLES) :] if key.startswith(f"{part}_")]
    keys = [key for key in classes if content["n"][key]]
    runs, colors = content["runs"], run_colors(content)
    height = 0.16 * max(len(runs), 2) + 0.16
    with drawing((5.4, 0.5 + height * len(keys))) as figure:
        figure.set_layout_engine("constrained")
        axes = figure.add_subplot()
        for row, key in enumerate(keys):
            for place, run in enumerate(runs):
                at = row + (place - (len(runs) - 1) / 2) * 0.16 / height
                _dot(axes, run["values"][key], at, colors[run["name"]])
        axes.hlines([row + 0.5 for row in range(len(keys) - 1)], 0, _HUNDRED, color=MUTED, linewidth=0.3)
        _horizontal(axes, [f"{class_title(key)}  n {content['n'][key]}" for key in keys])
        axes.set(xlim=(-2, _HUNDRED + 2), ylim=(len(keys) - 0.5, -0.5))
        return to_svg(figure, f"recall by class, {part}")


def run_colors(content: Content) -> dict[str, str]:
    """Return the colour of each run by its name."""
    return {run["name"]: palette_color(place) for place, run in enumerate(content["runs"])}


def _dot(axes: Axes, each: Mapping[str, float], at: float, color: str) -> None:
    """Draw a share in percent with its interval, nothing for NaN."""
    if math.isnan(each["value"]):
        return
    if not math.isnan(each["low"]):
        axes.plot([_HUNDRED * each["low"], _HUNDRED * each["high"]], [at, at], color=color, linewidth=1.6)
    axes.plot([_HUNDRED * each["value"]], [at], "o", color=color, markersize=5)


def _horizontal(axes: Axes, names: Sequence[str]) -> None:
    """Name the rows from the top down and rule the columns instead of the rows."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axes.set_yticks(range(len(names)), names)
    axes.tick_params(axis="y", labelcolor=INK)
    axes.set_ylim(len(names) - 0.5, -0.5)
    axes.grid(visible=False, axis="y")
    axes.grid(visible=True, axis="x")
    axes.xaxis.set_major_locator(MaxNLocator(5, steps=[1, 2, 2.5, 5, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: tick_label(value)))
