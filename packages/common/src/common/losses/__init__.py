"""Losses for imbalanced data. Importing the package, or its configurations, does not import torch.

Modules, functions and the factory can be imported from here. Only the function `cross_entropy`, which shares
its name with its file, comes from there: `from common.losses.cross_entropy import cross_entropy`.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from common.losses.config import LOSSES, LossConfig, build_loss, loss_config

if TYPE_CHECKING:
    from common.losses._reduction import Loss
    from common.losses.cross_entropy import BinaryCrossEntropyLoss, CrossEntropyLoss, binary_cross_entropy
    from common.losses.focal import (
        BalancedFocalLoss,
        FocalLoss,
        SigmoidFocalLoss,
        balanced_focal_loss,
        focal_loss,
        sigmoid_focal_loss,
    )
    from common.losses.ldam import LDAMLoss, ldam_loss
    from common.losses.lovasz import (
        LovaszHingeLoss,
        LovaszSoftmaxLoss,
        lovasz_hinge_loss,
        lovasz_softmax_loss,
    )
    from common.losses.overlap import (
        DiceLoss,
        JaccardLoss,
        TverskyLoss,
        dice_loss,
        focal_tversky_loss,
        jaccard_loss,
        tversky_loss,
    )
    from common.losses.prior_adjusted import LogitAdjustedLoss, adjust_logits, logit_adjusted_cross_entropy
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
        SummedLoss,
        TransportLoss,
        WeightedMSELoss,
        composite_sparse_loss,
        concentration_loss,
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
    from common.losses.temporal import (
        TemporalDifferenceLoss,
        TruncatedMSELoss,
        temporal_difference_loss,
        truncated_mse_loss,
    )

__all__ = [
    "LOSSES",
    "BalancedFocalLoss",
    "BinaryCrossEntropyLoss",
    "CompositeSparseLoss",
    "ConcentrationLoss",
    "CrossEntropyLoss",
    "DiceLoss",
    "FocalLoss",
    "HeatmapCrossEntropyLoss",
    "JaccardLoss",
    "LDAMLoss",
    "LogitAdjustedLoss",
    "Loss",
    "LossConfig",
    "LovaszHingeLoss",
    "LovaszSoftmaxLoss",
    "PenaltyReducedFocalLoss",
    "SigmoidFocalLoss",
    "SparseBCELoss",
    "SparseDiceLoss",
    "SparseFocalLoss",
    "SparseMapLoss",
    "SparsityLoss",
    "SummedLoss",
    "TemporalDifferenceLoss",
    "TransportLoss",
    "TruncatedMSELoss",
    "TverskyLoss",
    "WeightedMSELoss",
    "adjust_logits",
    "balanced_focal_loss",
    "binary_cross_entropy",
    "build_loss",
    "composite_sparse_loss",
    "concentration_loss",
    "dice_loss",
    "focal_loss",
    "focal_tversky_loss",
    "heatmap_cross_entropy",
    "jaccard_loss",
    "ldam_loss",
    "logit_adjusted_cross_entropy",
    "loss_config",
    "lovasz_hinge_loss",
    "lovasz_softmax_loss",
    "penalty_reduced_focal_loss",
    "sigmoid_focal_loss",
    "soft_argmax",
    "sparse_bce_loss",
    "sparse_dice_loss",
    "sparse_focal_loss",
    "sparsity_loss",
    "temporal_difference_loss",
    "transport_loss",
    "truncated_mse_loss",
    "tversky_loss",
    "weighted_mse_loss",
]

FAMILIES = (
    "_reduction",
    "cross_entropy",
    "focal",
    "prior_adjusted",
    "ldam",
    "overlap",
    "lovasz",
    "temporal",
    "sparse_map",
)


def __getattr__(name: str) -> Any:
    if name in __all__:
        for family in FAMILIES:
            module = import_module(f"{__name__}.{family}")
            if hasattr(module, name):
                return getattr(module, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
