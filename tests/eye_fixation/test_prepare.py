"""The command that writes data files, from every source, and the flags that cannot act."""

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from eye_files import irf_samples, walk_rows, write_csv, write_irf, write_osie

from eye_fixation.data.pt import load_folder, load_oracle
from eye_fixation.frames import create_sparse_frames
from eye_fixation.labels import SACCADE
from eye_fixation.synthetic import Simulator

Prepare = Callable[..., Any]
CSV = "--source csv --rate-hz 20 --screen-px 800 400"
HEADER = "t,x,y,recording,subject,stimulus"


def recordings(path: Path, names: str = "abcde", seconds: float = 8) -> Path:
    """Write recordings of two subjects; the stimulus changes every two seconds."""
    rows = []
    for number, name in enumerate(names):
        for t, x, y in walk_rows(seconds, seed=number):
            rows.append([t, x, y, name, f"p{number % 2}", f"image {number}{int(t // 2)}"])
    return write_csv(path, HEADER, rows)


@pytest.fixture
def osie(tmp_path: Path) -> Path:
    """Five images, four subjects, six fixations of 500 ms each; the last subject stops after one second."""
    random = np.random.default_rng(0)
    images = []
    for number in range(5):
        people = []
        for subject in range(4):
            count = 2 if subject == 3 else 6
            points = random.uniform(10, 590, (2, count))
            people.append((*points, np.full(count, 500, np.uint16)))
        images.append((f"{1001 + number}.jpg", people))
    return write_osie(tmp_path / "fixations.mat", images)


