"""A comparison as one page that needs nothing outside itself."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from common.engine.manifest import replace_text
from common.reporting.classes import swatch
from common.reporting.figures import key_item
from common.reporting.html import Html, join, meter, node, page, section, table
from common.reporting.plots import Line, css_color
from mvfouls.compare_numbers import KEYS, LEADERBOARD, TITLES
from mvfouls.compare_plots import difference_plot, recall_plot, run_colors
from mvfouls.compare_text import (
    CHANCE,
    class_title,
    count_text,
    ends_text,
    left_out_text,
    p_text,
    points,
    same_text,
    turned_text,
)
from mvfouls.console import percent
from mvfouls.report_rows import OFFICIAL

Content = Mapping[str, Any]
NAVIGATION = {
    "runs": "Runs",
    "differences": "Differences",
    "seeds": "Seeds",
    "classes": "Classes",
    "settings": "Settings",
    "provenance": "Provenance",
}
STYLE = """
.compared td { vertical-align: top; }
.compared td small { display: block; line-height: 1.35; white-space: nowrap; }
.compared .meter { min-width: 90px; margin: 5px 0 3px; }
.compared .chip { margin-left: 8px; }
.values td { font-family: var(--mono); font-size: 12.5px; overflow-wrap: anywhere; }
.legend { margin-bottom: 14px; }
figure.plain { max-width: none; }
"""


def write_page(path: Path, content: Content) -> None:
    """Write what `compare` found as a page; OSError when the disk refuses."""
    path.parent.mkdir(parents=True, exist_ok=True)
    replace_text(path, page(_title(content), render(content), style=STYLE))


def render(content: Content) -> Html:
    """Return the body of the page."""
    sections = {
        "runs": _runs(content),
        "differences": _differences(content),
        "seeds": _seeds(content),
        "classes": _classes(content),
        "settings": _settings(content),
        "provenance": _provenance(content),
    }
    present = {anchor: part for anchor, part in sections.items() if part}
    links = [node("a", NAVIGATION[anchor], attributes={"href": f"#{anchor}"}) for anchor in present]
    return join([_head(content), node("nav", *links), *present.values()], "\n")


def verdict(content: Content) -> str:
    """Return which leaderboard values differ from the baseline's after adjusting for their number."""
    found = {name: each[LEADERBOARD] for name, each in content["differences"].items()}
    clear = {name: each for name, each in found.items() if each["p_holm"] < CHANCE}
    if not clear:
        return (
            f"No leaderboard value differs from that of {content['baseline']} by more than chance explains."
        )
    said = ", ".join(
        f"{name} by {points(each['value'])} points (p {p_text(each['p_holm'])})"
        for name, each in clear.items()
    )
    rest = f"; of the other {len(found) - len(clear)} none does" if len(clear) < len(found) else ""
    return f"The leaderboard value differs from that of {content['baseline']}: {said}{rest}."


def _title(content: Content) -> str:
    return f"{len(content['runs'])} runs on {content['counted']} validation actions"


def _head(content: Content) -> Html:
    bootstrap = content["bootstrap"]
    facts = {
        "baseline": content["baseline"],
        "actions that count": f"{content['counted']} of {content['actions']}",
        "rules": "strict",
        "intervals": f"{100 * bootstrap['level']:g} %",
        "resamples of actions": f"{bootstrap['resamples']:,}, the same for all runs",
    }
    listed = [node("div", node("dt", term), node("dd", fact)) for term, fact in facts.items()]
    notes = [
        node("p", node("span", "note", css="chip warn"), note, css="finding") for note in content["notes"]
    ]
    return node(
        "header",
        node("p", "Comparison", css="eyebrow"),
        node("h1", _title(content)),
        node("p", verdict(content), css="lead"),
        node("dl", *listed, css="facts"),
        *notes,
    )


def _runs(content: Content) -> Html:
    colors = run_colors(content)
    rows = [
        [
            _name(run["name"], colors, content["baseline"]),
            _known(run["seed"]),
            *(_value_cell(run["values"][key]) for key in TITLES),
        ]
        for run in content["runs"]
    ]
    lead = "In per cent. LB is the mean of both balanced accuracies (BA)."
    return section("runs", "Runs", _table(["Run", "Seed", *TITLES.values()], rows), lead=lead)


def _differences(content: Content) -> Html:
    colors = run_colors(content)
    rows = [
        [_name(name, colors), *(_difference_cell(found[key]) for key in TITLES)]
        for name, found in content["differences"].items()
    ]
    return section(
        "differences",
        f"Differences to {content['baseline']}",
        node("figure", difference_plot(content), css="plain"),
        _table(["Run", *TITLES.values()], rows),
        node("p", count_text(content["differences"]), css="origin"),
        lead="In percentage points, to the right better than the baseline. Gained and lost: actions that "
        "only this run, or only the baseline, has right.",
    )


