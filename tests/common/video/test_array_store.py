"""A stored array is served only when it is whole and the one asked for."""

import json
import math
import os
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from common.video import ArrayStore, array_store, content_sha256
from common.video.array_store import key_of

IDENTITY = {"video": "abc", "size": [3, 4], "version": 1}


def filled(
    store: ArrayStore,
    identity: dict[str, object] = IDENTITY,
    value: float = 2.0,
    shape: tuple[int, ...] = (3, 4),
) -> Path:
    with store.create(identity, shape, np.float16) as array:
        array[:] = value
    return store.folder / f"{key_of(identity)}.npy"


@pytest.fixture
def lines() -> list[str]:
    return []


@pytest.fixture
def store(tmp_path: Path, lines: list[str]) -> ArrayStore:
    return ArrayStore(tmp_path / "cache", say=lines.append)


def test_what_was_written_is_read_back_and_cannot_be_changed(store: ArrayStore, lines: list[str]) -> None:
    assert store.find(IDENTITY) is None
    filled(store)
    found = store.find({"version": 1, "size": [3, 4], "video": "abc"})
    assert found is not None
    assert isinstance(found, np.memmap)
    np.testing.assert_array_equal(found, np.full((3, 4), 2, np.float16))
    with pytest.raises(ValueError, match="read-only"):
        found[0] = 1
    assert lines == []


def test_another_identity_is_another_entry(store: ArrayStore) -> None:
    filled(store)
    assert store.find({**IDENTITY, "version": 2}) is None
    filled(store, {**IDENTITY, "version": 2}, 5)
    first, second = store.find(IDENTITY), store.find({**IDENTITY, "version": 2})
    assert first is not None
    assert second is not None
    assert (first[0, 0], second[0, 0]) == (2, 5)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def exchange(path: Path) -> None:
    np.save(path, np.full((3, 4), 9, np.float16))


def rename(path: Path) -> None:
    manifest = json.loads(path.with_suffix(".json").read_text())
    manifest["identity"]["video"] = "other"
    path.with_suffix(".json").write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (cut, "bytes instead of"),
        (exchange, "changed since it was made"),
        (rename, "made of something else"),
        (Path.unlink, "missing"),
        (lambda path: path.with_suffix(".json").unlink(), "no readable manifest"),
        (lambda path: path.with_suffix(".json").write_text("{"), "no readable manifest"),
        (lambda path: path.with_suffix(".json").write_text("[]"), "no readable manifest"),
    ],
)
def test_a_damaged_or_foreign_entry_is_named_and_made_again(
    store: ArrayStore, lines: list[str], damage: object, reason: str
) -> None:
    path = filled(store)
    damage(path)
    assert store.find(IDENTITY) is None
    assert len(lines) == 1
    assert path.name in lines[0]
    assert reason in lines[0]
    filled(store, value=3)
    found = store.find(IDENTITY)
    assert found is not None
    assert found.max() == 3
    assert len(lines) == 1


def test_nothing_is_left_when_filling_fails(store: ArrayStore) -> None:
    with pytest.raises(RuntimeError, match="stop"), store.create(IDENTITY, (3, 4), np.float16):
        raise RuntimeError("stop")
    assert list(store.folder.iterdir()) == []


def test_the_least_recently_used_entry_makes_room(tmp_path: Path, lines: list[str]) -> None:
    earlier = ArrayStore(tmp_path)
    paths = [filled(earlier, {"entry": k}) for k in range(3)]
    for path, age in zip(paths, (200, 300, 100), strict=True):
        os.utime(path.with_suffix(".json"), (time.time() - age,) * 2)
    occupied = sum(path.stat().st_size for path in tmp_path.iterdir())
    store = ArrayStore(tmp_path, max_gb=(occupied + 10) / 1e9, say=lines.append)
    assert store.find({"entry": 0}) is not None
    assert store.make_room(5)
    assert lines == []
    assert store.make_room(100)
    assert [path.exists() for path in paths] == [True, False, True]
    assert "removed to stay under" in lines[0]
    assert not store.make_room(occupied)
    assert [path.exists() for path in paths] == [True, False, False]


@pytest.mark.parametrize("limit", [math.inf, 1e-3])
def test_filling_a_folder_does_not_count_it_for_every_array(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: float
) -> None:
    counted: list[int] = []
    usual = ArrayStore._listing

    def listing(store: ArrayStore) -> dict[Path, os.stat_result]:
        found = usual(store)
        counted.append(len(found))
        return found

    monkeypatch.setattr(ArrayStore, "_listing", listing)
    store = ArrayStore(tmp_path, max_gb=limit)
    for entry in range(100):
        assert store.make_room(1000)
        filled(store, {"entry": entry})
    assert len(counted) == (1 if limit == math.inf else 4)


def test_several_writers_stay_under_the_limit_together(tmp_path: Path) -> None:
    stores = [ArrayStore(tmp_path, max_gb=40_000 / 1e9) for _ in range(4)]
    for entry in range(200):
        store = stores[entry % 4]
        if store.make_room(1000):
            filled(store, {"entry": entry}, shape=(500,))
        assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 42_000
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) > 30_000


def test_more_than_the_limit_never_fits(tmp_path: Path) -> None:
    assert not ArrayStore(tmp_path / "absent", max_gb=1e-9).make_room(2)
    assert ArrayStore(tmp_path / "absent", max_gb=1e-9).make_room(1)
    with pytest.raises(ValueError, match="max_gb is -1"):
        ArrayStore(tmp_path, max_gb=-1)


def test_the_sum_of_a_file_follows_its_content(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b"one")
    first = content_sha256(path)
    assert first == "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed"
    path.write_bytes(b"other")
    assert content_sha256(path) != first


def test_a_private_map_can_be_written_to_and_the_file_stays(store: ArrayStore) -> None:
    filled(store)
    found = store.find(IDENTITY, private=True)
    assert found is not None
    found[:] = 7
    again = store.find(IDENTITY)
    assert again is not None
    assert again.max() == 2


@pytest.mark.parametrize("private", [False, True])
def test_what_is_found_again_is_what_was_found_first(store: ArrayStore, private: bool) -> None:
    with store.create(IDENTITY, (3, 4), np.float16) as array:
        array[:] = np.arange(12).reshape(3, 4)
    first, again = (store.find(IDENTITY, private=private) for _ in range(2))
    assert first is not None
    assert again is not None
    np.testing.assert_array_equal(again, np.arange(12).reshape(3, 4))
    assert (again.dtype, again.flags.writeable) == (first.dtype, private)


def test_a_sound_file_is_examined_once_until_it_changes(
    store: ArrayStore, lines: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = filled(store)
    assert store.find(IDENTITY) is not None
    with monkeypatch.context() as patch:
        patch.setattr(array_store, "_fault", None)
        assert store.find(IDENTITY) is not None
    exchange(path)
    os.utime(path, (1, 1))
    assert store.find(IDENTITY) is None
    assert "changed since it was made" in lines[0]


def test_a_folder_of_another_person_is_read(store: ArrayStore, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(store)

    def refuse(path: Path) -> None:
        raise PermissionError(path)

    monkeypatch.setattr(os, "utime", refuse)
    assert store.find(IDENTITY) is not None


def test_threads_may_fill_the_same_entry(store: ArrayStore) -> None:
    together = threading.Barrier(2, timeout=20)

    def fill(value: int) -> None:
        with store.create(IDENTITY, (3, 4), np.float16) as array:
            together.wait()
            array[:] = value
            together.wait()

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(fill, (2, 3)))
    assert sorted(path.suffix for path in store.folder.iterdir()) == [".json", ".npy"]
