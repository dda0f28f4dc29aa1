"""The report of an evaluation: one self-contained page with tables, matrix and the worst photos."""

from __future__ import annotations

import tempfile
from pathlib import Path

from common.config import writing
from common.engine.logging import EventLog
from common.reporting.classes import confusion_section, per_class_section
from common.reporting.html import Html, join, node, page
from common.reporting.overview import summary_section
from common.reporting.provenance import provenance_section
from common.reporting.run_data import RunData, read_run
from common.reporting.samples import samples_section
from uav_landing.evaluation_data import JudgedPhotos
from uav_landing.evaluation_output import Verdict
from uav_landing.judging import AIRWORTHINESS, write_judgement, write_samples
from uav_landing.rebuild import Trained

FINE_COLUMNS = ("Pixels", "Objects")


def write_html(
    path: Path,
    verdict: Verdict,
    trained: Trained,
    photos: JudgedPhotos,
    settings: str,
) -> None:
    """Write the report, one self-contained page with the worst photos; `settings` is YAML text.

    UserError when the file cannot be written.
    """
    with tempfile.TemporaryDirectory(prefix="evaluation-") as name:
        folder = Path(name)
        (folder / "config.yaml").write_text(settings, encoding="utf-8")
        with EventLog(folder / "events.jsonl") as events:
            _write_events(events, folder, verdict, trained, photos)
        text = page(
            f"Evaluation of {trained.run_folder.name}", _body(read_run(folder), verdict, trained, photos)
        )
    with writing(f"--html {path}"):
        path.write_text(text, encoding="utf-8")


def _write_events(
    events: EventLog,
    folder: Path,
    verdict: Verdict,
    trained: Trained,
    photos: JudgedPhotos,
) -> None:
    judged, split, place = verdict.judged, verdict.split, (trained.step, trained.epoch)
    write_judgement(
        events, judged, split, step=trained.step, epoch=trained.epoch, resamples=verdict.resamples
    )
    if verdict.fine:
        names = [f"{row['name']} ({row['objects']} objects)" for row in verdict.fine]
        rows = [{**row, "id": name, "name": name} for name, row in zip(names, verdict.fine, strict=True)]
        title = f"{split}, dangerous classes: share called danger"
        events.write("per_class", *place, {"split": title, "columns": FINE_COLUMNS, "rows": rows})
    worst = write_samples(folder, photos.dataset, judged)
    title = "Photos with most danger called safe: photo, truth, prediction"
    events.write("samples", *place, {"split": split, "title": title, "items": worst})


def _body(run: RunData, verdict: Verdict, trained: Trained, photos: JudgedPhotos) -> Html:
    judged = verdict.judged
    lead = (
        f"Split {verdict.split} ({photos.how}), {photos.photos.format}; photos {len(judged.ids)}, "
        f"groups {len(set(judged.groups))}; checkpoint of epoch {trained.epoch}, step {trained.step:,}."
    )
    header = node(
        "header",
        node("p", "Evaluation report", css="eyebrow"),
        node("h1", trained.run_folder.name),
        node("p", lead, css="lead"),
        *(node("p", f"Note: {remark}.") for remark in photos.remarks),
        node("p", AIRWORTHINESS),
    )
    sections = (
        summary_section(run),
        per_class_section(run),
        confusion_section(run),
        samples_section(run),
        provenance_section(run),
    )
    return join([header, *(part for part in sections if part is not None)], "\n")
