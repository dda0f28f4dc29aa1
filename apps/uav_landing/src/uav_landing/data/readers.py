"""Finds the data set: its root, its layout, its label table."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from common.config import UserError
from uav_landing.config import DataConfig
from uav_landing.data.layouts import LAYOUTS, Found, Layout, read_class_list
from uav_landing.data.locks import locked
from uav_landing.data.photos import PhotoPair, PhotoSet
from uav_landing.labels import TABLES, LabelTable, load_mapping, load_table

__all__ = ["PhotoPair", "PhotoSet", "default_root", "find_photos"]

ENVIRONMENT = "UAV_LANDING_DATASET"
DOCUMENTED = Path(
    "datasets", "Aerial_Semantic_Segmentation_Drone_Dataset", "dataset", "semantic_drone_dataset"
)
GENERATED = Path("datasets", "synthetic")
LARGEST_TOLERANCE = 20


def default_root(*, synthetic: bool = False) -> Path:
    """Return $UAV_LANDING_DATASET, else the application's documented folder, or that of generated scenes."""
    if named := os.environ.get(ENVIRONMENT):
        return Path(named)
    application = Path(__file__).resolve().parents[3]
    if not (application / "pyproject.toml").is_file():
        application = Path.cwd()
    return application / (GENERATED if synthetic else DOCUMENTED)


def find_photos(config: DataConfig) -> PhotoSet:
    """Return every photo with its mask, paired by stem.

    UserError names the path tried and the accepted layouts when the root is absent or not recognised, the
    stems that have no partner, and a label table or mapping that does not suit.
    """
    if not 0 <= config.color_tolerance <= LARGEST_TOLERANCE:
        raise UserError(f"--color-tolerance {config.color_tolerance}: 0 to {LARGEST_TOLERANCE} is allowed")
    synthetic = config.dataset_format == "synthetic"
    root = (config.dataset_path or default_root(synthetic=synthetic)).expanduser()
    if synthetic:
        _ensure_scenes(root)
    if not root.is_dir():
        raise UserError(_absent(root))
    layout, folder = _recognise(root, config.dataset_format)
    found = layout.read(folder, config.label_table is not None)
    table = _table(config, layout, folder, found)
    return PhotoSet(
        format="synthetic" if synthetic else layout.name,
        root=folder,
        pairs=found.pairs,
        table=table,
        official=found.official,
        landing_radius=found.landing_radius or None,
        notes=found.notes,
        color_tolerance=config.color_tolerance,
    )


def _ensure_scenes(root: Path) -> None:
    """Write the generated scenes when `root` is absent or empty; they appear complete or not at all."""
    if root.is_dir() and any(root.iterdir()):
        return
    try:
        root.parent.mkdir(parents=True, exist_ok=True)
        with locked(root.with_name(f".{root.name}.lock")):
            if not root.is_dir() or not any(root.iterdir()):
                _write_scenes(root)
    except OSError as error:
        raise UserError(f"--dataset-path {root}: cannot be written: {error}") from error


def _write_scenes(root: Path) -> None:
    from uav_landing.synthetic import write_scenes

    partial = root.with_name(f".{root.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    write_scenes(partial)
    partial.replace(root)


def _recognise(root: Path, wanted: str) -> tuple[Layout, Path]:
    if wanted != "auto":
        layout = LAYOUTS["sdd" if wanted == "synthetic" else wanted]
        folder = layout.locate(root)
        if folder is None:
            raise UserError(f"{root}: is not in the layout {wanted}, which has {layout.looks_for}")
        return layout, folder
    located = [(layout, layout.locate(root)) for layout in LAYOUTS.values()]
    matches = [(layout, folder) for layout, folder in located if folder is not None]
    if len(matches) == 1:
        return matches[0]
    names = ", ".join(layout.name for layout, _ in matches)
    problem = (
        f"suits several layouts ({names}): choose one with --dataset-format" if matches else "suits no layout"
    )
    raise UserError(f"{root}: {problem}.\n{_layout_lines()}")


def _table(config: DataConfig, layout: Layout, folder: Path, found: Found) -> LabelTable:
    name = config.label_table or found.table
    if name is None:
        raise UserError(
            f"{folder}: the layout {layout.name} does not say what the mask values mean: name the table with "
            f"--label-table ({', '.join(TABLES)} or a YAML file)"
        )
    table = load_table(name)
    if found.class_list is not None:
        _verify_classes(found.class_list, table)
    if config.mapping is not None:
        table = table.with_mapping(load_mapping(config.mapping, table))
    return table


def _verify_classes(path: Path, table: LabelTable) -> None:
    """Require that the data set's own class list, one row per id from 0, agrees with the table."""
    given = read_class_list(path)
    expected = [(item.name, item.rgb) for item in sorted(table.classes, key=lambda item: item.id)]
    differing = [
        f"id {number}: {row} there, {known} in the table"
        for number, (row, known) in enumerate(zip(given, expected))
        if row != known
    ]
    if len(given) != len(expected):
        differing.append(f"{len(given)} classes there, {len(expected)} in the table")
    if differing:
        raise UserError(f"{path}: disagrees with label table {table.name}: {'; '.join(differing[:5])}")


def _layout_lines() -> str:
    return "\n".join(f"  {layout.name:<12}{layout.looks_for}" for layout in LAYOUTS.values())


def _absent(root: Path) -> str:
    return (
        f"no data set at {root}: give --dataset-path or set {ENVIRONMENT}. Accepted layouts:\n"
        f"{_layout_lines()}\n"
        "To try it without data, add: --dataset-format synthetic"
    )
