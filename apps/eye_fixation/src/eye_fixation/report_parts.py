"""What every plot of the report has: title, picture, key, one sentence of reading, its n and its source."""

from __future__ import annotations

import math
from collections.abc import Sequence

from common.reporting.figures import key_item
from common.reporting.html import Html, node
from common.reporting.plots import Line
from eye_fixation.console_table import mean_of
from eye_fixation.report_data import Evidence, Model


def plot(
    evidence: Evidence,
    title: str,
    picture: Html,
    *,
    reading: str,
    n: str,
    key: Html | None = None,
    computed: bool = False,
) -> Html:
    """Return a plot as a figure; the page's source stands under each, under a computed one too."""
    return node(
        "figure",
        node("figcaption", node("b", title)),
        picture,
        Html("") if key is None else key,
        caption(evidence, reading, n, computed=computed),
    )


def caption(evidence: Evidence, reading: str, n: str, *, computed: bool = False) -> Html:
    """Return the sentence of reading, and under it n and source."""
    source = f"the loss itself, in a report on {evidence.source}" if computed else evidence.source
    return node(
        "div",
        node("p", reading, attributes={"style": "margin-top:10px"}),
        node("p", f"n: {n}. Source: {source}.", css="origin"),
    )


def scrolling(picture: Html, width: int) -> Html:
    """Return a wide picture that scrolls sideways on a narrow screen instead of becoming illegible."""
    inner = node("div", picture, attributes={"style": f"min-width:{width}px"})
    return node("div", inner, css="scroll")


def side_by_side(*figures: Html, wide: bool = False) -> Html:
    """Return figures in a grid."""
    return node("div", *figures, css="grid wide" if wide else "grid")


def key_of(evidence: Evidence, metric: str, *more: Html) -> Html:
    """Return the key of all models, each with its value of a metric, and `more` items."""
    values = [mean_of(model.summary, metric) for model in evidence.models]
    items = [key_item(model.line(), value) for model, value in zip(evidence.models, values)]
    return node("ul", *items, *more, css="legend")


def key_of_references(evidence: Evidence, metric: str) -> list[Html]:
    """Return the items of the references, each with its value of a metric."""
    return [
        key_item(Line(part.name, (), (), color=part.color, dash=part.dash), mean_of(part.summary, metric))
        for part in evidence.references
    ]


def listed(names: Sequence[str]) -> str:
    """Return names as a sentence has them: a, b and c."""
    return " and ".join(filter(None, (", ".join(names[:-1]), *names[-1:])))


def signed(value: float, places: int = 2) -> str:
    """Return a difference with its sign."""
    return "n/a" if math.isnan(value) else f"{value:+.{places}f}"


def best_of(evidence: Evidence) -> Model:
    """Return the model with most bits."""
    return evidence.models[0]
