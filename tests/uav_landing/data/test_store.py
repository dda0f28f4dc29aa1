import errno
import json
import logging
import os
import pickle
import threading
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from common.config import UserError
from uav_landing.config import DataConfig, SplitConfig, StoreConfig
from uav_landing.data import build, files
from uav_landing.data.build import choose_scale
from uav_landing.data.files import HashMemory
from uav_landing.data.readers import find_photos
from uav_landing.data.splits import make_split
from uav_landing.data.store import find_damage, open_store


@pytest.fixture
def cache(tmp_path):
    return tmp_path / "cache"


def open_at(photos, cache, unknown="error", **settings):
    return open_store(photos, StoreConfig(cache_dir=cache, **settings), unknown)


def stores(cache):
    return sorted(path.name for path in cache.iterdir() if path.is_dir())


def read(path):
    return np.asarray(Image.open(path))


def test_store_holds_the_pixels_and_fine_ids_of_every_file(photos, cache):
    store = open_at(photos, cache)
    assert store.ids == photos.ids
    assert store.nbytes == 6 * 96 * 128 * 4
    for pair in photos.pairs:
        labels = read(pair.mask)
        np.testing.assert_array_equal(store.image(pair.id), read(pair.image))
        np.testing.assert_array_equal(store.labels(pair.id), labels)
        np.testing.assert_array_equal(store.histogram(pair.id), np.bincount(labels.ravel(), minlength=256))
        for fine_id in np.unique(labels).tolist():
            places = store.positions(pair.id, fine_id)
            assert (labels[places[:, 0], places[:, 1]] == fine_id).all()
            assert len(np.unique(places, axis=0)) == len(places) == min(1024, (labels == fine_id).sum())
        assert len(store.positions(pair.id, 22)) == 0


def test_arrays_are_read_only(photos, cache):
    store = open_at(photos, cache)
    with pytest.raises(ValueError, match="read-only"):
        store.image("000")[0, 0] = 0
    assert store.preload(1)
    with pytest.raises(ValueError, match="read-only"):
        store.labels("000")[0, 0] = 0


def test_files_need_no_pickle_and_hold_a_manifest(photos, cache):
    store = open_at(photos, cache)
    arrays = sorted(store.folder.rglob("*.npy"))
    assert len(arrays) == 18
    for path in arrays:
        np.load(path, allow_pickle=False)
    assert not list(find_damage(store.folder))
    assert {path.name for path in store.folder.iterdir()} == {
        "images", "labels", "positions", "index.json", "manifest.json", "COMPLETE",
    }  # fmt: skip


def test_default_cache_is_beside_the_data_set(photos):
    store = open_store(photos, StoreConfig(), "error")
    assert store.folder.parent == photos.root.parent / ".uav_landing_store"


def test_second_opening_reads_neither_photos_nor_arrays_again(photos, cache, monkeypatch):
    first = open_at(photos, cache)

    def refuse(path):
        assert path.name == "manifest.json", f"{path} was hashed again"
        return original(path)

    original = files.sha256_of
    monkeypatch.setattr(files, "sha256_of", refuse)
    monkeypatch.setattr(build, "read_pair", None)
    assert open_at(photos, cache).fingerprint == first.fingerprint


def change_pixel(photos, cache):
    mask = read(photos.pairs[0].mask).copy()
    mask[0, 0] = 1 if mask[0, 0] == 3 else 3
    Image.fromarray(mask).save(photos.pairs[0].mask)
    return open_at(photos, cache)


@pytest.mark.parametrize(
    "change",
    [
        change_pixel,
        lambda photos, cache: open_at(photos, cache, store_scale=0.5),
        lambda photos, cache: open_at(photos, cache, unknown="ignore"),
        lambda photos, cache: open_at(replace(photos, color_tolerance=2), cache),
        lambda photos, cache: open_at(replace(photos, format="folder"), cache),
        lambda photos, cache: open_at(replace(photos, pairs=photos.pairs[1:]), cache),
        lambda photos, cache: open_at(
            replace(photos, table=replace(photos.table, classes=photos.table.classes[:-1])), cache
        ),
    ],
)
def test_key_depends_on_what_decides_the_pixels(photos, cache, change):
    assert open_at(photos, cache).fingerprint != change(photos, cache).fingerprint
    assert len(stores(cache)) == 2


