"""What can be asked of a loss, as frozen dataclasses, and the factory that builds it. Importing this needs
no torch.

One dataclass per loss, named by `LOSSES`; its fields are the loss's hyper-parameters and nothing else.
`weights` is a strategy of `common.balancing.weights.class_weights` or one number per class.
"""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal

from common.losses._base_config import (
    IGNORE_INDEX,
    Activation,
    Classes,
    HeadOutput,
    LossConfig,
    Normalizer,
    Presence,
    Reduction,
    Scope,
    SmoothingWeighting,
    Strategy,
    WeightedConfig,
    Weights,
    check_length,
    needed,
    shares_of,
)

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from common.losses._reduction import Loss
    from common.statistics import ClassStatistics

__all__ = [
    "IGNORE_INDEX",
    "LOSSES",
    "Activation",
    "AnyLossConfig",
    "BalancedFocalConfig",
    "BinaryCrossEntropyConfig",
    "Classes",
    "CrossEntropyConfig",
    "DiceConfig",
    "FocalConfig",
    "FocalTverskyConfig",
    "HeadOutput",
    "JaccardConfig",
    "LDAMConfig",
    "LogitAdjustedConfig",
    "LossConfig",
    "LovaszHingeConfig",
    "LovaszSoftmaxConfig",
    "Normalizer",
    "OverlapConfig",
    "Presence",
    "Reduction",
    "Scope",
    "SigmoidFocalConfig",
    "SmoothingWeighting",
    "Strategy",
    "TemporalDifferenceConfig",
    "TruncatedMSEConfig",
    "TverskyConfig",
    "WeightedConfig",
    "Weights",
    "build_loss",
    "loss_config",
]


@dataclass(frozen=True, kw_only=True)
class CrossEntropyConfig(WeightedConfig):
    """`cross_entropy`."""

    label_smoothing: float = 0.0
    smoothing_weighting: SmoothingWeighting = "hard"
    reduction: Reduction = "mean"

    def build(self, statistics: ClassStatistics | None, presented: ArrayLike | None) -> Loss:
        from common.losses.cross_entropy import CrossEntropyLoss

        return CrossEntropyLoss(weight=self.class_weights(statistics, presented), **self.settings())


@dataclass(frozen=True, kw_only=True)
class BinaryCrossEntropyConfig(LossConfig):
    """`binary_cross_entropy`; `balanced` pos_weight is (N - n_c) / n_c, at most `max_weight_ratio`."""

    pos_weight: Literal["balanced"] | tuple[float, ...] | None = None
    max_weight_ratio: float | None = None
    reduction: Reduction = "mean"

    def build(self, statistics: ClassStatistics | None, presented: ArrayLike | None) -> Loss:
        from common.losses.cross_entropy import BinaryCrossEntropyLoss

        settings = self.settings("pos_weight", "max_weight_ratio")
        return BinaryCrossEntropyLoss(pos_weight=self._pos_weight(statistics, presented), **settings)

    def _pos_weight(
        self, statistics: ClassStatistics | None, presented: ArrayLike | None
    ) -> tuple[float, ...] | None:
        if self.max_weight_ratio is not None and self.max_weight_ratio < 1:
            raise ValueError(f"max_weight_ratio is {self.max_weight_ratio}: it must be >= 1, or None")
        if self.pos_weight != "balanced":
            if self.max_weight_ratio is not None:
                raise ValueError("max_weight_ratio caps the balanced pos_weight: it is not chosen")
            check_length("pos_weight", self.pos_weight, statistics)
            return self.pos_weight
        from common.balancing.weights import balanced_pos_weight as balanced

        known = needed(statistics, "pos_weight 'balanced'")
        return tuple(balanced(shares_of(known, presented), cap=self.max_weight_ratio).tolist())


@dataclass(frozen=True, kw_only=True)
class FocalConfig(WeightedConfig):
    """`focal_loss`."""

    gamma: float = 2.0
    label_smoothing: float = 0.0
    reduction: Reduction = "mean"

    def build(self, statistics: ClassStatistics | None, presented: ArrayLike | None) -> Loss:
        from common.losses.focal import FocalLoss

        return FocalLoss(weight=self.class_weights(statistics, presented), **self.settings())


@dataclass(frozen=True, kw_only=True)
class BalancedFocalConfig(WeightedConfig):
    """`balanced_focal_loss`; `weights` are its alpha."""

    weights: Weights = "balanced"
    gamma: float = 2.0
    reduction: Reduction = "valid_mean"

    def build(self, statistics: ClassStatistics | None, presented: ArrayLike | None) -> Loss:
        from common.losses.focal import BalancedFocalLoss

        alpha = self.class_weights(statistics, presented)
        if alpha is None:
            raise ValueError("balanced_focal needs weights: without them choose focal")
        return BalancedFocalLoss(alpha, **self.settings())


