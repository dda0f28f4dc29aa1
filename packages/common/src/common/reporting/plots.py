"""Figures as inline SVG whose colours follow the page, so that they stay legible in light and dark mode."""

from __future__ import annotations

import hashlib
import io
import math
import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from common.reporting.html import Html, node, percent

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, MUTED, GRID = "#20252b", "#68717c", "#e3e5e8"
PALETTE = ("#0072b2", "#d55e00", "#009e73", "#b3578f", "#b8860b", "#3a9bd0", "#6b5ea8", "#6b7075")
"""Blue, vermilion, green, purple, ochre, sky, violet, grey; after the colour-blind safe set of Okabe, Ito."""
DASHES = MappingProxyType({"-": (), "--": (4.0, 2.0), ":": (1.2, 1.8)})
VARIABLES = MappingProxyType(
    {INK: "var(--ink)", MUTED: "var(--muted)", GRID: "var(--line)"}
    | {color: f"var(--c{i})" for i, color in enumerate(PALETTE)}
)
MOST_POINTS = 400
RC = MappingProxyType(
    {
        "svg.fonttype": "none",
        "svg.hashsalt": "report",
        "text.parse_math": False,
        "font.family": "sans-serif",
        "font.size": 9.0,
        "text.color": INK,
        "axes.edgecolor": GRID,
        "axes.linewidth": 0.8,
        "axes.labelcolor": MUTED,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.spines.left": False,
        "axes.grid": True,
        "axes.grid.axis": "y",
        "axes.axisbelow": True,
        "axes.unicode_minus": False,
        "grid.color": GRID,
        "grid.linewidth": 0.8,
        "xtick.color": MUTED,
        "ytick.color": MUTED,
        "xtick.major.size": 3.0,
        "ytick.major.size": 0.0,
        "lines.linewidth": 1.7,
        "lines.solid_capstyle": "round",
        "lines.solid_joinstyle": "round",
    }
)


@dataclass(frozen=True)
class Line:
    """One curve: values over steps. NaN leaves a gap; `faint` is for a noisy curve behind a smooth one."""

    label: str
    steps: Sequence[int]
    values: Sequence[float]
    color: str = PALETTE[0]
    dash: str = "-"
    faint: bool = False

    def at(self, step: int) -> float | None:
        """Return the value at `step`, None when it was not recorded."""
        return next((v for s, v in zip(self.steps, self.values) if s == step and math.isfinite(v)), None)


def palette_color(position: int) -> str:
    """Return a colour of the palette, starting again after the last."""
    return PALETTE[position % len(PALETTE)]


def css_color(color: str) -> str:
    """Return a colour as the page's style sheet knows it."""
    return VARIABLES.get(color.lower(), color)


def curves(
    title: str,
    lines: Sequence[Line],
    *,
    best_step: int | None = None,
    wide: bool = False,
    x_label: str = "step",
) -> Html:
    """Return curves over the step with the best checkpoint as a dotted line and a dot on each curve.

    `x_label` names another unit of the x axis. Raises ImportError naming the extra when matplotlib is absent.
    """
    with drawing((5.6, 2.3) if wide else (3.6, 2.1)) as figure:
        axes = fixed_axes(figure)
        for line in lines:
            _draw_line(axes, line)
        if best_step is not None:
            axes.axvline(best_step, color=MUTED, linewidth=0.9, linestyle=(0, (1.5, 2.5)), zorder=1)
            for line in lines:
                value = None if line.faint else line.at(best_step)
                if value is not None:
                    axes.plot([best_step], [value], "o", color=line.color, markersize=5, zorder=5)
        _style_axes(axes, lines, x_label)
        return to_svg(figure, f"{title}: " + ", ".join(line.label for line in lines))


