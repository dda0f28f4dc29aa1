"""The losses of a window: actions at every stage, smoothness over time, hidden keypoints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor

from common.engine.task import LossTerm
from common.losses import Loss, TemporalDifferenceLoss, TruncatedMSELoss
from rodent_behavior.model import BehaviorOutput

IGNORE = -100
"""Target of a frame without action loss."""


@dataclass(frozen=True, kw_only=True)
class Objective:
    """Action loss (reduction `valid_mean`, ignoring -100) and the weights of the other terms; 0: left out.

    Batches hold `target` int64 [B, T], `smooth` bool [B, T] (frames whose change is judged) and, for the
    keypoint term, `keypoints` float [B, T, 2K] in shares of the frame with `hidden` bool [B, T, K] (points
    that are to be predicted).
    """

    action: Loss
    smooth_weight: float
    tmse_weight: float
    keypoint_weight: float
    keypoint_beta: float
    smooth: TemporalDifferenceLoss = field(
        default_factory=lambda: TemporalDifferenceLoss(ignore_index=IGNORE)
    )
    tmse: TruncatedMSELoss = field(default_factory=lambda: TruncatedMSELoss(ignore_index=IGNORE))

    def terms(self, output: BehaviorOutput, batch: Mapping[str, Tensor]) -> dict[str, LossTerm]:
        """Return the named losses of a batch; those of actions are means over the stages."""
        terms = self.action_terms(output["stages"], batch)
        if self.keypoint_weight and output["keypoints"] is not None:
            terms["kp"] = self.keypoint_term(output["keypoints"], batch)
        return terms

    def keypoint_term(self, prediction: Tensor, batch: Mapping[str, Tensor]) -> LossTerm:
        """Return the loss of predicted coordinates [B, T, 2K]."""
        total, count = keypoint_loss(prediction, batch["keypoints"], batch["hidden"], beta=self.keypoint_beta)
        return LossTerm(total, count, self.keypoint_weight)

    def action_terms(self, stages: Sequence[Tensor], batch: Mapping[str, Tensor]) -> dict[str, LossTerm]:
        """Return the losses of the logits [B, C, T] of every stage."""
        number = len(stages)
        logits = torch.cat(list(stages))  # all stages are judged alike, so they make one larger batch
        target, smooth = (batch[name].repeat(number, 1) for name in ("target", "smooth"))
        judged = {"action": (1.0, self.action.total_and_count(logits, target))}
        if self.smooth_weight:
            found = self.smooth.total_and_count(logits, smooth.long(), smooth)
            judged["smooth"] = (self.smooth_weight, found)
        if self.tmse_weight:
            judged["tmse"] = (self.tmse_weight, self.tmse.total_and_count(logits, smooth.long(), smooth))
        return {
            name: LossTerm(total / number, count / number, weight)
            for name, (weight, (total, count)) in judged.items()
        }

    def normalizers(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the count of every term, from the labels alone."""
        smooth = batch["smooth"]
        counts = {"action": self.action.normalizer(batch["target"])}
        if self.smooth_weight:
            counts["smooth"] = self.smooth.normalizer(smooth.long(), smooth)
        if self.tmse_weight:
            counts["tmse"] = self.tmse.normalizer(smooth.long(), smooth)
        if self.keypoint_weight:
            counts["kp"] = 2 * batch["hidden"].sum().double()
        return counts


def keypoint_loss(
    prediction: Tensor, target: Tensor, visible: Tensor, *, beta: float
) -> tuple[Tensor, Tensor]:
    """Return the smooth L1 total over the x and y of `visible` points [B, T, K], and their number.

    `prediction` and `target` are [B, T, 2K], pairs in shares of width and height; what stands at other points
    is never read.
    """
    keep = visible.repeat_interleave(2, dim=-1)
    wanted = torch.where(keep, target, 0)
    found = torch.where(keep, prediction.float(), 0)
    total = F.smooth_l1_loss(found, wanted, beta=beta, reduction="sum")
    return total, keep.sum().to(total.dtype)
