"""Whether the dangerous objects of a photo are found, counted per fine class of the data set."""

from __future__ import annotations

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

SMALLEST_OBJECT = 25
FOUND_SHARE = 0.5


def count_objects(
    labels: NDArray[np.uint8], danger: NDArray[np.bool_], fine_ids: Sequence[int]
) -> NDArray[np.int64]:
    """Return int64 [F, 2, 2] for each fine id: rows pixels and objects, columns found and missed.

    `labels` [H, W] are fine ids, `danger` [H, W] where danger was predicted. An object is an 8-connected
    component of at least 25 pixels; it is found when at least half of its pixels are in `danger`.
    """
    counts = np.zeros((len(fine_ids), 2, 2), dtype=np.int64)
    for place, fine_id in enumerate(fine_ids):
        mask = labels == fine_id
        pixels = np.count_nonzero(mask)
        if not pixels:
            continue
        hits = np.count_nonzero(danger & mask)
        counts[place, 0] = hits, pixels - hits
        counts[place, 1] = _objects(mask, danger)
    return counts


def _objects(mask: NDArray[np.bool_], danger: NDArray[np.bool_]) -> tuple[int, int]:
    """Return how many objects of `mask` are found and how many are missed."""
    left, top, width, height = cv2.boundingRect(mask.view(np.uint8))
    box = np.s_[top : top + height, left : left + width]
    mask, danger = np.ascontiguousarray(mask[box]), danger[box]
    number, components, stats, _ = cv2.connectedComponentsWithStats(mask.view(np.uint8), connectivity=8)
    sizes = stats[1:, cv2.CC_STAT_AREA]
    hits = np.bincount(components[danger & mask], minlength=number)[1:]
    large = sizes >= SMALLEST_OBJECT
    found = int(np.count_nonzero(large & (hits >= FOUND_SHARE * sizes)))
    return found, int(np.count_nonzero(large)) - found