def test_key_does_not_depend_on_the_mapping_or_the_place(photos, cache, tmp_path):
    first = open_at(photos, cache).fingerprint
    mapping = {item.id: item.landing for item in photos.table.classes} | {9: 3}
    assert open_at(replace(photos, table=photos.table.with_mapping(mapping)), cache).fingerprint == first
    photos.root.rename(tmp_path / "moved")
    moved = find_photos(DataConfig(dataset_path=tmp_path / "moved"))
    assert open_at(moved, cache).fingerprint == first


def test_scaled_masks_hold_only_ids_that_were_there(photos, cache):
    store = open_at(photos, cache, store_scale=0.37)
    assert store.shape("000") == (36, 47)
    for pair in photos.pairs:
        assert set(np.unique(store.labels(pair.id))) <= set(np.unique(read(pair.mask)))
        assert store.histogram(pair.id).sum() == 36 * 47


def test_scaled_photos_are_averaged(photos, cache):
    store = open_at(photos, cache, store_scale=0.25)
    expected = read(photos.pairs[0].image).reshape(24, 4, 32, 4, 3).mean(axis=(1, 3))
    assert np.abs(store.image("000") - expected).max() <= 0.5


def test_automatic_scale():
    assert choose_scale("sdd", [(4000, 6000)], "auto") == 0.5
    assert choose_scale("sdd_tugraz", [(4097, 100)], "auto") == 0.5
    assert choose_scale("sdd", [(853, 1280), (3000, 4096)], "auto") == 1.0
    assert choose_scale("dronedeploy", [(9000, 9000)], "auto") == 1.0
    for wrong in (0.0, 1.5, -1.0):
        with pytest.raises(UserError, match="--store-scale"):
            choose_scale("sdd", [(10, 10)], wrong)


def test_a_half_written_store_is_removed_and_rebuilt(photos, cache):
    key = open_at(photos, cache).fingerprint
    (cache / key).rename(cache / f"{key}.partial")
    assert open_at(photos, cache).fingerprint == key
    assert stores(cache) == [key]


def flip_bit(path):
    content = bytearray(path.read_bytes())
    content[-5] ^= 1
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("damage", "text"),
    [
        (lambda folder: flip_bit(folder / "images" / "001.npy"), "001.npy has changed"),
        (lambda folder: os.truncate(folder / "labels" / "002.npy", 500), "002.npy has 500 bytes"),
        (lambda folder: (folder / "positions" / "003.npy").unlink(), "003.npy is missing"),
        (lambda folder: flip_bit(folder / "manifest.json"), "manifest.json"),
        (lambda folder: (folder / "COMPLETE").unlink(), "COMPLETE"),
    ],
)
def test_damage_is_said_and_repaired(photos, cache, caplog, damage, text):
    store = open_at(photos, cache)
    damage(store.folder)
    with caplog.at_level(logging.WARNING):
        again = open_at(photos, cache)
    assert "is built anew" in caplog.text
    assert text in caplog.text
    assert not list(find_damage(again.folder))
    np.testing.assert_array_equal(again.labels("002"), read(photos.pairs[2].mask))


def test_damage_that_comes_back_is_an_error(photos, cache, monkeypatch):
    store = open_at(photos, cache)
    (store.folder / "index.json").unlink()
    finish = build._finish

    def spoil(plan, partial, manifest):
        finish(plan, partial, manifest)
        flip_bit(plan.folder / "images" / "000.npy")

    monkeypatch.setattr(build, "_finish", spoil)
    with pytest.raises(UserError, match="damaged again right after it was built"):
        open_at(photos, cache)


