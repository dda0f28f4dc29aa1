"""Losses of maps in which one cell of a thousand is lit: formulas and modules.

A map is the last two axes of pred and target [B, *, H, W]; a mask is bool over leading axes, such as (B, T).
Every module declares what its predictions are (`output_kind`) and gives its sums before division.
"""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn

from common.losses._reduction import check_choice, check_range, divide
from common.losses._sparse_map_formulas import (
    Anchor,
    Density,
    FrameScope,
    check_l1_weight,
    check_pos_weight,
    check_weights,
    composite_sparse_loss,
    concentration_loss,
    dice_parts,
    heatmap_cross_entropy,
    penalty_reduced_focal_loss,
    soft_argmax,
    sparse_bce_loss,
    sparse_dice_loss,
    sparse_focal_loss,
    sparsity_loss,
    transport_loss,
    weighted_mse_loss,
)
from common.losses._sparse_map_frames import Maps, Per, gaussian_map, squared_distance
from common.losses.config import Reduction

__all__ = [
    "CellLoss",
    "CompositeSparseLoss",
    "ConcentrationLoss",
    "HeatmapCrossEntropyLoss",
    "Maps",
    "OutputKind",
    "PenaltyReducedFocalLoss",
    "SparseBCELoss",
    "SparseDiceLoss",
    "SparseFocalLoss",
    "SparseMapLoss",
    "SparsityLoss",
    "SummedLoss",
    "Term",
    "TransportLoss",
    "WeightedMSELoss",
    "composite_sparse_loss",
    "concentration_loss",
    "gaussian_map",
    "heatmap_cross_entropy",
    "penalty_reduced_focal_loss",
    "soft_argmax",
    "sparse_bce_loss",
    "sparse_dice_loss",
    "sparse_focal_loss",
    "sparsity_loss",
    "squared_distance",
    "transport_loss",
    "weighted_mean",
    "weighted_mse_loss",
]

OutputKind = Literal["regression", "bernoulli", "categorical"]


@dataclass(frozen=True)
class Term:
    """A part of a loss: its sum with a graph, what divides it (0 when nothing counts), its share."""

    total: Tensor
    count: Tensor
    weight: float


