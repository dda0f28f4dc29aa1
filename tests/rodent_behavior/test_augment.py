"""Augmentation moves every stream alike, by documented probabilities, and never touches targets."""

from dataclasses import replace

import numpy as np
import pytest
from coded_video import coded_frame, read_codes

from common.config import UserError
from common.engine.randomness import SampleKey
from rodent_behavior.augment import (
    Augmentation,
    Augmenter,
    Views,
    effective,
    fixed_hiding,
    hide,
    jitter_mode,
    swap_table,
)
from rodent_behavior.config import AugmentConfig
from rodent_behavior.keypoints import Keypoints

NAMES = ("mouth", "tail_base", "L_frontpaw", "R_frontpaw", "L_hindpaw", "R_hindpaw")
OFF = replace(effective(AugmentConfig(augment=False)), augment=True)
"""Switched on, with every strength 0."""
WIDTH, HEIGHT = 640, 480


def key(draw: int = 0, epoch: int = 0) -> SampleKey:
    return SampleKey(3, epoch, draw)


def augmenter(config: AugmentConfig = OFF, **settings: object) -> Augmenter:
    return Augmenter(config, seed=123, **{"kp_names": NAMES, **settings})  # type: ignore[arg-type]


def coded_poses(frames: int, *, hidden: float = 0.0) -> Keypoints:
    """Keypoints that tell which and of which frame they are; a share is missing or filled."""
    rng = np.random.default_rng(0)
    xy = np.empty((frames, 6, 2))
    xy[..., 0] = 100 + 10 * np.arange(6) + np.arange(frames)[:, None] / 100
    xy[..., 1] = 200 + np.arange(6)
    visibility = np.where(rng.random((frames, 6)) < hidden, rng.choice([0, 0.5], (frames, 6)), 1.0)
    return Keypoints.of(xy, visibility, np.full((frames, 6), 0.95), np.full(frames, 100.0))


def draws(config: AugmentConfig, count: int, length: int = 60, **settings: object) -> list[Augmentation]:
    source = augmenter(config, **settings)
    return [source.draw(key(k), length, 15) for k in range(count)]


@pytest.mark.parametrize("length", [1, 2, 37, 60])
def test_every_stream_stays_aligned(length: int) -> None:
    config = AugmentConfig(aug_roll=9, aug_temporal_drop=0.3, aug_hflip=0.5)
    source = augmenter(config, hide=True)
    video = np.stack([coded_frame(t, 80, 16) for t in range(length)])
    ids = np.arange(length)
    for k in range(60):
        drawn = source.draw(key(k), length, 15)
        streams = drawn.streams(
            {"labels": ids, "pose": np.stack([ids, ids], 1), "visibility": ids / 4}, np.ones(length, bool)
        )
        np.testing.assert_array_equal(streams["pose"][:, 1], streams["labels"])
        np.testing.assert_array_equal(streams["visibility"], streams["labels"] / 4)
        plain = replace(drawn, flip=False, photometric=replace(drawn.photometric, noise_std=0))
        seen = np.array(read_codes(plain.frames(video)))
        held = np.arange(length)[drawn.hold.index]
        np.testing.assert_array_equal(seen, held[streams["labels"]])
        np.testing.assert_array_equal(
            np.diff(streams["labels"])[streams["loss"][1:] & streams["loss"][:-1]], 1
        )


def test_wrapped_frames_carry_no_loss_and_others_keep_theirs() -> None:
    loss = np.zeros(60, bool)
    loss[10:50] = True
    for drawn in draws(replace(OFF, aug_roll=5), 60):
        streams = drawn.streams({"labels": np.arange(60)}, loss)
        assert streams["loss"].sum() == 40
        np.testing.assert_array_equal(loss[streams["labels"]][streams["loss"]], True)
        edge = drawn.streams({"labels": np.arange(60)}, np.ones(60, bool))
        shift = int(-drawn.shift.index[0]) % 60
        assert edge["loss"].sum() == 60 - min(shift, 60 - shift)


def test_dropped_frames_change_the_video_only() -> None:
    changed = [d for d in draws(replace(OFF, aug_temporal_drop=0.1), 60) if not d.video_map.is_identity]
    assert changed
    for drawn in changed:
        assert drawn.shift.is_identity
        assert (drawn.video_map.index != np.arange(60)).sum() == 6
    cached = np.arange(60, dtype=np.float16).reshape(1, 60, 1)
    np.testing.assert_array_equal(changed[0].features(cached, Views())[:, 0], changed[0].video_map.index)


