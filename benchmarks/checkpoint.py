"""Writing a checkpoint of 400 MB against torch.save."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from timing import Entry, Row, Settings, at_most, interleave, ratio
from torch import Tensor

from common.engine.checkpoint import Checkpoint, save_checkpoint

TENSORS = 100
BYTES = 400_000_000


def state(settings: Settings) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return weights and the two moments of each, together `BYTES`."""
    count = BYTES // (100 if settings.small else 1) // (3 * TENSORS * 4)
    weights = {f"layer{index}": torch.randn(count) for index in range(TENSORS)}
    moments = {name: {"exp_avg": torch.randn(count), "exp_avg_sq": torch.rand(count)} for name in weights}
    return weights, moments


def saving(settings: Settings) -> Iterator[Row]:
    """Hashed, flushed and renamed into place, against one file of torch.save, not flushed and flushed."""
    weights, moments = state(settings)
    with tempfile.TemporaryDirectory() as folder:
        root, plain = Path(folder) / "checkpoints", Path(folder) / "plain.pt"
        content = Checkpoint(
            step=1, epoch=1, headline=None, model=weights, state={"optimizer": moments}, config=""
        )

        def save_plain() -> None:
            torch.save({"model": weights, "optimizer": moments}, plain)

        def save_and_flush() -> None:
            save_plain()
            with plain.open("rb") as file:
                os.fsync(file.fileno())

        actions = {
            "ours": lambda: save_checkpoint(root, content, best=True, keep_last=1),
            "torch.save": save_plain,
            "torch.save + fsync": save_and_flush,
        }
        seconds = interleave(actions, settings, prepare=os.sync)
    size = "4 MB" if settings.small else "400 MB"
    yield ratio(f"checkpoint of {size} / torch.save", seconds, "ours", "torch.save", at_most(2.5))
    yield ratio(f"checkpoint of {size} / torch.save + fsync", seconds, "ours", "torch.save + fsync")


ENTRIES: dict[str, Entry] = {"save": saving}
