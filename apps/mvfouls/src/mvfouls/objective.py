"""The losses of the tasks and their shares in what is minimised."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, cast

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import ArrayLike
from torch import Tensor, nn

from common.engine.task import LossTerm
from common.losses import Loss, build_loss
from common.losses.config import (
    BinaryCrossEntropyConfig,
    CrossEntropyConfig,
    FocalConfig,
    LDAMConfig,
    LogitAdjustedConfig,
    LossConfig,
    Weights,
)
from mvfouls.labels import IGNORE

if TYPE_CHECKING:
    from mvfouls.balance import BalancePlan
    from mvfouls.settings import LossSettings

Weighting = Literal["uniform", "inverse_accuracy", "inverse_f1", "difficulty"]

LEAST_SCORE = 0.1
"""Added to accuracy and F1 before they are inverted."""
USUAL_CLASSES = 10
"""A task with so many classes counts as difficult by one."""


class Objective(nn.Module):
    """The loss of every task with a weight above 0, and their weighted mean.

    Logits [B, K] and targets int64 [B] are given by task, -100 marking samples without a label. A task's loss
    is sum(l_i) / number of labelled samples, 0 without any; the objective is sum(w_t L_t) / sum(w_t) over
    all tasks. `train()` and `eval()` switch margins and logit offsets on and off, `set_epoch` exchanges the
    weights that belong to an epoch. Labels that two classes share are learned as halves of both. ValueError
    when a weight is negative or all are 0.
    """

    def __init__(self, losses: Mapping[str, LossSettings], plan: BalancePlan) -> None:
        super().__init__()
        for task, loss in losses.items():
            _check_weight(task, loss.weight)
        self.settings = {task: loss for task, loss in losses.items() if loss.weight > 0}
        self.plan = plan
        self.base_weights = {task: loss.weight for task, loss in self.settings.items()}
        self._weights: dict[str, float] = {}
        self.set_task_weights(self.base_weights)
        self.losses = nn.ModuleDict({task: task_loss(plan, task, 0) for task in self.settings})
        self.soft = nn.ModuleDict({task: SharedLabels(shares) for task, shares in plan.shares.items()})

    @property
    def task_weights(self) -> dict[str, float]:
        """The weight of each task, before division by their sum."""
        return dict(self._weights)

    def set_task_weights(self, weights: Mapping[str, float]) -> None:
        """Exchange the weights of all tasks; ValueError for other names, negative ones, or a sum of 0."""
        if weights.keys() != self.settings.keys():
            raise ValueError(f"task weights of {sorted(weights)}: {sorted(self.settings)} are expected")
        for task, weight in weights.items():
            _check_weight(task, weight)
        if not sum(weights.values()) > 0:
            raise ValueError("task weights are all 0: there is nothing to minimise")
        self._weights = {task: float(weights[task]) for task in self.settings}

    def set_epoch(self, epoch: int) -> None:
        """Take the class weights and priors of an epoch, counted from 0."""
        for task in self.settings:
            self._loss(task).load_state_dict(task_loss(self.plan, task, epoch).state_dict())

    def terms(self, logits: Mapping[str, Tensor], targets: Mapping[str, Tensor]) -> dict[str, LossTerm]:
        """Return the loss of each task before division, with its share of the objective."""
        share = sum(self._weights.values())
        terms = {}
        for task, weight in self._weights.items():
            target = self._target(task, targets[task], logits[task].shape[1])
            terms[task] = LossTerm(*self._loss(task).total_and_count(logits[task], target), weight / share)
        return terms

    def normalizers(self, targets: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the number of labelled samples of each task."""
        return {task: self._loss(task).normalizer(targets[task]) for task in self.settings}

    def judged(self, task: str, target: Tensor) -> Tensor:
        """Return the class ids [B] that answers are compared with, -100 for labels that two classes share."""
        return cast(SharedLabels, self.soft[task]).judged(target) if task in self.soft else target

    def _loss(self, task: str) -> Loss:
        return cast(Loss, self.losses[task])

    def _target(self, task: str, target: Tensor, num_classes: int) -> Tensor:
        loss = self.settings[task]
        if task in self.soft:
            target = cast(SharedLabels, self.soft[task]).targets(target)
        if loss.kind == "bce" and loss.smoothing:
            return smoothed_target(target, num_classes, loss.smoothing)
        return target


