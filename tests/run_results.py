"""What a command said, what a training left in its run folder, and where real data are."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

from common.engine.checkpoint import find_checkpoint, load_checkpoint
from common.engine.logging import read_events, read_metrics

REPOSITORY = Path(__file__).parents[1]
CLOCKS = ("seconds", "per_second", "wait_fraction")
"""Ends of the names of what only clocks decide."""


def without_clocks(lines: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return lines of `metrics.jsonl` as a second run of the same must write them."""
    return [{name: value for name, value in line.items() if not name.endswith(CLOCKS)} for line in lines]


class Said(NamedTuple):
    """Exit code of a command and what it wrote to the console."""

    code: int
    out: str
    err: str


class RunFiles:
    """Reads the run folder `folder`, which a subclass has."""

    folder: Path

    def metrics(self, kind: str) -> list[dict[str, Any]]:
        """Lines of one kind that count."""
        return [line for line in read_metrics(self.folder / "metrics.jsonl") if line["kind"] == kind]

    def events(self, kind: str) -> list[dict[str, Any]]:
        """Events of one kind."""
        return [event for event in read_events(self.folder / "events.jsonl") if event["kind"] == kind]

    def weights(self, which: str = "last") -> dict[str, torch.Tensor]:
        """Weights of the checkpoint `last` or `best`."""
        return load_checkpoint(find_checkpoint(which, self.folder)).model


def real_data_of(application: str) -> Path:
    """Return the folder of an application's shared data: $<NAME>_REAL_DATA, else beside the repository.

    Skips the test when there is none.
    """
    named = os.environ.get(f"{application.upper()}_REAL_DATA")
    folder = Path(named) if named else REPOSITORY.parent / "shared" / "data" / application
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}")
    return folder
