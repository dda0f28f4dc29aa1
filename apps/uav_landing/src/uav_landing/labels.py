"""Label tables of the data sets and the landing classes they map to; nothing else knows a class name.

Fine ids are those of a data set (0..254, stored in masks); landing classes are 0 background (void), 1 safe
landing, 2 caution, 3 danger. 255 is an ignored pixel in both.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from common.config import UserError
from uav_landing.yaml_file import read_yaml

LANDING_NAMES = ("background", "safe landing", "caution", "danger")
LANDING_COLORS = ((128, 128, 128), (0, 170, 0), (240, 200, 0), (220, 0, 0))
IGNORE = 255
SAFE = 1
NEVER_SAFE = frozenset({"unlabeled", "unlabelled", "void", "ignore", "ignored", "conflicting", "unknown"})

Rgb = tuple[int, int, int]


@dataclass(frozen=True)
class FineClass:
    """One class of a data set; `landing` is 0..3, or 255 for a class whose pixels are always ignored."""

    id: int
    name: str
    rgb: Rgb
    landing: int

    @property
    def void(self) -> bool:
        """Whether the pixels carry no meaning: they may never become safe."""
        return self.landing in (0, IGNORE)


@dataclass(frozen=True)
class LabelTable:
    """The classes of a data set. UserError on duplicate ids or colours, values out of range, a safe void."""

    name: str
    classes: tuple[FineClass, ...]

    def __post_init__(self) -> None:
        if not self.classes:
            raise UserError(f"label table {self.name}: holds no class")
        for item in self.classes:
            self._check(item)
        self._require_unique("id", [item.id for item in self.classes])
        self._require_unique("colour", [item.rgb for item in self.classes])

    @property
    def ids(self) -> tuple[int, ...]:
        """Fine ids in table order."""
        return tuple(item.id for item in self.classes)

    @property
    def names(self) -> tuple[str, ...]:
        """Class names in table order."""
        return tuple(item.name for item in self.classes)

    @property
    def table_hash(self) -> str:
        """Identifies ids, names and colours: what decides the fine ids read from a mask."""
        return _digest([[item.id, item.name, list(item.rgb)] for item in _sorted(self.classes)])

    @property
    def mapping_hash(self) -> str:
        """Identifies the mapping of fine ids to landing classes."""
        return _digest([[item.id, item.landing] for item in _sorted(self.classes)])

    def lookup(self) -> NDArray[np.uint8]:
        """Return landing classes uint8 [256] by fine id; 255 for every value outside the table."""
        values = np.full(256, IGNORE, dtype=np.uint8)
        for item in self.classes:
            values[item.id] = item.landing
        return values

    def palette(self) -> NDArray[np.uint8]:
        """Return colours uint8 [256, 3] by fine id; black for every value outside the table."""
        colors = np.zeros((256, 3), dtype=np.uint8)
        for item in self.classes:
            colors[item.id] = item.rgb
        return colors

    def name_of(self, fine_id: int) -> str:
        """Return the name of a fine id; KeyError when the table does not hold it."""
        return {item.id: item.name for item in self.classes}[fine_id]

    def with_mapping(self, mapping: Mapping[int, int]) -> LabelTable:
        """Return the table with other landing classes.

        UserError when `mapping` lacks an id, names one outside the table, leaves 0..3, or makes void safe. A
        class that is always ignored stays so and may only be given as 0.
        """
        missing = sorted(set(self.ids) - set(mapping))
        foreign = sorted(set(mapping) - set(self.ids))
        if missing or foreign:
            raise UserError(
                f"mapping of table {self.name}: ids without a landing class {missing}, "
                f"ids not in the table {foreign}"
            )
        return LabelTable(self.name, tuple(_remapped(item, mapping[item.id]) for item in self.classes))

    def _check(self, item: FineClass) -> None:
        where = f"label table {self.name}: class {item.id} ({item.name})"
        if not 0 <= item.id < IGNORE:
            raise UserError(f"{where}: ids are 0..254")
        if len(item.rgb) != 3 or not all(0 <= value <= 255 for value in item.rgb):
            raise UserError(f"{where}: rgb {item.rgb} must be three values 0..255")
        if item.landing not in (0, 1, 2, 3, IGNORE):
            raise UserError(f"{where}: landing {item.landing} must be 0, 1, 2, 3, or 255 for always ignored")
        if item.landing == SAFE and item.name.strip().lower() in NEVER_SAFE:
            raise UserError(f"{where}: void cannot be safe")

    def _require_unique(self, what: str, values: list[Any]) -> None:
        twice = [value for value, count in Counter(values).items() if count > 1]
        if twice:
            raise UserError(f"label table {self.name}: {what} given twice: {twice}")


def target_lookup(table: LabelTable, void: Literal["train", "ignore"]) -> tuple[NDArray[np.uint8], list[int]]:
    """Return training targets uint8 [256] by fine id (255 ignored), and the landing class of each target.

    void `train`: targets are the landing classes 0..3. void `ignore`: class 0 becomes 255 and classes 1, 2, 3
    become targets 0, 1, 2.
    """
    landing = table.lookup()
    if void == "train":
        return landing, [0, 1, 2, 3]
    targets = np.where((landing == 0) | (landing == IGNORE), IGNORE, landing - 1)
    return targets.astype(np.uint8), [1, 2, 3]


def load_table(name_or_path: str | Path) -> LabelTable:
    """Return a shipped table by name, or read one from YAML: a list of {id, name, rgb, landing}."""
    if str(name_or_path) in TABLES:
        return TABLES[str(name_or_path)]
    path = Path(name_or_path)
    if not path.is_file():
        raise UserError(f"label table {name_or_path}: neither one of {', '.join(TABLES)} nor a YAML file")
    rows = read_yaml(path)
    if not isinstance(rows, list):
        raise UserError(f"{path}: a list of {{id, name, rgb, landing}} is expected")
    return LabelTable(path.stem, tuple(_fine_class(path, number, row) for number, row in enumerate(rows)))


def load_mapping(path: Path, table: LabelTable) -> dict[int, int]:
    """Read fine id -> landing class from YAML; UserError when it does not suit `table`."""
    mapping = read_yaml(path)
    if not isinstance(mapping, dict):
        raise UserError(f"{path}: a mapping of fine id to landing class is expected")
    for key, value in mapping.items():
        if not _is_int(key) or not _is_int(value):
            raise UserError(f"{path}: {key!r}: {value!r}: whole numbers are expected")
    try:
        table.with_mapping(mapping)
    except UserError as error:
        raise UserError(f"{path}: {error}") from error
    return mapping


def _remapped(item: FineClass, landing: int) -> FineClass:
    where = f"mapping of {item.id} ({item.name}) to {landing}"
    if landing == SAFE and item.void:
        raise UserError(f"{where}: void cannot be safe")
    if item.landing == IGNORE:
        if landing not in (0, IGNORE):
            raise UserError(f"{where}: its pixels are always ignored, only 0 is allowed")
        return item
    if landing not in (0, 1, 2, 3):
        raise UserError(f"{where}: landing classes are 0, 1, 2, 3")
    return dataclasses.replace(item, landing=landing)


def _fine_class(path: Path, number: int, row: Any) -> FineClass:
    where = f"{path}: entry {number}"
    fields = {"id", "name", "rgb", "landing"}
    if not isinstance(row, dict) or set(row) != fields:
        given = sorted(map(str, row)) if isinstance(row, dict) else row
        raise UserError(f"{where}: the fields id, name, rgb, landing are expected, not {given}")
    rgb = row["rgb"]
    if not isinstance(rgb, list) or len(rgb) != 3 or not all(map(_is_int, rgb)):
        raise UserError(f"{where}: rgb {rgb!r} must be three whole numbers")
    for field in ("id", "landing"):
        if not _is_int(row[field]):
            raise UserError(f"{where}: {field} {row[field]!r} must be a whole number")
    return FineClass(row["id"], str(row["name"]), (rgb[0], rgb[1], rgb[2]), row["landing"])


def _is_int(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _sorted(classes: tuple[FineClass, ...]) -> list[FineClass]:
    return sorted(classes, key=lambda item: item.id)


def _digest(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, separators=(",", ":")).encode()).hexdigest()[:16]


def _table(name: str, *rows: tuple[str, Rgb, int]) -> LabelTable:
    return LabelTable(name, tuple(FineClass(number, *row) for number, row in enumerate(rows)))


_SDD = _table(
    "sdd",
    ("unlabeled", (0, 0, 0), 0),
    ("paved-area", (128, 64, 128), 1),
    ("dirt", (130, 76, 0), 1),
    ("grass", (0, 102, 0), 1),
    ("gravel", (112, 103, 87), 1),
    ("water", (28, 42, 168), 3),
    ("rocks", (48, 41, 30), 2),
    ("pool", (0, 50, 89), 3),
    ("vegetation", (107, 142, 35), 2),
    ("roof", (70, 70, 70), 2),
    ("wall", (102, 102, 156), 3),
    ("window", (254, 228, 12), 3),
    ("door", (254, 148, 12), 3),
    ("fence", (190, 153, 153), 3),
    ("fence-pole", (153, 153, 153), 3),
    ("person", (255, 22, 96), 3),
    ("dog", (102, 51, 0), 3),
    ("car", (9, 143, 150), 3),
    ("bicycle", (119, 11, 32), 3),
    ("tree", (51, 51, 0), 3),
    ("bald-tree", (190, 250, 190), 3),
    ("ar-marker", (112, 150, 146), 2),
    ("obstacle", (2, 135, 115), 3),
    ("conflicting", (255, 0, 0), 0),
)
_UDD6 = _table(
    "udd6",
    ("other", (0, 0, 0), 0),
    ("facade", (102, 102, 156), 3),
    ("road", (128, 64, 128), 1),
    ("vegetation", (107, 142, 35), 2),
    ("vehicle", (0, 0, 142), 3),
    ("roof", (70, 70, 70), 2),
)
_DRONEDEPLOY = _table(
    "dronedeploy",
    ("ignore", (255, 0, 255), IGNORE),
    ("building", (230, 25, 75), 3),
    ("clutter", (145, 30, 180), 2),
    ("vegetation", (60, 180, 75), 2),
    ("water", (245, 130, 48), 3),
    ("ground", (255, 255, 255), 1),
    ("car", (0, 130, 200), 3),
)
_AEROSCAPES = _table(
    "aeroscapes",
    ("background", (0, 0, 0), 0),
    ("person", (192, 128, 128), 3),
    ("bike", (0, 128, 0), 3),
    ("car", (128, 128, 128), 3),
    ("drone", (128, 0, 0), 3),
    ("boat", (0, 0, 128), 3),
    ("animal", (192, 0, 128), 3),
    ("obstacle", (192, 0, 0), 3),
    ("construction", (192, 128, 0), 3),
    ("vegetation", (0, 64, 0), 2),
    ("road", (128, 128, 0), 1),
    ("sky", (0, 128, 128), 0),
)
_LANDING4 = _table("landing4", *zip(LANDING_NAMES, LANDING_COLORS, range(4)))

TABLES: dict[str, LabelTable] = {
    table.name: table for table in (_SDD, _UDD6, _DRONEDEPLOY, _AEROSCAPES, _LANDING4)
}
