"""From logits to probabilities, the same way in validation, prediction and export."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from mvfouls.settings import LossSettings


@dataclass(frozen=True, kw_only=True)
class Score:
    """How the logits of one task are read.

    `softmax` of `scale` times the logits (cosine heads answer in [-1, 1]); `sigmoid`: each class by itself,
    then divided by their sum. Margins and logit offsets of training take no part.
    """

    kind: Literal["softmax", "sigmoid"] = "softmax"
    scale: float = 1.0

    def probabilities(self, logits: Tensor) -> Tensor:
        """Return float32 probabilities [B, K] of `logits` [B, K]."""
        scaled = logits.float() * self.scale
        if self.kind == "softmax":
            return scaled.softmax(dim=1)
        each = scaled.sigmoid()
        return each / each.sum(dim=1, keepdim=True).clamp_min(torch.finfo(each.dtype).tiny)


def score_of(loss: LossSettings) -> Score:
    """Return how a task trained with `loss` is read."""
    if loss.kind == "ldam":
        return Score(scale=loss.scale)
    return Score(kind="sigmoid" if loss.kind == "bce" else "softmax")


def read_all(logits: Mapping[str, Tensor], scores: Mapping[str, Score]) -> dict[str, Tensor]:
    """Return the probabilities of every task."""
    return {task: scores[task].probabilities(values) for task, values in logits.items()}
