"""The word-for-word reading of the documented sparsity, concentration and composite losses.

They are kept to show what is wrong with it: an L1 weight of 1 on raw outputs pulls probabilities to .5, an
unnormalised distance is smallest for the empty frame, and together a near-perfect map costs more than a
constant one.
"""

from __future__ import annotations

from torch import Tensor

from common.losses.config import Reduction
from common.losses.sparse_map import CellLoss, Maps, SparseFocalLoss, SummedLoss, squared_distance


class SparsityLiteral(CellLoss):
    """mean((z - y)^2) + mean(|z|) of raw outputs z."""

    output_kind = "regression"
    name = "sparsity_literal"

    def reduced(self, pred: Tensor, target: Tensor, mask: Tensor | None, reduction: Reduction) -> Tensor:
        maps = Maps.of(pred, target, mask)
        return maps.reduce((maps.pred - maps.target).square() + maps.pred.abs(), reduction, "cell")


class ConcentrationLiteral(CellLoss):
    """Per frame mean_u(p_u d_u^2), d in cells from the target's centre of mass; mean over frames with one."""

    output_kind = "bernoulli"
    name = "concentration_literal"
    per = "frame"

    def reduced(self, pred: Tensor, target: Tensor, mask: Tensor | None, reduction: Reduction) -> Tensor:
        maps = Maps.of(pred, target, mask)
        height, width = maps.pred.shape[-2:]
        distance = squared_distance(maps.target, "center_of_mass") / (height * width)
        return maps.reduce(maps.pred.sigmoid() * distance, reduction, "frame")


class CompositeLiteral(SummedLoss):
    """Focal loss and the two literal ones, `weights` in this order."""

    output_kind = "bernoulli"

    def __init__(
        self,
        *,
        weights: tuple[float, float, float] = (1.0, 0.8, 1.5),
        alpha: float = 0.25,
        gamma: float = 2.0,
    ) -> None:
        parts: dict[str, CellLoss] = {
            "focal": SparseFocalLoss(alpha=alpha, gamma=gamma),
            "sparsity": SparsityLiteral(),
            "concentration": ConcentrationLiteral(),
        }
        super().__init__(parts, dict(zip(parts, weights, strict=True)))
