from pathlib import Path

import pytest

from common.config import UserError
from uav_landing.config import DataConfig, SplitConfig
from uav_landing.data.photos import PhotoPair, PhotoSet
from uav_landing.data.readers import find_photos
from uav_landing.data.splits import groups_of, make_split
from uav_landing.labels import TABLES

PARTS = (
    "000 026 043 058 083 119 174 193 194 235 271 290 312 313 346 347 378 412 563",
    "146 283 409 413 431 464",
    "150 180 228 236 410 470 500",
)
TRAIN, VAL, TEST = (part.split() for part in PARTS)
SDD32 = sorted(TRAIN + VAL + TEST)
OVERLAPS = [
    {"058", "083", "119", "174", "271", "312", "378"},
    {"146", "464"},
    {"150", "236", "410"},
    {"180", "228", "470", "500"},
    {"283", "409", "413", "431"},
    {"000", "043", "235", "290"},
]


def photo_set(ids, root=Path("nowhere"), groups=None, official=None):
    pairs = [PhotoPair(name, Path(name), Path(name), (groups or {}).get(name)) for name in ids]
    return PhotoSet("folder", root, tuple(pairs), TABLES["sdd"], official=official)


def split(photos, **settings):
    return make_split(photos, SplitConfig(**settings))


def all_ids(result):
    return result.train + result.val + result.test


def test_random_split_of_400_is_the_documented_one():
    photos = photo_set([f"{number:03d}" for number in range(400)])
    result = split(photos, split_mode="random")
    assert (len(result.train), len(result.val), len(result.test)) == (280, 60, 60)
    assert [int(name) for name in result.train[:5]] == [209, 280, 33, 210, 93]
    assert [int(name) for name in result.val[:5]] == [4, 256, 358, 100, 226]
    assert [int(name) for name in result.test[:5]] == [205, 34, 263, 91, 339]
    assert sorted(all_ids(result)) == list(photos.ids)
    assert result.warning == "random split of overlapping photos leaks scenes; use grouped"
    assert split(photos, split_mode="random", split_seed=7).train != result.train


def test_random_split_does_not_depend_on_the_order_found():
    ids = [f"{number:03d}" for number in range(40)]
    assert split(photo_set(ids[::-1]), split_mode="random") == split(photo_set(ids), split_mode="random")


def test_auto_chooses_the_shipped_split_for_exactly_its_photos():
    result = split(photo_set(SDD32))
    assert result.how == "sdd32 (shipped)"
    assert (list(result.train), list(result.val), list(result.test)) == (TRAIN, VAL, TEST)
    assert sorted(all_ids(result)) == SDD32
    assert split(photo_set(SDD32[1:])).how.startswith("random")


def test_shipped_groups_are_the_overlaps_and_no_split_cuts_one():
    photos = photo_set(SDD32, groups=dict.fromkeys(SDD32, "seq5"))
    groups = dict(zip(SDD32, groups_of(SDD32, photos)))
    members = {name: {stem for stem in SDD32 if groups[stem] == name} for name in groups.values()}
    assert len(members) == 14
    assert all(overlap in members.values() for overlap in OVERLAPS)
    for result in (split(photos), split(photos, split_mode="grouped")):
        parts = [{groups[name] for name in part} for part in (result.train, result.val, result.test)]
        assert len(set.union(*parts)) == sum(map(len, parts))
        assert sorted(all_ids(result)) == SDD32


def test_auto_prefers_official_then_groups_then_random():
    ids = [f"{flight}_{frame}" for flight in "abcd" for frame in range(5)]
    official = {"train": tuple(ids[:10]), "val": tuple(ids[10:]), "test": ()}
    assert split(photo_set(ids, official=official)).how == "official"
    assert split(photo_set(ids)).how == "grouped, 4 groups"
    assert split(photo_set([name.replace("_", "") for name in ids])).how == "random, seed 42"
    assert (
        split(photo_set([f"a_{name}" for name in ids[:10]] + [f"b_{name}" for name in ids[:10]])).how[:6]
        == "random"
    )


