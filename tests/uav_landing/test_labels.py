import cv2
import numpy as np
import pytest

from common.config import UserError
from uav_landing.labels import (
    IGNORE,
    TABLES,
    FineClass,
    LabelTable,
    load_mapping,
    load_table,
    target_lookup,
)

LANDING = {
    "sdd": "011113232233333333333230",
    "udd6": "031232",
    "aeroscapes": "033333333210",
    "landing4": "0123",
}
GREY = {
    "udd6": [(0,), (108,), (90,), (119,), (16,), (70,)],
    "dronedeploy": [(105,), (91, 92), (81,), (132,), (155,), (255,), (99,)],
}


@pytest.mark.parametrize("name", LANDING)
def test_tables_map_every_id_to_the_published_landing_class(name):
    table = TABLES[name]
    assert "".join(str(item.landing) for item in table.classes) == LANDING[name]
    assert table.ids == tuple(range(len(LANDING[name])))
    assert (table.lookup()[len(LANDING[name]) :] == IGNORE).all()


def test_dronedeploy_ignore_stays_ignored():
    assert TABLES["dronedeploy"].lookup()[:7].tolist() == [255, 3, 2, 2, 3, 1, 3]


def test_dirt_and_gravel_are_not_swapped():
    sdd = {item.name: item for item in TABLES["sdd"].classes}
    assert (sdd["dirt"].id, sdd["dirt"].rgb) == (2, (130, 76, 0))
    assert (sdd["gravel"].id, sdd["gravel"].rgb) == (4, (112, 103, 87))


@pytest.mark.parametrize("name", GREY)
def test_palette_has_the_grey_bytes_that_identify_the_published_colours(name):
    table = TABLES[name]
    colors = table.palette()[None, : len(table.ids)]
    grey = cv2.cvtColor(np.ascontiguousarray(colors), cv2.COLOR_RGB2GRAY)[0]
    for value, allowed in zip(grey.tolist(), GREY[name], strict=True):
        assert value in allowed


def test_targets_with_and_without_void():
    kept, kept_ids = target_lookup(TABLES["sdd"], "train")
    assert kept_ids == [0, 1, 2, 3]
    assert kept[[0, 1, 6, 15, 23, 24, 255]].tolist() == [0, 1, 2, 3, 0, 255, 255]
    dropped, dropped_ids = target_lookup(TABLES["sdd"], "ignore")
    assert dropped_ids == [1, 2, 3]
    assert dropped[[0, 1, 6, 15, 23, 24, 255]].tolist() == [255, 0, 1, 2, 255, 255, 255]
    assert target_lookup(TABLES["dronedeploy"], "train")[0][0] == 255


def test_mapping_changes_landing_classes_but_not_what_masks_mean():
    table = TABLES["udd6"]
    cautious = table.with_mapping({0: 0, 1: 3, 2: 2, 3: 2, 4: 3, 5: 3})
    assert cautious.lookup()[:6].tolist() == [0, 3, 2, 2, 3, 3]
    assert cautious.table_hash == table.table_hash
    assert cautious.mapping_hash != table.mapping_hash


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({0: 1}, "void cannot be safe"),
        ({23: 1}, "void cannot be safe"),
        ({5: 4}, "landing classes are 0, 1, 2, 3"),
        ({24: 1}, r"not in the table \[24\]"),
    ],
)
def test_mapping_refuses_a_safe_void_and_foreign_values(change, message):
    table = TABLES["sdd"]
    mapping = {item.id: item.landing for item in table.classes} | change
    with pytest.raises(UserError, match=message):
        table.with_mapping(mapping)


def test_mapping_must_cover_every_id():
    with pytest.raises(UserError, match=r"without a landing class \[4, 5\]"):
        TABLES["udd6"].with_mapping({0: 0, 1: 3, 2: 1, 3: 2})


def test_an_always_ignored_class_cannot_be_revived():
    mapping = {0: 0, 1: 3, 2: 2, 3: 2, 4: 3, 5: 1, 6: 3}
    assert TABLES["dronedeploy"].with_mapping(mapping).lookup()[0] == IGNORE
    with pytest.raises(UserError, match="always ignored"):
        TABLES["dronedeploy"].with_mapping(mapping | {0: 3})


def test_mapping_file(tmp_path):
    path = tmp_path / "map.yaml"
    path.write_text("{0: 0, 1: 3, 2: 1, 3: 2, 4: 3, 5: 3}")
    assert load_mapping(path, TABLES["udd6"])[5] == 3
    path.write_text("{0: 1, 1: 3, 2: 1, 3: 2, 4: 3, 5: 3}")
    with pytest.raises(UserError, match=r"map\.yaml.*void cannot be safe"):
        load_mapping(path, TABLES["udd6"])
    path.write_text("0: 0\n1: yes\n")
    with pytest.raises(UserError, match="whole numbers"):
        load_mapping(path, TABLES["udd6"])
    path.write_text("0: 0\n1: 3\n1: 2\n")
    with pytest.raises(UserError, match=r"1 is given twice(.|\n)*line 3"):
        load_mapping(path, TABLES["udd6"])


def test_user_table(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_text(
        "- {id: 4, name: lawn, rgb: [0, 200, 0], landing: 1}\n"
        "- {id: 9, name: pond, rgb: [0, 0, 9], landing: 3}\n"
    )
    table = load_table(path)
    assert (table.name, table.ids, table.name_of(9)) == ("mine", (4, 9), "pond")
    assert table.lookup()[[4, 9, 0]].tolist() == [1, 3, IGNORE]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ("- {id: 1, name: a, rgb: [0, 0, 0]}", "entry 0.*id, name, rgb, landing"),
        ("- {id: 1, name: a, rgb: [0, 0], landing: 1}", "three whole numbers"),
        ("- {id: 255, name: a, rgb: [0, 0, 0], landing: 1}", "ids are 0..254"),
        ("- {id: 1, name: a, rgb: [0, 0, 0], landing: 7}", "landing 7"),
        ("- {id: 1, name: Unlabeled, rgb: [0, 0, 0], landing: 1}", "void cannot be safe"),
        ("hello", "a list of"),
    ],
)
def test_user_table_errors(tmp_path, rows, message):
    path = tmp_path / "mine.yaml"
    path.write_text(rows)
    with pytest.raises(UserError, match=message):
        load_table(path)


@pytest.mark.parametrize(
    ("second", "message"),
    [((1, "b", (9, 9, 9), 1), "id given twice"), ((2, "b", (0, 0, 0), 1), "colour given twice")],
)
def test_duplicates_are_errors(second, message):
    with pytest.raises(UserError, match=message):
        LabelTable("t", (FineClass(1, "a", (0, 0, 0), 1), FineClass(*second)))


def test_unknown_table_name():
    with pytest.raises(UserError, match="neither one of sdd, udd6"):
        load_table("sdd6")
