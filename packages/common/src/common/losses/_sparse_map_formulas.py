"""Losses of maps in which one cell of a thousand is lit.

A map is the last two axes of pred and target [B, *, H, W]. `valid` is bool over leading axes, such as
(B, T); a frame where it is False leaves every sum and mean. Values and gradients are float32, float64 for
float64. Reductions: `none` returns what each cell adds [*, H, W], `sum` adds it up, `mean` and `valid_mean`
divide by the number of cells, or of frames with a target, or of lit cells, as the function says; nothing
counted gives 0. ValueError for other shapes, an unknown reduction and settings out of range.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from common.losses._reduction import check_choice, check_range, divide, full_precision
from common.losses._sparse_map_frames import Maps, gaussian_map, positions, squared_distance
from common.losses.config import Reduction
from common.losses.focal import POSITIVE, sigmoid_focal_loss

Anchor = Literal["center_of_mass", "nearest"]
Density = Literal["bernoulli", "categorical"]
FrameScope = Literal["batch", "frame"]

CUT = 3.0
"""Truncation of Gaussian targets, in standard deviations."""


def weighted_mse_loss(
    pred: Tensor,
    target: Tensor,
    *,
    pos_weight: float | Literal["balanced"] = 100.0,
    threshold: float = 0.0,
    valid: Tensor | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    """Return w (x - t)^2 of values x, with w = `pos_weight` where t > threshold and 1 elsewhere.

    `mean` divides by the number of cells, not by the sum of w. `balanced` is unlit / lit cells of the batch.
    A Gaussian target needs a threshold: without one nearly every cell of it is weighted.
    """
    check_pos_weight(pos_weight)
    maps = Maps.of(pred, target, valid)
    losses = (maps.pred - maps.target).square()
    if pos_weight != 1:
        lit = maps.target > threshold
        losses = losses * torch.where(lit, _lit_weight(maps, lit, pos_weight), 1)
    return maps.reduce(losses, reduction, "cell")


def _lit_weight(maps: Maps, lit: Tensor, pos_weight: float | str) -> Tensor:
    if not isinstance(pos_weight, str):
        return maps.pred.new_full((), pos_weight)
    positives = lit.sum()
    return divide(maps.count("cell") - positives, positives).to(maps.pred.dtype)


def check_pos_weight(pos_weight: float | str) -> None:
    """Raise a ValueError unless `pos_weight` is > 0 or `balanced`."""
    if isinstance(pos_weight, str):
        check_choice("pos_weight", pos_weight, ("balanced",))
    elif not 0 < pos_weight < float("inf"):
        raise ValueError(f"pos_weight is {pos_weight}: pos_weight > 0 is expected")


def sparse_bce_loss(
    pred: Tensor,
    target: Tensor,
    *,
    pos_weight: float = 1.0,
    offset: float = 0.0,
    valid: Tensor | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    """Return the binary cross-entropy of logits + `offset`; lit cells weigh `pos_weight`, means are over
    cells.

    The offset log(prior / (1 - prior)) is the binary logit adjustment of Menon et al. 2021, eq. 10: the
    prediction is then made from the logits alone.
    """
    check_pos_weight(pos_weight)
    maps = Maps.of(pred, target, valid)
    logits = maps.pred + offset if offset else maps.pred
    weight = None if pos_weight == 1 else maps.pred.new_full((1,), pos_weight)
    losses = F.binary_cross_entropy_with_logits(logits, maps.target, pos_weight=weight, reduction="none")
    return maps.reduce(losses, reduction, "cell")


def sparse_focal_loss(
    pred: Tensor,
    target: Tensor,
    *,
    alpha: float = 0.25,
    gamma: float = 2.0,
    valid: Tensor | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    """Return `sigmoid_focal_loss` of logits with cells above .5 as positives; means are over cells."""
    check_range("alpha", alpha, 0, 1)
    maps = Maps.of(pred, target, valid)
    hard = (maps.target > POSITIVE).to(maps.pred.dtype)
    # alpha is applied here: as a number, which on an accelerator is no copy from the host
    losses = sigmoid_focal_loss(maps.pred, hard, alpha=None, gamma=gamma, reduction="none")
    return maps.reduce(losses * (hard * (2 * alpha - 1) + (1 - alpha)), reduction, "cell")


def sparsity_loss(
    pred: Tensor,
    target: Tensor,
    *,
    l1_weight: float = 0.1,
    valid: Tensor | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    """Return (p - t)^2 + l1_weight p of probabilities p = sigmoid(pred); means are over cells.

    The best p of a cell that is lit with probability pi is max(0, pi - l1_weight / 2): from 2 on a black map
    is best whatever the target, which is refused.
    """
    check_l1_weight(l1_weight)
    maps = Maps.of(pred, target, valid)
    p = maps.pred.sigmoid()
    return maps.reduce((p - maps.target).square() + l1_weight * p, reduction, "cell")


def check_l1_weight(l1_weight: float) -> None:
    """Raise a ValueError unless 0 <= l1_weight < 2."""
    check_range("l1_weight", l1_weight, 0, 2, open_high=True)


def concentration_loss(
    pred: Tensor,
    target: Tensor,
    *,
    density: Density = "bernoulli",
    to: Anchor = "center_of_mass",
    valid: Tensor | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    """Return sum_u q_u d_u^2 per frame; means are over frames with a target.

    q is sigmoid(pred) over its sum in the frame, taken as softmax(logsigmoid(pred)), so that a black map has
    a density too (`categorical`: softmax(pred)). d is the distance of cell centres to the target's centre of
    mass or to the `nearest` lit cell, in units of max(H, W).
    """
    check_choice("density", density, ("bernoulli", "categorical"))
    maps = Maps.of(pred, target, valid)
    scores = F.logsigmoid(maps.pred) if density == "bernoulli" else maps.pred
    q = scores.flatten(-2).softmax(dim=-1).view_as(scores)
    distance = squared_distance(maps.target, to) / max(scores.shape[-2:]) ** 2
    return maps.reduce(q * distance, reduction, "frame")


def transport_loss(
    pred: Tensor,
    target: Tensor,
    *,
    valid: Tensor | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    """Return the squared cost of moving softmax(pred) to the target's cell, in units of max(H, W) squared.

    Exact Wasserstein-2 to a point, since all mass has one way to go; = categorical `concentration_loss`.
    """
    return concentration_loss(pred, target, density="categorical", valid=valid, reduction=reduction)


def sparse_dice_loss(
    pred: Tensor,
    target: Tensor,
    *,
    smooth: float = 1.0,
    scope: FrameScope = "batch",
    valid: Tensor | None = None,
) -> Tensor:
    """Return 1 - (2 sum p t + smooth) / (sum p + sum t + smooth) of p = sigmoid(pred), a scalar.

    Sums run over the batch, or over each frame with a mean over frames. smooth 1 gives a black frame of one
    lit cell a loss of .5 for nothing. `dice_loss` with one sigmoid class says the same of integer labels.
    """
    losses, counted = dice_parts(Maps.of(pred, target, valid), smooth, scope)
    if scope == "batch":
        return losses
    frames = torch.ones_like(losses, dtype=torch.bool) if counted is None else counted
    return divide(losses.sum(), frames.sum())


def dice_parts(maps: Maps, smooth: float, scope: FrameScope) -> tuple[Tensor, Tensor | None]:
    """Return the Dice loss, a scalar or per frame [*] and 0 where not counted; and the counted frames."""
    check_range("smooth", smooth, 0)
    check_choice("scope", scope, ("batch", "frame"))
    counted = maps.counted()
    p = maps.pred.sigmoid()
    both = (p * maps.target).sum(dim=(-2, -1))
    mass = p.sum(dim=(-2, -1)) + maps.target.sum(dim=(-2, -1))
    if counted is not None:
        mass = torch.where(counted, mass, 0)
    if scope == "batch":
        both, mass = both.sum(), mass.sum()
    return divide(mass - 2 * both, mass + smooth), counted


def heatmap_cross_entropy(
    pred: Tensor,
    target: Tensor,
    *,
    sigma: float = 0.0,
    valid: Tensor | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    """Return -sum_u g_u log softmax(pred)_u over the H W cells of a frame; means are over frames with a
    target.

    g is the target over its sum; with `sigma` in cells a Gaussian round the lit cell, cut at 3 sigma and
    normalised inside the frame (one lit cell per frame, see `gaussian_map`).
    """
    check_range("sigma", sigma, 0)
    maps = Maps.of(pred, target, valid)
    heat = gaussian_map(maps.target, sigma, cut=CUT) if sigma else maps.target
    log_q = maps.pred.flatten(-2).log_softmax(dim=-1).view_as(maps.pred)
    share = divide(heat, heat.sum(dim=(-2, -1), keepdim=True))
    return maps.reduce(-share * log_q, reduction, "frame")


def penalty_reduced_focal_loss(
    pred: Tensor,
    heatmap: Tensor,
    *,
    alpha: float = 2.0,
    beta: float = 4.0,
    valid: Tensor | None = None,
    reduction: Reduction = "mean",
) -> Tensor:
    """Return -(1-p)^alpha log p where the heat map is 1, else -(1-g)^beta p^alpha log(1-p).

    `heatmap` g is in [0, 1]; `mean` divides by max(1, cells where g is 1). Law and Deng 2018, eq. 1; Zhou et
    al. 2019, eq. 1. Up to the factor (1-g)^beta it is the sigmoid focal loss without alpha.
    """
    check_range("alpha", alpha, 0)
    check_range("beta", beta, 0)
    maps = Maps.of(pred, heatmap, valid)
    positive = maps.target >= 1
    share = torch.where(positive, 1, (1 - maps.target).pow(beta))
    hard = positive.to(maps.pred.dtype)
    losses = share * sigmoid_focal_loss(maps.pred, hard, alpha=None, gamma=alpha, reduction="none")
    return maps.reduce(losses, reduction, "positive", positive.sum())


def composite_sparse_loss(
    pred: Tensor,
    target: Tensor,
    *,
    weights: tuple[float, float, float] = (1.0, 0.8, 1.5),
    alpha: float = 0.25,
    gamma: float = 2.0,
    l1_weight: float = 0.1,
    valid: Tensor | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the weighted sum of focal, sparsity and concentration loss, and the three unweighted means."""
    check_weights(weights)
    parts = {
        "focal": sparse_focal_loss(pred, target, alpha=alpha, gamma=gamma, valid=valid),
        "sparsity": sparsity_loss(pred, target, l1_weight=l1_weight, valid=valid),
        "concentration": concentration_loss(pred, target, valid=valid),
    }
    pairs = zip(weights, parts.values(), strict=True)
    return torch.stack([weight * part for weight, part in pairs]).sum(), parts


def check_weights(weights: tuple[float, ...]) -> None:
    """Raise a ValueError unless all weights are finite and >= 0 and one is > 0."""
    for entry, weight in enumerate(weights):
        check_range(f"weights[{entry}]", weight, 0, float("inf"), open_high=True)
    if not any(weights):
        raise ValueError("weights are all 0: nothing would be learned")


def soft_argmax(density: Tensor) -> Tensor:
    """Return the mean point (x, y) [*, 2] of densities [*, H, W], in cells: cell i is centred at i + .5.

    A density is >= 0 and is divided by its sum. Scores or probabilities squeezed into [0, 1] are none: their
    mean is the middle of the map whatever they say.
    """
    density = full_precision(density)
    mass = density.sum(dim=(-2, -1))
    x = (density.sum(dim=-2) * (positions(density, -1) + 0.5)).sum(dim=-1)
    y = (density.sum(dim=-1) * (positions(density, -2) + 0.5)).sum(dim=-1)
    return torch.stack([divide(x, mass), divide(y, mass)], dim=-1)