def test_rebuild(photos, cache):
    store = open_at(photos, cache)
    before = (store.folder / "COMPLETE").stat().st_ino
    assert open_at(photos, cache).folder == store.folder
    assert (store.folder / "COMPLETE").stat().st_ino == before
    open_at(photos, cache, rebuild_cache=True)
    assert (store.folder / "COMPLETE").stat().st_ino != before
    assert stores(cache) == [store.fingerprint]


def test_a_store_above_the_limit_is_refused_before_writing(photos, cache):
    with pytest.raises(
        UserError, match=r"--max-disk-gb allows 0\.0001: .* at scale 1, .* 0\.5, .* 0\.25"
    ) as error:
        open_at(photos, cache, max_disk_gb=1e-4)
    assert "0.00035 GB" in str(error.value)
    assert stores(cache) == []


def test_no_space_is_refused_before_writing(photos, cache, monkeypatch):
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr(build.shutil, "disk_usage", lambda path: usage)
    with pytest.raises(UserError, match=r"--cache-dir .*: 350,\d+ bytes are needed, 1,000 are free"):
        open_at(photos, cache)
    assert stores(cache) == []


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EROFS])
def test_failing_writes_leave_nothing_behind(photos, cache, monkeypatch, code):
    written = []
    original = build.write_array

    def fail(path, array):
        written.append(path)
        if len(written) > 5:
            raise OSError(code, os.strerror(code))
        return original(path, array)

    monkeypatch.setattr(build, "write_array", fail)
    with pytest.raises(
        UserError, match=f"--cache-dir .*{os.strerror(code)}; .* bytes are needed, .* are free"
    ):
        open_at(photos, cache)
    assert stores(cache) == []
    assert len(written) < 18


def test_a_folder_that_cannot_be_made_names_the_flag(photos, tmp_path):
    (tmp_path / "file").write_text("x")
    with pytest.raises(UserError, match=f"--cache-dir {tmp_path / 'file'}"):
        open_at(photos, tmp_path / "file")


def test_two_openers_build_once(photos, cache, monkeypatch):
    built = []
    original = build._write_photos

    def count(plan, partial, progress):
        built.append(partial)
        return original(plan, partial, progress)

    monkeypatch.setattr(build, "_write_photos", count)
    keys = []
    openers = [
        threading.Thread(target=lambda: keys.append(open_at(photos, cache).fingerprint)) for _ in range(3)
    ]
    for opener in openers:
        opener.start()
    for opener in openers:
        opener.join()
    assert len(built) == 1
    assert len(keys) == 3


