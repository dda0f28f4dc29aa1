import dataclasses
import os
import pickle
import random
import subprocess
import sys
import time

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader

from common.balancing.crops import RareCrop
from common.engine.randomness import SampleKey
from uav_landing.config import CropConfig, DataConfig, StoreConfig
from uav_landing.data.augment import Augmentation
from uav_landing.data.dataset import (
    CropDataset,
    PhotoDataset,
    Window,
    cut,
    normalise,
    train_statistics,
)
from uav_landing.data.masks import apply_lookup, load_photo, read_mask
from uav_landing.data.readers import find_photos
from uav_landing.data.store import open_store
from uav_landing.labels import IGNORE, TABLES, target_lookup

PLAIN = CropConfig(
    input_size=(32, 64), crops_per_image=4, scale_range=(1.0, 1.0), rare_crop_fraction=0.0, augment=False
)
FULL = CropConfig(input_size=(32, 32), crops_per_image=4, scale_range=(0.5, 2.0), rare_crop_fraction=0.0)
SAFE = target_lookup(TABLES["sdd"], "ignore")[0]


@pytest.fixture
def store(photos, tmp_path):
    return open_store(photos, StoreConfig(cache_dir=tmp_path / "cache"), "error")


def keys(dataset, epoch=0):
    return [SampleKey(index, epoch, index) for index in range(len(dataset))]


def make(store, config=FULL, seed=3, lookup=SAFE, rare=None):
    return CropDataset(store, store.ids, lookup, config, seed, rare)


def denormalise(image):
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    return np.rint((image.numpy().transpose(1, 2, 0) * std + mean) * 255).astype(int)


def test_a_crop_is_its_window_of_photo_and_mask(store):
    dataset = make(store, PLAIN)
    assert len(dataset) == 24
    for key in keys(dataset):
        sample, window = dataset[key], dataset.window(key)
        assert sample["image"].dtype == torch.float32
        assert sample["image"].shape == (3, 32, 64)
        assert sample["target"].dtype == torch.int64
        assert sample["index"] == window.photo == key.index // 4
        pixels = denormalise(sample["image"])
        # red holds the row, green the column, blue ten times the fine id
        np.testing.assert_array_equal(pixels[:, 0, 0], np.arange(window.top, window.top + 32))
        np.testing.assert_array_equal(pixels[0, :, 1], np.arange(window.left, window.left + 64))
        np.testing.assert_array_equal(sample["target"], SAFE[pixels[..., 2] // 10])


def test_normalisation_is_that_of_imagenet():
    image = np.array([[[0, 128, 255], [255, 0, 10]]], dtype=np.uint8)
    expected = [[[-2.117904, 2.248908]], [[0.205182, -2.035714]], [[2.640000, -1.630153]]]
    torch.testing.assert_close(normalise(image), torch.tensor(expected), atol=1e-5, rtol=0)


def test_every_epoch_and_slot_has_its_own_window(store):
    dataset = make(store)
    first = [dataset.window(key) for key in keys(dataset)]
    second = [dataset.window(key) for key in keys(dataset, epoch=1)]
    assert [window.photo for window in first] == [window.photo for window in second]
    assert len(set(first)) == len(first)
    assert sum(a == b for a, b in zip(first, second)) < 0.01 * len(first)
    assert first == [dataset.window(key) for key in keys(dataset)]
    assert first != [make(store, seed=4).window(key) for key in keys(dataset)]


def same(first, second):
    return all(torch.equal(first[name], second[name]) for name in ("image", "target"))


def test_a_sample_does_not_depend_on_earlier_ones_or_its_place_in_the_stream(store):
    dataset, fresh = make(store), make(store)
    for key in keys(dataset):
        dataset[key]
    assert same(dataset[SampleKey(5, 0, 5)], fresh[SampleKey(5, 0, 17)])
    assert not same(dataset[SampleKey(5, 0, 5)], fresh[SampleKey(5, 1, 5)])


def test_draws_beyond_the_epoch_are_new_crops(store):
    dataset = make(store)
    assert dataset.window(SampleKey(0, 0, 0)) != dataset.window(SampleKey(0, 0, len(dataset)))


@pytest.mark.parametrize("workers", [1, 2])
def test_batches_do_not_depend_on_workers(store, workers):
    store.preload(1)
    dataset = make(store)

    def batches(count):
        return list(
            DataLoader(dataset, batch_sampler=[keys(dataset)[:5], keys(dataset)[9:12]], num_workers=count)
        )

    for here, there in zip(batches(0), batches(workers), strict=True):
        assert same(here, there)
        assert torch.equal(here["index"], there["index"])


def test_dataset_can_be_sent_to_another_process(store):
    dataset = make(store)
    copy = pickle.loads(pickle.dumps(dataset))
    assert same(dataset[SampleKey(7, 2, 7)], copy[SampleKey(7, 2, 7)])


def test_global_random_states_are_left_alone(store):
    before = random.getstate(), np.random.get_state()[1].tobytes(), torch.get_rng_state()  # noqa: NPY002
    dataset = make(store)
    for key in keys(dataset):
        dataset[key]
    assert random.getstate() == before[0]
    assert np.random.get_state()[1].tobytes() == before[1]  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), before[2])


