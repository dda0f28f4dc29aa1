"""Learning curves as a grid of small figures."""

from __future__ import annotations

from collections.abc import Sequence

from common.reporting.figures import figure
from common.reporting.html import Html, node, section
from common.reporting.run_data import RunData
from common.reporting.series import Panel, Panels


def curves_section(run: RunData, panels: Panels) -> Html | None:
    """Return every curve of the run, or nothing when no number was recorded."""
    if not (panels.main or panels.classes or panels.extra):
        return None
    best = run.best_step
    lead = "Over optimizer steps."
    if best is not None:
        lead += f" Dotted line and numbers in the legends: the best checkpoint, step {best:,}."
    parts = [_grid(panels.main, best)] if panels.main else []
    if panels.classes:
        parts.append(_grid(panels.classes, best, wide=True))
    if panels.extra:
        parts.append(
            node("details", node("summary", f"{len(panels.extra)} more curves"), _grid(panels.extra, best))
        )
    return section("curves", "Learning curves", *parts, lead=lead)


def _grid(panels: Sequence[Panel], best_step: int | None, *, wide: bool = False) -> Html:
    figures = [figure(panel, best_step, wide=wide) for panel in panels]
    return node("div", *figures, css="grid wide" if wide else "grid")