def test_without_arguments_simulated_data(
    prepare: Prepare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    said = prepare("--n-train 12 --n-val 5 --n-test 6 --img-size 8")
    assert (said.code, said.err) == (0, "")
    assert "sim field  simulated  seed 0" in said.out
    assert "real" not in said.out
    splits = load_folder(tmp_path / "data")
    assert [len(part) for part in splits] == [12, 5, 6]
    simulator = Simulator("field", 0, 8)
    for number, part in enumerate(splits):
        expected = torch.as_tensor(simulator.sample(len(part), 20, number)).float()
        assert torch.equal(part.coordinates, expected)
    metadata = splits.val.metadata
    assert (metadata.source, metadata.rate_hz, metadata.split, metadata.img_size) == (
        "simulated",
        None,
        "val",
        8,
    )
    assert metadata.command == "eye-fixation prepare --img-size 8 --n-train 12 --n-val 5 --n-test 6"
    oracle = load_oracle(tmp_path / "data", "test")
    assert oracle is not None
    assert oracle["transition"] == pytest.approx(simulator.transition, abs=1e-6)
    assert oracle["transition"].dtype == torch.float32
    assert oracle["start"].shape == (64,)


def test_field_per_split(prepare: Prepare, tmp_path: Path) -> None:
    said = prepare(
        "--field-per-split --sim-seed 3 --n-train 3 --n-val 3 --n-test 3 --img-size 6 --out", tmp_path
    )
    assert said.code == 0
    tables = [load_oracle(tmp_path, split) for split in ("train", "val", "test")]
    for split, table in enumerate(tables):
        assert table is not None
        expected = Simulator("field", 3, 6, split).transition
        assert table["transition"] == pytest.approx(expected, abs=1e-6)
    assert tables[0] is not None
    assert tables[1] is not None
    assert not torch.equal(tables[0]["transition"], tables[1]["transition"])


def test_existing_files_and_dry_run(prepare: Prepare, tmp_path: Path) -> None:
    small = "--n-train 4 --n-val 3 --n-test 3 --img-size 4 --out"
    dry = prepare("--dry-run", small, tmp_path / "data")
    assert dry.code == 0
    assert "train 4  val 3  test 3" in dry.out
    assert not (tmp_path / "data").exists()
    assert prepare(small, tmp_path / "data").code == 0
    again = prepare(small, tmp_path / "data")
    assert again.code == 2
    assert "--overwrite replaces them" in again.err
    assert prepare("--overwrite --sim-seed 1", small, tmp_path / "data").code == 0


def test_recordings_of_a_table(prepare: Prepare, tmp_path: Path) -> None:
    file = recordings(tmp_path / "gaze.csv")
    said = prepare(CSV, "--input", file, "--out", tmp_path / "data")
    assert (said.code, said.err) == (0, "")
    assert "csv  real  5 recordings  4,000 samples  0 invalid  0 off screen" in said.out
    splits = load_folder(tmp_path / "data")
    # 160 frames each, windows at 0, 7, ... 140; units a b c | d | e.
    assert [len(part) for part in splits] == [63, 21, 21]
    manifest = json.loads((tmp_path / "data" / "manifest.json").read_text())
    assert manifest["names"]["recording"] == list("abcde")
    assert manifest["names"]["subject"] == ["p0", "p1"]
    assert list(manifest["inputs"]) == ["gaze.csv"]
    assert manifest["counts"]["train"] == 63
    test = splits.test
    assert test.recording is not None
    assert test.start_s is not None
    assert test.recording.unique().tolist() == [4]
    assert test.start_s[:3].tolist() == pytest.approx([0, 0.35, 0.7])
    # Frame 7 k + 3 of recording e shows the sample at its centre, 5 (7 k + 3) + 2.
    rows = np.array(walk_rows(8, seed=4))
    row = 5 * (7 * 2 + 3) + 2
    assert test.coordinates[2, 3].tolist() == pytest.approx(
        [rows[row, 1] / 25, rows[row, 2] / 12.5], abs=1e-4
    )
    assert (test.metadata.source, test.metadata.rate_hz, test.metadata.split_by) == (
        "real",
        20.0,
        "recording",
    )


def test_axes_survive_a_screen_that_is_not_square(prepare: Prepare, tmp_path: Path) -> None:
    # An L: right along the top, then down the right side, of a screen twice as wide as high.
    path = [(100 + 60 * k, 20) for k in range(11)] + [(790, 20 + 35 * k) for k in range(11)]
    rows = [[k / 20, *path[k % 22], name] for name in "abc" for k in range(22)]
    for number, row in enumerate(rows):
        row[1] = float(row[1]) - number // 22
    file = write_csv(tmp_path / "l.csv", "t,x,y,recording", rows)
    assert prepare(CSV, "--seq-len 22 --img-size 8 --input", file, "--out", tmp_path / "data").code == 0
    (test,) = load_folder(tmp_path / "data")[2:]
    frames = create_sparse_frames(test.coordinates, test.mask, 8)[0, :, 0]
    assert frames[:11].nonzero()[:, 1].unique().tolist() == [0]
    assert frames[11:].nonzero()[:, 2].unique().tolist() == [7]
    assert (frames[11:].nonzero()[:, 1].diff() >= 0).all()
    assert frames[-1].nonzero().tolist() == [[7, 7]]


@pytest.mark.parametrize("names", ["a", "ab"])
def test_few_recordings_are_split_by_time(prepare: Prepare, tmp_path: Path, names: str) -> None:
    file = recordings(tmp_path / "gaze.csv", names, seconds=30)
    said = prepare(CSV, "--split-sizes .6 .2 .2 --hop 1 --input", file, "--out", tmp_path / "data")
    assert said.code == 0
    assert "split    by time" in said.out
    splits = load_folder(tmp_path / "data")
    # 600 frames less two gaps of 20: blocks of 336, 112 and 112 frames.
    assert [len(part) for part in splits] == [len(names) * (size - 19) for size in (336, 112, 112)]
    starts = [part.start_s for part in splits]
    for before, after in pairwise(starts):
        assert before is not None
        assert after is not None
        assert after.min() - (before.max() + 1) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("words", "unit", "counts", "groups"),
    [
        # Each of 20 stimuli is seen for 40 frames: windows at 0, 5, ... 20.
        ("--split image --hop 5", "image", [70, 10, 20], [14, 2, 4]),
        ("--split random --hop 20", "random", [28, 4, 8], None),
        ("--split recording --split-sizes .2 .4 .4", "recording", [21, 42, 42], [1, 2, 2]),
        ("--exclude a d", "recording", [21, 21, 21], [1, 1, 1]),
    ],
)
def test_splits_of_recordings(
    prepare: Prepare, tmp_path: Path, words: str, unit: str, counts: list[int], groups: list[int] | None
) -> None:
    file = recordings(tmp_path / "gaze.csv")
    assert prepare(CSV, words, "--input", file, "--out", tmp_path / "data").code == 0
    splits = load_folder(tmp_path / "data")
    assert splits.train.metadata.split_by == unit
    assert [len(part) for part in splits] == counts
    found = [len(part.group.unique()) for part in splits if part.group is not None]
    assert groups is None or found == groups


