"""Streaming equals the offline causal model; time grid; gap holding."""

import math
import subprocess
import sys
import tracemalloc

import numpy as np
import pytest
from streaming_pieces import CLASSES, build, offline, walk

from rodent_behavior.keypoints import fill_gaps
from rodent_behavior.streaming import GapHold, StreamingBehavior, StreamingConfig, TimeGrid


def probabilities(stream, poses, visual=None):
    given = [None] * len(poses) if visual is None else visual
    return np.array([stream.step(pose, visual=one).probs for pose, one in zip(poses, given)])


@pytest.mark.parametrize("pose_features", ["invariant", "graph18", "generic"])
def test_streaming_equals_the_offline_model(pose_features):
    model, stream = build(pose_features=pose_features)
    poses = walk(90, hidden=0.35)
    poses[:12, 1, 2] = 0.1
    found = probabilities(stream, poses)
    expected = offline(model, stream.config, poses)
    assert found == pytest.approx(expected, abs=1e-5)
    assert expected.std(axis=0).max() > 0.01
    stream.reset()
    assert np.array_equal(probabilities(stream, poses), found)


def test_streaming_equals_the_offline_tcn_with_visual_features():
    model, stream = build(
        temporal_model="tcn", hidden_dim=64, num_layers=2, refinements=0, visual_dim=5, head="cosine"
    )
    poses, visual = walk(40), np.random.default_rng(0).normal(size=(40, 5))
    assert probabilities(stream, poses, visual) == pytest.approx(
        offline(model, stream.config, poses, visual), abs=1e-5
    )


def test_a_visual_model_needs_no_pose():
    model, stream = build(pose_features="none", visual_dim=5, num_keypoints=0)
    visual = np.random.default_rng(0).normal(size=(20, 5))
    found = np.array([stream.step(None, visual=row).probs for row in visual])
    assert found == pytest.approx(offline(model, stream.config, np.zeros((20, 6, 3)), visual), abs=1e-5)
    with pytest.raises(ValueError, match="visual is absent"):
        stream.step(None)


def test_a_deep_model_streams_past_its_receptive_field():
    model, stream = build(hidden_dim=8, num_layers=6, refinements=1)
    poses = walk(400, seed=3)
    found = probabilities(stream, poses)
    assert found == pytest.approx(offline(model, stream.config, poses), abs=1e-5)


def test_gap_hold_equals_fill_gaps():
    rng = np.random.default_rng(0)
    for max_gap in (0, 1, 4, 15):
        seen = np.repeat(rng.random((30, 4)) < 0.5, 3, axis=0)
        seen &= rng.random(seen.shape) < 0.8
        xy = np.where(seen[..., None], rng.uniform(0, 500, (90, 4, 2)), np.nan)
        expected_xy, expected = fill_gaps(xy, seen, max_gap, True)
        hold = GapHold(4, max_gap)
        for frame in range(90):
            points, visibility = hold.update(xy[frame], seen[frame])
            assert np.array_equal(visibility, expected[frame])
            known = visibility > 0
            assert np.array_equal(points[known], expected_xy[frame][known])
        hold.reset()
        assert (hold.update(xy[0], np.zeros(4, dtype=bool))[1] == 0).all()


def test_index_label_and_abstention():
    _, stream = build()
    poses = walk(10, hidden=0)
    poses[0, 1, 2] = 0.1
    poses[5, :4, 2] = 0.1
    results = [stream.step(pose) for pose in poses]
    assert [result.index for result in results] == list(range(10))
    assert [result.abstain for result in results] == [i in (0, 5) for i in range(10)]
    assert results[0].label == results[5].label == "unknown"
    assert results[7].label == CLASSES[int(results[7].probs.argmax())]
    assert results[7].probs.sum() == pytest.approx(1)


def test_temperature_divides_the_logits():
    poses = walk(5)
    cold, warm = (probabilities(build(temperature=t)[1], poses) for t in (1.0, 3.0))
    expected = cold ** (1 / 3) / (cold ** (1 / 3)).sum(1, keepdims=True)
    assert warm == pytest.approx(expected, abs=1e-5)


