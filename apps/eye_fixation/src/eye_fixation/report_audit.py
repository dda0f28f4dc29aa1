"""What each loss says of knowing nothing, of being right and of being right elsewhere, drawn and listed."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from functools import lru_cache

from common.reporting.figures import key_item
from common.reporting.html import Html, join, node, number, table
from common.reporting.plots import MUTED, PALETTE, Line, drawing, fixed_axes, log_axis, tick_label, to_svg
from eye_fixation.console_table import setting
from eye_fixation.loss_audit import COLUMNS, IDEAL, MOVED, NEAR_PERFECT, LossAudit, constant_table
from eye_fixation.losses import LossOptions
from eye_fixation.report_data import Evidence, Result
from eye_fixation.report_parts import listed, plot, side_by_side

STEEP = 30.0
"""From this ratio of the highest to the lowest loss on, the axis is logarithmic."""
_IDEAL = PALETTE[1]


def audits_of(result: Result) -> Mapping[str, LossAudit]:
    """Return the audit of every loss with the settings and the grid of a result file, by name."""
    return {audit.name: audit for audit in _table(options_of(result), int(result.data["img_size"]))}


@lru_cache(maxsize=4)
def _table(options: LossOptions, img_size: int) -> tuple[LossAudit, ...]:
    return constant_table(options, img_size)


def options_of(result: Result) -> LossOptions:
    """Return the settings of the losses that a result file was made with."""
    config = result.content.get("config")
    given = {field.name: setting(config, field.name) for field in fields(LossOptions)}
    return LossOptions(**{name: value for name, value in given.items() if value is not None})


def constant_plots(evidence: Evidence, audits: Mapping[str, LossAudit]) -> Html:
    """Return a plot per compared loss: its value for constant maps, and that of its ideal prediction."""
    names = dict.fromkeys(name for result in evidence.results for name in result.content["losses"])
    side = evidence.data["img_size"]
    shown = [audits[name] for name in names if name in audits]
    return side_by_side(
        *(
            plot(
                evidence, audit.name, constant_chart(audit), reading=reading(audit), key=_key(audit),
                n=f"one {side} x {side} frame with one lit cell", computed=True,
            )
            for audit in shown
        )
    )  # fmt: skip


def reading(audit: LossAudit) -> str:
    """Return what a network learns from this loss before it learns any place."""
    if audit.best.logit is None:
        start = "Every constant map costs the same"
    elif audit.best.logit == -math.inf:
        start = "Ever lower constants are better: the empty map is where it starts"
    else:
        start = f"An uninformed network ends at logit {audit.best.logit:.3g}"
    if audit.teaches_place():
        return f"{start}; the ideal prediction is better than all of them."
    return f"{start}; the ideal prediction is NOT better than all of them: this loss does not ask for it."


def constant_chart(audit: LossAudit) -> Html:
    """Return the loss over the constant logit; the ideal prediction is a line, at the edge if far below."""
    logits, losses = zip(*audit.curve)
    best = audit.best
    lowest, highest = min(losses), max(losses)
    steep = lowest > 0 and highest > STEEP * lowest
    floor = lowest / STEEP if steep else -math.inf
    with drawing((3.6, 2.1)) as figure:
        axes = fixed_axes(figure)
        axes.plot(logits, losses, color=PALETTE[0])
        axes.axhline(max(audit.ideal, floor), color=_IDEAL, linewidth=1.5, linestyle=(0, (4, 2)))
        if best.logit is not None and math.isfinite(best.logit):
            axes.plot([best.logit], [best.loss], "o", color=PALETTE[0], markersize=5)
        if steep:
            log_axis(axes, tick_label)
        axes.yaxis.set_label_text("")
        axes.margins(x=0.02, y=0.1)
        axes.set_xlabel("constant logit", loc="right", fontsize=8, labelpad=1)
        if audit.ideal < floor:
            axes.annotate(
                "ideal lies below", (0.02, floor), (0, 3), xycoords=("axes fraction", "data"),
                textcoords="offset points", fontsize=7.5, color=MUTED,
            )  # fmt: skip
        return to_svg(figure, f"{audit.name}: loss of constant maps")


def summary_sentence(audits: Mapping[str, LossAudit], names: Sequence[str]) -> str:
    """Return which of the named losses prefer the right place to knowing nothing."""
    known = [audits[name] for name in names if name in audits]
    wrong = [audit.name for audit in known if not audit.teaches_place()]
    right = f"{len(known) - len(wrong)} of the {len(known)} compared"
    return (
        f"{right} prefer their ideal prediction to every constant map and to itself moved "
        f"by {MOVED} cells{': not ' + listed(wrong) if wrong else ''}."
    )


def audit_tables(audits: Mapping[str, LossAudit], side: int) -> Html:
    """Return the table of best constants and that of chosen predictions, computed from the losses."""
    middle, corner = side // 2, side // 8
    on, off = NEAR_PERFECT
    predictions = (
        f"One {side} x {side} frame, target at ({middle}, {middle}): constant maps, a near-perfect map "
        f"(logit {on:+g} on the cell, {off:+g} off) and the same at ({corner}, {corner}); ideal: the "
        f"target, or logits of {IDEAL[0]:+g} and {IDEAL[1]:+g}, or the log of a soft target. A loss misleads "
        "when a constant map or a moved ideal costs no more than the ideal."
    )
    return join(
        [
            node("h3", "Best constant prediction, and what the documented .5 threshold says of it"),
            _constants_table(audits),
            node("h3", "Losses of single predictions"),
            node("p", predictions, css="lead"),
            _predictions_table(audits),
        ]
    )


def _constants_table(audits: Mapping[str, LossAudit]) -> Html:
    columns = ["Loss", "Output", "Best constant z", "Loss there", "Sigmoid", "Recall", "Precision"]
    return table(columns, list(_constant_rows(audits)), text_columns=2)


def _constant_rows(audits: Mapping[str, LossAudit]) -> Iterator[list[str]]:
    for audit in audits.values():
        best = audit.best
        at = "any" if best.logit is None else "-inf" if best.logit == -math.inf else f"{best.logit:.6f}"
        shares = [
            "-" if value is None else f"{value:.4g}" for value in (best.sigmoid, best.recall, best.precision)
        ]
        yield [_named(audit), audit.kind, at, f"{best.loss:.6g}", *shares]


def _predictions_table(audits: Mapping[str, LossAudit]) -> Html:
    columns = ["Loss", *(f"z = {z:g}" for z in COLUMNS), "Near-perfect", "Wrong place", "Ideal", "Note"]
    rows = []
    for audit in audits.values():
        values = [audit.constants[z] for z in COLUMNS]
        values += [audit.near_perfect, audit.wrong_place, audit.ideal]
        note = Html("") if audit.teaches_place() else node("span", "misleads", css="chip bad")
        rows.append([audit.name, *(_six(value) for value in values), note])
    return table(columns, rows)


def _six(value: float) -> str:
    return f"{value:.6f}" if value == 0 or abs(value) >= 1e-6 else number(value)


def _named(audit: LossAudit) -> Html:
    return join([audit.name, node("small", " literal reading") if audit.literal else ""])


def _key(audit: LossAudit) -> Html:
    best = Line("constant maps, lowest", (), (), color=PALETTE[0])
    ideal = Line("ideal prediction", (), (), color=_IDEAL, dash="--")
    return node("ul", key_item(best, audit.best.loss), key_item(ideal, audit.ideal), css="legend")
