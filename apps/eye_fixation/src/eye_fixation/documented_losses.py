"""The losses under their documented names and constructor arguments, and the documented way to choose one."""

from __future__ import annotations

import difflib
import inspect
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal, overload

from torch import Tensor

from common.losses import sparse_map
from common.losses.sparse_map import (
    CompositeSparseLoss,
    SparseDiceLoss,
    SparseFocalLoss,
    SparseMapLoss,
    WeightedMSELoss,
    weighted_mean,
)

__all__ = [
    "CompositeLoss",
    "ConcentrationLoss",
    "DiceLoss",
    "FocalLoss",
    "SparsityLoss",
    "WeightedMSE",
    "get_loss_function",
]


class MSE(WeightedMSELoss):
    """mean((z - y)^2)."""

    name = "mse"

    def __init__(self) -> None:
        super().__init__(pos_weight=1.0)


class FocalLoss(SparseFocalLoss):
    """Mean of -alpha_t (1 - p_t)^gamma log p_t over cells (Lin et al. 2017, eq. 5)."""

    def __init__(self, alpha: float = 0.25, gamma: float = 2.0) -> None:
        super().__init__(alpha=alpha, gamma=gamma)


class SparsityLoss(sparse_map.SparsityLoss):
    """mean((p - y)^2) + penalty_weight mean(p) of probabilities."""

    def __init__(self, penalty_weight: float = 0.1) -> None:
        super().__init__(l1_weight=penalty_weight)


class ConcentrationLoss(sparse_map.ConcentrationLoss):
    """Expected squared distance to the target's centre of mass, in units of max(H, W)."""

    def __init__(self, concentration_weight: float = 1.0) -> None:
        super().__init__()
        if not 0 <= concentration_weight < float("inf"):
            raise ValueError(f"concentration_weight is {concentration_weight}: a number >= 0 is expected")
        self.share = concentration_weight


class CompositeLoss(CompositeSparseLoss):
    """Weighted sum of focal, sparsity and concentration loss."""

    def __init__(
        self,
        focal_weight: float = 1.0,
        sparsity_weight: float = 0.8,
        concentration_weight: float = 1.5,
        alpha: float = 0.25,
        gamma: float = 2.0,
        penalty_weight: float = 0.1,
    ) -> None:
        weights = (focal_weight, sparsity_weight, concentration_weight)
        super().__init__(weights=weights, alpha=alpha, gamma=gamma, l1_weight=penalty_weight)

    @overload
    def forward(
        self,
        pred: Tensor,
        target: Tensor,
        mask: Tensor | None = None,
        return_components: Literal[False] = False,
    ) -> Tensor: ...
    @overload
    def forward(
        self, pred: Tensor, target: Tensor, mask: Tensor | None = None, *, return_components: Literal[True]
    ) -> tuple[Tensor, dict[str, Tensor]]: ...
    def forward(
        self,
        pred: Tensor,
        target: Tensor,
        mask: Tensor | None = None,
        return_components: bool = False,
    ) -> Tensor | tuple[Tensor, dict[str, Tensor]]:
        """Return the loss; with `return_components` also its unweighted parts and `total`, detached."""
        return (
            self.components(pred, target, mask) if return_components else super().forward(pred, target, mask)
        )

    def components(
        self, pred: Tensor, target: Tensor, mask: Tensor | None = None
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Return the loss, and detached scalars focal, sparsity, concentration (unweighted) and total."""
        terms = self.terms(pred, target, mask)
        value = weighted_mean(terms)
        parts = {name: {name: replace(term, weight=1.0)} for name, term in terms.items()}
        means = {name: weighted_mean(part).detach() for name, part in parts.items()}
        return value, {**means, "total": value.detach()}


class DiceLoss(SparseDiceLoss):
    """1 - (2 sum(p y) + smooth) / (sum p + sum y + smooth), pooled over the batch or per frame."""

    def __init__(self, smooth: float = 1.0, per_frame: bool = False) -> None:
        super().__init__(smooth=smooth, scope="frame" if per_frame else "batch")


class WeightedMSE(WeightedMSELoss):
    """mean(w (z - y)^2) with w = pos_weight where y > 0, divided by the number of cells."""

    def __init__(self, pos_weight: float = 100.0) -> None:
        super().__init__(pos_weight=pos_weight)


_CLASSES: dict[str, Callable[..., SparseMapLoss]] = {
    "mse": MSE,
    "focal": FocalLoss,
    "dice": DiceLoss,
    "weighted_mse": WeightedMSE,
    "composite": CompositeLoss,
    "sparsity": SparsityLoss,
    "concentration": ConcentrationLoss,
}


def get_loss_function(
    loss_name: str = "mse", options: Mapping[str, Any] | None = None, strict: bool = False
) -> SparseMapLoss:
    """Return one of the documented losses; `options` are arguments of its constructor.

    An unknown name gives the mean squared error with a warning that names the nearest ones, or with `strict`
    a ValueError. ValueError for an unknown argument.
    """
    if loss_name not in _CLASSES:
        message = f"no loss is called {loss_name!r}: {nearest(loss_name, list(_CLASSES))}"
        if strict:
            raise ValueError(message)
        warnings.warn(f"{message}; mse is used", stacklevel=2)
        return MSE()
    known = list(inspect.signature(_CLASSES[loss_name]).parameters)
    for name in options or {}:
        if name not in known:
            raise ValueError(
                f"loss {loss_name!r} has no option {name!r}: it has {', '.join(known) or 'none'}"
            )
    return _CLASSES[loss_name](**(options or {}))


def nearest(name: str, known: Sequence[str]) -> str:
    """Return a hint at what an unknown name may have meant."""
    close = difflib.get_close_matches(name, known, n=3)
    return f"did you mean {', '.join(close)}?" if close else f"one of {', '.join(known)} is expected"