@dataclass(frozen=True, kw_only=True)
class SigmoidFocalConfig(LossConfig):
    """`sigmoid_focal_loss`; `balanced` alpha is each class's share of negatives in the statistics."""

    alpha: float | tuple[float, ...] | Literal["balanced"] | None = 0.25
    gamma: float = 2.0
    normalizer: Normalizer = "elements"
    reduction: Reduction = "mean"

    def build(self, statistics: ClassStatistics | None, presented: ArrayLike | None) -> Loss:
        from common.losses.focal import SigmoidFocalLoss

        alpha = self.alpha
        if alpha == "balanced":
            alpha = tuple(1 - share for share in shares_of(needed(statistics, "alpha 'balanced'"), presented))
        return SigmoidFocalLoss(alpha=alpha, **self.settings("alpha"))


@dataclass(frozen=True, kw_only=True)
class LogitAdjustedConfig(WeightedConfig):
    """`logit_adjusted_cross_entropy`; tau 1 is the balanced softmax.

    The offset corrects what the loss really sees, presented shares times weights (`weighted`), or the
    training counts (`natural`).
    """

    tau: float = 1.0
    offset_prior: Literal["weighted", "natural"] = "weighted"
    label_smoothing: float = 0.0
    reduction: Reduction = "mean"

    def build(self, statistics: ClassStatistics | None, presented: ArrayLike | None) -> Loss:
        from common.losses.prior_adjusted import LogitAdjustedLoss

        weights = self.class_weights(statistics, presented)
        log_prior = self._log_prior(needed(statistics, "logit adjustment"), presented, weights)
        return LogitAdjustedLoss(log_prior=log_prior, weight=weights, **self.settings("offset_prior"))

    def _log_prior(
        self, statistics: ClassStatistics, presented: ArrayLike | None, weights: tuple[float, ...] | None
    ) -> list[float]:
        import numpy as np

        if self.offset_prior not in ("weighted", "natural"):
            raise ValueError(f"offset_prior is {self.offset_prior!r}: weighted or natural is expected")
        natural = self.offset_prior == "natural"
        prior = np.array(shares_of(statistics, None if natural else presented))
        if not natural and weights is not None:
            prior = prior * np.array(weights)
        log_prior = np.full(len(prior), -np.inf)
        return np.log(prior, out=log_prior, where=prior > 0).tolist()  # type: ignore[no-any-return]


@dataclass(frozen=True, kw_only=True)
class LDAMConfig(WeightedConfig):
    """`ldam_loss`; margins come from the training counts, the largest is that of the rarest class present."""

    max_margin: float = 0.5
    scale: float = 30.0
    head_output: HeadOutput = "cosine"
    label_smoothing: float = 0.0
    reduction: Reduction = "mean"

    def build(self, statistics: ClassStatistics | None, presented: ArrayLike | None) -> Loss:
        from common.balancing.weights import ldam_margins
        from common.losses.ldam import LDAMLoss

        counts = needed(statistics, "ldam").counts
        margins = tuple(ldam_margins(counts, max_margin=self.max_margin).tolist())
        weights = self.class_weights(statistics, presented)
        return LDAMLoss(margins=margins, weight=weights, **self.settings("max_margin"))


@dataclass(frozen=True, kw_only=True)
class OverlapConfig(WeightedConfig):
    """What the overlap losses share."""

    smooth: float = 1.0
    activation: Activation | None = "softmax"
    scope: Scope = "batch"
    classes: Classes = "present"


@dataclass(frozen=True, kw_only=True)
class TverskyConfig(OverlapConfig):
    """`tversky_loss`; `alpha` weights false positives, `beta` false negatives."""

    alpha: float = 0.5
    beta: float = 0.5

    def build(self, statistics: ClassStatistics | None, presented: ArrayLike | None) -> Loss:
        from common.losses.overlap import TverskyLoss

        return TverskyLoss(weight=self.class_weights(statistics, presented), **self.settings())


@dataclass(frozen=True, kw_only=True)
class FocalTverskyConfig(TverskyConfig):
    """`focal_tversky_loss`; `exponent` is 1 / gamma of the paper."""

    exponent: float = 0.75


@dataclass(frozen=True, kw_only=True)
class DiceConfig(OverlapConfig):
    """`dice_loss`."""

    def build(self, statistics: ClassStatistics | None, presented: ArrayLike | None) -> Loss:
        from common.losses.overlap import DiceLoss

        return DiceLoss(weight=self.class_weights(statistics, presented), **self.settings())


