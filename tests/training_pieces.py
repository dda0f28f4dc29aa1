"""What the pieces of a training, made from a command line one by one, have in common."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from typing import Any

from torch.optim import Optimizer

from common.config import UserError
from common.engine.settings import FitConfig
from common.engine.state import build_optimizer
from common.engine.task import Task
from common.schedulers.learning_rate import Schedule


class Pieces:
    """A command line and what comes of it; `train` runs the command itself."""

    task: Task
    fit: FitConfig

    def __init__(self, words: Sequence[str], train: Callable[..., Any]) -> None:
        self.words, self.train = list(words), train

    @cached_property
    def optimizer(self) -> Optimizer:
        settings = self.fit.optimizer
        groups = self.task.parameter_groups(settings.lr, settings.weight_decay, decay_all=settings.decay_all)
        return build_optimizer(groups, settings)

    def rate(self, epoch: int, step: int | None = None, history: Sequence[tuple[int, float]] = ()) -> float:
        """Learning rate of an epoch of ten steps."""
        base = self.fit.optimizer.lr
        schedule = Schedule(
            config=self.fit.schedule, base_lr=base, total_steps=10 * self.fit.epochs, steps_per_epoch=10
        )
        return base * schedule.factor(10 * epoch if step is None else step, epoch, history)

    def ran(self, *more: str) -> Any:
        """Run the command itself."""
        return self.train(*self.words, *more)


def looked_at(make: Callable[[], Pieces], look: Callable[[Any], Any]) -> Any:
    """Return what `look` sees, or the text of a refusal."""
    try:
        return look(make())
    except UserError as error:
        return str(error)
