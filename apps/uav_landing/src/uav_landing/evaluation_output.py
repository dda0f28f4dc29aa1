"""What an evaluation says: every number with its interval, as lines on the console and as JSON."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common.config import writing
from common.engine.manifest import library_versions
from uav_landing.evaluation_data import JudgedPhotos
from uav_landing.judging import (
    AIRWORTHINESS,
    CLASS_COLUMNS,
    Judged,
    class_rows,
    fine_rows,
    summary_rows,
)
from uav_landing.metrics import landing_metrics, summary_metrics
from uav_landing.predictor import PhotoPredictor
from uav_landing.rebuild import Trained
from uav_landing.task import class_line

SCHEMA = 1

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
    content: dict[str, Any] = _plain(
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
    return content


def _photo_rows(judged: Judged) -> Iterator[dict[str, Any]]:
    for photo, group, matrix in zip(judged.ids, judged.groups, judged.matrices, strict=True):
        numbers = summary_metrics(matrix)
        chosen = {name: float(numbers[name]) for name in ("danger_as_safe", "false_safe", "miou_landing")}
        yield {"id": photo, "group": group, **chosen}


def _flat_metrics(verdict: Verdict) -> Iterator[tuple[str, Row]]:
    """Yield (name, {value, low, high}) of every metric; those without an interval come first."""
    for name, value in landing_metrics(verdict.judged.total).items():
        yield name, {"value": value, "low": None, "high": None}
    for row in verdict.summary:
        yield row["name"], _numbers(row)
    for row in verdict.classes:
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
    with writing(f"--json {path}"):
        path.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")
