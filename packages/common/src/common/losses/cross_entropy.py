"""Cross-entropy over classes, with label smoothing that class weights do not distort, and one-vs-rest."""

from __future__ import annotations

from typing import get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from common.losses._reduction import (
    ClassValues,
    ElementLoss,
    Labels,
    SoftElementLoss,
    SoftLabels,
    check_choice,
    check_non_negative,
    check_range,
    checked_weight,
    class_values,
    full_precision,
    per_class,
    reduce_elements,
    valid_elements,
)
from common.losses.config import IGNORE_INDEX, Reduction, SmoothingWeighting


def cross_entropy(
    logits: Tensor,
    target: Tensor,
    *,
    weight: Tensor | None = None,
    label_smoothing: float = 0.0,
    smoothing_weighting: SmoothingWeighting = "hard",
    ignore_index: int = IGNORE_INDEX,
    reduction: Reduction = "mean",
    valid: Tensor | None = None,
) -> Tensor:
    """Return the cross-entropy of `logits` [B, K, *] with class ids [B, *] or soft labels [B, K, *].

    With label smoothing e (Szegedy et al. 2016, section 7), `hard` is
    w_y [(1 - e)(-log p_y) + e/K sum_c(-log p_c)], so the optimum is p_y = 1 - e + e/K whatever the weights;
    `torch` weights every smoothing term by its own class, as `torch.nn.functional.cross_entropy` does.
    A soft label q has sum_c q_c(-log p_c) in place of -log p_y; with `hard` its weight is sum_c q_c w_c, so
    the optimum without smoothing is p = q, with `torch` every term has the weight of its class.
    `mean` divides by the sum of w_y, for soft labels by the number of elements; soft labels of zeros or of
    `ignore_index` are ignored. ValueError on labels out of range, on a bad weight, and on `torch` with
    weights so unequal that its optimum no longer favours the true class (ratio above K(1 - e)/e + 1).
    """
    logits = full_precision(logits)
    weight = checked_weight(weight, logits)
    check_smoothing(label_smoothing, smoothing_weighting, weight)
    if target.is_floating_point():
        soft = SoftLabels.of(logits, target, ignore_index, valid)
        loss = _soft_loss(logits, soft, weight, label_smoothing, smoothing_weighting)
        return reduce_elements(loss, soft.valid, None, reduction)
    labels = Labels.of(logits, target, ignore_index, valid)
    weights = None if weight is None or reduction != "mean" else labels.lookup(weight)
    if label_smoothing == 0 or smoothing_weighting == "torch":
        loss = F.cross_entropy(
            logits,
            labels.index,
            weight,
            ignore_index=labels.num_classes,
            reduction="none",
            label_smoothing=label_smoothing,
        )
    else:
        log_p = F.log_softmax(logits, dim=1)
        true = F.nll_loss(log_p, labels.index, ignore_index=labels.num_classes, reduction="none")
        loss = smoothed(true, log_p, labels.valid, label_smoothing)
        if weight is not None:
            loss = loss * (labels.lookup(weight) if weights is None else weights)
    return reduce_elements(loss, labels.valid, weights, reduction)


def smoothed(true: Tensor, log_p: Tensor, valid: Tensor, smoothing: float) -> Tensor:
    """Return (1 - e) true + e/K sum_c(-log p_c), 0 where not `valid`; [B, *], `log_p` [B, K, *]."""
    everywhere = torch.where(valid, log_p.sum(dim=1), 0)
    return torch.add(true * (1 - smoothing), everywhere, alpha=-smoothing / log_p.shape[1])


def _soft_loss(
    logits: Tensor, soft: SoftLabels, weight: Tensor | None, smoothing: float, weighting: SmoothingWeighting
) -> Tensor:
    if weighting == "torch":
        loss = F.cross_entropy(logits, soft.shares, weight, reduction="none", label_smoothing=smoothing)
        return torch.where(soft.valid, loss, 0)
    log_p = F.log_softmax(logits, dim=1)
    loss = -(soft.shares * log_p).sum(dim=1)
    if smoothing > 0:
        loss = smoothed(loss, log_p, soft.valid, smoothing)
    return loss if weight is None else loss * soft.lookup(weight)


def check_smoothing(smoothing: float, weighting: SmoothingWeighting, weight: Tensor | None) -> None:
    """Raise a ValueError unless 0 <= smoothing < 1 and `torch` weighting keeps the true class optimal."""
    check_range("label_smoothing", smoothing, 0, 1, open_high=True)
    check_choice("smoothing_weighting", weighting, get_args(SmoothingWeighting))
    if weighting == "hard" or smoothing == 0 or weight is None or weight.device.type != "cpu":
        return
    present = [value for value in weight.tolist() if value > 0]
    bound = len(weight) * (1 - smoothing) / smoothing + 1
    ratio = max(present) / min(present) if present else 1.0
    if ratio > bound:
        raise ValueError(
            f"smoothing_weighting 'torch' with label_smoothing {smoothing} allows a weight ratio of "
            f"{bound:.4g}, not {ratio:.4g}: its optimum would favour a wrong class; use 'hard'"
        )


