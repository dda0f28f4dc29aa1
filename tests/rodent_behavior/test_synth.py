import csv

import cv2
import numpy as np
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import f1_score, precision_recall_curve

from rodent_behavior.config import KEYPOINTS
from rodent_behavior.dlc import read_dlc
from rodent_behavior.labels import LabelMap, read_labels
from rodent_behavior.metadata import read_metadata
from rodent_behavior.rendering import BLOBS, read_bar_code
from rodent_behavior.settings import IndexSettings
from rodent_behavior.skeleton import LEFT_HIND, PAWS, RIGHT_HIND, TAIL, Action
from rodent_behavior.synth import TRIAL_FRAMES, generate
from rodent_behavior.trials import build_index

SHARES = {"REST": 0.756, "WITHDRAW": 0.022, "LICK": 0.108, "SHAKE": 0.017, "WALK": 0.054, "ACTIVE": 0.043}
LENGTHS = {"WITHDRAW": (5, 12), "LICK": (30, 120), "SHAKE": (8, 20), "WALK": (20, 60), "ACTIVE": (20, 60)}
WITHDRAW = int(Action.WITHDRAW)


@pytest.fixture(scope="module")
def truth(tmp_path_factory):
    """The default data set without pictures."""
    return generate(tmp_path_factory.mktemp("poses"), render=False)


@pytest.fixture(scope="module")
def filmed(tmp_path_factory):
    """One short video with frame numbers."""
    return generate(tmp_path_factory.mktemp("films"), videos=1, trials=2, seed=3, bar_code=True)


def bouts(actions):
    """(class, start, stop) of every run of equal labels."""
    edges = np.flatnonzero(np.diff(actions)) + 1
    return [(int(actions[a]), a, b) for a, b in zip([0, *edges], [*edges, len(actions)])]


def all_bouts(truth):
    return [
        (recording, action, start, stop)
        for recording in truth.recordings
        for action, start, stop in bouts(recording.actions)
    ]


def read_frames(path):
    capture = cv2.VideoCapture(str(path))
    frames = []
    while (found := capture.read())[0]:
        frames.append(found[1][..., ::-1])
    capture.release()
    return np.stack(frames)


@pytest.mark.parametrize("seed", [0, 5])
def test_shares_and_lengths_are_the_realistic_ones(seed, tmp_path):
    truth = generate(tmp_path, seed=seed, render=False)
    labelled = [r.actions[r.labelled(trial)] for r in truth.recordings for trial in (1, 2, 3)]
    counts = np.bincount(np.concatenate(labelled), minlength=6)
    for action in Action:
        share = counts[action] / counts.sum()
        assert share == pytest.approx(SHARES[action.name], rel=0.08), action.name
    for _, action, start, stop in all_bouts(truth):
        if action != Action.REST:
            shortest, longest = LENGTHS[Action(action).name]
            assert shortest <= stop - start <= longest


def test_every_video_shows_every_behaviour(truth):
    for recording in truth.recordings:
        assert set(recording.actions) == set(range(6))


def test_label_files_read_back_as_the_truth(truth):
    files = sorted(path.name for path in truth.annotations.iterdir())
    assert files == [
        f"prediction_mouse_{video}.mp4_{trial}.csv" for video in range(1, 9) for trial in (1, 2, 3)
    ]
    label_map, seen = LabelMap.default(), set()
    for recording in truth.recordings:
        for trial in (1, 2, 3):
            path = truth.annotations / f"prediction_{recording.video}_{trial}.csv"
            with path.open(newline="", encoding="utf-8") as file:
                rows = list(csv.DictReader(file))
            raw = np.array([int(row["Action"]) for row in rows])
            assert [int(row["Frame"]) for row in rows] == list(range(recording.rows[trial - 1]))
            np.testing.assert_array_equal(raw, recording.raw[recording.labelled(trial)])
            merged = recording.actions[recording.labelled(trial)]
            np.testing.assert_array_equal(read_labels(path, label_map).actions, merged)
            np.testing.assert_array_equal(label_map.merge(raw), merged)
            seen |= set(raw)
    assert seen == set(range(8))


