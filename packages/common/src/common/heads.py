"""Output layers of classifiers."""

from __future__ import annotations

import math
from contextlib import AbstractContextManager, nullcontext
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class CosineClassifier(nn.Module):
    """Cosines between features [B, in_features, *] and one learned direction per class: [B, K, *] in [-1, 1].

    Without bias, the weights drawn as those of `torch.nn.Linear`. Computed in float32 under autocast and for
    half precision, as float64 for float64. A feature of zeros gives cosines of 0 and no gradient.
    """

    output: ClassVar[Literal["cosine"]] = "cosine"

    def __init__(self, in_features: int, num_classes: int) -> None:
        super().__init__()
        if in_features < 1 or num_classes < 1:
            raise ValueError(f"in_features and num_classes are at least 1, not {in_features}, {num_classes}")
        self.in_features = in_features
        self.num_classes = num_classes
        self.weight = nn.Parameter(torch.empty(num_classes, in_features))
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))

    def forward(self, features: Tensor) -> Tensor:
        if features.dim() < 2 or features.shape[1] != self.in_features:
            raise ValueError(f"features are {list(features.shape)}: [B, {self.in_features}, *] is expected")
        with _without_autocast(features.device.type):
            dtype = torch.promote_types(features.dtype, torch.float32)
            points = _unit(features.to(dtype))
            cosines = torch.einsum("bd...,kd->bk...", points, _unit(self.weight.to(dtype)))
        return cosines.clamp(-1, 1)

    def extra_repr(self) -> str:
        return f"in_features={self.in_features}, num_classes={self.num_classes}"


def _unit(vectors: Tensor) -> Tensor:
    """Return `vectors` [N, D, *] with length 1, those of zeros as they are.

    Dividing those by a tiny number instead would multiply their gradient by its inverse.
    """
    return torch.where((vectors != 0).any(dim=1, keepdim=True), F.normalize(vectors, dim=1), 0)


def _without_autocast(device_type: str) -> AbstractContextManager[object]:
    if not torch.amp.is_autocast_available(device_type):
        return nullcontext()
    return torch.autocast(device_type, enabled=False)
