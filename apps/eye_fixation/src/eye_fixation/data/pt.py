"""The folder of three data files: finding it, reading it with checks over all splits, and writing it."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from common.config import UserError, writing
from common.engine.manifest import sync_and_hash, sync_folder
from common.weights_file import read_dictionary
from eye_fixation.data.contract import SPLITS, GazeData, GazeSplits, Metadata
from eye_fixation.data.pt_file import file_contents, load_file

__all__ = [
    "GazeData",
    "GazeSplits",
    "Metadata",
    "check_matches",
    "check_splits",
    "find_folder",
    "load_file",
    "load_folder",
    "load_oracle",
    "refuse_existing",
    "search_folders",
    "usable",
    "write_folder",
]

FILES = tuple(f"{split}_data.pt" for split in SPLITS)
ORACLE, MANIFEST = "oracle.pt", "manifest.json"
SAME = 1e-4
"""Largest difference in cells between coordinates of sequences that count as identical."""

_APP = Path(__file__).parents[3]
_SCRIPT = Path("experiments") / "phase1_loss_function_analysis"
_ADVICE = {
    "img_size": "prepare --img-size",
    "rate_hz": "prepare --rate-hz",
    "coord_order": "--coord-order",
    "source": "prepare --source",
}
_GROUPED = ("image", "subject", "recording")


def search_folders() -> list[Path]:
    """Return where data are looked for: the working folder's `data`, then those of the documented script."""
    folders = [Path.cwd() / "data"]
    if (_APP / _SCRIPT).is_dir():
        folders += [_APP / _SCRIPT / "data", _APP / _SCRIPT.parent / "data", _APP / "data"]
    return list(dict.fromkeys(folders))


def find_folder(given: Path | None = None) -> Path:
    """Return the folder of the three files: the one given, else the first of `search_folders` with all three.

    Raises UserError naming the missing file of a given folder, or where was looked and what writes data.
    """
    if given is not None:
        if missing := [name for name in FILES if not (given / name).is_file()]:
            raise UserError(f"--data-dir {given}: {', '.join(missing)} not found")
        return given
    folders = search_folders()
    for folder in folders:
        if all((folder / name).is_file() for name in FILES):
            return folder
    out = shlex.quote(str(folders[0]))
    looked = "\n".join(
        f"{'' if number else 'looked in':<11} {folder}" for number, folder in enumerate(folders)
    )
    raise UserError(
        f"no eye-fixation data: {', '.join(FILES)} not found\n"
        + "\n".join(f"  {line}" for line in looked.splitlines())
        + f"\n  simulated   eye-fixation prepare --out {out}"
        "\n  your own    eye-fixation prepare --source csv --input gaze.csv --rate-hz 20"
        f" --screen-px 1920 1080 --out {out}"
    )


def load_folder(folder: Path, *, coord_order: str | None = None) -> GazeSplits:
    """Return the three splits of a folder, each checked by `load_file`, together by `check_splits`.

    Raises UserError naming the file that is missing or wrong.
    """
    find_folder(folder)
    splits = GazeSplits(*(load_file(folder / name, coord_order=coord_order) for name in FILES))
    check_splits(splits)
    return splits


def load_oracle(folder: Path, split: str) -> dict[str, Tensor] | None:
    """Return `transition` float32 (S*S, S*S) and `start` (S*S,) of a split, or None for recorded gaze.

    Raises UserError naming a file that holds something else.
    """
    path = folder / ORACLE
    if not path.is_file():
        return None
    contents = read_dictionary(path)
    tables = contents.get(split, contents)
    for name in ("transition", "start"):
        if not isinstance(tables, dict) or not isinstance(tables.get(name), Tensor):
            raise UserError(f"{path}: no tensor {name!r}; keys found: {', '.join(map(str, contents))}")
    return {name: tables[name] for name in ("transition", "start")}


def check_splits(splits: GazeSplits) -> None:
    """Raise UserError where splits differ in grid, order, rate or source, or share a group or a sequence."""
    for first, second in combinations(splits, 2):
        check_matches(second, first.metadata, _name(first))
    for first, second in combinations(splits, 2):
        _check_groups(first, second)
        _check_copies(first, second)


def check_matches(data: GazeData, expected: Metadata, where: str) -> None:
    """Raise UserError with both values where grid, order, rate or source differ from those of `where`."""
    for name, flag in _ADVICE.items():
        found, other = getattr(data.metadata, name), getattr(expected, name)
        if found != other:
            raise UserError(
                f"{name} is {other} in {where} and {found} in {_name(data)}; {flag} {other} would fit"
            )


