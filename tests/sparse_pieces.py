"""Maps with one lit cell, and a module of every loss of such maps."""

import torch
from torch import Tensor

from common.losses.sparse_map import (
    CompositeSparseLoss,
    ConcentrationLoss,
    HeatmapCrossEntropyLoss,
    PenaltyReducedFocalLoss,
    SparseBCELoss,
    SparseDiceLoss,
    SparseFocalLoss,
    SparseMapLoss,
    SparsityLoss,
    TransportLoss,
    WeightedMSELoss,
)

MODULES: dict[str, SparseMapLoss] = {
    "weighted_mse": WeightedMSELoss(pos_weight=7.0),
    "bce": SparseBCELoss(pos_weight=3.0, offset=-0.5),
    "focal": SparseFocalLoss(alpha=0.3, gamma=1.5),
    "sparsity": SparsityLoss(l1_weight=0.2),
    "concentration": ConcentrationLoss(),
    "nearest": ConcentrationLoss(to="nearest"),
    "transport": TransportLoss(),
    "cross_entropy": HeatmapCrossEntropyLoss(),
    "smooth": HeatmapCrossEntropyLoss(sigma=0.8),
    "penalty_reduced": PenaltyReducedFocalLoss(sigma=1.2),
    "dice": SparseDiceLoss(),
    "dice_frame": SparseDiceLoss(scope="frame"),
    "composite": CompositeSparseLoss(),
}


def maps(seed: int, *leading: int, empty: bool = False) -> tuple[Tensor, Tensor, Tensor]:
    """Return logits, one-hot frames (a few black with `empty`) and a mask over the first two axes."""
    generator = torch.Generator().manual_seed(seed)
    shape = leading or tuple(int(n) for n in torch.randint(1, 4, (3,), generator=generator))
    height, width = (int(n) for n in torch.randint(2, 7, (2,), generator=generator))
    z = 3 * torch.randn(*shape, height, width, dtype=torch.float64, generator=generator)
    lit = torch.randint(height * width, (*shape, 1), generator=generator)
    y = torch.zeros(*shape, height * width, dtype=torch.float64).scatter_(-1, lit, 1.0).view_as(z)
    if empty:
        y = y * (torch.rand(*shape, 1, 1, generator=generator) < 0.8)
    return z, y, torch.rand(shape[:2], generator=generator) < 0.7


def frame(place: tuple[int, int] = (16, 16), on: float = 1.0, off: float = 0.0) -> Tensor:
    cells = torch.full((1, 32, 32), off, dtype=torch.float64)
    cells[0, place[0], place[1]] = on
    return cells


def constant(value: float) -> Tensor:
    return torch.full((1, 32, 32), value, dtype=torch.float64)
