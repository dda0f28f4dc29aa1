"""Features of a backbone that never trains: computed once per view, then read in every epoch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset

from common.engine.randomness import SampleKey
from mvfouls.dataset import FoulDataset, Sample, collate
from mvfouls.model import FoulModel
from mvfouls.settings import AugmentSettings, RunSettings

Features = dict[tuple[str, int], Tensor]
"""Feature [D] of each view, by action and place of the view."""


def reusable(settings: RunSettings) -> bool:
    """Return whether every epoch would compute the same features: nothing opens and nothing is changed.

    A test run is over before that pays, and mirrored clips have features of their own.
    """
    freezing = settings.freezing
    never = (freezing.strategy == "closed" and freezing.open_blocks == 0) or (
        freezing.strategy == "fixed" and freezing.unfreeze_blocks == 0
    )
    unchanged = AugmentSettings(on_device=settings.augment.on_device, in_model=settings.augment.in_model)
    once = settings.test_run or settings.judge.tta
    return never and settings.augment == unchanged and not once


@torch.no_grad()
def compute_features(
    model: FoulModel, dataset: FoulDataset, device: torch.device, done: Callable[[int], Any] | None = None
) -> Features:
    """Return the feature of every view of every action of `dataset`, from the network in evaluation mode."""
    model.eval()
    features: Features = {}
    for action in dataset.split.actions:
        for place in range(len(action.views)):
            clip = dataset.unchanged(action, place)
            views = clip.to(device).float().div_(255)[None]
            features[action.id, place] = model.backbone(model.normalise(views))[0].float().cpu()
        if done is not None:
            done(len(action.views))
    return features


class FeatureDataset(Dataset[Sample]):
    """`dataset` with the features of the chosen views [V, D] in place of their clips."""

    def __init__(self, dataset: FoulDataset, features: Features) -> None:
        self.dataset, self.features = dataset, features

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, key: SampleKey | int) -> Sample:
        sample = self.dataset.describe(key)
        found = [self.features[sample["action"], place] for place in sample["views"]]
        return sample | {"features": torch.stack(found)}


def collate_features(samples: Sequence[Sample]) -> Sample:
    """Return a batch as `collate` does, with `features`, a list of [V, D], instead of `clips`."""
    batch = collate(samples)
    return batch | {"features": [sample["features"] for sample in samples]}
