"""How far the pixels of a label map are from another label."""

from __future__ import annotations

import cv2
import numpy as np
from numpy.typing import NDArray

TOLERANCE = 3.0
REFERENCE_WIDTH = 1280


def distance_to_other_label(labels: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the Euclidean distance in px of each pixel of a map [H, W] to the nearest of another label.

    A pixel beside another label is 1 away; every pixel is infinitely far where there is one label only.
    """
    distance = np.full(labels.shape, np.inf, dtype=np.float32)
    present = np.flatnonzero(np.bincount(labels.reshape(-1), minlength=256))
    for value in present.tolist() if len(present) > 1 else []:
        same = labels == value
        inside = cv2.distanceTransform(same.view(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
        distance[same] = inside[same]
    return distance


def away_from_boundaries(labels: NDArray[np.uint8], tolerance: float = TOLERANCE) -> NDArray[np.bool_]:
    """Return where a map [H, W] is farther than `tolerance` px from another label.

    The tolerance holds for a photo 1280 px long and grows with the longer side.
    """
    scaled = tolerance * max(labels.shape) / REFERENCE_WIDTH
    return np.asarray(distance_to_other_label(labels) > scaled)
