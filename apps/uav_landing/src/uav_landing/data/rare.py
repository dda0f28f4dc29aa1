"""Crops around rare dangerous objects, and what they present to the loss."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from common.balancing.crops import Exposure, RareCropSampler, measure_exposure
from common.engine.randomness import generator_for
from uav_landing.config import CropConfig
from uav_landing.data.store import Store
from uav_landing.labels import LabelTable

DANGER = 3
FEWEST_PIXELS = 100


def rare_sampler(
    store: Store, ids: Sequence[str], table: LabelTable, config: CropConfig
) -> RareCropSampler | None:
    """Return the sampler of dangerous fine ids with at least 100 pixels in some photo.

    Any photo that holds such an id may be drawn; images are places in `ids`. None when `rare_crop_fraction`
    is 0 or no fine id qualifies.
    """
    histograms = np.stack([store.histogram(photo) for photo in ids])
    classes = [item.id for item in table.classes if item.landing == DANGER]
    eligible = [fine_id for fine_id in classes if histograms[:, fine_id].max() >= FEWEST_PIXELS]
    if not config.rare_crop_fraction or not eligible:
        return None
    return RareCropSampler(
        histograms,
        [store.all_positions(photo) for photo in ids],
        classes=eligible,
        temperature=config.rare_temperature,
    )


def crop_exposure(
    store: Store, ids: Sequence[str], sampler: RareCropSampler, config: CropConfig, *, seed: int
) -> Exposure:
    """Estimate what crops at scale 1 contain and present, without and with rare crops; per fine id [256]."""
    return measure_exposure(
        sampler,
        [store.shape(photo) for photo in ids],
        config.input_size,
        generator_for(seed, "exposure"),
        fraction=config.rare_crop_fraction,
    )


def presented_shares(exposure: Exposure, lookup: NDArray[np.uint8], num_classes: int) -> NDArray[np.float64]:
    """Return the expected label shares [K] of the training targets; ignored pixels are left out."""
    shares = np.bincount(lookup, weights=exposure.presented, minlength=256)[:num_classes]
    return np.asarray(shares / shares.sum(), dtype=np.float64)