def _seeds(content: Content) -> Html:
    """Return the groups of runs that differ in their seed alone; nothing without any."""
    if not content["groups"]:
        return Html("")
    shown = [LEADERBOARD, "os_ba", "action_ba"]
    columns = ["Group", "Seeds", *(TITLES[key] for key in shown)]
    rows = [
        [
            join([node("b", group["name"]), node("small", ", ".join(group["runs"][1:]))]),
            ", ".join(map(str, group["seeds"])) or "-",
            *(_group_cell(group, key) for key in shown),
        ]
        for group in content["groups"]
    ]
    lead = (
        "Runs whose settings differ in the seed alone: mean and standard deviation over seeds. Intervals are "
        "over actions, the mean over seeds within each resample; other seeds are not in them."
    )
    return section("seeds", "Over seeds", _table(columns, rows), lead=lead)


def _group_cell(group: Content, key: str) -> Html:
    value = group["values"][key]
    sd = "" if math.isnan(value["sd"]) else f" sd {percent(value['sd'])}"
    parts = [
        node("b", percent(value["mean"])),
        sd,
        node("small", f"n {len(group['runs'])}, {percent(value['low'])} to {percent(value['high'])}"),
    ]
    if group["differences"] is None:
        return join([*parts, node("small", "baseline")])
    return join([*parts, *_told(group["differences"][key])])


def _classes(content: Content) -> Html:
    key = node(
        "ul", *(key_item(Line(n, (), (), color=c)) for n, c in run_colors(content).items()), css="legend"
    )
    plots = [
        node("figure", node("figcaption", title), recall_plot(content, part))
        for part, title in OFFICIAL.items()
    ]
    rows = [
        [
            class_title(name),
            str(content["n"][name]),
            *(_class_cell(content, run["name"], run["values"][name], name) for run in content["runs"]),
        ]
        for name in KEYS[len(TITLES) :]
    ]
    columns = ["Class", "n", *(run["name"] for run in content["runs"])]
    return section(
        "classes",
        "Recall by class",
        key,
        node("div", *plots, css="grid wide"),
        node("h3", "Recall, and the difference to the baseline"),
        _table(columns, rows),
        lead="In per cent with Wilson's interval; n is the number of actions of the class.",
    )


def _class_cell(content: Content, run: str, value: Content, key: str) -> Html:
    parts = [node("b", percent(value["value"])), _interval(value)]
    if run in content["differences"] and content["n"][key]:
        parts += _told(content["differences"][run][key])
    return join(parts)


def _settings(content: Content) -> Html:
    differ = content["settings"]["differ"]
    lead = "Where a run is computed and written is not compared."
    if not differ:
        return section("settings", "Settings", node("p", f"Settings: {same_text(content)}."), lead=lead)
    columns = ["Flag", *(run["name"] for run in content["runs"])]
    rows = [[flag, *values] for flag, values in differ.items()]
    left_out = content["settings"]["left_out"]
    note = node("p", left_out_text(content), css="origin") if left_out else Html("")
    shown = table(columns, rows, text_columns=len(columns), css="values")
    return section("settings", "Settings that differ", shown, note, lead=lead)


def _provenance(content: Content) -> Html:
    rows = [[run["name"], _known(run["frontend"]), run["path"]] for run in content["runs"]]
    said = content["annotations"]
    return section(
        "provenance",
        "Provenance",
        table(["Run", "Command line", "Path"], rows, text_columns=3),
        node("p", f"Annotations {said['path']}, SHA-256 {said['sha256']}.", css="origin"),
    )


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> Html:
    return table(columns, rows, css="compared")


def _name(name: str, colors: Mapping[str, str], baseline: str = "") -> Html:
    chip = node("span", "baseline", css="chip") if name == baseline else Html("")
    return join([swatch(css_color(colors[name])), node("b", name), chip])


def _value_cell(value: Content) -> Html:
    bar = meter(value["value"], value["low"], value["high"], (0.0, 1.0))
    return join([node("b", percent(value["value"])), bar, _interval(value)])


def _difference_cell(each: Content) -> Html:
    return join([node("b", points(each["value"])), *_told(each, value=False)])


def _told(each: Content, *, value: bool = True) -> Iterator[Html]:
    """Yield the lines about a difference: the value itself, interval, p, actions gained and lost."""
    ends = ends_text(each)
    if value:
        yield node("small", points(each["value"]) + (f" ({ends})" if ends else ""))
    elif ends:
        yield node("small", ends)
    known = [] if math.isnan(each["p"]) else [f"p {p_text(each['p'])}"]
    known += [f"Holm {p_text(each['p_holm'])}"] if known and "p_holm" in each else []
    if said := ", ".join([*known, *filter(None, [turned_text(each)])]):
        yield node("small", said)


def _interval(value: Content) -> Html:
    if math.isnan(value["low"]):
        return Html("")
    return node("small", f"{percent(value['low'])} to {percent(value['high'])}")


def _known(value: object) -> str:
    return "-" if value is None else str(value).replace("_", " ")
