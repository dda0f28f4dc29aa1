"""The words loss configurations are written in, and what all of them share. Importing this needs no torch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from numpy.typing import ArrayLike

    from common.losses._reduction import Loss
    from common.statistics import ClassStatistics

Strategy = Literal[
    "none",
    "balanced",
    "balanced_capped",
    "sqrt",
    "log",
    "effective_number",
    "median_frequency",
    "enet_log",
]
Weights = Strategy | tuple[float, ...]
Reduction = Literal["none", "sum", "mean", "valid_mean"]
SmoothingWeighting = Literal["hard", "torch"]
Normalizer = Literal["elements", "positives"]
HeadOutput = Literal["cosine", "scaled"]
Activation = Literal["softmax", "sigmoid"]
Scope = Literal["batch", "image"]
Presence = Literal["present", "all"]
Classes = Presence | tuple[int, ...]

IGNORE_INDEX = -100


@dataclass(frozen=True, kw_only=True)
class LossConfig(ABC):
    """A loss to build; `ignore_index` marks elements without a label."""

    ignore_index: int = IGNORE_INDEX

    @abstractmethod
    def build(self, statistics: ClassStatistics | None, presented: ArrayLike | None) -> Loss:
        """Return the module; use `build_loss`."""

    def settings(self, *made: str) -> dict[str, Any]:
        """Return the fields that the module takes as they are: all but those in `made`."""
        return {field.name: getattr(self, field.name) for field in fields(self) if field.name not in made}


@dataclass(frozen=True, kw_only=True)
class WeightedConfig(LossConfig):
    """A loss with class weights; `max_weight_ratio` caps largest / smallest of those made by a strategy."""

    weights: Weights = "none"
    max_weight_ratio: float | None = None

    def settings(self, *made: str) -> dict[str, Any]:
        """Return the fields that the module takes as they are, without those that make the weights."""
        return super().settings("weights", "max_weight_ratio", *made)

    def class_weights(
        self, statistics: ClassStatistics | None, presented: ArrayLike | None
    ) -> tuple[float, ...] | None:
        """Return one weight per class, or None when there is nothing to weight."""
        if self.weights == "none" or not isinstance(self.weights, str):
            if self.max_weight_ratio is not None:
                raise ValueError("max_weight_ratio caps the weights of a strategy: none is chosen")
            if isinstance(self.weights, str):
                return None
            check_length("weights", self.weights, statistics)
            return self.weights
        from common.balancing.weights import class_weights

        known = needed(statistics, f"weights {self.weights!r}")
        values = class_weights(known, self.weights, max_ratio=self.max_weight_ratio, presented=presented)
        return tuple(values.tolist())


def needed(statistics: ClassStatistics | None, purpose: str) -> ClassStatistics:
    """Return `statistics`; ValueError naming `purpose` unless they are those of the train split."""
    if statistics is None:
        raise ValueError(f"{purpose} needs the statistics of the train split")
    if statistics.split != "train":
        raise ValueError(f"{purpose} needs the statistics of the train split, not of {statistics.split!r}")
    return statistics


def check_length(name: str, values: tuple[float, ...] | None, statistics: ClassStatistics | None) -> None:
    """Raise a ValueError naming the field that does not hold one entry per class."""
    if values is not None and statistics is not None and len(values) != statistics.num_classes:
        raise ValueError(f"{name} holds {len(values)} entries for {statistics.num_classes} classes")


def shares_of(statistics: ClassStatistics, presented: ArrayLike | None) -> list[float]:
    """Return the presented label shares, the natural ones without any."""
    from common.balancing.weights import check_shares

    values = statistics.prior if presented is None else check_shares(statistics, presented)
    return [float(share) for share in values]
