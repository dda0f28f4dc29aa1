import json
import os

import pytest
from PIL import Image

from common.config import UserError
from uav_landing.config import DataConfig
from uav_landing.data.layouts import LAYOUTS
from uav_landing.data.readers import default_root, find_photos
from uav_landing.labels import TABLES


def read(root, **settings):
    return find_photos(DataConfig(dataset_path=root, **settings))


def test_pairs_are_made_by_stem_and_deleting_a_mask_raises(sdd_root):
    photos = read(sdd_root)
    assert photos.format == "sdd"
    assert photos.ids == ("000", "001", "002", "003", "004", "005")
    assert all(pair.image.stem == pair.mask.stem == pair.id for pair in photos.pairs)
    (sdd_root / "label_images_semantic" / "002.png").unlink()
    with pytest.raises(UserError, match=r"1 of 6 images.*have no mask: 002; 0 of 5 masks"):
        read(sdd_root)


def test_mask_without_image_is_listed_with_the_count(sdd_root):
    for number in range(4):
        (sdd_root / "original_images" / f"{number:03d}.png").unlink()
    with pytest.raises(UserError, match=r"4 of 6 masks.*have no image: 000, 001, 002, 003"):
        read(sdd_root)


def test_at_most_ten_stems_are_listed(tmp_path, write_pair):
    for number in range(13):
        write_pair(
            tmp_path / "images" / f"{number:02d}.png", tmp_path / "gts" / f"{number:02d}.png", shape=(8, 8)
        )
    for number in range(12):
        (tmp_path / "gts" / f"{number:02d}.png").unlink()
    with pytest.raises(UserError, match=r"08, 09, \.\.\. 2 more"):
        read(tmp_path, label_table="sdd")


def test_suffix_case_does_not_matter_stem_case_does(sdd_root):
    image = sdd_root / "original_images" / "000.png"
    image.rename(image.with_suffix(".PNG"))
    assert len(read(sdd_root).ids) == 6
    image.with_suffix(".PNG").rename(image.with_name("A.png"))
    mask = sdd_root / "label_images_semantic" / "000.png"
    mask.rename(mask.with_name("a.png"))
    with pytest.raises(UserError, match="no mask: A"):
        read(sdd_root)


def test_a_stem_given_twice_is_an_error(sdd_root):
    (sdd_root / "original_images" / "000.jpg").write_bytes(b"x")
    with pytest.raises(UserError, match="1 stems are given twice: 000"):
        read(sdd_root)


@pytest.mark.parametrize("above", ["", "dataset", "."])
def test_sdd_root_may_be_one_or_two_levels_up(tmp_path, sdd_root, above):
    inner = tmp_path / "kaggle" / "dataset" / "semantic_drone_dataset"
    inner.parent.mkdir(parents=True)
    sdd_root.rename(inner)
    root = {"": inner, "dataset": tmp_path / "kaggle" / "dataset", ".": tmp_path / "kaggle"}[above]
    assert read(root).root == inner


def class_lines():
    rows = [f"{item.name},{','.join(map(str, item.rgb))}" for item in TABLES["sdd"].classes]
    return ["name, r, g, b", *rows]


def test_class_list_of_the_data_set_is_checked(sdd_root):
    path = sdd_root / "class_dict_seg.csv"
    path.write_text("\n".join(class_lines()))
    read(sdd_root)
    lines = class_lines()
    lines[3], lines[5] = lines[5], lines[3]
    path.write_text("\n".join(lines))
    with pytest.raises(UserError, match=r"class_dict_seg\.csv: disagrees.*id 2.*gravel.*id 4.*dirt"):
        read(sdd_root)


def test_tugraz(tmp_path, write_pair):
    base = tmp_path / "training_set"
    write_pair(base / "images" / "000.png", base / "gt" / "semantic" / "label_images" / "000.png")
    photos = read(tmp_path)
    assert (photos.format, photos.table.name, photos.ids) == ("sdd_tugraz", "sdd", ("000",))


def write_udd(root, write_pair, mode="RGB"):
    for part, stem in (("train", "a"), ("train", "b"), ("val", "a")):
        mask = root / part / "gt" / f"{stem}.png"
        write_pair(root / part / "src" / f"{stem}.JPG", mask, ids=(0, 1))
        Image.open(mask).convert(mode).save(mask)


