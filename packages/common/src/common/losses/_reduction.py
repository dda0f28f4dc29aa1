"""What every loss shares: which elements count and how much, how losses are averaged, the base class."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from common.losses.config import Reduction

ClassValues = Tensor | NDArray[np.float64] | Sequence[float]


@dataclass(frozen=True)
class Labels:
    """Checked hard labels: int64 `index` [B, *], which is `num_classes` where `valid` [B, *] is False."""

    index: Tensor
    valid: Tensor
    num_classes: int

    @classmethod
    def of(cls, logits: Tensor, target: Tensor, ignore_index: int, valid: Tensor | None) -> Labels:
        """Check `target` [B, *] against `logits` [B, K, *]; ValueError names the shapes or a stray label."""
        expected = (logits.shape[0], *logits.shape[2:]) if logits.dim() >= 2 else None
        if expected != tuple(target.shape):
            raise ValueError(
                f"logits {list(logits.shape)} and target {list(target.shape)} do not fit: "
                "logits are [B, K, *] and target is [B, *]"
            )
        return cls.of_target(target, logits.shape[1], ignore_index, valid)

    @classmethod
    def of_target(cls, target: Tensor, num_classes: int, ignore_index: int, valid: Tensor | None) -> Labels:
        """Check `target` alone. A stray label is an error on the CPU and an ignored element elsewhere.

        Elsewhere means on an accelerator, where looking would stall the device; metrics count stray labels.
        """
        if target.is_floating_point() or target.is_complex():
            raise ValueError(f"target is {target.dtype}: integer class ids are expected")
        target = target.long()
        keep = valid_elements(target, ignore_index, valid)
        if target.device.type == "cpu":
            _check_range(target, keep, num_classes)
        else:
            keep = keep & (target >= 0) & (target < num_classes)
        return cls(torch.where(keep, target, num_classes), keep, num_classes)

    def lookup(self, values: Tensor) -> Tensor:
        """Return `values` [K] of each element's label, 0 at ignored ones; [B, *]."""
        table = torch.cat([values, values.new_zeros(1)])
        return table.index_select(0, self.index.flatten()).view_as(self.index)


@dataclass(frozen=True)
class SoftLabels:
    """Checked soft labels: `shares` [B, K, *] of the classes, 0 where `valid` [B, *] is False."""

    shares: Tensor
    valid: Tensor

    @classmethod
    def of(cls, logits: Tensor, target: Tensor, ignore_index: int, valid: Tensor | None) -> SoftLabels:
        """Check `target` against `logits`, both [B, K, *]; ValueError names the shapes or a negative share.

        The shares are in the dtype of the logits. A negative one is looked for on the CPU alone.
        """
        if target.shape != logits.shape or logits.dim() < 2:
            raise ValueError(f"soft target is {list(target.shape)} but logits are {list(logits.shape)}")
        keep = soft_elements(target, ignore_index, valid)
        shares = torch.where(keep.unsqueeze(1), target.to(logits.dtype), 0)
        if shares.device.type == "cpu" and (shares < 0).any():
            place = (shares < 0).nonzero()[0].tolist()
            raise ValueError(f"target{place} is {float(shares[tuple(place)]):g}: shares >= 0 are expected")
        return cls(shares, keep)

    def lookup(self, values: Tensor) -> Tensor:
        """Return the mean of `values` [K] over each element's shares, 0 at ignored ones; [B, *]."""
        return (self.shares * per_class(values, self.shares)).sum(dim=1)


def soft_elements(target: Tensor, ignore_index: int, valid: Tensor | None) -> Tensor:
    """Return which elements [B, *] of soft labels [B, K, *] count: neither all 0 nor all `ignore_index`."""
    nothing = (target == 0).all(dim=1) | (target == ignore_index).all(dim=1)
    return valid_elements(nothing, True, valid)


def valid_elements(target: Tensor, ignore_index: int, valid: Tensor | None) -> Tensor:
    """Return which elements of `target` [B, *] are not `ignore_index` and not switched off by `valid`."""
    keep = target != ignore_index
    if valid is None:
        return keep
    if valid.shape != target.shape:
        raise ValueError(f"valid is {list(valid.shape)} but target is {list(target.shape)}")
    return keep & valid.bool()


