"""Focal losses: softmax, sigmoid, and the softmax form with balancing class weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from common.losses._reduction import (
    ClassValues,
    ElementLoss,
    Labels,
    SoftElementLoss,
    SoftLabels,
    check_choice,
    check_range,
    checked_weight,
    class_values,
    full_precision,
    per_class,
    reduce_elements,
)
from common.losses.config import IGNORE_INDEX, Normalizer, Reduction
from common.losses.cross_entropy import smoothed

if TYPE_CHECKING:
    from common.statistics import ClassStatistics

Alpha = float | ClassValues | Literal["balanced"] | None

POSITIVE = 0.5


def focal_loss(
    logits: Tensor,
    target: Tensor,
    *,
    gamma: float = 2.0,
    weight: Tensor | None = None,
    label_smoothing: float = 0.0,
    ignore_index: int = IGNORE_INDEX,
    reduction: Reduction = "mean",
    valid: Tensor | None = None,
) -> Tensor:
    """Return the softmax focal loss of `logits` [B, K, *], K >= 2, with class ids [B, *] or soft labels.

    w_y [(1 - e)(1 - p_y)^gamma (-log p_y) + e/K sum_c(-log p_c)] (Lin et al. 2017, eq. 5). p_y comes from the
    unweighted, unsmoothed softmax and the smoothing term is not modulated. `mean` divides by the sum of w_y,
    `valid_mean` by the number of elements. A soft label q [B, K, *] as floats has
    sum_c q_c (1 - p_c)^gamma (-log p_c) and the weight sum_c q_c w_c; `mean` divides by the number of
    elements, and those of zeros or of `ignore_index` are ignored. First derivatives only. ValueError as in
    `cross_entropy`, for a gamma below 0 and for a single class.

    kornia and MONAI (`use_softmax`) give this `valid_mean` / K; segmentation_models_pytorch and the default
    of MONAI give `sigmoid_focal_loss` with alpha None on one-hot targets.
    """
    check_focal(gamma, label_smoothing)
    logits = full_precision(logits)
    if logits.dim() >= 2 and logits.shape[1] < 2:
        raise ValueError("focal_loss needs two classes or more: with one logit use sigmoid_focal_loss")
    soft = target.is_floating_point()
    labels = (SoftLabels if soft else Labels).of(logits, target, ignore_index, valid)
    weight = checked_weight(weight, logits)
    weights = None if weight is None else labels.lookup(weight)
    log_p = F.log_softmax(logits, dim=1)
    loss = _focused(log_p, labels, gamma)
    if label_smoothing > 0:
        loss = smoothed(loss, log_p, labels.valid, label_smoothing)
    if weights is not None:
        loss = loss * weights
    return reduce_elements(loss, labels.valid, None if soft else weights, reduction)


def _focused(log_p: Tensor, labels: Labels | SoftLabels, gamma: float) -> Tensor:
    """Return (1 - p_y)^gamma (-log p_y) [B, *]; of soft labels the mean over their shares."""
    if isinstance(labels, SoftLabels):
        surprise = -log_p
        return (labels.shares * (surprise if gamma == 0 else _Focus.apply(surprise, gamma))).sum(dim=1)
    surprise = F.nll_loss(log_p, labels.index, ignore_index=labels.num_classes, reduction="none")
    return surprise if gamma == 0 else _Focus.apply(surprise, gamma)


class _Focus(torch.autograd.Function):
    """(1 - p)^gamma (-log p) of surprise = -log p >= 0, finite in value and slope for every gamma > 0.

    Value and slope are made in one sweep; as separate autograd steps they double the time of the loss.
    """

    @staticmethod
    def forward(ctx: FunctionCtx, surprise: Tensor, gamma: float) -> Tensor:
        miss = torch.neg(surprise).expm1_().neg_().clamp_(min=torch.finfo(surprise.dtype).tiny)
        focus = miss.pow(gamma)
        # d/ds [m^g s] = m^g (1 + g (1 - m) s / m), since dm/ds = 1 - m
        slope = torch.addcmul(surprise, miss, surprise, value=-1).mul_(gamma).div_(miss).add_(1).mul_(focus)
        ctx.save_for_backward(slope)
        return focus.mul_(surprise)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        (slope,) = ctx.saved_tensors
        return grad * slope, None


def check_focal(gamma: float, label_smoothing: float = 0.0) -> None:
    """Raise a ValueError unless gamma >= 0 and 0 <= label_smoothing < 1."""
    check_range("gamma", gamma, 0)
    check_range("label_smoothing", label_smoothing, 0, 1, open_high=True)


def balanced_focal_loss(
    logits: Tensor,
    target: Tensor,
    *,
    alpha: Tensor,
    gamma: float = 2.0,
    ignore_index: int = IGNORE_INDEX,
    reduction: Reduction = "valid_mean",
    valid: Tensor | None = None,
) -> Tensor:
    """Return `focal_loss` with weight = alpha [K], averaged over valid elements.

    `reduction="mean"` divides by the sum of alpha instead: the two differ by the mean alpha in the batch.
    MONAI's FocalLoss(to_onehot_y, use_softmax, alpha) gives this / K.
    """
    return focal_loss(
        logits,
        target,
        gamma=gamma,
        weight=alpha,
        ignore_index=ignore_index,
        reduction=reduction,
        valid=valid,
    )


def sigmoid_focal_loss(
    logits: Tensor,
    target: Tensor,
    *,
    alpha: Alpha = 0.25,
    gamma: float = 2.0,
    normalizer: Normalizer = "elements",
    ignore_index: int = IGNORE_INDEX,
    reduction: Reduction = "mean",
    valid: Tensor | None = None,
) -> Tensor:
    """Return the binary focal loss a_t (1 - p_t)^gamma BCE of `logits` with a target of the same shape [B,
    *].

    `target` is 0, 1 or between. a_t is `alpha` for positives and 1 - alpha for negatives: a number in [0, 1],
    one per class [K] for logits [B, K, *], `balanced` (the share of negatives among the valid elements of the
    batch) or None (1 for both). p_t = p t + (1 - p)(1 - t). `valid` has the shape of the target, or lacks its
    dimension 1. `mean` divides by the number of valid elements, with normalizer `positives` by
    max(1, number of valid targets above .5). Lin et al. 2017, eq. 5 and section 4.1.
    ValueError on other shapes, gamma < 0 and alpha outside [0, 1].
    """
    check_focal(gamma)
    check_choice("normalizer", normalizer, get_args(Normalizer))
    logits = full_precision(logits)
    if target.shape != logits.shape:
        raise ValueError(f"target is {list(target.shape)} but logits are {list(logits.shape)}")
    share, keep = _binary_target(target, ignore_index, valid)
    share = share.to(logits.dtype)
    if gamma > 0:
        loss = _SigmoidFocus.apply(logits, share, gamma)
    else:
        loss = F.binary_cross_entropy_with_logits(logits, share, reduction="none")
    if alpha is not None:
        positive = _alpha_values(alpha, share, keep)
        loss = loss * torch.lerp(1 - positive, positive, share)
    counted = keep if normalizer == "elements" else keep & (share > POSITIVE)
    return reduce_elements(loss.masked_fill(~keep, 0), counted, None, reduction)


class _SigmoidFocus(torch.autograd.Function):
    """(1 - p_t)^gamma BCE of logits with a target in [0, 1]; value and slope in one sweep, as in `_Focus`."""

    @staticmethod
    def forward(ctx: FunctionCtx, logits: Tensor, share: Tensor, gamma: float) -> Tensor:
        surprise = F.binary_cross_entropy_with_logits(logits, share, reduction="none")
        p, q = torch.sigmoid(logits), torch.sigmoid(-logits)
        miss = torch.lerp(p, q, share).clamp_(min=torch.finfo(p.dtype).tiny)
        focus = miss.pow(gamma)
        # d/dz [m^g s] = m^g (p - t + g (1 - 2 t) p q s / m), since ds/dz = p - t and dm/dz = (1 - 2 t) p q
        slope = q.mul_(p).mul_(surprise).div_(miss).mul_(gamma)
        slope = slope.addcmul_(slope, share, value=-2).add_(p).sub_(share).mul_(focus)
        ctx.save_for_backward(slope)
        return focus.mul_(surprise)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None]:
        (slope,) = ctx.saved_tensors
        return grad * slope, None, None


def _binary_target(target: Tensor, ignore_index: int, valid: Tensor | None) -> tuple[Tensor, Tensor]:
    """Return the target as floats, 0 where ignored, and which elements count."""
    keep = target != ignore_index
    if valid is not None:
        keep = keep & (valid if valid.shape == target.shape else valid.unsqueeze(1)).bool()
    share = full_precision(torch.where(keep, target, 0))
    if share.device.type == "cpu" and share.numel() and not _within_unit(share):
        stray = ((share < 0) | (share > 1)).nonzero()[0].tolist()
        raise ValueError(f"target{stray} is {share[tuple(stray)]:g}: 0 to 1 or ignore_index is expected")
    return share, keep


def _within_unit(values: Tensor) -> bool:
    low, high = torch.aminmax(values)
    return bool(low >= 0) and bool(high <= 1)


def _alpha_values(alpha: float | ClassValues | str, share: Tensor, keep: Tensor) -> Tensor:
    if isinstance(alpha, str):
        check_choice("alpha", alpha, ("balanced",))
        return 1 - reduce_elements(share, keep, None, "mean")
    values = alpha if isinstance(alpha, Tensor) else class_values(alpha)
    _check_alpha(values)
    if values.dim() == 0:
        return values.to(share)
    if share.dim() < 2 or values.shape != (share.shape[1],):
        raise ValueError(
            f"alpha is {list(values.shape)} but logits are {list(share.shape)}: [K] for [B, K, *]"
        )
    return per_class(values, share).to(share.device)


def _check_alpha(values: Tensor) -> None:
    if values.device.type == "cpu":
        for value in values.flatten().tolist():
            check_range("alpha", value, 0, 1)


class FocalLoss(SoftElementLoss):
    """`focal_loss` with its weight [K] as a buffer."""

    def __init__(
        self,
        *,
        gamma: float = 2.0,
        weight: ClassValues | None = None,
        label_smoothing: float = 0.0,
        ignore_index: int = IGNORE_INDEX,
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__(weight, reduction, ignore_index)
        check_focal(gamma, label_smoothing)
        self.gamma = gamma
        self.label_smoothing = label_smoothing

    def reduced(self, logits: Tensor, target: Tensor, valid: Tensor | None, reduction: Reduction) -> Tensor:
        return focal_loss(
            logits,
            target,
            gamma=self.gamma,
            weight=self.weight,
            label_smoothing=self.label_smoothing,
            ignore_index=self.ignore_index,
            reduction=reduction,
            valid=valid,
        )


class BalancedFocalLoss(FocalLoss):
    """`balanced_focal_loss`; the buffer `weight` holds alpha [K].

    alpha is given, or the balanced weights N / (K n_c) of `statistics`. ValueError unless exactly one is
    there.
    """

    def __init__(
        self,
        alpha: ClassValues | None = None,
        gamma: float = 2.0,
        *,
        statistics: ClassStatistics | None = None,
        ignore_index: int = IGNORE_INDEX,
        reduction: Reduction = "valid_mean",
    ) -> None:
        if (alpha is None) == (statistics is None):
            raise ValueError("alpha or statistics is needed, and not both")
        if statistics is not None:
            from common.balancing.weights import class_weights

            alpha = class_weights(statistics, "balanced")
        super().__init__(gamma=gamma, weight=alpha, ignore_index=ignore_index, reduction=reduction)


class SigmoidFocalLoss(ElementLoss):
    """`sigmoid_focal_loss`; one `alpha` per class is a buffer."""

    alpha_values: Tensor | None

    def __init__(
        self,
        *,
        alpha: Alpha = 0.25,
        gamma: float = 2.0,
        normalizer: Normalizer = "elements",
        ignore_index: int = IGNORE_INDEX,
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__(None, reduction, ignore_index)
        check_focal(gamma)
        check_choice("normalizer", normalizer, get_args(Normalizer))
        if isinstance(alpha, str):
            check_choice("alpha", alpha, ("balanced",))
        self.register_buffer(
            "alpha_values", None if alpha is None or isinstance(alpha, str) else class_values(alpha)
        )
        if self.alpha_values is not None:
            _check_alpha(self.alpha_values)
        self.balanced = isinstance(alpha, str)
        self.gamma = gamma
        self.divide_by: Normalizer = normalizer

    def reduced(self, logits: Tensor, target: Tensor, valid: Tensor | None, reduction: Reduction) -> Tensor:
        return sigmoid_focal_loss(
            logits,
            target,
            alpha="balanced" if self.balanced else self.alpha_values,
            gamma=self.gamma,
            normalizer=self.divide_by,
            ignore_index=self.ignore_index,
            reduction=reduction,
            valid=valid,
        )

    def normalizer(self, target: Tensor, valid: Tensor | None = None) -> Tensor:
        share, keep = _binary_target(target, self.ignore_index, valid)
        return (keep if self.divide_by == "elements" else keep & (share > POSITIVE)).sum().double()