@pytest.mark.parametrize(
    ("config", "active", "probability"),
    [
        (replace(OFF, aug_hflip=0.4), lambda d: d.flip, 0.4),
        (replace(OFF, aug_roll=5), lambda d: not d.shift.is_identity, 0.2 * 10 / 11),
        (replace(OFF, aug_temporal_drop=0.1), lambda d: not d.hold.is_identity, 0.3),
        (replace(OFF, aug_brightness=0.2), lambda d: d.photometric.brightness != 1, 0.5),
        (replace(OFF, aug_contrast=0.2), lambda d: d.photometric.contrast != 1, 0.5),
        (replace(OFF, aug_noise_std=0.02), lambda d: d.photometric.noise_std == 0.02, 0.3),
        (replace(OFF, kp_jitter_std=0.02), lambda d: d.jitter is not None, 1.0),
    ],
)
def test_each_change_has_its_documented_probability(
    config: AugmentConfig, active: object, probability: float
) -> None:
    happened = [active(drawn) for drawn in draws(config, 500)]
    assert np.mean(happened) == pytest.approx(probability, abs=0.07)
    assert not any(active(drawn) for drawn in draws(OFF, 50))


def test_draws_depend_on_nothing_but_seed_and_key() -> None:
    config = AugmentConfig(aug_hflip=0.5)
    first, again = augmenter(config).draw(key(1), 60), augmenter(config).draw(key(1), 60)
    assert (first.flip, first.photometric, first.copy) == (again.flip, again.photometric, again.copy)
    np.testing.assert_array_equal(first.jitter, again.jitter)
    others = [augmenter(config).draw(key(k, epoch), 60).photometric for k in range(10) for epoch in range(3)]
    assert len({other.noise_key for other in others}) == 30
    other_seed = Augmenter(config, seed=124, kp_names=NAMES).draw(key(1), 60)
    assert other_seed.photometric.noise_key != first.photometric.noise_key


def test_switching_one_change_off_leaves_the_others() -> None:
    full = AugmentConfig()
    for k in range(20):
        drawn = augmenter(full).draw(key(k), 60)
        without = augmenter(replace(full, aug_brightness=0.0, aug_roll=0)).draw(key(k), 60)
        assert drawn.photometric.contrast == without.photometric.contrast
        np.testing.assert_array_equal(drawn.hold.index, without.hold.index)
        np.testing.assert_array_equal(drawn.jitter, without.jitter)


def test_master_switch_changes_nothing_at_all() -> None:
    poses = coded_poses(75, hidden=0.3)
    video = np.stack([coded_frame(t, 80, 16) for t in range(60)])
    drawn = augmenter(AugmentConfig(augment=False, aug_hflip=1.0)).draw(key(), 60, 15)
    result = drawn.poses(poses, WIDTH, HEIGHT)
    np.testing.assert_array_equal(result.inputs.xy, poses.xy)
    np.testing.assert_array_equal(result.inputs.visibility, poses.visibility)
    np.testing.assert_array_equal(drawn.frames(video), video.astype(np.float32) / 255)
    assert drawn.video_map.is_identity


def test_jitter_moves_visible_inputs_only_and_never_targets() -> None:
    poses = coded_poses(75, hidden=0.3)
    drawn = augmenter(replace(OFF, kp_jitter_std=0.02), pose_features="graph18").draw(key(), 60, 15)
    result = drawn.poses(poses, WIDTH, HEIGHT)
    moved = (result.inputs.xy != poses.xy).any(axis=2)
    np.testing.assert_array_equal(moved, poses.visibility == 1)
    steps = (result.inputs.xy - poses.xy)[moved] / (WIDTH, HEIGHT)
    np.testing.assert_allclose(steps.std(axis=0), 0.02, rtol=0.15)
    np.testing.assert_allclose(result.target, poses.xy[15:] / (WIDTH, HEIGHT), rtol=1e-6)
    np.testing.assert_array_equal(result.scored, poses.visibility[15:] == 1)
    np.testing.assert_array_equal(result.inputs.scale, poses.scale)


def test_jitter_per_window_keeps_speeds() -> None:
    poses = coded_poses(75)
    config = replace(OFF, kp_jitter_std=0.02)
    drawn = augmenter(config, pose_features="invariant").draw(key(), 60, 15)
    result = drawn.poses(poses, WIDTH, HEIGHT)
    np.testing.assert_allclose(np.diff(result.inputs.xy, axis=0), np.diff(poses.xy, axis=0), atol=1e-9)
    offsets = (result.inputs.xy - poses.xy)[0] / (WIDTH, HEIGHT)
    assert 0.01 < offsets.std() < 0.04
    assert len(np.unique(offsets)) == 12
    assert jitter_mode(config, "graph18") == "frame"
    assert jitter_mode(config, "generic") == "window"
    assert jitter_mode(replace(config, kp_jitter_mode="frame"), "generic") == "frame"
    assert jitter_mode(replace(config, kp_jitter_mode="window"), "graph18") == "window"


