"""The analyzer's JSON and CSV files."""

from __future__ import annotations

import csv
import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from common.statistics import Shares
from uav_landing.analysis import Analysis, ClassTable, Estimate, Unmapped
from uav_landing.labels import LANDING_NAMES

MOST_UNMAPPED = 256
"""A photographed or compressed colour mask holds hundreds of thousands of foreign colours."""


def write_json(path: Path, analysis: Analysis) -> None:
    """Write every number of the analysis; what is undefined is null. OSError when that fails."""
    path.write_text(json.dumps(as_dict(analysis), indent=2, allow_nan=False) + "\n", encoding="utf-8")


def write_csv(path: Path, analysis: Analysis) -> None:
    """Write one row per fine id of the label table, share in 0..1. OSError when that fails."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("id", "name", "landing", "pixels", "share", "images"))
        for item in sorted(analysis.photos.table.classes, key=lambda item: item.id):
            pixels = int(analysis.fine[item.id])
            images = int(analysis.fine_images[item.id])
            row = (item.id, item.name, item.landing, pixels, pixels / analysis.pixels, images)
            writer.writerow(row)


def as_dict(analysis: Analysis) -> dict[str, Any]:
    """Return the analysis in plain types. Shares are in 0..1 and those of mapped classes sum to 1."""
    photos, void = analysis.photos, analysis.void
    return {
        "dataset": str(photos.root),
        "format": photos.format,
        "split": analysis.split,
        "files_total": len(photos.ids),
        "files_used": len(analysis.ids),
        "seed": analysis.seed,
        "bootstrap": analysis.bootstrap,
        "pixels": analysis.pixels,
        "ignored_pixels": analysis.ignored,
        "unmapped_pixels": sum(item.pixels for item in analysis.unmapped),
        "original": _original(analysis),
        "mapped": _mapped(analysis.with_void),
        "ratio": analysis.with_void.ratio,
        "ratio_without_void": None if analysis.without_void is None else analysis.without_void.ratio,
        "weights": _weights(analysis),
        "void": {
            "pixels": void.pixels,
            "images": void.photos,
            "components": void.components,
            "share_near_edge": void.share_near_edge,
            "share_near_edge_by_image": void.share_by_photo,
            "median_component": void.median_component,
            "median_component_by_image": void.median_by_photo,
            "median_component_at_1280": void.median_at_1280,
            "verdict": void.verdict,
        },
        "unmapped": [_unmapped(item, analysis) for item in analysis.unmapped[:MOST_UNMAPPED]],
        "unmapped_values": len(analysis.unmapped),
        "table_hash": photos.table.table_hash,
        "mapping_hash": photos.table.mapping_hash,
    }


def _original(analysis: Analysis) -> list[dict[str, Any]]:
    return [
        {
            "id": item.id,
            "name": item.name,
            "landing": item.landing,
            "pixels": int(analysis.fine[item.id]),
            "share": int(analysis.fine[item.id]) / analysis.pixels,
            "images": int(analysis.fine_images[item.id]),
        }
        for item in analysis.by_frequency()
    ]


def _mapped(table: ClassTable) -> list[dict[str, Any]]:
    intervals = _intervals(table.shares)
    images = table.statistics.presence_counts
    return [
        {
            "id": index,
            "name": LANDING_NAMES[index],
            "pixels": int(table.statistics.counts[index]),
            "share": float(table.shares.value[index]),
            "ci95": None if intervals is None else intervals[index],
            "images": int(images[index]),
        }
        for index in table.class_ids
    ]


def _weights(analysis: Analysis) -> dict[str, Any]:
    tables = {"4": analysis.with_void, "3": analysis.without_void}
    return {
        scheme: {
            **{
                key: None if table is None else _plain(table.weights[scheme].value)
                for key, table in tables.items()
            },
            "ci95": {
                key: None if table is None else _intervals(table.weights[scheme])
                for key, table in tables.items()
            },
        }
        for scheme in analysis.with_void.weights
    }


def _unmapped(item: Unmapped, analysis: Analysis) -> dict[str, Any]:
    return {
        "value": item.value,
        "pixels": item.pixels,
        "share": item.pixels / analysis.pixels,
        "files": [str(path.relative_to(analysis.photos.root)) for path in item.files],
    }


def _intervals(estimate: Estimate) -> list[list[float | None]] | None:
    """Return [low, high] per class, or None when there are no intervals at all."""
    if np.isnan(estimate.low).all():
        return None
    return [list(pair) for pair in zip(_plain(estimate.low), _plain(estimate.high))]


def _plain(values: Shares) -> list[float | None]:
    return [float(value) if math.isfinite(value) else None for value in values]