def test_official_returns_exactly_the_published_lists():
    official = {"train": ("c", "a"), "val": ("b",), "test": ()}
    result = split(photo_set("abc", official=official), split_mode="official")
    assert (result.train, result.val, result.test) == (("c", "a"), ("b",), ())
    with pytest.raises(UserError, match="no published split"):
        split(photo_set("abc"), split_mode="official")


def test_grouped_fills_the_part_farthest_below_its_target():
    sizes = {"a": 8, "b": 5, "c": 3, "d": 2, "e": 2}
    ids = [f"{group}_{number}" for group, size in sizes.items() for number in range(size)]
    result = split(photo_set(ids), split_mode="grouped")
    # targets 14, 3, 3: a, b -> train (1 missing); c -> val; d -> test (3 missing); e -> train, tied with test
    placed = [sorted({name[0] for name in part}) for part in (result.train, result.val, result.test)]
    assert placed == [["a", "b", "e"], ["c"], ["d"]]


def test_grouped_without_groups_suggests_random():
    with pytest.raises(UserError, match="--split-mode random"):
        split(photo_set(["1", "2", "3"]), split_mode="grouped")


def test_one_group_leaves_validation_empty():
    with pytest.raises(UserError, match="10 train, 0 val and 0 test photos of 10"):
        split(photo_set([f"flight_{number}" for number in range(10)]), split_mode="grouped")


def test_groups_file_wins_over_sequence_folders(tmp_path):
    (tmp_path / "groups.yaml").write_text('house: ["a", "c"]\n')
    photos = photo_set("abc", tmp_path, groups=dict.fromkeys("abc", "seq"))
    assert groups_of("abc", photos) == ("house", "b", "house")
    (tmp_path / "groups.yaml").write_text('house: ["a"]\nfield: ["a"]\n')
    with pytest.raises(UserError, match="a is in the groups house and field"):
        groups_of("abc", photos)


def test_photos_without_groups_are_their_own():
    assert groups_of(["1", "2"], photo_set("123")) == ("1", "2")


def write(tmp_path, text):
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    return str(path)


def test_split_file(tmp_path):
    path = write(tmp_path, 'train: ["a"]\nval: ["b"]\n')
    result = split(photo_set("abc"), split_mode="file", split_file=path)
    assert (result.train, result.val, result.test) == (("a",), ("b",), ())
    assert "1 photos are in no list of mine.yaml: c" in result.warning
    assert split(photo_set(SDD32), split_mode="file", split_file="sdd32").how == "sdd32 (shipped)"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('train: ["a"]\nval: ["a"]\n', "1 ids are listed twice: a"),
        ('train: ["a", "z"]\nval: ["b"]\n', "1 are no photo of the data set: z"),
        ('train: ["a"]\n', "is expected"),
        ('train: ["a"]\nval: [7]\n', "quote stems that look like numbers"),
        ('train: ["a"]\nval: ["b"]\nvalid: []\n', "unknown keys: valid"),
        ('train: ["a"]\nval: []\n', "1 train, 0 val"),
        ('train: ["a"]\ntrain: ["b"]\nval: ["c"]\n', "given twice"),
    ],
)
def test_split_file_errors(tmp_path, text, message):
    with pytest.raises(UserError, match=message):
        split(photo_set("abc"), split_mode="file", split_file=write(tmp_path, text))


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"split_file": "sdd32"}, "belong together"),
        ({"split_mode": "file"}, "belong together"),
        ({"split_mode": "file", "split_file": "sdd33"}, "neither a file nor one of sdd32"),
        ({"train_fraction": 0.9, "val_fraction": 0.2}, "add up to over 1"),
        ({"val_fraction": 0.0}, "must lie in 0..1"),
    ],
)
def test_settings_errors(settings, message):
    with pytest.raises(UserError, match=message):
        split(photo_set("abcdefgh"), **settings)


def test_shared_photos_are_split_by_place(real_data):
    result = split(find_photos(DataConfig(dataset_path=real_data / "sdd")))
    assert (len(result.train), len(result.val), len(result.test)) == (19, 6, 7)
