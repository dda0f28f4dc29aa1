"""What an evaluation says: lines on the console, a JSON file, a report."""

from __future__ import annotations

import json
import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.config import UserError
from common.engine.logging import EventLog
from common.engine.manifest import library_versions
from common.reporting.classes import confusion_section, per_class_section
from common.reporting.html import Html, join, node, page
from common.reporting.overview import summary_section
from common.reporting.provenance import provenance_section
from common.reporting.run_data import RunData, read_run
from common.reporting.samples import samples_section
from uav_landing.evaluation_data import JudgedPhotos
from uav_landing.judging import (
    AIRWORTHINESS,
    CLASS_COLUMNS,
    Judged,
    class_rows,
    fine_rows,
    summary_rows,
    write_judgement,
    write_worst,
)
from uav_landing.labels import LANDING_NAMES
from uav_landing.metrics import landing_metrics, summary_metrics
from uav_landing.predictor import PhotoPredictor
from uav_landing.rebuild import Trained
from uav_landing.task import class_line

SCHEMA = 1
FINE_COLUMNS = ("Pixels", "Objects")

Row = Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """Every number of an evaluation, each with its interval: rows of metrics, classes, dangerous classes."""

    split: str
    resamples: int
    judged: Judged
    summary: list[dict[str, Any]]
    classes: list[dict[str, Any]]
    fine: list[dict[str, Any]]


def weigh(judged: Judged, photos: JudgedPhotos, split: str, resamples: int) -> Verdict:
    """Compute the numbers and their intervals over groups of photos."""
    return Verdict(
        split=split,
        resamples=resamples,
        judged=judged,
        summary=summary_rows(judged, resamples=resamples),
        classes=class_rows(judged, resamples=resamples),
        fine=fine_rows(judged, photos.photos.table, resamples=resamples),
    )


def console_lines(verdict: Verdict) -> list[str]:
    """Return the four class lines, the tables with intervals and the headline numbers, danger first."""
    judged = verdict.judged
    metrics = landing_metrics(judged.total)
    lines = [class_line(index, metrics, ignored=index not in judged.class_ids) for index in range(4)]
    heads = ["class", "pixels", *CLASS_COLUMNS]
    rows = [
        [f"{row['id']} {row['name']}", f"{row['support']:,}", *(_cell(row[name]) for name in CLASS_COLUMNS)]
        for row in verdict.classes
    ]
    lines += ["", *_aligned([heads, *rows])]
    if verdict.fine:
        heads = ["dangerous class", "pixels", "called danger", "objects", "found"]
        rows = [
            [
                row["name"],
                f"{row['support']:,}",
                _cell(row["Pixels"]),
                f"{row['objects']:,}",
                _cell(row["Objects"]),
            ]
            for row in verdict.fine
        ]
        lines += ["", *_aligned([heads, *rows])]
    lines += ["", *_aligned([[row["name"], _cell(row), row["note"]] for row in verdict.summary], left={0, 2})]
    return [*lines, "", AIRWORTHINESS]


def _cell(numbers: Row) -> str:
    """Return `0.803 [0.741, 0.850]`, without brackets where there is no interval, `n/a` where no number."""
    value, low, high = (numbers[key] for key in ("value", "low", "high"))
    if math.isnan(value):
        return "n/a"
    return f"{value:.3f}" if math.isnan(low) else f"{value:.3f} [{low:.3f}, {high:.3f}]"


def _aligned(rows: Sequence[Sequence[str]], left: set[int] | None = None) -> list[str]:
    """Return the rows as columns three spaces apart; the first one (or those of `left`) is set left."""
    leftward = {0} if left is None else left
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    return [
        "   ".join(
            cell.ljust(widths[place]) if place in leftward else cell.rjust(widths[place])
            for place, cell in enumerate(row)
        ).rstrip()
        for row in rows
    ]