def binary_cross_entropy(
    logits: Tensor,
    target: Tensor,
    *,
    pos_weight: Tensor | None = None,
    ignore_index: int = IGNORE_INDEX,
    reduction: Reduction = "mean",
    valid: Tensor | None = None,
) -> Tensor:
    """Return the one-vs-rest binary cross-entropy of `logits` [B, K, *], averaged over the K classes.

    `target` holds class ids [B, *] or several labels at once as floats [B, K, *]; `pos_weight` [K] scales the
    positive part of each class. The element losses are [B, *], so `mean` and `valid_mean` agree. An element
    whose several labels hold an `ignore_index` is ignored. ValueError as in `cross_entropy`.
    """
    logits = full_precision(logits)
    positive = checked_weight(pos_weight, logits, "pos_weight")
    several, keep = _binary_target(logits, target, ignore_index, valid)
    loss = F.binary_cross_entropy_with_logits(
        logits,
        several,
        reduction="none",
        pos_weight=None if positive is None else per_class(positive, logits),
    )
    return reduce_elements(torch.where(keep, loss.mean(dim=1), 0), keep, None, reduction)


def _binary_target(
    logits: Tensor, target: Tensor, ignore_index: int, valid: Tensor | None
) -> tuple[Tensor, Tensor]:
    if not target.is_floating_point():
        labels = Labels.of(logits, target, ignore_index, valid)
        return _one_hot(labels, logits.dtype), labels.valid
    if target.shape != logits.shape:
        raise ValueError(f"multi-label target is {list(target.shape)} but logits are {list(logits.shape)}")
    keep = multi_label_valid(target, ignore_index, valid)
    return torch.where(keep.unsqueeze(1), target.to(logits.dtype), 0), keep


def multi_label_valid(target: Tensor, ignore_index: int, valid: Tensor | None) -> Tensor:
    """Return which elements [B, *] of a float target [B, K, *] count."""
    return valid_elements((target == ignore_index).any(dim=1), True, valid)


def _one_hot(labels: Labels, dtype: torch.dtype) -> Tensor:
    shape = (labels.index.shape[0], labels.num_classes + 1, *labels.index.shape[1:])
    hot = torch.zeros(shape, dtype=dtype, device=labels.index.device)
    return hot.scatter_(1, labels.index.unsqueeze(1), 1.0)[:, :-1]


class CrossEntropyLoss(SoftElementLoss):
    """`cross_entropy` with its weight [K] as a buffer."""

    def __init__(
        self,
        *,
        weight: ClassValues | None = None,
        label_smoothing: float = 0.0,
        smoothing_weighting: SmoothingWeighting = "hard",
        ignore_index: int = IGNORE_INDEX,
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__(weight, reduction, ignore_index)
        check_smoothing(label_smoothing, smoothing_weighting, self.weight)
        self.label_smoothing = label_smoothing
        self.smoothing_weighting: SmoothingWeighting = smoothing_weighting

    def reduced(self, logits: Tensor, target: Tensor, valid: Tensor | None, reduction: Reduction) -> Tensor:
        return cross_entropy(
            logits,
            target,
            weight=self.weight,
            label_smoothing=self.label_smoothing,
            smoothing_weighting=self.smoothing_weighting,
            ignore_index=self.ignore_index,
            reduction=reduction,
            valid=valid,
        )


class BinaryCrossEntropyLoss(ElementLoss):
    """`binary_cross_entropy` with its pos_weight [K] as a buffer."""

    pos_weight: Tensor | None

    def __init__(
        self,
        *,
        pos_weight: ClassValues | None = None,
        ignore_index: int = IGNORE_INDEX,
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__(None, reduction, ignore_index)
        self.register_buffer("pos_weight", None if pos_weight is None else class_values(pos_weight))
        if self.pos_weight is not None:
            check_non_negative(self.pos_weight, "pos_weight")

    def reduced(self, logits: Tensor, target: Tensor, valid: Tensor | None, reduction: Reduction) -> Tensor:
        return binary_cross_entropy(
            logits,
            target,
            pos_weight=self.pos_weight,
            ignore_index=self.ignore_index,
            reduction=reduction,
            valid=valid,
        )

    def normalizer(self, target: Tensor, valid: Tensor | None = None) -> Tensor:
        if target.is_floating_point():
            return multi_label_valid(target, self.ignore_index, valid).sum().double()
        return super().normalizer(target, valid)
