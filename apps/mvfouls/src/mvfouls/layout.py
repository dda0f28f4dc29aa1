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
    bases = [*_named(root, DATA_SET), root]
    names = [name + end for name in FOLDER_NAMES[split] for end in ("", "_720p")]
    folders = [folder for base in bases for name in names for folder in _named(base, name)]
    for folder in folders:
        if (folder / ANNOTATIONS).is_file():
            return SplitSource(name=split, folder=folder, annotations=folder / ANNOTATIONS)
    tried = folders or [base / name for base in (root / DATA_SET, root) for name in names]
    what = f"no {ANNOTATIONS} in the folder" if folders else "no folder"
    lines = "".join(f"\n  {path / ANNOTATIONS if folders else path}" for path in tried)
    raise UserError(f"--dataset_root {root}: {what} of split {split}; tried, in any case:{lines}")


def splits_of(dataset_root: str | Path) -> list[SplitSource]:
    """Return the splits that are there, in the order of `SPLITS`; UserError when there is none."""
    found = []
    faults = []
    for split in SPLITS:
        try:
            found.append(find_split(dataset_root, split))
        except UserError as error:
            faults.append(str(error))
    if not found:
        raise UserError("\n".join(faults))
    return found


def _named(base: Path, name: str) -> list[Path]:
    """Return the folders of `base` called `name` in any case, the exact spelling first."""
    if not base.is_dir():
        return []
    found = [path for path in base.iterdir() if path.name.casefold() == name.casefold() and path.is_dir()]
    return sorted(found, key=lambda path: (path.name != name, path.name))