def test_udd6_keeps_its_published_split_and_tells_equal_stems_apart(tmp_path, write_pair):
    write_udd(tmp_path / "UDD6", write_pair)
    photos = read(tmp_path)
    assert photos.ids == ("b", "train/a", "val/a")
    assert photos.official == {"train": ("b", "train/a"), "val": ("val/a",), "test": ()}


def test_udd6_id_masks_need_a_named_table(tmp_path, write_pair):
    write_udd(tmp_path, write_pair, mode="L")
    with pytest.raises(UserError, match=r"3 masks hold ids.*--label-table"):
        read(tmp_path)
    assert read(tmp_path, label_table="udd6").format == "udd6"


def test_dronedeploy_pairs_by_scene(tmp_path, write_pair):
    for scene in ("x_1", "y_2"):
        write_pair(tmp_path / "images" / f"{scene}-ortho.tif", tmp_path / "labels" / f"{scene}-label.png")
    (tmp_path / "index.csv").write_text("good x_1 a\ngood z_3 b\n")
    photos = read(tmp_path)
    assert (photos.format, photos.ids) == ("dronedeploy", ("x_1", "y_2"))
    assert len(photos.notes) == 2
    assert "z_3" in photos.notes[0]
    assert "y_2" in photos.notes[1]
    (tmp_path / "labels" / "y_2-label.png").rename(tmp_path / "labels" / "y_2.png")
    with pytest.raises(UserError, match=r"do not end in -label: y_2\.png"):
        read(tmp_path)


def write_aeroscapes(root, write_pair, train, val):
    for stem in ("001_1", "001_2", "002_1"):
        write_pair(
            root / "JPEGImages" / f"{stem}.jpg", root / "SegmentationClass" / f"{stem}.png", ids=(0, 1)
        )
    (root / "ImageSets").mkdir()
    (root / "ImageSets" / "trn.txt").write_text(train)
    (root / "ImageSets" / "val.txt").write_text(val)


def test_aeroscapes_official_lists(tmp_path, write_pair):
    write_aeroscapes(tmp_path, write_pair, "001_2\n001_1\n", "002_1\n")
    photos = read(tmp_path)
    assert photos.official == {"train": ("001_2", "001_1"), "val": ("002_1",), "test": ()}


def test_aeroscapes_lists_must_name_photos(tmp_path, write_pair):
    write_aeroscapes(tmp_path, write_pair, "001_1\n009_9\n", "002_1\n001_1\n")
    with pytest.raises(UserError, match="1 stems have no photo: 009_9; 1 are in both lists: 001_1"):
        read(tmp_path)


def write_sequence(folder, write_pair, stem, config=None, masks="gts"):
    write_pair(folder / "images" / f"{stem}.jpg", folder / masks / f"{stem}.png")
    if config is not None:
        (folder / "config.ini").write_text(config)


def test_folder_reads_sequences_with_their_settings(tmp_path, write_pair):
    write_sequence(
        tmp_path / "seq5", write_pair, "043", "[SETTINGS]\nR_LANDING = 120\nDATASET = graz\nFPS = 3\n"
    )
    write_sequence(
        tmp_path / "seq6", write_pair, "000", "[SETTINGS]\nR_LANDING = 250\nDATASET = graz\n", "masks"
    )
    photos = read(tmp_path)
    assert (photos.format, photos.table.name) == ("folder", "sdd")
    assert photos.landing_radius == {"043": 120.0, "000": 250.0}
    assert [pair.group for pair in photos.pairs] == ["seq6", "seq5"]
    assert any("fps" in note for note in photos.notes)


def test_folder_equal_stems_get_the_sequence_name(tmp_path, write_pair):
    write_sequence(tmp_path / "a", write_pair, "1")
    write_sequence(tmp_path / "b", write_pair, "1")
    write_sequence(tmp_path / "c", write_pair, "2")
    assert read(tmp_path, label_table="sdd").ids == ("2", "a/1", "b/1")


def test_folder_needs_to_know_what_masks_mean(tmp_path, write_pair):
    write_sequence(tmp_path, write_pair, "1")
    with pytest.raises(UserError, match="--label-table"):
        read(tmp_path)
    write_sequence(tmp_path, write_pair, "1", "[SETTINGS]\nDATASET = mars\n")
    with pytest.raises(UserError, match="--label-table"):
        read(tmp_path)