def test_every_fourth_label_file_describes_the_last_345_frames(truth):
    rows = [count for recording in truth.recordings for count in recording.rows]
    assert rows == [360, 360, 360, 345] * 6
    settings = IndexSettings(
        annotations=truth.annotations, videos=truth.videos, need_video=False, min_frames=345
    )
    trials = {(trial.video_id, trial.trial): trial for trial in build_index(settings, None).trials}
    assert len(trials) == 24
    for recording in truth.recordings:
        for number in (1, 2, 3):
            trial = trials[recording.stem, number]
            frames = recording.labelled(number)
            assert (trial.label_start, trial.label_start + trial.rows) == (frames.start, frames.stop)
            assert frames.stop == number * TRIAL_FRAMES


def test_keypoint_files_show_the_true_places(truth):
    for recording in truth.recordings:
        path = truth.videos / f"{recording.stem}DLC_synthetic.csv"
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.reader(file))
        assert [row[0] for row in rows[:4]] == ["scorer", "bodyparts", "coords", "0"]
        assert len(rows) == 3 + 1080
        table = read_dlc(path, KEYPOINTS)
        assert table.scorer == "DLC_synthetic"
        error = np.linalg.norm(table.xy - recording.xy, axis=2) / recording.scale
        visible = table.likelihood >= 0.9
        assert np.median(error[visible]) < 0.015
        assert np.median(error[~visible]) > 0.05
        assert np.mean(error[visible] > 0.08) < 0.01


def test_fore_paws_are_lost_most_and_the_tail_base_hardly_ever(truth):
    tables = [read_dlc(truth.videos / f"{r.stem}DLC_synthetic.csv", KEYPOINTS) for r in truth.recordings]
    shares = (np.concatenate([table.likelihood for table in tables]) >= 0.9).mean(axis=0)
    assert shares[TAIL] > 0.99
    assert 0.6 < shares[list(PAWS[:2])].max() < shares[list(PAWS[2:])].min() < 0.97


def test_metadata_stand_in_for_a_video(truth, filmed):
    metadata = read_metadata(truth.videos / "mouse_1DLC_synthetic_meta.pickle")
    assert metadata is not None
    assert (metadata.fps, metadata.width, metadata.height, metadata.frames) == (30.0, 96, 96, 1080)
    assert not list(truth.videos.glob("*.mp4"))
    assert not list(filmed.videos.glob("*.pickle"))


def test_bar_code_survives_compression_at_every_frame(filmed):
    for recording in filmed.recordings:
        frames = read_frames(filmed.videos / recording.video)
        assert [read_bar_code(frame) for frame in frames] == list(range(720))


def test_blobs_lie_at_the_true_keypoints(filmed):
    recording = filmed.recordings[0]
    frames = read_frames(filmed.videos / recording.video)
    resting = np.flatnonzero(recording.actions == Action.REST)[::10]
    for point in (TAIL, LEFT_HIND, RIGHT_HIND):
        x, y = np.rint(recording.xy[resting, point]).astype(int).T
        shown = frames[resting, y, x].astype(int)
        far = np.abs(shown - np.array(BLOBS[point])).max(axis=1)
        assert np.median(far) < 70


def test_same_seed_same_files_other_seed_others(filmed, tmp_path):
    again = generate(tmp_path / "again", videos=1, trials=2, seed=3, bar_code=True)
    other = generate(tmp_path / "other", videos=1, trials=2, seed=4, render=False)
    for folder, repeated in ((filmed.annotations, again.annotations), (filmed.videos, again.videos)):
        names = sorted(path.name for path in folder.iterdir())
        assert names == sorted(path.name for path in repeated.iterdir())
        for name in names:
            assert (folder / name).read_bytes() == (repeated / name).read_bytes(), name
    assert not np.array_equal(filmed.recordings[0].actions, other.recordings[0].actions)
    assert not np.array_equal(filmed.recordings[0].xy[0], other.recordings[0].xy[0])


def test_pictures_do_not_change_the_truth(filmed, tmp_path):
    unseen = generate(tmp_path, videos=1, trials=2, seed=3, render=False)
    for one, two in zip(filmed.recordings, unseen.recordings):
        np.testing.assert_array_equal(one.actions, two.actions)
        np.testing.assert_array_equal(one.xy, two.xy)


def test_each_trial_starts_anew(truth):
    for recording in truth.recordings:
        steps = np.linalg.norm(np.diff(recording.xy[:, TAIL], axis=0), axis=1) / recording.scale
        edges = [TRIAL_FRAMES - 1, 2 * TRIAL_FRAMES - 1]
        assert steps[edges].min() > 0.3
        assert np.delete(steps, edges).max() < 0.15
        assert (recording.actions.reshape(3, TRIAL_FRAMES)[:, [0, -1]] == Action.REST).all()


