"""Output networks of the tasks: features of an action to logits or cosines."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from common.heads import CosineClassifier
from mvfouls.settings import HeadSpec

MLP_HIDDEN = 256
"""Width of `mlp`; those of the deep heads are settings."""


class ChannelGate(nn.Module):
    """x * sigmoid(W2 relu(W1 x)) on features [B, D].

    Source: Hu et al., Squeeze-and-Excitation Networks, 2018, eq. 3.
    """

    def __init__(self, features: int, *, reduction: int) -> None:
        super().__init__()
        self.squeeze = nn.Linear(features, features // reduction, bias=False)
        self.excite = nn.Linear(features // reduction, features, bias=False)

    def forward(self, features: Tensor) -> Tensor:
        """Return the gated features [B, D]."""
        return features * torch.sigmoid(self.excite(torch.relu(self.squeeze(features))))


def build_head(spec: HeadSpec, features: int, classes: int, *, cosine: bool = False) -> nn.Sequential:
    """Return features [B, D] to logits [B, K]; with `cosine` the last layer gives cosines, without bias.

    Norms are over the features of one action, so a batch of one trains. Raises ValueError naming the field
    of `spec` that cannot be.
    """
    _check(spec, features)
    body: list[nn.Module]
    if spec.kind == "linear":
        body, width = [nn.Dropout(spec.dropout)], features
    elif spec.kind == "mlp":
        body, width = _hidden(features, MLP_HIDDEN, 1, spec.dropout), MLP_HIDDEN
    else:
        body, width = _hidden(features, spec.hidden, spec.depth, spec.dropout), spec.hidden
    if spec.kind == "se_mlp":
        body = [ChannelGate(features, reduction=spec.reduction), *body]
    last = CosineClassifier(width, classes) if cosine else nn.Linear(width, classes)
    return nn.Sequential(*body, last)


def _hidden(features: int, hidden: int, depth: int, dropout: float) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for inputs in (features, *[hidden] * (depth - 1)):
        layers += [nn.Linear(inputs, hidden), nn.LayerNorm(hidden), nn.GELU(), nn.Dropout(dropout)]
    return layers


def _check(spec: HeadSpec, features: int) -> None:
    if spec.kind not in ("mlp", "linear", "deep_mlp", "se_mlp"):
        raise ValueError(f"head kind {spec.kind!r}: one of mlp, linear, deep_mlp, se_mlp is expected")
    if not 0 <= spec.dropout < 1:
        raise ValueError(f"dropout of a head must be in [0, 1), got {spec.dropout}")
    if spec.hidden < 1 or spec.depth < 1:
        raise ValueError(f"hidden and depth of a head are at least 1, got {spec.hidden} and {spec.depth}")
    if spec.kind == "se_mlp" and not 1 <= spec.reduction <= features:
        raise ValueError(f"reduction of a head is 1 to {features}, got {spec.reduction}")
