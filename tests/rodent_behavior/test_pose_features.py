"""Formulas, golden numbers and invariances of the pose features."""

import math
import os
from itertools import combinations
from pathlib import Path

import numpy as np
import pytest
from streaming_pieces import walk

from rodent_behavior.pose_features import (
    EDGES,
    TRIPLETS,
    Generic,
    Graph18,
    Invariant,
    Normalizer,
    build_features,
    graph18,
)

GOLDEN_POINTS = np.array([(0.5, 0.2), (0.5, 0.8), (0.4, 0.3), (0.6, 0.3), (0.38, 0.7), (0.62, 0.7)])
NAMES = ("mouth", "tail_base", "l_frontpaw", "r_frontpaw", "l_hindpaw", "r_hindpaw")
SWAPPED = [0, 1, 3, 2, 5, 4]
ONES = np.ones((1, 6))

# Where each block of the 77 features starts.
ANGLES, EGO, SPEEDS, VELOCITY, TURN, LENGTH, LIKELIHOOD, VISIBILITY = 8, 28, 36, 54, 62, 64, 65, 71


def trial(frames=60, seed=0, hidden=0.2):
    poses = walk(frames, seed=seed, hidden=hidden).astype(np.float64)
    return poses[:, :, :2], (poses[:, :, 2] >= 0.9).astype(np.float64), poses[:, :, 2]


@pytest.fixture(scope="module")
def pain_assay():
    """xy [1080, 6, 2] px and likelihood [1080, 6] in the order of NAMES."""
    named = os.environ.get("RODENT_BEHAVIOR_REAL_DATA")
    folder = Path(named) if named else Path(__file__).parents[3] / "shared" / "data" / "rodent_behavior"
    files = sorted((folder / "pain_assay" / "Videos").glob("*.csv"))
    if not files:
        pytest.skip(f"no keypoints at {folder}")
    parts = files[0].read_text().splitlines()[1].split(",")[1::3]
    table = np.loadtxt(files[0], delimiter=",", skiprows=3)[:, 1:].reshape(-1, 6, 3)
    table = table[:, [[part.lower() for part in parts].index(name) for name in NAMES]]
    return table[:, :, :2], table[:, :, 2]


def test_graph18_of_the_golden_pose():
    expected = [
        0.6, 0.141421, 0.141421, 0.156205, 0.156205, 0.4005, 0.4005, 0.2,
        0.197396, 0.197396, 0.235545, 0.235545, 0.549853, 0.549853, 0.678662, 0.678662, 0.785398, 0.694738,
    ]  # fmt: skip
    assert graph18(GOLDEN_POINTS[None], ONES)[0] == pytest.approx(expected, abs=6e-7)


def test_graph18_of_real_keypoints(pain_assay):
    xy, likelihood = pain_assay
    values = graph18(xy / 512, likelihood >= 0.9)
    expected = [
        0.444934, 0.051826, 0.087403, 0.293226, 0.217547, 0.225388, 0.153682, 0.110898, 0.116104,
        0.101463, 0.686624, 0.012857, 0.663446, 0.453126, 0.491176, 0.114904, 0.877629, 0.822902,
    ]  # fmt: skip
    assert values.shape == (1080, 18)
    assert values[0] == pytest.approx(expected, abs=1e-6)
    assert values.astype(np.float64).sum() == pytest.approx(5661.927, rel=1e-6)
    assert (values == 0).mean() == pytest.approx(0.322942, rel=1e-5)


def frame_by_frame_graph18(xy, seen):
    rows = []
    for points, shown in zip(xy.tolist(), seen.tolist()):
        row = [math.dist(points[a], points[b]) if shown[a] and shown[b] else 0.0 for a, b in EDGES.tolist()]
        for vertex, first, second in TRIPLETS.tolist():
            u = [points[first][i] - points[vertex][i] for i in (0, 1)]
            v = [points[second][i] - points[vertex][i] for i in (0, 1)]
            usable = shown[vertex] and shown[first] and shown[second]
            if not usable or min(math.hypot(*u), math.hypot(*v)) <= 1e-6:
                row.append(0.0)
                continue
            cosine = (u[0] * v[0] + u[1] * v[1]) / (math.hypot(*u) * math.hypot(*v))
            row.append(math.acos(max(-1.0, min(1.0, cosine))))
        rows.append(row)
    return np.array(rows)


