"""From the counts of masks to shares, ratios and class weights with their intervals."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
from numpy.typing import NDArray

from common.balancing.weights import Strategy, weights_from_counts
from common.config import UserError
from common.statistics import ClassStatistics, Counts, Interval, Shares
from uav_landing.data.masks import UnknownLabels, describe_unknown
from uav_landing.data.photos import PhotoSet
from uav_landing.labels import IGNORE, LANDING_NAMES, FineClass
from uav_landing.mask_counts import MaskCount
from uav_landing.void_check import VoidCheck, judge_void
from uav_landing.weights import STRATEGIES


@dataclass(frozen=True, eq=False)
class Estimate:
    """One number per class, float64 [K], with the 95 % interval over photos; NaN where it is undefined."""

    value: Shares
    low: Shares
    high: Shares


@dataclass(frozen=True, kw_only=True, eq=False)
class ClassTable:
    """Statistics of some landing classes with the share of each and the weights of each scheme."""

    class_ids: tuple[int, ...]
    statistics: ClassStatistics
    shares: Estimate
    weights: dict[str, Estimate]

    @property
    def ratio(self) -> float | None:
        """Largest over smallest count of the present classes; None with fewer than two."""
        return self.statistics.ratio if np.count_nonzero(self.statistics.counts) > 1 else None


@dataclass(frozen=True, kw_only=True)
class Unmapped:
    """A mask value (id or colour) outside the label table."""

    value: int | tuple[int, int, int]
    pixels: int
    files: tuple[Path, ...]


@dataclass(frozen=True, kw_only=True, eq=False)
class Analysis:
    """Everything the analyzer found.

    `fine` is int64 [256], pixels per fine id, and `fine_images` the photos that hold it; entry 255 belongs to
    values outside the table. `ignored` are pixels of table classes that never count. `without_void` is None
    when no pixel has class 1, 2 or 3.
    """

    photos: PhotoSet
    split: str
    ids: tuple[str, ...]
    pixels: int
    fine: Counts
    fine_images: Counts
    ignored: int
    with_void: ClassTable
    without_void: ClassTable | None
    void: VoidCheck
    unmapped: tuple[Unmapped, ...]
    seed: int
    bootstrap: int

    def table(self, void: str) -> ClassTable | None:
        """Return the table for `--void train` or `--void ignore`."""
        return self.with_void if void == "train" else self.without_void

    def by_frequency(self) -> list[FineClass]:
        """Return the classes of the label table, commonest first."""
        return sorted(self.photos.table.classes, key=lambda item: (-self.fine[item.id], item.id))


def analyse(
    photos: PhotoSet, split: str, counted: Sequence[MaskCount], *, bootstrap: int, seed: int
) -> Analysis:
    """Return shares, weights, intervals (`bootstrap` resamples of the photos) and the void verdict.

    UserError when no pixel carries one of the classes 0-3.
    """
    fine = np.stack([item.pixels for item in counted])
    unknown = [item.unknown for item in counted if item.unknown is not None]
    landing = _landing_counts(fine, photos.table.lookup())
    if not landing.any():
        found = f"\n{describe_unknown(unknown, photos.table)}" if unknown else ""
        raise UserError(f"{photos.root}: no pixel of {len(counted)} masks has one of the classes 0-3{found}")
    make = functools.partial(_class_table, landing, split, bootstrap=bootstrap, seed=seed)
    total = fine.sum(axis=0)
    return Analysis(
        photos=photos,
        split=split,
        ids=tuple(item.id for item in counted),
        pixels=int(total.sum()),
        fine=total,
        fine_images=np.count_nonzero(fine, axis=0),
        ignored=int(total[:IGNORE].sum() - landing.sum()),
        with_void=make((0, 1, 2, 3)),
        without_void=make((1, 2, 3)) if landing[:, 1:].any() else None,
        void=judge_void([item.void for item in counted]),
        unmapped=_unmapped(unknown),
        seed=seed,
        bootstrap=bootstrap,
    )


def _landing_counts(fine: Counts, lookup: NDArray[np.uint8]) -> Counts:
    """Return int64 [G, 4] from fine counts [G, 256]; integers all the way."""
    return np.stack([fine[:, lookup == landing].sum(axis=1) for landing in range(4)], axis=1)


def _class_table(
    landing: Counts, split: str, class_ids: tuple[int, ...], *, bootstrap: int, seed: int
) -> ClassTable:
    groups = landing[:, list(class_ids)]
    statistics = ClassStatistics.from_counts(
        groups.sum(axis=0),
        names=[LANDING_NAMES[index] for index in class_ids],
        unit="pixel",
        split=split,
        ignored=int(landing.sum() - groups.sum()),
        group_counts=groups,
    )
    estimate = functools.partial(_estimate, statistics, bootstrap=bootstrap, seed=seed)
    return ClassTable(
        class_ids=class_ids,
        statistics=statistics,
        shares=estimate(_shares),
        weights={scheme: estimate(functools.partial(_weights, scheme=scheme)) for scheme in STRATEGIES},
    )


def _estimate(
    statistics: ClassStatistics, fn: Callable[[Counts], Shares], *, bootstrap: int, seed: int
) -> Estimate:
    assert statistics.group_counts is not None
    undefined = np.full(statistics.num_classes, np.nan)
    interval = Interval(undefined, undefined)
    if bootstrap and len(statistics.group_counts) > 1:
        interval = statistics.bootstrap(fn, n=bootstrap, seed=seed)
    return Estimate(fn(statistics.counts), interval.low, interval.high)


def _shares(counts: Counts) -> Shares:
    total = counts.sum()
    return counts / total if total else np.full(len(counts), np.nan)


def _weights(counts: Counts, scheme: str) -> Shares:
    """Return the weights of a scheme; NaN for a class without a pixel, which has none."""
    if not counts.any():
        return np.full(len(counts), np.nan)
    return np.where(counts > 0, weights_from_counts(counts, cast(Strategy, scheme)), np.nan)


def _unmapped(reports: Sequence[UnknownLabels]) -> tuple[Unmapped, ...]:
    """Return the values outside the table over all masks, commonest first."""
    pixels: dict[int | tuple[int, int, int], int] = {}
    files: dict[int | tuple[int, int, int], list[Path]] = {}
    for report in reports:
        for value, count in report.values:
            pixels[value] = pixels.get(value, 0) + count
            files.setdefault(value, []).append(report.path)
    ranked = sorted(pixels, key=lambda value: -pixels[value])
    return tuple(Unmapped(value=value, pixels=pixels[value], files=tuple(files[value])) for value in ranked)
