"""`python -m common.engine.verify RUN_OR_CHECKPOINT`: check every file of every checkpoint."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from common.engine.checkpoint_folders import POINTERS, checkpoint_folders, pointed, root_of
from common.engine.manifest import MANIFEST, FileStatus, verify_checkpoint


def verify(path: Path) -> list[FileStatus]:
    """Return the status of each file under a run folder or checkpoint folder, named relative to `path`.

    In a run, a pointer is `missing` when the file is absent (only `best` may be) or names no checkpoint.
    """
    if (path / MANIFEST).is_file():
        return verify_checkpoint(path)
    root = root_of(path)
    folders = checkpoint_folders(root)
    if not folders:
        return verify_checkpoint(path)
    found = [_pointer_status(root, name) for name in POINTERS if name == "last" or (root / name).exists()]
    for folder in folders:
        found += [FileStatus(f"{folder.name}/{name}", status) for name, status in verify_checkpoint(folder)]
    prefix = root.relative_to(path)
    return [FileStatus((prefix / name).as_posix(), status) for name, status in found]


def _pointer_status(root: Path, name: str) -> FileStatus:
    return FileStatus(name, "ok" if pointed(root, name) else "missing")


def main(arguments: Sequence[str] | None = None) -> int:
    """Print one line per file; return 0 when all are ok, else 1."""
    parser = argparse.ArgumentParser(prog="python -m common.engine.verify", description=__doc__)
    parser.add_argument("path", type=Path, metavar="RUN_OR_CHECKPOINT")
    path: Path = parser.parse_args(arguments).path
    if not path.is_dir():
        parser.error(f"{path}: no such folder")
    statuses = verify(path)
    for name, status in statuses:
        sys.stdout.write(f"{status:<10}  {name}\n")
    return int(any(status != "ok" for _, status in statuses))


if __name__ == "__main__":
    raise SystemExit(main())
