"""The training and validation data of a run, opened, checked and described."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from common.config import UserError
from mvfouls.annotations import Annotations, annotations_sha256, read_annotations
from mvfouls.clips import ClipSource
from mvfouls.dataset import Clips, FoulDataset
from mvfouls.labels import TaskLabels, task_labels
from mvfouls.settings import AugmentSettings, RunSettings
from mvfouls.split import Split, check_overlap, open_split, subset
from mvfouls.watch import WatchedClips


@dataclass(frozen=True, kw_only=True)
class FoulData:
    """Both splits with the classes of every task; `truth`: the annotations that validation is judged by."""

    train: Split
    valid: Split
    truth: Annotations
    tasks: dict[str, TaskLabels]
    clips: ClipSource

    def training(self, settings: RunSettings) -> FoulDataset:
        """Return the training samples, changed at random as `settings` say."""
        return self._samples(settings, self.train, settings.augment)

    def plain(self, settings: RunSettings) -> FoulDataset:
        """Return the training samples without any change."""
        return self._samples(settings, self.train, AugmentSettings())

    def validation(self, settings: RunSettings) -> FoulDataset:
        """Return the validation samples."""
        return self._samples(settings, self.valid, None)

    def _samples(self, settings: RunSettings, split: Split, augment: AugmentSettings | None) -> FoulDataset:
        data, loader = settings.data, settings.loader
        clips: Clips = self.clips
        if loader.timeout and loader.workers:
            clips = WatchedClips(clips, split.views, loader.workers)
        return FoulDataset(split, clips, data.pixels, data.views, augment, self.tasks, settings.seed)

    def class_names(self) -> dict[str, tuple[str, ...]]:
        """Return the names of each task's classes by id."""
        return {task: labels.classes for task, labels in self.tasks.items()}

    def report(self) -> dict[str, Any]:
        """Return what was read, left out and counted, as JSON types."""
        return {side: _account(split) for side, split in (("train", self.train), ("valid", self.valid))}


def _account(split: Split) -> dict[str, Any]:
    """Return where a split comes from, its hash, that of its annotations alone, and what was found."""
    path = split.source.annotations
    return {
        "annotations": str(path.absolute()),
        "annotations_sha256": annotations_sha256(path),
        "sha256": split.sha256,
        "actions": len(split.actions),
        **split.report.to_dict(),
    }


def open_data(settings: RunSettings) -> FoulData:
    """Open both splits; UserError for what the policies do not allow, and for splits that share a clip."""
    data = settings.data
    tasks = {
        task: task_labels(task, data.junk_ids, undecided=data.undecided, soft=task in data.soft)
        for task in settings.losses
    }
    frames = data.pixels.frames
    train = open_split(data.train, data.policies, data.views, frames, labelled=True)
    valid = open_split(data.valid, data.policies, data.views, frames, labelled=True)
    check_overlap(train, valid)
    if data.train_fraction < 1:
        train = subset(train, data.train_fraction, settings.seed)
    for side, split in (("training", train), ("validation", valid)):
        if not split.actions:
            raise UserError(f"{split.source.annotations}: no {side} action with a clip is left")
    clips = ClipSource(frames, data.cache, data.policies, jitter=settings.augment.jitter)
    truth = read_annotations(data.valid.annotations, unknown=data.policies.unknown_labels, labelled=True)
    return FoulData(train=train, valid=valid, truth=truth, tasks=tasks, clips=clips)
