"""Label files and label maps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from common.config import UserError
from rodent_behavior.labels import UNKNOWN, Bout, LabelMap, bouts, count_classes, read_labels

MAP = LabelMap.default()


def write(path: Path, *lines: str, end: str = "\n", encoding: str = "utf-8") -> Path:
    path.write_bytes(end.join([*lines, ""]).encode(encoding))
    return path


def test_the_default_map_is_the_documented_one() -> None:
    raw = np.arange(8)
    assert MAP.merge(raw).tolist() == [0, 1, 2, 1, 3, 1, 4, 5]
    assert MAP.names == ("rest", "paw_withdraw", "paw_lick", "paw_shake", "walk", "active")
    assert MAP.merge(np.array(MAP.export)).tolist() == list(range(6))
    assert MAP.export == (0, 1, 2, 4, 6, 7)
    assert MAP.merge(np.array([-1, 5, -1])).tolist() == [-1, 1, -1]
    assert MAP.merge(np.zeros(0, dtype=np.int64)).shape == (0,)
    assert LabelMap.from_dict(MAP.to_dict()) == MAP
    with pytest.raises(ValueError, match="id 8 is not mapped"):
        MAP.merge(np.array([1, 8]))


def test_ids_names_and_unknown_frames_are_read(tmp_path: Path) -> None:
    cells = ["2", "2.0", "flinch", " PAW_LICK ", "-1", "", "-1.0", "7"]
    rows = [f"{row},{cell}" for row, cell in enumerate(cells)]
    labels = read_labels(write(tmp_path / "a.csv", "Frame,Action", *rows), MAP)
    assert labels.actions.tolist() == [2, 2, 1, 2, UNKNOWN, UNKNOWN, UNKNOWN, 5]
    assert labels.actions.dtype == np.int64
    assert (labels.first_frame, labels.stim_frame, labels.rows) == (0, 60, 8)


@pytest.mark.parametrize(("end", "encoding"), [("\n", "utf-8"), ("\r\n", "utf-8"), ("\r\n", "utf-8-sig")])
def test_line_ends_marks_case_and_other_columns_do_not_matter(
    tmp_path: Path, end: str, encoding: str
) -> None:
    path = write(
        tmp_path / "a.csv",
        "mouse, ACTION ,frame,LaserOn",
        "x,4,15,75",
        "y,0,16,99",
        end=end,
        encoding=encoding,
    )
    labels = read_labels(path, MAP)
    assert labels.actions.tolist() == [3, 0]
    assert (labels.first_frame, labels.stim_frame) == (15, 75)


@pytest.mark.parametrize(
    ("cell", "value"),
    [("2.5", "2.5"), ("nan", "nan"), ("8", "8"), ("inf", "inf"), ("rest?", "rest"), ("-2", "-2")],
)
def test_an_unknown_action_is_never_rest(tmp_path: Path, cell: str, value: str) -> None:
    path = write(tmp_path / "trial.csv", "Frame,Action", "0,0", f"1,{cell}", "2,0")
    with pytest.raises(UserError, match=rf"trial\.csv: row 3: Action '{value}"):
        read_labels(path, MAP)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["Frame,Class", "0,0"], "no column Action; the header is frame, class"),
        (["Action", "0"], "no column Frame"),
        (["Frame,Action,action", "0,0,0"], "more than one column Action"),
        (["Frame,Action", "0,0", "2,0"], "row 3: Frame 2 after 0: 1 is expected"),
        (["Frame,Action", "0,0", "0,0"], "row 3: Frame 0 after 0"),
        (["Frame,Action", "0.5,0"], "row 2: Frame '0.5'"),
        (["Frame,Action", "0"], "row 2: 1 cells, the header has 2"),
        (["Frame,Action"], "no row below the header"),
        ([], "empty"),
        (["Frame,Action,stim", "0,0,soon"], "row 2: stim 'soon'"),
    ],
)
def test_bad_tables_are_named(tmp_path: Path, lines: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_labels(write(tmp_path / "a.csv", *lines), MAP)


def test_a_file_that_is_no_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"Frame,Action\n0,\xff\xfe\n")
    with pytest.raises(UserError, match=r"a\.csv: cannot be read"):
        read_labels(tmp_path / "a.csv", MAP)
    with pytest.raises(UserError, match=r"b\.csv: cannot be read"):
        read_labels(tmp_path / "b.csv", MAP)


def test_a_label_map_is_loaded(tmp_path: Path) -> None:
    path = write(
        tmp_path / "map.yaml",
        "{classes: [other, freezing], background: other,",
        " raw: {0: other, 1: freezing, 4: other}, ignore: [-1, 9]}",
    )
    loaded = LabelMap.load(path)
    assert loaded.names == ("other", "freezing")
    assert loaded.export == (0, 1)
    table = write(tmp_path / "a.csv", "Frame,Action", "0,freezing", "1,4", "2,9", "3,1")
    assert read_labels(table, loaded).actions.tolist() == [1, 0, -1, 1]
    with pytest.raises(UserError, match="row 2: Action '2' is none of 0 other, 1 freezing, 4"):
        read_labels(write(tmp_path / "b.csv", "Frame,Action", "0,2"), loaded)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[1, 2]", "is expected"),
        ("{classes: [a, b], background: c, raw: {0: a, 1: b}}", "'c' is none of the classes"),
        ("{classes: [a, b], background: a, raw: {0: a, 1: d}}", "'d' is none of the classes"),
        ("{classes: [a, b], background: a, raw: {0: a}}", "raw maps no id to b"),
        ("{classes: [a, b], background: a, raw: {0: a, x: b}}", "raw: "),
        ("{classes: [a, b], background: a, raw: {0: a, 1: b}, ignore: [1]}", "ignore"),
        ("{classes: [a, b], background: a, raw: {0: a, 1: b}, other: 1}", "unknown keys: other"),
        ("{classes: [a", "map.yaml"),
    ],
)
def test_bad_label_maps_are_named(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        LabelMap.load(write(tmp_path / "map.yaml", content))


def test_bouts_are_maximal_runs_without_unknown_frames() -> None:
    actions = np.array([0, 0, 1, -1, 1, 1, 2])
    assert bouts(actions) == [Bout(0, 2, 0), Bout(2, 3, 1), Bout(4, 6, 1), Bout(6, 7, 2)]
    assert bouts(np.zeros(0, dtype=np.int64)) == []
    assert count_classes([actions, np.array([-1])], 4).tolist() == [2, 3, 1, 0]
    assert count_classes([], 2).tolist() == [0, 0]
