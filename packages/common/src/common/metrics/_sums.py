"""What metrics made of sums share: any split of the data, over calls or over processes, adds up alike."""

from __future__ import annotations

from typing import Any, Self

import torch
import torch.distributed as dist
from torch import Tensor


class SummedMetric:
    """A metric whose state is a few tensors of sums; subclasses add to them and compute from them.

    `settings` are plain types that say what is summed: metrics with other settings cannot be added up.
    """

    def __init__(self, settings: dict[str, Any], sums: dict[str, Tensor]) -> None:
        self._settings = settings
        self._sums = sums

    def reset(self) -> None:
        """Forget everything summed."""
        for state in self._sums.values():
            state.zero_()

    def merge(self, other: Self) -> None:
        """Add the sums of `other`; ValueError if its settings are others."""
        self._check_same(other._settings)
        for name, state in self._sums.items():
            state += other._sums[name].to(state.device)

    def states(self) -> list[Tensor]:
        """Return the tensors to sum over ranks in place."""
        return list(self._sums.values())

    def all_reduce(self) -> None:
        """Sum over all ranks; nothing to do without a process group."""
        if dist.is_available() and dist.is_initialized():
            for state in self._sums.values():
                dist.all_reduce(state)

    def to(self, device: torch.device | str) -> Self:
        """Move the sums to `device` and return self."""
        self._sums = {name: state.to(device) for name, state in self._sums.items()}
        return self

    def state_dict(self) -> dict[str, Any]:
        """Return the settings and the sums, as plain types and tensors."""
        return {
            "settings": dict(self._settings),
            "sums": {name: state.clone() for name, state in self._sums.items()},
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore what `state_dict` returned; ValueError if its settings are others."""
        self._check_same(state["settings"])
        for name, own in self._sums.items():
            own.copy_(state["sums"][name])

    def _check_same(self, settings: dict[str, Any]) -> None:
        if settings != self._settings:
            raise ValueError(f"settings differ: {self._settings} here, {settings} there")

    def _follow(self, device: torch.device) -> None:
        """Move the sums to where the data are."""
        if next(iter(self._sums.values())).device != device:
            self.to(device)


def class_rows(
    logits: Tensor, target: Tensor, num_classes: int, ignore_index: int, valid: Tensor | None
) -> tuple[Tensor, Tensor, Tensor]:
    """Return logits [B, K, *] as float64 [N, K], labels [B, *] as [N], and which of the N count.

    Logits and labels that do not count are 0. ValueError names shapes that do not fit; a label that is
    neither a class nor `ignore_index`, and a logit that is NaN or inf, is an error on the CPU; elsewhere,
    where looking would stall the device, the label is left out.
    """
    if logits.shape != (*target.shape[:1], num_classes, *target.shape[1:]) or target.is_floating_point():
        raise ValueError(
            f"logits {list(logits.shape)} and target {target.dtype} {list(target.shape)} do not fit: logits "
            f"are [B, {num_classes}, *] and target holds integers [B, *]"
        )
    keep = target != ignore_index
    if valid is not None:
        if valid.shape != target.shape:
            raise ValueError(f"valid is {list(valid.shape)} but target is {list(target.shape)}")
        keep = keep & valid.bool()
    known = (target >= 0) & (target < num_classes)
    if target.device.type == "cpu" and bool((keep & ~known).any()):
        stray = int(target[keep & ~known][0])
        raise ValueError(f"target holds {stray}: 0 to {num_classes - 1} or ignore_index is expected")
    keep = (keep & known).flatten()
    rows = logits.detach().double().movedim(1, -1).reshape(-1, num_classes)
    rows = torch.where(keep.unsqueeze(1), rows, 0)
    if target.device.type == "cpu" and not bool((rows < float("inf")).all()):
        raise ValueError("logits hold NaN or inf")
    return rows, torch.where(keep, target.long().flatten(), 0), keep
