"""Losses and metrics of foul recognition, as the training engine asks for them."""

from __future__ import annotations

import gc
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from common.engine.task import Batch, EpochReport, Headline, LossTerm, Task
from common.metrics import report
from common.metrics.confusion import ConfusionMatrix
from mvfouls.annotations import Annotations
from mvfouls.augment_device import InModelAugment
from mvfouls.balance import BalancePlan
from mvfouls.judging import Judgement, judge
from mvfouls.labels import IGNORE, TaskLabels
from mvfouls.ldam_hints import ldam_hints
from mvfouls.model import FoulModel, FoulOutput
from mvfouls.objective import Objective
from mvfouls.packing import join, pack
from mvfouls.predictor import Collector, answer
from mvfouls.scores import Score
from mvfouls.settings import ProjectionSettings, TaskWeighting
from mvfouls.task_weighting import TaskWeights

LOWER_IS_BETTER = frozenset({"loss"})


class FoulTask(Task):
    """Every task's loss on actions or clips; judged per action, by the official rules and per task.

    `lines` makes the console block of an epoch. Every `cleanup_interval` training batches memory that torch
    holds without need is given back; 0 or less: never. `weighting` says how task weights follow the metrics;
    a sampler that follows the training recall is told it after each epoch.
    """

    console_metrics: tuple[str, ...] = ("os_ba", "action_ba")

    def __init__(
        self,
        model: FoulModel,
        objective: Objective,
        plan: BalancePlan,
        tasks: Mapping[str, TaskLabels],
        *,
        judging: Judging,
        augment: InModelAugment,
        cleanup_interval: int,
        lines: Callable[[EpochReport, FoulTask], list[str]],
        weighting: TaskWeighting | None = None,
    ) -> None:
        self.model: FoulModel = model
        self.objective, self.plan, self.tasks = objective, plan, tasks
        self.weights = TaskWeights(objective, weighting or TaskWeighting())
        self.judging, self.augment, self.lines = judging, augment, lines
        self.headline = judging.headline
        self.console_metrics = self.console_metrics if judging.official else ("mean_ba",)
        self.matrices = {
            task: ConfusionMatrix(len(labels.classes), ignore_index=IGNORE) for task, labels in tasks.items()
        }
        self.cleanup_interval = cleanup_interval
        self.cleanups = self._batches = 0
        self.epoch = 0
        self.judgement: Judgement | None = None

    def begin_epoch(self, epoch: int) -> None:
        """Forget the last epoch's training answers; take this epoch's task and class weights."""
        self.epoch = epoch
        self.weights.begin_epoch()
        self.objective.set_epoch(epoch)
        for matrix in self.matrices.values():
            matrix.reset()

    def training_step(self, batch: Batch) -> dict[str, LossTerm]:
        """Return the loss terms of a batch and count its answers."""
        self._clean_up()
        self.objective.train()
        output = self._output(batch)
        for task, logits in output.logits.items():
            self.matrices[task].update(logits.detach(), self.objective.judged(task, batch["targets"][task]))
        return self.objective.terms(output.logits, batch["targets"])

    def _output(self, batch: Batch) -> FoulOutput:
        if "features" in batch:
            return self.model.classify(*join(batch["features"]))
        clips, counts = pack(batch["clips"])
        if self.model.training:
            clips = self.augment(clips, batch["draws"])
        output: FoulOutput = self.model(self.model.normalise(clips), counts)
        return output

    def _clean_up(self) -> None:
        self._batches += 1
        if self.cleanup_interval <= 0 or self._batches % self.cleanup_interval:
            return
        self.cleanups += 1
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def normalizers(self, batch: Batch) -> dict[str, Tensor]:
        """Return the labelled samples of each task."""
        return self.objective.normalizers(batch["targets"])

    def sample_names(self, batch: Batch) -> list[str]:
        """Return the actions of a batch."""
        return [f"action {name}" for name in batch["action"]]

    def divergence_hints(self, terms: Sequence[str]) -> list[str]:
        """Return what may help when a task with margins diverges."""
        return ldam_hints(self.objective.settings, terms)

    def begin_validation(self) -> None:
        """Forget the last validation."""
        self.judging.collector.reset()

    def validation_step(self, batch: Batch) -> dict[str, LossTerm]:
        """Collect the answers for a batch of actions."""
        self.objective.eval()
        judging = self.judging
        found = answer(self.model, batch, judging.scores, flipped=judging.flipped)
        judging.collector.add(found, batch["key"][:, 0], batch["views"])
        return self.objective.terms(found.logits, batch["targets"])

    def metric_states(self) -> list[Tensor]:
        """Return the collected answers, to be summed over processes."""
        return self.judging.collector.states()

    def train_metric_states(self) -> list[Tensor]:
        """Return the training counts."""
        return [state for matrix in self.matrices.values() for state in matrix.states()]

    def metrics(self) -> dict[str, float]:
        """Return every metric of the validation, and keep what it was made of."""
        self.judgement = self.judging.judge()
        self.weights.see("valid", {task: each.matrix for task, each in self.judgement.tasks.items()})
        return self.judgement.metrics()

    def train_metrics(self) -> dict[str, float]:
        """Return accuracy and balanced accuracy over the samples as they were presented.

        The sampler and the task weights of the next epoch follow from them.
        """
        values = self.plan.metrics(self.epoch) | self.weights.metrics()
        found = {task: matrix.compute().cpu().numpy() for task, matrix in self.matrices.items()}
        for task, counts in found.items():
            values[f"{task}_acc"] = float(report.accuracy(counts))
            values[f"{task}_ba"] = float(report.balanced_accuracy(counts))
        self.weights.see("train", found)
        self.plan.observe({task: report.recall(counts) for task, counts in found.items()})
        return values

    def epoch_lines(self, report: EpochReport) -> list[str]:
        """Return the documented block."""
        return self.lines(report, self)

    def state_dict(self) -> dict[str, Any]:
        """Return the running training counts."""
        return {
            "matrices": {task: matrix.state_dict() for task, matrix in self.matrices.items()},
            "cleanups": [self.cleanups, self._batches],
            "task_weights": self.weights.state_dict(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned."""
        for task, matrix in self.matrices.items():
            matrix.load_state_dict(state["matrices"][task])
        self.cleanups, self._batches = state["cleanups"]
        self.weights.load_state_dict(state["task_weights"])


class Judging:
    """How the validation actions are judged.

    `limit`: only so many samples are looked at, so no leaderboard value is claimed.
    """

    def __init__(
        self,
        collector: Collector,
        truth: Annotations,
        tasks: Mapping[str, TaskLabels],
        scores: Mapping[str, Score],
        *,
        projection: ProjectionSettings,
        headline: str,
        official: bool,
        limit: int | None = None,
        flipped: bool = False,
    ) -> None:
        self.collector, self.truth, self.tasks, self.scores = collector, truth, tasks, scores
        self.projection, self.official = projection, official
        self.limit, self.flipped = limit, flipped
        self.headline = Headline(headline, "min" if headline in LOWER_IS_BETTER else "max")

    @property
    def partial(self) -> bool:
        """Whether some actions are not judged."""
        return self.limit is not None

    def judge(self) -> Judgement:
        """Judge what was collected."""
        found = self.collector.result()
        return judge(
            found.probabilities,
            found.actions,
            self.truth,
            self.tasks,
            self.projection,
            partial=self.partial,
        )