def test_graph18_equals_a_loop_over_frames():
    xy, visibility, _ = trial(200)
    xy[50:60, 3] = xy[50:60, 1]
    expected = frame_by_frame_graph18(xy / 512, visibility >= 1)
    assert graph18(xy / 512, visibility >= 1) == pytest.approx(expected, abs=1e-6)
    assert (expected == 0).any()


def test_graph18_ignores_filled_points_and_divides_by_the_frame_size():
    xy, visibility, likelihood = trial(30, hidden=0.4)
    filled = np.where(visibility < 1, 0.5, 1.0)
    values, missing = Graph18(width=512, height=400)(xy, filled, likelihood)
    assert np.array_equal(values, graph18(xy / (512, 400), visibility >= 1))
    assert np.array_equal(missing[:, :8], ~(visibility[:, EDGES] >= 1).all(2))
    assert (values[missing] == 0).all()


def test_invariant_ego_paws_of_the_golden_pose():
    values, missing = Invariant(causal=False, fps=30)(1000 * GOLDEN_POINTS[None], ONES, ONES)
    expected = [0.833333, -0.166667, 0.833333, 0.166667, 0.166667, -0.2, 0.166667, 0.2]
    assert values[0, EGO:SPEEDS] == pytest.approx(expected, abs=1e-6)
    assert values[0, LENGTH] == pytest.approx(1)
    assert not missing[0, :SPEEDS].any()
    assert missing[0, SPEEDS:LENGTH].all()


def test_invariant_signed_angles_of_the_golden_pose():
    values, _ = Invariant(causal=False, fps=30)(1000 * GOLDEN_POINTS[None], ONES, ONES)
    pairs = values[0, ANGLES:EGO].reshape(10, 2)
    expected = [
        (-0.196116, 0.980581), (0.196116, 0.980581), (0.707107, 0.707107), (-0.640184, 0.768221),
    ]  # fmt: skip
    assert pairs[[0, 1, 8, 9]] == pytest.approx(np.array(expected), abs=1e-6)


def test_invariant_of_a_straight_walk_by_hand():
    """10 px per frame along x with a left hind paw that also moves 5 px per frame to the side."""
    frames = np.arange(20)
    body = np.array([(100, 0), (0, 0), (80, -10), (80, 10), (20, -10), (20, 10)], dtype=np.float64)
    xy = body + np.stack([10.0 * frames, 0 * frames], 1)[:, None]
    xy[:, 4, 1] -= 5 * frames
    values, missing = Invariant(causal=False, fps=30)(xy, np.ones((20, 6)), np.ones((20, 6)))
    speeds = values[:, SPEEDS:VELOCITY].reshape(20, 6, 3)
    assert speeds[15, 0] == pytest.approx([3, 3, 3])
    assert speeds[15, 4] == pytest.approx([math.hypot(10, 5) * 30 / 100] * 3)
    assert [int(missing[:, SPEEDS + lag].sum()) for lag in range(3)] == [1, 5, 15]
    velocity = values[10, VELOCITY:TURN].reshape(4, 2)
    # Facing +x, the side axis is +y in image coordinates: the paw moves 5 px x 30 / 100 to the other side.
    assert velocity == pytest.approx(np.array([(0, 0), (0, 0), (0, -1.5), (0, 0)]), abs=1e-6)
    assert values[10, TURN:LENGTH] == pytest.approx([0, 1])


def test_heading_change_is_the_turn_over_five_frames():
    angle = 0.02 * np.arange(12)
    turn = np.stack([np.cos(angle), -np.sin(angle), np.sin(angle), np.cos(angle)], -1).reshape(-1, 2, 2)
    xy = np.einsum("tij,kj->tki", turn, 1000 * GOLDEN_POINTS)
    values, missing = Invariant(causal=False, fps=30)(xy, np.ones((12, 6)), np.ones((12, 6)))
    assert values[11, TURN:LENGTH] == pytest.approx([math.sin(0.1), math.cos(0.1)], abs=1e-6)
    assert missing[:5, TURN:LENGTH].all()
    assert not missing[5:, TURN:LENGTH].any()


