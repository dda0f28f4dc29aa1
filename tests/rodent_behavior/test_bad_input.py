"""What a user gets for data that cannot be used: exit code 2, one message, no traceback, nothing written."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from rodent_files import DataFolders
from rodent_pieces import SLOT, VIDEOS, motion, write_labels, write_metadata, write_pose

from rodent_behavior.dlc import DEFAULT_KP_NAMES

VIDEO = "--backbone tiny_cnn --img_size 32"
ROWS = [0] * 20 + [2] * 20 + [6] * 20


@pytest.fixture
def root(recordings: Path, tmp_path: Path) -> Path:
    """A copy of the small recordings, to be spoilt."""
    for folder in ("Annotations", "Videos"):
        shutil.copytree(recordings / folder, tmp_path / "data" / folder)
    return tmp_path / "data"


@pytest.fixture
def tried(root: Path, train) -> Callable[..., str]:
    """Train on them, expect a refusal, return what was said."""

    def run(*words: str) -> str:
        ran = train(*words, data=root)
        assert ran.code == 2, ran.out
        assert ran.err.startswith("error: ") or "\nerror: " in ran.err
        assert "Traceback" not in ran.err
        assert not ran.model.exists()
        assert not (ran.folder / "checkpoints").exists()
        return ran.err

    return run


def label(root: Path, video: int, trial: int) -> Path:
    return root / "Annotations" / f"prediction_mouse_{video}.mp4_{trial}.csv"


def pose(root: Path, video: int) -> Path:
    return root / "Videos" / f"mouse_{video}DLC_net.csv"


def movie(root: Path, video: int) -> Path:
    return root / "Videos" / f"mouse_{video}.mp4"


def relabel(root: Path, rows: list[object]) -> Path:
    return write_labels(root / "Annotations", "mouse_1", 1, rows)


def retrack(root: Path, frames: int = 2 * SLOT, names: tuple[str, ...] = DEFAULT_KP_NAMES) -> None:
    xy, likelihood = motion(np.random.default_rng(1))
    write_pose(pose(root, 1), xy[:frames], likelihood[:frames], names)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 3])


def without(root: Path, pattern: str) -> None:
    for path in root.glob(pattern):
        path.unlink()


def frames_from(root: Path, first: int) -> None:
    lines = ["Frame,Action", *(f"{first + row},{raw}" for row, raw in enumerate(ROWS))]
    label(root, 1, 1).write_text("\n".join(lines))


SPOILT: dict[str, tuple[Callable[[Path], object], str, list[str]]] = {
    "no folder": (
        lambda r: shutil.rmtree(r / "Annotations"), "",
        ["--annotations", "no such folder", "prediction_<video file name>_<trial>.csv"],
    ),
    "no label file": (
        lambda r: without(r, "Annotations/*"), "",
        ["--annotations", "no label file", "prediction_<video file name>_<trial>.csv"],
    ),
    "no files of a video": (
        lambda r: without(r, "Videos/mouse_2*"), "", ["mouse_2.mp4", "mouse_2[DLC...].csv"]
    ),
    "no video": (lambda r: movie(r, 3).unlink(), VIDEO, ["mouse_3.mp4", "does not exist"]),
    "cut video": (lambda r: cut(movie(r, 1)), VIDEO, ["mouse_1"]),
    "empty video": (lambda r: movie(r, 1).write_bytes(b""), VIDEO, ["mouse_1.mp4"]),
    "no keypoints": (lambda r: pose(r, 1).unlink(), "", ["mouse_1: no keypoint file"]),
    "no Action column": (
        lambda r: label(r, 1, 1).write_text("Frame,Behavior\n0,1\n"), "", ["mouse_1.mp4_1.csv", "Action"]
    ),
    "unknown id": (lambda r: relabel(r, [*ROWS[:-1], 8]), "", ["mouse_1.mp4_1.csv", "row 61", "8"]),
    "half an id": (lambda r: relabel(r, [*ROWS[:-1], 2.5]), "", ["mouse_1.mp4_1.csv", "row 61", "2.5"]),
    "text": (lambda r: relabel(r, ["NaN", *ROWS[1:]]), "", ["mouse_1.mp4_1.csv", "row 2", "NaN"]),
    "wrong first frame": (lambda r: frames_from(r, 7), "", ["mouse_1.mp4_1.csv", "Frame 7"]),
    "long trial": (
        lambda r: relabel(r, [*ROWS, 0]), "", ["61 rows do not fit --trial_frames 60", "--manifest"]
    ),
    "beyond the end": (
        lambda r: shutil.copy(label(r, 1, 1), label(r, 1, 3)), "",
        ["mouse_1.mp4_3.csv", "180 frames are needed", "120 video frames", "120 keypoint rows"],
    ),
    "trial 0": (lambda r: shutil.copy(label(r, 1, 1), label(r, 1, 0)), "", ["mouse_1.mp4_0.csv", "from 1"]),
    "the same trial": (
        lambda r: shutil.copy(label(r, 1, 1), r / "Annotations" / "predictions_mouse_1.mp4_1.csv"), "",
        ["prediction_mouse_1.mp4_1.csv", "predictions_mouse_1.mp4_1.csv"],
    ),
    "other lengths": (
        lambda r: retrack(r, 110), "", ["mouse_1: 120 video frames but 110 keypoint rows"]
    ),
    "body part": (
        lambda r: retrack(r, names=("mouth", "Tail", *DEFAULT_KP_NAMES[2:])), "", ["tail_base", "tail"]
    ),
    "no keypoint table": (lambda r: pose(r, 1).write_text("nothing\n"), "", ["mouse_1DLC_net.csv"]),
    "one class": (
        lambda r: [write_labels(r / "Annotations", f"mouse_{v}", t, [0] * SLOT)
                   for v in range(1, VIDEOS + 1) for t in (1, 2)], "",
        ["only one class in training: rest"],
    ),
    "nothing known": (
        lambda r: [write_labels(r / "Annotations", f"mouse_{v}", t, [-1] * SLOT)
                   for v in range(1, VIDEOS + 1) for t in (1, 2)], "",
        ["no labelled frame"],
    ),
    "one video": (
        lambda r: [without(r, f"Annotations/*mouse_{v}*") for v in (2, 3, 4)], "",
        ["1 video: cannot split by video; --group_by trial splits its trials (optimistic)"],
    ),
    "one trial": (
        lambda r: [without(r, f"Annotations/*mouse_{v}*") for v in (2, 3, 4)] + [label(r, 1, 2).unlink()], "",
        ["1 trial: cannot split"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", SPOILT)
def test_what_cannot_be_used_is_named(name, root, tried):
    spoil, words, texts = SPOILT[name]
    spoil(root)
    said = tried(words)
    assert all(text in said for text in texts), said


def test_rates_that_differ_are_listed(root, tried):
    without(root, "Videos/*.mp4")
    write_metadata(root / "Videos" / "mouse_2DLC_net_meta.pickle", fps=60)
    said = tried()
    assert "frames per second differ by more than 0.5 %" in said
    assert "mouse_1 30, mouse_2 60" in said


def test_nothing_says_the_rate(root, tried):
    without(root, "Videos/*.mp4")
    without(root, "Videos/*.pickle")
    assert "frames per second are unknown; give --fps" in tried()
    assert "the frame size is unknown; give --frame_size W,H" in tried("--fps 30")


@pytest.mark.parametrize(
    ("spoil", "words", "kind"),
    [
        (lambda r: relabel(r, [*ROWS[:-1], 8]), "--on_bad_trial skip", "1 bad labels"),
        (lambda r: cut(movie(r, 3)), f"--on_bad_trial skip {VIDEO}", "2 bad video"),
        (lambda r: pose(r, 1).unlink(), "--on_missing_pose skip", "2 missing keypoints"),
        (lambda r: relabel(r, ROWS[:20]), "", "1 short trial"),
    ],
)
def test_what_may_be_skipped_is_counted(spoil, words, kind, root, train):
    spoil(root)
    ran = train(words, "--max_steps 1", data=root)
    assert ran.code == 0, ran.err
    assert f"skipped  {kind}" in ran.out


@pytest.mark.parametrize(
    ("spoil", "text"),
    [
        (lambda r: relabel(r, ROWS[:50]), "50 rows: taken from the start of the slot"),
        (lambda r: retrack(r, 119), "mouse_1: 120 video frames but 119 keypoint rows"),
        (
            lambda r: write_pose(pose(r, 1), *(part * scale for part, scale in zip(
                motion(np.random.default_rng(1)), (1, 0)))),
            "mouse_1 trial 1: 100.0 % of its keypoints are below --kp_likelihood_thr 0.9",
        ),
        (
            lambda r: (r / "Videos" / "mouse_1DLC_net_meta.pickle").write_bytes(b"x"),
            "mouse_1DLC_net_meta.pickle: metadata not read",
        ),
    ],
)  # fmt: skip
def test_what_is_odd_is_said(spoil, text, root, train):
    spoil(root)
    if text.endswith("119 keypoint rows"):
        relabel(root, ROWS)
        write_labels(root / "Annotations", "mouse_1", 2, ROWS[:59])
    ran = train("--max_steps 1", data=root)
    assert ran.code == 0, ran.err
    assert text in ran.out


def test_a_name_inside_another_takes_nothing_of_it(root, train):
    """mouse_1 must not read the keypoints of mouse_10."""
    xy, likelihood = motion(np.random.default_rng(10))
    write_pose(root / "Videos" / "mouse_10DLC_net.csv", xy, likelihood)
    shutil.copy(movie(root, 1), root / "Videos" / "mouse_10.mp4")
    write_metadata(root / "Videos" / "mouse_10DLC_net_meta.pickle")
    ran = train("--max_steps 1", data=root)
    assert ran.code == 0, ran.err
    assert "unlabelled 2" in ran.out
    pose(root, 1).unlink()
    assert "mouse_1: no keypoint file" in train(data=root).err


def test_names_with_odd_characters(folders: DataFolders, train):
    for stem in ("a [1].v2", "b_1", "c"):
        folders.recording(stem, 2 * SLOT)
        for trial in (1, 2):
            folders.label(f"{stem}.mp4", trial, ROWS)
    ran = train("--max_steps 1 --pose_features graph18", data=folders.annotations.parent)
    assert ran.code == 0, ran.err
    assert (ran.folder / "split.json").read_text().count("a [1].v2") == 1


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ("--epocs 3", "unknown flag --epocs"),
        ("--epochs x", "--epochs"),
        ("--lr_schedule linear", "--lr_schedule"),
        ("--backbone videomae", "--backbone"),
        ("--no-epochs", "unknown flag --no-epochs"),
    ],
)
def test_a_misspelt_line_is_refused(words, text, tried):
    assert text in tried(words)


def test_missing_folders_are_asked_for(use):
    said = use("train")
    assert said.code == 2
    assert "missing required --annotations, --videos" in said.err
