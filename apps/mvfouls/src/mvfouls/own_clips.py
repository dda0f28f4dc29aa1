"""Clips of a user that belong to no split: those of one action, or a folder per action."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from common.config import UserError

SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv", ".avi", ".webm")
PREFIX = "action_"
ONLY = "clips"
"""Id of an action that has no other."""

Clips = dict[str, list[Path]]


def clips_in(folder: Path) -> Clips:
    """Return the clips of each action in a folder by action id, in the order of the numbers in their names.

    The folder holds either the clips of one action or a folder per action; `action_7` has the id 7.
    UserError for a folder that is not there or holds neither, and for an id that comes twice.
    """
    if not folder.is_dir():
        raise UserError(f"--action_dir {folder}: no such folder")
    clips = _videos(folder)
    if clips:
        return {_id_of(folder.resolve()): clips}
    folders = sorted((path for path in folder.iterdir() if path.is_dir()), key=_natural)
    held = [(path, _videos(path)) for path in folders]
    found = {_id_of(path): clips for path, clips in held if clips}
    if not found:
        raise UserError(
            f"--action_dir {folder}: neither clips ({', '.join(SUFFIXES)}) nor folders of clips in it"
        )
    if len(found) < sum(bool(clips) for _, clips in held):
        raise UserError(f"--action_dir {folder}: two folders for the same action, with and without {PREFIX}")
    return found


def named_clips(paths: Sequence[Path]) -> Clips:
    """Return clips of one action, in the order given; UserError for one that is not there or comes twice."""
    for path in paths:
        if not path.is_file():
            raise UserError(f"--clips {path}: no such file")
    if len({path.resolve() for path in paths}) < len(paths):
        raise UserError("--clips: a clip is given twice")
    folders = {path.resolve().parent for path in paths}
    single = next(iter(folders))
    known = len(folders) == 1 and single.name.startswith(PREFIX)
    return {_id_of(single) if known else ONLY: list(paths)}


def _videos(folder: Path) -> list[Path]:
    found = (path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and path.is_file())
    return sorted((path for path in found if not path.name.startswith(".")), key=_natural)


def _id_of(folder: Path) -> str:
    return folder.name.removeprefix(PREFIX) or ONLY


def _natural(path: Path) -> list[tuple[int, str]]:
    """Return what sorts clip_2 before clip_10."""
    parts = re.findall(r"\d+|\D+", path.name)
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]
