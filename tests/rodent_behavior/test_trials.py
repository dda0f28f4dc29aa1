"""Files that belong together, and where trials lie in their videos."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from rodent_files import SHORT, SIZE, SLOT, DataFolders, Info

from common.config import UserError
from rodent_behavior.settings import IndexSettings
from rodent_behavior.trials import TrialSet, build_index

REST = [0] * SLOT


def build(folders: DataFolders, probe: object = None, **changes: object) -> TrialSet:
    return build_index(folders.settings(**changes), probe)  # type: ignore[arg-type]


def spans(found: TrialSet) -> list[tuple[str, int, int, int]]:
    return [(trial.video_id, trial.trial, trial.label_start, trial.label_stop) for trial in found.trials]


def test_every_trial_has_its_own_frames_and_keypoints(folders: DataFolders) -> None:
    folders.recording("m", 3 * SLOT)
    for number, rows in ((1, SLOT), (2, SHORT), (3, 30)):
        folders.label("m.mp4", number, [number] * rows)
    found = build(folders)
    assert spans(found) == [("m", 1, 0, 40), ("m", 2, 55, 80), ("m", 3, 80, 110)]
    assert [trial.slot_start for trial in found.trials] == [0, 40, 80]
    assert len(found.warnings) == 1
    assert "_3.csv: 30 rows: taken from the start" in found.warnings[0]
    pose = found.recordings["m"].pose
    assert pose is not None
    for trial in found.trials:
        frames = pose.xy[trial.frames, 0, 0] * 4
        assert frames.tolist() == list(range(trial.label_start, trial.label_stop))
    assert found.actions["m", 2].tolist() == [2] * SHORT
    trial = found.trials[0]
    assert (trial.fps, trial.width, trial.height, trial.video_frames, trial.pose_rows) == (
        30,
        64,
        64,
        120,
        120,
    )
    assert (trial.video_path, trial.group, trial.stim_frame) == (None, "m", 60)


@pytest.mark.parametrize("first", [0, 15])
def test_the_context_is_added_once(folders: DataFolders, first: int) -> None:
    folders.recording("m")
    folders.label("m.mp4", 2, [0] * SHORT, first=first)
    assert spans(build(folders)) == [("m", 2, 55, 80)]


@pytest.mark.parametrize(("rows", "first"), [(SLOT, 15), (SHORT, 1), (30, 15)])
def test_other_first_frames_are_errors(folders: DataFolders, rows: int, first: int) -> None:
    folders.recording("m")
    folders.label("m.mp4", 1, [0] * rows, first=first)
    with pytest.raises(UserError, match=rf"_1\.csv: row 2: Frame {first}: 0 is expected"):
        build(folders)


def test_golden_alignment_of_the_assay(tmp_path: Path) -> None:
    folders = DataFolders.make(tmp_path)
    folders.recording("m", 1080)
    for number, rows in ((1, 360), (2, 350), (3, 345)):
        folders.label("m.mp4", number, [0] * rows)
    found = build(folders, trial_frames=360, min_frames=345)
    assert spans(found) == [("m", 1, 0, 360), ("m", 2, 360, 710), ("m", 3, 735, 1080)]


def test_names_match_as_a_whole(folders: DataFolders) -> None:
    for stem, offset in (("mouse_1", 0), ("mouse_10", 1000), ("a [b] c.d", 2000), ("mouse_1DLC_twin", 3000)):
        folders.recording(stem, offset=offset)
        folders.label(f"{stem}.MP4", 1, REST)
    folders.text(folders.annotations / "prediction_mouse_1.mp4_1_old.csv", ["x"])
    folders.text(folders.annotations / "notes.txt", ["x"])
    folders.text(folders.annotations / "._prediction_mouse_1.mp4_1.csv", ["x"])
    folders.pose("stranger", 3)
    found = build(folders)
    firsts = {}
    for name, recording in found.recordings.items():
        assert recording.pose is not None
        firsts[name] = recording.pose.xy[0, 0, 0] * 4
    assert firsts == {"mouse_1": 0, "mouse_10": 1000, "a [b] c.d": 2000, "mouse_1DLC_twin": 3000}
    names = [path.name for path in found.unrecognised]
    assert names == ["notes.txt", "prediction_mouse_1.mp4_1_old.csv", "strangerDLC_net.csv"]


def test_both_prefixes_are_labels_but_not_of_the_same_trial(folders: DataFolders) -> None:
    folders.recording("m")
    folders.label("m.mp4", 1, REST)
    folders.label("m.mp4", 2, REST, prefix="predictions")
    assert len(build(folders).trials) == 2
    folders.label("m.mp4", "02", REST)
    with pytest.raises(UserError, match=r"prediction_m\.mp4_02\.csv and .*predictions_m\.mp4_2\.csv"):
        build(folders)
    found = build(folders, on_bad_trial="skip")
    assert spans(found) == [("m", 1, 0, 40)]
    assert found.skip_counts == {"same trial": 2}


def test_trial_zero_is_an_error(folders: DataFolders) -> None:
    folders.recording("m")
    folders.label("m.mp4", 0, REST)
    with pytest.raises(UserError, match=r"_0\.csv: trials are numbered from 1"):
        build(folders)


@pytest.mark.parametrize(
    ("rows", "message"),
    [(SLOT + 1, "41 rows do not fit --trial_frames 40; give it or --manifest"), (19, "no trial is left")],
)
def test_lengths_out_of_range(folders: DataFolders, rows: int, message: str) -> None:
    folders.recording("m")
    folders.label("m.mp4", 1, [0] * rows)
    with pytest.raises(UserError, match=message):
        build(folders)


def test_short_files_and_videos_are_skipped_and_counted(folders: DataFolders) -> None:
    folders.recording("m")
    folders.label("m.mp4", 1, REST)
    folders.label("m.mp4", 2, [0] * 19)
    folders.recording("n", 19)
    folders.label("n.mp4", 1, REST)
    found = build(folders)
    assert spans(found) == [("m", 1, 0, 40)]
    assert found.skip_counts == {"short trial": 1, "short video": 1}
    assert "19 frames, fewer than --min_frames 20" in found.skipped[0].reason + found.skipped[1].reason


def test_labels_beyond_the_end(folders: DataFolders) -> None:
    folders.recording("m", 79)
    folders.label("m.mp4", 1, REST)
    folders.label("m.mp4", 2, REST)
    with pytest.raises(
        UserError, match=r"_2\.csv: 80 frames are needed, m has 79 video frames and 79 keypoint"
    ):
        build(folders)
    assert spans(build(folders, on_bad_trial="skip")) == [("m", 1, 0, 40)]


def test_bad_labels_are_errors_or_skips(folders: DataFolders) -> None:
    folders.recording("m")
    folders.label("m.mp4", 1, [*REST[1:], 8])
    folders.label("m.mp4", 2, REST)
    with pytest.raises(UserError, match=r"_1\.csv: row 41: Action '8'"):
        build(folders)
    assert build(folders, on_bad_trial="skip").skip_counts == {"bad labels": 1}


def test_files_that_do_not_exist(folders: DataFolders) -> None:
    folders.label("m.mp4", 1, REST)
    with pytest.raises(UserError, match=r"neither .*Videos/m\.mp4 nor .*Videos/m\[DLC\.\.\.\]\.csv"):
        build(folders)
    folders.recording("m")
    with pytest.raises(UserError, match=r"Videos/m\.mp4 does not exist"):
        build(folders, need_video=True)
    with pytest.raises(UserError, match=r"skipped 1 no video; the first"):
        build(folders, need_video=True, on_bad_trial="skip")


def test_missing_folders_and_labels(folders: DataFolders) -> None:
    with pytest.raises(UserError, match=r"no label file; prediction_<video file name>_<trial>\.csv"):
        build(folders)
    with pytest.raises(UserError, match=r"--videos .*absent: no such folder"):
        build(folders, videos=folders.videos / "absent")
    with pytest.raises(UserError, match=r"no video \(\.mp4"):
        build(folders, annotations=None)


def test_missing_keypoints_follow_their_policy(folders: DataFolders) -> None:
    for stem in ("m", "n"):
        (folders.videos / f"{stem}.mp4").write_bytes(stem.encode())
        folders.label(f"{stem}.mp4", 1, REST)
    folders.pose("m", 80)

    def probe(path: Path) -> Info:
        return Info()

    with pytest.raises(UserError, match="n: no keypoint file"):
        build(folders, probe, on_bad_trial="skip")
    skipped = build(folders, probe, on_missing_pose="skip")
    assert (spans(skipped), skipped.skip_counts) == ([("m", 1, 0, 40)], {"missing keypoints": 1})
    zeros = build(folders, probe, on_missing_pose="zeros")
    assert (zeros.trials[1].pose_path, zeros.trials[1].pose_rows) == (None, 0)
    assert any("taken as not visible" in text for text in zeros.warnings)
    without = build(folders, probe, need_pose=False)
    assert [trial.pose_path for trial in without.trials] == [None, None]
    assert without.warnings == ()


def test_video_and_keypoint_lengths_are_compared(folders: DataFolders) -> None:
    (folders.videos / "m.mp4").write_bytes(b"x")
    folders.label("m.mp4", 1, REST)
    folders.pose("m", 81)
    found = build(folders, lambda path: Info())
    assert found.recordings["m"].frames == 80
    assert found.warnings == ("m: 80 video frames but 81 keypoint rows: the shorter counts",)
    with pytest.raises(UserError, match="m: 79 video frames but 81 keypoint rows"):
        build(folders, lambda path: Info(frames=79))


def test_a_damaged_video_matters_when_it_is_needed(folders: DataFolders) -> None:
    (folders.videos / "m.mp4").write_bytes(b"")
    folders.label("m.mp4", 1, REST)
    folders.recording("m")

    def probe(path: Path) -> Info:
        raise OSError(f"{path}: frame 0 cannot be decoded")

    with pytest.raises(UserError, match=r"m\.mp4: frame 0 cannot be decoded"):
        build(folders, probe, need_video=True)
    found = build(folders, probe)
    assert spans(found) == [("m", 1, 0, 40)]
    assert "frame 0" in str(found.recordings["m"].video_problem)


def test_rate_and_size_come_from_video_metadata_or_flags(folders: DataFolders) -> None:
    folders.pose("m", 80)
    folders.label("m.mp4", 1, REST)
    with pytest.raises(UserError, match="m: frames per second are unknown; give --fps"):
        build(folders)
    with pytest.raises(UserError, match="give --frame_size W,H"):
        build(folders, fps=25.0)
    typed = build(folders, fps=25.0, frame_size=(80, 70)).trials[0]
    assert (typed.fps, typed.width, typed.height, typed.video_frames) == (25, 80, 70, 80)
    folders.meta("m", 80, fps=50.0)
    assert build(folders).trials[0].fps == 50
    with pytest.raises(UserError, match="--fps 25 but the recording says 50"):
        build(folders, fps=25.0)
    with pytest.raises(UserError, match="--frame_size 80 x 70 but the recording is 64 x 64"):
        build(folders, frame_size=(80, 70))
    (folders.videos / "m.mp4").write_bytes(b"x")
    seen = build(folders, lambda path: Info(fps=30, width=128))
    assert (seen.trials[0].fps, seen.trials[0].width) == (30, 128)
    assert any("the video is 128 x 64 px, the tracked one was 64 x 64" in text for text in seen.warnings)


def test_unreadable_metadata_is_told(folders: DataFolders) -> None:
    folders.pose("m", 80)
    folders.label("m.mp4", 1, REST)
    (folders.videos / "mDLC_net_meta.pickle").write_bytes(b"nothing")
    found = build(folders, fps=30.0, frame_size=(SIZE, SIZE))
    assert found.warnings == ("mDLC_net_meta.pickle: metadata not read",)
    assert found.unrecognised == ()


def test_rates_of_the_videos_must_agree(folders: DataFolders) -> None:
    for stem, fps in (("m", 30.0), ("n", 30.3)):
        folders.pose(stem, 80)
        folders.meta(stem, 80, fps=fps)
        folders.label(f"{stem}.mp4", 1, REST)
    with pytest.raises(UserError, match=r"more than 0\.5 %.*m 30, n 30\.3; give --manifest"):
        build(folders)
    manifest = folders.text(folders.videos.parent / "m.csv", ["video,trial,start,rows"])
    assert len(build(folders, manifest=manifest).trials) == 2


def test_a_video_without_labels(folders: DataFolders) -> None:
    folders.recording("m")
    folders.label("m.mp4", 1, REST)
    for name in ("n", "o"):
        (folders.videos / f"{name}.mp4").write_bytes(name.encode())
    folders.pose("n", 2 * SLOT + 25)
    found = build(folders, lambda path: Info(frames=2 * SLOT + 25))
    assert [(trial.video_id, trial.trial, trial.label_start, trial.rows) for trial in found.unlabelled] == [
        ("n", 1, 0, 40), ("n", 2, 40, 40), ("n", 3, 80, 25),
    ]  # fmt: skip
    assert {trial.label_path for trial in found.unlabelled} == {None}
    assert found.skip_counts == {"unused video": 1}
    assert spans(found) == [("m", 1, 0, 40)]
    alone = build(folders, lambda path: Info(frames=2 * SLOT + 25), annotations=None, on_missing_pose="skip")
    assert [trial.video_id for trial in alone.unlabelled] == ["m", "m", "n", "n", "n"]
    assert alone.skip_counts == {"missing keypoints": 1}


def test_keypoints_without_a_video_are_a_recording(folders: DataFolders) -> None:
    for stem, run in (("mouse_1", "DLC_net"), ("mouse_1", "DLC_net_filtered"), ("a b.c", "DLC_net")):
        folders.pose(stem, SLOT, run=run)
    folders.text(folders.videos / "CollectedData_me.csv", ["scorer"])
    found = build(folders, annotations=None, fps=30.0, frame_size=(SIZE, SIZE))
    assert [(trial.video_id, trial.rows) for trial in found.unlabelled] == [
        ("a b.c", SLOT),
        ("mouse_1", SLOT),
    ]
    assert [path.name for path in found.unrecognised] == ["CollectedData_me.csv"]
    with pytest.raises(UserError, match=r"no video \(\.mp4"):
        build(folders, annotations=None, need_video=True)


def test_what_tracking_writes_beside_is_passed_over(folders: DataFolders) -> None:
    folders.recording("m")
    folders.label("m.mp4", 1, REST)
    for name in ("mDLC_net_labeled.mp4", "mDLC_net_skeleton.csv", "mDLC_net_full.pickle", "._m.mp4"):
        (folders.videos / name).write_bytes(b"x")
    found = build(folders)
    assert (found.unrecognised, found.unlabelled, found.skipped) == ((), (), ())


@pytest.mark.parametrize(("pick", "offset"), [("raw", 0), ("filtered", 100)])
def test_raw_or_filtered(folders: DataFolders, pick: str, offset: int) -> None:
    folders.recording("m")
    folders.pose("m", 80, run="DLC_net_filtered", offset=100)
    (folders.videos / "mDLC_net.h5").write_bytes(b"not read: the csv wins")
    folders.label("m.mp4", 1, REST)
    found = build(folders, dlc_pick=pick)
    pose = found.recordings["m"].pose
    assert pose is not None
    assert pose.xy[0, 0, 0] * 4 == offset
    assert found.warnings == ()


def test_the_only_kind_is_used_with_a_warning(folders: DataFolders) -> None:
    folders.recording("m")
    folders.label("m.mp4", 1, REST)
    found = build(folders, dlc_pick="filtered")
    assert found.warnings == ("mDLC_net.csv: --dlc_pick filtered is not there, raw is used",)


def test_two_scorers_need_a_choice(folders: DataFolders) -> None:
    folders.recording("m")
    folders.pose("m", 80, run="DLC_other", offset=50)
    folders.label("m.mp4", 1, REST)
    with pytest.raises(UserError, match=r"mDLC_net\.csv, mDLC_other\.csv; choose with --dlc_scorer"):
        build(folders)
    for name in ("other", "DLC_other"):
        pose = build(folders, dlc_scorer=name).recordings["m"].pose
        assert pose is not None
        assert pose.xy[0, 0, 0] * 4 == 50


def test_a_keypoint_problem_is_told(folders: DataFolders) -> None:
    folders.pose("m", 80, names=("mouth", "tail"))
    folders.meta("m", 80)
    folders.label("m.mp4", 1, REST)
    with pytest.raises(UserError, match="no column for tail_base, l_frontpaw"):
        build(folders)


def test_hidden_trials_are_kept_with_a_warning(folders: DataFolders) -> None:
    folders.pose("m", 80, likelihood=0.5)
    folders.meta("m", 80)
    folders.label("m.mp4", 1, REST)
    found = build(folders)
    assert len(found.trials) == 1
    assert "m trial 1: 100.0 % of its keypoints are below" in found.warnings[0]
    assert build(folders, kp_likelihood_thr=0.5).warnings == ()


def test_a_manifest_overrides_single_trials(folders: DataFolders) -> None:
    folders.recording("m", 100)
    folders.recording("n", 80)
    folders.label("m.mp4", 1, [0] * 12)
    folders.label("m.mp4", 2, [0] * 60, first=3)
    folders.label("m.mp4", 3, REST)
    folders.label("n.mp4", 2, REST)
    lines = ["video,trial,start,rows,group", "m.mp4,1,7,12,alpha", "m,2,30,,", "m,3,60,40,", "n,2,,,beta"]
    manifest = folders.text(folders.videos.parent / "manifest.csv", lines)
    found = build(folders, manifest=manifest)
    assert spans(found) == [("m", 1, 7, 19), ("m", 2, 30, 90), ("m", 3, 60, 100), ("n", 2, 40, 80)]
    assert [trial.group for trial in found.trials] == ["alpha", "m", "m", "beta"]
    assert found.warnings == ("m: trials 2 and 3 share frames 60..89",)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ("m,1,5,39,", r"row 2: rows 39, but .*_1\.csv has 40"),
        ("m,4,5,40,", "row 2: no label file for video m trial 4"),
        ("m,1,five,40,", "row 2: start 'five' is no whole number"),
        ("m,1,5,40", "row 2: 4 cells"),
        ("m,1,50,40,", r"90 frames are needed, m has 80"),
    ],
)
def test_bad_manifests_are_named(folders: DataFolders, row: str, message: str) -> None:
    folders.recording("m")
    folders.label("m.mp4", 1, REST)
    manifest = folders.text(folders.videos.parent / "m.csv", ["video,trial,start,rows,group", row])
    with pytest.raises(UserError, match=message):
        build(folders, manifest=manifest)


def test_manifest_headers_and_doubles(folders: DataFolders) -> None:
    folders.recording("m")
    folders.label("m.mp4", 1, REST)
    path = folders.videos.parent / "m.csv"
    for lines, message in (
        (["video,trial"], "the columns video, trial, start, rows, group are expected"),
        (["video,trial,start,rows", "m,1,0,40", "m.mp4,1,0,40"], "rows 2 and 3 both describe m trial 1"),
    ):
        with pytest.raises(UserError, match=message):
            build(folders, manifest=folders.text(path, lines))
    with pytest.raises(UserError, match=r"absent\.csv"):
        build(folders, manifest=path.with_name("absent.csv"))


def test_groups(folders: DataFolders) -> None:
    for stem in ("2023_267M_a", "2023_267M_b", "2024_300F_a"):
        folders.recording(stem)
        folders.label(f"{stem}.mp4", 1, REST)
    groups = [trial.group for trial in build(folders, group_regex=r"_(?P<group>\d+[MF])_").trials]
    assert groups == ["267M", "267M", "300F"]
    assert build(folders, group_by="trial").trials[0].group == "2023_267M_a_1"
    with pytest.raises(UserError, match="no group in 2024_300F_a"):
        build(folders, group_regex=r"_(?P<group>\d+M)_")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"min_frames": 41}, "--min_frames 41 must be 1..--trial_frames 40"),
        ({"kp_names": ("a",)}, "--kp_names a"),
        ({"kp_names": ("a b", "A-b")}, "--kp_names a b,A-b"),
        ({"kp_aliases": {"x": "y"}}, "--kp_alias x=y"),
        ({"kp_likelihood_thr": 1.5}, "--kp_likelihood_thr"),
        ({"frame_size": (0, 5)}, "--frame_size 0,5"),
        ({"fps": 0.0}, "--fps 0.0"),
        ({"group_regex": "(?P<group>x)", "group_by": "trial"}, "exclude each other"),
        ({"group_regex": "x"}, r"\(\?P<group>\.\.\.\) is missing"),
        ({"group_regex": "("}, "--group_regex"),
    ],
)
def test_flags_that_cannot_be_meant(folders: DataFolders, changes: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        folders.settings(**changes)


def test_real_recording(pain_assay: IndexSettings) -> None:
    found = build_index(pain_assay, None)
    assert [(trial.label_start, trial.label_stop) for trial in found.trials] == [
        (0, 360),
        (360, 720),
        (720, 1080),
    ]
    assert (found.trials[0].fps, found.trials[0].width, found.trials[0].video_frames) == (30, 512, 1080)
    assert all(not found.actions[trial.key].any() for trial in found.trials)
    pose = found.recordings[found.trials[0].video_id].pose
    assert pose is not None
    parts = [pose.xy[trial.frames] for trial in found.trials]
    assert not np.array_equal(parts[0], parts[1])
    assert not np.array_equal(parts[1], parts[2])
    assert (found.skipped, found.warnings, found.unrecognised) == ((), (), ())
