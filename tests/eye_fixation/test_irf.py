"""Reading hand-labelled recordings, and the counts of the real ones."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from eye_files import irf_samples, write_irf

from common.config import UserError
from eye_fixation.data.irf import fixed_split, read_irf
from eye_fixation.data.pt import load_folder
from eye_fixation.framing import frame_samples, window_starts
from eye_fixation.prepare_config import GazeConfig


def test_samples_are_shares_of_the_screen_and_say_whether_they_count(tmp_path: Path) -> None:
    samples = irf_samples(1000)
    samples["x"][10], samples["y"][10] = 10, -5
    samples["x"][11], samples["status"][11] = np.nan, False
    samples["evt"][12], samples["x"][13], samples["evt"][14] = 5, 26, 2
    (recording,), geometry = read_irf(write_irf(tmp_path, {"S1": samples}), GazeConfig())
    assert recording.name == "S1"
    assert recording.x[10] == pytest.approx(0.5 + 565 * np.tan(np.radians(10)) / 533)
    assert recording.y[10] == pytest.approx(0.5 + 565 * np.tan(np.radians(-5)) / 301)
    assert np.flatnonzero(~recording.valid).tolist() == [11, 12, 13]
    assert recording.off_screen == 1
    assert geometry.screen_mm == (533.0, 301.0)
    assert geometry.distance_mm == 565.0
    (clipped,), _ = read_irf(tmp_path, GazeConfig(offscreen="clip"))
    assert np.flatnonzero(~clipped.valid).tolist() == [11, 12]
    assert clipped.x[13] == 1 - 1e-6


def test_missing_fields_and_geometry_are_named(tmp_path: Path) -> None:
    samples = irf_samples(50)
    folder = write_irf(tmp_path / "a", {"S1": samples[["t", "x", "status", "evt"]].copy()})
    with pytest.raises(UserError, match=r"EL_S1\.npy: no field y; fields found: t, x, status, evt"):
        read_irf(folder, GazeConfig())
    folder = write_irf(tmp_path / "b", {"S1": samples})
    config = folder / "db_config.json"
    geometry = json.loads(config.read_text())
    del geometry["geom"]["eye_distance"]
    config.write_text(json.dumps(geometry))
    with pytest.raises(UserError, match=r"db_config\.json: geom lacks eye_distance"):
        read_irf(folder, GazeConfig())
    config.write_text("{")
    with pytest.raises(UserError, match=r"db_config\.json: no JSON"):
        read_irf(folder, GazeConfig())
    config.unlink()
    with pytest.raises(UserError, match=r"db_config\.json"):
        read_irf(folder, GazeConfig())


def test_contents_that_are_wrong_are_named(tmp_path: Path) -> None:
    late = irf_samples(50)
    late["t"][7] = late["t"][6]
    outside = irf_samples(50)
    outside["x"][:20] = 40
    label = irf_samples(50)
    label["evt"][3] = 9
    for name, samples, said in (
        ("a", late, "sample 7: time 0.006 does not follow 0.006"),
        ("b", outside, r"40\.0% of the gaze is off the screen \(x .* to 40"),
        ("c", label, "evt 9"),
        ("d", np.array([None, {}]), "no array that can be read"),
    ):
        with pytest.raises(UserError, match=said):
            read_irf(write_irf(tmp_path / name, {"S1": samples}), GazeConfig())


def test_flags_do_not_contradict_the_file(tmp_path: Path) -> None:
    folder = write_irf(tmp_path, {"S1": irf_samples(50)})
    with pytest.raises(UserError, match=r"--distance-mm 600 contradicts .*db_config.json, which says 565"):
        read_irf(folder, GazeConfig(distance_mm=600.0))
    (tmp_path / "lookAtPoint_EL_S1.npy").unlink()
    with pytest.raises(UserError, match=r"no \.npy file"):
        read_irf(folder, GazeConfig())


def test_published_split() -> None:
    assert fixed_split(["S1", "S6"]) == {"S1": 0, "S2": 0, "S3": 0, "S4": 0, "S5": 1, "S6": 2}
    assert fixed_split(["S1", "S7"]) is None


def test_real_recordings_give_the_documented_frames(real_data: Path) -> None:
    recordings, _ = read_irf(real_data / "irf", GazeConfig())
    invalid, windows = [], []
    for recording in recordings:
        _, mask, start = frame_samples(recording.t, recording.x, recording.y, recording.valid, rate_hz=20)
        assert (len(mask), start) == (1620, 0.0)
        invalid.append(int((~mask).sum()))
        windows.append(len(window_starts(mask, length=20, hop=7, min_valid=1.0)[0]))
    assert invalid == [71, 4, 296, 0, 2, 1]
    assert windows == [157, 225, 126, 229, 226, 226]


def test_real_recordings_give_the_documented_sequences(
    real_data: Path, tmp_path: Path, prepare: Callable[..., Any]
) -> None:
    said = prepare("--source irf --events column --input", real_data / "irf", "--out", tmp_path / "data")
    assert (said.code, said.err) == (0, "")
    assert "excluded S3" in said.out
    assert "warning" not in said.out
    splits = load_folder(tmp_path / "data")
    assert [len(part) for part in splits] == [611, 226, 226]
    assert splits.test.metadata.stimulus_period == 30
    assert set(np.unique(splits.train.events)) <= {1, 2, 3, 0}
    sides = np.array([533.0, 301.0])
    gaze = torch.cat([part.coordinates for part in splits]).double()
    documented = ((1, 0.612, 0.757), (3, 1.185, 1.482), (6, 1.983, 2.494), (10, 3.033, 3.824))
    for horizons, cells, degrees in documented:
        future, last = gaze[:, 10 : 10 + horizons], gaze[:, 9:10]
        assert (future - last).norm(dim=-1).mean().item() == pytest.approx(cells, abs=0.005)
        angles = [np.degrees(np.arctan((part.numpy() / 32 - 0.5) * sides / 565)) for part in (future, last)]
        assert np.linalg.norm(angles[0] - angles[1], axis=-1).mean() == pytest.approx(degrees, abs=0.005)


def test_hop_of_the_stimulus_is_warned_of(real_data: Path, prepare: Callable[..., Any]) -> None:
    said = prepare("--source irf --hop 10 --dry-run --input", real_data / "irf")
    assert said.code == 0
    assert "--hop 10: the stimulus repeats every 30 frames, so windows share 3 phases" in said.out