@dataclass(frozen=True, kw_only=True)
class JaccardConfig(OverlapConfig):
    """`jaccard_loss`."""

    def build(self, statistics: ClassStatistics | None, presented: ArrayLike | None) -> Loss:
        from common.losses.overlap import JaccardLoss

        return JaccardLoss(weight=self.class_weights(statistics, presented), **self.settings())


@dataclass(frozen=True, kw_only=True)
class LovaszSoftmaxConfig(LossConfig):
    """`lovasz_softmax_loss`."""

    classes: Presence = "present"
    per_image: bool = False

    def build(self, statistics: ClassStatistics | None, presented: ArrayLike | None) -> Loss:
        from common.losses.lovasz import LovaszSoftmaxLoss

        return LovaszSoftmaxLoss(**self.settings())


@dataclass(frozen=True, kw_only=True)
class LovaszHingeConfig(LossConfig):
    """`lovasz_hinge_loss`."""

    per_image: bool = False

    def build(self, statistics: ClassStatistics | None, presented: ArrayLike | None) -> Loss:
        from common.losses.lovasz import LovaszHingeLoss

        return LovaszHingeLoss(**self.settings())


@dataclass(frozen=True, kw_only=True)
class TruncatedMSEConfig(LossConfig):
    """`truncated_mse_loss`."""

    tau: float = 4.0
    reduction: Reduction = "mean"

    def build(self, statistics: ClassStatistics | None, presented: ArrayLike | None) -> Loss:
        from common.losses.temporal import TruncatedMSELoss

        return TruncatedMSELoss(**self.settings())


@dataclass(frozen=True, kw_only=True)
class TemporalDifferenceConfig(LossConfig):
    """`temporal_difference_loss`."""

    reduction: Reduction = "mean"

    def build(self, statistics: ClassStatistics | None, presented: ArrayLike | None) -> Loss:
        from common.losses.temporal import TemporalDifferenceLoss

        return TemporalDifferenceLoss(**self.settings())


AnyLossConfig = (
    CrossEntropyConfig
    | BinaryCrossEntropyConfig
    | FocalConfig
    | BalancedFocalConfig
    | SigmoidFocalConfig
    | LogitAdjustedConfig
    | LDAMConfig
    | TverskyConfig
    | FocalTverskyConfig
    | DiceConfig
    | JaccardConfig
    | LovaszSoftmaxConfig
    | LovaszHingeConfig
    | TruncatedMSEConfig
    | TemporalDifferenceConfig
)

LOSSES: Mapping[str, type[AnyLossConfig]] = {
    "cross_entropy": CrossEntropyConfig,
    "binary_cross_entropy": BinaryCrossEntropyConfig,
    "focal": FocalConfig,
    "balanced_focal": BalancedFocalConfig,
    "sigmoid_focal": SigmoidFocalConfig,
    "logit_adjusted": LogitAdjustedConfig,
    "ldam": LDAMConfig,
    "tversky": TverskyConfig,
    "focal_tversky": FocalTverskyConfig,
    "dice": DiceConfig,
    "jaccard": JaccardConfig,
    "lovasz_softmax": LovaszSoftmaxConfig,
    "lovasz_hinge": LovaszHingeConfig,
    "truncated_mse": TruncatedMSEConfig,
    "temporal_difference": TemporalDifferenceConfig,
}


def loss_config(name: str, parameters: Mapping[str, Any] | None = None) -> AnyLossConfig:
    """Return the configuration of the loss called `name` with `parameters` by name.

    ValueError, with the nearest spellings, when there is no such loss or the loss has no such
    hyper-parameter.
    """
    if name not in LOSSES:
        raise ValueError(f"loss is {name!r}: {_nearest(name, list(LOSSES))}")
    kind = LOSSES[name]
    known = [field.name for field in fields(kind)]
    for parameter in parameters or {}:
        if parameter not in known:
            raise ValueError(
                f"loss {name!r} has no hyper-parameter {parameter!r}: {_nearest(parameter, known)}"
            )
    return kind(**(parameters or {}))


def build_loss(
    config: LossConfig, statistics: ClassStatistics | None = None, *, presented: ArrayLike | None = None
) -> Loss:
    """Return the loss module that `config` describes, with weights, priors and alphas made from `statistics`.

    `presented` [K] are the label shares a sampler really presents; None means the natural ones. ValueError
    for a hyper-parameter out of range and for a strategy without statistics; TypeError for something else
    than a configuration (`loss_config` makes one from a name).
    """
    if not isinstance(config, LossConfig):
        raise TypeError(
            f"config is {type(config).__name__}: a loss configuration is expected, see loss_config"
        )
    return config.build(statistics, presented)


def _nearest(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=3)
    return f"did you mean {', '.join(close)}?" if close else f"one of {', '.join(sorted(known))} is expected"