def test_two_subjects_are_no_three_splits(prepare: Prepare, tmp_path: Path) -> None:
    said = prepare(CSV, "--split subject --input", recordings(tmp_path / "gaze.csv"))
    assert said.code == 2
    assert "--split subject: 2 subjects (p0, p1), three are needed" in said.err
    plain = write_csv(tmp_path / "plain.csv", "t,x,y", walk_rows(8))
    assert "recording plain has no column stimulus" in prepare(CSV, "--split image --input", plain).err


def test_several_files(prepare: Prepare, tmp_path: Path) -> None:
    files = [recordings(tmp_path / f"{name}.csv", names) for name, names in (("one", "abcd"), ("two", "ab"))]
    short = write_csv(tmp_path / "short.csv", "t,x,y", walk_rows(0.5))
    said = prepare(CSV, "--dry-run --input", files[0], short)
    assert said.code == 0
    assert "1 recordings too short (short)" in said.out
    # Both files have recordings a and b, with the same gaze, which are told apart by the files' names.
    said = prepare(CSV, "--split-sizes .4 .2 .4 --dry-run --input", *files)
    assert said.code == 2
    assert "42 sequences are identical in train and in test" in said.err
    said = prepare(CSV, "--exclude two/a two/b --dry-run --input", *files)
    assert said.code == 0
    assert "frames   640  20 Hz  0 invalid (one/a 0, one/b 0, one/c 0, one/d 0)" in said.out


def test_time_that_jumps(prepare: Prepare, tmp_path: Path) -> None:
    rows = [*walk_rows(2), [1.7e9, 300, 100]]
    said = prepare(CSV, "--input", write_csv(tmp_path / "g.csv", "t,x,y", rows))
    assert said.code == 2
    assert (
        "recording g: 201 samples would be 3.4e+10 frames; the time jumps from 1.99 to 1.7e+09 s" in said.err
    )


def test_missing_samples_mask_frames(prepare: Prepare, tmp_path: Path) -> None:
    rows = [[t, x, y, name] for name in "abc" for t, x, y in walk_rows(6, seed=ord(name))]
    for row in rows:
        if 2.0 <= float(row[0]) < 2.1:
            row[1] = ""
    file = write_csv(tmp_path / "gaze.csv", "t,x,y,recording", rows)
    said = prepare(CSV, "--input", file, "--dry-run")
    assert "6 invalid (a 2, b 2, c 2)" in said.out
    # Windows at 0, 7, ... 98; 40 and 41 are lost: 40 in the window from 21, both in those from 28 and 35.
    assert "36 of 20 frames  hop 7  9 dropped" in said.out
    said = prepare(CSV, "--min-valid .9 --input", file, "--out", tmp_path / "data")
    splits = load_folder(tmp_path / "data")
    assert [len(part) for part in splits] == [15, 15, 15]
    lost = ~splits.train.mask
    assert lost.sum() == 5
    assert (splits.train.coordinates[lost] == 0).all()


