"""Overlap losses: the Tversky index and its settings Dice and Jaccard, with an optional focusing exponent."""

from __future__ import annotations

from typing import Any, NamedTuple, get_args

import torch
from torch import Tensor

from common.losses._reduction import (
    BatchLoss,
    ClassValues,
    Labels,
    check_choice,
    check_non_negative,
    check_range,
    checked_weight,
    class_values,
    divide,
    full_precision,
    image_mean,
    images,
)
from common.losses.config import IGNORE_INDEX, Activation, Classes, Presence, Scope
from common.losses.cross_entropy import multi_label_valid

FOCUS_FLOOR = 1e-7


def tversky_loss(
    logits: Tensor,
    target: Tensor,
    *,
    alpha: float = 0.5,
    beta: float = 0.5,
    smooth: float = 1.0,
    exponent: float = 1.0,
    activation: Activation | None = "softmax",
    scope: Scope = "batch",
    classes: Classes = "present",
    weight: Tensor | None = None,
    ignore_index: int = IGNORE_INDEX,
    valid: Tensor | None = None,
) -> Tensor:
    """Return the weighted mean over classes of (1 - TI_c)^exponent, a scalar.

    TI = (TP + s) / (TP + alpha FP + beta FN + s) (Salehi et al. 2017, eq. 3) from probabilities of `logits`
    [B, K, *] (themselves probabilities when `activation` is None), summed over the valid elements of the
    batch, or of each image and then averaged over images. `target` holds class ids [B, *] or floats [B, K,
    *]. `classes`: those with a valid target element in the scope (`present`), `all`, or a tuple of ids;
    without any the loss is 0. `weight` [K] weights classes. ValueError on bad labels, weights and settings.
    """
    check_overlap(alpha, beta, smooth, exponent, activation, scope, classes)
    logits = full_precision(logits)
    weight = checked_weight(weight, logits)
    sums, keep = _sums(_probabilities(logits, activation), target, ignore_index, valid)
    if scope == "batch":
        sums = _Sums(*(part.sum(dim=0, keepdim=True) for part in sums))
    wrong_share = 1 - _index(sums, alpha, beta, smooth)
    if exponent != 1:
        wrong_share = wrong_share.clamp(min=FOCUS_FLOOR).pow(exponent)
    share = _included(sums.true, classes) if weight is None else _included(sums.true, classes) * weight
    losses = divide((share * wrong_share).sum(dim=1), share.sum(dim=1))
    return losses.sum() if scope == "batch" else image_mean(losses, keep)


class _Sums(NamedTuple):
    """Per image and class [B, K], over valid elements: predicted and true, predicted, true."""

    both: Tensor
    predicted: Tensor
    true: Tensor


def _probabilities(logits: Tensor, activation: Activation | None) -> Tensor:
    if activation is None:
        return logits
    return logits.softmax(dim=1) if activation == "softmax" else logits.sigmoid()


def _sums(
    probabilities: Tensor, target: Tensor, ignore_index: int, valid: Tensor | None
) -> tuple[_Sums, Tensor]:
    if target.is_floating_point():
        if target.shape != probabilities.shape:
            raise ValueError(f"target is {list(target.shape)} but logits are {list(probabilities.shape)}")
        keep = multi_label_valid(target, ignore_index, valid)
        inside = torch.where(keep.unsqueeze(1), probabilities, 0)
        true = torch.where(keep.unsqueeze(1), target.to(inside.dtype), 0)
        return _Sums(_space_sum(inside * true), _space_sum(inside), _space_sum(true)), keep
    labels = Labels.of(probabilities, target, ignore_index, valid)
    both, predicted = _HardSums.apply(probabilities, labels)
    return _Sums(both, predicted, _per_label(labels.valid.to(both.dtype), labels)), labels.valid


