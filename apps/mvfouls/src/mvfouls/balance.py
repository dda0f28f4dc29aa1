"""How rare classes are favoured: sampler, class weights, margins, and what they do together."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from common.balancing.budget import BalanceBudget, BudgetSettings, balance_budget
from common.balancing.samplers import KeyedSampler, ShuffleSampler
from common.balancing.weighted_samplers import (
    FactorSchedule,
    MixtureSampler,
    OversampleSampler,
    RecallSampler,
    WeightedSampler,
    joint_labels,
)
from common.balancing.weights import balanced_pos_weight, check_weights, ldam_margins, weights_from_counts
from common.config import UserError
from common.statistics import ClassStatistics, Shares, count_labels
from mvfouls.balance_text import balance_line, loss_line
from mvfouls.labels import IGNORE, TaskLabels
from mvfouls.soft_labels import halved, shared_weights, shares_of

if TYPE_CHECKING:
    from mvfouls.settings import BalanceSettings, LossSettings

Finding = tuple[str, str]
Labels = NDArray[np.int64]

DRW_BETA = 0.9999
FEW_SAMPLES = 8
"""A class with fewer training samples is learned by heart when it is drawn often."""


class BalancePlan:
    """The balancing of a run, by task and epoch (completed epochs, from 0).

    `statistics` hold the training samples of each task per class, in the unit that is sampled; of a task in
    `shares` [K, K] in half samples, since some of its labels are shared by two classes. `sampler` hands out
    the sampler, which draws by the annotated classes and whose probabilities everything else follows.
    `plan_balance` makes it.
    """

    def __init__(
        self,
        settings: BalanceSettings,
        losses: Mapping[str, LossSettings],
        labels: Mapping[str, Labels],
        statistics: Mapping[str, ClassStatistics],
        shares: Mapping[str, Shares],
        *,
        epochs: int,
        seed: int,
    ) -> None:
        self.settings, self.losses, self.statistics = settings, losses, statistics
        self.shares = shares
        self.trained = trained_tasks(losses)
        self.epochs = epochs
        self._labels, self._seed = labels, seed
        self._sampler = self._make_sampler(0, 1)

    def sampler(self, rank: int = 0, world: int = 1) -> KeyedSampler:
        """Return the sampler of a process, to be asked for once; `presented` and `observe` speak of it."""
        self._sampler = self._make_sampler(rank, world)
        return self._sampler

    def factor(self, epoch: int) -> float | None:
        """Return the largest repeat factor of an epoch; None for a sampler without one."""
        sampler = self._sampler
        return sampler.factor.at(epoch) if isinstance(sampler, OversampleSampler) else None

    def presented(self, task: str, epoch: int) -> Shares:
        """Return the samples of each class [K] that an epoch is expected to draw, shared ones as halves."""
        return self._shared(task, self._annotated(task, epoch))

    def observe(self, recall: Mapping[str, ArrayLike]) -> None:
        """Tell a dynamic sampler the training recalls [K] of an epoch by task; no other sampler listens."""
        if isinstance(self._sampler, RecallSampler):
            self._sampler.observe(recall[self.settings.dynamic_task])

    def weights(self, task: str, epoch: int) -> tuple[float, ...] | None:
        """Return the class weights [K] of a task, its pos_weight when it is one-vs-rest; None without any."""
        loss, statistics = self.losses[task], self.statistics[task]
        if loss.class_weights is not None:
            return tuple(check_weights(statistics, loss.class_weights, f"class weights of {task}").tolist())
        if loss.kind == "ldam" and loss.drw_start is not None:
            return tuple(self._deferred(task, epoch).tolist())
        if not loss.weighted or self.settings.strategy == "none":
            return None
        if loss.kind == "bce":
            return tuple(balanced_pos_weight(self._basis(task, epoch), cap=self.settings.limit).tolist())
        return tuple(self._strategy_weights(task, epoch).tolist())

    def margins(self, task: str) -> tuple[float, ...] | None:
        """Return the margins [K] of an ldam task; None for another loss."""
        loss = self.losses[task]
        if loss.kind != "ldam":
            return None
        return tuple(ldam_margins(self.statistics[task].counts, max_margin=loss.max_margin).tolist())

    def tau(self, task: str) -> float:
        """Return how much of the log prior training adds to the logits."""
        loss = self.losses[task]
        return 1.0 if loss.kind == "balanced_softmax" else loss.adjustment or 0.0

    def budget(self, task: str, epoch: int) -> BalanceBudget:
        """Return what sampler, weights and logit offset make of the class shares of a task."""
        statistics, loss, settings = self.statistics[task], self.losses[task], self.settings
        drawn = self.presented(task, epoch)
        shares = drawn / drawn.sum() if isinstance(self._sampler, WeightedSampler) else None
        weights = self._multipliers(task, epoch)
        samples = np.count_nonzero(self._labels[task] != IGNORE)
        words = BudgetSettings(
            loss=loss.kind,
            weights="given" if loss.class_weights is not None else settings.strategy,
            sampler=settings.sampler,
            smoothing=loss.smoothing,
            epoch_scale=float(drawn.sum()) / samples,
            allow_overcorrection=settings.allow_overcorrection,
            judge_inversion=True,
        )
        budget = balance_budget(statistics, shares, weights, settings=words)
        if self.tau(task) == 0:
            return budget
        learned = balance_budget(statistics, shares, self.weights(task, epoch)).weighted
        offset = self.tau(task) * np.log(np.where(learned > 0, learned, 1.0))
        return balance_budget(statistics, shares, weights, offset=offset, settings=words)

    def phases(self) -> tuple[int, ...]:
        """Return the epochs that begin with another factor or other weights than the one before."""
        settings, starts = self.settings, {0}
        if settings.sampler == "factor" and settings.factor_start != settings.factor_end:
            starts |= set(range(1, settings.factor_epochs + 1))
        starts |= {self._drw_epoch(loss) for loss in self.losses.values() if loss.drw_start is not None}
        return tuple(sorted(epoch for epoch in starts if epoch < self.epochs))

    def findings(self) -> tuple[Finding, ...]:
        """Return (level, text) of what is unwise (warning) or must not be trained (error), by task.

        Of all phases of a run the worst one speaks.
        """
        return tuple(
            (level, f"{task}: {text}")
            for task in self.trained
            for level, text in [*self._count_findings(task), *self._budget_findings(task)]
        )

    def lines(self, epoch: int = 0) -> list[str]:
        """Return the console lines: each task's loss, then its counts, corrections and their product."""
        losses = [
            loss_line(task, self.losses[task], self.statistics[task], self.margins(task))
            for task in self.trained
        ]
        return losses + [
            balance_line(task, self.budget(task, epoch), self.factor(epoch), self.weights(task, epoch))
            for task in self.trained
        ]

    def metrics(self, epoch: int) -> dict[str, float]:
        """Return the factor and the effective priors of an epoch under their logged names."""
        factor = self.factor(epoch)
        values = {} if factor is None else {"data/factor": factor}
        for task in self.trained:
            effective = self.budget(task, epoch).effective.tolist()
            values |= {f"data/effective_prior_{task}/{c}": share for c, share in enumerate(effective)}
        return values

    def to_dict(self, epoch: int = 0) -> dict[str, Any]:
        """Return plain types for JSON: the budget, expected draws, weights and margins of each task."""
        return {
            task: {
                "budget": self.budget(task, epoch).to_dict(),
                "presented": self.presented(task, epoch).tolist(),
                "weights": self.weights(task, epoch),
                "margins": self.margins(task),
            }
            for task in self.trained
        }

    def _make_sampler(self, rank: int, world: int) -> KeyedSampler:
        settings, place = self.settings, {"seed": self._seed, "rank": rank, "world": world}
        if settings.sampler == "shuffle":
            return ShuffleSampler(len(next(iter(self._labels.values()))), **place)
        repeat = settings.max_repeat
        if settings.sampler == "dynamic":
            task, power = settings.dynamic_task, settings.dynamic_power
            classes = self.statistics[task].num_classes
            return RecallSampler(self._labels[task], classes, power=power, max_repeat=repeat, **place)
        sets = [self._labels[task] for task in settings.sampler_tasks]
        if settings.sampler == "factor":
            factor = FactorSchedule(
                start=settings.factor_start, end=settings.factor_end, epochs=settings.factor_epochs
            )
            return OversampleSampler(sets, factor=factor, max_repeat=repeat, **place)
        sets = [joint_labels(sets)] if settings.sampler == "joint" else sets
        return MixtureSampler(sets, max_repeat=repeat, **place)

    def _annotated(self, task: str, epoch: int) -> Shares:
        """Return the samples of each annotated class [K] that an epoch is expected to draw."""
        sampler = self._sampler
        if isinstance(sampler, WeightedSampler):
            return sampler.presented_counts(self._labels[task], self.statistics[task].num_classes, epoch)
        return self._counted(task)

    def _counted(self, task: str) -> Shares:
        """Return the samples of each annotated class [K] there are."""
        counts, _ = count_labels(self._labels[task], self.statistics[task].num_classes, IGNORE)
        return counts.astype(np.float64)

    def _shared(self, task: str, annotated: Shares) -> Shares:
        """Return numbers of annotated samples [K] as numbers of learned ones."""
        return annotated @ self.shares[task] if task in self.shares else annotated

    def _basis(self, task: str, epoch: int) -> Shares:
        """Return the counts behind the weights: what is drawn, or what there is."""
        if self.settings.basis == "presented":
            return self.presented(task, epoch)
        return self._shared(task, self._counted(task))

    def _strategy_weights(self, task: str, epoch: int) -> Shares:
        settings, by_ratio = self.settings, self.settings.limit_rule == "ratio"
        return weights_from_counts(
            self._basis(task, epoch),
            settings.strategy,
            max_ratio=settings.limit if by_ratio else None,
            max_value=None if by_ratio else settings.limit,
            beta=settings.beta,
        )

    def _deferred(self, task: str, epoch: int) -> Shares:
        """Return ones until deferred re-weighting begins, then weights of mean 1 over the classes present."""
        if epoch < self._drw_epoch(self.losses[task]):
            return np.ones(self.statistics[task].num_classes)
        counts = self._basis(task, epoch)
        return weights_from_counts(counts, "effective_number", beta=DRW_BETA, normalize="mean")

    def _drw_epoch(self, loss: LossSettings) -> int:
        """Return the first epoch of deferred re-weighting."""
        assert loss.drw_start is not None
        return math.ceil(round(loss.drw_start * self.epochs, 6))

    def _multipliers(self, task: str, epoch: int) -> Shares | None:
        """Return what the weights multiply the class shares of the decision with; None where nothing."""
        weights = self.weights(task, epoch)
        if weights is None or len(set(weights)) == 1:
            return None
        values = np.array(weights)
        if self.losses[task].kind != "bce":
            return self._sample_multipliers(task, epoch, values)
        drawn = self.presented(task, epoch)
        share = drawn / drawn.sum()
        # the sigmoid of a class of share p that weighs w settles at w p / (w p + 1 - p)
        return np.asarray(values / (values * share + 1 - share))

    def _sample_multipliers(self, task: str, epoch: int, weights: Shares) -> Shares | None:
        """Return what weights of samples multiply the class shares with; None where nothing."""
        if task not in self.shares:
            return weights
        if np.ptp(weights[self.statistics[task].present]) == 0:
            return None
        return shared_weights(self._annotated(task, epoch), self.shares[task], weights)

    def _count_findings(self, task: str) -> list[Finding]:
        statistics, loss = self.statistics[task], self.losses[task]
        counts = self._shared(task, self._counted(task))
        lost = ~statistics.present
        if task in self.shares:
            lost &= self.shares[task].diagonal() == 1
        found = [
            ("warning", f"{statistics.label(index)} has no training sample: neither learned nor weighted")
            for index in np.flatnonzero(lost).tolist()
        ]
        few = np.flatnonzero(statistics.present & (counts < FEW_SAMPLES)).tolist()
        if few and task in sampled_tasks(self.settings):
            told = ", ".join(f"{statistics.label(index)} {counts[index]:g}" for index in few)
            text = f"under {FEW_SAMPLES} training samples, drawn often and so learned by heart: {told}"
            found.append(("warning", text))
        if loss.drw_start is not None and self._drw_epoch(loss) >= self.epochs:
            text = f"deferred re-weighting begins after epoch {self._drw_epoch(loss)} of {self.epochs}: never"
            found.append(("error", text))
        return found

    def _budget_findings(self, task: str) -> list[Finding]:
        phases = self.phases()
        budgets = {epoch: self.budget(task, epoch) for epoch in phases}
        worst = max(phases, key=lambda epoch: _severity(budgets[epoch]))
        when = f" (epoch {worst + 1})" if len(phases) > 1 else ""
        return [(level, text + when) for level, text in budgets[worst].findings]


