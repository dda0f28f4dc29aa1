"""Keypoint files of every kind."""

from __future__ import annotations

import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from rodent_files import DataFolders

from common.config import UserError
from rodent_behavior.dlc import ALIASES, DEFAULT_KP_NAMES, normalise_name, read_dlc
from rodent_behavior.settings import IndexSettings


def write(path: Path, *rows: Sequence[object]) -> Path:
    return DataFolders.text(path, [",".join(map(str, row)) for row in rows])


def single(path: Path, names: Sequence[str], *rows: Sequence[object], scorer: str = "net") -> Path:
    cells = ["x", "y", "likelihood"]
    return write(
        path,
        ["scorer", *[scorer] * 3 * len(names)],
        ["bodyparts", *[name for name in names for _ in cells]],
        ["coords", *cells * len(names)],
        *rows,
    )


def test_points_come_in_the_asked_order(tmp_path: Path) -> None:
    path = single(tmp_path / "a.csv", ["b", "a"], [0, 1, 2, 0.5, 3, 4, 0.25], [1, 5, "", 1, "nan", 8, 0])
    pose = read_dlc(path, ["A", "b"])
    assert (pose.names, pose.scorer, pose.individuals, len(pose)) == (("a", "b"), "net", (), 2)
    np.testing.assert_array_equal(pose.xy, [[[3, 4], [1, 2]], [[np.nan, 8], [5, np.nan]]])
    np.testing.assert_array_equal(pose.likelihood, [[0.25, 0.5], [0, 1]])
    assert pose.xy.dtype == pose.likelihood.dtype == np.float64


@pytest.mark.parametrize(
    ("name", "normal"),
    [(" Left  Ear ", "left_ear"), ("Mid-Back", "mid_back"), ("a . / b", "a_b"), ("L_frontpaw", "l_frontpaw")],
)
def test_names_are_normalised(name: str, normal: str) -> None:
    assert normalise_name(name) == normal


def test_the_alias_table_is_the_documented_one() -> None:
    assert set(ALIASES) == set(DEFAULT_KP_NAMES)
    assert "tail" not in ALIASES["tail_base"]
    assert {"right_front", "rfp", "rf", "front_paw_r", "r_forepaw", "forepaw_r"} <= set(ALIASES["r_frontpaw"])
    assert {"rhindpaw", "rh", "right_back", "righthind", "hind_paw_r", "right_backpaw"} <= set(
        ALIASES["r_hindpaw"]
    )
    words = [word for accepted in ALIASES.values() for word in accepted]
    assert len(words) == len(set(words)) == 3 + 6 + 2 * 14 + 2 * 14
    assert not any(word[0] == "l" or "left" in word for word in ALIASES["r_frontpaw"] + ALIASES["r_hindpaw"])


def test_aliases_match_whole_names_only(tmp_path: Path) -> None:
    names = ["Nose", "Tail", "Tailbase", "Left Front-Paw", "RF", "left.back", "rhp", "nose_tip", "xmouth"]
    row = [0, *[value for k in range(len(names)) for value in (k, k, 1)]]
    pose = read_dlc(single(tmp_path / "a.csv", names, row), DEFAULT_KP_NAMES)
    assert pose.xy[0, :, 0].tolist() == [0, 2, 3, 4, 5, 6]


def test_a_typed_alias_wins(tmp_path: Path) -> None:
    path = single(tmp_path / "a.csv", ["nose", "snout tip", "tail"], [0, 1, 1, 1, 2, 2, 1, 3, 3, 1])
    pose = read_dlc(path, ["mouth", "tail_base"], aliases={"Snout-Tip": "mouth", "tail": "tail_base"})
    assert pose.xy[0, :, 0].tolist() == [2, 3]
    with pytest.raises(UserError, match="no column for mouth"):
        read_dlc(path, ["mouth", "tail_base"], aliases={"nose": "tail_base"})


