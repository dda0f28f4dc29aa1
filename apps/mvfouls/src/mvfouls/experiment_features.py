"""Features of a trained backbone, kept on disk, and batches made of them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.utils.data import Dataset

from common.config import UserError, writing
from common.engine.manifest import EMA, MODEL, read_manifest
from common.engine.randomness import SampleKey
from common.video import ArrayStore, content_sha256
from mvfouls.card import Trained
from mvfouls.dataset import FoulDataset, Sample
from mvfouls.features import Features, compute_features
from mvfouls.settings import CacheSettings, ViewSettings
from mvfouls.split import Split

FOLDER = "features"
VERSION = 1
"""Of how features are computed."""


def identity(trained: Trained, split: Split, cache: CacheSettings) -> dict[str, Any]:
    """Return everything that the features of a split depend on: weights, clips and how these are read."""
    pixels = trained.card.pixels
    files = read_manifest(trained.path)["files"]
    digest = hashlib.sha256()
    for action in split.actions:
        for view in action.views:
            digest.update(f"{action.id}/{view.path.name} {content_sha256(view.path)}\n".encode())
    return {
        "kind": "mvfouls features",
        "version": VERSION,
        "weights": files[EMA if trained.averaged else MODEL]["sha256"],
        "backbone": trained.card.model.backbone,
        "clips": digest.hexdigest(),
        "frames": list(pixels.frames.indices()),
        "size": [pixels.height, pixels.width, pixels.fit],
        "lossy": cache.folder is not None and cache.format == "jpeg",
    }


def stored_features(
    folder: Path,
    trained: Trained,
    dataset: FoulDataset,
    cache: CacheSettings,
    done: Callable[[int], Any],
) -> tuple[Features, bool]:
    """Return the feature of every view of `dataset`, and whether they were in `folder` already.

    `done` is told the views of each action that is computed. UserError for features that are not finite, and
    when the folder cannot be written.
    """
    split = dataset.split
    places = [(action.id, place) for action in split.actions for place in range(len(action.views))]
    known, store = identity(trained, split, cache), ArrayStore(folder)
    held = store.find(known)
    if held is not None:
        return dict(zip(places, torch.from_numpy(np.array(held)), strict=True)), True
    device = next(trained.model.parameters()).device
    features = compute_features(trained.model, dataset, device, done)
    _require_finite(features, trained.path)
    rows = torch.stack([features[place] for place in places]).numpy()
    with writing(f"--out {folder}"), store.create(known, rows.shape, rows.dtype) as array:
        array[:] = rows
    return features, False


def steady(views: ViewSettings) -> ViewSettings:
    """Return the settings under which training takes the same views of an action as evaluation."""
    return replace(views, sampling="uniform") if views.sampling == "random" else views


class FeatureTable(Dataset[Sample]):
    """The samples of `dataset` with `features` in place of clips, looked up a batch at a time.

    A batch: `features`, a list of [V, D], `targets` int64 [B] per task, `action` and `views` as in
    `mvfouls.dataset`, `key` int64 [B, 3]. The views of a sample are always the same.
    """

    def __init__(self, dataset: FoulDataset, features: Features) -> None:
        samples = [dataset.describe(place) for place in range(len(dataset))]
        self.actions = [sample["action"] for sample in samples]
        self.views = [sample["views"] for sample in samples]
        self.features = [
            torch.stack([features[sample["action"], place] for place in sample["views"]])
            for sample in samples
        ]
        self.targets = {
            task: torch.tensor([sample["targets"][task] for sample in samples])
            for task in samples[0]["targets"]
        }

    def __len__(self) -> int:
        return len(self.actions)

    def __getitems__(self, keys: Sequence[SampleKey]) -> Sample:
        places = [key.index for key in keys]
        chosen = torch.tensor(places)
        return {
            "features": [self.features[place] for place in places],
            "action": [self.actions[place] for place in places],
            "views": [self.views[place] for place in places],
            "targets": {task: ids[chosen] for task, ids in self.targets.items()},
            "key": torch.tensor(keys),
        }


def as_it_is(batch: Any) -> Any:
    """Return a batch that needs no collating."""
    return batch


def _require_finite(features: Mapping[tuple[str, int], torch.Tensor], checkpoint: Path) -> None:
    for (action, place), feature in features.items():
        if not bool(feature.isfinite().all()):
            raise UserError(
                f"--checkpoint {checkpoint}: the features of action {action}, view {place}, are not finite"
            )
