"""The page of an experiment, from its numbers alone; it needs nothing outside itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from common.engine.manifest import replace_text
from common.reporting.classes import swatch
from common.reporting.figures import key_item
from common.reporting.html import MISSING, Html, duration, is_number, join, node, page, section, table
from common.reporting.plots import Line, css_color, palette_color
from common.reporting.provenance import settings
from mvfouls.experiment_plots import number_chart, recall_chart
from mvfouls.experiment_table import interval_text

Content = Mapping[str, Any]

TITLE = "Methods against imbalance, on one trained backbone"
LEAD = (
    "The backbone and its features are the same for all methods; each trains a fresh aggregator and fresh "
    "heads on them, with the same settings and seeds, for a fixed number of epochs. Nothing about the heads "
    "is chosen on the judged actions."
)
STYLE = """
.methods { font-size: 12.5px; }
.methods th, .methods td { padding-right: 9px; white-space: nowrap; }
"""


def write_page(path: Path, content: Content) -> None:
    """Write the page of what `experiment --json` writes, None for NaN; OSError when the disk refuses."""
    replace_text(path, page(TITLE, render(content), style=STYLE))


def render(content: Content) -> Html:
    """Return the body: results, recall by class, how each method trains, settings."""
    sections = {
        "Results": _results(content),
        "Recall by class": _recall(content),
        "Methods": _methods(content),
        "Settings": _settings(content),
    }
    links = [node("a", title, attributes={"href": f"#{_anchor(title)}"}) for title in sections]
    return join([_head(content), node("nav", *links), *sections.values()], "\n")


def _head(content: Content) -> Html:
    data, plan, made = content["data"], content["settings"], content["checkpoint"]
    facts = {
        "judged": f"{data['judged']['actions']} actions of {content['split']}",
        "trained on": f"{data['train']['actions']} actions",
        "backbone": f"{plan['backbone']}, epoch {made['epoch']}",
        "trainings": f"{len(content['methods'])} methods x {len(plan['seeds'])} seeds",
        "length": f"{plan['epochs']} epochs",
        "running time": duration(content["seconds"]["all"]),
    }
    listed = [node("div", node("dt", term), node("dd", fact)) for term, fact in facts.items()]
    return node(
        "header",
        node("p", "Experiment", css="eyebrow"),
        node("h1", TITLE),
        node("dl", *listed, css="facts"),
        node("p", LEAD, css="lead", attributes={"style": "margin-top:18px"}),
    )


def _results(content: Content) -> Html:
    caveat = content["caveat"]
    reads = f"Dots are means over seeds, rings single seeds. Bars: {interval_text(content)}."
    return section(
        "results",
        "Results",
        table(*_result_table(content), css="methods"),
        node("h3", "Leaderboard value"),
        number_chart(content, "leaderboard", "leaderboard value"),
        node("h3", "Recall of rare classes"),
        number_chart(content, "rare", "mean recall of the rare official classes"),
        node("p", reads, css="origin"),
        node("p", f"{caveat[0].upper()}{caveat[1:]}.", css="origin") if caveat else Html(""),
        lead="Strict official rules, per cent; mean and standard deviation over seeds. BA: balanced "
        "accuracy. Rare: the rarest third of the official classes in training.",
    )


def _result_table(content: Content) -> tuple[list[str], list[list[str]]]:
    tasks, reference = content["settings"]["tasks"], content["reference"]
    level = f"{100 * content['interval']['level']:g} % interval"
    columns = ["Method", "Leaderboard", level] + ([f"To {reference}", level] if reference else [])
    columns += ["OS BA", "Action BA", "Rare recall", *(f"{_words(task)} BA" for task in tasks)]
    rows: list[list[str]] = []
    for place, (name, found) in enumerate(content["methods"].items()):
        numbers, other = found["numbers"], found["differences"]
        best = node("b", _points(numbers["leaderboard"]["mean"]))
        row: list[str] = [_method(place, name), join([best, _spread(numbers["leaderboard"])])]
        row.append(_ends(numbers["leaderboard"]))
        if reference:
            gain = (other or {}).get("leaderboard")
            row += ["", ""] if gain is None else [_points(gain["value"], "+"), _ends(gain, "+")]
        keys = ["os_ba", "action_ba", "rare", *(f"{task}_ba" for task in tasks)]
        rows.append([*row, *(join([_points(numbers[k]["mean"]), _spread(numbers[k])]) for k in keys)])
    return columns, rows


def _recall(content: Content) -> Html:
    lines = [Line(name, [], [], palette_color(place)) for place, name in enumerate(content["methods"])]
    legend = node("ul", *(key_item(line) for line in lines), css="legend")
    parts = []
    for part in content["parts"]:
        if part["order"]:
            parts += [
                node("h3", part["title"]),
                legend,
                recall_chart(content, part),
                _class_table(content, part),
            ]
    lead = (
        "Classes from the commonest in training to the rarest. Dots are means over seeds, bars the intervals."
    )
    return section("recall-by-class", "Recall by class", *parts, lead=lead)


def _class_table(content: Content, part: Content) -> Html:
    columns = ["Class", "Train", "Judged", *content["methods"]]
    rows = []
    for place in part["order"]:
        each = part["classes"][place]
        recalls = [found["recall"][part["name"]][place] for found in content["methods"].values()]
        cells = [join([_points(recall["mean"]), node("small", f" {_ends(recall)}")]) for recall in recalls]
        rare = node("span", "rare", css="id") if place in part["rare"] else Html("")
        rows.append([join([each["name"], rare]), str(each["trained"]), str(each["judged"]), *cells])
    shown = table(columns, rows, css="methods")
    return node("details", node("summary", "Numbers"), shown)


def _methods(content: Content) -> Html:
    parts = [_notes(content["findings"])]
    for place, (name, found) in enumerate(content["methods"].items()):
        seconds = content["seconds"]["training"][name] / len(found["runs"])
        told = [node("h3", _method(place, name)), node("p", f"{found['text']}; {seconds:.1f} s per training")]
        told.append(_notes(found["findings"]))
        lines = node("pre", "\n".join(found["lines"]))
        parts += [*told, node("details", node("summary", "Loss and balance in the last epoch"), lines)]
    lead = (
        "Effective is the share of each class in what is minimised, rho how far it goes towards equal shares."
    )
    return section("methods", "Methods", *parts, lead=lead)


def _notes(texts: Sequence[str]) -> Html:
    return join(node("p", node("span", "note", css="chip warn"), " ", text) for text in texts)


def _settings(content: Content) -> Html:
    shown = {key: content[key] for key in ("checkpoint", "data", "settings", "versions")}
    command = node("pre", " ".join(content["command"]), css="command")
    return section("settings", "Settings", command, settings(shown))


def _method(place: int, name: str) -> Html:
    return join([swatch(css_color(palette_color(place))), node("b", name)])


def _points(value: float | None, sign: str = "") -> str:
    return MISSING if value is None else f"{100 * value:{sign}.1f}"


def _spread(number: Content) -> Html:
    return node("small", f" +- {_points(number['sd'])}") if is_number(number["sd"]) else Html("")


def _ends(number: Content, sign: str = "") -> str:
    if not is_number(number["low"]):
        return ""
    return f"{_points(number['low'], sign)} to {_points(number['high'], sign)}"


def _words(name: str) -> str:
    return name.replace("_", " ").capitalize()


def _anchor(title: str) -> str:
    return title.lower().replace(" ", "-")