class _HardSums(torch.autograd.Function):
    """Per image and class [B, K]: probabilities summed over elements of the class, and over all valid ones.

    The gradient is written into one buffer; autograd of gather, product and sums makes three of them.
    """

    @staticmethod
    def forward(ctx: Any, probabilities: Tensor, labels: Labels) -> tuple[Tensor, Tensor]:
        ctx.labels = labels
        known = labels.index.masked_fill(~labels.valid, 0).unsqueeze(1)
        mask = labels.valid.unsqueeze(1).to(probabilities.dtype)
        both = _per_label(probabilities.gather(1, known).squeeze(1), labels)
        return both, _space_sum(probabilities * mask)

    @staticmethod
    def backward(ctx: Any, both: Tensor, predicted: Tensor) -> tuple[Tensor, None]:
        labels: Labels = ctx.labels
        shape = labels.index.shape
        mask = labels.valid.unsqueeze(1).to(both.dtype)
        grad = predicted.view(*predicted.shape, *[1] * (len(shape) - 1)) * mask
        table = torch.nn.functional.pad(both + predicted, (0, 1))
        flat = labels.index.unsqueeze(1).flatten(1)
        own = table.gather(1, flat).view(shape).unsqueeze(1)
        known = labels.index.masked_fill(~labels.valid, 0).unsqueeze(1)
        return grad.scatter_(1, known, own), None


def _per_label(values: Tensor, labels: Labels) -> Tensor:
    """Return the sums of `values` [B, *] over the elements of each label, [B, K].

    Rows of the innermost dimension are summed first: small addends meet small sums, and few threads of a
    device meet at one address.
    """
    index = labels.index.view(len(values), *[1] * (3 - values.dim()), *values.shape[1:])
    rows = values.new_zeros(*index.shape[:-1], labels.num_classes + 1)
    sums = rows.scatter_add(-1, index, values.view_as(index))
    return sums.flatten(1, -2).sum(1)[:, :-1]


def _space_sum(values: Tensor) -> Tensor:
    """Return the sums of [B, K, *] over everything but the first two dimensions."""
    return values.sum(tuple(range(2, values.dim()))) if values.dim() > 2 else values


def _index(sums: _Sums, alpha: float, beta: float, smooth: float) -> Tensor:
    missed = alpha * (sums.predicted - sums.both) + beta * (sums.true - sums.both)
    whole = sums.both + missed + smooth
    return torch.where(whole > 0, divide(sums.both + smooth, whole), 1)


def _included(true: Tensor, classes: Classes) -> Tensor:
    if classes == "present":
        return (true > 0).to(true.dtype)
    if classes == "all":
        return torch.ones_like(true)
    chosen = torch.zeros(true.shape[1], dtype=true.dtype)
    for entry in classes:
        check_range("classes", int(entry), 0, true.shape[1] - 1)
        chosen[int(entry)] = 1
    return chosen.to(true.device).expand_as(true)


def check_overlap(
    alpha: float,
    beta: float,
    smooth: float,
    exponent: float,
    activation: Activation | None,
    scope: Scope,
    classes: Classes,
) -> None:
    """Raise a ValueError naming the setting of `tversky_loss` that is out of range."""
    for name, value in (("alpha", alpha), ("beta", beta), ("smooth", smooth)):
        check_range(name, value, 0)
    if not exponent > 0:
        raise ValueError(f"exponent is {exponent}: a number > 0 is expected")
    check_choice("activation", activation, (*get_args(Activation), None))
    check_choice("scope", scope, get_args(Scope))
    if isinstance(classes, str):
        check_choice("classes", classes, get_args(Presence))


def focal_tversky_loss(
    logits: Tensor,
    target: Tensor,
    *,
    exponent: float = 0.75,
    alpha: float = 0.5,
    beta: float = 0.5,
    smooth: float = 1.0,
    activation: Activation | None = "softmax",
    scope: Scope = "batch",
    classes: Classes = "present",
    weight: Tensor | None = None,
    ignore_index: int = IGNORE_INDEX,
    valid: Tensor | None = None,
) -> Tensor:
    """Return `tversky_loss` with an exponent: the mean of (1 - TI)^exponent (Abraham & Khan 2019, eq. 4).

    The paper writes 1 / gamma for the exponent: its gamma 4/3 is exponent .75. 1 - TI is at least 1e-7.
    """
    return tversky_loss(
        logits,
        target,
        alpha=alpha,
        beta=beta,
        smooth=smooth,
        exponent=exponent,
        activation=activation,
        scope=scope,
        classes=classes,
        weight=weight,
        ignore_index=ignore_index,
        valid=valid,
    )


