"""Result files of comparisons as one page that needs nothing outside itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from common.config import Parsed, UserError
from common.engine.logging import Console
from common.reporting.html import Html, join, node, page, section
from eye_fixation.report_audit import audit_tables, audits_of, constant_plots, summary_sentence
from eye_fixation.report_config import ReportConfig
from eye_fixation.report_data import Evidence, Result, read_evidence
from eye_fixation.report_sections import (
    calibration_section,
    cost_section,
    film_section,
    headline,
    horizon_section,
    steps_section,
    training_section,
)
from eye_fixation.report_tables import (
    baselines_table,
    data_facts,
    documented_table,
    facts,
    losses_table,
    main_table,
    pairs_table,
    provenance,
    ranking_sentence,
    runs_table,
    warnings_list,
)

TITLE = "Where the eye goes next: losses compared"
NAVIGATION = {
    "warnings": "Warnings",
    "results": "Results",
    "documented": "Documented numbers",
    "comparison": "Comparison",
    "baselines": "Baselines",
    "film": "Film",
    "horizons": "Horizons",
    "calibration": "Calibration",
    "steps": "Steps",
    "cost": "Cost",
    "audit": "Loss audit",
    "training": "Training",
    "runs": "Runs",
    "provenance": "Provenance",
}


def main(parsed: Parsed[ReportConfig]) -> int:
    """Write the page and name it; return 0."""
    path = write_report(parsed.config.results, parsed.config.out)
    Console().line("report", str(path))
    return 0


def write_report(results: Sequence[Path], out: Path) -> Path:
    """Write the page of one or several result files and return its path; the latest run's without any.

    UserError for a file that is missing or no result file, for files judged on different test frames, for a
    model above the best possible prediction, and for an output that cannot be written.
    """
    evidence = read_evidence(results)
    text = page(f"{TITLE} ({evidence.data['source']})", render(evidence))
    partial = out.with_name(out.name + ".partial")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        partial.write_text(text, encoding="utf-8")
        partial.replace(out)
    except OSError as error:
        raise UserError(f"--out: {out} cannot be written: {error}") from None
    return out


def render(evidence: Evidence) -> Html:
    """Return the body of the page: every section that has something to show."""
    sections = _sections(evidence)
    present = {anchor: content for anchor, content in sections.items() if content}
    links = [node("a", NAVIGATION[anchor], attributes={"href": f"#{anchor}"}) for anchor in present]
    top = [headline(evidence)] if evidence.models else []
    return join([_header(evidence), *top, node("nav", *links), *present.values()], "\n")


def _header(evidence: Evidence) -> Html:
    said = f"{evidence.source[0].upper()}{evidence.source[1:]}"
    return node("header", node("p", said, css="eyebrow"), node("h1", TITLE), facts(data_facts(evidence.data)))


def _sections(evidence: Evidence) -> Mapping[str, Html]:
    warnings = warnings_list(evidence)
    sections = {"warnings": Html("") if warnings is None else section("warnings", "Warnings", warnings)}
    if not evidence.models:
        none = node("p", "No loss has a result yet.")
        return sections | {"runs": _runs(evidence, none), "provenance": _provenance(evidence)}
    return sections | {
        "results": section(
            "results",
            "Results",
            main_table(evidence),
            node("p", f"n: {evidence.counts()}. Source: {evidence.source}.", css="origin"),
            lead="Test split, most bits first. Left of the bits the documented numbers of the .5 threshold.",
        ),
        "documented": section("documented", "Documented numbers", documented_table(evidence)),
        "comparison": _comparison(evidence),
        "baselines": _baselines(evidence),
        "film": film_section(evidence),
        "horizons": horizon_section(evidence),
        "calibration": calibration_section(evidence),
        "steps": steps_section(evidence),
        "cost": cost_section(evidence),
        "audit": _audit(evidence),
        "training": training_section(evidence),
        "runs": _runs(evidence),
        "provenance": _provenance(evidence),
    }


def _comparison(evidence: Evidence) -> Html:
    parts = []
    for result in evidence.results:
        if (result.content.get("comparison") or {}).get("pairs"):
            sentence = node("p", ranking_sentence(result))
            parts.append(join([_title(result), sentence, pairs_table(result)]))
    lead = "Differences on the same resamples of the test groups; p adjusted after Holm."
    return section("comparison", "Comparison", *parts, lead=lead) if parts else Html("")


def _baselines(evidence: Evidence) -> Html:
    parts = [
        join([_title(result), baselines_table(result)])
        for result in evidence.results
        if result.content.get("baselines")
    ]
    lead = "Fitted on train, tuned on val, judged on test. MDE: cells from the likeliest cell to the gaze."
    return section("baselines", "Baselines", *parts, lead=lead) if parts else Html("")


def _audit(evidence: Evidence) -> Html:
    audits = audits_of(evidence.first)
    names = tuple(dict.fromkeys(model.name for model in evidence.models))
    return section(
        "audit",
        "Loss audit",
        node("p", summary_sentence(audits, names)),
        constant_plots(evidence, audits),
        audit_tables(audits, int(evidence.data["img_size"])),
        lead="Computed from the losses, with the settings of this comparison: what they say of maps.",
    )


def _runs(evidence: Evidence, *more: Html) -> Html:
    parts = [
        join([_title(result), losses_table(result), node("h3", "Runs"), runs_table(result)])
        for result in evidence.results
    ]
    return section("runs", "Losses and runs", *more, *parts)


def _provenance(evidence: Evidence) -> Html:
    parts = [
        join([node("p", str(result.path), css="origin"), provenance(result)]) for result in evidence.results
    ]
    return section("provenance", "Provenance", *parts)


def _title(result: Result) -> Html:
    return node("h3", result.label) if result.label else Html("")