def test_flip_mirrors_inputs_visibility_targets_and_video_together() -> None:
    poses = coded_poses(75, hidden=0.3)
    drawn = augmenter(replace(OFF, aug_hflip=1.0)).draw(key(), 60, 15)
    assert drawn.swap == (0, 1, 3, 2, 5, 4)
    result = drawn.poses(poses, WIDTH, HEIGHT)
    swap = list(drawn.swap)
    known = poses.visibility[:, swap] > 0
    expected = poses.xy[:, swap] * (-1, 1) + (WIDTH, 0)
    np.testing.assert_allclose(result.inputs.xy, np.where(known[..., None], expected, 0))
    np.testing.assert_array_equal(result.inputs.visibility, poses.visibility[:, swap])
    seen = result.scored
    np.testing.assert_allclose(result.target[seen], (expected[15:] / (WIDTH, HEIGHT))[seen], rtol=1e-6)
    video = np.stack([coded_frame(t, 80, 16) for t in range(60)])
    np.testing.assert_array_equal(drawn.frames(video), video[:, :, ::-1].astype(np.float32) / 255)


def test_sides_come_from_names() -> None:
    assert swap_table(("Left_Ear", "nose", "right_ear")) == (2, 1, 0)
    assert swap_table(("tail", "lower_back")) == (0, 1)
    with pytest.raises(UserError, match="--kp_names has l_paw but not r_paw"):
        swap_table(("nose", "L_paw"))
    with pytest.raises(UserError, match="--aug_hflip"):
        augmenter(replace(OFF, aug_hflip=0.5), kp_names=("l_paw", "nose"))
    augmenter(kp_names=("l_paw", "nose"))


def test_hidden_keypoints_leave_the_input_and_only_they_are_scored() -> None:
    poses = coded_poses(75, hidden=0.3)
    source = augmenter(replace(OFF, kp_jitter_std=0.02), hide=True)
    drawn = next(d for d in (source.draw(key(k), 60, 15) for k in range(99)) if d.hidden.any())
    result = drawn.poses(poses, WIDTH, HEIGHT)
    gone = np.vstack([np.zeros((15, 6), bool), drawn.hidden])
    for values in (result.inputs.xy[..., 0], result.inputs.visibility, result.inputs.likelihood):
        assert (values[gone] == 0).all()
    np.testing.assert_array_equal(result.inputs.visibility[~gone], poses.visibility[~gone])
    np.testing.assert_array_equal(result.scored, drawn.hidden & (poses.visibility[15:] == 1))
    np.testing.assert_allclose(result.target, poses.xy[15:] / (WIDTH, HEIGHT), rtol=1e-6)


def test_spans_of_hiding() -> None:
    hidden = np.stack([d.hidden for d in draws(AugmentConfig(augment=False), 400, hide=True)])
    lengths = hidden.sum(axis=1).ravel()
    assert (lengths > 0).mean() == pytest.approx(0.15, abs=0.03)
    spans = lengths[lengths > 0]
    assert (spans.min(), spans.max()) == (5, 30)
    assert spans.mean() == pytest.approx(17.5, abs=1.6)
    edges = np.abs(np.diff(hidden.astype(int), axis=1)).sum(axis=1)
    assert edges.max() == 2
    short = np.stack([d.hidden for d in draws(OFF, 40, 3, hide=True)])
    assert short.any()
    assert augmenter(OFF, kp_names=(), hide=True).draw(key(), 60).hidden is None


def test_the_fixed_hiding_of_validation_follows_the_trial() -> None:
    whole = fixed_hiding(0, 345, 6)
    assert (whole.sum(axis=1) == 1).all()
    assert whole[:15, 0].all()
    assert whole[15:30, 1].all()
    assert whole[90:105, 0].all()
    np.testing.assert_array_equal(fixed_hiding(105, 240, 6), whole[105:])
    poses = coded_poses(345)
    assert (hide(poses, whole).visibility.sum(axis=1) == 5).all()


def test_poses_of_another_window_are_refused() -> None:
    drawn = augmenter(AugmentConfig(), pose_features="graph18").draw(key(), 60, 15)
    for frames in (59, 74):
        with pytest.raises(ValueError, match=f"poses has {frames} frames"):
            drawn.poses(coded_poses(frames), WIDTH, HEIGHT)


def test_views() -> None:
    views = Views.of(AugmentConfig(aug_hflip=0.3), 2, 123)
    assert len(views) == 6
    assert [views.index(c, flipped=f) for f in (False, True) for c in range(3)] == list(range(6))
    assert len(Views.of(AugmentConfig(), 2, 123)) == 3
    assert len(Views.of(AugmentConfig(), 0, 123)) == 1
    assert len(Views.of(AugmentConfig(augment=False, aug_hflip=0.5), 2, 123)) == 1
    with pytest.raises(ValueError, match="no mirror images"):
        Views().index(0, flipped=True)
    config = AugmentConfig(aug_hflip=0.3)
    copies = [d.copy for d in draws(config, 450, views=Views.of(config, 2, 123))]
    np.testing.assert_allclose(np.bincount(copies) / 450, 1 / 3, atol=0.08)
    flipped = next(d for d in draws(config, 50, views=views) if d.flip)
    cached = np.repeat(np.arange(6, dtype=np.float16), 60).reshape(6, 60, 1)
    assert (flipped.features(cached, views) == views.index(flipped.copy, flipped=True)).all()