def _check_range(target: Tensor, keep: Tensor, num_classes: int) -> None:
    if target.numel() == 0 or _inside(target, num_classes):
        return
    if _inside(torch.where(keep, target, 0), num_classes):
        return
    stray = keep & ((target < 0) | (target >= num_classes))
    position = stray.nonzero()[0].tolist()
    raise ValueError(
        f"target{position} is {int(target[tuple(position)])} ({int(stray.sum())} such elements): "
        f"0 to {num_classes - 1} or ignore_index is expected"
    )


def _inside(target: Tensor, num_classes: int) -> bool:
    low, high = torch.aminmax(target)
    return bool(low >= 0) and bool(high < num_classes)


def full_precision(tensor: Tensor) -> Tensor:
    """Return `tensor` as float32, or unchanged when it is float64."""
    return tensor if tensor.dtype == torch.float64 else tensor.float()


def class_values(values: float | ClassValues) -> Tensor:
    """Return one value per class [K], or a scalar, as float64: the precision in which modules keep them."""
    return torch.as_tensor(values, dtype=torch.float64).detach().clone()


def per_class(values: Tensor, logits: Tensor) -> Tensor:
    """Return `values` [K] in a shape that multiplies or shifts `logits` [B, K, *]."""
    return values.to(logits.dtype).view(1, -1, *[1] * (logits.dim() - 2))


def checked_weight(weight: Tensor | None, logits: Tensor, name: str = "weight") -> Tensor | None:
    """Return `weight` [K] in the dtype of `logits` [B, K, *]; ValueError names a wrong length or entry."""
    if weight is None:
        return None
    if weight.shape != (logits.shape[1],):
        raise ValueError(f"{name} is {list(weight.shape)}: one entry for each of {logits.shape[1]} classes")
    check_non_negative(weight, name)
    return weight.to(logits.dtype)


def check_non_negative(values: Tensor, name: str) -> None:
    """Raise a ValueError naming the entry that is negative or not finite; looks at CPU tensors only."""
    if values.device.type != "cpu":
        return
    for entry, value in enumerate(values.tolist()):
        if not 0 <= value < float("inf"):
            raise ValueError(f"{name}[{entry}] is {value}: weights are finite and >= 0")


def check_range(
    name: str, value: float, low: float, high: float = float("inf"), *, open_high: bool = False
) -> None:
    """Raise a ValueError unless low <= value <= high (value < high when `open_high`)."""
    if not (low <= value < high if open_high else low <= value <= high):
        raise ValueError(
            f"{name} is {value}: {low} <= {name} {'<' if open_high else '<='} {high} is expected"
        )


def check_choice(name: str, value: object, choices: Sequence[object]) -> None:
    """Raise a ValueError that lists `choices` unless `value` is one of them."""
    if value not in choices:
        raise ValueError(f"{name} is {value!r}: one of {', '.join(map(str, choices))} is expected")


def divide(total: Tensor, count: Tensor) -> Tensor:
    """Return total / count, and total itself where count is 0 (then total is a sum over nothing)."""
    return total / torch.where(count > 0, count, 1).to(total.dtype)


def reduce_elements(loss: Tensor, valid: Tensor, weights: Tensor | None, reduction: Reduction) -> Tensor:
    """Reduce weighted element losses [B, *] that are 0 where ignored.

    `none` returns them, `sum` adds them, `mean` divides by the sum of `weights` [B, *] (without any by the
    number of elements) and `valid_mean` by the number of `valid` elements. ValueError lists the four for
    another word.
    """
    check_choice("reduction", reduction, get_args(Reduction))
    if reduction == "none":
        return loss
    if reduction == "sum":
        return loss.sum()
    return divide(loss.sum(), (valid if weights is None or reduction == "valid_mean" else weights).sum())


