"""The doctor names every defect and stays silent on clean data."""

from __future__ import annotations

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from rodent_files import SLOT, DataFolders, Info

from common.video import probe
from rodent_behavior.doctor import DoctorReport, SplitSettings, examine
from rodent_behavior.settings import IndexSettings

MODULES = ("labels", "trials", "dlc", "metadata", "keypoints", "splits", "windows", "doctor")


def clean(folders: DataFolders) -> None:
    """Two videos with two different trials each; tracking jumps at the second trial."""
    for number, stem in enumerate("mn"):
        (folders.videos / f"{stem}.mp4").write_bytes(bytes([number] * (9 + number)))
        folders.pose(stem, 2 * SLOT, offset=number)
        path = folders.videos / f"{stem}DLC_net.csv"
        lines = path.read_text().splitlines()
        for row in range(3 + SLOT, 3 + 2 * SLOT):
            cells = lines[row].split(",")
            cells[2::3] = [str(float(cell) + 7) for cell in cells[2::3]]
            lines[row] = ",".join(cells)
        folders.text(path, lines)
        for trial in (1, 2):
            actions = np.tile([0, 1, 2, 4, 6, 7], 7)[:SLOT]
            folders.label(f"{stem}.mp4", trial, np.roll(actions, 3 * number + trial).tolist())


def look(folders: DataFolders, **changes: object) -> DoctorReport:
    return examine(folders.settings(**changes), lambda path: Info())


def texts(report: DoctorReport, level: str) -> list[str]:
    return [finding.text for finding in report.findings if finding.level == level]


def test_clean_data(folders: DataFolders) -> None:
    clean(folders)
    report = look(folders)
    assert texts(report, "error") == texts(report, "warning") == []
    assert texts(report, "info") == ["2/2 edges confirmed by pose jumps"]
    assert report.exit_code(strict=True) == 0
    assert report.lines()[-1] == "clean"
    assert [(row.trial, row.start, row.stop) for row in report.trials[:2]] == [(1, 0, 40), (2, 40, 80)]
    assert {row.side for row in report.trials} == {"train", "val"}
    assert sum(map(sum, report.counts_by_video.values())) == 4 * SLOT
    assert set(report.counts_by_side) == {"train", "val"}


def test_the_report_is_plain(folders: DataFolders) -> None:
    clean(folders)
    report = look(folders)
    again = json.loads(json.dumps(report.to_dict()))
    assert again["edges"][0]["edges"][0]["confirmed"] is True
    assert again["classes"][1] == "paw_withdraw"
    assert again["keypoints"]["frames"] == 4 * SLOT
    assert all(isinstance(line, str) and "\n" not in line for line in report.lines())


def test_planted_defects_are_named(folders: DataFolders) -> None:
    clean(folders)
    first = folders.annotations / "prediction_m.mp4_1.csv"
    (folders.annotations / "prediction_m.mp4_2.csv").write_bytes(first.read_bytes())
    folders.label("n.mp4", 3, [0] * 5)
    folders.label("n.mp4", 4, [0] * SLOT)
    folders.label("n.mp4", 5, [9] * SLOT)
    folders.label("n.mp4", 0, [0] * SLOT)
    folders.label("lost.mp4", 1, [0] * SLOT)
    folders.text(folders.annotations / "prediction_m.mp4_1_old.csv", ["x"])
    (folders.videos / "o.mp4").write_bytes((folders.videos / "m.mp4").read_bytes())
    folders.pose("o", 2 * SLOT, offset=9)
    (folders.videos / "p.mp4").write_bytes(b"unused")
    report = look(folders)
    errors, warnings = " | ".join(texts(report, "error")), " | ".join(texts(report, "warning"))
    for part in ("beyond the end", "row 2: Action '9'", "trials are numbered from 1", "no files: lost.mp4"):
        assert part in errors
    for part in (
        "identical label files: prediction_m.mp4_1.csv, prediction_m.mp4_2.csv",
        "short trial",
        "unrecognised files: prediction_m.mp4_1_old.csv",
        "identical recordings: m.mp4, o.mp4",
        "unused video",
    ):
        assert part in warnings
    assert report.exit_code() == 1
    assert len(report.skips) == 6
    assert report.unlabelled == 1
    assert report.lines()[-1] == "4 errors, 5 warnings"