def test_missing_and_doubled_points_are_named(tmp_path: Path) -> None:
    path = single(tmp_path / "a.csv", ["nose", "tail_bas"], [0, 1, 1, 1, 2, 2, 1])
    with pytest.raises(
        UserError, match=r"no column for tail_base; wanted mouth, tail_base.*near names: tail_bas"
    ):
        read_dlc(path, ["mouth", "tail_base"])
    double = single(tmp_path / "b.csv", ["nose", "snout"], [0, 1, 1, 1, 2, 2, 1])
    with pytest.raises(UserError, match="'nose' and 'snout' both mean mouth"):
        read_dlc(double, ["mouth", "snout_tip"])
    assert read_dlc(double, ["nose", "snout"]).xy[0, :, 0].tolist() == [1, 2]
    twice = single(tmp_path / "c.csv", ["nose", "nose"], [0, 1, 1, 1, 2, 2, 1])
    with pytest.raises(UserError, match="two columns hold x of nose"):
        read_dlc(twice, ["nose", "mouth"])


def test_scorers_and_parts_that_look_like_coordinates(tmp_path: Path) -> None:
    path = single(tmp_path / "a.csv", ["ear_x", "ear"], [0, 1, 2, 1, 3, 4, 1], scorer="net_x")
    assert read_dlc(path, ["ear", "ear_x"]).xy.tolist() == [[[3, 4], [1, 2]]]
    flat = write(tmp_path / "b.csv", ["ear_x_x", "ear_x_y", "ear_x", "ear_y", "area_x"], [1, 2, 3, 4, "big"])
    pose = read_dlc(flat, ["ear", "ear_x"])
    assert pose.xy.tolist() == [[[3, 4], [1, 2]]]
    assert pose.likelihood.tolist() == [[1, 1]]


def test_flat_tables_with_likelihood_and_index(tmp_path: Path) -> None:
    header = ["frame", "mouth_x", "mouth_y", "mouth_likelihood", "tail_x", "tail_y", "tail_likelihood"]
    path = write(tmp_path / "a.csv", header, [0, 1, 2, 0.5, 3, 4, 1], [1, 1, 2, 0.5, "", "", 0])
    pose = read_dlc(path, ["tail", "mouth"])
    assert pose.likelihood.tolist() == [[1, 0.5], [0, 0.5]]
    assert np.isnan(pose.xy[1, 0]).all()
    with pytest.raises(UserError, match=r"row 3: frame '2', 1 is expected"):
        read_dlc(write(tmp_path / "b.csv", header, [0, *[1] * 6], [2, *[1] * 6]), ["tail", "mouth"])


def test_several_animals(tmp_path: Path) -> None:
    path = write(
        tmp_path / "a.csv",
        ["scorer", *["net"] * 12],
        ["individuals", *["m1"] * 6, *["m2"] * 6],
        ["bodyparts", *["a", "a", "a", "b", "b", "b"] * 2],
        ["coords", *["x", "y", "likelihood"] * 4],
        [0, *range(12)],
    )
    with pytest.raises(UserError, match="several individuals: m1, m2; choose one with --individual"):
        read_dlc(path, ["a", "b"])
    with pytest.raises(UserError, match="--individual m3 is not in the file; its individuals: m1, m2"):
        read_dlc(path, ["a", "b"], individual="m3")
    pose = read_dlc(path, ["b", "a"], individual="m2")
    assert pose.xy.tolist() == [[[9, 10], [6, 7]]]
    assert pose.individuals == ("m1", "m2")
    alone = single(tmp_path / "b.csv", ["a", "b"], [0, *range(6)])
    with pytest.raises(UserError, match="none named"):
        read_dlc(alone, ["a", "b"], individual="m1")


