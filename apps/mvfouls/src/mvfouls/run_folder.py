"""Where a run writes: a new folder, that of the run to be continued, or for a test run none that stays."""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from common.config import UserError
from common.engine.command import require_checkpoints, run_folder_of
from common.engine.distributed import World
from common.engine.folder_lock import FolderLock
from common.engine.run import Run, start_run
from mvfouls.settings import RunSettings

WRITTEN = (
    "checkpoints", "config.yaml", "environment.json", "metrics.jsonl", "events.jsonl", "report.html",
    "data_report.json", "class_report.json", "val_predictions.json", "val_logits.npz", "confusion_*.csv",
    "wandb",
)  # fmt: skip
"""What a run writes into its folder."""


@contextmanager
def placed(settings: RunSettings, world: World) -> Iterator[RunSettings]:
    """Yield the settings with the folder to write to: for a test run a temporary one, removed at the end.

    UserError when `--resume` names no run, and for a folder with another run that is not to be replaced.
    """
    if not settings.test_run:
        folder = _folder_of(settings)
        if settings.resume is None and not settings.overwrite and _is_run(folder):
            flag = "--output-dir" if settings.frontend == "class_weights" else "--save_dir"
            raise UserError(
                f"{flag} {folder}: a run is there; --resume {folder} continues it, --overwrite replaces it"
            )
        yield replace(settings, save_dir=folder)
        return
    folder = Path(world.from_main(tempfile.mkdtemp(prefix="mvfouls-test-") if world.main else ""))
    try:
        yield replace(settings, save_dir=folder)
    finally:
        if world.main:
            shutil.rmtree(folder, ignore_errors=True)


def open_run(settings: RunSettings, config: str, world: World) -> Run:
    """Open the run folder: a new one, or that of the run to be continued.

    RunFolderError for one that a living process uses.
    """
    folder, resuming = settings.save_dir, settings.resume is not None
    if settings.overwrite and not resuming and world.main and _is_run(folder):
        _remove_run(folder)
    world.barrier()
    return start_run(folder, config=config, command=sys.argv, resuming=resuming)


def _is_run(folder: Path) -> bool:
    return (folder / "config.yaml").is_file() and (folder / "metrics.jsonl").is_file()


def _remove_run(folder: Path) -> None:
    """Remove what a run wrote, and nothing else."""
    lock = FolderLock(folder)
    lock.acquire()
    for path in [path for pattern in WRITTEN for path in folder.glob(pattern)]:
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    lock.release()


def _folder_of(settings: RunSettings) -> Path:
    """Return the run folder; `--resume` names it itself, unless it says `last` or `best`."""
    if settings.resume is None:
        return settings.save_dir
    path = settings.save_dir if settings.resume in ("last", "best") else Path(settings.resume)
    return require_checkpoints(run_folder_of(path), settings.resume)
