"""Label-distribution-aware margin loss: rare classes must win by a larger margin (Cao et al. 2019)."""

from __future__ import annotations

import logging
from typing import get_args

import torch
from torch import Tensor

from common.losses._reduction import (
    ClassValues,
    ElementLoss,
    Labels,
    check_choice,
    check_non_negative,
    checked_weight,
    class_values,
    full_precision,
)
from common.losses.config import IGNORE_INDEX, HeadOutput, Reduction
from common.losses.cross_entropy import check_smoothing, cross_entropy

logger = logging.getLogger(__name__)

LARGEST_COSINE = 1.001
USUAL_SCALE = (10.0, 50.0)
USUAL_MARGIN = (0.1, 1.0)


def ldam_loss(
    logits: Tensor,
    target: Tensor,
    *,
    margins: Tensor,
    scale: float = 30.0,
    head_output: HeadOutput = "cosine",
    weight: Tensor | None = None,
    label_smoothing: float = 0.0,
    ignore_index: int = IGNORE_INDEX,
    reduction: Reduction = "mean",
    valid: Tensor | None = None,
) -> Tensor:
    """Return the cross-entropy after lowering each true class by its margin, for training only.

    `margins` [K] are `common.balancing.weights.ldam_margins` (Cao et al. 2019, equations 10 and 13). For
    `cosine` the `logits` [B, K, *] are cosines and it is CE(scale (c - m_y e_y)), for `scaled` they are
    already multiplied: CE(z - scale m_y e_y). `cross_entropy` states the other arguments. ValueError also
    for margins of another length and, where looking does not stall a device, for cosines beyond 1.
    """
    check_choice("head_output", head_output, get_args(HeadOutput))
    _check_scale(scale)
    logits = full_precision(logits)
    margins = _margins_for(margins, logits)
    labels = Labels.of(logits, target, ignore_index, valid)
    if head_output == "cosine" and logits.device.type == "cpu":
        check_cosines(logits, labels.valid)
    scaled = logits * scale if head_output == "cosine" else logits.clone()
    true = labels.index.clamp(max=labels.num_classes - 1).unsqueeze(1)
    return cross_entropy(
        scaled.scatter_add_(1, true, labels.lookup(margins * -scale).unsqueeze(1)),
        target,
        weight=weight,
        label_smoothing=label_smoothing,
        ignore_index=ignore_index,
        reduction=reduction,
        valid=valid,
    )


@torch.no_grad()
def check_cosines(logits: Tensor, valid: Tensor) -> None:
    """Raise a ValueError when `logits` [B, K, *] are no cosines at an element of `valid` [B, *]."""
    if logits.numel() == 0 or max(map(abs, map(float, torch.aminmax(logits)))) <= LARGEST_COSINE:
        return
    largest = float(torch.where(valid, logits.abs().amax(dim=1), 0).max())
    if largest > LARGEST_COSINE:
        raise ValueError(
            f"logits reach {largest:.4g}: this loss needs a cosine head (common.heads.CosineClassifier), "
            "or head_output 'scaled' for cosines that are already multiplied by the scale"
        )


def _margins_for(margins: Tensor, logits: Tensor) -> Tensor:
    checked = checked_weight(margins, logits, "margins")
    assert checked is not None
    return checked


def _check_scale(scale: float) -> None:
    if not 0 < scale < float("inf"):
        raise ValueError(f"scale is {scale}: 0 < scale < inf is expected")


class LDAMLoss(ElementLoss):
    """`ldam_loss` in training mode, the same without margins in evaluation mode.

    `margins` [K] and `weight` [K] are buffers. Put the module under the model's `train()` and `eval()`, and
    predict from `prediction_logits`. The first batch is checked for cosines on any device, every one on the
    CPU. A scale outside 10 to 50, or a largest margin outside 0.1 to 1, is logged as a warning.
    """

    margins: Tensor

    def __init__(
        self,
        *,
        margins: ClassValues,
        scale: float = 30.0,
        head_output: HeadOutput = "cosine",
        weight: ClassValues | None = None,
        label_smoothing: float = 0.0,
        ignore_index: int = IGNORE_INDEX,
        reduction: Reduction = "mean",
    ) -> None:
        super().__init__(weight, reduction, ignore_index)
        check_choice("head_output", head_output, get_args(HeadOutput))
        _check_scale(scale)
        check_smoothing(label_smoothing, "hard", None)
        self.register_buffer("margins", class_values(margins))
        check_non_negative(self.margins, "margins")
        _warn_unusual("scale", scale, USUAL_SCALE)
        _warn_unusual("largest margin", float(self.margins.max()), USUAL_MARGIN)
        self.scale = scale
        self.head_output: HeadOutput = head_output
        self.label_smoothing = label_smoothing
        self._checked = False

    def reduced(self, logits: Tensor, target: Tensor, valid: Tensor | None, reduction: Reduction) -> Tensor:
        self._check_first(logits, target, valid)
        return ldam_loss(
            logits,
            target,
            margins=self.margins if self.training else torch.zeros_like(self.margins),
            scale=self.scale,
            head_output=self.head_output,
            weight=self.weight,
            label_smoothing=self.label_smoothing,
            ignore_index=self.ignore_index,
            reduction=reduction,
            valid=valid,
        )

    def prediction_logits(self, logits: Tensor) -> Tensor:
        """Return what softmax and argmax take: scale x cosine, or the logits of a head that is `scaled`."""
        return full_precision(logits) * self.scale if self.head_output == "cosine" else logits

    def _check_first(self, logits: Tensor, target: Tensor, valid: Tensor | None) -> None:
        if self._checked or self.head_output != "cosine" or logits.device.type in ("cpu", "meta"):
            return
        labels = Labels.of(logits, target, self.ignore_index, valid)
        check_cosines(logits, labels.valid)
        self._checked = True


def _warn_unusual(name: str, value: float, usual: tuple[float, float]) -> None:
    if not usual[0] <= value <= usual[1]:
        logger.warning("ldam: %s %g is outside the usual %g to %g", name, value, *usual)