class Loss(nn.Module, ABC):
    """A loss with its class weights, margins or priors as buffers.

    `forward` gives the reduced loss, `total_and_count` the loss before division, so that micro-batches and
    ranks add up exactly, and `normalizer` the same count from the labels alone.
    """

    @abstractmethod
    def forward(self, logits: Tensor, target: Tensor, valid: Tensor | None = None) -> Tensor:
        """Return the loss with the module's own reduction."""

    @abstractmethod
    def total_and_count(
        self, logits: Tensor, target: Tensor, valid: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return scalars: the total with its graph, and what to divide it by (0 when nothing counts)."""

    @abstractmethod
    def normalizer(self, target: Tensor, valid: Tensor | None = None) -> Tensor:
        """Return the count of `total_and_count` as a float64 scalar, without logits."""


class ElementLoss(Loss):
    """A loss that is a sum over elements; subclasses say what one batch costs for a given reduction.

    `weight` [K] scales an element by its hard label. ValueError for a bad weight or an unknown reduction.
    """

    weight: Tensor | None

    def __init__(self, weight: ClassValues | None, reduction: Reduction, ignore_index: int) -> None:
        super().__init__()
        check_choice("reduction", reduction, get_args(Reduction))
        self.register_buffer("weight", None if weight is None else class_values(weight))
        if self.weight is not None:
            check_non_negative(self.weight, "weight")
        self.reduction: Reduction = reduction
        self.ignore_index = ignore_index

    @abstractmethod
    def reduced(self, logits: Tensor, target: Tensor, valid: Tensor | None, reduction: Reduction) -> Tensor:
        """Call the pure function with this module's settings and the given reduction."""

    def forward(self, logits: Tensor, target: Tensor, valid: Tensor | None = None) -> Tensor:
        return self.reduced(logits, target, valid, self.reduction)

    def total_and_count(
        self, logits: Tensor, target: Tensor, valid: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        self.check_has_count()
        total = self.reduced(logits, target, valid, "sum")
        return total, self.normalizer(target, valid).to(total.dtype)

    def check_has_count(self) -> None:
        """Raise a ValueError unless the reduction is a mean."""
        if self.reduction in ("none", "sum"):
            raise ValueError(f"reduction {self.reduction!r} has no count: mean or valid_mean is expected")

    def normalizer(self, target: Tensor, valid: Tensor | None = None) -> Tensor:
        if self.weight is None or self.reduction != "mean":
            return valid_elements(target, self.ignore_index, valid).sum().double()
        labels = Labels.of_target(target, len(self.weight), self.ignore_index, valid)
        return labels.lookup(self.weight).sum().double()


class SoftElementLoss(ElementLoss):
    """An `ElementLoss` that also takes soft labels [B, K, *] as floats; their count is that of elements.

    Elements of zeros and of `ignore_index` are ignored.
    """

    def normalizer(self, target: Tensor, valid: Tensor | None = None) -> Tensor:
        if target.is_floating_point():
            return soft_elements(target, self.ignore_index, valid).sum().double()
        return super().normalizer(target, valid)


class BatchLoss(Loss):
    """A loss that couples the elements of a batch: its total is loss x images, its count the images.

    An image without a valid element is no image, so padding a batch changes nothing.
    """

    def __init__(self, ignore_index: int) -> None:
        super().__init__()
        self.ignore_index = ignore_index

    def total_and_count(
        self, logits: Tensor, target: Tensor, valid: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        loss = self(logits, target, valid)
        count = self.normalizer(target, valid).to(loss.dtype)
        return loss * count, count

    def normalizer(self, target: Tensor, valid: Tensor | None = None) -> Tensor:
        return images(valid_elements(target, self.ignore_index, valid)).sum().double()


def images(keep: Tensor) -> Tensor:
    """Return which images [B] have a valid element; `keep` is bool [B, *]."""
    return keep.flatten(1).any(1) if keep.dim() > 1 else keep


def image_mean(losses: Tensor, keep: Tensor) -> Tensor:
    """Return the mean of `losses` [B] over the images that have a valid element; `keep` is bool [B, *]."""
    held = images(keep)
    return divide(torch.where(held, losses, 0).sum(), held.sum())
