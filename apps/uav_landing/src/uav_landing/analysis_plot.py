"""The analyzer's picture: class shares before and after the mapping, each on a linear and a log axis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from uav_landing.analysis import Analysis
from uav_landing.labels import LANDING_COLORS, LANDING_NAMES

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Color = tuple[float, float, float] | str

DPI = 160
WIDTH = 11.0
ROW = 0.25
MARGIN = 0.6
INK, MUTED, GRID, NEUTRAL = "#20252b", "#68717c", "#e3e5e8", "#c9cdd2"
STYLE: dict[Any, Any] = {
    "font.family": "sans-serif",
    "font.size": 9.0,
    "text.parse_math": False,
    "text.color": INK,
    "axes.edgecolor": GRID,
    "axes.labelcolor": MUTED,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.grid.axis": "x",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10.0,
    "axes.titlelocation": "left",
    "axes.titleweight": "bold",
    "grid.color": GRID,
    "xtick.color": MUTED,
    "ytick.color": INK,
    "ytick.major.size": 0.0,
}


@dataclass(frozen=True)
class Bars:
    """Bars from top to bottom: labels, shares in percent, colours, and 95 % interval [K, 2] if known."""

    title: str
    labels: Sequence[str]
    shares: NDArray[np.float64]
    colors: Sequence[Color]
    interval: NDArray[np.float64] | None = None


def write_plot(path: Path, analysis: Analysis) -> None:
    """Draw original classes above mapped ones and write the picture; the suffix says the format.

    OSError when the file cannot be written, ValueError for a format matplotlib does not write.
    """
    import matplotlib
    from matplotlib.figure import Figure

    parts = (_original_bars(analysis), _mapped_bars(analysis))
    heights = [ROW * len(part.labels) + MARGIN for part in parts]
    with matplotlib.rc_context(STYLE):
        figure = Figure(figsize=(WIDTH, sum(heights) + 1.1), dpi=DPI, layout="constrained")
        rows = figure.subplots(2, 2, height_ratios=heights, width_ratios=(1.15, 1.0))
        for part, (linear, logarithmic) in zip(parts, rows, strict=True):
            _draw(linear, part)
            _draw(logarithmic, part, log=True)
        _caption(figure, analysis)
        figure.savefig(path, dpi=DPI, facecolor="white")


def _original_bars(analysis: Analysis) -> Bars:
    rows = [
        (f"{item.name}  {item.id}", int(analysis.fine[item.id]), _color(item.landing))
        for item in analysis.by_frequency()
        if analysis.fine[item.id]
    ]
    foreign = sum(item.pixels for item in analysis.unmapped)
    if foreign:
        rows.append(("not in the table", foreign, INK))
    rows.sort(key=lambda row: -row[1])
    absent = sum(not analysis.fine[fine] for fine in analysis.photos.table.ids)
    note = f" ({absent} more have no pixel)" if absent else ""
    return Bars(
        f"Original classes{note}",
        [label for label, _, _ in rows],
        np.array([100 * pixels / analysis.pixels for _, pixels, _ in rows]),
        [color for _, _, color in rows],
    )


def _mapped_bars(analysis: Analysis) -> Bars:
    shares = analysis.with_void.shares
    interval = 100 * np.stack([shares.low, shares.high], axis=1)
    return Bars(
        "Mapped classes" if np.isnan(interval).all() else "Mapped classes, 95 % interval over photos",
        [f"{name}  {index}" for index, name in enumerate(LANDING_NAMES)],
        100 * shares.value,
        [_color(index) for index in range(len(LANDING_NAMES))],
        None if np.isnan(interval).all() else interval,
    )


def _color(landing: int) -> Color:
    if landing >= len(LANDING_COLORS):
        return NEUTRAL
    red, green, blue = LANDING_COLORS[landing]
    return (red / 255, green / 255, blue / 255)


def _draw(axes: Axes, bars: Bars, *, log: bool = False) -> None:
    places = np.arange(len(bars.labels))
    smallest = float(bars.shares[bars.shares > 0].min())
    start = 10.0 ** np.floor(np.log10(smallest / 1.5)) if log else 0.0
    axes.barh(places, np.maximum(bars.shares, start) - start, left=start, color=bars.colors, height=0.72)
    ends = bars.shares
    if bars.interval is not None:
        low, high = bars.interval.T
        errors = np.maximum([bars.shares - low, high - bars.shares], 0)
        axes.errorbar(
            bars.shares, places, xerr=errors, fmt="none", ecolor=INK, elinewidth=1.1, capsize=3, capthick=1.1
        )
        ends = np.fmax(bars.shares, bars.interval[:, 1])
    for place, share, end in zip(places, bars.shares, np.maximum(ends, start), strict=True):
        axes.annotate(
            _percent(share),
            (end, place),
            xytext=(4, 0),
            textcoords="offset points",
            va="center",
            color=MUTED,
            fontsize=8,
            bbox={"facecolor": "white", "edgecolor": "none", "pad": 0.8},
        )
    _set_axes(axes, bars, places, start, float(ends.max()), log=log)


def _set_axes(
    axes: Axes, bars: Bars, places: NDArray[np.int_], start: float, end: float, *, log: bool
) -> None:
    if log:
        axes.set_xscale("log")
        axes.set_xlim(start, end * (end / start) ** 0.16)
        axes.set_title("the same, log axis", color=MUTED, fontweight="normal")
    else:
        axes.set_xlim(0, end * 1.13)
        axes.set_title(bars.title)
    axes.minorticks_off()
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:g} %")
    axes.set_yticks(places, [] if log else bars.labels)
    axes.set_ylim(len(places) - 0.4, -0.6)
    axes.spines["bottom"].set_visible(False)


def _percent(share: float) -> str:
    if share == 0:
        return "no pixel"
    return f"{share:.2f} %" if share >= 0.1 else f"{share:.2g} %"


def _caption(figure: Figure, analysis: Analysis) -> None:
    from matplotlib.patches import Patch

    ratios = [
        f"{ratio:.1f}:1 {which} void"
        for ratio, which in (
            (analysis.with_void.ratio, "with"),
            (None if analysis.without_void is None else analysis.without_void.ratio, "without"),
        )
        if ratio is not None
    ]
    figure.suptitle(
        f"Class distribution   {analysis.photos.format}, split {analysis.split}, {len(analysis.ids)} of "
        f"{len(analysis.photos.ids)} masks, {analysis.pixels / 1e6:.1f} Mpx\n"
        f"imbalance {', '.join(ratios) or 'n/a'}   void: {analysis.void.verdict}",
        x=0.01,
        ha="left",
        fontsize=11,
    )
    handles = [
        Patch(color=_color(index), label=f"{index} {name}") for index, name in enumerate(LANDING_NAMES)
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False)