class SparseMapLoss(nn.Module, ABC):
    """A loss of maps pred and target [B, *, H, W] with a mask over leading axes.

    Its value is the sum over terms of weight * total / count. Totals and counts of micro-batches and ranks
    add up to those of the whole batch.
    """

    output_kind: OutputKind

    @abstractmethod
    def totals(self, pred: Tensor, target: Tensor, mask: Tensor | None = None) -> dict[str, Tensor]:
        """Return the sum of every term, scalars with a graph."""

    @abstractmethod
    def counts(self, target: Tensor, mask: Tensor | None = None) -> dict[str, Tensor]:
        """Return the divisor of every term as float64 scalars, without predictions."""

    @abstractmethod
    def weights(self) -> dict[str, float]:
        """Return the share of every term."""

    def terms(self, pred: Tensor, target: Tensor, mask: Tensor | None = None) -> dict[str, Term]:
        """Return the terms before division."""
        totals, counts = self.totals(pred, target, mask), self.counts(target, mask)
        return {name: Term(totals[name], counts[name], weight) for name, weight in self.weights().items()}

    def forward(self, pred: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
        return weighted_mean(self.terms(pred, target, mask))


def weighted_mean(terms: Mapping[str, Term]) -> Tensor:
    """Return the sum of weight * total / count; a term in which nothing counts adds 0."""
    values = [term.weight * divide(term.total, term.count) for term in terms.values()]
    return values[0] if len(values) == 1 else torch.stack(values).sum()


class CellLoss(SparseMapLoss):
    """A loss of one term that is a sum over cells; `share` scales it."""

    name: ClassVar[str]
    """Its term."""
    per: ClassVar[Per] = "cell"
    share: float = 1.0

    @abstractmethod
    def reduced(self, pred: Tensor, target: Tensor, mask: Tensor | None, reduction: Reduction) -> Tensor:
        """Call the formula with this module's settings and the given reduction."""

    def totals(self, pred: Tensor, target: Tensor, mask: Tensor | None = None) -> dict[str, Tensor]:
        return {self.name: self.reduced(pred, target, mask, "sum")}

    def counts(self, target: Tensor, mask: Tensor | None = None) -> dict[str, Tensor]:
        return {self.name: Maps.of_target(target, mask).count(self.per)}

    def weights(self) -> dict[str, float]:
        return {self.name: self.share}


class WeightedMSELoss(CellLoss):
    """`weighted_mse_loss` as a module; pos_weight 1 is the mean squared error.

    With `balanced` the weight is the batch's own, so a cut of a batch changes it unless every frame has as
    many lit cells.
    """

    output_kind = "regression"
    name = "weighted_mse"

    def __init__(self, *, pos_weight: float | Literal["balanced"] = 100.0, threshold: float = 0.0) -> None:
        super().__init__()
        check_pos_weight(pos_weight)
        self.pos_weight: float | Literal["balanced"] = pos_weight
        self.threshold = threshold

    def reduced(self, pred: Tensor, target: Tensor, mask: Tensor | None, reduction: Reduction) -> Tensor:
        return weighted_mse_loss(
            pred,
            target,
            pos_weight=self.pos_weight,
            threshold=self.threshold,
            valid=mask,
            reduction=reduction,
        )


class SparseBCELoss(CellLoss):
    """`sparse_bce_loss` as a module."""

    output_kind = "bernoulli"
    name = "bce"

    def __init__(self, *, pos_weight: float = 1.0, offset: float = 0.0) -> None:
        super().__init__()
        check_pos_weight(pos_weight)
        self.pos_weight = pos_weight
        self.offset = offset

    def reduced(self, pred: Tensor, target: Tensor, mask: Tensor | None, reduction: Reduction) -> Tensor:
        return sparse_bce_loss(
            pred, target, pos_weight=self.pos_weight, offset=self.offset, valid=mask, reduction=reduction
        )


class SparseFocalLoss(CellLoss):
    """`sparse_focal_loss` as a module; warns when alpha leaves lit or unlit cells without a gradient."""

    output_kind = "bernoulli"
    name = "focal"

    def __init__(self, *, alpha: float = 0.25, gamma: float = 2.0) -> None:
        super().__init__()
        check_range("alpha", alpha, 0, 1)
        check_range("gamma", gamma, 0)
        if alpha in (0, 1):
            silent = "lit" if alpha == 0 else "unlit"
            warnings.warn(f"alpha is {alpha:g}: {silent} cells get no gradient", stacklevel=2)
        self.alpha = alpha
        self.gamma = gamma

    def reduced(self, pred: Tensor, target: Tensor, mask: Tensor | None, reduction: Reduction) -> Tensor:
        return sparse_focal_loss(
            pred, target, alpha=self.alpha, gamma=self.gamma, valid=mask, reduction=reduction
        )


class SparsityLoss(CellLoss):
    """`sparsity_loss` as a module; warns when l1_weight blanks half-certain cells."""

    output_kind = "bernoulli"
    name = "sparsity"

    def __init__(self, *, l1_weight: float = 0.1) -> None:
        super().__init__()
        check_l1_weight(l1_weight)
        if l1_weight >= 1:
            blank = l1_weight / 2
            warnings.warn(
                f"an L1 weight of {l1_weight:g} blanks every cell of probability below {blank:g} "
                f"and leaves a certain one at {1 - blank:g}",
                stacklevel=2,
            )
        self.l1_weight = l1_weight

    def reduced(self, pred: Tensor, target: Tensor, mask: Tensor | None, reduction: Reduction) -> Tensor:
        return sparsity_loss(pred, target, l1_weight=self.l1_weight, valid=mask, reduction=reduction)


class ConcentrationLoss(CellLoss):
    """`concentration_loss` as a module; `density` is also its output kind."""

    name = "concentration"
    per = "frame"

    def __init__(self, *, density: Density = "bernoulli", to: Anchor = "center_of_mass") -> None:
        super().__init__()
        check_choice("density", density, ("bernoulli", "categorical"))
        check_choice("to", to, ("center_of_mass", "nearest"))
        self.output_kind = density
        self.density: Density = density
        self.anchor: Anchor = to

    def reduced(self, pred: Tensor, target: Tensor, mask: Tensor | None, reduction: Reduction) -> Tensor:
        return concentration_loss(
            pred, target, density=self.density, to=self.anchor, valid=mask, reduction=reduction
        )


class TransportLoss(CellLoss):
    """`transport_loss` as a module."""

    output_kind = "categorical"
    name = "transport"
    per = "frame"

    def reduced(self, pred: Tensor, target: Tensor, mask: Tensor | None, reduction: Reduction) -> Tensor:
        return transport_loss(pred, target, valid=mask, reduction=reduction)


class HeatmapCrossEntropyLoss(CellLoss):
    """`heatmap_cross_entropy` as a module."""

    output_kind = "categorical"
    name = "cross_entropy"
    per = "frame"

    def __init__(self, *, sigma: float = 0.0) -> None:
        super().__init__()
        check_range("sigma", sigma, 0)
        self.sigma = sigma

    def reduced(self, pred: Tensor, target: Tensor, mask: Tensor | None, reduction: Reduction) -> Tensor:
        return heatmap_cross_entropy(pred, target, sigma=self.sigma, valid=mask, reduction=reduction)


class PenaltyReducedFocalLoss(CellLoss):
    """`penalty_reduced_focal_loss` against a Gaussian of `sigma` cells round the lit cell of each frame.

    Its mean is over lit cells; frames without one leave the loss (one lit cell per frame, see
    `gaussian_map`).
    """

    output_kind = "bernoulli"
    name = "penalty_reduced_focal"
    per = "positive"

    def __init__(self, *, sigma: float = 1.5, alpha: float = 2.0, beta: float = 4.0) -> None:
        super().__init__()
        if not sigma > 0:
            raise ValueError(f"sigma is {sigma}: sigma > 0 is expected")
        check_range("alpha", alpha, 0)
        check_range("beta", beta, 0)
        self.sigma = sigma
        self.alpha = alpha
        self.beta = beta

    def reduced(self, pred: Tensor, target: Tensor, mask: Tensor | None, reduction: Reduction) -> Tensor:
        maps = Maps.of(pred, target, mask)
        heat = gaussian_map(maps.target, self.sigma).masked_fill(maps.target > 0, 1)
        return penalty_reduced_focal_loss(
            maps.pred, heat, alpha=self.alpha, beta=self.beta, valid=maps.lit(), reduction=reduction
        )


class SparseDiceLoss(SparseMapLoss):
    """`sparse_dice_loss` as a module.

    The loss couples the frames of a batch: its total is loss x sequences, its count the sequences (entries of
    dimension 0 with a counted frame). With scope `frame` total and count are over frames.
    """

    output_kind = "bernoulli"
    name = "dice"

    def __init__(self, *, smooth: float = 1.0, scope: FrameScope = "batch") -> None:
        super().__init__()
        check_range("smooth", smooth, 0)
        check_choice("scope", scope, ("batch", "frame"))
        self.smooth = smooth
        self.scope: FrameScope = scope

    def totals(self, pred: Tensor, target: Tensor, mask: Tensor | None = None) -> dict[str, Tensor]:
        losses, _ = dice_parts(Maps.of(pred, target, mask), self.smooth, self.scope)
        if self.scope == "batch":
            losses = losses * self.counts(target, mask)[self.name].to(losses.dtype)
        return {self.name: losses.sum()}

    def counts(self, target: Tensor, mask: Tensor | None = None) -> dict[str, Tensor]:
        counted = Maps.of_target(target, mask).counted()
        if counted is None:
            counted = torch.ones(target.shape[:-2], dtype=torch.bool, device=target.device)
        held = counted.flatten(1).any(dim=1) if self.scope == "batch" and counted.dim() > 1 else counted
        return {self.name: held.sum().double()}

    def weights(self) -> dict[str, float]:
        return {self.name: 1.0}


class SummedLoss(SparseMapLoss):
    """A weighted sum of losses of one term each, by name; their shares are replaced by `weights`.

    A subclass says what the predictions are. ValueError when names differ or all weights are 0.
    """

    def __init__(self, parts: Mapping[str, CellLoss], weights: Mapping[str, float]) -> None:
        super().__init__()
        if parts.keys() != weights.keys():
            raise ValueError(f"weights name {sorted(weights)} but parts are {sorted(parts)}")
        check_weights(tuple(weights.values()))
        self.parts = dict(parts)
        self.part_weights = dict(weights)
        for name, part in parts.items():
            self.add_module(name, part)

    def totals(self, pred: Tensor, target: Tensor, mask: Tensor | None = None) -> dict[str, Tensor]:
        return {name: part.reduced(pred, target, mask, "sum") for name, part in self.parts.items()}

    def counts(self, target: Tensor, mask: Tensor | None = None) -> dict[str, Tensor]:
        maps = Maps.of_target(target, mask)
        by_kind = {per: maps.count(per) for per in {part.per for part in self.parts.values()}}
        return {name: by_kind[part.per] for name, part in self.parts.items()}

    def weights(self) -> dict[str, float]:
        return self.part_weights


class CompositeSparseLoss(SummedLoss):
    """`composite_sparse_loss` as a module: focal, sparsity and concentration, in this order."""

    output_kind = "bernoulli"

    def __init__(
        self,
        *,
        weights: tuple[float, float, float] = (1.0, 0.8, 1.5),
        alpha: float = 0.25,
        gamma: float = 2.0,
        l1_weight: float = 0.1,
    ) -> None:
        parts: dict[str, CellLoss] = {
            "focal": SparseFocalLoss(alpha=alpha, gamma=gamma),
            "sparsity": SparsityLoss(l1_weight=l1_weight),
            "concentration": ConcentrationLoss(),
        }
        super().__init__(parts, dict(zip(parts, weights, strict=True)))