def test_dropped_frames_are_fed_as_missing():
    model, stream = build(max_gap=5)
    poses = walk(30, hidden=0.1)
    gone = [7, 8, 9, 20]
    kept = [frame for frame in range(30) if frame not in gone]
    results = [stream.step(poses[frame], frame_time=100 + frame / 30) for frame in kept]
    holes = poses.copy()
    holes[gone] = np.nan
    assert np.array([r.probs for r in results]) == pytest.approx(
        offline(model, stream.config, holes)[kept], abs=1e-5
    )
    assert [result.index for result in results] == kept
    assert {kept[i]: r.missed for i, r in enumerate(results) if r.missed} == {10: 3, 21: 1}


def test_a_repeated_frame_time_counts_once():
    _, stream = build()
    poses = walk(6)
    plain = probabilities(stream, poses)
    stream.reset()
    first = stream.step(poses[0], frame_time=5.0)
    again = stream.step(poses[0], frame_time=5.0)
    assert again.status == "repeated"
    assert np.array_equal(again.probs, first.probs)
    later = [stream.step(pose, frame_time=5 + frame / 30) for frame, pose in enumerate(poses)][1:]
    assert np.array_equal([result.probs for result in later], plain[1:])


@pytest.mark.parametrize(("moment", "status"), [(1 + 12 / 30, "gap"), (0.9, "backwards")])
def test_long_gaps_and_steps_back_restart(moment, status):
    _, stream = build(max_gap=5)
    poses = walk(12)
    for frame in range(6):
        stream.step(poses[frame], frame_time=1 + frame / 30)
    result = stream.step(poses[6], frame_time=moment)
    assert (result.status, result.index) == (status, 0)
    stream.reset()
    assert np.array_equal(result.probs, stream.step(poses[6]).probs)


def test_time_grid_rounds_to_the_nearest_step():
    grid = TimeGrid(30.0, 3)
    moments = [0.0, 0.034, 0.049, 0.06, 0.2, 0.234, 0.4]
    assert [grid.advance(moment) for moment in moments] == [
        ("new", 0), ("new", 0), ("repeated", 0), ("new", 0), ("new", 3), ("new", 0), ("gap", 0),
    ]  # fmt: skip
    with pytest.raises(ValueError, match="frame_time"):
        grid.advance(math.nan)


def test_miss_is_a_frame_without_keypoints():
    _, stream = build()
    poses = walk(6)
    poses[3] = np.nan
    expected = probabilities(stream, poses)
    stream.reset()
    found = [stream.miss() if frame == 3 else stream.step(poses[frame]) for frame in range(6)]
    assert np.array_equal([result.probs for result in found], expected)


def test_a_bad_pose_leaves_the_stream_as_it_was():
    _, stream = build()
    poses = walk(4)
    expected = probabilities(stream, poses)
    stream.reset()
    found = []
    for pose in poses:
        with pytest.raises(ValueError, match="pose is"):
            stream.step(pose[:5])
        found.append(stream.step(pose).probs)
    assert np.array_equal(found, expected)


def test_settings_that_do_not_fit_are_named():
    model, stream = build()
    weights = {name: tensor.numpy() for name, tensor in model.state_dict().items()}
    config = stream.config
    good = {name: getattr(config, name) for name in config.__dataclass_fields__}
    for changes, word in [
        ({"classes": CLASSES[:5]}, "classes"),
        ({"fps": 0}, "fps"),
        ({"max_gap": -1}, "max_gap"),
        ({"pose_features": "none"}, "pose_features"),
    ]:
        with pytest.raises(ValueError, match=word):
            StreamingConfig(**{**good, **changes})
    with pytest.raises(ValueError, match="pose_dim"):
        StreamingConfig(**{**good, "pose_features": "graph18"}).features()
    with pytest.raises(ValueError, match="normalizer"):
        StreamingBehavior(weights, StreamingConfig(**{**good, "normalizer": None}))


def test_streaming_and_live_need_no_torch():
    code = "import sys, rodent_behavior.streaming, rodent_behavior.live; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_memory_does_not_grow():
    _, stream = build(hidden_dim=8, num_layers=3)
    poses = walk(50)
    for pose in poses:
        stream.step(pose)
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    for _ in range(4):
        for pose in poses:
            stream.step(pose)
    grown = tracemalloc.get_traced_memory()[0] - before
    tracemalloc.stop()
    assert grown < 20_000