def result(
    verdict: Verdict, trained: Trained, photos: JudgedPhotos, predictor: PhotoPredictor
) -> dict[str, Any]:
    """Return everything as JSON types: numbers that are undefined are None."""
    table, judged = photos.photos.table, verdict.judged
    return _plain(
        {
            "schema": SCHEMA,
            "checkpoint": trained.summary(),
            "data": {
                "format": photos.photos.format,
                "label_table": table.name,
                "table_hash": table.table_hash,
                "mapping_hash": table.mapping_hash,
                "fingerprint": photos.store.fingerprint,
                "store_scale": photos.store.scale,
            },
            "split": {"name": verdict.split, "how": photos.how, "remarks": list(photos.remarks)},
            "settings": {
                "tile": list(predictor.tile),
                "overlap": predictor.overlap,
                "tta": predictor.tta,
                "bootstrap": verdict.resamples,
                "level": 0.95,
            },
            "photos": list(_photo_rows(judged)),
            "groups": len(set(judged.groups)),
            "metrics": dict(_flat_metrics(verdict)),
            "classes": verdict.classes,
            "fine": verdict.fine,
            "confusion": judged.total.tolist(),
            "note": AIRWORTHINESS,
            "versions": library_versions(),
        }
    )


def _photo_rows(judged: Judged) -> Iterator[dict[str, Any]]:
    for photo, group, matrix in zip(judged.ids, judged.groups, judged.matrices, strict=True):
        numbers = summary_metrics(matrix)
        chosen = {name: float(numbers[name]) for name in ("danger_as_safe", "false_safe", "miou_landing")}
        yield {"id": photo, "group": group, **chosen}


def _flat_metrics(verdict: Verdict) -> Iterator[tuple[str, Row]]:
    """Yield (name, {value, low, high}) of every metric; supports are counts without an interval."""
    for row in verdict.summary:
        yield row["name"], _numbers(row)
    for row in verdict.classes:
        yield f"class_{row['id']}_support", {"value": row["support"], "low": None, "high": None}
        for title, key in CLASS_COLUMNS.items():
            yield f"class_{row['id']}_{key}", _numbers(row[title])
    for row in verdict.fine:
        yield f"recall_{row['name']}", _numbers(row["Pixels"])
        yield f"recall_{row['name']}_objects", _numbers(row["Objects"])


def _numbers(row: Row) -> Row:
    return {key: row[key] for key in ("value", "low", "high")}


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write the result; UserError when the file cannot be written."""
    try:
        path.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    except OSError as error:
        raise UserError(f"--json {path}: cannot be written: {error.strerror or error}") from error


def write_html(
    path: Path,
    verdict: Verdict,
    trained: Trained,
    photos: JudgedPhotos,
    predictor: PhotoPredictor,
    settings: str,
) -> None:
    """Write the report, one self-contained page with the worst photos; `settings` is YAML text.

    UserError when the file cannot be written.
    """
    with tempfile.TemporaryDirectory(prefix="evaluation-") as name:
        folder = Path(name)
        (folder / "config.yaml").write_text(settings, encoding="utf-8")
        with EventLog(folder / "events.jsonl") as events:
            _write_events(events, folder, verdict, trained, photos, predictor)
        text = page(
            f"Evaluation of {trained.run_folder.name}", _body(read_run(folder), verdict, trained, photos)
        )
    try:
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise UserError(f"--html {path}: cannot be written: {error.strerror or error}") from error


def _write_events(
    events: EventLog,
    folder: Path,
    verdict: Verdict,
    trained: Trained,
    photos: JudgedPhotos,
    predictor: PhotoPredictor,
) -> None:
    judged, split, place = verdict.judged, verdict.split, (trained.step, trained.epoch)
    write_judgement(
        events, judged, split, step=trained.step, epoch=trained.epoch, resamples=verdict.resamples
    )
    if verdict.fine:
        rows = [
            {**row, "id": row["name"], "name": f"{row['name']} ({row['objects']} objects)"}
            for row in verdict.fine
        ]
        title = f"{split}, dangerous classes: share called danger"
        events.write("per_class", *place, {"split": title, "columns": FINE_COLUMNS, "rows": rows})
    worst = write_worst(folder, predictor, photos.dataset, judged, trained.class_ids)
    title = "Photos with most danger called safe: photo, truth, prediction"
    events.write("samples", *place, {"split": split, "title": title, "items": worst})


def _body(run: RunData, verdict: Verdict, trained: Trained, photos: JudgedPhotos) -> Html:
    judged = verdict.judged
    lead = (
        f"{len(judged.ids)} photos in {len(set(judged.groups))} groups, split {verdict.split} ({photos.how}), "
        f"{photos.photos.format}, checkpoint of epoch {trained.epoch}, step {trained.step:,}."
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
