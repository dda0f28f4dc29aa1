"""Fresh heads on the features of a frozen backbone: what all trainings share, and one of them."""

from __future__ import annotations

import time
from dataclasses import dataclass

from torch import Tensor, nn

from common.balancing.samplers import ShardedEvalSampler
from common.engine.distributed import World
from common.engine.fit import Summary, fit
from common.engine.loading import Batches, Loaders, make_loader
from common.engine.logging import Console
from common.engine.randomness import seed_everything
from common.engine.run import Run
from common.engine.settings import FitConfig, OptimizerConfig
from common.engine.state import Provenance
from common.engine.task import EpochReport
from common.schedulers.learning_rate import ScheduleConfig
from mvfouls.annotations import Annotations
from mvfouls.architectures import architecture
from mvfouls.augment_device import InModelAugment
from mvfouls.backbones import VideoBackbone
from mvfouls.balance import BalancePlan, plan_balance
from mvfouls.card import ModelCard
from mvfouls.dataset import FoulDataset
from mvfouls.experiment_features import FeatureTable, as_it_is
from mvfouls.experiment_methods import Method
from mvfouls.judging import Judgement
from mvfouls.labels import TaskLabels
from mvfouls.model import FoulModel, with_heads
from mvfouls.objective import Objective, cosine_tasks
from mvfouls.predictor import Collector
from mvfouls.scores import score_of
from mvfouls.settings import AugmentSettings
from mvfouls.task import FoulTask, Judging


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """What is the same for every method."""

    epochs: int
    lr: float
    batch_size: int

    def fit(self) -> FitConfig:
        """Return the settings of the engine: all epochs, judged once at their end, nothing printed."""
        return FitConfig(
            epochs=self.epochs,
            optimizer=OptimizerConfig(lr=self.lr),
            schedule=ScheduleConfig(),
            validate_every=self.epochs,
            log_every=2**31,
            oom_recovery=False,
        )

    def to_dict(self) -> dict[str, float | str]:
        """Return what a reader wants to know of it."""
        fit = self.fit()
        return {
            "epochs": self.epochs,
            "learning_rate": self.lr,
            "batch_size": self.batch_size,
            "optimizer": fit.optimizer.name,
            "weight_decay": fit.optimizer.weight_decay,
            "schedule": fit.schedule.name,
            "gradient_clip_norm": fit.clip_norm,
        }


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Both splits with their features; `truth` are the annotations that are judged by."""

    card: ModelCard
    tasks: dict[str, TaskLabels]
    training: FoulDataset
    judged: FoulDataset
    tables: tuple[FeatureTable, FeatureTable]
    """Of `training` and `judged`."""
    truth: Annotations
    recipe: Recipe
    world: World

    @property
    def classes(self) -> dict[str, int]:
        """Return the number of classes of each task."""
        return {task: len(labels.classes) for task, labels in self.tasks.items()}


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """One training: how it ended, and what its last epoch left says of the judged actions."""

    summary: Summary
    judgement: Judgement | None
    """None when a signal ended it."""
    seconds: float


def plan_of(bench: Bench, method: Method, seed: int) -> BalancePlan:
    """Return the sampler, weights and priors of a method; UserError for a task without labels."""
    labels = {task: bench.training.presented_labels(task) for task in bench.tasks}
    return plan_balance(
        method.balance(bench.tasks),
        method.losses(bench.tasks),
        labels,
        bench.tasks,
        epochs=bench.recipe.epochs,
        seed=seed,
    )


def train_heads(bench: Bench, method: Method, seed: int) -> Outcome:
    """Train a fresh aggregator and fresh heads for all epochs and judge the last; TrainingError as `fit`."""
    started = time.monotonic()
    plan = plan_of(bench, method, seed)
    seed_everything(seed, bench.world.rank)
    model = fresh_model(bench, method).to(bench.world.device)
    task = _task(bench, method, plan, model)
    with Run.dry(console=Console(enabled=False)) as run:
        summary = fit(
            run,
            task,
            _loaders(bench, plan),
            bench.recipe.fit(),
            provenance=Provenance(config="", metadata={}),
            world=bench.world,
        )
    judgement = None if summary.exit_code else task.judgement
    return Outcome(summary=summary, judgement=judgement, seconds=time.monotonic() - started)


def fresh_model(bench: Bench, method: Method) -> FoulModel:
    """Return the checkpoint's aggregator and heads with random weights, on features that are given."""
    card = bench.card
    given = GivenFeatures(nn.Identity(), dim=architecture(card.model.backbone).dim, layout={})
    return with_heads(given, card.model, bench.classes, cosine_tasks(method.losses(bench.tasks)))


class GivenFeatures(VideoBackbone):
    """Stands where a backbone would: its input is its features [N, dim]."""

    def forward(self, clips: Tensor) -> Tensor:
        """Return the features as they are."""
        return clips


def _task(bench: Bench, method: Method, plan: BalancePlan, model: FoulModel) -> FoulTask:
    losses = method.losses(bench.tasks)
    judging = Judging(
        Collector(bench.judged, bench.classes, bench.world.device),
        bench.truth,
        bench.tasks,
        {name: score_of(loss) for name, loss in losses.items()},
        projection=bench.card.projection,
        headline="leaderboard",
        official=True,
    )
    return FoulTask(
        model,
        Objective(losses, plan).to(bench.world.device),
        plan,
        bench.tasks,
        judging=judging,
        augment=InModelAugment(AugmentSettings()),
        cleanup_interval=0,
        lines=_no_lines,
    )


def _loaders(bench: Bench, plan: BalancePlan) -> Loaders:
    size, sampler = bench.recipe.batch_size, plan.sampler()
    batches = Batches(sampler, size)
    everything = Batches(ShardedEvalSampler(len(bench.judged)), size)
    train, valid = (
        make_loader(table, each, collate=as_it_is)
        for table, each in zip(bench.tables, (batches, everything), strict=True)
    )
    return Loaders(train=train, sampler=sampler, batches=batches, valid=valid)


def _no_lines(report: EpochReport, task: FoulTask) -> list[str]:
    return []
