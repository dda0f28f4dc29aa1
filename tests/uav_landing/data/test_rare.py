import numpy as np
import pytest
from PIL import Image

from common.engine.randomness import SampleKey
from uav_landing.config import CropConfig, StoreConfig
from uav_landing.data.dataset import CropDataset
from uav_landing.data.rare import crop_exposure, presented_shares, rare_sampler
from uav_landing.data.readers import DataConfig, find_photos
from uav_landing.data.store import open_store
from uav_landing.labels import TABLES, target_lookup

RARE = CropConfig(
    input_size=(32, 32), crops_per_image=60, scale_range=(0.7, 1.4), rare_crop_fraction=1.0, augment=False
)
LOOKUP = target_lookup(TABLES["sdd"], "ignore")[0]


@pytest.fixture
def store(tmp_path, write_pair):
    """Grass and gravel; photo 2 has 9 pixels of person (15), photo 3 many, and 9 of dog (16), and void."""
    for number in range(4):
        ids = (3, 4) if number < 3 else (3, 3, 3, 3, 3, 15, 23)
        name = f"{number}.png"
        write_pair(tmp_path / "set/images" / name, tmp_path / "set/gts" / name, seed=number, ids=ids)
    for name, fine_id in (("3.png", 16), ("2.png", 15)):
        path = tmp_path / "set/gts" / name
        mask = np.asarray(Image.open(path)).copy()
        mask[:3, :3] = fine_id
        Image.fromarray(mask).save(path)
    photos = find_photos(DataConfig(dataset_path=tmp_path / "set", label_table="sdd"))
    return open_store(photos, StoreConfig(cache_dir=tmp_path / "cache"), "error")


def test_only_dangerous_ids_with_enough_pixels_are_drawn(store):
    sampler = rare_sampler(store, store.ids, TABLES["sdd"], RARE)
    assert list(sampler.candidates) == [15]
    assert sampler.candidates[15].tolist() == [2, 3]
    everything = TABLES["sdd"].with_mapping(
        {item.id: 0 if item.void else 3 for item in TABLES["sdd"].classes}
    )
    assert list(rare_sampler(store, store.ids, everything, RARE).candidates) == [3, 4, 15]


def test_no_sampler_without_rare_ids_or_with_fraction_zero(store):
    assert rare_sampler(store, store.ids[:3], TABLES["sdd"], RARE) is None
    off = CropConfig(input_size=(32, 32), rare_crop_fraction=0.0)
    assert rare_sampler(store, store.ids, TABLES["sdd"], off) is None


def test_a_rare_crop_contains_its_object(store):
    sampler = rare_sampler(store, store.ids, TABLES["sdd"], RARE)
    dataset = CropDataset(store, store.ids, LOOKUP, RARE, 0, sampler)
    places = []
    for index in range(len(dataset)):
        window = dataset.window(SampleKey(index, 0, index))
        assert window.rare == 15
        labels = store.labels(str(window.photo))[window.top :, window.left :][: window.height, : window.width]
        assert (labels == 15).any()
        assert dataset[SampleKey(index, 0, index)]["index"] == window.photo
        places.append(window)
    assert len(set(places)) > 100
    assert {window.photo for window in places} == {2, 3}


def test_fraction_is_the_share_of_rare_crops(store):
    config = CropConfig(input_size=(32, 32), crops_per_image=100, rare_crop_fraction=0.3)
    sampler = rare_sampler(store, store.ids, TABLES["sdd"], config)
    dataset = CropDataset(store, store.ids, LOOKUP, config, 0, sampler)
    rare = [dataset.window(SampleKey(index, 0, index)).rare is not None for index in range(400)]
    assert abs(np.mean(rare) - 0.3) < 0.07


def test_exposure_of_rare_objects_rises_and_shares_are_of_targets(store):
    config = CropConfig(input_size=(32, 32), rare_crop_fraction=0.5)
    sampler = rare_sampler(store, store.ids, TABLES["sdd"], config)
    exposure = crop_exposure(store, store.ids, sampler, config, seed=1)
    without, with_rule = exposure.expected_crops(600)
    assert with_rule[15] >= 2 * without[15] > 0
    shares = presented_shares(exposure, LOOKUP, 3)
    assert shares.sum() == pytest.approx(1)
    natural = np.bincount(LOOKUP, weights=sum(store.histogram(name) for name in store.ids), minlength=256)[:3]
    assert shares[2] > 1.5 * natural[2] / natural.sum()
    assert shares[1] == 0