def usable(data: GazeData, in_len: int, out_len: int) -> GazeData:
    """Return the first in + out frames of the sequences that have a valid target frame.

    `counts` gains `without_target`, the sequences dropped, and `unused_frames`. Raises UserError naming the
    file, both lengths, or how many sequences and frames were left at each stage where none is.
    """
    length = data.coordinates.shape[1]
    if length < in_len + out_len:
        raise UserError(
            f"{_name(data)}: coordinates {tuple(data.coordinates.shape)} have {length} frames, "
            f"--in-len {in_len} and --out-len {out_len} need {in_len + out_len}"
        )
    used = slice(0, in_len + out_len)
    cut = replace(
        data, coordinates=data.coordinates[:, used], mask=data.mask[:, used],
        events=None if data.events is None else data.events[:, used],
    )  # fmt: skip
    has_target = cut.mask[:, in_len:].any(1)
    kept = int(has_target.sum())
    if not kept:
        raise UserError(
            f"{_name(data)}: no sequence has a valid target frame: {len(data)} sequences, "
            f"{int(data.mask.sum())} valid frames, {int(cut.mask.sum())} of them in the first "
            f"{in_len + out_len}, 0 in targets"
        )
    counts = {"without_target": len(data) - kept, "unused_frames": len(data) * (length - in_len - out_len)}
    return replace(cut.take(has_target), counts={**data.counts, **counts})


def refuse_existing(folder: Path, *, overwrite: bool) -> None:
    """Raise UserError where `folder` is a file, or holds data and may not be overwritten."""
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--out {folder}: a file is in the way")
    found = [name for name in (*FILES, ORACLE, MANIFEST) if (folder / name).exists()]
    if found and not overwrite:
        raise UserError(f"--out {folder}: holds {', '.join(found)}; --overwrite replaces them")


def write_folder(
    folder: Path,
    splits: GazeSplits,
    manifest: Mapping[str, Any],
    *,
    overwrite: bool = False,
    oracle: Mapping[str, Any] | None = None,
) -> None:
    """Write the three files, `oracle.pt` where given, and `manifest.json` with the sum of each file.

    Everything is written beside and renamed together, so that a failure leaves what was there. Raises
    UserError naming the folder for existing files without `overwrite`, or when nothing can be written.
    """
    refuse_existing(folder, overwrite=overwrite)
    contents: dict[str, Any] = {name: file_contents(data) for name, data in zip(FILES, splits)}
    if oracle is not None:
        contents[ORACLE] = dict(oracle)
    with writing(f"--out {folder}"):
        folder.mkdir(parents=True, exist_ok=True)
        _write(folder, contents, manifest)


def _write(folder: Path, contents: Mapping[str, Any], manifest: Mapping[str, Any]) -> None:
    staging = Path(tempfile.mkdtemp(prefix=".writing-", dir=folder))
    try:
        for name, content in contents.items():
            torch.save(content, staging / name)
        files = {name: sync_and_hash(staging / name) for name in contents}
        text = json.dumps({**manifest, "files": files}, indent=1, allow_nan=False)
        (staging / MANIFEST).write_text(text + "\n", encoding="utf-8")
        sync_and_hash(staging / MANIFEST)
        (folder / ORACLE).unlink(missing_ok=True)
        for name in (*contents, MANIFEST):
            os.replace(staging / name, folder / name)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    sync_folder(folder)


def _name(data: GazeData) -> str:
    return str(data.path or data.metadata.split or "data")


def _check_groups(first: GazeData, second: GazeData) -> None:
    """Raise UserError where a unit that `split_by` names is in both."""
    unit = first.metadata.split_by
    if unit not in _GROUPED:
        return
    for name in ("group", unit):
        ours, theirs = getattr(first, name, None), getattr(second, name, None)
        if ours is None or theirs is None:
            continue
        shared = ours[torch.isin(ours, theirs)].unique()
        if len(shared):
            one, two = (int((part == shared[0]).nonzero()[0]) for part in (ours, theirs))
            raise UserError(
                f"{len(shared)} {unit}s are in {_name(first)} and in {_name(second)}; the first is {unit} "
                f"{int(shared[0])}, sequences {one} and {two}"
            )


def _check_copies(first: GazeData, second: GazeData) -> None:
    """Raise UserError where a sequence occurs in both."""
    if first.coordinates.shape[1] != second.coordinates.shape[1]:
        return
    pairs = _copies(first, second)
    if pairs:
        one, two = pairs[0]
        raise UserError(
            f"{len(pairs)} sequences are identical in {_name(first)} and in {_name(second)}; the first are "
            f"sequences {one} and {two}"
        )


def _copies(first: GazeData, second: GazeData) -> list[tuple[int, int]]:
    """Return the pairs of sequences with equal masks and coordinates within `SAME`, empty ones left out.

    Sequences are compared only where a random projection of them, which a difference of `SAME` per number
    cannot move further than `reach`, is as near.
    """
    ours, theirs = (_flat(data) for data in (first, second))
    direction = np.random.default_rng(0).standard_normal(ours.shape[1])
    reach = SAME * float(np.abs(direction).sum()) + 1e-6
    places, others = ours @ direction, theirs @ direction
    order = np.argsort(others)
    start = np.searchsorted(others[order], places - reach, side="left")
    stop = np.searchsorted(others[order], places + reach, side="right")
    pairs = []
    for index in np.flatnonzero((stop > start) & first.mask.any(1).numpy()):
        for other in order[start[index] : stop[index]]:
            if np.abs(ours[index] - theirs[other]).max() <= SAME:
                pairs.append((int(index), int(other)))
    return pairs


def _flat(data: GazeData) -> NDArray[np.float64]:
    """Return sequences as rows; a masked frame lies at (-1, -1), where no gaze is."""
    positions = torch.where(data.mask[..., None], data.coordinates.double(), -1.0)
    rows: NDArray[np.float64] = positions.flatten(1).numpy()
    return rows
