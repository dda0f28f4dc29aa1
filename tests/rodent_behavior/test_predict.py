"""What `predict` says about recordings that are not like those of training."""

import csv
import json
import subprocess
import sys

import numpy as np
import pytest
from rodent_pieces import SHORT, SLOT, motion, write_pose

from rodent_behavior.labels import LabelMap, read_labels


def rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def shares(table):
    names = [name for name in table[0] if name.endswith("_prob")]
    return np.array([[float(row[name]) for name in names] for row in table])


@pytest.fixture
def tracked(tmp_path):
    """A folder of two recordings of keypoints alone."""
    folder = tmp_path / "tracked"
    folder.mkdir()
    for number in (1, 2):
        write_pose(folder / f"m{number}DLC_net.csv", *motion(np.random.default_rng(number)))
    return folder


def test_the_package_is_a_command():
    done = subprocess.run(
        [sys.executable, "-m", "rodent_behavior", "--help"], capture_output=True, text=True, check=True
    )
    assert "rodent-behavior" in done.stdout
    assert "make-pose-model" in done.stdout


def test_another_frame_rate_is_a_warning(train, use, tracked, tmp_path):
    ran = train("--max_steps 1")
    predict = f"predict {tracked} --checkpoint {ran.model} --frame_size 64,48 --out {tmp_path / 'p'} --fps"
    text = "2 of 2 recordings differ by more than 2% from the 30 frames per second of training"
    for fps, warned in (("30.5", False), ("29.5", False), ("30.7", True), ("29.3", True)):
        said = use(predict, fps)
        assert said.code == 0, said.err
        assert (text in said.out) == warned
        summary = json.loads((tmp_path / "p" / "predictions.json").read_text())
        assert summary["fps"] == 30
        assert summary["recordings"]["m2"] == {"frames": 2 * SLOT, "fps": float(fps), "trials": []}
        assert [f"m1 {fps}, m2 {fps}" in line for line in summary["warnings"]] == [True] * warned


def test_trials_are_predicted_as_evaluate_judges_them(train, use, files, tmp_path):
    """Keypoints are filled, scaled and followed within a trial, and a model never sees across its edge."""
    ran = train("--lr 1e-2")
    predict = f"predict {ran.home / 'Videos'} --checkpoint {ran.model} --val_T 40 --min_bout 3"
    said = use(predict, "--out", tmp_path / "whole")
    assert "4 recordings are longer than a trial and predicted in one piece" in said.out
    given = f"--annotations {ran.home / 'Annotations'} --format table bouts annotation"
    said = use(predict, given, "--out", tmp_path / "given")
    assert said.code == 0, said.err
    assert "8 trials of 4 recordings, each predicted by itself" in said.out
    (group,) = ran.contents["split"]["val"]
    for trial in (1, 2):
        judged = shares(rows(ran.folder / "val_predictions" / f"{group}_{trial}.csv"))
        own = slice((trial - 1) * SLOT, (trial - 1) * SLOT + len(judged))
        whole, found = (
            shares(rows(tmp_path / name / f"{group}_predictions.csv"))[own] for name in ("whole", "given")
        )
        assert np.allclose(found, judged, atol=2e-6)
        assert not np.allclose(whole, judged, atol=1e-3)
    out = tmp_path / "given"
    table = rows(out / "mouse_4_predictions.csv")
    assert [int(row["Frame"]) for row in table] == list(range(2 * SLOT))
    found = read_labels(out / "prediction_mouse_4.mp4_2.csv", LabelMap.default())
    assert found.rows == SHORT
    names = [LabelMap.default().names[action] for action in found.actions]
    assert names == [row["Action"] for row in table[SLOT : SLOT + SHORT]]
    edges = {"1": (0, SLOT), "2": (SLOT, SLOT + SHORT), "": (SLOT + SHORT, 2 * SLOT)}
    bouts = rows(out / "mouse_4_bouts.csv")
    assert {row["trial"] for row in bouts} == set(edges)
    for row in bouts:
        first, stop = edges[row["trial"]]
        assert first <= int(row["start"]) < int(row["end"]) <= stop
        assert {line["Action"] for line in table[int(row["start"]) : int(row["end"])]} == {row["label"]}
    summary = json.loads((out / "predictions.json").read_text())
    assert summary["recordings"]["mouse_4"]["trials"] == [[1, 0, SLOT], [2, SLOT, SLOT + SHORT]]
    moved = f"--annotations {ran.home / 'Annotations'} --manifest {files / 'manifest.csv'}"
    said = use(predict, moved, "--out", tmp_path / "moved")
    assert said.code == 2
    assert "mouse_1: trial 2 shares frames with the one before" in said.err
    said = use(predict, f"--manifest {files / 'manifest.csv'} --out {tmp_path / 'moved'}")
    assert said.code == 2
    assert "needs --annotations" in said.err


def test_label_files_of_videos_elsewhere_are_passed_over_and_bad_ones_are_not(
    train, use, files, recordings, tmp_path
):
    ran = train("--max_steps 1")
    some = tmp_path / "some"
    some.mkdir()
    for path in (recordings / "Videos").glob("mouse_1*"):
        (some / path.name).symlink_to(path)
    predict = f"predict {some} --checkpoint {ran.model} --out {tmp_path / 'p'} --annotations"
    said = use(predict, recordings / "Annotations")
    assert said.code == 0, said.err
    assert "skipped  6 no files" in said.out
    said = use(predict, files / "spoilt")
    assert said.code == 2
    assert "prediction_mouse_1.mp4_1.csv" in said.err
