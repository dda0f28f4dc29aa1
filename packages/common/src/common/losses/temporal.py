"""Losses on the change of logits from one time step to the next."""

from __future__ import annotations

from abc import abstractmethod

import torch
import torch.nn.functional as F
from torch import Tensor

from common.losses._reduction import ElementLoss, full_precision, reduce_elements, valid_elements
from common.losses.config import IGNORE_INDEX, Reduction


def truncated_mse_loss(
    logits: Tensor,
    *,
    valid: Tensor | None = None,
    pairs: Tensor | None = None,
    tau: float = 4.0,
    reduction: Reduction = "mean",
) -> Tensor:
    """Return min(|log p_t - log p_(t-1)|, tau)^2 of `logits` [B, K, T], averaged over the K classes.

    The earlier step is a constant, so no gradient reaches it (Farha and Gall 2019, equations 9 to 11). A pair
    of steps, [B, T-1], counts when both are `valid` [B, T] and `pairs` [B, T-1] is not False; a reduction
    averages over such pairs. The paper weighs the loss by 0.15. ValueError for other shapes and tau <= 0.
    """
    _check_tau(tau)
    keep = step_pairs(logits, valid, pairs)
    log_p = F.log_softmax(_connected(logits, keep), dim=1)
    change = torch.where(keep.unsqueeze(1), log_p[..., 1:] - log_p[..., :-1].detach(), 0)
    return reduce_elements(change.clamp(-tau, tau).square().mean(dim=1), keep, None, reduction)


def temporal_difference_loss(
    logits: Tensor,
    *,
    valid: Tensor | None = None,
    pairs: Tensor | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    """Return |z_t - z_(t-1)| of `logits` z [B, K, T], averaged over the K classes.

    Arguments and errors as in `truncated_mse_loss`; here the gradient reaches both steps.
    """
    keep = step_pairs(logits, valid, pairs)
    scores = _connected(logits, keep)
    change = torch.where(keep.unsqueeze(1), scores[..., 1:] - scores[..., :-1], 0)
    return reduce_elements(change.abs().mean(dim=1), keep, None, reduction)


def step_pairs(logits: Tensor, valid: Tensor | None, pairs: Tensor | None) -> Tensor:
    """Return which pairs of neighbouring steps of `logits` [B, K, T] count, bool [B, T-1]."""
    if logits.dim() != 3:
        raise ValueError(f"logits are {list(logits.shape)}: [B, K, T] is expected")
    if valid is None:
        valid = torch.ones_like(logits[:, 0], dtype=torch.bool)
    if valid.shape != (logits.shape[0], logits.shape[2]):
        raise ValueError(f"valid is {list(valid.shape)} but logits are {list(logits.shape)}")
    return _both(valid, pairs)


def _both(valid: Tensor, pairs: Tensor | None) -> Tensor:
    keep = valid[:, 1:].bool() & valid[:, :-1].bool()
    if pairs is None:
        return keep
    if pairs.shape != keep.shape:
        raise ValueError(f"pairs is {list(pairs.shape)} but there are {list(keep.shape)} pairs of steps")
    return keep & pairs.bool()


def _connected(logits: Tensor, keep: Tensor) -> Tensor:
    """Return `logits` with 0 at steps that are in no pair, so that nothing that stands there can overflow."""
    used = F.pad(keep, (1, 0)) | F.pad(keep, (0, 1)) if logits.shape[2] else keep
    return torch.where(used.unsqueeze(1), full_precision(logits), 0)


def _check_tau(tau: float) -> None:
    if not tau > 0:
        raise ValueError(f"tau is {tau}: tau > 0 is expected")


class StepLoss(ElementLoss):
    """A loss on pairs of steps; its count is the number of pairs.

    Of `target` [B, T] only `ignore_index` is read: such a step is not valid. `pairs` [B, T-1] may switch off
    further pairs.
    """

    def __init__(self, reduction: Reduction, ignore_index: int) -> None:
        super().__init__(None, reduction, ignore_index)

    @abstractmethod
    def of_pairs(self, logits: Tensor, valid: Tensor, pairs: Tensor | None, reduction: Reduction) -> Tensor:
        """Call the pure function with this module's settings and the given reduction."""

    def reduced(
        self,
        logits: Tensor,
        target: Tensor,
        valid: Tensor | None,
        reduction: Reduction,
        pairs: Tensor | None = None,
    ) -> Tensor:
        return self.of_pairs(logits, valid_elements(target, self.ignore_index, valid), pairs, reduction)

    def forward(
        self, logits: Tensor, target: Tensor, valid: Tensor | None = None, pairs: Tensor | None = None
    ) -> Tensor:
        return self.reduced(logits, target, valid, self.reduction, pairs)

    def total_and_count(
        self, logits: Tensor, target: Tensor, valid: Tensor | None = None, pairs: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        self.check_has_count()
        total = self.reduced(logits, target, valid, "sum", pairs)
        return total, self.normalizer(target, valid, pairs).to(total.dtype)

    def normalizer(self, target: Tensor, valid: Tensor | None = None, pairs: Tensor | None = None) -> Tensor:
        return _both(valid_elements(target, self.ignore_index, valid), pairs).sum().double()


class TruncatedMSELoss(StepLoss):
    """`truncated_mse_loss` as a module."""

    def __init__(
        self, *, tau: float = 4.0, ignore_index: int = IGNORE_INDEX, reduction: Reduction = "mean"
    ) -> None:
        super().__init__(reduction, ignore_index)
        _check_tau(tau)
        self.tau = tau

    def of_pairs(self, logits: Tensor, valid: Tensor, pairs: Tensor | None, reduction: Reduction) -> Tensor:
        return truncated_mse_loss(logits, valid=valid, pairs=pairs, tau=self.tau, reduction=reduction)


class TemporalDifferenceLoss(StepLoss):
    """`temporal_difference_loss` as a module."""

    def __init__(self, *, ignore_index: int = IGNORE_INDEX, reduction: Reduction = "mean") -> None:
        super().__init__(reduction, ignore_index)

    def of_pairs(self, logits: Tensor, valid: Tensor, pairs: Tensor | None, reduction: Reduction) -> Tensor:
        return temporal_difference_loss(logits, valid=valid, pairs=pairs, reduction=reduction)