def plan_balance(
    balance: BalanceSettings,
    losses: Mapping[str, LossSettings],
    labels: Mapping[str, Labels],
    tasks: Mapping[str, TaskLabels],
    *,
    epochs: int,
    seed: int,
) -> BalancePlan:
    """Return the plan for training samples with `labels` int64 [N] per task, -100 where there is none.

    `losses` holds the tasks of the objective, `labels` and `tasks` at least those and the sampler's.
    UserError for a sampled task that is not trained, and for one, sampled or with a loss, without labels.
    """
    sampled = sampled_tasks(balance)
    for task in sampled:
        if task not in labels:
            raise UserError(f"--balance_tasks: {task} is no task of this run: {', '.join(labels)}")
    for task in dict.fromkeys([*trained_tasks(losses), *sampled]):
        if not (labels[task] != IGNORE).any():
            raise UserError(f"{task}: no training sample has a label, nothing can be learned or balanced")
    shares = shares_of({task: tasks[task] for task in labels})
    statistics = {
        task: ClassStatistics.from_labels(
            labels[task], len(tasks[task].classes), IGNORE, names=tasks[task].classes
        )
        for task in labels
    }
    statistics |= {task: halved(statistics[task], table) for task, table in shares.items()}
    return BalancePlan(balance, losses, labels, statistics, shares, epochs=epochs, seed=seed)


def trained_tasks(losses: Mapping[str, LossSettings]) -> tuple[str, ...]:
    """Return the tasks that have a share in the objective."""
    return tuple(task for task, loss in losses.items() if loss.weight > 0)


def sampled_tasks(balance: BalanceSettings) -> tuple[str, ...]:
    """Return the tasks whose rare classes the sampler favours."""
    if balance.sampler == "shuffle":
        return ()
    return (balance.dynamic_task,) if balance.sampler == "dynamic" else balance.sampler_tasks


def _severity(budget: BalanceBudget) -> tuple[int, float]:
    return len(budget.errors), max(budget.strength or 0.0, budget.inversion or 0.0)
