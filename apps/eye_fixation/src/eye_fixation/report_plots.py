"""The plots of predictions: ranks, horizons, calibration, steps and cost, as inline pictures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from common.reporting.html import Html
from common.reporting.plots import DASHES, INK, MUTED, drawing, log_axis, tick_label, to_svg
from eye_fixation.console_table import interval_of
from eye_fixation.metrics import LEVELS, STEP_QUANTILES
from eye_fixation.report_data import Evidence, FloatArray, Model, Reference, band, numbers, per_horizon

if TYPE_CHECKING:
    from matplotlib.axes import Axes

FEWEST_HITS = 5.0
"""Cells a bin of the reliability plot must hold, expected or found."""
MOST_OFF = 8.0
"""Largest ratio of found to expected that is drawn; farther ones lie on the edge."""
_LOWEST_EDGE = 1e-5


def rank_chart(left: Sequence[tuple[Model, str]], right: Sequence[tuple[Model, str]]) -> Html:
    """Return lines from each model's place by documented recall to its place by bits, best on top.

    Both sides hold all models with the number to show.
    """
    with drawing((6.4, 0.55 + 0.26 * len(left))) as figure:
        axes = figure.add_axes((0.37, 0.02, 0.26, 0.96))
        places = {model.label: place for place, (model, _) in enumerate(right)}
        for place, (model, value) in enumerate(left):
            there = places[model.label]
            axes.plot([0, 1], [place, there], **_stroke(model), marker="o", markersize=4, clip_on=False)
            axes.text(-0.08, place, f"{model.label}  {value}", ha="right", va="center_baseline")
        for place, (model, value) in enumerate(right):
            axes.text(1.08, place, f"{value}  {model.label}", ha="left", va="center_baseline")
        for x, text, side in ((-0.08, "documented recall", "right"), (1.08, "bits", "left")):
            axes.text(x, -1, text, ha=side, va="center_baseline", color=MUTED, fontsize=8)
        axes.set(xlim=(0, 1), ylim=(len(left) - 0.5, -1.4))
        axes.axis("off")
        return to_svg(figure, "places by documented recall and by bits")


def horizon_chart(evidence: Evidence, rate_hz: float | None) -> Html:
    """Return bits over the horizon for all models and references, with their intervals as bands."""
    with drawing((9.6, 3.5)) as figure:
        figure.set_layout_engine("constrained")
        axes = figure.add_subplot()
        for model in evidence.models:
            _horizon_line(axes, model)
        for reference in evidence.references:
            _horizon_line(axes, reference)
        steps = "" if rate_hz is None else f" of {1000 / rate_hz:.0f} ms"
        axes.set_xlabel(f"frames ahead{steps}")
        axes.set_ylabel("bits")
        _whole_ticks(axes)
        axes.margins(x=0.02)
        return to_svg(figure, "bits per horizon")


def reliability_chart(evidence: Evidence, edges: Sequence[float]) -> Html:
    """Return per bin of predicted density how many cells were lit for each that was expected."""
    with drawing((5.2, 3.0)) as figure:
        figure.set_layout_engine("constrained")
        axes = figure.add_subplot()
        axes.axhline(1, color=MUTED, linewidth=1.0, linestyle=(0, DASHES["--"]))
        centres = bin_centres(edges)
        for model in evidence.models:
            ratio = found_over_expected(model)
            if len(ratio):
                axes.plot(centres, ratio, **_stroke(model), marker="o", markersize=3)
        axes.set_xscale("log")
        log_axis(axes, lambda value: f"1/{1 / value:.0f}" if value < 1 else f"{value:g}")
        axes.set_yticks([1 / 8, 1 / 4, 1 / 2, 1, 2, 4, 8])
        axes.set_ylim(0.9 / MOST_OFF, 1.1 * MOST_OFF)
        _plain_log_x(axes, [1e-4, 1e-3, 1e-2, 1e-1, 1])
        axes.set_xlabel("predicted probability of a cell")
        axes.set_ylabel("lit cells, found / expected")
        return to_svg(figure, "reliability of cell probabilities")


def found_over_expected(model: Model) -> FloatArray:
    """Return lit cells over predicted mass per bin, NaN where both are few; empty without curves."""
    mass, hits = model.curve("mass_predicted"), model.curve("mass_hits")
    if not len(mass):
        return np.zeros(0)
    enough = np.maximum(mass, hits) >= FEWEST_HITS
    ratio = hits / np.where(mass > 0, mass, np.nan)
    return np.where(enough, ratio.clip(1 / MOST_OFF, MOST_OFF), np.nan)


def bin_centres(edges: Sequence[float]) -> FloatArray:
    """Return the geometric middle of each bin; the first is taken to begin at 1e-5."""
    low, high = np.maximum(edges[:-1], _LOWEST_EDGE), numbers(edges[1:])
    return np.sqrt(low * high)


def coverage_chart(evidence: Evidence) -> Html:
    """Return the share of gaze within the highest-density region of each level."""
    with drawing((5.2, 3.0)) as figure:
        figure.set_layout_engine("constrained")
        axes = figure.add_subplot()
        axes.plot([0, 1], [0, 1], color=MUTED, linewidth=1.0, linestyle=(0, DASHES["--"]))
        for model in evidence.models:
            share = model.curve("coverage_share")
            if len(share):
                axes.plot(LEVELS, share, **_stroke(model))
        axes.set(xlim=(0, 1), ylim=(0, 1), xlabel="mass of the region", ylabel="share of gaze inside")
        return to_svg(figure, "coverage of highest-density regions")


def step_chart(evidence: Evidence) -> Html:
    """Return how long steps from the last input cell are: true ones in ink, sampled ones per model."""
    with drawing((9.6, 3.1)) as figure:
        figure.set_layout_engine("constrained")
        axes = figure.add_subplot()
        for model in evidence.models:
            drawn = model.curve("step_drawn_quantiles")
            if len(drawn):
                axes.plot(drawn, STEP_QUANTILES, **_stroke(model))
        true = true_steps(evidence)
        if len(true):
            axes.plot(true, STEP_QUANTILES, color=INK, linewidth=2.4)
        axes.set(ylim=(0, 1.02), xlabel="step length in cells", ylabel="share of steps at most as long")
        axes.margins(x=0.01)
        return to_svg(figure, "step length, true and sampled")


def true_steps(evidence: Evidence) -> FloatArray:
    """Return the quantiles of true step lengths, the same for every model; empty where unknown."""
    curves = (model.curve("step_true_quantiles") for model in evidence.models)
    return next((curve for curve in curves if len(curve)), np.zeros(0))


def cost_chart(evidence: Evidence) -> Html:
    """Return bits over the time of a training step; names stand at the right, joined to their points."""
    points = [(model, step_ms(model)) for model in evidence.models if not math.isnan(step_ms(model))]
    height = max(2.6, 0.8 + 0.2 * len(points))
    with drawing((9.6, height)) as figure:
        axes = figure.add_axes((0.065, 0.5 / height, 0.66, 1 - 0.6 / height))
        if evidence.kernel is not None:
            level = per_model_bits(evidence.kernel)
            axes.axhline(level, color=INK, linewidth=1.2, linestyle=(0, DASHES["--"]))
        for model, cost in points:
            ends = interval_of(model.summary, "bits")
            if ends is not None:
                axes.plot([cost, cost], ends, color=model.color, linewidth=1.2, alpha=0.6)
            axes.plot([cost], [model.bits], "o", color=model.color, markersize=6)
        axes.margins(x=0.12, y=0.12)
        axes.set(xlabel="milliseconds per training step", ylabel="bits")
        names = [(model.label, cost, model.bits) for model, cost in points]
        _names_at_the_side(axes, names, height - 0.6)
        return to_svg(figure, "bits against the time of a step")


def step_ms(model: Model) -> float:
    """Return the median time of a training step over the runs; NaN where none was measured."""
    known = [float(run["step_ms"]) for run in model.runs if run.get("step_ms") is not None]
    return float(np.median(known)) if known else math.nan


def per_model_bits(reference: Reference) -> float:
    """Return the bits of a reference."""
    return float(reference.summary["bits"]["mean"])


def spread(places: Sequence[float], gap: float) -> list[float]:
    """Return places at least `gap` apart, in the same order, moved as little as a sweep can.

    >>> spread([0.0, 0.0, 5.0], 1.0)
    [-0.5, 0.5, 5.0]
    """
    order = sorted(range(len(places)), key=lambda i: places[i])
    clusters: list[list[int]] = []
    for place in order:
        clusters.append([place])
        while len(clusters) > 1 and _start(clusters[-1], places, gap) < (
            _start(clusters[-2], places, gap) + gap * len(clusters[-2])
        ):
            last = clusters.pop()
            clusters[-1] += last
    moved = [0.0] * len(places)
    for cluster in clusters:
        for number, place in enumerate(cluster):
            moved[place] = _start(cluster, places, gap) + gap * number
    return moved


def _start(cluster: Sequence[int], places: Sequence[float], gap: float) -> float:
    return sum(places[i] for i in cluster) / len(cluster) - gap * (len(cluster) - 1) / 2


def _names_at_the_side(axes: Axes, points: Sequence[tuple[str, float, float]], height: float) -> None:
    """Write names right of axes of `height` inches, apart from each other."""
    low, high = axes.get_ylim()
    places = spread([y for _, _, y in points], 0.17 * (high - low) / height)
    leader = {"arrowstyle": "-", "color": MUTED, "linewidth": 0.6, "linestyle": ":", "shrinkB": 4}
    for (name, x, y), place in zip(points, places):
        axes.annotate(
            name, (x, y), (1.02, (place - low) / (high - low)), xycoords="data", textcoords="axes fraction",
            va="center", annotation_clip=False, fontsize=8.5, arrowprops=leader,
        )  # fmt: skip
    axes.set_ylim(low, high)


def _horizon_line(axes: Axes, part: Model | Reference) -> None:
    values = per_horizon(part.summary, "bits")
    steps = np.arange(1, len(values) + 1)
    ends = band(part.summary, "bits")
    if ends is not None:
        axes.fill_between(steps, ends[:, 0], ends[:, 1], color=part.color, alpha=0.13, linewidth=0)
    thick = 1.4 if isinstance(part, Reference) else 1.8
    axes.plot(steps, values, **(_stroke(part) | {"linewidth": thick}), marker="o", markersize=3)


def _stroke(part: Model | Reference) -> dict[str, Any]:
    dashes = DASHES[part.dash]
    return {"color": part.color, "linewidth": 1.7, "linestyle": (0, dashes) if dashes else "-"}


def _whole_ticks(axes: Axes) -> None:
    from matplotlib.ticker import MaxNLocator

    axes.xaxis.set_major_locator(MaxNLocator(10, integer=True))


def _plain_log_x(axes: Axes, ticks: Sequence[float]) -> None:
    from matplotlib.ticker import NullFormatter, NullLocator

    axes.set_xticks(list(ticks), [tick_label(tick) for tick in ticks])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_minor_formatter(NullFormatter())
