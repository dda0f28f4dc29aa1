"""Positions given trial by trial, for recordings whose trials are no equal slots."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from common.config import UserError
from rodent_behavior.layout import LabelFile

COLUMNS = ("video", "trial", "start", "rows", "group")


@dataclass(frozen=True)
class ManifestRow:
    """One trial: first frame in the video, label rows, group of the split; None where the cell is empty."""

    row: int
    start: int | None
    rows: int | None
    group: str | None


Manifest = Mapping[tuple[str, int], ManifestRow]


def read_manifest(path: Path, labels: Iterable[LabelFile]) -> Manifest:
    """Read a csv `video,trial,start,rows,group` by (stem, trial); group may be left out.

    `video` is written as in the label files or without its suffix. UserError names the row of a missing
    column, a value that is no number, a trial without label file, or one listed twice.
    """
    header, lines = _lines(path)
    stems = {name: label.stem for label in labels for name in (label.video, label.stem)}
    known = {(label.stem, label.trial) for label in labels}
    found: dict[tuple[str, int], ManifestRow] = {}
    for number, cells in lines:
        values = dict(zip(header, (cell.strip() for cell in cells)))
        trial = _whole(path, number, "trial", values["trial"])
        key = (stems.get(values["video"], values["video"]), trial or 0)
        if key not in known:
            raise UserError(f"{path}: row {number}: no label file for video {values['video']} trial {trial}")
        if key in found:
            raise UserError(
                f"{path}: rows {found[key].row} and {number} both describe {key[0]} trial {trial}"
            )
        start, rows = (_whole(path, number, name, values[name]) for name in ("start", "rows"))
        found[key] = ManifestRow(number, start, rows, values.get("group") or None)
    return found


def _lines(path: Path) -> tuple[list[str], list[tuple[int, list[str]]]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = [
                (number, row) for number, row in enumerate(csv.reader(file), 1) if any(map(str.strip, row))
            ]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"--manifest {path}: {error}") from error
    header = [name.strip().lower() for name in lines[0][1]] if lines else []
    missing = [name for name in COLUMNS[:4] if name not in header]
    if missing or len(set(header)) < len(header):
        raise UserError(f"--manifest {path}: the columns {', '.join(COLUMNS)} are expected, not {header}")
    for number, row in lines[1:]:
        if len(row) != len(header):
            raise UserError(f"{path}: row {number}: {len(row)} cells, the header has {len(header)}")
    return header, lines[1:]


def _whole(path: Path, number: int, name: str, text: str) -> int | None:
    if not text:
        return None
    if not (text.isascii() and text.isdigit()):
        raise UserError(f"{path}: row {number}: {name} {text!r} is no whole number >= 0")
    return int(text)
