"""Pixels per label of many masks, counted in processes; photos are not decoded."""

from __future__ import annotations

import functools
import multiprocessing
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from common.config import UserError
from uav_landing.data.masks import UnknownLabels, apply_lookup, histogram, photo_shape, read_mask
from uav_landing.data.photos import PhotoPair, PhotoSet
from uav_landing.labels import LabelTable
from uav_landing.void_check import VoidPieces, void_pieces

Progress = Callable[[int, int], None]

PIXELS_PER_PROCESS = 100_000_000
"""Starting a process takes about as long as counting this many pixels."""


@dataclass(frozen=True, eq=False)
class MaskCount:
    """Pixels of one mask per fine id, int64 [256] (255: outside the table), and what else was found."""

    id: str
    pixels: NDArray[np.int64]
    void: VoidPieces
    unknown: UnknownLabels | None


def count_mask(pair: PhotoPair, table: LabelTable, tolerance: int) -> MaskCount:
    """Count one mask. UserError when it cannot be read or its size is not that of the photo's header."""
    labels, unknown = read_mask(pair.mask, table, tolerance)
    height, width = photo_shape(pair.image)
    if (height, width) != labels.shape:
        raise UserError(
            f"{pair.id}: photo {pair.image} is {height} x {width} (height x width), "
            f"mask {pair.mask} is {labels.shape[0]} x {labels.shape[1]}"
        )
    pixels = histogram(labels)
    landing = apply_lookup(labels, table.lookup())
    return MaskCount(pair.id, pixels, void_pieces(landing), unknown)


def count_masks(
    photos: PhotoSet, ids: Sequence[str], workers: int, progress: Progress | None = None
) -> list[MaskCount]:
    """Count the masks of `ids` in order, in up to `workers` processes; the result does not depend on them.

    Few or small masks are counted in this process, sooner than others would have started. The first mask that
    cannot be counted raises its UserError and cancels the rest.
    """
    pairs = [photos.by_id[name] for name in ids]
    count = functools.partial(count_mask, table=photos.table, tolerance=photos.color_tolerance)
    counted = []
    for item in _mapped(count, pairs, workers):
        counted.append(item)
        if progress is not None:
            progress(len(counted), len(pairs))
    return counted


def _mapped(
    count: Callable[[PhotoPair], MaskCount], pairs: Sequence[PhotoPair], workers: int
) -> Iterator[MaskCount]:
    height, width = photo_shape(pairs[0].image)
    processes = min(workers, len(pairs), len(pairs) * height * width // PIXELS_PER_PROCESS)
    if processes < 2:
        yield from map(count, pairs)
        return
    # spawned, not forked: a fork of a process with threads can hang
    context = multiprocessing.get_context("spawn")
    pool = ProcessPoolExecutor(processes, mp_context=context, initializer=_start_worker)
    try:
        yield from pool.map(count, pairs)
    finally:
        pool.shutdown(cancel_futures=True)


def _start_worker() -> None:
    """Leave interrupts to the parent, and parallelism to the number of workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    cv2.setNumThreads(1)
