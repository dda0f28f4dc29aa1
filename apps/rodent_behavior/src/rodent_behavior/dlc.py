"""Keypoint tables of DeepLabCut: csv of one or several animals, h5, hand labels, and flat csv."""

from __future__ import annotations

import csv
import difflib
import importlib
import itertools
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from common.config import UserError

DEFAULT_KP_NAMES = ("mouth", "tail_base", "l_frontpaw", "r_frontpaw", "l_hindpaw", "r_hindpaw")
HEADER_ROWS = ("scorer", "individuals", "bodyparts", "coords")
COORDS = ("x", "y", "likelihood")
INDEX_NAMES = ("", "frame", "frames", "index")

_LEFT = {
    "l_frontpaw": (
        "l_frontpaw", "lfrontpaw", "lf", "lfp", "left_front", "leftfront", "left_front_paw", "left_frontpaw",
        "leftfrontpaw", "front_paw_l", "frontpaw_l", "left_forepaw", "l_forepaw", "forepaw_l",
    ),
    "l_hindpaw": (
        "l_hindpaw", "lhindpaw", "lh", "lhp", "left_hind", "lefthind", "left_hind_paw", "left_hindpaw",
        "lefthindpaw", "hind_paw_l", "hindpaw_l", "left_back", "leftback", "left_backpaw",
    ),
}  # fmt: skip


def _mirrored(name: str) -> str:
    if "left" in name:
        return name.replace("left", "right")
    return name[:-1] + "r" if name.endswith("_l") else "r" + name[1:]


ALIASES: dict[str, tuple[str, ...]] = {
    "mouth": ("mouth", "snout", "nose"),
    "tail_base": (
        "tail_base", "tailbase", "base_of_tail", "tail_root", "proximal_tail", "butt_proximal_tail",
    ),
    **_LEFT,
    **{_mirrored(name): tuple(map(_mirrored, words)) for name, words in _LEFT.items()},
}  # fmt: skip
"""Names in files for each of our points; a bare `tail` is none of them: files carry it beside `tailbase`."""


@dataclass(frozen=True, eq=False)
class PoseTable:
    """Points `names` of one animal: xy float64 [T, K, 2] in pixels and likelihood float64 [T, K].

    Missing coordinates are NaN. `individuals` are those of the file, empty when it names none.
    """

    names: tuple[str, ...]
    xy: NDArray[np.float64]
    likelihood: NDArray[np.float64]
    scorer: str
    individuals: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.xy)


class _Column(NamedTuple):
    individual: str
    part: str
    coord: str


@dataclass(frozen=True, eq=False)
class _Table:
    """A keypoint file before points are chosen; `numbers` reads the given columns as float64 [T, n]."""

    path: Path
    scorer: str
    columns: dict[int, _Column]
    index: Callable[[], Sequence[object]]
    numbers: Callable[[Sequence[int]], NDArray[np.float64]]
    first_row: int
    has_individuals: bool = False


def normalise_name(name: str) -> str:
    """Return a body part in lower case, trimmed, with runs of space, `-`, `/` and `.` as one `_`."""
    return re.sub(r"[\s\-/.]+", "_", name.strip().lower())


def read_dlc(
    path: Path,
    kp_names: Sequence[str],
    *,
    aliases: Mapping[str, str] | None = None,
    individual: str | None = None,
) -> PoseTable:
    """Read the points `kp_names` of one animal, in this order.

    Names match exactly after `normalise_name`, through `aliases` {name in the file: point} (which replace the
    built-in ones of their points) or through `ALIASES`. UserError names the file and: a missing or doubled
    point, text in a number cell with row and column, frame numbers that are not 0..T-1, the individuals to
    choose from, or the packages an h5 file needs.
    """
    table = _read_h5(path) if path.suffix.lower() == ".h5" else _read_csv(path)
    names = tuple(normalise_name(name) for name in kp_names)
    individuals = tuple(dict.fromkeys(column.individual for column in table.columns.values()))
    if not table.has_individuals:
        individuals = ()
    chosen = _individual(path, individuals, individual)
    parts = _parts(table, chosen)
    found = _match(path, list(parts), names, aliases or {})
    hand_labelled = all("likelihood" not in coords for coords in parts.values())
    if not hand_labelled:
        _check_index(table)
    xy = np.stack(
        [table.numbers([parts[found[name]][axis] for name in names]) for axis in ("x", "y")], axis=-1
    )
    if hand_labelled:
        likelihood = np.asarray(np.isfinite(xy).all(axis=-1), dtype=np.float64)
    else:
        likelihood = table.numbers([_coord(path, parts, found[name], "likelihood") for name in names])
    return PoseTable(names, xy, likelihood, table.scorer, individuals)


