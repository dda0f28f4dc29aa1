"""The losses of the comparison by name: what they are, how they are built, how they begin."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from common.config import UserError
from common.losses.sparse_map import (
    CellLoss,
    HeatmapCrossEntropyLoss,
    OutputKind,
    PenaltyReducedFocalLoss,
    SparseBCELoss,
    SparseMapLoss,
    SummedLoss,
    TransportLoss,
)
from eye_fixation.documented_losses import (
    MSE,
    CompositeLoss,
    ConcentrationLoss,
    DiceLoss,
    FocalLoss,
    SparsityLoss,
    WeightedMSE,
    get_loss_function,
    nearest,
)
from eye_fixation.literal_losses import CompositeLiteral, ConcentrationLiteral, SparsityLiteral
from eye_fixation.loss_options import LossOptions, blanking_rule

__all__ = [
    "DOCUMENTED",
    "LOSSES",
    "CompositeLoss",
    "ConcentrationLoss",
    "DiceLoss",
    "FocalLoss",
    "LossInfo",
    "LossOptions",
    "PriorBias",
    "SparsityLoss",
    "WeightedMSE",
    "blanking_rule",
    "build_loss",
    "get_loss_function",
    "hyperparameters",
    "loss_info",
    "loss_names",
    "positive_share",
    "readout_bias",
]

DOCUMENTED = ("mse", "focal", "dice", "weighted_mse", "composite")
SMOOTH_SIGMA = 1.0
CENTERNET_SIGMA = 1.5

PriorBias = Literal["auto", "all", "off"]


class TransportCrossEntropy(SummedLoss):
    """Cross-entropy of the cell plus the squared transport cost to it (`ce_w2`)."""

    output_kind = "categorical"

    def __init__(self) -> None:
        parts: dict[str, CellLoss] = {
            "cross_entropy": HeatmapCrossEntropyLoss(),
            "transport": TransportLoss(),
        }
        super().__init__(parts, dict.fromkeys(parts, 1.0))


Builder = Callable[[LossOptions, int], SparseMapLoss]


@dataclass(frozen=True)
class LossInfo:
    """A loss of the comparison: what its predictions are, and how it is built for maps of so many cells."""

    kind: OutputKind
    build: Builder
    prior_bias: bool = False
    """Whether the readout starts at the share of lit cells unless told otherwise."""
    options: tuple[str, ...] = ()
    """The fields of `LossOptions` it reads."""
    documented: bool = False
    literal: bool = False


def _alpha(options: LossOptions, cells: int) -> float:
    return 1 - 1 / cells if options.focal_alpha == "balanced" else options.focal_alpha


def _pos_weight(options: LossOptions, cells: int) -> float:
    return cells - 1.0 if options.pos_weight == "balanced" else options.pos_weight


def _composite(options: LossOptions, cells: int) -> SparseMapLoss:
    weights, alpha = options.composite_weights(), _alpha(options, cells)
    return CompositeLoss(*weights, alpha, options.focal_gamma, options.sparsity_penalty)


def _composite_literal(options: LossOptions, cells: int) -> SparseMapLoss:
    weights, alpha = options.composite_weights(), _alpha(options, cells)
    return CompositeLiteral(weights=weights, alpha=alpha, gamma=options.focal_gamma)


def _focal(options: LossOptions, cells: int) -> SparseMapLoss:
    return FocalLoss(_alpha(options, cells), options.focal_gamma)


def _centernet(options: LossOptions, cells: int) -> SparseMapLoss:
    return PenaltyReducedFocalLoss(sigma=CENTERNET_SIGMA)


_FOCAL = ("focal_alpha", "focal_gamma")
_WEIGHTS = (*_FOCAL, "focal_weight", "sparsity_weight", "concentration_weight")
_PENALTY = ("sparsity_penalty",)

LOSSES: dict[str, LossInfo] = {
    "mse": LossInfo("regression", lambda o, n: MSE(), documented=True),
    "focal": LossInfo("bernoulli", _focal, prior_bias=True, options=_FOCAL, documented=True),
    "dice": LossInfo(
        "bernoulli", lambda o, n: DiceLoss(o.dice_smooth), options=("dice_smooth",), documented=True
    ),
    "weighted_mse": LossInfo(
        "regression", lambda o, n: WeightedMSE(_pos_weight(o, n)), options=("pos_weight",), documented=True
    ),
    "composite": LossInfo("bernoulli", _composite, options=_WEIGHTS + _PENALTY, documented=True),
    "sparsity": LossInfo("bernoulli", lambda o, n: SparsityLoss(o.sparsity_penalty), options=_PENALTY),
    "concentration": LossInfo("bernoulli", lambda o, n: ConcentrationLoss()),
    "bce": LossInfo("bernoulli", lambda o, n: SparseBCELoss(), prior_bias=True),
    "weighted_bce": LossInfo("bernoulli", lambda o, n: SparseBCELoss(pos_weight=n - 1.0)),
    "logit_adjusted_bce": LossInfo("bernoulli", lambda o, n: SparseBCELoss(offset=-math.log(n - 1))),
    "softmax_ce": LossInfo("categorical", lambda o, n: HeatmapCrossEntropyLoss()),
    "smooth_ce": LossInfo("categorical", lambda o, n: HeatmapCrossEntropyLoss(sigma=SMOOTH_SIGMA)),
    "ce_w2": LossInfo("categorical", lambda o, n: TransportCrossEntropy()),
    "centernet_focal": LossInfo("bernoulli", _centernet, prior_bias=True),
    "sparsity_literal": LossInfo("regression", lambda o, n: SparsityLiteral(), literal=True),
    "concentration_literal": LossInfo("bernoulli", lambda o, n: ConcentrationLiteral(), literal=True),
    "composite_literal": LossInfo("bernoulli", _composite_literal, options=_WEIGHTS, literal=True),
}
"""Every loss by name, the documented ones first."""


def loss_info(name: str) -> LossInfo:
    """Return what is known of a loss; UserError naming the nearest names for an unknown one."""
    if name not in LOSSES:
        raise UserError(f"no loss is called {name!r}: {nearest(name, list(LOSSES))}")
    return LOSSES[name]


def loss_names(words: Sequence[str]) -> tuple[str, ...]:
    """Return the losses of names and of the groups `documented` and `all`.

    UserError for an unknown name, with the nearest ones, and for one listed twice.
    """
    groups = {"documented": DOCUMENTED, "all": tuple(LOSSES)}
    names: list[str] = []
    for word in words:
        if word not in groups and word not in LOSSES:
            raise UserError(f"no loss is called {word!r}: {nearest(word, [*LOSSES, *groups])}")
        names += groups.get(word, (word,))
    for name in names:
        if names.count(name) > 1:
            raise UserError(f"loss {name} is listed {names.count(name)} times: once is enough")
    return tuple(names)


def build_loss(name: str, options: LossOptions | None = None, img_size: int = 32) -> SparseMapLoss:
    """Return a loss for maps of `img_size` x `img_size` cells.

    UserError naming the flag of a bad option, or the nearest names of an unknown loss.
    """
    info, options = loss_info(name), options or LossOptions()
    options.check()
    return info.build(options, img_size**2)


def readout_bias(name: str, mode: PriorBias, img_size: int) -> float | None:
    """Return the readout bias -log(H W - 1), the logit of one cell in H W; None to leave it.

    `auto` sets it where `LossInfo.prior_bias`, `all` for every bernoulli loss, with a warning for dice.
    """
    info = loss_info(name)
    if mode == "off" or not (info.prior_bias or (mode == "all" and info.kind == "bernoulli")):
        return None
    if name == "dice":
        warnings.warn(
            "prior bias all: dice stalls with it (top1 .19 after 600 steps on 8 sequences, "
            "1.00 after 100 without)",
            stacklevel=2,
        )
    return -math.log(img_size**2 - 1)


def hyperparameters(loss: SparseMapLoss) -> dict[str, Any]:
    """Return the settings of a built loss as plain types; those of a sum by part, with its weights."""
    if isinstance(loss, SummedLoss):
        parts = {name: hyperparameters(part) for name, part in loss.parts.items()}
        return {**parts, "weights": loss.weights()}
    hidden = ("training", "output_kind")
    values = {name: value for name, value in vars(loss).items() if name not in hidden}
    return {name: value for name, value in values.items() if isinstance(value, int | float | str)}


def positive_share(
    name: str, options: LossOptions | None = None, img_size: int = 32, *, logit: float = 0.0
) -> float | None:
    """Return the lit cell's share of the loss of one frame that is `logit` everywhere, target in the middle.

    None for a loss that is no sum over cells (dice).
    """
    target = torch.zeros(1, img_size, img_size, dtype=torch.float64)
    middle = img_size // 2
    target[0, middle, middle] = 1
    cells = _cell_losses(build_loss(name, options, img_size), torch.full_like(target, logit), target)
    return None if cells is None else float((cells * target).sum() / cells.sum())


def _cell_losses(loss: SparseMapLoss, pred: Tensor, target: Tensor) -> Tensor | None:
    if isinstance(loss, CellLoss):
        return loss.reduced(pred, target, None, "none")
    if not isinstance(loss, SummedLoss):
        return None
    counts, weights = loss.counts(target), loss.weights()
    parts = [
        weights[name] / counts[name] * part.reduced(pred, target, None, "none")
        for name, part in loss.parts.items()
    ]
    return torch.stack(parts).sum(dim=0)
