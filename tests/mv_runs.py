"""Short trainings by `train_modular.py`: a tiny network in place of the real one, on small clips."""

from __future__ import annotations

import functools
import itertools
import signal
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from mv_tiny_backbone import DIM, tiny_backbone
from run_results import without_clocks

from common.engine.checkpoint import Checkpoint, find_checkpoint, load_checkpoint
from common.engine.logging import read_events, read_metrics
from common.engine.task import LossTerm
from common.video import Pixels as Frames
from mvfouls import architectures, backbones, survey
from mvfouls.cli.modular import main
from mvfouls.clips import ClipSource
from mvfouls.survey import View
from mvfouls.synthetic import SPLITS, write_dataset
from mvfouls.task import FoulTask

SIZE = (64, 48)
NETWORK = "r2plus1d_18"
SMALL = (
    "--epochs 2 --batch_size 4 --num_workers 0 --device cpu --frames_per_clip 4 --img_height 32 "
    "--img_width 40 --max_views 2"
)
"""A training of a second: 16 actions in 4 steps an epoch."""


def write_small(root: Path) -> Path:
    """Write 16 training and 8 validation actions of 2 or 3 views of 91 frames, 64 x 48 px."""
    with pytest.MonkeyPatch.context() as patch:
        used = {split: SPLITS[split] for split in ("train", "valid")}
        patch.setattr("mvfouls.synthetic.SPLITS", used)
        write_dataset(root, actions=16, seed=1, size=SIZE, frames=91, odd=False)
    return root


def put_tiny_network_in_place(patch: pytest.MonkeyPatch) -> None:
    """Let `r2plus1d_18` be a network of the same blocks, each of two parts, that takes small pictures."""
    count = sum(parameter.numel() for parameter in tiny_backbone().parameters())
    entry = replace(architectures.BACKBONES[NETWORK], parameters=count, dim=DIM)
    patch.setitem(architectures.BACKBONES, NETWORK, entry)
    patch.setattr(architectures, "MINIMUM_SIDE", 32)
    patch.setitem(backbones._BUILDERS, "conv", _build)


def _build(known: architectures.Architecture, frames: int, checkpointing: bool) -> backbones.VideoBackbone:
    return tiny_backbone(checkpointing=checkpointing)


@dataclass(frozen=True)
class Ran:
    """What a training left behind in `folder`."""

    code: int
    out: str
    err: str
    folder: Path

    def metrics(self, kind: str) -> list[dict[str, Any]]:
        """Lines of one kind that count, without what clocks say."""
        lines = read_metrics(self.folder / "metrics.jsonl")
        return without_clocks([line for line in lines if line["kind"] == kind])

    def events(self, kind: str) -> list[dict[str, Any]]:
        """Events of one kind that count."""
        return [event for event in read_events(self.folder / "events.jsonl") if event["kind"] == kind]

    def checkpoint(self, which: str = "last") -> Checkpoint:
        """The checkpoint `last` or `best`."""
        return load_checkpoint(find_checkpoint(which, self.folder))

    def weights(self, which: str = "last") -> dict[str, torch.Tensor]:
        """The weights of such a checkpoint."""
        return self.checkpoint(which).model


class Remembered:
    """Takes the place of looking at clips and reading them: the disk is asked once."""

    def __init__(self) -> None:
        self.usual = ClipSource.read
        self.probe = functools.cache(survey._probe)
        self._found: dict[object, Frames] = {}

    def install(self, patch: pytest.MonkeyPatch) -> None:
        """Remember from here on, for as long as `patch` lasts."""

        def read(source: ClipSource, view: View, shift: int = 0) -> Frames:
            key = (view, shift, source.frames)
            if key not in self._found:
                self._found[key] = self.usual(source, view, shift)
            return self._found[key].copy()

        patch.setattr(ClipSource, "read", read)
        patch.setattr(survey, "_probe", self.probe)


def before_step(patch: pytest.MonkeyPatch, act: Callable[[int, FoulTask, Any], None]) -> None:
    """Let something happen at each training step, which is given by its number from 1, task and batch."""
    usual, numbers = FoulTask.training_step, itertools.count(1)

    def training_step(task: FoulTask, batch: Any) -> dict[str, LossTerm]:
        act(next(numbers), task, batch)
        return usual(task, batch)

    patch.setattr(FoulTask, "training_step", training_step)


def interrupt(patch: pytest.MonkeyPatch, step: int, number: int = signal.SIGINT) -> None:
    """Send a signal in a training step."""
    before_step(patch, lambda at, task, batch: signal.raise_signal(number) if at == step else None)


def script(patch: pytest.MonkeyPatch, values: Sequence[float]) -> None:
    """Let each validation find the next of `values` as its leaderboard value, in the end the last one."""
    usual = FoulTask.metrics

    def metrics(task: FoulTask) -> dict[str, float]:
        return usual(task) | {"leaderboard": values[min(task.epoch, len(values) - 1)]}

    patch.setattr(FoulTask, "metrics", metrics)


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    """Return whether all tensors are equal, bit for bit."""
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


class Trainings:
    """Runs the documented command in this process, small and short; words given win."""

    def __init__(self, data: Path, home: Path, capfd: pytest.CaptureFixture[str]) -> None:
        self.data, self.home, self._capfd = data, home, capfd
        self.small = SMALL
        self._number = 0

    def __call__(self, *words: str, name: str = "", data: Path | None = None) -> Ran:
        """Train into the folder `name`, by default a new one."""
        self._number += 1
        folder = self.home / (name or f"run-{self._number}")
        argv = [*self.small.split(), f"--dataset_root={data or self.data}", f"--save_dir={folder}"]
        argv += [part for word in words for part in word.split()]
        self._capfd.readouterr()
        code = main(argv)
        return Ran(code, *self._capfd.readouterr(), folder)
