"""From counted pixels to losses: rare crops, class weights, and the budget of their product."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from common.balancing.budget import BalanceBudget, BudgetSettings, balance_budget
from common.balancing.crops import Exposure, RareCropSampler
from common.losses import Loss
from common.losses.config import Reduction
from common.losses.cross_entropy import CrossEntropyLoss
from common.losses.focal import FocalLoss
from common.losses.prior_adjusted import LogitAdjustedLoss
from common.statistics import ClassStatistics
from uav_landing.config import CropConfig, LossConfig
from uav_landing.data.rare import crop_exposure, presented_shares, rare_sampler
from uav_landing.labels import IGNORE
from uav_landing.landing_data import LandingData
from uav_landing.task import LossPlan
from uav_landing.weights import WeightChoice, choose_weights


@dataclass(frozen=True, kw_only=True)
class RareCrops:
    """The rule for rare crops, and what it lets the loss see; None and natural shares when it is off."""

    sampler: RareCropSampler | None
    exposure: Exposure | None
    presented: NDArray[np.float64] | None


@dataclass(frozen=True, kw_only=True)
class Balance:
    """Every correction for imbalance, decided."""

    losses: LossPlan
    weights: WeightChoice
    budget: BalanceBudget


def plan_rare_crops(data: LandingData, config: CropConfig, seed: int) -> RareCrops:
    """Return the rare-crop rule for the training photos."""
    ids = data.split.train
    sampler = rare_sampler(data.store, ids, data.photos.table, config)
    if sampler is None:
        return RareCrops(sampler=None, exposure=None, presented=None)
    exposure = crop_exposure(data.store, ids, sampler, config, seed=seed)
    shares = presented_shares(exposure, data.lookup, len(data.class_ids))
    return RareCrops(sampler=sampler, exposure=exposure, presented=shares)


def plan_balance(
    config: LossConfig,
    statistics: ClassStatistics,
    class_ids: list[int],
    rare: RareCrops,
    *,
    rare_fraction: float,
) -> Balance:
    """Return losses and budget; raises UserError for weights that cannot be, as `choose_weights` does."""
    weights = choose_weights(config, statistics, class_ids, rare.presented)
    offset = _log_prior(statistics, rare, weights.values) if config.loss == "logit_adjusted" else None
    main = build_main_loss(config, weights.values, offset)
    words = BudgetSettings(
        loss=_loss_words(config),
        weights=weights.name if config.focal_weight else "none",
        sampler="none" if rare.sampler is None else f"rare crops({rare_fraction:g})",
        max_ratio=config.weight_cap or None,
        allow_overcorrection=True,
    )
    used = (weights.values, offset) if config.focal_weight else (None, None)
    budget = balance_budget(statistics, rare.presented, used[0], offset=used[1], settings=words)
    plan = LossPlan(
        main=main,
        main_name="focal" if config.loss == "balanced_focal" else config.loss,
        main_weight=config.focal_weight,
        dice_weight=config.dice_weight,
        aux_weight=config.aux_weight,
    )
    return Balance(losses=plan, weights=weights, budget=budget)


def _loss_words(config: LossConfig) -> str:
    """Return the term that carries the weights, as the console names it."""
    if not config.focal_weight:
        return "dice alone"
    return f"focal(gamma={config.gamma:g})" if config.loss == "balanced_focal" else config.loss


def build_main_loss(
    config: LossConfig, weights: NDArray[np.float64] | None, log_prior: NDArray[np.float64] | None
) -> Loss:
    """Return the loss that `--loss` names; pixels of value 255 carry none."""
    weight = None if weights is None else weights.tolist()
    reduction: Reduction = "valid_mean" if config.focal_normalize == "pixels" else "mean"
    if config.loss == "balanced_focal":
        return FocalLoss(gamma=config.gamma, weight=weight, ignore_index=IGNORE, reduction=reduction)
    if config.loss == "ce":
        return CrossEntropyLoss(weight=weight, ignore_index=IGNORE, reduction=reduction)
    assert log_prior is not None
    return LogitAdjustedLoss(
        log_prior=log_prior.tolist(), weight=weight, ignore_index=IGNORE, reduction=reduction
    )


def _log_prior(
    statistics: ClassStatistics, rare: RareCrops, weights: NDArray[np.float64] | None
) -> NDArray[np.float64]:
    """Return the log of what the loss sees per class, so that offset, crops and weights do not add up."""
    shares = statistics.prior if rare.presented is None else rare.presented
    seen = shares if weights is None else shares * weights
    normal = seen / seen.sum()
    return np.where(normal > 0, np.log(np.where(normal > 0, normal, 1)), 0.0)
