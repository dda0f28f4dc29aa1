"""The sections of the report that show predictions, each plot with what it says."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from common.reporting.figures import key_item, legend
from common.reporting.html import Html, node, percent, section
from common.reporting.plots import INK, PALETTE, Line, curves
from eye_fixation.console_table import interval_of, level_of, mean_of
from eye_fixation.metrics import STEP_QUANTILES
from eye_fixation.report_data import Evidence, FloatArray, Model, numbers, per_horizon
from eye_fixation.report_film import film_strips
from eye_fixation.report_parts import (
    best_of,
    key_of,
    key_of_references,
    plot,
    scrolling,
    side_by_side,
    signed,
)
from eye_fixation.report_plots import (
    cost_chart,
    coverage_chart,
    horizon_chart,
    per_model_bits,
    rank_chart,
    reliability_chart,
    step_chart,
    step_ms,
    true_steps,
)


def headline(evidence: Evidence) -> Html:
    """Return the best loss in large beside the rank chart."""
    best, kernel = best_of(evidence), evidence.kernel
    side = int(evidence.data["img_size"])
    ends = interval_of(best.summary, "bits")
    level = f"{level_of(evidence.first.content):g}"
    spread = "" if ends is None else f", {level} % interval {ends[0]:.2f} to {ends[1]:.2f}"
    against = "" if kernel is None else f" The history kernel has {per_model_bits(kernel):.2f}."
    text = node(
        "div",
        node("p", "most bits per target frame", css="metric"),
        node("p", f"{best.bits:.2f}", css="value"),
        node("p", f"{best.label}{spread}.{against}"),
        node(
            "p",
            "Bits are log2 of the probability given to the cell the gaze was in, on the test split; "
            f"knowing nothing of {side} x {side} cells has {-2 * math.log2(side):.4g}.",
            css="meaning",
        ),
    )
    return node("div", text, rank_plot(evidence), css="hero")


def rank_plot(evidence: Evidence) -> Html:
    """Return the places by documented recall and by bits."""
    recall = {model.label: _recall(model) for model in evidence.models}
    left = sorted(evidence.models, key=lambda model: (-recall[model.label], -model.bits))
    picture = rank_chart(
        [(model, f"{recall[model.label]:.3f}") for model in left],
        [(model, f"{model.bits:.2f}") for model in evidence.models],
    )
    return plot(
        evidence,
        "Documented recall does not rank as bits do" if left[0] is not best_of(evidence) else "Two rankings",
        scrolling(picture, 400),
        reading=rank_reading(left, evidence.models, recall),
        n=f"{_counted(len(left), 'loss', 'losses')}; {evidence.counts()}",
    )


def rank_reading(left: Sequence[Model], right: Sequence[Model], recall: dict[str, float]) -> str:
    """Return where the first of one order stands in the other; equal recalls share a place."""
    first, best = left[0], right[0]
    if len(right) == 1:
        return f"{best.label} alone: there is nothing to rank."
    if first is best:
        return f"Both documented recall and bits put {best.label} first."
    by_bits = list(right).index(first) + 1
    by_recall = 1 + sum(value > recall[best.label] for value in recall.values())
    return (
        f"{first.label} leads by documented recall and is number {by_bits} of {len(right)} by bits; "
        f"{best.label} leads by bits and is number {by_recall} by recall."
    )


def _recall(model: Model) -> float:
    value = model.compat.get("white_pixel_recall")
    return 0.0 if value is None else float(value)


def horizon_section(evidence: Evidence) -> Html:
    """Return bits per horizon."""
    best, kernel = best_of(evidence), evidence.kernel
    values = per_horizon(best.summary, "bits")
    near, far = values[0], values[-1]
    text = f"One frame ahead {best.label} has {near:.2f} bits, {len(values)} frames ahead {far:.2f}"
    if kernel is not None:
        gaps = values - per_horizon(kernel.summary, "bits")
        text += f"; against the history kernel that is {signed(gaps[0])} and {signed(gaps[-1])}"
    picture = plot(
        evidence,
        f"Bits per horizon, bands: {level_of(evidence.first.content):g} % intervals",
        scrolling(horizon_chart(evidence, evidence.data.get("rate_hz")), 620),
        reading=f"{text}.",
        key=key_of(evidence, "bits", *key_of_references(evidence, "bits")),
        n=evidence.counts(),
    )
    return section(
        "horizons", "How far ahead", picture, lead="Higher is better; values in the key: all horizons."
    )


def calibration_section(evidence: Evidence) -> Html:
    """Return reliability and coverage."""
    best, edges = best_of(evidence), best_of(evidence).curve("mass_edges")
    mass = mean_of(best.summary, "ece_mass")
    shares = [mean_of(best.summary, f"coverage_{level}") for level in (50, 90)]
    parts = []
    if len(edges):
        parts.append(
            plot(
                evidence,
                "Reliability",
                reliability_chart(evidence, edges.tolist()),
                reading="Above 1 cells are lit more often than predicted, below 1 less often; "
                f"{best.label} misplaces {percent(mass)} of its mass (ece_mass in the key).",
                key=key_of(evidence, "ece_mass"),
                n=evidence.counts(),
            )
        )
    parts.append(
        plot(
            evidence,
            "Coverage",
            coverage_chart(evidence),
            reading=f"The 50 % regions of {best.label} hold {_percent(shares[0])} of the gaze, its 90 % "
            f"regions {_percent(shares[1])} (coverage_90 in the key); below the diagonal: too sure.",
            key=key_of(evidence, "coverage_90"),
            n=evidence.counts(),
        )
    )
    return section("calibration", "Reliability and coverage", side_by_side(*parts, wide=True))


def steps_section(evidence: Evidence) -> Html:
    """Return the law of step lengths."""
    best = best_of(evidence)
    drawn, true = (_median(curve) for curve in (best.curve("step_drawn_quantiles"), true_steps(evidence)))
    picture = plot(
        evidence,
        "Step length from the last input cell",
        scrolling(step_chart(evidence), 620),
        reading=f"Half of the true steps are at most {true:.1f} cells long, half of those sampled from "
        f"{best.label} at most {drawn:.1f}; in the key: Wasserstein-1 distance in cells.",
        key=key_of(evidence, "step_w1", key_item(Line("true", (), (), color=INK))),
        n=evidence.counts(),
    )
    return section("steps", "True and sampled steps", picture)


def cost_section(evidence: Evidence) -> Html:
    """Return bits against the time of a training step."""
    costs = {model.label: step_ms(model) for model in evidence.models}
    known = {name: cost for name, cost in costs.items() if not math.isnan(cost)}
    if not known:
        return Html("")
    runs = sum(len(model.runs) for model in evidence.models)
    picture = plot(
        evidence,
        "Bits against the time of a training step",
        scrolling(cost_chart(evidence), 620),
        reading=cost_reading(known),
        n=f"{_counted(runs, 'run', 'runs')}; {evidence.counts()}",
    )
    return section("cost", "What a loss costs", picture)


def cost_reading(costs: Mapping[str, float]) -> str:
    """Return the cheapest and the dearest loss by the milliseconds of a step."""
    fast, slow = (pick(costs, key=lambda name: costs[name]) for pick in (min, max))
    text = f"A training step takes {_ms(costs[fast])} with {fast}"
    if fast != slow:
        text += f" and {_ms(costs[slow])} with {slow}, {costs[slow] / costs[fast]:.2f} times as long"
    return f"{text}, data and validation included; dashed: history kernel."


def film_section(evidence: Evidence) -> Html:
    """Return the film strips of every file."""
    parts = []
    for result in evidence.results:
        title = [node("h3", result.label)] if result.label else []
        parts += [*title, film_strips(evidence, result)]
    return section("film", "Film strip", *parts, lead="Predicted densities, frames ahead from left to right.")


def training_section(evidence: Evidence) -> Html:
    """Return the training curves of every loss."""
    panels = [_training_plot(evidence, model) for model in evidence.models]
    return section(
        "training", "Training curves", side_by_side(*panels), lead="Each loss in its own unit, over epochs."
    )


def _training_plot(evidence: Evidence, model: Model) -> Html:
    lines = training_lines(model)
    runs = model.runs
    sizes = evidence.data["sequences"]
    last = sum(run["best_epoch"] == run["epochs"] for run in runs)
    best = runs[0]["best_epoch"] if len(runs) == 1 else None
    reading = f"Best epoch of each seed: {', '.join(str(run['best_epoch']) for run in runs)}"
    more = "; the last epoch was best, longer training may help" if last == len(runs) else ""
    return plot(
        evidence,
        model.label,
        curves(f"{model.label}: loss", lines, best_step=best, x_label="epoch"),
        reading=f"{reading}{more}.",
        key=_training_key(lines),
        n=f"{_counted(len(runs), 'run', 'runs')}, {sizes['train']:,} train, {sizes['val']:,} val sequences",
    )


def training_lines(model: Model) -> list[Line]:
    """Return training and validation loss: the mean over seeds, and each seed faintly behind it."""
    lines = []
    for label, key, color in (("train", "train_losses", PALETTE[0]), ("valid", "val_losses", PALETTE[1])):
        seeds = [numbers(run[key]) for run in model.runs]
        if len(seeds) > 1:
            lines += [Line(label, _epochs(seed), seed.tolist(), color=color, faint=True) for seed in seeds]
        shortest = min(len(seed) for seed in seeds)
        mean = np.mean([seed[:shortest] for seed in seeds], axis=0)
        lines.append(Line(label, _epochs(mean), mean.tolist(), color=color))
    return lines


def _training_key(lines: Sequence[Line]) -> Html:
    return legend([line for line in lines if not line.faint], None)


def _epochs(values: FloatArray) -> list[int]:
    return list(range(1, len(values) + 1))


def _counted(count: int, one: str, many: str) -> str:
    return f"{count} {one if count == 1 else many}"


def _ms(time: float) -> str:
    return f"{time:,.0f} ms" if time >= 100 else f"{time:.3g} ms"


def _median(quantiles: FloatArray) -> float:
    return float(quantiles[len(STEP_QUANTILES) // 2]) if len(quantiles) else math.nan


def _percent(share: float) -> str:
    return "n/a" if math.isnan(share) else f"{100 * share:.0f} %"