def share_bars(names: Sequence[str], shares: Mapping[str, Sequence[float]]) -> Html:
    """Return horizontal bars of each class for each named distribution (natural, effective, ...)."""
    rows = len(names) * len(shares)
    with drawing((7.4, 0.35 + 0.19 * rows + 0.12 * len(names))) as figure:
        figure.set_layout_engine("constrained")
        axes = figure.add_subplot()
        height = 0.78 / len(shares)
        for position, values in enumerate(shares.values()):
            centres = [i - 0.39 + (position + 0.5) * height for i in range(len(names))]
            finite = [value if math.isfinite(value) else 0.0 for value in values]
            axes.barh(centres, finite, height * 0.86, color=palette_color(position))
            for y, value in zip(centres, values):
                axes.annotate(
                    percent(value), (value if math.isfinite(value) else 0.0, y), (4, 0),
                    textcoords="offset points", va="center_baseline", fontsize=8, color=MUTED,
                )  # fmt: skip
        axes.set_yticks(range(len(names)), [shorten(name, 28) for name in names])
        axes.tick_params(axis="y", labelcolor=INK)
        axes.invert_yaxis()
        axes.grid(visible=False)
        axes.spines["bottom"].set_visible(False)
        axes.set_xticks([])
        axes.margins(x=0.12, y=0.02)
        return to_svg(figure, "class shares: " + ", ".join(shares))


def share_ranks(shares: Mapping[str, Sequence[float]]) -> Html:
    """Return each distribution over the rank of the class in the first one, for many classes (log axis)."""
    order = sorted(range(len(next(iter(shares.values())))), key=lambda i: -next(iter(shares.values()))[i])
    with drawing((7.4, 2.6)) as figure:
        figure.set_layout_engine("constrained")
        axes = figure.add_subplot()
        for position, (label, values) in enumerate(shares.items()):
            ranked = [values[i] if values[i] > 0 else math.nan for i in order]
            axes.plot(range(1, len(ranked) + 1), ranked, color=palette_color(position), label=label)
        log_axis(axes, percent)
        axes.set_xlabel("rank of the class by natural share")
        return to_svg(figure, "class shares by rank: " + ", ".join(shares))


def shorten(text: str, length: int) -> str:
    """Return `text` cut to `length` characters with three dots."""
    return text if len(text) <= length else text[: length - 3] + "..."


def thin_out(line: Line) -> tuple[list[float], list[float]]:
    """Return at most `MOST_POINTS` points of a curve, each the mean of a run of neighbours (NaN left out)."""
    width = -(-len(line.steps) // MOST_POINTS)
    if width <= 1:
        return [float(step) for step in line.steps], list(line.values)
    steps, values = [], []
    for start in range(0, len(line.steps), width):
        finite = [v for v in line.values[start : start + width] if math.isfinite(v)]
        steps.append(float(line.steps[min(start + width, len(line.steps)) - 1]))
        values.append(sum(finite) / len(finite) if finite else math.nan)
    return steps, values


def fixed_axes(figure: Figure) -> Axes:
    """Return axes with the same margins, in inches, in every figure, so that figures in a row line up."""
    width, height = figure.get_size_inches()
    left, right, bottom, top = 0.48, 0.08, 0.44, 0.08
    bounds = (left / width, bottom / height, 1 - (left + right) / width, 1 - (bottom + top) / height)
    return figure.add_axes(bounds)


def _draw_line(axes: Axes, line: Line) -> None:
    steps, values = thin_out(line)
    values = [value if math.isfinite(value) else math.nan for value in values]
    few = len(values) <= 40 and not line.faint
    axes.plot(
        steps, values, color=line.color, alpha=0.35 if line.faint else 1.0,
        linewidth=1.0 if line.faint else 1.7, marker="o" if few else "", markersize=2.4,
        linestyle=(0, DASHES[line.dash]) if DASHES[line.dash] else "-",
    )  # fmt: skip


def _style_axes(axes: Axes, lines: Sequence[Line], x_label: str) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    finite = [value for line in lines for value in line.values if math.isfinite(value)]
    if finite and min(finite) > 0 and max(finite) > 30 * sorted(finite)[len(finite) // 2]:
        log_axis(axes, tick_label)
    else:
        axes.yaxis.set_major_locator(MaxNLocator(4, min_n_ticks=3, steps=[1, 2, 5, 10]))
        axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: tick_label(value)))
    axes.xaxis.set_major_locator(MaxNLocator(6, integer=True, steps=[1, 2, 3, 4, 5, 6, 8, 10]))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: tick_label(value)))
    axes.margins(x=0.03, y=0.12)
    axes.set_xlabel(x_label, loc="right", fontsize=8, labelpad=1)


