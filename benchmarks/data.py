"""Reading pixels: crops from the store, the label mapping and the histogram of a 24 Mpx mask."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from large_photos import make_photo, shape, write_photos
from timing import Entry, Row, Settings, at_least, interleave, ratio

from uav_landing.config import DataConfig, StoreConfig
from uav_landing.data.dataset import Window, cut
from uav_landing.data.masks import Pixels, apply_lookup, histogram
from uav_landing.data.readers import find_photos
from uav_landing.data.store import open_store
from uav_landing.labels import load_table

CROP = (512, 512)


def crop(settings: Settings) -> Iterator[Row]:
    """A random crop of photo and labels from the store, against decoding both files for each crop."""
    with tempfile.TemporaryDirectory() as folder:
        root = write_photos(Path(folder) / "photos", 1, shape(settings.small))
        found = find_photos(DataConfig(dataset_path=root))
        store = open_store(found, StoreConfig(store_scale=1.0, cache_dir=Path(folder) / "store"), "error")
        pair, rng = found.pairs[0], np.random.default_rng(0)
        height, width = store.shape(pair.id)

        def window() -> Window:
            top, left = rng.integers(height - CROP[0] + 1), rng.integers(width - CROP[1] + 1)
            return Window(0, int(top), int(left), *CROP, None)

        def decode() -> tuple[Pixels, Pixels]:
            place = window()
            rows, columns = slice(place.top, place.top + CROP[0]), slice(place.left, place.left + CROP[1])
            image = cv2.imread(str(pair.image), cv2.IMREAD_COLOR)
            labels = cv2.imread(str(pair.mask), cv2.IMREAD_UNCHANGED)
            assert image is not None
            assert labels is not None
            upright = cv2.cvtColor(image[rows, columns], cv2.COLOR_BGR2RGB)
            return np.asarray(upright), np.ascontiguousarray(labels[rows, columns])

        actions = {"decode": decode, "store": lambda: cut(store, pair.id, window(), CROP)}
        seconds = interleave(actions, settings)
    what = f"decode and crop / crop from store, {height * width / 1e6:.3g} Mpx"
    yield ratio(what, seconds, "decode", "store", at_least(100))


def mapping(settings: Settings) -> Iterator[Row]:
    """Fine ids to landing classes: one lookup against a pass over the mask per id."""
    table = load_table("sdd")
    lookup, labels = table.lookup(), _mask(settings)

    def loop() -> Pixels:
        landing = np.full_like(labels, 255)
        for item in table.classes:
            landing[labels == item.id] = item.landing
        return landing

    np.testing.assert_array_equal(loop(), apply_lookup(labels, lookup))
    actions = {"loop": loop, "lookup": lambda: apply_lookup(labels, lookup)}
    seconds = interleave(actions, settings)
    yield ratio(f"per-id loop / lookup, {labels.size / 1e6:.3g} Mpx", seconds, "loop", "lookup", at_least(20))


def counting(settings: Settings) -> Iterator[Row]:
    """Pixels per id against numpy's unique."""
    labels = _mask(settings)
    values, counts = np.unique(labels, return_counts=True)
    np.testing.assert_array_equal(histogram(labels)[values], counts)
    actions = {
        "unique": lambda: np.unique(labels, return_counts=True),
        "histogram": lambda: histogram(labels),
    }
    seconds = interleave(actions, settings)
    what = f"numpy unique / histogram, {labels.size / 1e6:.3g} Mpx"
    yield ratio(what, seconds, "unique", "histogram", at_least(10))


def _mask(settings: Settings) -> Pixels:
    return make_photo(0, shape(settings.small))[1]


ENTRIES: dict[str, Entry] = {"crop": crop, "mapping": mapping, "histogram": counting}