def test_lists_of_fixations(prepare: Prepare, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    rows = [
        [*random.uniform([0, 0], [799, 399]).round(1), 300, f"p{subject}", f"image {image}"]
        for image in range(4) for subject in range(3) for _ in range(8)
    ]  # fmt: skip
    file = write_csv(tmp_path / "fix.csv", "x,y,duration_ms,subject,stimulus", rows)
    words = ("--source fixations --screen-px 800 400 --split image --input", file)
    said = prepare(*words, "--out", tmp_path / "time")
    assert said.code == 0
    assert "12 scanpaths  96 fixations" in said.out
    splits = load_folder(tmp_path / "time")
    assert [len(part) for part in splits] == [6, 3, 3]
    assert splits.train.metadata.rate_hz == 10
    # Fixations of 300 ms: frames 0 to 2 show the first, 3 to 5 the second.
    assert splits.train.coordinates[0, [0, 2, 3]].tolist() == [
        pytest.approx([rows[k][0] / 25, rows[k][1] / 12.5], abs=1e-4) for k in (0, 0, 1)
    ]
    assert prepare(*words, "--frames fixation --seq-len 8 --out", tmp_path / "each").code == 0
    each = load_folder(tmp_path / "each").train
    assert (each.metadata.rate_hz, each.start_s) == (None, None)
    expected = [pytest.approx([x / 25, y / 12.5], abs=1e-4) for x, y, *_ in rows[:8]]
    assert each.coordinates[0].tolist() == expected


def test_osie_file(prepare: Prepare, osie: Path, tmp_path: Path) -> None:
    said = prepare("--source osie --input", osie, "--out", tmp_path / "data")
    assert said.code == 0
    assert "20 scanpaths  100 fixations" in said.out
    assert "5 scanpaths too short (1001/03" in said.out
    splits = load_folder(tmp_path / "data")
    assert [len(part) for part in splits] == [9, 3, 3]
    assert splits.test.metadata.split_by == "image"
    said = prepare("--source osie --split subject --exclude 1003.jpg --dry-run --input", osie)
    assert "split    by subject  train 4  val 4  test 4" in said.out
    said = prepare("--source osie --hop 5 --dry-run --input", osie)
    assert "45 of 20 frames  hop 5" in said.out


@pytest.fixture
def irf(tmp_path: Path) -> Path:
    """Six recordings of ten seconds, of which S2 is short."""
    return write_irf(
        tmp_path / "irf",
        {f"S{n}": irf_samples(600 if n == 2 else 10_000, seed=n) for n in range(1, 7)},
    )


def test_irf_folder(prepare: Prepare, irf: Path, tmp_path: Path) -> None:
    said = prepare("--source irf --events ivt --input", irf, "--out", tmp_path / "data")
    assert said.code == 0
    assert "excluded S3" in said.out
    assert "1 recordings too short (S2)" in said.out
    splits = load_folder(tmp_path / "data")
    # 200 frames: windows at 0, 7, ... 175.
    assert [len(part) for part in splits] == [2 * 26, 26, 26]
    assert splits.val.events is not None
    assert 0 < (splits.val.events == SACCADE).double().mean() < 0.3
    # A jump every 300 ms is every 6 frames.
    assert splits.val.metadata.stimulus_period == 6
    assert "warning  --hop 7: the stimulus repeats every 6 frames" in said.out
    said = prepare("--source irf --exclude none --events idt --dry-run --input", irf)
    assert "train 78  val 26  test 26" in said.out
    said = prepare("--source irf --exclude S9 --dry-run --input", irf)
    assert "--exclude S9: no such recording" in said.err


def test_event_columns_reach_the_frames(prepare: Prepare, tmp_path: Path) -> None:
    rows = [
        [t, x, y, name, "blink" if 1 <= t < 1.05 else int(2 <= t < 3) + 1]
        for name in "abc" for t, x, y in walk_rows(4, seed=ord(name))
    ]  # fmt: skip
    file = write_csv(tmp_path / "gaze.csv", "t,x,y,recording,event", rows)
    words = (CSV, "--events column --hop 20 --min-valid .9 --input", file)
    assert prepare(*words, "--out", tmp_path / "data").code == 0
    train = load_folder(tmp_path / "data").train
    assert train.events is not None
    assert train.events[1, 0] == 5
    assert not train.mask[1, 0]
    assert train.events[2].unique().tolist() == [SACCADE]
    assert train.events[0].unique().tolist() == [1]
    plain = write_csv(tmp_path / "plain.csv", "t,x,y", walk_rows(8))
    said = prepare(CSV, "--events column --input", plain)
    assert "recording plain has no column event" in said.err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (f"{CSV} --hop 3 --seq-len 300", "left for train and val and test: recordings 5, samples 4000"),
        (f"{CSV} --exclude a b c", "no sequence is left for"),
        ("--source csv --rate-hz 101 --screen-px 800 400", "recording a has 100 samples per second"),
        (f"{CSV} --units norm", "of the gaze is off the screen"),
        ("--source csv --rate-hz 20 --screen-px 200 400", "off the screen"),
        (f"{CSV} --time-unit us", "--time-unit s would fit"),
    ],
)  # fmt: skip
def test_gaze_that_cannot_be_used(prepare: Prepare, tmp_path: Path, words: str, said: str) -> None:
    seconds = 2.2 if "--exclude" in words else 8
    file = recordings(tmp_path / "gaze.csv", seconds=seconds)
    found = prepare(words, "--input", file, "--out", tmp_path / "data")
    assert found.code == 2
    assert said in found.err
    assert not (tmp_path / "data").exists()


def test_command_is_kept_as_typed(prepare: Prepare, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    prepare("--n_train=3 --n-val 3 --n-test 3 --no-field-per-split --img-size 4 --out", Path("a folder"))
    command = json.loads((tmp_path / "a folder" / "manifest.json").read_text())["command"]
    expected = "--out 'a folder' --img-size 4 --n-train 3 --n-val 3 --n-test 3 --no-field-per-split"
    assert command == f"eye-fixation prepare {expected}"
