"""Resident memory of judging one photo of 24 Mpx by sliding window at store scale 0.5.

Run as a script it judges one photo and prints by how many bytes its memory rose above the loaded network.
"""

from __future__ import annotations

import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
from large_photos import shape, write_photos
from timing import Entry, Row, Settings, at_most

from uav_landing.config import DataConfig, ModelConfig, StoreConfig
from uav_landing.data.dataset import PhotoDataset
from uav_landing.data.readers import find_photos
from uav_landing.data.store import Store, open_store
from uav_landing.judging import judge
from uav_landing.labels import load_table, target_lookup
from uav_landing.models.build import build_model
from uav_landing.predictor import PhotoPredictor

STORE_SCALE = 0.5
TILE = (512, 512)
GIGABYTE = 1e9


def sliding_window(settings: Settings) -> Iterator[Row]:
    """Peak of a child process above what it held with the network loaded."""
    size = shape(settings.small)
    with tempfile.TemporaryDirectory() as folder:
        root = write_photos(Path(folder) / "photos", 1, size)
        config = StoreConfig(store_scale=STORE_SCALE, cache_dir=Path(folder) / "store")
        store = open_store(find_photos(DataConfig(dataset_path=root)), config, "error")
        script = [sys.executable, __file__, str(store.folder)]
        result = subprocess.run(script, check=True, capture_output=True, text=True)
    what = f"sliding window, {size[1]}x{size[0]} at scale {STORE_SCALE:g}"
    yield Row(what=what, unit="GB", value=int(result.stdout) / GIGABYTE, budget=at_most(1.5))


def rise(store: Store) -> int:
    """Return by how many bytes judging the photos of a store raises the peak of this process."""
    lookup, class_ids = target_lookup(load_table("sdd"), "ignore")
    model = build_model(ModelConfig(), len(class_ids), aux=False).eval()
    predictor = PhotoPredictor(model=model, tile=TILE, overlap=0.5, batch=4, device=torch.device("cpu"))
    before = resident()
    judge(predictor, PhotoDataset(store, store.ids, lookup), class_ids, store.ids)
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 - before


def resident() -> int:
    """Return the memory this process holds, in bytes."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize()


ENTRIES: dict[str, Entry] = {"sliding_window": sliding_window}

if __name__ == "__main__":
    print(rise(Store(Path(sys.argv[1]))))
