"""Where the splits of a data set are."""

from __future__ import annotations

from pathlib import Path

from common.config import UserError
from mvfouls.settings import SplitSource

ANNOTATIONS = "annotations.json"
FOLDER_NAMES = {
    "train": ("train",),
    "valid": ("valid", "val"),
    "test": ("test",),
    "challenge": ("challenge", "chall"),
}
"""Names of the folder of each split; each may end in `_720p`, in any case."""
SPLITS = tuple(FOLDER_NAMES)
DATA_SET = "mvfouls"


def find_split(dataset_root: str | Path, split: str) -> SplitSource:
    """Return where a split lies in `dataset_root`/mvfouls or, next, in `dataset_root`, in any case.

    UserError for an empty root, an unknown split, and, with all paths tried, a split or its annotation file
    that is not there.
    """
    if split not in FOLDER_NAMES:
        raise UserError(f"split {split}: one of {', '.join(SPLITS)} is expected")
    if not str(dataset_root):
        raise UserError("--dataset_root is empty: the folder that holds the data set is expected")
    root = Path(dataset_root)
    folders = _folders(root, split)
    for folder in folders:
        if (folder / ANNOTATIONS).is_file():
            return SplitSource(name=split, folder=folder, annotations=folder / ANNOTATIONS)
    what = f"no {ANNOTATIONS} in the folder" if folders else "no folder"
    raise UserError(f"--dataset_root {root}: {what} of split {split}; {_tried(root, split)}")


def splits_of(dataset_root: str | Path) -> list[SplitSource]:
    """Return the splits that are there, in the order of `SPLITS`; UserError when there is none."""
    root = Path(dataset_root)
    there = [split for split in SPLITS if any((f / ANNOTATIONS).is_file() for f in _folders(root, split))]
    if not there:
        raise UserError(f"--dataset_root {root}: no split is there; {_tried(root, *SPLITS)}")
    return [find_split(root, split) for split in there]


def _folders(root: Path, split: str) -> list[Path]:
    """Return the folders that may hold a split, the likeliest first."""
    bases = [*_named(root, DATA_SET), root]
    return [folder for base in bases for name in _names(split) for folder in _named(base, name)]


def _names(split: str) -> list[str]:
    return [name + end for name in FOLDER_NAMES[split] for end in ("", "_720p")]


def _tried(root: Path, *splits: str) -> str:
    """Return the paths that were looked for: the annotation files of the folders there are, else folders."""
    files = [folder / ANNOTATIONS for split in splits for folder in _folders(root, split)]
    bases = (root / DATA_SET, root)
    paths = files or [base / name for base in bases for split in splits for name in _names(split)]
    return "tried, in any case:" + "".join(f"\n  {path}" for path in paths)


def _named(base: Path, name: str) -> list[Path]:
    """Return the folders of `base` called `name` in any case, the exact spelling first."""
    if not base.is_dir():
        return []
    found = [path for path in base.iterdir() if path.name.casefold() == name.casefold() and path.is_dir()]
    return sorted(found, key=lambda path: (path.name != name, path.name))
