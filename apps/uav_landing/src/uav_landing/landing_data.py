"""A data set opened for training or judging: photos, split, pixels, targets."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from common.engine.logging import Console
from common.statistics import ClassStatistics
from uav_landing.config import DataConfig, SplitConfig, StoreConfig
from uav_landing.data.dataset import train_statistics
from uav_landing.data.readers import PhotoSet, find_photos
from uav_landing.data.splits import Split, make_split
from uav_landing.data.store import Store, open_store
from uav_landing.labels import LANDING_NAMES, target_lookup


@dataclass(frozen=True, kw_only=True)
class LandingData:
    """Photos with their split and stored pixels; `lookup` turns fine ids into targets (255 ignored)."""

    photos: PhotoSet
    split: Split
    store: Store
    lookup: NDArray[np.uint8]
    class_ids: list[int]

    @property
    def names(self) -> list[str]:
        """Return the name of each output."""
        return [LANDING_NAMES[index] for index in self.class_ids]

    def statistics(self, part: str = "train") -> ClassStatistics:
        """Return the target pixels of one part of the split."""
        ids = self.split.ids(part)
        return train_statistics(
            self.store, ids, self.lookup, len(self.class_ids), names=self.names, split=part
        )


def open_data(
    data: DataConfig,
    split: SplitConfig,
    store: StoreConfig,
    *,
    unknown_labels: Literal["error", "ignore"],
    void: Literal["train", "ignore"],
    max_images: int = 0,
    console: Console,
) -> LandingData:
    """Find, check, divide and decode the photos, saying on the console what was done.

    Raises UserError for anything wrong with the data set or the settings that name it.
    """
    photos = find_photos(data)
    for note in photos.notes:
        console.line("data", note)
    parts = _first(make_split(photos, split), max_images)
    if parts.warning:
        console.line("warning", parts.warning)
    opened = open_store(photos, store, unknown_labels)
    if opened.unknown_pixels:
        console.line("warning", f"{opened.unknown_pixels} pixels with labels outside the table are ignored")
    lookup, class_ids = target_lookup(photos.table, void)
    return LandingData(photos=photos, split=parts, store=opened, lookup=lookup, class_ids=class_ids)


def _first(split: Split, count: int) -> Split:
    if not count:
        return split
    return dataclasses.replace(
        split, train=split.train[:count], val=split.val[:count], test=split.test[:count]
    )


def data_line(data: LandingData, statistics: ClassStatistics) -> str:
    """Return the console's `data` line."""
    split = data.split
    shares = " ".join(f"{100 * share:.2f}" for share in statistics.prior)
    total = int(statistics.counts.sum()) + statistics.ignored
    ignored = f"   ignored {100 * statistics.ignored / max(total, 1):.2f} %" if statistics.ignored else ""
    return (
        f"{data.photos.format}: train {len(split.train)} photos   valid {len(split.val)}   "
        f"test {len(split.test)}   ({split.how})   classes {shares} %   ratio {statistics.ratio:.1f}{ignored}"
    )
