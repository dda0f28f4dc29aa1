"""Recordings survive a round trip and name what is missing."""

import numpy as np
import pytest

from common.config import UserError
from rodent_behavior.live.recording import Recorder, Recording
from rodent_behavior.live.sinks import Event


def recorded(frames=600):
    recorder = Recorder(2, 3)
    rng = np.random.default_rng(0)
    poses, probs = (
        rng.normal(size=(frames, 2, 3)).astype(np.float32),
        rng.random((frames, 3)).astype(np.float32),
    )
    for frame in range(frames):
        recorder.append(
            index=2 * frame,
            frame_time=None if frame % 2 else frame / 30,
            pose=poses[frame],
            segment=frame // 100,
            arrival=5 + frame / 30,
            probs=probs[frame],
        )
    events = [
        Event(3, 0.1, 7.0, "lick", 0.9, "on", "level"),
        Event(4, None, 8.0, None, None, "restart", "gap"),
    ]
    return recorder.finish(events, {"classes": ["a", "b", "c"], "fps": 30.0}), poses, probs


def test_round_trip(tmp_path):
    recording, poses, probs = recorded()
    recording.write(tmp_path / "session")
    again = Recording.read(tmp_path / "session")
    assert sorted(path.name for path in (tmp_path / "session").iterdir()) == [
        "config.yaml", "events.jsonl", "poses.npz", "probs.npy",
    ]  # fmt: skip
    assert np.array_equal(again.pose, poses)
    assert np.array_equal(again.probs, probs)
    assert again.pose.dtype == np.float32
    assert again.index.tolist() == list(range(0, 1200, 2))
    assert np.array_equal(np.isnan(again.frame_time), np.arange(600) % 2 == 1)
    assert again.segment[-1] == 5
    assert again.arrival[30] == pytest.approx(6)
    assert again.events == recording.events
    assert again.config == {"classes": ["a", "b", "c"], "fps": 30.0}


def test_what_is_no_recording_is_named(tmp_path):
    with pytest.raises(UserError, match=r"poses.npz.*missing"):
        Recording.read(tmp_path)
    recorded(3)[0].write(tmp_path)
    np.savez(tmp_path / "poses.npz", index=np.arange(3))
    with pytest.raises(UserError, match="holds"):
        Recording.read(tmp_path)
