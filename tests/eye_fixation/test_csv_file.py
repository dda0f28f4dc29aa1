"""Reading a user's own samples and lists of fixations, and what is said about files that do not fit."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from eye_files import walk_rows, write_csv

from common.config import UserError
from eye_fixation.data.csv_file import read_fixations, read_samples
from eye_fixation.prepare_config import GazeConfig

PX = GazeConfig(screen_px=(800.0, 400.0))
Rows = Sequence[Sequence[object]]


def rows_of(*points: tuple[object, object], step: float = 0.1) -> list[list[object]]:
    return [[round(step * index, 6), x, y] for index, (x, y) in enumerate(points)]


GAZE = rows_of((200, 100), (400, 300), (790, 10), (100, 399))


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_separators_and_byte_order_mark(tmp_path: Path, separator: str, mark: str) -> None:
    file = write_csv(tmp_path / "gaze.csv", "t,X, y", GAZE, separator)
    file.write_text(mark + file.read_text(encoding="utf-8") + "\n\n", encoding="utf-8")
    (recording,) = read_samples(file, PX)
    assert recording.name == "gaze"
    assert recording.t == pytest.approx([0, 0.1, 0.2, 0.3])
    assert recording.x == pytest.approx([0.25, 0.5, 0.9875, 0.125])
    assert recording.y == pytest.approx([0.25, 0.75, 0.025, 0.9975])
    assert recording.valid.all()
    assert recording.sampling_hz == pytest.approx(10)
    assert recording.events is None


def test_optional_columns(tmp_path: Path) -> None:
    rows = [
        [0, 10, 10, 1, "b", "p", "cat", 1],
        [0, 20, 20, "true", "a", "q", "dog", "saccade"],
        [500, 30, 30, 0, "b", "p", "cat", 2],
        [500, "", 40, "False", "a", "q", "cat", ""],
        [1000, 900, 50, 1, "b", "p", "dog", "blink"],
        [1000, 70, 401, 1, "a", "q", "cat", 1],
    ]
    rows += [[1500 + 500 * k, 100, 100, 1, "a", "q", "cat", 1] for k in range(9)]
    file = write_csv(tmp_path / "two.csv", "t,x,y,valid,recording,subject,stimulus,event", rows)
    second, first = read_samples(file, GazeConfig(screen_px=(800.0, 400.0), time_unit="ms"))
    assert [(part.name, part.subject) for part in (second, first)] == [("b", "p"), ("a", "q")]
    assert second.t == pytest.approx([0, 0.5, 1.0])
    assert second.valid.tolist() == [True, False, False]
    assert first.valid.tolist() == [True, False, False] + [True] * 9
    assert (second.off_screen, first.off_screen) == (0, 1)
    assert first.events is not None
    assert first.events[:3].tolist() == [2, 0, 1]
    assert first.stimulus is not None
    assert first.stimulus[:2].tolist() == ["dog", "cat"]


def test_units_missing_value_and_clip(tmp_path: Path) -> None:
    rows = rows_of(*[(0.0, 0.0)] * 3, *[(5.0, -2.0)] * 6, (-90, 3), (-90, 3), (25.0, 1.0))
    file = write_csv(tmp_path / "d.csv", "t,x,y", rows)
    gaze = GazeConfig(
        units="deg", origin="bottom-left", screen_mm=(500.0, 250.0), distance_mm=600.0,
        missing_value=(-90.0, 3.0), offscreen="clip",
    )  # fmt: skip
    (recording,) = read_samples(file, gaze)
    assert recording.x[[0, 3]] == pytest.approx([0.5, 0.5 + 600 * np.tan(np.radians(5)) / 500])
    assert recording.y[3] == pytest.approx(0.5 + 600 * np.tan(np.radians(2)) / 250)
    assert recording.valid.tolist() == [True] * 9 + [False, False, True]
    assert recording.x[-1] == 1 - 1e-6


@pytest.mark.parametrize(
    ("header", "rows", "said"),
    [
        ("t,x", [[0, 1]], r"no column y; columns found: t, x"),
        ("t,x,x,y", [[0, 1, 1, 1]], "column x occurs twice"),
        ("t,x,y", [], "no rows"),
        ("t,x,y", [*GAZE, [0.4, "oops", 3]], r"row 6, column x: 'oops' is not a number"),
        ("t,x,y", [*GAZE, [0.4, 5]], r"row 6: 2 cells, the header has 3"),
        ("t,x,y", [*GAZE, ["", 5, 6]], r"row 6: column t: '' is no time"),
        ("t,x,y", [*GAZE, [0.3, 5, 6]], r"row 6: time 0\.3 does not follow 0\.3 of row 5"),
        ("t,x,y", [*GAZE, [0.2, 5, 6]], r"row 6: time 0\.2 does not follow 0\.3 of row 5"),
        ("t,x,y,valid", [[0, 9, 9, 1], [1, 9, 9, 7]], r"row 3, column valid: '7' is not 0, 1, true or false"),
        ("t,x,y,event", [[0, 9, 9, 1], [1, 9, 9, "nap"]], r"row 3, column event: 'nap' is not an event"),
        ("t,x,y,subject", [[0, 99, 9, "a"], [1, 99, 9, "b"]], r"row 3: recording g has subject 'a' and 'b'"),
        ("t,x,y", [[100 * k, 300, 100] for k in range(9)], r"step of 100 s is .*; --time-unit ms would fit"),
        ("t,x,y", [[1000 * k, 300, 100] for k in range(9)], r"--time-unit ms or --time-unit us would fit"),
        ("t,x,y", rows_of((0.2, 0.4), (0.9, 1.0)), r"all x and y are from 0 to 1.*--units norm"),
        ("t,x,y", rows_of(*[(-20, 15)] * 99, (70, 70)), r"99% of x and y are below 60.*--units deg"),
        ("t,x,y", rows_of(*[(200, 90)] * 3, (900, 9)),
         r"25\.0% of the gaze is off the screen \(x 200 to 900, y 9 to 90; screen_px"),
        ("t,x,y", rows_of(*[(200, 90)] * 99, (0, 0)), r"1\.0% of the samples .*--missing-value 0 0"),
        ("t,x,y", rows_of(*[(200, 90)] * 99, (-1, -1)), r"--missing-value -1 -1"),
    ],
)  # fmt: skip
def test_files_that_do_not_fit(tmp_path: Path, header: str, rows: Rows, said: str) -> None:
    file = write_csv(tmp_path / "g.csv", header, rows)
    with pytest.raises(UserError, match=said) as error:
        read_samples(file, PX)
    assert str(file) in str(error.value)


def test_unreadable_files(tmp_path: Path) -> None:
    (tmp_path / "latin.csv").write_bytes(b"t,x,y\n1,2,\xff\n")
    for name in ("latin.csv", "none.csv"):
        with pytest.raises(UserError, match=name):
            read_samples(tmp_path / name, PX)


def test_zero_may_be_gaze(tmp_path: Path) -> None:
    rows = rows_of(*[(200, 90)] * 9, (0, 0))
    file = write_csv(tmp_path / "g.csv", "t,x,y", rows)
    kept = read_samples(file, GazeConfig(screen_px=(800.0, 400.0), missing_value=(np.nan, np.nan)))
    assert kept[0].valid.all()
    lost = read_samples(file, GazeConfig(screen_px=(800.0, 400.0), missing_value=(0.0, 0.0)))
    assert lost[0].valid.sum() == 9


def test_few_lost_samples_are_no_reason_to_stop(tmp_path: Path) -> None:
    rows: list[list[Any]] = walk_rows(3)
    rows[7][1:] = [0, 0]
    (recording,) = read_samples(write_csv(tmp_path / "g.csv", "t,x,y", rows), PX)
    assert recording.valid.all()


def test_fixation_lists(tmp_path: Path) -> None:
    rows = [
        [400, 100, 200, "r", "p", "cat"], [80, 40, 300, "r", "p", "dog"], [900, 100, 150, "r", "p", "cat"],
        [300, 30, 90, "r", "q", "cat"], [300, 30, 90, "r", "q", "cat"],
    ]  # fmt: skip
    file = write_csv(tmp_path / "f.csv", "x,y,duration_ms,recording,subject,stimulus", rows)
    scanpaths = read_fixations(file, PX)
    assert [(path.name, path.subject, path.stimulus) for path in scanpaths] == [
        ("r", "p", "cat"), ("r", "p", "dog"), ("r", "q", "cat")
    ]  # fmt: skip
    first = scanpaths[0]
    assert first.duration_ms.tolist() == [200, 150]
    assert first.valid.tolist() == [True, False]
    assert first.off_screen == 1
    with pytest.raises(UserError, match=r"row 2: duration_ms '0' is not above 0"):
        read_fixations(write_csv(tmp_path / "z.csv", "x,y,duration_ms", [[300, 20, 0]]), PX)
    with pytest.raises(UserError, match="no column duration_ms"):
        read_fixations(write_csv(tmp_path / "z.csv", "x,y", [[300, 20]]), PX)
