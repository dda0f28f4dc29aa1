"""Samples of a split: actions with their views, or single clips, and how they become batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from common.engine.randomness import SampleKey, sample_rng
from common.video import Pixels as Frames
from mvfouls.annotations import Action
from mvfouls.augment import SampleDraw, change_frames, draw_sample
from mvfouls.labels import IGNORE, TaskLabels
from mvfouls.resize import fit_frames
from mvfouls.settings import AugmentSettings, Pixels, ViewSettings
from mvfouls.split import FoulAction, Split, View
from mvfouls.watch import WatchedClips

Sample = dict[str, Any]


class Clips(Protocol):
    """Where samples get the frames of a view."""

    def read(self, view: View, shift: int = 0) -> Frames:
        """Return uint8 RGB [T, H, W, 3] at the size of the file, the window moved by `shift` frames."""


class _Item(NamedTuple):
    """Views of action number `row`, as places in its `views`."""

    row: int
    views: tuple[int, ...]


class FoulDataset(Dataset[Sample]):
    """The samples of a split: for training with `augment`, for evaluation, always the same, without.

    Training leaves out actions without a label for any task and, in bags, those with fewer than
    `views.min_clips` views; evaluation has every action with a view. `left_out` counts. Order: that of the
    split, clips of an action one after the other. Training without any change takes `AugmentSettings()`.

    A sample: `clips` uint8 [V, 3, T, height, width], `targets` task -> class id or -100, `action` its id,
    `views` places of the clips among the action's views, `strength`, `draw` (`SampleDraw`) and `key`.
    """

    def __init__(
        self,
        split: Split,
        clips: Clips,
        pixels: Pixels,
        views: ViewSettings,
        augment: AugmentSettings | None,
        tasks: Mapping[str, TaskLabels],
        seed: int,
    ) -> None:
        self.split, self.clips, self.pixels = split, clips, pixels
        self.views, self.augment, self.seed = views, augment, seed
        targets = {task: [_encode(labels, a.labels) for a in split.actions] for task, labels in tasks.items()}
        self._targets = {task: np.array(ids, np.int64) for task, ids in targets.items()}
        self.left_out = {"no_view": 0, "unlabelled": 0, "few_views": 0}
        self._items = self._build()
        self.action_rows = np.array([item.row for item in self._items], np.int64)
        """Place in `split.actions` of each sample's action."""

    @property
    def training(self) -> bool:
        """Whether samples are changed and chosen at random."""
        return self.augment is not None

    def __len__(self) -> int:
        return len(self._items)

    def in_work(self) -> str:
        """Return which clips the processes of a loader are reading, where that is watched."""
        return self.clips.in_work() if isinstance(self.clips, WatchedClips) else ""

    def presented_labels(self, task: str) -> NDArray[np.int64]:
        """Return the class id of each sample [N], -100 where it has none."""
        return self._targets[task][self.action_rows]

    def __getitem__(self, key: SampleKey | int) -> Sample:
        sample = self.describe(key)
        action = self.split.actions[self._items[sample["key"][0]].row]
        found = [
            _channels_first(self._changed(action.views[place], number, sample["draw"]))
            for number, place in enumerate(sample["views"])
        ]
        return {"clips": torch.from_numpy(np.stack(found)), **sample}

    def unchanged(self, action: FoulAction, place: int) -> Tensor:
        """Return one view of an action as evaluation sees it: uint8 [3, T, height, width]."""
        return torch.from_numpy(_channels_first(self._fitted(action.views[place], 0)))

    def describe(self, key: SampleKey | int) -> Sample:
        """Return a sample without its clips."""
        if not isinstance(key, SampleKey):
            key = SampleKey(int(key), 0, int(key))
        item = self._items[key.index]
        action = self.split.actions[item.row]
        views = self._chosen(item, key)
        draw = self._draw(key, len(views), action)
        return {
            "targets": {task: int(ids[item.row]) for task, ids in self._targets.items()},
            "action": action.id,
            "views": views,
            "strength": draw.strength,
            "draw": draw,
            "key": tuple(key),
        }

    def _build(self) -> list[_Item]:
        items: list[_Item] = []
        for row, action in enumerate(self.split.actions):
            if not action.views:
                self.left_out["no_view"] += 1
            elif self.training and all(ids[row] == IGNORE for ids in self._targets.values()):
                self.left_out["unlabelled"] += 1
            elif self.training and self.views.bags and len(action.views) < self.views.min_clips:
                self.left_out["few_views"] += 1
            else:
                items += self._of_action(row, len(action.views))
        return items

    def _of_action(self, row: int, views: int) -> list[_Item]:
        if self.views.bags:
            return [_Item(row, tuple(range(views)))]
        return [_Item(row, (place,)) for place in range(views)[: self.views.max_views]]

    def _chosen(self, item: _Item, key: SampleKey) -> tuple[int, ...]:
        if not self.training:
            return evaluated_views(item.views, self.views)
        return training_views(item.views, self.views, sample_rng(self.seed, key, "views"))

    def _draw(self, key: SampleKey, views: int, action: FoulAction) -> SampleDraw:
        if self.augment is None:
            return SampleDraw()
        return draw_sample(
            self.augment,
            seed=self.seed,
            key=key,
            views=views,
            frames=self.pixels.frames.count,
            severity=action.labels.severity,
        )

    def _fitted(self, view: View, shift: int) -> Frames:
        pixels = self.pixels
        return fit_frames(self.clips.read(view, shift), pixels.height, pixels.width, pixels.fit)

    def _changed(self, view: View, number: int, draw: SampleDraw) -> Frames:
        frames = self._fitted(view, draw.shift)
        if self.augment is None or self.augment.on_device:
            return frames
        return change_frames(frames, draw.clips[number])


