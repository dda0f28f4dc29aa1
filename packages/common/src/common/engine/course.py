"""A run under way: everything that changes while it trains, and how that becomes a checkpoint's state."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from itertools import islice
from typing import TYPE_CHECKING, Any

import torch

from common.engine.distributed import World
from common.engine.loading import Loaders, WorkerError, iterate
from common.engine.randomness import random_state, set_random_state
from common.engine.state import Progress
from common.engine.step import Optimization
from common.engine.task import Batch, Task, to_device
from common.engine.transfer import on_device
from common.engine.window import LossSums

if TYPE_CHECKING:
    from common.freezing.driver import Freezer


@dataclass
class Clock:
    """Time and samples since the last console line."""

    started: float
    waited: float = 0.0
    samples: int = 0

    @classmethod
    def now(cls) -> Clock:
        """Return a clock that starts at this moment."""
        return cls(time.monotonic())

    @property
    def seconds(self) -> float:
        """Seconds since the start, never 0."""
        return max(time.monotonic() - self.started, 1e-9)


@dataclass
class Tally:
    """Training losses since the epoch began and since the last step line; the epoch's samples and time.

    `waited` are seconds spent waiting for the loader.
    """

    epoch: LossSums = field(default_factory=LossSums)
    recent: LossSums = field(default_factory=LossSums)
    samples: int = 0
    seconds: float = 0.0
    waited: float = 0.0

    def add(self, sums: LossSums) -> None:
        """Add the losses of one step."""
        self.epoch.merge(sums)
        self.recent.merge(sums)

    def state_dict(self) -> dict[str, Any]:
        """Return plain types."""
        return asdict(self)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        self.epoch = LossSums(**state["epoch"])
        self.recent = LossSums(**state["recent"])
        self.samples, self.seconds, self.waited = state["samples"], state["seconds"], state["waited"]


@dataclass
class Course:
    """What a checkpoint stores of a run besides the weights."""

    task: Task
    loaders: Loaders
    optimization: Optimization
    world: World
    accumulation_steps: int
    progress: Progress = field(default_factory=Progress)
    tally: Tally = field(default_factory=Tally)

    @property
    def freezer(self) -> Freezer | None:
        """What decides which blocks train, when something does."""
        return self.optimization.freezer

    @property
    def steps_per_epoch(self) -> int:
        """Optimiser steps of a whole epoch; the remainder of micro-batches is a step of its own."""
        return math.ceil(len(self.loaders.batches) / self.accumulation_steps)

    @property
    def draws_per_batch(self) -> int:
        """Samples in a micro-batch of all processes."""
        return self.loaders.batches.batch_size * self.world.size

    @property
    def position(self) -> int:
        """Draws of the epoch that all processes have used."""
        return self.progress.batch * self.draws_per_batch

    @property
    def epoch_complete(self) -> bool:
        """Whether every micro-batch of the epoch has been used."""
        return self.progress.batch >= len(self.loaders.batches)

    def begin_epoch(self) -> None:
        """Start the epoch at its first batch, or do nothing in its middle."""
        if self.progress.batch == 0:
            self.task.begin_epoch(self.progress.epoch)
            self.tally = Tally()

    def close_epoch(self) -> None:
        """Count a complete epoch."""
        self.progress.epoch += 1
        self.progress.batch = 0

    def windows(self, on_restart: Callable[[WorkerError, int], None]) -> Iterator[list[Batch]]:
        """Yield the rest of the epoch in windows of micro-batches, on the device.

        Workers that died are started anew at the batch that was lost, whose first draw `on_restart` is told;
        it may raise instead. What is fetched ahead does not count as used: `progress` does.
        """
        left = len(self.loaders.batches) - self.progress.batch
        fetched = self._batches(left, on_restart)
        batches = on_device(fetched, self.world.device, ahead=self.loaders.copy_ahead)
        for start in range(0, left, self.accumulation_steps):
            count = min(self.accumulation_steps, left - start)
            yield list(islice(batches, count))

    def _batches(self, left: int, on_restart: Callable[[WorkerError, int], None]) -> Iterator[Batch]:
        loaders, start, given = self.loaders, self.position, 0
        while given < left:
            loaders.sampler.set_epoch(self.progress.epoch)
            loaders.sampler.start(start + given * self.draws_per_batch)
            try:
                for batch in islice(iterate(loaders.train), left - given):
                    given += 1
                    yield batch
            except WorkerError as error:
                on_restart(error, start + given * self.draws_per_batch)
                continue
            if given < left:
                raise ValueError(f"the training loader ended {left - given} batches before its sampler")

    def state_dict(self) -> dict[str, Any]:
        """Return the state of all processes as plain types and tensors; all of them call this together."""
        own = {
            "rng": random_state(),
            "task": copy.deepcopy(to_device(self.task.state_dict(), torch.device("cpu"))),
            "tally": self.tally.state_dict(),
        }
        state = {
            "progress": self.progress.state_dict(),
            "optimization": self.optimization.state_dict(),
            "position": self.position,
            "sampler": self.loaders.sampler.state_dict(self.position),
            "ranks": self.world.gather(own),
        }
        if self.freezer is not None:
            state["freezing"] = self.freezer.state_dict()
        return state

    def load_state_dict(self, state: dict[str, Any]) -> list[str]:
        """Restore what `state_dict` returned, except the optimisation; return lines about what could not be.

        With another number of processes the epoch goes on from the micro-batch that held the next sample.
        """
        progress, ranks = self.progress, state["ranks"]
        progress.load_state_dict(state["progress"])
        self.loaders.sampler.load_state_dict(state["sampler"])
        progress.batch = state["position"] // self.draws_per_batch
        lines = self._load_freezing(state.get("freezing"))
        if progress.batch:
            self.task.begin_epoch(progress.epoch)
        if len(ranks) != self.world.size:
            return [*lines, f"saved by {len(ranks)} processes, continued by {self.world.size}: not bitwise"]
        own = ranks[self.world.rank]
        self.task.load_state_dict(own["task"])
        self.tally.load_state_dict(own["tally"])
        set_random_state(own["rng"])
        return lines

    def _load_freezing(self, state: dict[str, Any] | None) -> list[str]:
        if self.freezer is None:
            return []
        if state is None:
            return ["saved without freezing: it starts anew"]
        self.freezer.load_state_dict(state)
        return []