@pytest.mark.parametrize("causal", [False, True])
def test_shift_turn_and_size_change_nothing(causal):
    xy, visibility, likelihood = trial()
    features = Invariant(causal=causal, fps=30)
    turn = np.array([(math.cos(2.1), -math.sin(2.1)), (math.sin(2.1), math.cos(2.1))])
    plain, missing = features(xy, visibility, likelihood)
    moved, missing_moved = features(1.7 * xy @ turn.T + (300, -80), visibility, likelihood)
    assert moved == pytest.approx(plain, abs=1e-5)
    assert np.array_equal(missing, missing_moved)


def test_mirrored_mouse_gives_swapped_features_with_opposite_turns():
    xy, visibility, likelihood = trial()
    features = Invariant(causal=False, fps=30)
    plain, _ = features(xy, visibility, likelihood)
    mirrored = (xy * (-1, 1) + (512, 0))[:, SWAPPED]
    values, _ = features(mirrored, visibility[:, SWAPPED], likelihood[:, SWAPPED])
    # The last two triplets, at the left paws, have no mirror image among the features.
    source = np.concatenate(
        [
            [0, 2, 1, 4, 3, 6, 5, 7],
            ANGLES + (2 * np.array([1, 0, 3, 2, 5, 4, 7, 6])[:, None] + np.arange(2)).ravel(),
            EGO + np.array([2, 3, 0, 1, 6, 7, 4, 5]),
            SPEEDS + (3 * np.array(SWAPPED)[:, None] + np.arange(3)).ravel(),
            VELOCITY + np.array([2, 3, 0, 1, 6, 7, 4, 5]),
            [TURN, TURN + 1, LENGTH],
            LIKELIHOOD + np.array(SWAPPED),
            VISIBILITY + np.array(SWAPPED),
        ]
    )
    sign = np.ones(77)
    for part in (slice(ANGLES, EGO, 2), slice(EGO + 1, SPEEDS, 2), slice(VELOCITY + 1, TURN, 2), TURN):
        sign[part] = -1
    kept = np.delete(np.arange(77), slice(EGO - 4, EGO))
    assert values[:, kept] == pytest.approx(sign[kept] * plain[:, source], abs=1e-5)


def test_missing_points_touch_exactly_the_features_that_use_them():
    xy, _, likelihood = trial()
    visibility = np.ones((60, 6))
    visibility[40, 5] = 0
    xy[40, 5] = np.nan
    values, missing = Invariant(causal=False, fps=30)(xy, visibility, likelihood)
    assert np.isfinite(values).all()
    assert np.flatnonzero(missing[40, :8]).tolist() == [4, 6]
    assert missing[40, EGO + 6 : SPEEDS].all()
    assert not missing[40, EGO : EGO + 6].any()
    speeds = missing[:, SPEEDS:VELOCITY].reshape(60, 6, 3)[16:, 5]
    assert [(16 + np.flatnonzero(speeds[:, lag])).tolist() for lag in range(3)] == [
        [40, 41],
        [40, 45],
        [40, 55],
    ]
    assert values[40, VISIBILITY + 5] == 0
    assert not missing[:, LIKELIHOOD:].any()


def test_filled_points_count_as_known_but_not_towards_the_scale():
    xy, visibility, likelihood = trial(hidden=0)
    visibility[:30, 0] = 0.5
    xy[:30, 0] += 500
    features = Invariant(causal=False, fps=30)
    expected = np.median(np.hypot(*(xy[30:, 0] - xy[30:, 1]).T))
    assert features.scale(xy, visibility) == pytest.approx(np.full(60, expected))
    assert not features(xy, visibility, likelihood)[1][0, :8].any()


def test_causal_features_do_not_look_ahead():
    xy, visibility, likelihood = trial()
    features = Invariant(causal=True, fps=30)
    whole, missing = features(xy, visibility, likelihood)
    part, missing_part = features(xy[:37], visibility[:37], likelihood[:37])
    assert np.array_equal(whole[:37], part)
    assert np.array_equal(missing[:37], missing_part)
    late = features(xy[30:], visibility[30:], likelihood[30:], scale=features.scale(xy, visibility)[30:])
    assert np.array_equal(late[0][15:], whole[45:])


def test_without_the_body_axis_scaled_features_are_missing():
    xy, visibility, likelihood = trial()
    visibility[:, 1] = 0
    for causal in (False, True):
        values, missing = Invariant(causal=causal, fps=30)(xy, visibility, likelihood)
        assert missing[:, :8].all()
        assert missing[:, EGO:TURN].all()
        assert np.isfinite(values).all()
        seen = visibility[:, [0, 2, 3]].all(1)
        assert seen.any()
        assert not missing[seen, ANGLES + 16].any()


