"""Folder layouts of the data sets: how each is recognised, and where its photos and masks are."""

from __future__ import annotations

import configparser
import csv
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from PIL import Image

from common.config import UserError
from uav_landing.data.photos import Part, PhotoPair, pair_parts, shorten

MASK_FOLDERS = ("gts", "masks", "labels")
CONFIG_TABLES = {"graz": "sdd", "aeroscapes": "aeroscapes"}


@dataclass(frozen=True)
class Found:
    """What a layout read. `table` names the label table the data set itself declares."""

    pairs: tuple[PhotoPair, ...]
    table: str | None = None
    official: dict[str, tuple[str, ...]] | None = None
    landing_radius: dict[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    class_list: Path | None = None


@dataclass(frozen=True)
class Layout:
    """A known layout: `locate` returns the folder that has it at or below a root, `read` what is in it.

    `read` is told whether the user named the label table.
    """

    name: str
    looks_for: str
    locate: Callable[[Path], Path | None]
    read: Callable[[Path, bool], Found]


def _first(candidates: Sequence[Path], *needed: str) -> Path | None:
    for folder in candidates:
        if all((folder / name).is_dir() for name in needed):
            return folder
    return None


def _locate_sdd(root: Path) -> Path | None:
    below = (root, root / "semantic_drone_dataset", root / "dataset" / "semantic_drone_dataset")
    return _first(below, "original_images", "label_images_semantic")


def _read_sdd(root: Path, table_named: bool) -> Found:
    pairs = pair_parts([Part(None, root / "original_images", root / "label_images_semantic")])
    folders = [root]
    if root.name == "semantic_drone_dataset":
        folders.append(root.parent)
        if root.parent.name == "dataset":
            folders.append(root.parent.parent)
    lists = [folder / "class_dict_seg.csv" for folder in folders]
    class_list = next((path for path in lists if path.is_file()), None)
    return Found(tuple(pair for _, pair in pairs), "sdd", class_list=class_list)


def _locate_tugraz(root: Path) -> Path | None:
    return _first((root,), "training_set/images", "training_set/gt/semantic/label_images")


def _read_tugraz(root: Path, table_named: bool) -> Found:
    semantic = root / "training_set" / "gt" / "semantic"
    pairs = pair_parts([Part(None, root / "training_set" / "images", semantic / "label_images")])
    class_list = semantic / "class_dict.csv"
    return Found(
        tuple(pair for _, pair in pairs), "sdd", class_list=class_list if class_list.is_file() else None
    )


def _locate_udd6(root: Path) -> Path | None:
    return _first((root, root / "UDD6"), "train/src", "train/gt", "val/src", "val/gt")


def _read_udd6(root: Path, table_named: bool) -> Found:
    parts = [Part(name, root / name / "src", root / name / "gt") for name in ("train", "val")]
    pairs = pair_parts(parts)
    if not table_named:
        _refuse_id_masks([pair for _, pair in pairs])
    official = {
        name: tuple(pair.id for part, pair in pairs if part.name == name) for name in ("train", "val")
    }
    return Found(tuple(pair for _, pair in pairs), "udd6", official={**official, "test": ()})


def _refuse_id_masks(pairs: Sequence[PhotoPair]) -> None:
    """Refuse single-channel masks: the ids of UDD5 and UDD6 differ and cannot be told apart."""
    plain = []
    for pair in pairs:
        try:
            with Image.open(pair.mask) as image:
                if len(image.getbands()) == 1:
                    plain.append(pair.id)
        except OSError as error:
            raise UserError(f"{pair.mask}: cannot be read: {error}") from error
    if plain:
        raise UserError(
            f"{len(plain)} masks hold ids, not colours ({shorten(plain)}): the ids of UDD5 and UDD6 differ; "
            "name the table with --label-table"
        )


def _locate_dronedeploy(root: Path) -> Path | None:
    folder = _first((root,), "images", "labels")
    return folder if folder is not None and any((folder / "images").glob("*-ortho.tif")) else None


def _read_dronedeploy(root: Path, table_named: bool) -> Found:
    pairs = pair_parts([Part(None, root / "images", root / "labels", "-ortho", "-label")])
    scenes = {pair.id for _, pair in pairs}
    notes = []
    index = root / "index.csv"
    if index.is_file():
        rows = [line.split() for line in index.read_text(encoding="utf-8").splitlines() if line.strip()]
        short = [number for number, row in enumerate(rows, 1) if len(row) < 2]
        if short:
            raise UserError(f"{index}: line {short[0]}: the scene is expected in the second field")
        listed = {row[1] for row in rows}
        for text, names in (
            ("listed there are not here", sorted(listed - scenes)),
            ("here are not listed", sorted(scenes - listed)),
        ):
            if names:
                notes.append(f"index.csv: {len(names)} scenes {text}: {shorten(names)}")
    return Found(tuple(pair for _, pair in pairs), "dronedeploy", notes=tuple(notes))


def _locate_aeroscapes(root: Path) -> Path | None:
    return _first((root,), "JPEGImages", "SegmentationClass")


def _read_aeroscapes(root: Path, table_named: bool) -> Found:
    pairs = tuple(
        pair for _, pair in pair_parts([Part(None, root / "JPEGImages", root / "SegmentationClass")])
    )
    lists = {"train": root / "ImageSets" / "trn.txt", "val": root / "ImageSets" / "val.txt"}
    absent = [str(path.relative_to(root)) for path in lists.values() if not path.is_file()]
    if absent:
        return Found(pairs, "aeroscapes", notes=(f"no official split: {' and '.join(absent)} not found",))
    official = {name: tuple(path.read_text(encoding="utf-8").split()) for name, path in lists.items()}
    known = {pair.id for pair in pairs}
    unknown = sorted((set(official["train"]) | set(official["val"])) - known)
    both = sorted(set(official["train"]) & set(official["val"]))
    if unknown or both:
        raise UserError(
            f"{root / 'ImageSets'}: {len(unknown)} stems have no photo: {shorten(unknown)}; "
            f"{len(both)} are in both lists: {shorten(both)}"
        )
    left = sorted(known - set(official["train"]) - set(official["val"]))
    notes = (f"{len(left)} photos are in neither list of ImageSets: {shorten(left)}",) if left else ()
    return Found(pairs, "aeroscapes", official={**official, "test": ()}, notes=notes)


def _mask_folder(folder: Path) -> Path | None:
    here = [folder / name for name in MASK_FOLDERS if (folder / name).is_dir()]
    if len(here) > 1:
        raise UserError(f"{folder}: several mask folders: {', '.join(path.name for path in here)}")
    return here[0] if here else None


def _sequences(root: Path) -> list[Path]:
    folders = [path for path in root.iterdir() if path.is_dir() and not path.name.startswith(".")]
    return sorted(path for path in folders if (path / "images").is_dir())


def _locate_folder(root: Path) -> Path | None:
    if not root.is_dir() or _locate_dronedeploy(root) is not None:
        return None
    complete = [path for path in (root, *_sequences(root)) if (path / "images").is_dir()]
    return root if any(_mask_folder(path) for path in complete) else None


def _read_folder(root: Path, table_named: bool) -> Found:
    notes: list[str] = []
    sequences = _sequences(root)
    if (root / "images").is_dir():
        parts = [_folder_part(root, None)]
        if sequences:
            notes.append(f"photos are in {root / 'images'}: {len(sequences)} sequence folders were not read")
    else:
        parts = [_folder_part(path, path.name) for path in sequences]
    settings = {part.name: _settings(part.images.parent, root, notes) for part in parts}
    tables = {value.table for value in settings.values() if value.table is not None}
    if len(tables) > 1 and not table_named:
        raise UserError(f"{root}: the config.ini files name several data sets: {', '.join(sorted(tables))}")
    pairs = pair_parts(parts)
    radius = {pair.id: settings[part.name].radius for part, pair in pairs}
    return Found(
        tuple(pair for _, pair in pairs),
        None if table_named else next(iter(tables), None),
        landing_radius={name: value for name, value in radius.items() if value is not None},
        notes=tuple(dict.fromkeys(notes)),
    )


def _folder_part(folder: Path, name: str | None) -> Part:
    masks = _mask_folder(folder)
    if masks is None:
        raise UserError(f"{folder}: has images but none of {', '.join(MASK_FOLDERS)}")
    return Part(name, folder / "images", masks, is_group=name is not None)


@dataclass(frozen=True)
class _Settings:
    table: str | None = None
    radius: float | None = None


def _settings(folder: Path, root: Path, notes: list[str]) -> _Settings:
    """Read `config.ini` of a sequence, else of the root; unknown keys and data sets become notes."""
    path = next((here / "config.ini" for here in (folder, root) if (here / "config.ini").is_file()), None)
    if path is None:
        return _Settings()
    parser = configparser.ConfigParser(interpolation=None)
    try:
        parser.read_string(path.read_text(encoding="utf-8"))
    except (configparser.Error, UnicodeDecodeError) as error:
        raise UserError(f"{path}: is not a valid config file: {error}") from error
    values = dict(parser["SETTINGS"]) if parser.has_section("SETTINGS") else {}
    name, radius = values.pop("dataset", None), values.pop("r_landing", None)
    unused = [f"[{section}]" for section in parser.sections() if section != "SETTINGS"] + list(values)
    if unused:
        notes.append(f"{path}: not used: {', '.join(unused)}")
    if name is not None and name.lower() not in CONFIG_TABLES:
        notes.append(f"{path}: DATASET = {name} is none of {', '.join(CONFIG_TABLES)}")
    return _Settings(CONFIG_TABLES.get((name or "").lower()), _radius(path, radius))


def _radius(path: Path, text: str | None) -> float | None:
    if text is None:
        return None
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not 0 < value < float("inf"):
        raise UserError(f"{path}: R_LANDING = {text}: a positive number of pixels is expected")
    return value


def read_class_list(path: Path) -> list[tuple[str, tuple[int, ...]]]:
    """Return (name, rgb) per row of a `name,r,g,b` file with a header line; UserError names a bad line."""
    rows = []
    with path.open(encoding="utf-8", newline="") as file:
        for number, row in enumerate(csv.reader(file), 1):
            cells = [cell.strip() for cell in row]
            if number == 1 or not any(cells):
                continue
            if len(cells) < 4 or not all(cell.isdecimal() for cell in cells[1:4]):
                raise UserError(f"{path}: line {number}: name,r,g,b is expected, not {','.join(row)!r}")
            rows.append((cells[0], tuple(int(cell) for cell in cells[1:4])))
    return rows


LAYOUTS: dict[str, Layout] = {
    layout.name: layout
    for layout in (
        Layout(
            "sdd",
            "original_images/ and label_images_semantic/, also below dataset/semantic_drone_dataset/",
            _locate_sdd,
            _read_sdd,
        ),
        Layout(
            "sdd_tugraz",
            "training_set/images/ and training_set/gt/semantic/label_images/",
            _locate_tugraz,
            _read_tugraz,
        ),
        Layout(
            "udd6", "train/src/, train/gt/, val/src/ and val/gt/, also below UDD6/", _locate_udd6, _read_udd6
        ),
        Layout(
            "dronedeploy",
            "images/<scene>-ortho.tif and labels/<scene>-label.png",
            _locate_dronedeploy,
            _read_dronedeploy,
        ),
        Layout("aeroscapes", "JPEGImages/ and SegmentationClass/", _locate_aeroscapes, _read_aeroscapes),
        Layout(
            "folder",
            "images/ and one of gts/, masks/, labels/, or sequence folders that hold these",
            _locate_folder,
            _read_folder,
        ),
    )
}