def _individual(path: Path, individuals: tuple[str, ...], wanted: str | None) -> str:
    if wanted is not None and wanted not in individuals:
        listed = ", ".join(individuals) or "none named"
        raise UserError(f"{path}: --individual {wanted} is not in the file; its individuals: {listed}")
    if wanted is None and len(individuals) > 1:
        raise UserError(
            f"{path}: several individuals: {', '.join(individuals)}; choose one with --individual"
        )
    return wanted or (individuals[0] if individuals else "")


def _parts(table: _Table, individual: str) -> dict[str, dict[str, int]]:
    """Return column numbers by body part and coordinate, complete in x and y."""
    parts: dict[str, dict[str, int]] = {}
    for number, column in table.columns.items():
        if column.individual == individual:
            coords = parts.setdefault(column.part, {})
            if column.coord in coords:
                raise UserError(f"{table.path}: two columns hold {column.coord} of {column.part}")
            coords[column.coord] = number
    for part in parts:
        for axis in ("x", "y"):
            _coord(table.path, parts, part, axis)
    return parts


def _coord(path: Path, parts: Mapping[str, Mapping[str, int]], part: str, coord: str) -> int:
    if coord not in parts[part]:
        raise UserError(f"{path}: no column holds {coord} of {part}")
    return parts[part][coord]


def _match(
    path: Path, parts: Sequence[str], names: Sequence[str], aliases: Mapping[str, str]
) -> dict[str, str]:
    """Return the part of the file for each point."""
    typed = {normalise_name(part): normalise_name(name) for part, name in aliases.items()}
    found: dict[str, str] = {}
    for part in parts:
        name = point_of(normalise_name(part), names, typed)
        if name is None:
            continue
        if name in found:
            raise UserError(f"{path}: {found[name]!r} and {part!r} both mean {name}; see --kp_alias")
        found[name] = part
    missing = [name for name in names if name not in found]
    if missing:
        near = sorted({word for name in missing for word in _near(name, parts)})
        raise UserError(
            f"{path}: no column for {', '.join(missing)}; wanted {', '.join(names)}; the file has "
            f"{', '.join(parts)}; near names: {', '.join(near) or 'none'}. "
            "--kp_alias NAME_IN_FILE=kp_name maps one"
        )
    return found


def point_of(part: str, names: Sequence[str], typed: Mapping[str, str]) -> str | None:
    """Return which of `names` the body part stands for: what `typed` {part: name} says, or else `ALIASES`.

    All are names as `normalise_name` returns them; None when the part stands for none.
    """
    if part in typed:
        return typed[part] if typed[part] in names else None
    left = [name for name in names if name not in typed.values()]
    if part in left:
        return part
    return next((name for name in left if part in ALIASES.get(name, ())), None)


def _near(name: str, parts: Sequence[str]) -> list[str]:
    by_name = {normalise_name(part): part for part in parts}
    return [by_name[word] for word in difflib.get_close_matches(name, list(by_name), n=3)]


def _check_index(table: _Table) -> None:
    for expected, value in enumerate(table.index()):
        if _frame_number(value) != expected:
            row = table.first_row + expected
            raise UserError(f"{table.path}: row {row}: frame {value!r}, {expected} is expected")


def _frame_number(value: object) -> float:
    try:
        return float(value)  # type: ignore[arg-type]  # h5 indices may hold anything
    except (TypeError, ValueError):
        return math.nan