def test_generic_features_by_hand():
    rng = np.random.default_rng(3)
    xy = rng.uniform(0, 100, (20, 4, 2))
    visibility, likelihood = np.ones((20, 4)), rng.uniform(0, 1, (20, 4))
    features = Generic(keypoints=4, causal=False, fps=25, axis=(1, 3))
    values, missing = features(xy, visibility, likelihood)
    scale = np.median([math.dist(p[1], p[3]) for p in xy])
    assert features.size == 6 + 12 + 8 == values.shape[1]
    distances = [math.dist(xy[18, a], xy[18, b]) / scale for a, b in combinations(range(4), 2)]
    assert values[18, :6] == pytest.approx(distances, rel=1e-6)
    assert values[18, 6 + 2 * 3 + 1] == pytest.approx(math.dist(xy[18, 2], xy[13, 2]) * 5 / scale, rel=1e-6)
    assert values[18, 18:22] == pytest.approx(likelihood[18], rel=1e-6)
    assert (values[18, 22:] == 1).all()
    assert not missing[15:].any()
    assert Generic(keypoints=8, causal=False, fps=50).size == 68


def test_normalizer_uses_what_is_known():
    first = (
        np.array([[1.0, 5.0, 0.2], [3.0, 0.0, 0.4]]),
        np.array([[False, False, False], [False, True, False]]),
    )
    second = np.array([[8.0, 9.0, 0.9]]), np.array([[False, False, False]])
    normalizer = Normalizer.fit([first, second], np.array([True, True, False]))
    assert normalizer.mean == pytest.approx([4, 7, 0])
    assert normalizer.std == pytest.approx([np.std([1, 3, 8]), 2, 1])
    applied = normalizer.apply(*first)
    assert applied.dtype == np.float32
    assert applied[1] == pytest.approx([-1 / np.std([1, 3, 8]), 0, 0.4])


def test_normalizer_leaves_constant_and_absent_features_alone():
    values = np.array([[2.0, 0.0], [2.0, 0.0]])
    normalizer = Normalizer.fit([(values, np.array([[False, True]] * 2))], np.array([True, True]))
    assert normalizer.std == pytest.approx([1, 1])
    assert normalizer.mean == pytest.approx([2, 0])
    with pytest.raises(ValueError, match="parts"):
        Normalizer.fit([], np.array([True]))


def test_only_likelihood_and_visibility_are_not_standardised():
    assert Invariant(causal=True, fps=30).standardised.tolist() == [True] * 65 + [False] * 12
    assert Generic(keypoints=8, causal=True, fps=30).standardised.sum() == 52
    assert not Graph18(width=1, height=1).standardised.any()


def test_build_features_checks_the_names():
    assert build_features("invariant", kp_names=NAMES, fps=30, causal=True).size == 77
    built = build_features("generic", kp_names=("a", "b", "c"), fps=30, causal=False, axis_points=("c", "a"))
    assert built.axis == (2, 0)
    for arguments, words in [
        ({"name": "invariant", "kp_names": NAMES[::-1]}, "kp_names"),
        ({"name": "graph18", "kp_names": NAMES}, "frame_size"),
        ({"name": "generic", "kp_names": NAMES, "axis_points": ("mouth", "tail")}, "axis_points: tail"),
        ({"name": "generic", "kp_names": NAMES, "axis_points": ("mouth", "mouth")}, "axis"),
        ({"name": "other", "kp_names": NAMES}, "pose_features"),
    ]:
        with pytest.raises(ValueError, match=words):
            build_features(**arguments, fps=30, causal=False)


def test_wrong_shapes_are_named():
    features = Invariant(causal=False, fps=30)
    with pytest.raises(ValueError, match="5 keypoints"):
        features(np.zeros((3, 5, 2)), np.ones((3, 5)), np.ones((3, 5)))
    with pytest.raises(ValueError, match="visibility"):
        features(np.zeros((3, 6, 2)), np.ones((3, 5)), np.ones((3, 6)), scale=np.ones(3))
    with pytest.raises(ValueError, match="scale"):
        features(np.zeros((3, 6, 2)), np.ones((3, 6)), np.ones((3, 6)), scale=np.ones(2))
    with pytest.raises(ValueError, match="fps"):
        Invariant(causal=False, fps=0)
