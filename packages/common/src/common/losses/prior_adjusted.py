"""Losses and predictions corrected by the class prior (logit adjustment, balanced softmax)."""

from __future__ import annotations

import torch
from torch import Tensor

from common.losses._reduction import (
    ClassValues,
    SoftElementLoss,
    check_range,
    class_values,
    full_precision,
    per_class,
)
from common.losses.config import IGNORE_INDEX, Reduction
from common.losses.cross_entropy import check_smoothing, cross_entropy


def logit_adjusted_cross_entropy(
    logits: Tensor,
    target: Tensor,
    *,
    log_prior: Tensor,
    tau: float = 1.0,
    weight: Tensor | None = None,
    label_smoothing: float = 0.0,
    ignore_index: int = IGNORE_INDEX,
    reduction: Reduction = "mean",
    valid: Tensor | None = None,
) -> Tensor:
    """Return the cross-entropy of logits + tau log prior, for training only (Menon et al. 2021, eq. 10).

    `log_prior` [K] is the logarithm of class shares or counts, -inf for an absent class, whose offset is 0.
    tau = 1 is the balanced softmax (Ren et al. 2020, eq. 4), tau = 0 `cross_entropy`, which states the other
    arguments. Validate and predict with the raw logits.
    """
    adjusted = _shifted(full_precision(logits), log_prior, tau)
    return cross_entropy(
        adjusted,
        target,
        weight=weight,
        label_smoothing=label_smoothing,
        ignore_index=ignore_index,
        reduction=reduction,
        valid=valid,
    )


def adjust_logits(logits: Tensor, *, log_prior: Tensor, tau: float = 1.0) -> Tensor:
    """Return logits - tau log prior, whose argmax favours rare classes without retraining.

    Menon et al. 2021, eq. 9. `logits` [B, K, *]; `log_prior` as in `logit_adjusted_cross_entropy`. Not for a
    model trained with that loss: the correction would be made twice.
    """
    return _shifted(full_precision(logits), log_prior, -tau)


def _shifted(logits: Tensor, log_prior: Tensor, factor: float) -> Tensor:
    if log_prior.shape != (logits.shape[1],):
        raise ValueError(
            f"log_prior is {list(log_prior.shape)}: one entry for each of {logits.shape[1]} classes"
        )
    if factor == 0:
        return logits
    present = torch.isfinite(log_prior)
    offset = torch.where(present, log_prior - torch.logsumexp(log_prior, dim=0), 0) * factor
    return logits + per_class(offset, logits)


class LogitAdjustedLoss(SoftElementLoss):
    """`logit_adjusted_cross_entropy` in training mode, plain `cross_entropy` in evaluation mode.

    `log_prior` [K] and `weight` [K] are buffers. Put the module under the model's `train()` and `eval()`.
    """

    log_prior: Tensor

    def __init__(
        self,
        *,
        log_prior: ClassValues,
        tau: float = 1.0,
        weight: ClassValues | None = None,
        label_smoothing: float = 0.0,
        ignore_index: int = IGNORE_INDEX,
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__(weight, reduction, ignore_index)
        check_range("tau", tau, 0)
        check_smoothing(label_smoothing, "hard", None)
        self.register_buffer("log_prior", _checked_prior(class_values(log_prior)))
        self.tau = tau
        self.label_smoothing = label_smoothing

    def reduced(self, logits: Tensor, target: Tensor, valid: Tensor | None, reduction: Reduction) -> Tensor:
        return logit_adjusted_cross_entropy(
            logits,
            target,
            log_prior=self.log_prior,
            tau=self.tau if self.training else 0.0,
            weight=self.weight,
            label_smoothing=self.label_smoothing,
            ignore_index=self.ignore_index,
            reduction=reduction,
            valid=valid,
        )


def _checked_prior(log_prior: Tensor) -> Tensor:
    for entry, value in enumerate(log_prior.tolist()):
        if not value < float("inf"):
            raise ValueError(
                f"log_prior[{entry}] is {value}: a number, or -inf for an absent class, is expected"
            )
    if not bool(torch.isfinite(log_prior).any()):
        raise ValueError("log_prior is -inf everywhere: no class is present")
    return log_prior