@pytest.mark.parametrize("extra", [[], ["", ""]])
def test_hand_labels_have_paths_and_no_likelihood(tmp_path: Path, extra: list[str]) -> None:
    path = write(
        tmp_path / "CollectedData_me.csv",
        ["scorer", *extra, *["me"] * 4],
        ["bodyparts", *extra, "a", "a", "b", "b"],
        ["coords", *extra, "x", "y", "x", "y"],
        ["labeled-data", *["m", "img7.png"][: len(extra)], 1, 2, 3, ""],
    )
    pose = read_dlc(path, ["a", "b"])
    assert pose.likelihood.tolist() == [[1, 0]]
    assert pose.xy[0, 0].tolist() == [1, 2]
    assert pose.scorer == "me"


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([[0, 1, 2, 1, 3, "left", 1]], "row 4, column b y: 'left' is no number"),
        ([[0, 1, 2, 1, 3, 4, 1], [2, 1, 2, 1, 3, 4, 1]], "row 5: frame '2', 1 is expected"),
        ([[1, 1, 2, 1, 3, 4, 1]], "row 4: frame '1', 0 is expected"),
        ([["img", 1, 2, 1, 3, 4, 1]], "row 4: frame 'img'"),
        ([[0, 1, 2, 1, 3, 4]], "row 4: 6 cells, the header has 7"),
    ],
)
def test_bad_rows_are_named(tmp_path: Path, rows: list[list[object]], message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_dlc(single(tmp_path / "a.csv", ["a", "b"], *rows), ["a", "b"])


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([], "empty"),
        (["a,b", "1,2"], "neither the header rows"),
        (["scorer,s", "coords,x"], "header rows scorer, coords"),
        (["scorer,s,s", "bodyparts,a", "coords,x,y"], "no complete list of points"),
        (["scorer,s", "bodyparts,a", "coords,x", "0,1"], "no column holds y of a"),
        (
            ["scorer,s,s,s,s,s", "bodyparts,a,a,b,b,b", "coords,x,y,x,y,likelihood", "0,1,1,1,1,1"],
            "no column holds likelihood of a",
        ),
    ],
)
def test_bad_headers_are_named(tmp_path: Path, lines: list[str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        read_dlc(DataFolders.text(tmp_path / "a.csv", lines), ["a", "b"])


def test_h5_without_its_packages_names_them_and_the_csv(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "tables", None)
    (tmp_path / "a.h5").write_bytes(b"")
    with pytest.raises(UserError, match=r"needs the extra \[h5\] \(pandas and tables\)$"):
        read_dlc(tmp_path / "a.h5", ["a", "b"])
    (tmp_path / "a.csv").write_text("")
    with pytest.raises(UserError, match=r"\[h5\].*; a\.csv beside it"):
        read_dlc(tmp_path / "a.h5", ["a", "b"])


def test_h5_equals_csv(pain_assay: IndexSettings, tmp_path: Path) -> None:
    pytest.importorskip("tables", reason="the extra [h5] is not installed")
    (path,) = pain_assay.videos.glob("*.h5")
    first, second = (read_dlc(file, DEFAULT_KP_NAMES) for file in (path, path.with_suffix(".csv")))
    np.testing.assert_array_equal(first.xy, second.xy)
    np.testing.assert_array_equal(first.likelihood, second.likelihood)
    assert (first.scorer, first.individuals) == (second.scorer, second.individuals)
    (tmp_path / "bad.h5").write_bytes(b"no h5")
    with pytest.raises(UserError, match="cannot be read as h5"):
        read_dlc(tmp_path / "bad.h5", DEFAULT_KP_NAMES)


def test_real_tables(real_data: Path, pain_assay: IndexSettings) -> None:
    (path,) = pain_assay.videos.glob("*.csv")
    best = 1.0
    for _ in range(3):
        begin = time.process_time()
        pose = read_dlc(path, DEFAULT_KP_NAMES)
        best = min(best, time.process_time() - begin)
    assert best < 0.06
    assert pose.xy.shape == (1080, 6, 2)
    assert pose.likelihood.mean(axis=0)[:2] == pytest.approx([0.930, 0.992], abs=5e-4)
    steps = np.linalg.norm(np.diff(pose.xy[:, 1], axis=0), axis=1)
    assert [steps[359], steps[719], np.sort(steps)[-3]] == pytest.approx([167.317, 30.102, 6.494], abs=5e-4)
    other = read_dlc(real_data / "freezing_demo1" / "demo1_tracking.csv", ["mouth", "tail_base", "mid_back"])
    assert other.xy.shape == (6000, 3, 2)
    tail = read_dlc(real_data / "freezing_demo1" / "demo1_tracking.csv", ["tailbase", "tail"])
    np.testing.assert_array_equal(tail.xy[:, 0], other.xy[:, 1])
    assert np.abs(tail.xy[:, 1] - other.xy[:, 1]).max() > 1
    hand = read_dlc(real_data / "openfield_video" / "CollectedData_Pranav.csv", ["mouth", "tail_base"])
    assert hand.likelihood.all()
    assert hand.xy[0].tolist() == [[21.521, 265.428], [87.11, 152.69799999999998]]