def test_a_mosaic_is_four_windows_beside_each_other(store):
    dataset = make(store, dataclasses.replace(PLAIN, mosaic_p=1.0))
    starts = set()
    for key in keys(dataset):
        sample = dataset[key]
        assert sample["target"].shape == (32, 64)
        pixels = denormalise(sample["image"])
        np.testing.assert_array_equal(sample["target"], SAFE[pixels[..., 2] // 10])
        for rows in (slice(0, 16), slice(16, 32)):
            for columns in (slice(0, 32), slice(32, 64)):
                quarter = pixels[rows, columns]
                np.testing.assert_array_equal(quarter[:, 5, 0], quarter[0, 0, 0] + np.arange(16))
                np.testing.assert_array_equal(quarter[5, :, 1], quarter[0, 0, 1] + np.arange(32))
                starts.add((quarter[0, 0, 0], quarter[0, 0, 1]))
    assert len(starts) > 2 * len(dataset)


def test_crops_around_rare_objects_are_never_taken_apart(store):
    class EveryTime:
        def draw(self, rng):
            return RareCrop(image=0, row=20, column=20, class_id=15)

    config = dataclasses.replace(PLAIN, rare_crop_fraction=1.0)
    plain, mosaic = (
        make(store, dataclasses.replace(config, mosaic_p=p), rare=EveryTime()) for p in (0.0, 1.0)
    )
    assert all(same(mosaic[key], plain[key]) for key in keys(plain))


def test_windows_cover_the_whole_photo_and_never_leave_it(store):
    dataset = make(store, CropConfig(input_size=(32, 32), crops_per_image=400, scale_range=(1.0, 1.0)))
    windows = [dataset.window(key) for key in keys(dataset)[:400]]
    assert (min(w.top for w in windows), max(w.top for w in windows)) == (0, 64)
    assert min(w.left for w in windows) <= 1
    assert 95 <= max(w.left for w in windows) <= 96


def test_scale_range_sets_the_window(store):
    dataset = make(store, CropConfig(input_size=(32, 32), crops_per_image=300, scale_range=(0.5, 2.0)))
    heights = np.array([dataset.window(key).height for key in keys(dataset)[:300]])
    assert heights.min() < 18
    assert heights.max() > 58
    # log-uniform: half of the windows are at most as large as the crop
    assert abs((heights <= 32).mean() - 0.5) < 0.12


@pytest.mark.parametrize("size", [(17, 29), (64, 40), (90, 120)])
def test_labels_are_never_blended(store, size):
    image, labels = cut(store, "000", Window(0, 3, 5, *size, None), (32, 32))
    assert image.shape == (32, 32, 3)
    assert set(np.unique(labels)) <= set(np.unique(store.labels("000")))


def test_shrinking_averages_and_growing_interpolates(store):
    window = Window(0, 0, 0, 64, 64, None)
    small, _ = cut(store, "000", window, (32, 32))
    mean = store.image("000")[:64, :64].reshape(32, 2, 32, 2, 3).mean(axis=(1, 3))
    assert np.abs(small - mean).max() <= 0.5
    large, labels = cut(store, "000", Window(0, 0, 0, 16, 16, None), (32, 32))
    expected = cv2.resize(store.image("000")[:16, :16], (32, 32), interpolation=cv2.INTER_LINEAR)
    np.testing.assert_array_equal(large, expected)
    np.testing.assert_array_equal(labels, store.labels("000")[:16, :16].repeat(2, axis=0).repeat(2, axis=1))


def test_photos_smaller_than_the_window_are_padded(store):
    image, labels = cut(store, "001", Window(0, 0, 0, 128, 160, None), (128, 160))
    photo = store.image("001")
    np.testing.assert_array_equal(image[:96, :128], photo)
    np.testing.assert_array_equal(image[96:, :128], photo[-2:-34:-1])
    np.testing.assert_array_equal(image[:96, 128:], photo[:, -2:-34:-1])
    np.testing.assert_array_equal(labels[:96, :128], store.labels("001"))
    assert (labels[96:] == IGNORE).all()
    assert (labels[:, 128:] == IGNORE).all()
    wide = CropConfig(input_size=(96, 96), crops_per_image=1, scale_range=(0.9, 1.0))
    assert make(store, wide).padded == store.ids
    assert make(store, PLAIN).padded == ()
    target = make(store, wide)[SampleKey(0, 0, 0)]["target"]
    assert target.shape == (96, 96)


def grid(height=32, width=32):
    rows, columns = np.mgrid[:height, :width].astype(np.uint8)
    return np.stack([rows, columns, rows + columns], axis=-1), rows + columns


def augmented(config, count, shape=(32, 32)):
    augmentation, (image, labels) = Augmentation(config), grid(*shape)
    return [augmentation(image, labels, np.random.default_rng(seed)) for seed in range(count)]


def augment_config(flip=0.0, turn=0.0, light=0.0, size=(32, 32)):
    return CropConfig(input_size=size, hflip_p=flip, rot90_p=turn, brightness_contrast_p=light)


def test_no_augmentation_is_the_identity():
    image, labels = grid()
    for pixels, moved in augmented(augment_config(), 5):
        np.testing.assert_array_equal(pixels, image)
        np.testing.assert_array_equal(moved, labels)


def test_flips_and_turns_move_image_and_labels_together():
    for pixels, moved in augmented(augment_config(flip=0.5, turn=1.0), 40):
        np.testing.assert_array_equal(pixels[..., 2], moved)


def test_flip_is_horizontal():
    (pixels, moved), (image, labels) = augmented(augment_config(flip=1.0), 1)[0], grid()
    np.testing.assert_array_equal(pixels, image[:, ::-1])
    np.testing.assert_array_equal(moved, labels[:, ::-1])


def test_turns_are_drawn_from_all_four_for_squares_and_from_two_otherwise():
    square = augmented(augment_config(turn=1.0), 60)
    corners = {tuple(pixels[0, 0, :2].tolist()) for pixels, _ in square}
    assert corners == {(0, 0), (0, 31), (31, 31), (31, 0)}
    oblong = augmented(augment_config(turn=1.0, size=(32, 64)), 60, (32, 64))
    assert {tuple(pixels[0, 0, :2].tolist()) for pixels, _ in oblong} == {(0, 0), (31, 63)}
    assert all(pixels.shape == (32, 64, 3) for pixels, _ in oblong)


def test_flip_turn_and_light_are_drawn_independently():
    image, _ = grid()
    flipped, lit = [], []
    for pixels, moved in augmented(augment_config(flip=0.5, light=0.5), 400):
        flipped.append(moved[0, 0] != 0)
        lit.append(not np.array_equal(np.sort(pixels, axis=1), np.sort(image, axis=1)))
    flipped, lit = np.array(flipped), np.array(lit)
    assert abs(flipped.mean() - 0.5) < 0.08
    assert abs(lit.mean() - 0.5) < 0.08
    assert abs(np.corrcoef(flipped, lit)[0, 1]) < 0.15


def test_light_changes_the_image_by_at_most_a_fifth():
    grey = np.full((32, 32, 3), 100, dtype=np.uint8)
    augmentation = Augmentation(augment_config(light=1.0))
    values = [int(augmentation(grey, grey[..., 0], np.random.default_rng(s))[0][0, 0, 0]) for s in range(200)]
    assert 80 - 51 - 1 <= min(values) < 60
    assert 140 < max(values) <= 120 + 51 + 1


def test_photos_are_whole_and_at_store_scale(store):
    dataset = PhotoDataset(store, store.ids[2:4], target_lookup(TABLES["sdd"], "train")[0])
    assert len(dataset) == 2
    sample = dataset[SampleKey(1, 0, 0)]
    assert sample["index"] == 1
    np.testing.assert_array_equal(denormalise(sample["image"]), store.image("003"))
    expected = TABLES["sdd"].lookup()[store.labels("003")]
    np.testing.assert_array_equal(sample["target"], expected)
    assert torch.equal(dataset[1]["target"], sample["target"])


def test_training_counts_are_those_of_the_training_masks(photos, store):
    train = store.ids[:4]
    statistics = train_statistics(store, train, SAFE, 3, names=("safe landing", "caution", "danger"))
    targets = [SAFE[np.asarray(Image.open(photos.by_id[name].mask))] for name in train]
    expected = np.array([[(target == value).sum() for value in range(3)] for target in targets])
    np.testing.assert_array_equal(statistics.group_counts, expected)
    np.testing.assert_array_equal(statistics.counts, expected.sum(axis=0))
    assert statistics.ignored == sum(int((target == IGNORE).sum()) for target in targets) > 0
    assert (statistics.unit, statistics.split) == ("pixel", "train")


@pytest.mark.slow
def test_augmentation_is_imported_without_network():
    program = (
        "import socket\n"
        "def refuse(*a, **k): raise AssertionError('a socket was opened')\n"
        "socket.socket.connect = socket.create_connection = socket.getaddrinfo = refuse\n"
        "import uav_landing.data.augment\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "NO_ALBUMENTATIONS_UPDATE"}
    subprocess.run([sys.executable, "-c", program], check=True, env=environment, timeout=200)


def median_seconds(work, times):
    taken = []
    for _ in range(times):
        start = time.perf_counter()
        work()
        taken.append(time.perf_counter() - start)
    return sorted(taken)[times // 2]


@pytest.mark.slow
def test_a_crop_from_the_store_is_100_times_faster_than_decoding(tmp_path):
    root = tmp_path / "large"
    image, mask = root / "images" / "1.jpg", root / "gts" / "1.png"
    for path in (image, mask):
        path.parent.mkdir(parents=True)
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (500, 750, 3), dtype=np.uint8)
    Image.fromarray(coarse).resize((6000, 4000), Image.Resampling.BILINEAR).save(image, quality=95)
    ids = rng.integers(0, 23, (50, 75), dtype=np.uint8)
    Image.fromarray(ids).resize((6000, 4000), Image.Resampling.NEAREST).save(mask)
    photos = find_photos(DataConfig(dataset_path=root, label_table="sdd"))
    store = open_store(photos, StoreConfig(cache_dir=tmp_path / "cache"), "error")
    windows = iter(Window(0, *rng.integers(0, 3400, 2).tolist(), 512, 512, None) for _ in range(1000))
    crop = median_seconds(lambda: cut(store, "1", next(windows), (512, 512)), 200)
    decode = median_seconds(lambda: (load_photo(image), read_mask(mask, TABLES["sdd"])), 7)
    assert decode >= 100 * crop


@pytest.mark.slow
def test_one_lookup_is_20_times_faster_than_a_pass_per_id():
    labels = np.random.default_rng(0).integers(0, 24, (4000, 6000), dtype=np.uint8)
    lookup = TABLES["sdd"].lookup()

    def pass_per_id():
        result = np.full_like(labels, IGNORE)
        for fine_id in range(24):
            result[labels == fine_id] = lookup[fine_id]
        return result

    np.testing.assert_array_equal(apply_lookup(labels, lookup), pass_per_id())
    assert median_seconds(pass_per_id, 7) >= 20 * median_seconds(lambda: apply_lookup(labels, lookup), 7)