class SharedLabels(nn.Module):
    """Class ids int64 [B] of a task, -100 where there is none, as soft labels and as hard ones.

    `shares` [K, K] are what a label of each class says about every class.
    """

    shares: Tensor
    hard: Tensor

    def __init__(self, shares: ArrayLike) -> None:
        super().__init__()
        table = torch.as_tensor(np.asarray(shares), dtype=torch.float32)
        ids = torch.where(table.diagonal() == 1, torch.arange(len(table)), IGNORE)
        self.register_buffer("shares", table, persistent=False)
        self.register_buffer("hard", ids, persistent=False)

    def targets(self, target: Tensor) -> Tensor:
        """Return the shares [B, K], rows of -100 for samples without a label."""
        return torch.where((target == IGNORE).unsqueeze(1), float(IGNORE), self.shares[target.clamp(min=0)])

    def judged(self, target: Tensor) -> Tensor:
        """Return the class ids [B], -100 also for labels that two classes share."""
        return torch.where(target == IGNORE, IGNORE, self.hard[target.clamp(min=0)])


def task_loss(plan: BalancePlan, task: str, epoch: int) -> Loss:
    """Return the loss of a task with the weights and priors of an epoch.

    ValueError for a logit adjustment of another loss than ce, which would do nothing.
    """
    loss = plan.losses[task]
    if loss.adjustment is not None and loss.kind != "ce":
        raise ValueError(f"logit adjustment of {task}: its loss is {loss.kind}, ce is expected")
    drawn = plan.presented(task, epoch)
    config = _config(loss, plan.weights(task, epoch))
    return build_loss(config, plan.statistics[task], presented=drawn / drawn.sum())


def cosine_tasks(losses: Mapping[str, LossSettings]) -> tuple[str, ...]:
    """Return the tasks whose head must answer with cosines."""
    return tuple(task for task, loss in losses.items() if loss.kind == "ldam")


def smoothed_target(target: Tensor, num_classes: int, smoothing: float) -> Tensor:
    """Return (1 - e) q + e / K as floats [B, K], rows of -100 for samples without a label.

    `target` holds class ids [B], for which q is one-hot, or q itself [B, K].
    """
    if target.is_floating_point():
        ignored, shares = (target == IGNORE).all(dim=1), target
    else:
        ignored, shares = target == IGNORE, F.one_hot(target.clamp(min=0), num_classes).to(torch.float32)
    soft = (1 - smoothing) * shares + smoothing / num_classes
    return torch.where(ignored.unsqueeze(1), float(IGNORE), soft)


@dataclass(frozen=True, kw_only=True)
class TaskScore:
    """How well a task did in an epoch; NaN where no sample had a label."""

    accuracy: float
    macro_f1: float
    num_classes: int


def adapted_weights(
    strategy: Weighting, base: Mapping[str, float], scores: Mapping[str, TaskScore]
) -> dict[str, float]:
    """Return base_t r_t, where r favours tasks that did badly and sums to the number of tasks.

    r is 1 (`uniform`), 1 / (accuracy + 0.1), 1 / (macro F1 + 0.1), or K / 10 + 1 - accuracy (`difficulty`),
    then normalised; a task without a score keeps 1.
    """
    ratios = {task: _ratio(strategy, scores[task]) for task in base}
    known = [ratio for ratio in ratios.values() if not math.isnan(ratio)]
    mean = sum(known) / len(known) if known else 1.0
    return {
        task: weight * (1.0 if math.isnan(ratios[task]) else ratios[task] / mean)
        for task, weight in base.items()
    }


def _ratio(strategy: Weighting, score: TaskScore) -> float:
    if strategy == "inverse_accuracy":
        return 1 / (score.accuracy + LEAST_SCORE)
    if strategy == "inverse_f1":
        return 1 / (score.macro_f1 + LEAST_SCORE)
    if strategy == "difficulty":
        return score.num_classes / USUAL_CLASSES + 1 - score.accuracy
    return 1.0


def _config(loss: LossSettings, weights: tuple[float, ...] | None) -> LossConfig:
    given: Weights = "none" if weights is None else weights
    if loss.kind == "bce":
        return BinaryCrossEntropyConfig(pos_weight=weights, reduction="valid_mean")
    if loss.kind == "focal":
        return FocalConfig(
            gamma=loss.gamma, weights=given, label_smoothing=loss.smoothing, reduction="valid_mean"
        )
    if loss.kind == "ldam":
        return LDAMConfig(
            max_margin=loss.max_margin,
            scale=loss.scale,
            weights=given,
            label_smoothing=loss.smoothing,
            reduction="valid_mean",
        )
    if loss.kind == "ce" and loss.adjustment is None:
        return CrossEntropyConfig(weights=given, label_smoothing=loss.smoothing, reduction="valid_mean")
    tau = 1.0 if loss.adjustment is None else loss.adjustment
    return LogitAdjustedConfig(tau=tau, weights=given, label_smoothing=loss.smoothing, reduction="valid_mean")


def _check_weight(task: str, weight: float) -> None:
    if not 0 <= weight < math.inf:
        raise ValueError(f"weight of {task} is {weight}: a finite number >= 0 is expected")
