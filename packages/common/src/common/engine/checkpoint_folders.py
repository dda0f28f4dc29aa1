"""Which checkpoint folders a run has, which of them `last` and `best` mean, and which are kept."""

from __future__ import annotations

import errno
import os
import re
import shutil
from pathlib import Path
from typing import NamedTuple

from common.engine.manifest import MANIFEST, TEMPORARY, CheckpointError, replace_text, sync_folder

POINTERS = ("last", "best")

_NAME = re.compile(r"step-(\d{8,})(?:\.old-(\d+))?")


class _Entry(NamedTuple):
    """A complete checkpoint folder; `copy` counts folders set aside when their step was saved again."""

    path: Path
    step: int
    copy: int


def publish(temporary: Path, final: Path, best: bool) -> None:
    """Rename into place, then point `best` before `last`.

    Killed between the two pointers, the run continues from the step before and saves this one again.
    Killed between the two renames, `pointed` finds the folder set aside.
    """
    root = final.parent
    if final.exists():
        os.rename(final, _aside(final))
    held = pointed(root, "best")
    if not best and held is not None and _pointer_text(root, "best") != held.name:
        replace_text(root / "best", held.name + "\n")
    os.rename(temporary, final)
    sync_folder(root)
    for name in ("best", "last") if best else ("last",):
        replace_text(root / name, final.name + "\n")


def _aside(final: Path) -> Path:
    step = int(final.name.removeprefix("step-"))
    copies = [entry.copy for entry in _entries(final.parent) if entry.step == step]
    return final.with_name(f"{final.name}.old-{max(copies, default=0) + 1}")


def prune(final: Path, keep_last: int) -> None:
    """Remove all folders but `final`, the `keep_last` - 1 steps before it, and what a pointer names."""
    root = final.parent
    own = int(final.name.removeprefix("step-"))
    kept = {final, *(pointed(root, name) for name in POINTERS)}
    newest = {entry.step: entry.path for entry in reversed(_entries(root)) if entry.step < own}
    kept.update(newest[step] for step in sorted(newest, reverse=True)[: keep_last - 1])
    for entry in _entries(root):
        if entry.path not in kept:
            doomed = entry.path.with_name(f"{entry.path.name}{TEMPORARY}{os.getpid()}")
            os.rename(entry.path, doomed)
            shutil.rmtree(doomed, ignore_errors=True)


def remove_leftovers(root: Path) -> None:
    """Remove what a killed process left half written."""
    for path in root.glob(f"*{TEMPORARY}*"):
        if path.is_dir():
            shutil.rmtree(path, ignore_errors=True)
        else:
            path.unlink()


def _entries(root: Path) -> list[_Entry]:
    """Return the checkpoint folders, the highest step first and, within a step, the latest written first."""
    found = []
    for path in root.iterdir() if root.is_dir() else ():
        match = _NAME.fullmatch(path.name)
        if match and path.is_dir():
            found.append(_Entry(path, int(match[1]), int(match[2] or 0)))
    return sorted(found, key=lambda entry: (-entry.step, entry.copy > 0, -entry.copy))


def _pointer_text(root: Path, name: str) -> str:
    path = root / name
    return path.read_bytes().decode("ascii", "replace").strip() if path.is_file() else ""


def pointed(root: Path, name: str) -> Path | None:
    """Return the folder that `last` or `best` names, or its replaced copy, or None."""
    match = _NAME.fullmatch(_pointer_text(root, name))
    if match is None:
        return None
    if (root / match[0]).is_dir():
        return root / match[0]
    return next((entry.path for entry in _entries(root) if entry.step == int(match[1])), None)


def candidates(where: str | Path, run_folder: Path | None) -> tuple[list[Path], list[str]]:
    """Return the folders to try, the wanted one first, and lines about what was wrong on the way."""
    if str(where) in POINTERS and run_folder is not None:
        return _from_pointer(root_of(run_folder), str(where))
    path = Path(where)
    if path.name in POINTERS and path.is_file():
        return _from_pointer(path.parent, path.name)
    if not path.is_dir():
        raise CheckpointError(f"{path}: no such run folder or checkpoint folder", errno.ENOENT)
    resolved = path.resolve()
    match = _NAME.fullmatch(resolved.name)
    if match:
        older = [entry.path for entry in _entries(resolved.parent) if entry.step < int(match[1])]
        return [path, *older], []
    if (path / MANIFEST).is_file():
        return [path], []
    return _from_pointer(root_of(path), "last")


def checkpoint_folders(root: Path) -> list[Path]:
    """Return the checkpoint folders, the highest step first."""
    return [entry.path for entry in _entries(root)]


def root_of(run_folder: Path) -> Path:
    """Return where a run keeps its checkpoints; `run_folder` may be that folder already."""
    inner = run_folder / "checkpoints"
    return inner if inner.is_dir() else run_folder


def _from_pointer(root: Path, name: str) -> tuple[list[Path], list[str]]:
    entries = _entries(root)
    if not entries:
        raise CheckpointError(f"{root}: holds no checkpoint", errno.ENOENT)
    first = pointed(root, name)
    if first is None:
        return [entry.path for entry in entries], [f"{root / name}: missing, empty or naming no checkpoint"]
    limit = next(entry.step for entry in entries if entry.path == first)
    entries.sort(key=lambda entry: (entry.path != first, entry.step > limit))
    return [entry.path for entry in entries], []