def test_every_unusable_photo_is_listed(photos, cache):
    first, second, third = photos.pairs[:3]
    content = first.image.read_bytes()
    first.image.write_bytes(content[: len(content) // 2])
    Image.fromarray(read(second.mask)[:-1]).save(second.mask)
    Image.fromarray(read(third.mask).astype(np.uint16)).save(third.mask)
    with pytest.raises(UserError, match="3 of 6 photos cannot be used") as error:
        open_at(photos, cache)
    assert str(first.image) in str(error.value)
    assert "is 96 x 128" in str(error.value)
    assert "is 95 x 128" in str(error.value)
    assert str(third.mask) in str(error.value)
    assert stores(cache) == []


def spoil_labels(photos):
    mask = read(photos.pairs[4].mask).copy()
    mask[:2, :5] = 77
    Image.fromarray(mask).save(photos.pairs[4].mask)


def test_unknown_labels_are_an_error_by_default(photos, cache):
    spoil_labels(photos)
    with pytest.raises(UserError, match=r"id 77: 10 pixels, 0\.0814 %.*004\.png") as error:
        open_at(photos, cache)
    assert "--unknown-labels ignore" in str(error.value)


def test_unknown_labels_can_be_ignored_and_are_counted(photos, cache, caplog):
    spoil_labels(photos)
    with caplog.at_level(logging.WARNING):
        store = open_at(photos, cache, unknown="ignore")
    assert "id 77: 10 pixels" in caplog.text
    assert store.unknown_pixels == 10
    assert (store.labels("004")[:2, :5] == 255).all()
    assert store.histogram("004")[255] == 10
    assert 255 not in store.all_positions("004")


def test_progress_counts_photos(photos, cache):
    seen = []
    open_store(photos, StoreConfig(cache_dir=cache), "error", lambda done, total: seen.append((done, total)))
    assert seen == [(number, 6) for number in range(1, 7)]


def test_ids_with_a_sequence_are_stored_in_folders(tmp_path, write_pair, cache):
    for part in ("a", "b"):
        write_pair(
            tmp_path / "set" / part / "images" / "1.png", tmp_path / "set" / part / "gts" / "1.png", seed=9
        )
    store = open_at(find_photos(DataConfig(dataset_path=tmp_path / "set", label_table="sdd")), cache)
    assert store.ids == ("a/1", "b/1")
    np.testing.assert_array_equal(store.image("a/1"), store.image("b/1"))


def memory(kind):
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(kind))


@pytest.fixture
def large_store(tmp_path, write_pair, cache):
    root = tmp_path / "large"
    for number in range(3):
        write_pair(
            root / "original_images" / f"{number}.png",
            root / "label_images_semantic" / f"{number}.png",
            shape=(1600, 2000),
        )
    return open_at(find_photos(DataConfig(dataset_path=root)), cache)


def test_preload_keeps_to_the_budget(large_store):
    assert large_store.nbytes == 38_400_000
    mapped = [large_store.image(photo).copy() for photo in large_store.ids]
    del mapped
    anonymous, shared = memory("RssAnon"), memory("RssShmem")
    assert not large_store.preload(0.038)
    assert sum(int(large_store.image(photo).sum()) for photo in large_store.ids) > 0
    assert memory("RssAnon") - anonymous < 8e6
    assert memory("RssShmem") - shared < 1e6
    assert large_store.preload(0.039)
    assert 0.95 * 38_400_000 < memory("RssShmem") - shared < 1.05 * 38_400_000
    assert memory("RssAnon") - anonymous < 8e6


def test_preloaded_pixels_are_the_same_and_travel_as_a_path(photos, cache):
    store = open_at(photos, cache)
    assert store.preload(1)
    copy = pickle.loads(pickle.dumps(store))
    assert len(pickle.dumps(store)) < 1000
    for photo in store.ids:
        np.testing.assert_array_equal(store.image(photo), copy.image(photo))
        np.testing.assert_array_equal(store.labels(photo), copy.labels(photo))


def test_open_photos_hold_no_file_descriptor(photos, cache):
    store = open_at(photos, cache)
    before = len(os.listdir("/proc/self/fd"))
    arrays = [store.image(photo) for photo in store.ids]
    assert len(os.listdir("/proc/self/fd")) == before
    assert len(arrays) == 6


def test_hashes_are_remembered_by_size_and_time(tmp_path):
    file = tmp_path / "a"
    file.write_bytes(b"one")
    memory_of = HashMemory(tmp_path / "hashes.json")
    first = memory_of.sha256(file)
    memory_of.save()
    assert HashMemory(tmp_path / "hashes.json").sha256(file) == first
    stamp = file.stat()
    file.write_bytes(b"two")
    os.utime(file, ns=(stamp.st_atime_ns, stamp.st_mtime_ns + 1))
    assert HashMemory(tmp_path / "hashes.json").sha256(file) != first
    (tmp_path / "hashes.json").write_text(json.dumps([1]))
    assert HashMemory(tmp_path / "hashes.json").sha256(file) != first


def test_shared_photos_hold_the_published_counts_per_split(real_data, tmp_path):
    photos = find_photos(DataConfig(dataset_path=real_data / "sdd"))
    store = open_at(photos, tmp_path)
    split = make_split(photos, SplitConfig())
    landing = photos.table.lookup()

    def count(ids):
        fine = sum(store.histogram(photo) for photo in ids)
        return [int(fine[landing == number].sum()) for number in range(4)]

    assert count(split.train) == [33_192, 12_735_030, 3_857_154, 4_119_584]
    assert count(split.val) == [8_635, 4_722_303, 1_364_139, 455_963]
    assert count(split.test) == [11_734, 4_022_788, 1_496_740, 2_111_618]
