"""Output networks of the tasks: features of an action to logits or cosines."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.heads import CosineClassifier
from mvfouls.settings import HeadSpec

MLP_HIDDEN = 256
"""Width of `mlp`; those of the deep heads are settings."""


KINDS = ("mlp", "linear", "deep_mlp", "se_mlp", "ordinal")


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


class OrdinalClassifier(nn.Module):
    """Features [B, D] to the logarithms of the probabilities [B, K] of ordered classes.

    A class is above k with the probability sigmoid(f - b_k): one score f for all thresholds
    b_1 < ... < b_(K-1), whose distances are softplus(g_k). At a score of 0 every class is equally likely in
    the beginning. At least two classes; the result is finite for every finite score.
    Source: McCullagh, Regression Models for Ordinal Data, 1980, eq. 2.1; Cao, Mirjalili and Raschka, Rank
    Consistent Ordinal Regression, 2020, section 3.3.
    """

    def __init__(self, features: int, classes: int) -> None:
        super().__init__()
        if classes < 2:
            raise ValueError(f"an ordinal head needs two classes or more, not {classes}")
        share = torch.arange(1, classes) / classes
        even = torch.logit(share)
        self.score = nn.Linear(features, 1, bias=False)
        self.first = nn.Parameter(even[:1].clone())
        self.gaps = nn.Parameter(torch.log(torch.expm1(even.diff())))

    def forward(self, features: Tensor) -> Tensor:
        """Return log p [B, K], in float32 at least."""
        score = self.score(features)
        return self.log_probabilities(score.to(torch.promote_types(score.dtype, torch.float32)))

    def log_probabilities(self, score: Tensor) -> Tensor:
        """Return log p [B, K] of scores [B, 1].

        Between two thresholds the difference of two sigmoids is sigmoid(f - b_k) sigmoid(b_(k+1) - f) times
        1 - exp(-softplus(g_k)), which is sigmoid(g_k).
        """
        thresholds = torch.cat([self.first, self.first + F.softplus(self.gaps).cumsum(0)])
        distance = score - thresholds
        above = F.pad(F.logsigmoid(distance), (1, 0))
        below = F.pad(F.logsigmoid(-distance), (0, 1))
        return above + below + F.pad(F.logsigmoid(self.gaps), (1, 1))


def build_head(spec: HeadSpec, features: int, classes: int, *, cosine: bool = False) -> nn.Sequential:
    """Return features [B, D] to logits [B, K]; with `cosine` the last layer gives cosines, without bias.

    The logits of an ordinal head are logarithms of probabilities. Norms are over the features of one action,
    so a batch of one trains. Raises ValueError naming the field of `spec` that cannot be.
    """
    _check(spec, features)
    if cosine and spec.kind == "ordinal":
        raise ValueError("head kind 'ordinal' gives no cosines")
    body: list[nn.Module]
    if spec.kind == "linear" or not spec.depth:
        body, width = [nn.Dropout(spec.dropout)], features
    elif spec.kind == "mlp":
        body, width = _hidden(features, MLP_HIDDEN, 1, spec.dropout), MLP_HIDDEN
    else:
        body, width = _hidden(features, spec.hidden, spec.depth, spec.dropout), spec.hidden
    if spec.kind == "se_mlp":
        body = [ChannelGate(features, reduction=spec.reduction), *body]
    if spec.kind == "ordinal":
        return nn.Sequential(*body, OrdinalClassifier(width, classes))
    last = CosineClassifier(width, classes) if cosine else nn.Linear(width, classes)
    return nn.Sequential(*body, last)


def _hidden(features: int, hidden: int, depth: int, dropout: float) -> list[nn.Module]:
    layers: list[nn.Module] = []
    for inputs in (features, *[hidden] * (depth - 1)):
        layers += [nn.Linear(inputs, hidden), nn.LayerNorm(hidden), nn.GELU(), nn.Dropout(dropout)]
    return layers


def _check(spec: HeadSpec, features: int) -> None:
    if spec.kind not in KINDS:
        raise ValueError(f"head kind {spec.kind!r}: one of {', '.join(KINDS)} is expected")
    if not 0 <= spec.dropout < 1:
        raise ValueError(f"dropout of a head must be in [0, 1), got {spec.dropout}")
    if spec.hidden < 1 or spec.depth < (0 if spec.kind == "ordinal" else 1):
        raise ValueError(f"hidden and depth of a head are too small: {spec.hidden} and {spec.depth}")
    if spec.kind == "se_mlp" and not 1 <= spec.reduction <= features:
        raise ValueError(f"reduction of a head is 1 to {features}, got {spec.reduction}")
