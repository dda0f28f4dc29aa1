"""The confusion matrix every classification metric is computed from."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
import torch.distributed as dist
from numpy.typing import NDArray
from torch import Tensor

IntArray = NDArray[Any]

_WORTH_NARROWING = 4096  # elements from which one pass over bytes beats two over int64
_UNSIGNED = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}


class ConfusionMatrix:
    """Counts of (true class, predicted class); whole numbers, so every split of the data adds up alike.

    `matrix` is int64 [K, K], rows true and columns predicted. Elements whose target is `ignore_index` are
    left out. Targets and predictions outside 0..K-1 are counted on the device and raised by `compute`, so
    that an update never waits for the device. The first update moves the counts to the device of the labels.
    """

    def __init__(self, num_classes: int, ignore_index: int = -100) -> None:
        if num_classes < 1:
            raise ValueError(f"num_classes must be at least 1, not {num_classes}")
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        self._side = num_classes + 1  # the last row and column hold what lies outside 0..K-1
        self._state = torch.zeros(self._side**2 + 1, dtype=torch.int64)  # the bins, then the ignored

    @property
    def matrix(self) -> Tensor:
        """Return a copy of the counts, without judging labels that were out of range."""
        matrix = self._bins()[:-1, :-1].clone()
        if self._ignores_a_class:
            matrix[self.ignore_index] = 0
        return matrix

    def update(self, prediction: Tensor, target: Tensor) -> None:
        """Count logits [B, K, *] (argmax over dimension 1) or labels [B, *] against target labels [B, *].

        ValueError for other shapes, TypeError for labels that are not integers.
        """
        labels = self._labels(prediction, target)
        if self._state.device != target.device:
            self.to(target.device)
        ignored = None if self._ignores_a_class else self.ignore_index
        if target.device.type != "cpu":
            _count_on_device(self._state, labels, target, self._side, ignored)
            return
        _count_on_host(self._state.numpy(), labels.numpy(), target.numpy(), self._side, ignored)

    def compute(self) -> Tensor:
        """Return the matrix int64 [K, K]; ValueError if a target or prediction lay outside 0..K-1."""
        bins = self._bins().clone()
        if self._ignores_a_class:
            bins[self.ignore_index] = 0
        wrong_targets = int(bins[-1].sum() - self._state[-1])
        if wrong_targets:
            raise ValueError(
                f"{wrong_targets} targets are neither in 0..{self.num_classes - 1} nor {self.ignore_index}"
            )
        wrong_predictions = int(bins[:-1, -1].sum())
        if wrong_predictions:
            raise ValueError(f"{wrong_predictions} predictions are not in 0..{self.num_classes - 1}")
        return self.matrix

    def reset(self) -> None:
        """Forget everything counted."""
        self._state.zero_()

    def merge(self, other: ConfusionMatrix) -> None:
        """Add the counts of `other`; ValueError if it counts other classes or ignores another label."""
        self._check_same(other.num_classes, other.ignore_index)
        self._state += other._state.to(self._state.device)

    def states(self) -> list[Tensor]:
        """Return the tensors to sum over ranks in place."""
        return [self._state]

    def all_reduce(self) -> None:
        """Sum the counts over all ranks; nothing to do without a process group."""
        if dist.is_available() and dist.is_initialized():
            dist.all_reduce(self._state)

    def to(self, device: torch.device | str) -> ConfusionMatrix:
        """Move the counts to `device` and return self."""
        self._state = self._state.to(device)
        return self

    def state_dict(self) -> dict[str, Any]:
        """Return the counts and what they count, as plain types and one tensor."""
        return {
            "num_classes": self.num_classes,
            "ignore_index": self.ignore_index,
            "counts": self._state.clone(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned; ValueError if it counts other classes or ignores others."""
        self._check_same(state["num_classes"], state["ignore_index"])
        self._state.copy_(state["counts"])

    def _bins(self) -> Tensor:
        return self._state[:-1].view(self._side, self._side)

    def _check_same(self, num_classes: int, ignore_index: int) -> None:
        mine, other = (self.num_classes, self.ignore_index), (num_classes, ignore_index)
        if mine != other:
            raise ValueError(f"(num_classes, ignore_index) differ: {mine} here, {other} there")

    @property
    def _ignores_a_class(self) -> bool:
        return 0 <= self.ignore_index < self.num_classes

    def _labels(self, prediction: Tensor, target: Tensor) -> Tensor:
        if target.is_floating_point():
            raise TypeError(f"target must hold integer labels, not {target.dtype}")
        if prediction.shape == target.shape:
            if prediction.is_floating_point():
                raise TypeError(f"predicted labels must be integers, not {prediction.dtype}")
            return prediction
        logits_shape = (*target.shape[:1], self.num_classes, *target.shape[1:])
        if prediction.shape != logits_shape:
            raise ValueError(
                f"prediction {tuple(prediction.shape)} is neither labels {tuple(target.shape)} "
                f"nor logits {logits_shape}"
            )
        if prediction.ndim == 2:
            return prediction.argmax(dim=1)
        return prediction.detach().max(dim=1).indices  # on a CPU up to 30 times faster than argmax here


def _count_on_host(
    state: IntArray, labels: IntArray, truth: IntArray, side: int, ignore_index: int | None
) -> None:
    """Add to the bins; NumPy, because its small operations cost a fraction of torch's."""
    narrow = side**2 <= 256 and truth.size >= _WORTH_NARROWING
    dtype: type[np.integer[Any]] = np.uint8 if narrow else np.int64
    index = _clip(truth, side - 1, dtype)
    index *= side
    index += _clip(labels, side - 1, dtype)
    index = index.reshape(-1)
    if narrow:  # torch counts bytes as they are, NumPy would widen them first
        state[:-1] += torch.bincount(torch.from_numpy(index), minlength=side**2).numpy()
    else:
        state[:-1] += np.bincount(index, minlength=side**2)
    if ignore_index is not None:
        state[-1] += np.count_nonzero(truth == ignore_index)


def _clip(labels: IntArray, upper: int, dtype: type[np.integer[Any]]) -> IntArray:
    """Return a new array of `dtype` with all labels outside 0..upper-1 set to upper."""
    unsigned = labels.view(_UNSIGNED[labels.itemsize])  # what was negative is huge
    limit = min(upper, 256**labels.itemsize - 1)
    clipped: IntArray
    if unsigned.itemsize == 8 and dtype is np.int64:
        clipped = np.minimum(unsigned, limit)
        return clipped.view(np.int64)
    clipped = np.minimum(unsigned, limit, out=np.empty(labels.shape, dtype), casting="unsafe")
    return clipped


def _count_on_device(
    state: Tensor, labels: Tensor, truth: Tensor, side: int, ignore_index: int | None
) -> None:
    """Add to the bins without waiting for the device: torch.bincount would ask for the largest index."""
    rows, columns = (values.long().clamp(-1, side - 1).remainder(side) for values in (truth, labels))
    index = (rows * side + columns).flatten()
    state.index_add_(0, index, torch.ones_like(index))
    if ignore_index is not None:
        state[-1] += (truth.long() == ignore_index).sum()
