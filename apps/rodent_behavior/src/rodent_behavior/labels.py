"""Behaviour ids of label files, the merged classes that are trained, and the reader of label files."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import yaml
from numpy.typing import NDArray

from common.config import UserError

UNKNOWN = -1
DEFAULT_STIM_FRAME = 60
STIM_COLUMNS = ("stimframe", "stim_frame", "stimstart", "laseron", "stim")
MAP_KEYS = ("classes", "background", "raw", "ignore")

Actions = NDArray[np.int64]


class Bout(NamedTuple):
    """A maximal run of one class, rows `start` to `stop` - 1."""

    start: int
    stop: int
    label: int


@dataclass(frozen=True)
class LabelMap:
    """Raw ids of label files and the merged classes they belong to.

    `names` are the merged classes in the order of their ids, `background` the merged id that is no event,
    `raw` maps raw to merged ids, `raw_names` raw ids to the words accepted in their place, `export` merged
    to raw ids, `ignore` lists raw ids that mean an unknown frame. ValueError when the fields disagree.
    """

    names: tuple[str, ...]
    background: int
    raw: dict[int, int]
    raw_names: dict[int, str]
    export: tuple[int, ...]
    ignore: tuple[int, ...] = (UNKNOWN,)

    def __post_init__(self) -> None:
        classes = range(len(self.names))
        if len(set(self.names)) != len(self.names) or len(self.names) < 2:
            raise ValueError(f"names {list(self.names)}: two or more different classes are expected")
        if self.background not in classes or set(self.raw.values()) != set(classes):
            raise ValueError(
                f"raw {self.raw} and background {self.background} must use every class of {classes}"
            )
        if [self.raw.get(raw) for raw in self.export] != list(classes) or set(self.raw_names) != set(
            self.raw
        ):
            raise ValueError("export and raw_names must agree with raw")
        if set(self.ignore) & set(self.raw):
            raise ValueError(f"ignore {list(self.ignore)} names an id of raw {sorted(self.raw)}")

    @classmethod
    def default(cls) -> LabelMap:
        """Return the eight ids of the pain assay merged to six classes."""
        return cls(
            names=("rest", "paw_withdraw", "paw_lick", "paw_shake", "walk", "active"),
            background=0,
            raw={0: 0, 1: 1, 2: 2, 3: 1, 4: 3, 5: 1, 6: 4, 7: 5},
            raw_names=dict(enumerate(
                ("rest", "paw_withdraw", "paw_lick", "paw_guard", "paw_shake", "flinch", "walk", "active")
            )),
            export=(0, 1, 2, 4, 6, 7),
        )  # fmt: skip

    @classmethod
    def load(cls, path: Path) -> LabelMap:
        """Read YAML {classes: [names], background: name, raw: {id: name}, ignore: [ids]}.

        The lowest raw id of a class is the one exported, and the one its name stands for in label files.
        UserError names the file and what is wrong in it.
        """
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise UserError(f"--label_map {path}: {error}") from error
        try:
            return _from_yaml(content)
        except ValueError as error:
            raise UserError(f"--label_map {path}: {error}") from error

    @classmethod
    def from_dict(cls, content: dict[str, Any]) -> LabelMap:
        """Rebuild what `to_dict` returned."""
        return cls(
            names=tuple(content["names"]),
            background=content["background"],
            raw={int(raw): merged for raw, merged in content["raw"].items()},
            raw_names={int(raw): name for raw, name in content["raw_names"].items()},
            export=tuple(content["export"]),
            ignore=tuple(content["ignore"]),
        )

    def to_dict(self) -> dict[str, Any]:
        """Return plain types; raw ids become text keys, so that JSON keeps them."""
        return {
            "names": list(self.names),
            "background": self.background,
            "raw": {str(raw): merged for raw, merged in self.raw.items()},
            "raw_names": {str(raw): name for raw, name in self.raw_names.items()},
            "export": list(self.export),
            "ignore": list(self.ignore),
        }

    def merge(self, raw: Actions) -> Actions:
        """Return merged ids [N] of raw ids int64 [N], UNKNOWN where ignored; ValueError on an unmapped id."""
        table = self.raw | dict.fromkeys((*self.ignore, UNKNOWN), UNKNOWN)
        present, where = np.unique(raw, return_inverse=True)
        missing = [value for value in present.tolist() if value not in table]
        if missing:
            raise ValueError(f"id {missing[0]} is not mapped: {sorted(self.raw)} are")
        merged = np.array([table[value] for value in present.tolist()], dtype=np.int64)
        return merged[where] if len(present) else np.zeros(0, dtype=np.int64)


@dataclass(frozen=True, eq=False)
class Labels:
    """One label file: merged ids int64 [rows] or UNKNOWN, the first `Frame` value, the stimulus frame."""

    actions: Actions
    first_frame: int
    stim_frame: int

    @property
    def rows(self) -> int:
        """Number of label rows."""
        return len(self.actions)


def read_labels(path: Path, label_map: LabelMap) -> Labels:
    """Read a table with the columns Frame and Action (any case), one row per frame.

    Actions are ids or raw names; -1 or an empty cell is an unknown frame. UserError names the file, the row
    (counted as in a spreadsheet: the header is row 1), the column and the value of anything else, of a Frame
    that does not follow the one before, and of a missing column.
    """
    header, rows = _read_table(path)
    frame, action = _column(path, header, "frame"), _column(path, header, "action")
    words = {name.lower(): raw for raw, name in label_map.raw_names.items()}
    frames: list[int] = []
    raw: list[int] = []
    for number, row in rows:
        frames.append(_frame(path, number, row[frame], frames))
        raw.append(_action(path, number, row[action], label_map, words))
    if not rows:
        raise UserError(f"{path}: no row below the header")
    stim = _stim_frame(path, header, rows[0])
    return Labels(label_map.merge(np.array(raw, dtype=np.int64)), frames[0], stim)


def bouts(actions: Actions) -> list[Bout]:
    """Return the maximal runs of known classes in merged ids [N]."""
    if not len(actions):
        return []
    edges = np.flatnonzero(np.diff(actions)) + 1
    starts, stops = [0, *edges.tolist()], [*edges.tolist(), len(actions)]
    runs = [Bout(start, stop, int(actions[start])) for start, stop in zip(starts, stops)]
    return [run for run in runs if run.label != UNKNOWN]


def count_classes(parts: Iterable[Actions], num_classes: int) -> NDArray[np.int64]:
    """Return how many frames of each class [C] the merged ids of all parts hold."""
    counts = np.zeros(num_classes, dtype=np.int64)
    for actions in parts:
        counts += np.bincount(actions[actions != UNKNOWN], minlength=num_classes)
    return counts


def _from_yaml(content: object) -> LabelMap:
    if not isinstance(content, dict) or not {"classes", "background", "raw"} <= set(content):
        raise ValueError("{classes: [...], background: ..., raw: {id: class}, ignore: [ids]} is expected")
    unknown = sorted(map(str, set(content) - set(MAP_KEYS)))
    if unknown:
        raise ValueError(f"unknown keys: {', '.join(unknown)}")
    classes, raw, ignore = content["classes"], content["raw"], content.get("ignore", [UNKNOWN])
    if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
        raise ValueError("classes: a list of names is expected")
    if not isinstance(raw, dict) or not all(_is_id(key) and key >= 0 for key in raw):
        raise ValueError("raw: {id >= 0: class name} is expected")
    if not isinstance(ignore, list) or not all(_is_id(value) for value in ignore):
        raise ValueError("ignore: a list of ids is expected")
    ids = {name: index for index, name in enumerate(classes)}
    for name in (content["background"], *raw.values()):
        if name not in classes:
            raise ValueError(f"{name!r} is none of the classes {classes}")
    unused = [name for name in classes if name not in raw.values()]
    if unused:
        raise ValueError(f"raw maps no id to {', '.join(unused)}")
    export = tuple(min(key for key, name in raw.items() if name == wanted) for wanted in classes)
    return LabelMap(
        names=tuple(classes),
        background=ids[content["background"]],
        raw={key: ids[name] for key, name in raw.items()},
        raw_names={key: name if key in export else f"{name} (id {key})" for key, name in raw.items()},
        export=export,
        ignore=tuple(ignore),
    )


def _is_id(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


Row = tuple[int, list[str]]


def _read_table(path: Path) -> tuple[list[str], list[Row]]:
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            lines = [
                (number, row) for number, row in enumerate(csv.reader(file), 1) if any(map(str.strip, row))
            ]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: cannot be read as a table: {error}") from error
    if not lines:
        raise UserError(f"{path}: empty; the columns Frame and Action are expected")
    header = [name.strip().lower() for name in lines[0][1]]
    for number, row in lines[1:]:
        if len(row) != len(header):
            raise UserError(f"{path}: row {number}: {len(row)} cells, the header has {len(header)}")
    return header, lines[1:]


def _column(path: Path, header: Sequence[str], name: str) -> int:
    if header.count(name) != 1:
        what = "no column" if name not in header else "more than one column"
        raise UserError(f"{path}: {what} {name.capitalize()}; the header is {', '.join(header)}")
    return header.index(name)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan


def _frame(path: Path, number: int, text: str, before: list[int]) -> int:
    value = _number(text)
    if not value.is_integer() or value < 0:
        raise UserError(f"{path}: row {number}: Frame {text!r} is no frame number")
    if before and value != before[-1] + 1:
        raise UserError(
            f"{path}: row {number}: Frame {int(value)} after {before[-1]}: {before[-1] + 1} is expected"
        )
    return int(value)


def _action(path: Path, number: int, text: str, label_map: LabelMap, words: dict[str, int]) -> int:
    word = text.strip()
    if not word:
        return UNKNOWN
    if word.lower() in words:
        return words[word.lower()]
    value = _number(word)
    allowed = (*label_map.raw, *label_map.ignore, UNKNOWN)
    if not value.is_integer() or int(value) not in allowed:
        known = ", ".join(f"{raw} {name}" for raw, name in sorted(label_map.raw_names.items()))
        raise UserError(f"{path}: row {number}: Action {text!r} is none of {known}")
    return int(value)


def _stim_frame(path: Path, header: Sequence[str], first: Row) -> int:
    number, row = first
    column = next((index for index, name in enumerate(header) if name in STIM_COLUMNS), None)
    if column is None or not row[column].strip():
        return DEFAULT_STIM_FRAME
    value = _number(row[column])
    if not value.is_integer():
        raise UserError(f"{path}: row {number}: {header[column]} {row[column]!r} is no frame number")
    return int(value)
