"""One self-contained HTML page about one run, from the files of its folder alone."""

from __future__ import annotations

from pathlib import Path

from common.reporting.balance import balance_section
from common.reporting.classes import confusion_section, per_class_section
from common.reporting.curves import curves_section
from common.reporting.html import Html, join, node, page
from common.reporting.overview import overview, summary_section
from common.reporting.provenance import provenance_section
from common.reporting.run_data import RunData, read_run
from common.reporting.samples import samples_section
from common.reporting.series import arrange
from common.reporting.timeline import alarms_section, timeline_section

NAVIGATION = {
    "summary": "Summary",
    "alarms": "Alarms",
    "curves": "Curves",
    "classes": "Classes",
    "confusion": "Confusion",
    "samples": "Samples",
    "balance": "Balance",
    "timeline": "Timeline",
    "provenance": "Provenance",
}


def write_report(run_folder: Path) -> Path:
    """Write `report.html` into a run folder and return its path.

    Raises FileNotFoundError when the folder is not a run, ValueError naming the file that cannot be parsed,
    ImportError naming the extra when matplotlib is absent.
    """
    run = read_run(run_folder)
    path = run_folder / "report.html"
    text = page(run.name, render(run))
    partial = path.with_suffix(".html.partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)
    return path


def render(run: RunData) -> Html:
    """Return the body of the report: every section that has data, in reading order."""
    panels = arrange(run)
    sections = {
        "summary": summary_section(run),
        "alarms": alarms_section(run),
        "classes": per_class_section(run),
        "confusion": confusion_section(run),
        "curves": curves_section(run, panels),
        "samples": samples_section(run),
        "balance": balance_section(run),
        "timeline": timeline_section(run),
        "provenance": provenance_section(run),
    }
    present = {anchor: content for anchor, content in sections.items() if content is not None}
    links = [node("a", NAVIGATION[anchor], attributes={"href": f"#{anchor}"}) for anchor in present]
    navigation = node("nav", *links) if len(links) > 1 else Html("")
    return join([overview(run, panels.headline), navigation, *present.values()], "\n")