@pytest.mark.parametrize("radius", ["-3", "wide", "nan"])
def test_folder_radius_must_be_positive(tmp_path, write_pair, radius):
    write_sequence(tmp_path, write_pair, "1", f"[SETTINGS]\nDATASET=graz\nR_LANDING={radius}\n")
    with pytest.raises(UserError, match=f"R_LANDING = {radius}"):
        read(tmp_path)


def test_folder_sequence_without_masks_is_an_error(tmp_path, write_pair):
    write_sequence(tmp_path / "a", write_pair, "1")
    (tmp_path / "b" / "images").mkdir(parents=True)
    with pytest.raises(UserError, match="has images but none of gts, masks, labels"):
        read(tmp_path, label_table="sdd")


def test_unrecognised_root_lists_what_every_layout_looks_for(tmp_path):
    with pytest.raises(UserError, match="suits no layout") as error:
        read(tmp_path)
    for layout in LAYOUTS.values():
        assert layout.looks_for in str(error.value)


def test_ambiguous_root_is_an_error(sdd_root, write_pair):
    write_sequence(sdd_root, write_pair, "1")
    with pytest.raises(UserError, match=r"several layouts \(sdd, folder\)"):
        read(sdd_root)
    assert read(sdd_root, dataset_format="sdd").format == "sdd"


def test_wrong_named_layout(sdd_root):
    with pytest.raises(UserError, match="not in the layout udd6"):
        read(sdd_root, dataset_format="udd6")


def test_absent_root_says_how_to_try_without_data(tmp_path, monkeypatch):
    monkeypatch.setenv("UAV_LANDING_DATASET", str(tmp_path / "nowhere"))
    with pytest.raises(UserError, match="--dataset-format synthetic") as error:
        find_photos(DataConfig())
    assert str(tmp_path / "nowhere") in str(error.value)
    assert "original_images/" in str(error.value)


def test_documented_root(monkeypatch):
    monkeypatch.delenv("UAV_LANDING_DATASET", raising=False)
    expected = "datasets/Aerial_Semantic_Segmentation_Drone_Dataset/dataset/semantic_drone_dataset"
    assert str(default_root()).endswith(os.path.join("uav_landing", *expected.split("/")))


def test_tolerance_range(sdd_root):
    with pytest.raises(UserError, match="--color-tolerance 21"):
        read(sdd_root, color_tolerance=21)


def test_mapping_file_is_applied(sdd_root, tmp_path):
    table = read(sdd_root).table
    path = tmp_path / "map.yaml"
    path.write_text(json.dumps({item.id: item.landing for item in table.classes} | {9: 3}).replace('"', ""))
    assert read(sdd_root, mapping=path).table == table.with_mapping(
        {item.id: item.landing for item in table.classes} | {9: 3}
    )


def test_synthetic_writes_once_and_reads(tmp_path, monkeypatch, write_pair):
    calls = []

    def write_scenes(root, count=12, seed=0):
        calls.append(root)
        for number in range(count):
            write_pair(
                root / "original_images" / f"{number:03d}.png",
                root / "label_images_semantic" / f"{number:03d}.png",
            )

    monkeypatch.setattr("uav_landing.synthetic.write_scenes", write_scenes)
    root = tmp_path / "new" / "scenes"
    photos = read(root, dataset_format="synthetic")
    assert (photos.format, len(photos.ids), photos.root) == ("synthetic", 12, root)
    assert read(root, dataset_format="synthetic").ids == photos.ids
    assert len(calls) == 1


def test_synthetic_leaves_other_data_alone(tmp_path):
    (tmp_path / "keep.txt").write_text("mine")
    with pytest.raises(UserError, match="not in the layout synthetic"):
        read(tmp_path, dataset_format="synthetic")
    assert [path.name for path in tmp_path.iterdir()] == ["keep.txt"]


def test_shared_photos(real_data):
    sdd, frames = read(real_data / "sdd"), read(real_data / "aeroscapes")
    assert (len(sdd.ids), sdd.table.name, set(sdd.landing_radius.values())) == (32, "sdd", {120.0, 250.0})
    assert (len(frames.ids), frames.table.name) == (10, "aeroscapes")
    assert {pair.group for pair in frames.pairs} == {"seq1"}
