"""The verb `prepare`: decode every photo once into the store."""

from __future__ import annotations

import dataclasses
import logging
import sys
import time

import numpy as np

from common.config import Parsed
from uav_landing.config import PrepareConfig
from uav_landing.data.photos import PhotoSet
from uav_landing.data.readers import find_photos
from uav_landing.data.store import Store, find_damage, open_store
from uav_landing.labels import LANDING_NAMES

logger = logging.getLogger(__name__)


def main(parsed: Parsed[PrepareConfig]) -> int:
    """Run the verb."""
    return run(parsed.config)


def run(config: PrepareConfig) -> int:
    """Build or check the store and print what it holds; return the exit code 0.

    With `verify` every stored file is read and hashed again, and a damaged store is built anew. UserError as
    `find_photos` and `open_store`.
    """
    started = time.monotonic()
    photos = find_photos(config.data)
    for note in photos.notes:
        logger.info(note)
    store = open_store(photos, config.store, config.unknown_labels, _show_progress)
    checked = _verify(store, photos, config) if config.verify else ""
    seconds = time.monotonic() - started
    height, width = store.shape(store.ids[0])
    _say(
        f"store    {store.folder}   {len(store.ids)} photos   {store.nbytes:,} bytes   scale {store.scale:g} "
        f"({width} x {height})   {seconds:.1f} s{checked}"
    )
    _say(_table_line(store, photos))
    return 0


def _verify(store: Store, photos: PhotoSet, config: PrepareConfig) -> str:
    problems = list(find_damage(store.folder))
    for problem in problems:
        logger.warning("store %s: %s", store.folder, problem)
    if not problems:
        return "   every file verified"
    anew = dataclasses.replace(config.store, rebuild_cache=True)
    open_store(photos, anew, config.unknown_labels, _show_progress)
    return f"   {len(problems)} damaged files, built anew"


def _table_line(store: Store, photos: PhotoSet) -> str:
    fine = sum((store.histogram(photo) for photo in store.ids), np.zeros(256, dtype=np.int64))
    classes = np.bincount(photos.table.lookup(), weights=fine, minlength=256).astype(np.int64)
    shares = "   ".join(
        f"{number} {name} {100 * classes[number] / fine.sum():.4f} %"
        for number, name in enumerate(LANDING_NAMES)
    )
    return f"classes  table {photos.table.name} ({len(photos.table.classes)} fine)   {shares}"


def _show_progress(done: int, total: int) -> None:
    if sys.stderr.isatty():
        sys.stderr.write(f"\r{done}/{total} photos{chr(10) if done == total else ''}")
        sys.stderr.flush()


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