def test_withdrawals_on_both_sides_retract_as_much_as_said(truth):
    sides = []
    for recording, action, start, stop in all_bouts(truth):
        if action != WITHDRAW:
            continue
        ego = ego_points(recording.xy[start - 4 : stop + 4])
        moved = np.linalg.norm(ego[4:-4, [LEFT_HIND, RIGHT_HIND]] - ego[0, [LEFT_HIND, RIGHT_HIND]], axis=2)
        sides.append(int(moved.max(axis=0).argmax()))
        assert 0.1 < moved.max() < 0.4
    assert 0.2 < np.mean(sides) < 0.8


@pytest.mark.parametrize(
    ("argument", "value"), [("videos", 0), ("trials", 0), ("size", 40), ("fps", 0), ("fps", float("nan"))]
)
def test_argument_out_of_range_is_named(argument, value, tmp_path):
    with pytest.raises(ValueError, match=f"{argument} is"):
        generate(tmp_path, **{argument: value})
    assert not list(tmp_path.iterdir())


def ego_points(xy):
    """Keypoints [T, 6, 2] relative to the tail base along and across the body, in body lengths."""
    apart = xy - xy[:, [TAIL]]
    along = apart[:, 0] / np.linalg.norm(apart[:, 0], axis=1, keepdims=True)
    across = np.stack([-along[:, 1], along[:, 0]], axis=1)
    scale = np.median(np.linalg.norm(apart[:, 0], axis=1))
    return np.stack([(apart * axis[:, None]).sum(axis=2) for axis in (along, across)], axis=2) / scale


@pytest.fixture(scope="module")
def tracked(truth):
    """Per video the tracked ego points [3, 360, 6, 2], gaps filled, and the labels [3, 360]."""
    videos = []
    for recording in truth.recordings:
        table = read_dlc(truth.videos / f"{recording.stem}DLC_synthetic.csv", KEYPOINTS)
        xy, time = table.xy.copy(), np.arange(len(table.xy))
        for point in range(6):
            seen = np.flatnonzero(table.likelihood[:, point] >= 0.9)
            for axis in range(2):
                xy[:, point, axis] = np.interp(time, seen, xy[seen, point, axis])
        videos.append((ego_points(xy).reshape(3, 360, 6, 2), recording.actions.reshape(3, 360)))
    return videos


@pytest.mark.parametrize("lag", [1, 2, 5])
@pytest.mark.parametrize("paws", [PAWS, PAWS[2:]])
@pytest.mark.parametrize("spread", [1, 9])
def test_no_threshold_on_paw_speed_finds_withdrawals(tracked, lag, paws, spread):
    scores, labels = [], []
    for ego, actions in tracked:
        for points, row in zip(ego[:, :, list(paws)], actions):
            speed = np.zeros(360)
            speed[lag:] = np.linalg.norm(points[lag:] - points[:-lag], axis=2).max(axis=1)
            scores.append(np.convolve(speed, np.full(spread, 1 / spread), "same"))
            labels.append(row == WITHDRAW)
    precision, recall, _ = precision_recall_curve(np.concatenate(labels), np.concatenate(scores))
    best = (2 * precision * recall / np.maximum(precision + recall, 1e-9)).max()
    assert 0.05 < best < 0.45


def test_a_forest_on_windows_of_ego_paws_finds_withdrawals(tracked):
    lags = (-12, -9, -7, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 7, 9, 12)
    inputs, labels = [], []
    for ego, actions in tracked:
        for points, row in zip(ego[:, :, [0, *PAWS[2:]]].reshape(3, 360, 6), actions):
            padded = np.pad(points, ((12, 12), (0, 0)), mode="edge")
            windows = [padded[12 + lag : 372 + lag] - (points if lag else 0) for lag in lags]
            inputs.append(np.concatenate(windows, axis=1))
            labels.append(row == WITHDRAW)
    forest = RandomForestClassifier(
        30, min_samples_leaf=3, class_weight="balanced_subsample", random_state=0
    ).fit(np.concatenate(inputs[:15]), np.concatenate(labels[:15]))
    assert f1_score(np.concatenate(labels[15:]), forest.predict(np.concatenate(inputs[15:]))) > 0.6
