"""How training is balanced: repeated bouts, class weights from what they present, and the losses."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from common.balancing.budget import BalanceBudget, BudgetSettings, balance_budget
from common.balancing.weights import class_weights, ldam_margins
from common.losses import CrossEntropyLoss, FocalLoss, LDAMLoss, LogitAdjustedLoss, Loss
from common.statistics import ClassStatistics
from rodent_behavior.balance import Repetition
from rodent_behavior.checks import WITHOUT_WEIGHTS
from rodent_behavior.config import TrainConfig
from rodent_behavior.data import learns_keypoints
from rodent_behavior.labels import Actions
from rodent_behavior.model_config import COSINE_SCALE
from rodent_behavior.objective import IGNORE, Objective


@dataclass(frozen=True, kw_only=True, eq=False)
class BalancePlan:
    """Everything that corrects the imbalance, with its account."""

    repetition: Repetition
    weights: NDArray[np.float64] | None
    budget: BalanceBudget
    objective: Objective


def plan_balance(config: TrainConfig, statistics: ClassStatistics, actions: Sequence[Actions]) -> BalancePlan:
    """Return repetition, weights and losses for the actions of the training trials.

    Class weights are computed from the frames that the repetition presents, so that both together correct
    the imbalance once.
    """
    balance, loss = config.balance, config.loss
    repetition = Repetition.plan(
        actions,
        statistics.names or (),
        threshold=balance.rare_threshold_share,
        cap=balance.rare_boost_cap,
        window=config.run.train_T,
        margin=balance.rare_margin,
    )
    weights = None
    if balance.class_weighting != "none" and loss.loss not in WITHOUT_WEIGHTS:
        capped = balance.class_weighting == "balanced_capped"
        weights = class_weights(
            statistics,
            balance.class_weighting,
            max_ratio=balance.max_weight_ratio if capped else None,
            normalize="sample",
            presented=repetition.presented,
        )
    offset = log_prior(repetition.presented) if loss.loss == "logit_adjusted" else None
    words = BudgetSettings(
        loss=f"focal(gamma={loss.focal_gamma:g})" if loss.loss == "focal" else loss.loss,
        weights="none" if weights is None else balance.class_weighting,
        sampler="none" if not repetition.items else f"bouts(cap={balance.rare_boost_cap:g})",
        smoothing=loss.label_smoothing,
        max_ratio=balance.max_weight_ratio
        if weights is not None and balance.class_weighting == "balanced_capped"
        else None,
        allow_overcorrection=True,
    )
    budget = balance_budget(statistics, repetition.presented, weights, offset=offset, settings=words)
    keypoints = loss.lambda_kp if learns_keypoints(config.model, loss.lambda_kp) else 0.0
    objective = Objective(
        action=build_action_loss(config, weights, offset, statistics),
        smooth_weight=loss.lambda_smooth,
        tmse_weight=loss.lambda_tmse,
        keypoint_weight=keypoints,
        keypoint_beta=loss.kp_beta,
    )
    return BalancePlan(repetition=repetition, weights=weights, budget=budget, objective=objective)


def build_action_loss(
    config: TrainConfig,
    weights: NDArray[np.float64] | None,
    offset: NDArray[np.float64] | None,
    statistics: ClassStatistics,
) -> Loss:
    """Return the loss that `--loss` names, a mean over frames; frames of target -100 carry none."""
    loss = config.loss
    weight = None if weights is None else weights.tolist()
    if loss.loss == "logit_adjusted":
        assert offset is not None
        return LogitAdjustedLoss(
            log_prior=offset.tolist(),
            label_smoothing=loss.label_smoothing,
            ignore_index=IGNORE,
            reduction="valid_mean",
        )
    if loss.loss == "ldam":
        return LDAMLoss(
            margins=ldam_margins(statistics.counts).tolist(),
            scale=COSINE_SCALE,
            head_output="scaled",
            label_smoothing=loss.label_smoothing,
            ignore_index=IGNORE,
            reduction="valid_mean",
        )
    if loss.loss == "focal":
        return FocalLoss(
            gamma=loss.focal_gamma,
            weight=weight,
            label_smoothing=loss.label_smoothing,
            ignore_index=IGNORE,
            reduction="valid_mean",
        )
    return CrossEntropyLoss(
        weight=weight,
        label_smoothing=loss.label_smoothing,
        ignore_index=IGNORE,
        reduction="valid_mean",
    )


def log_prior(shares: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the logarithm of class shares, 0 for absent classes."""
    return np.where(shares > 0, np.log(np.where(shares > 0, shares, 1.0)), 0.0)
