"""The pieces of a training by `train_modular.py`, made from a command line one by one."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import torch
from mv_runs import SMALL, Ran

from common.config import parse
from common.engine.distributed import World
from common.engine.logging import Console
from common.engine.randomness import seed_everything
from common.engine.step import Optimization
from mvfouls.balance import plan_balance
from mvfouls.config_modular import ALIASES, PRESETS, ModularConfig
from mvfouls.data import FoulData, open_data
from mvfouls.resolve_modular import resolve
from mvfouls.settings import RunSettings
from mvfouls.train import build_freezer, build_loaders, build_network, build_task


@cache
def settled(words: str, data: Path) -> RunSettings:
    """Return the settings of a command line about a data set."""
    given = [*SMALL.split(), f"--dataset_root={data}", *words.split()]
    parsed = parse(ModularConfig, given, prog="train_modular.py", presets=PRESETS, aliases=ALIASES)
    return resolve(parsed)


_opened: dict[str, FoulData] = {}


def opened(settings: RunSettings) -> FoulData:
    """Return the data of a run, the same object for the same data."""
    key = repr((settings.data, settings.augment.jitter, list(settings.losses)))
    if key not in _opened:
        _opened[key] = open_data(settings)
    return _opened[key]


class Built:
    """The pieces of a training, each made when it is first looked at."""

    def __init__(self, words: str, data: Path, train: Callable[..., Ran]) -> None:
        self.words, self.root, self._train = words, data, train
        self.settings = settled(words, data)
        self.world = World()

    @cached_property
    def data(self) -> FoulData:
        return opened(self.settings)

    @cached_property
    def training(self):
        return self.data.training(self.settings)

    @cached_property
    def plan(self):
        settings = self.settings
        labels = {task: self.training.presented_labels(task) for task in self.data.tasks}
        return plan_balance(
            settings.balance, settings.losses, labels, self.data.tasks,
            epochs=settings.fit.epochs, seed=settings.seed,
        )  # fmt: skip

    @cached_property
    def model(self):
        seed_everything(self.settings.seed, 0)
        return build_network(self.settings, self.data)

    @cached_property
    def freezer(self):
        return build_freezer(self.settings, self.data, self.model, self.world)

    @cached_property
    def loaders(self):
        console = Console(enabled=False)
        return build_loaders(
            self.settings, self.data, self.training, self.plan, self.model, self.world, console
        )

    @cached_property
    def task(self):
        return build_task(self.settings, self.data, self.plan, self.model, self.freezer, self.world)

    @cached_property
    def optimization(self):
        return Optimization(self.task, self.settings.fit, self.world, self.freezer)

    def groups(self, key: str) -> dict[str, Any]:
        """A setting of every group of parameters."""
        return {group["name"]: group[key] for group in self.optimization.optimizer.param_groups}

    def drawn(self, epoch: int = 0) -> list[Any]:
        """What the sampler draws in an epoch."""
        self.loaders.sampler.set_epoch(epoch)
        return list(self.loaders.sampler)

    def batches(self, epoch: int = 0) -> list[dict[str, Any]]:
        """The training batches of an epoch."""
        self.loaders.sampler.set_epoch(epoch)
        return list(self.loaders.train)

    @cached_property
    def batch(self) -> dict[str, Any]:
        return self.batches()[0]

    @cached_property
    def judged(self) -> dict[str, Any]:
        """The first validation batch."""
        return next(iter(self.loaders.valid))

    def seen(self, batch: dict[str, Any]) -> torch.Tensor:
        """What the network sees of a batch in a training step, [N, 3, T, H, W] normalised."""
        inputs: list[torch.Tensor] = []
        handle = self.model.backbone.register_forward_pre_hook(lambda module, given: inputs.append(given[0]))
        self.freezer.train()
        self.task.training_step(batch)
        handle.remove()
        return inputs[0]

    def ran(self, *more: str) -> Ran:
        """Run the command itself."""
        return self._train(self.words, *more, data=self.root)

    def again(self, more: str) -> Built:
        """The pieces with other words behind."""
        return Built(f"{self.words} {more}", self.root, self._train)