def _channels_first(frames: Frames) -> Frames:
    return np.ascontiguousarray(frames.transpose(3, 0, 1, 2))


def training_views(
    views: tuple[int, ...], settings: ViewSettings, rng: np.random.Generator
) -> tuple[int, ...]:
    """Return the views of a training sample, in clip order: as in evaluation, but at random if so sampled."""
    pool = views[: settings.max_views]
    limit = settings.max_clips
    if settings.sampling != "random" or limit is None or limit >= len(pool):
        return evaluated_views(views, settings)
    return tuple(pool[place] for place in sorted(rng.choice(len(pool), limit, replace=False)))


def evaluated_views(views: tuple[int, ...], settings: ViewSettings) -> tuple[int, ...]:
    """Return the views that are evaluated: the first `max_views`, of these `max_clips`, evenly spaced.

    With sampling `first` they are the first `max_clips`, with `all` there is no such limit.
    """
    pool = views[: settings.max_views]
    limit = settings.max_clips
    if limit is None or limit >= len(pool) or settings.sampling == "all":
        return pool
    return pool[:limit] if settings.sampling == "first" else evenly(pool, limit)


def evenly(views: tuple[int, ...], count: int) -> tuple[int, ...]:
    """Return `count` of the views, evenly spaced from the first to the last; a single one is the first."""
    places = np.floor(np.linspace(0, len(views) - 1, count) + 0.5).astype(int)
    return tuple(views[place] for place in places)


def collate(samples: Sequence[Sample]) -> Sample:
    """Return a batch of B samples, which share the scale drawn for the first one.

    `clips`, if the samples have any, `action`, `views` and `draws` are lists, `targets` int64 [B] per task,
    `strength` float32 [B], `key` int64 [B, 3].
    """
    scale = samples[0]["draw"].scale
    lists = [name for name in ("clips", "action", "views") if name in samples[0]]
    return {
        **{name: [sample[name] for sample in samples] for name in lists},
        "targets": {
            task: torch.tensor([sample["targets"][task] for sample in samples])
            for task in samples[0]["targets"]
        },
        "strength": torch.tensor([sample["strength"] for sample in samples]),
        "draws": [replace(sample["draw"], scale=scale) for sample in samples],
        "key": _keys(samples),
    }


def _keys(samples: Sequence[Sample]) -> Tensor:
    return torch.tensor([sample["key"] for sample in samples])


def _encode(labels: TaskLabels, action: Action) -> int:
    return labels.encode(action) if action.labelled else IGNORE