def _read_csv(path: Path) -> _Table:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = [row for row in csv.reader(file) if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: cannot be read as a table: {error}") from error
    if not rows:
        raise UserError(f"{path}: empty")
    head = list(itertools.takewhile(lambda row: row[0].strip().lower() in HEADER_ROWS, rows[:4]))
    kinds = [row[0].strip().lower() for row in head]
    if kinds in (list(HEADER_ROWS), [kind for kind in HEADER_ROWS if kind != "individuals"]):
        return _dlc_csv(path, rows, dict(zip(kinds, head)))
    if kinds:
        raise UserError(
            f"{path}: header rows {', '.join(kinds)}; scorer, [individuals], bodyparts, coords are expected"
        )
    return _flat_csv(path, rows)


def _dlc_csv(path: Path, rows: list[list[str]], head: Mapping[str, list[str]]) -> _Table:
    parts, coords, body = head["bodyparts"], head["coords"], rows[len(head) :]
    first = next((column for column in range(1, len(parts)) if parts[column].strip()), len(parts))
    widths = {len(row) for row in head.values()}
    if len(widths) > 1 or first == len(parts):
        raise UserError(f"{path}: the header rows hold {sorted(widths)} cells, no complete list of points")
    animals = head.get("individuals", [""] * len(parts))
    columns = {
        column: _Column(animals[column].strip(), parts[column].strip(), coords[column].strip().lower())
        for column in range(first, len(parts))
    }
    _check_widths(path, body, len(parts), len(head) + 1)
    return _csv_table(path, head["scorer"][first].strip(), columns, body, len(head), "individuals" in head)


def _flat_csv(path: Path, rows: list[list[str]]) -> _Table:
    header = [name.strip() for name in rows[0]]
    split = {column: name.rpartition("_") for column, name in enumerate(header)}
    complete = {part for part, _, coord in split.values() if coord == "x" and f"{part}_y" in header}
    columns = {
        column: _Column("", part, coord)
        for column, (part, _, coord) in split.items()
        if coord in COORDS and part in complete
    }
    if not columns:
        raise UserError(
            f"{path}: neither the header rows scorer, bodyparts, coords nor columns <part>_x, <part>_y"
        )
    _check_widths(path, rows[1:], len(header), 2)
    indexed = header[0].lower() in INDEX_NAMES
    return _csv_table(path, "", columns, rows[1:], 1, False, indexed=indexed)


def _csv_table(
    path: Path,
    scorer: str,
    columns: dict[int, _Column],
    body: list[list[str]],
    header_rows: int,
    has_individuals: bool,
    *,
    indexed: bool = True,
) -> _Table:
    def index() -> Sequence[object]:
        return [row[0] for row in body] if indexed else range(len(body))

    def numbers(wanted: Sequence[int]) -> NDArray[np.float64]:
        values = np.empty((len(body), len(wanted)))
        for place, column in enumerate(wanted):
            try:
                values[:, place] = [float(row[column] or "nan") for row in body]
            except ValueError:
                values[:, place] = [
                    _cell(path, row[column], header_rows + 1 + number, columns[column])
                    for number, row in enumerate(body)
                ]
        return values

    return _Table(path, scorer, columns, index, numbers, header_rows + 1, has_individuals)


def _cell(path: Path, text: str, row: int, column: _Column) -> float:
    try:
        return float(text.strip() or "nan")
    except ValueError:
        raise UserError(
            f"{path}: row {row}, column {column.part} {column.coord}: {text!r} is no number"
        ) from None


def _check_widths(path: Path, body: Sequence[Sequence[str]], width: int, first_row: int) -> None:
    for number, row in enumerate(body):
        if len(row) != width:
            raise UserError(f"{path}: row {first_row + number}: {len(row)} cells, the header has {width}")


def _read_h5(path: Path) -> _Table:
    frame = _only_frame(path, _pandas(path))
    levels = list(frame.columns.names)
    if not {"scorer", "bodyparts", "coords"} <= set(levels) <= set(HEADER_ROWS):
        raise UserError(
            f"{path}: column levels {levels}; scorer, [individuals], bodyparts, coords are expected"
        )
    place = {name: levels.index(name) for name in levels}
    keys = [tuple(map(str, key)) for key in frame.columns]
    columns = {
        number: _Column(
            key[place["individuals"]] if "individuals" in place else "",
            key[place["bodyparts"]].strip(),
            key[place["coords"]].strip().lower(),
        )
        for number, key in enumerate(keys)
    }
    values = np.asarray(frame.to_numpy(), dtype=np.float64)
    return _Table(
        path, keys[0][place["scorer"]], columns, lambda: list(frame.index),
        lambda wanted: values[:, list(wanted)], 0, "individuals" in place,
    )  # fmt: skip


def _pandas(path: Path) -> ModuleType:
    try:
        importlib.import_module("tables")
        return importlib.import_module("pandas")
    except ImportError as error:
        beside = path.with_suffix(".csv")
        instead = f"; {beside.name} beside it can be read without" if beside.is_file() else ""
        raise UserError(f"{path}: reading h5 needs the extra [h5] (pandas and tables){instead}") from error


def _only_frame(path: Path, pandas: ModuleType) -> Any:
    try:
        with pandas.HDFStore(str(path), mode="r") as store:
            frames = [store[key] for key in store.keys()]  # noqa: SIM118 - a store, not a dict
    except (OSError, RuntimeError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise UserError(f"{path}: cannot be read as h5: {str(error).splitlines()[-1]}") from error
    tables = [frame for frame in frames if getattr(getattr(frame, "columns", None), "nlevels", 1) > 1]
    if len(tables) != 1:
        raise UserError(f"{path}: {len(tables)} tables of points; one is expected")
    return tables[0]