def dice_loss(
    logits: Tensor,
    target: Tensor,
    *,
    smooth: float = 1.0,
    activation: Activation | None = "softmax",
    scope: Scope = "batch",
    classes: Classes = "present",
    weight: Tensor | None = None,
    ignore_index: int = IGNORE_INDEX,
    valid: Tensor | None = None,
) -> Tensor:
    """Return the mean over classes of 1 - (2 TP + s) / (2 TP + FP + FN + s): `tversky_loss` at .5, .5, s / 2.

    Milletari et al. 2016, with probabilities, not their squares, in the denominator.
    """
    return tversky_loss(
        logits,
        target,
        smooth=smooth / 2,
        activation=activation,
        scope=scope,
        classes=classes,
        weight=weight,
        ignore_index=ignore_index,
        valid=valid,
    )


def jaccard_loss(
    logits: Tensor,
    target: Tensor,
    *,
    smooth: float = 1.0,
    activation: Activation | None = "softmax",
    scope: Scope = "batch",
    classes: Classes = "present",
    weight: Tensor | None = None,
    ignore_index: int = IGNORE_INDEX,
    valid: Tensor | None = None,
) -> Tensor:
    """Return the mean over classes of 1 - (TP + s) / (TP + FP + FN + s): `tversky_loss` at 1, 1.

    Rahman & Wang 2016, eq. 5.
    """
    return tversky_loss(
        logits,
        target,
        alpha=1.0,
        beta=1.0,
        smooth=smooth,
        activation=activation,
        scope=scope,
        classes=classes,
        weight=weight,
        ignore_index=ignore_index,
        valid=valid,
    )


class TverskyLoss(BatchLoss):
    """`tversky_loss`, with an `exponent` `focal_tversky_loss`; its weight [K] is a buffer."""

    weight: Tensor | None

    def __init__(
        self,
        *,
        alpha: float = 0.5,
        beta: float = 0.5,
        smooth: float = 1.0,
        exponent: float = 1.0,
        activation: Activation | None = "softmax",
        scope: Scope = "batch",
        classes: Classes = "present",
        weight: ClassValues | None = None,
        ignore_index: int = IGNORE_INDEX,
    ) -> None:
        super().__init__(ignore_index)
        check_overlap(alpha, beta, smooth, exponent, activation, scope, classes)
        self.register_buffer("weight", None if weight is None else class_values(weight))
        if self.weight is not None:
            check_non_negative(self.weight, "weight")
        self.alpha = alpha
        self.beta = beta
        self.smooth = smooth
        self.exponent = exponent
        self.activation: Activation | None = activation
        self.scope: Scope = scope
        self.classes: Classes = classes

    def forward(self, logits: Tensor, target: Tensor, valid: Tensor | None = None) -> Tensor:
        return tversky_loss(
            logits,
            target,
            alpha=self.alpha,
            beta=self.beta,
            smooth=self.smooth,
            exponent=self.exponent,
            activation=self.activation,
            scope=self.scope,
            classes=self.classes,
            weight=self.weight,
            ignore_index=self.ignore_index,
            valid=valid,
        )

    def normalizer(self, target: Tensor, valid: Tensor | None = None) -> Tensor:
        if target.is_floating_point():
            return images(multi_label_valid(target, self.ignore_index, valid)).sum().double()
        return super().normalizer(target, valid)


class DiceLoss(TverskyLoss):
    """`dice_loss`; its weight [K] is a buffer."""

    def __init__(
        self,
        *,
        smooth: float = 1.0,
        activation: Activation | None = "softmax",
        scope: Scope = "batch",
        classes: Classes = "present",
        weight: ClassValues | None = None,
        ignore_index: int = IGNORE_INDEX,
    ) -> None:
        super().__init__(
            smooth=smooth / 2,
            activation=activation,
            scope=scope,
            classes=classes,
            weight=weight,
            ignore_index=ignore_index,
        )


class JaccardLoss(TverskyLoss):
    """`jaccard_loss`; its weight [K] is a buffer."""

    def __init__(
        self,
        *,
        smooth: float = 1.0,
        activation: Activation | None = "softmax",
        scope: Scope = "batch",
        classes: Classes = "present",
        weight: ClassValues | None = None,
        ignore_index: int = IGNORE_INDEX,
    ) -> None:
        super().__init__(
            alpha=1.0,
            beta=1.0,
            smooth=smooth,
            activation=activation,
            scope=scope,
            classes=classes,
            weight=weight,
            ignore_index=ignore_index,
        )
