"""A run folder: who writes to it, what was asked for, and where."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import torch

from common.engine.folder_lock import FolderLock, RunFolderError
from common.engine.logging import Console, EventLog, MetricsLog
from common.engine.manifest import library_versions, replace_text

__all__ = ["Run", "RunFolderError", "git_commit", "next_run_folder", "start_run"]


class Run:
    """An open run folder with its logs and console. Made by `start_run`, or by `Run.dry` to write nothing.

    `writes` tells whether anything is written to `folder`.
    """

    def __init__(self, folder: Path, console: Console, *, lock: FolderLock | None) -> None:
        self.folder = folder
        self.checkpoints = folder / "checkpoints"
        self.console = console
        self.writes = lock is not None
        self.metrics = MetricsLog(folder / "metrics.jsonl" if self.writes else None)
        self.events = EventLog(folder / "events.jsonl" if self.writes else None)
        self._lock = lock

    @classmethod
    def dry(cls, folder: Path = Path("dry-run"), *, console: Console | None = None) -> Run:
        """Return a run that prints on the first process and writes nothing; `folder` need not exist."""
        return cls(folder, console or Console(enabled=_rank() == 0), lock=None)

    def replace_config(self, config: str) -> None:
        """Write `config.yaml` anew, for a resumed run that accepted settings other than its first ones."""
        if self.writes:
            replace_text(self.folder / "config.yaml", config)

    def close(self) -> None:
        """Close the logs and give the folder back."""
        self.metrics.close()
        self.events.close()
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def start_run(folder: Path, *, config: str, command: list[str], resuming: bool) -> Run:
    """Create or reopen a run folder and write `config.yaml` (`config` as it is) and `environment.json`.

    A resumed run keeps those files when it has them; `Run.replace_config` changes the first one later.
    Only the first process of a distributed run writes; the others get a run that stays silent.

    Raises RunFolderError when another process uses the folder, and when it already holds a run that is not
    being resumed.
    """
    if _rank() != 0:
        return Run.dry(folder)
    folder.mkdir(parents=True, exist_ok=True)
    lock = FolderLock(folder)
    console = Console()
    taken_over = lock.acquire()
    try:
        if not resuming:
            _refuse_used(folder)
        if taken_over:
            console.line("lock", taken_over)
        if not (resuming and (folder / "config.yaml").is_file()):
            replace_text(folder / "config.yaml", config)
        if not (resuming and (folder / "environment.json").is_file()):
            replace_text(folder / "environment.json", json.dumps(_environment(command), indent=1) + "\n")
        return Run(folder, console, lock=lock)
    except BaseException:
        lock.release()
        raise


def next_run_folder(output_dir: Path, prefix: str = "run") -> Path:
    """Create and return `output_dir/<prefix>-0001`, or the next free number, and name it in `latest`.

    To be called by the first process of a distributed run only.
    """
    output_dir.mkdir(parents=True, exist_ok=True)
    pattern = re.compile(re.escape(prefix) + r"-(\d{4,})")
    matches = [pattern.fullmatch(path.name) for path in output_dir.iterdir()]
    number = max((int(match[1]) for match in matches if match), default=0)
    while True:
        number += 1
        folder = output_dir / f"{prefix}-{number:04d}"
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        replace_text(output_dir / "latest", folder.name + "\n")
        return folder


def git_commit() -> str | None:
    """Return the commit of the current directory, with `-dirty` when files differ; None outside of git."""
    command = ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"]
    try:
        result = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return result.stdout.strip() or None


def _refuse_used(folder: Path) -> None:
    metrics = folder / "metrics.jsonl"
    if (metrics.is_file() and metrics.stat().st_size) or any((folder / "checkpoints").glob("step-*")):
        raise RunFolderError(f"{folder}: already holds a run; resume it or choose another folder")


def _environment(command: list[str]) -> dict[str, Any]:
    cuda = torch.cuda.is_available()
    devices = (
        [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())] if cuda else []
    )
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": command,
        "versions": library_versions(),
        "git": git_commit(),
        "device": devices or ["cpu"],
        "platform": platform.platform(),
        "cpus": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "processes": int(os.environ.get("WORLD_SIZE", "1")),
    }


def _rank() -> int:
    if torch.distributed.is_available() and torch.distributed.is_initialized():
        return torch.distributed.get_rank()
    return int(os.environ.get("RANK", "0"))
