"""The pieces of a training of fouls on generated clips, as `mvfouls train` makes them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch

from common.config import parse
from common.engine.distributed import World
from common.engine.loading import Loaders, iterate
from common.engine.logging import Console
from common.engine.randomness import seed_everything
from common.engine.step import Optimization, StepResult
from common.engine.task import Batch
from common.freezing.driver import Freezer
from mvfouls.balance import plan_balance
from mvfouls.config_modular import ALIASES, PRESETS, ModularConfig
from mvfouls.data import open_data
from mvfouls.resolve_modular import resolve
from mvfouls.settings import RunSettings
from mvfouls.task import FoulTask
from mvfouls.train import build_freezer, build_loaders, build_network, build_task

FRAMES, HEIGHT, WIDTH = 8, 64, 112
PLAIN = (
    f"--frames_per_clip {FRAMES} --img_height {HEIGHT} --img_width {WIDTH} --num_workers 0 --device cpu "
    "--augmentation_strength none --no-use_class_balanced_sampler --class_weighting_strategy none "
    "--early_stopping_patience 0"
)
"""Random weights on the processor, every sample as it is."""


@dataclass(frozen=True)
class Pieces:
    """What `fit` would be given, and the optimiser around it."""

    task: FoulTask
    loaders: Loaders
    freezer: Freezer
    optimization: Optimization

    def batches(self, epoch: int = 0) -> Iterator[Batch]:
        """Yield the training batches of an epoch."""
        self.loaders.sampler.set_epoch(epoch)
        return iterate(self.loaders.train)

    def step(self, batch: Batch) -> StepResult:
        """Take one optimiser step at the base rates."""
        factors = [1.0] * len(self.optimization.optimizer.param_groups)
        return self.optimization.take([batch], factors, lambda old, new: None)

    def epoch(self) -> list[float]:
        """Train through the first epoch's batches; return the loss of each step."""
        self.freezer.train()
        self.task.begin_epoch(0)
        return [self.step(batch).sums.means()["loss"] for batch in self.batches()]


def build(data: Path, words: str) -> Pieces:
    """Return the pieces of `train_modular.py` with `words` on the data set in a folder."""
    given = [*PLAIN.split(), f"--dataset_root={data}", *words.split()]
    parsed = parse(ModularConfig, given, prog="train_modular.py", presets=PRESETS, aliases=ALIASES)
    return from_settings(resolve(parsed, cuda=False, processes=1))


def from_settings(settings: RunSettings) -> Pieces:
    """Return the pieces of a settled run."""
    world, console = World(), Console(enabled=False)
    data = open_data(settings)
    training = data.training(settings)
    labels = {task: training.presented_labels(task) for task in data.tasks}
    plan = plan_balance(
        settings.balance, settings.losses, labels, data.tasks, epochs=settings.fit.epochs, seed=settings.seed
    )
    seed_everything(settings.seed)
    model = build_network(settings, data).to(torch.device("cpu"))
    freezer = build_freezer(settings, data, model, world)
    loaders = build_loaders(settings, data, training, plan, model, world, console)
    task = build_task(settings, data, plan, model, freezer, world)
    return Pieces(task, loaders, freezer, Optimization(task, settings.fit, world, freezer))
