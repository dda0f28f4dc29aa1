"""One map moves every aligned stream alike."""

import numpy as np
import pytest
import torch

from common.augmentation import TemporalMap, draw_dropout, draw_hold, draw_roll
from common.engine.randomness import generator_for


def test_roll_moves_frames_later_and_marks_those_that_wrap() -> None:
    later, earlier = TemporalMap.roll(5, 2), TemporalMap.roll(5, -1)
    assert later.index.tolist() == [3, 4, 0, 1, 2]
    assert later.valid.tolist() == [False, False, True, True, True]
    assert earlier.index.tolist() == [1, 2, 3, 4, 0]
    assert earlier.valid.tolist() == [True, True, True, True, False]


def test_hold_repeats_the_last_kept_frame() -> None:
    held = TemporalMap.hold(np.array([0, 1, 1, 0, 1, 0], bool))
    assert held.index.tolist() == [0, 0, 0, 3, 3, 5]
    assert held.valid.all()
    with pytest.raises(ValueError, match="frame 0"):
        TemporalMap.hold(np.array([True, False]))


def random_operation(rng: np.random.Generator, length: int) -> tuple[str, TemporalMap, object]:
    if rng.random() < 0.5:
        shift = int(rng.integers(-length, length + 1))
        return "roll", TemporalMap.roll(length, shift), shift
    dropped = rng.random(length) < 0.3
    dropped[0] = False
    return "hold", TemporalMap.hold(dropped), dropped


def done_by_hand(kind: str, argument: object, stream: list[int], valid: list[bool]) -> None:
    """Change a stream and which of its frames are valid one frame at a time."""
    if kind == "hold":
        for t in np.flatnonzero(np.asarray(argument)):
            stream[t], valid[t] = stream[t - 1], valid[t - 1]
        return
    shift, length = int(argument), len(stream)  # type: ignore[call-overload]
    old, was = stream.copy(), valid.copy()
    for t in range(length):
        stream[t] = old[(t - shift) % length]
        valid[t] = was[(t - shift) % length] and 0 <= t - shift < length


@pytest.mark.parametrize("seed", range(40))
def test_streams_stay_aligned_through_every_composition(seed: int) -> None:
    rng = generator_for(seed, "composition")
    length = int(rng.integers(1, 25))
    total, ids, valid = TemporalMap.identity(length), list(range(length)), [True] * length
    for _ in range(int(rng.integers(1, 6))):
        kind, operation, argument = random_operation(rng, length)
        total = total.then(operation)
        done_by_hand(kind, argument, ids, valid)
    frame = np.arange(length)
    streams = {
        "video": np.broadcast_to(frame[:, None, None, None], (length, 2, 3, 3)),
        "points": np.stack([frame, -frame], axis=1).astype(float),
        "labels": frame,
    }
    moved = total.apply_all(streams)
    assert moved["labels"].tolist() == ids
    assert total.valid.tolist() == valid
    np.testing.assert_array_equal(moved["video"][:, 0, 0, 0], ids)
    np.testing.assert_array_equal(moved["points"][:, 1], -np.array(ids))
    assert total.apply(torch.from_numpy(frame)).tolist() == ids
    assert total.apply(torch.from_numpy(frame)[None].repeat(3, 1), axis=1)[2].tolist() == ids
    assert total.apply(np.stack([frame, frame]), axis=-1)[1].tolist() == ids


def test_a_stream_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="4 frames, the map takes 5"):
        TemporalMap.roll(5, 1).apply(np.zeros(4))
    with pytest.raises(ValueError, match="takes 4 frames, this one gives 5"):
        TemporalMap.roll(5, 1).then(TemporalMap.identity(4))
    with pytest.raises(ValueError, match="outside the 2 frames"):
        TemporalMap(np.array([2]), np.array([True]), 2)
    with pytest.raises(ValueError, match=r"both \[T\]"):
        TemporalMap(np.array([0]), np.array([True, True]), 2)


def test_identity_is_recognised() -> None:
    assert TemporalMap.identity(4).is_identity
    assert TemporalMap.roll(4, 0).is_identity
    assert not TemporalMap.roll(4, 1).is_identity
    assert not TemporalMap.hold(np.array([False, True])).is_identity


def test_drawn_rolls_reach_every_shift_with_the_asked_probability() -> None:
    rng = generator_for(3, "roll")
    shifts = [int(-draw_roll(rng, 30, limit=2, probability=0.5).index[0]) % 30 for _ in range(4000)]
    counts = np.bincount([(shift + 2) % 30 for shift in shifts], minlength=5) / 4000
    np.testing.assert_allclose(counts, [0.1, 0.1, 0.6, 0.1, 0.1], atol=0.03)


def test_no_roll_leaves_nothing_valid() -> None:
    for seed in range(50):
        assert draw_roll(generator_for(seed), 3, limit=50).valid.any()
    assert len(draw_roll(generator_for(1), 0, limit=5)) == 0
    with pytest.raises(ValueError, match="limit is -1"):
        draw_roll(generator_for(1), 5, limit=-1)


def test_drawn_drops_count_as_asked_and_spare_both_ends() -> None:
    for seed in range(200):
        held = draw_hold(generator_for(seed), 40, share=0.1)
        changed = np.flatnonzero(held.index != np.arange(40))
        assert len(changed) == 4
        assert changed.min() >= 1
        assert changed.max() <= 38
    dropped = [
        not draw_hold(generator_for(s), 40, share=0.1, probability=0.3).is_identity for s in range(2000)
    ]
    assert np.mean(dropped) == pytest.approx(0.3, abs=0.035)


@pytest.mark.parametrize("length", [0, 1, 2, 3, 9])
def test_drops_of_short_windows(length: int) -> None:
    held = draw_hold(generator_for(1), length, share=1.0)
    assert (held.index != np.arange(length)).sum() == max(length - 2, 0)
    assert draw_hold(generator_for(1), length, share=0.0).is_identity
    with pytest.raises(ValueError, match=r"share is 1\.1"):
        draw_hold(generator_for(1), length, share=1.1)


def test_each_frame_but_the_first_is_dropped_on_its_own() -> None:
    rng = generator_for(5, "dropout")
    maps = [draw_dropout(rng, 16, probability=0.3).index for _ in range(3000)]
    changed = np.stack(maps) != np.arange(16)
    assert not changed[:, 0].any()
    np.testing.assert_allclose(changed[:, 1:].mean(axis=0), 0.3, atol=0.035)
    assert np.corrcoef(changed[:, 4], changed[:, 5])[0, 1] == pytest.approx(0, abs=0.05)
    assert (np.diff(np.stack(maps), axis=1) >= 0).all()
    assert draw_dropout(rng, 16, probability=0.0).is_identity
    with pytest.raises(ValueError, match=r"probability is 1\.5"):
        draw_dropout(rng, 16, probability=1.5)