def log_axis(axes: Axes, label: Callable[[float], str]) -> None:
    """Make the y axis logarithmic; matplotlib's own labels would be formulas, which the page cannot show."""
    from matplotlib.ticker import FuncFormatter, NullFormatter, NullLocator

    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: label(value)))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.yaxis.set_minor_locator(NullLocator())


def tick_label(value: float) -> str:
    """Return an axis label of few characters: 1500 -> 1.5k, 0.0002 -> 2e-4."""
    if value != 0 and abs(value) < 1e-2:
        mantissa, exponent = f"{value:.1e}".split("e")
        return f"{mantissa.removesuffix('.0')}e{int(exponent)}"
    if abs(value) >= 1e6:
        return f"{value / 1e6:g}M"
    return f"{value / 1e3:g}k" if abs(value) >= 1e3 else f"{value:.4g}"


@contextmanager
def drawing(size: tuple[float, float]) -> Iterator[Figure]:
    """Give an empty figure of `size` inches in the style of the page; end with `to_svg`.

    Raises ImportError naming the extra when matplotlib is absent.
    """
    try:
        import matplotlib
        from matplotlib.figure import Figure
    except ModuleNotFoundError as error:
        message = "the report draws with matplotlib: pip install 'imbalance-common[report]'"
        raise ImportError(message) from error
    settings: dict[Any, Any] = dict(RC)
    with matplotlib.rc_context(settings), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing", category=UserWarning)
        yield Figure(figsize=size)


def to_svg(figure: Figure, label: str) -> Html:
    """Return the figure as an `<svg>` element: no fixed size, no outside name, colours by style sheet.

    Ids get a prefix that depends on the content, because several figures share a page.
    """
    buffer = io.StringIO()
    figure.savefig(
        buffer, format="svg", transparent=True, metadata=dict.fromkeys(("Creator", "Date", "Format", "Type"))
    )
    text = buffer.getvalue()
    text = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", text, flags=re.DOTALL)
    text = re.sub(r'\sid="[a-z][\w.]*_\d+"', "", text).replace("xlink:href", "href")
    text = re.sub(r'(?<=style=")[^"]*', _page_style, text)
    text = re.sub(r'(?<=\s[dxy]=")[^"]*', lambda match: re.sub(r"(\.\d\d)\d+", r"\1", match.group()), text)
    prefix = f"f{hashlib.blake2b((label + text).encode(), digest_size=6).hexdigest()}-"
    text = re.sub(r'(?<=\sid=")|(?<=\shref="#)|(?<=url\(#)', prefix, text)
    opening = node("svg", attributes={"role": "img", "aria-label": label}).removesuffix("></svg>")
    start = text.index("<svg")
    end = text.index(">", start)
    box = text[text.index(" viewBox=", start, end) :].split('"')[1]
    body = re.sub(r"\s*\n\s*", " ", text[end:].strip())
    return Html(f'{opening} viewBox="{box}"{body}')


def _page_style(match: re.Match[str]) -> str:
    """Rewrite one `style` attribute: the page's font and the page's colours."""
    style = re.sub(r"font-family:[^;]*;\s*", "", match.group())
    return re.sub(r"#[0-9a-f]{6}\b", lambda color: css_color(color.group()), style)
