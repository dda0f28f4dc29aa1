"""Lovasz losses: the convex surrogate of the Jaccard index over sorted errors (Berman et al. 2018)."""

from __future__ import annotations

from typing import get_args

import numpy as np
import torch
from torch import Tensor

from common.losses._reduction import (
    BatchLoss,
    Labels,
    check_choice,
    divide,
    full_precision,
    image_mean,
)
from common.losses.config import IGNORE_INDEX, Presence


def lovasz_softmax_loss(
    logits: Tensor,
    target: Tensor,
    *,
    classes: Presence = "present",
    per_image: bool = False,
    ignore_index: int = IGNORE_INDEX,
    valid: Tensor | None = None,
) -> Tensor:
    """Return the Lovasz-softmax loss of `logits` [B, K, *] with class ids [B, *], a scalar.

    The mean over classes, `present` among the valid elements or `all`, of the Lovasz extension of the Jaccard
    loss at the errors |[y = c] - p_c| (Berman et al. 2018, eq. 11), over the batch or per image and then
    averaged. ValueError on labels out of range and on other words for `classes`.
    """
    check_choice("classes", classes, get_args(Presence))
    logits = full_precision(logits)
    labels = Labels.of(logits, target, ignore_index, valid)
    probabilities = (
        logits.softmax(dim=1).flatten(2) if logits.dim() > 2 else logits.softmax(dim=1).unsqueeze(2)
    )
    index = labels.index.reshape(probabilities.shape[0], probabilities.shape[2])
    if per_image:
        losses = [_softmax_loss(p, i, classes) for p, i in zip(probabilities.unbind(0), index.unbind(0))]
        return image_mean(
            torch.stack(losses) if losses else logits.sum((1, *range(2, logits.dim()))), labels.valid
        )
    return _softmax_loss(probabilities.transpose(0, 1).flatten(1), index.flatten(), classes)


def _softmax_loss(probabilities: Tensor, index: Tensor, classes: Presence) -> Tensor:
    """Return the loss of `probabilities` [K, N] with labels [N], K where ignored."""
    valid = index != len(probabilities)
    losses, counted = [], []
    for entry, row in enumerate(probabilities.unbind(0)):
        foreground = index == entry
        losses.append(_extension((foreground.to(row.dtype) - row).abs(), foreground, valid))
        counted.append(foreground.any() if classes == "present" else torch.ones_like(valid[:1]).any())
    share = torch.stack(counted).to(probabilities.dtype)
    return divide((torch.stack(losses) * share).sum(), share.sum())


def lovasz_hinge_loss(
    logits: Tensor,
    target: Tensor,
    *,
    per_image: bool = False,
    ignore_index: int = IGNORE_INDEX,
    valid: Tensor | None = None,
) -> Tensor:
    """Return the binary Lovasz hinge loss of `logits` with targets 0 and 1 of the same shape [B, *], a
    scalar.

    The Lovasz extension of the Jaccard loss of class 1 at the errors max(0, 1 - z (2t - 1)) (Berman et al.
    2018, eq. 7), over the batch or per image and then averaged. Without a positive it is the largest error.
    ValueError on other shapes and targets.
    """
    logits = full_precision(logits)
    if logits.shape != target.shape:
        raise ValueError(f"target is {list(target.shape)} but logits are {list(logits.shape)}")
    labels = Labels.of_target(target.long(), 2, ignore_index, valid)
    errors = (1 - logits * (2 * labels.index - 1)).relu()
    foreground = labels.index == 1
    if not per_image:
        return _extension(errors.flatten(), foreground.flatten(), labels.valid.flatten())
    rows = zip(errors.unbind(0), foreground.unbind(0), labels.valid.unbind(0))
    losses = [_extension(e.flatten(), f.flatten(), v.flatten()) for e, f, v in rows]
    return image_mean(torch.stack(losses) if losses else errors.flatten(), labels.valid)


def _extension(errors: Tensor, foreground: Tensor, valid: Tensor) -> Tensor:
    """Return the Lovasz extension of the Jaccard loss at `errors` [N] >= 0; its gradient is the slope."""
    slope = _jaccard_slope(errors.detach(), foreground, valid)
    return (errors * slope).sum()


@torch.no_grad()
def _jaccard_slope(errors: Tensor, foreground: Tensor, valid: Tensor) -> Tensor:
    """Return how much each element adds to the Jaccard loss when elements turn wrong by falling error.

    With I the foreground elements of smaller error and U = rank + I the union, a foreground element adds 1 /
    U, another one I / (U (U - 1)): the differences of 1 - I / U in closed form, without their cancellation.
    Ignored elements rank last and get 0.
    """
    if errors.numel() == 0:
        return torch.zeros_like(errors)
    order, true = _sorted(errors.masked_fill(~valid, -1), foreground)
    below = true.cumsum(0).sub_(true)
    union = torch.arange(len(errors), 0, -1, dtype=errors.dtype, device=errors.device).add_(below)
    slope = below / (union - 1).clamp_(min=1)
    slope[-1] = torch.where(below[-1] == 0, 1, slope[-1])
    slope = torch.where(true > 0, 1, slope).div_(union)
    return torch.empty_like(slope).scatter_(0, order, slope).mul_(valid)


def _sorted(errors: Tensor, foreground: Tensor) -> tuple[Tensor, Tensor]:
    """Return the order that sorts `errors` [N] upwards, and the foreground in that order as numbers.

    On the CPU float32 errors are sorted as one integer each, bit pattern, position and foreground, six times
    faster than by `torch.sort`: bit patterns of non-negative floats rise with the value, the one of -1 is
    negative.
    """
    if errors.device.type != "cpu" or errors.dtype != torch.float32:
        order = torch.argsort(errors)
        return order, foreground.to(errors.dtype).index_select(0, order)
    keys = errors.view(torch.int32).long().bitwise_left_shift_(32)
    keys.bitwise_or_(torch.arange(0, 2 * len(keys), 2)).bitwise_or_(foreground)
    keys = torch.from_numpy(np.sort(keys.numpy()))
    true = (keys & 1).to(errors.dtype)
    return keys.bitwise_and_(0xFFFFFFFF).bitwise_right_shift_(1), true


class LovaszSoftmaxLoss(BatchLoss):
    """`lovasz_softmax_loss` as a module."""

    def __init__(
        self,
        *,
        classes: Presence = "present",
        per_image: bool = False,
        ignore_index: int = IGNORE_INDEX,
    ) -> None:
        super().__init__(ignore_index)
        check_choice("classes", classes, get_args(Presence))
        self.classes: Presence = classes
        self.per_image = per_image

    def forward(self, logits: Tensor, target: Tensor, valid: Tensor | None = None) -> Tensor:
        return lovasz_softmax_loss(
            logits,
            target,
            classes=self.classes,
            per_image=self.per_image,
            ignore_index=self.ignore_index,
            valid=valid,
        )


class LovaszHingeLoss(BatchLoss):
    """`lovasz_hinge_loss` as a module."""

    def __init__(self, *, per_image: bool = False, ignore_index: int = IGNORE_INDEX) -> None:
        super().__init__(ignore_index)
        self.per_image = per_image

    def forward(self, logits: Tensor, target: Tensor, valid: Tensor | None = None) -> Tensor:
        return lovasz_hinge_loss(
            logits, target, per_image=self.per_image, ignore_index=self.ignore_index, valid=valid
        )