def test_a_recording_on_both_sides_is_a_leak(folders: DataFolders, tmp_path: Path) -> None:
    clean(folders)
    (folders.videos / "nDLC_net.csv").write_bytes((folders.videos / "mDLC_net.csv").read_bytes())
    report = look(folders)
    assert any(
        "mDLC_net.csv, nDLC_net.csv are the same, on train and val" in t for t in texts(report, "warning")
    )
    path = tmp_path / "split.json"
    path.write_text(json.dumps({"train": ["m_1", "n_1"], "val": ["m_2"]}))
    by_trial = examine(
        folders.settings(group_by="trial"), lambda file: Info(), SplitSettings(split_file=path)
    )
    warnings = texts(by_trial, "warning")
    assert "split leakage: pictures of m are on train and val" in warnings
    assert "split: split.json leaves out n_2" in warnings
    assert by_trial.trials[3].side is None


def test_classes_missing_on_a_side_are_told(folders: DataFolders) -> None:
    clean(folders)
    for trial in (1, 2):
        folders.label("n.mp4", trial, [trial - 1] + [0] * (SLOT - 1))
    warnings = " | ".join(texts(look(folders), "warning"))
    assert "is absent from" in warnings


def test_rates_lengths_and_damaged_videos_are_errors(folders: DataFolders) -> None:
    clean(folders)
    infos = {"m.mp4": Info(fps=30), "n.mp4": Info(fps=60)}
    report = examine(folders.settings(), lambda path: infos[path.name])
    assert "frames per second differ" in texts(report, "error")[0]
    infos["n.mp4"] = Info(frames=70)
    report = examine(folders.settings(), lambda path: infos[path.name])
    assert any("n: 70 video frames but 80 keypoint rows" in text for text in texts(report, "error"))

    folders.meta("m", 2 * SLOT)
    folders.meta("n", 2 * SLOT)
    report = examine(folders.settings(), probe)
    assert sum("m.mp4" in text or "n.mp4" in text for text in texts(report, "error")) == 2
    assert len(report.trials) == 4


def test_missing_folders_are_an_error(folders: DataFolders) -> None:
    report = look(folders, annotations=folders.annotations / "absent")
    assert report.exit_code() == 1
    assert "no such folder" in texts(report, "error")[0]
    assert report.lines()[-1] == "1 errors, 0 warnings"


def test_steady_tracking_does_not_confirm_edges(folders: DataFolders) -> None:
    folders.recording("m")
    for trial in (1, 2):
        folders.label("m.mp4", trial, [0] * SLOT)
    report = look(folders)
    assert texts(report, "info") == ["0/1 edges confirmed by pose jumps; the others are not confirmed"]
    assert "no video for m: only --backbone none can use them" in texts(report, "warning")


def test_a_real_video_is_probed(folders: DataFolders) -> None:
    folders.video("m.mp4", 2 * SLOT)
    folders.pose("m", 2 * SLOT)
    folders.label("m.mp4", 1, [0] * SLOT)
    report = examine(folders.settings(), probe)
    row = report.recordings[0]
    assert (row.frames, row.fps, row.width, row.has_video) == (2 * SLOT, 30, 64, True)


def test_the_pain_assay(pain_assay: IndexSettings) -> None:
    report = examine(pain_assay, probe)
    warnings = texts(report, "warning")
    assert texts(report, "error") == []
    assert len(warnings) == 4
    assert warnings[0].startswith("no video for shortened_2023")
    assert warnings[1].startswith("identical label files: prediction_shortened")
    assert warnings[2] == "only one class in all labels: rest"
    assert warnings[3].startswith("split: 1 video: cannot split by video")
    assert texts(report, "info") == ["2/2 edges confirmed by pose jumps"]
    assert (report.exit_code(), report.exit_code(strict=True)) == (0, 1)
    (edges,) = report.edges
    assert edges.point == "tail_base"
    assert [edge.step for edge in edges.edges] == pytest.approx([167.317, 30.102], abs=5e-4)
    assert (edges.largest_other, edges.median) == pytest.approx((6.494, 0.4712), abs=5e-4)
    found = report.keypoints
    assert found is not None
    assert (found.all_visible, found.frames) == (484, 1080)
    total = found.total
    assert (total.gaps, total.median_gap, total.fillable_gaps) == (161, 2, 152)
    assert (total.hidden_frames, total.fillable_frames) == (1072, 511)
    by_trial = examine(dataclasses.replace(pain_assay, group_by="trial"), None)
    assert "split: only one class in training: rest" in texts(by_trial, "warning")


def test_readers_need_no_torch() -> None:
    names = ", ".join(f"rodent_behavior.{name}" for name in MODULES)
    code = f"import sys, {names}; sys.exit('torch' in sys.modules or 'cv2' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
