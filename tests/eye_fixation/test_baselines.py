import itertools
import json
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from scipy.io import loadmat
from scipy.ndimage import gaussian_filter
from sklearn.linear_model import Ridge

from common.config import UserError
from eye_fixation.baseline_fit import KERNEL_SIGMAS, KERNEL_WEIGHTS, fit_baselines
from eye_fixation.baselines import (
    BASELINES,
    CenterBias,
    HistoryKernel,
    Human,
    Oracle,
    Persistence,
    baseline_from_state,
    read_inputs,
)
from eye_fixation.synthetic import Simulator

SIDE = 6


class Gaze(NamedTuple):
    """Sequences of one split."""

    coordinates: torch.Tensor
    mask: torch.Tensor
    group: torch.Tensor | None = None


def gaze(coordinates, group=None):
    points = torch.as_tensor(np.asarray(coordinates), dtype=torch.float32)
    return Gaze(points, torch.ones(points.shape[:2], dtype=torch.bool), group)


def random_gaze(count, seed, length=7, side=SIDE):
    """Gaze that stays near where it was."""
    random = np.random.default_rng(seed)
    steps = random.normal(0, 0.8, (count, length, 2))
    steps[:, 0] = random.uniform(0.5, side - 0.5, (count, 2))
    return gaze(steps.cumsum(axis=1).clip(0, side - 1e-3))


def fit(train, val, **given):
    return fit_baselines(train, val, **({"in_len": 3, "out_len": 2, "img_size": SIDE} | given))


def inputs(data, in_len):
    return data.coordinates[:, :in_len], data.mask[:, :in_len]


def bits(density, data, in_len):
    """Bits per valid target frame, float64 [N, T_out], NaN elsewhere."""
    out_len, side = density.shape[1:3]
    cells = data.coordinates[:, in_len : in_len + out_len].floor().long().clamp(max=side - 1)
    place = cells[..., 1] * side + cells[..., 0]
    mass = density.flatten(2).double().gather(2, place[..., None])[..., 0]
    return torch.where(data.mask[:, in_len : in_len + out_len], mass.log2(), torch.nan)


def errors(points, data, in_len):
    truth = data.coordinates[:, in_len : in_len + points.shape[1]].double()
    return (points - truth).norm(dim=-1)


def cumulative(error):
    return [float(error[:, :reach].mean()) for reach in (1, 3, 6, 10)]


@pytest.fixture(scope="module")
def train():
    return random_gaze(300, 0)


@pytest.fixture(scope="module")
def val():
    return random_gaze(80, 1)


@pytest.fixture(scope="module")
def fitted(train, val):
    return fit(train, val, groups=True, transition=Simulator("smooth", img_size=SIDE).tables()["transition"])


@pytest.fixture(scope="module")
def osie(real_data):
    """Train, val and test of the recorded scanpaths as 20 frames at 10 Hz, images as groups."""
    contents = loadmat(real_data / "osie" / "fixations.mat", squeeze_me=True, struct_as_record=False)
    paths: list[Any] = []
    for image, cell in enumerate(contents["fixations"]):
        for subject in cell.subjects:
            ends = np.atleast_1d(subject.fix_duration).astype(np.int64).cumsum()
            if ends[-1] >= 2000:
                frames = np.searchsorted(ends, 100 * np.arange(20) + 50)
                seen = np.stack(
                    [np.atleast_1d(subject.fix_x) / 800, np.atleast_1d(subject.fix_y) / 600], axis=-1
                )
                paths.append((image, seen.clip(0, 1 - 1e-6)[frames] * 32))
    images, points = np.array([path[0] for path in paths]), np.stack([path[1] for path in paths])
    parts = np.digitize(images, (490, 560))
    return [gaze(points[parts == part], torch.from_numpy(images[parts == part])) for part in range(3)]


@pytest.fixture(scope="module")
def recorded(osie):
    return fit_baselines(osie[0], osie[1], in_len=10, out_len=10, img_size=32, groups=True)


def test_counts_of_recorded_scanpaths(osie):
    assert [len(part.coordinates) for part in osie] == [4367, 603, 1154]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("persistence", [2.286, 4.553, 6.897, 8.685]),
        ("constant_velocity", [4.013, 6.602, 9.174, 11.176]),
        ("linear_ar", [3.193, 5.291, 6.888, 7.700]),
        ("center", [9.130, 9.154, 9.170, 9.124]),
    ],
)
def test_recorded_points(osie, recorded, name, expected):
    points = recorded[name].points(*inputs(osie[2], 10))
    assert cumulative(errors(points, osie[2], 10)) == pytest.approx(expected, abs=0.002)


@pytest.mark.parametrize(
    ("name", "first", "all_frames"), [("persistence", 0.629, 0.142), ("constant_velocity", 0.335, 0.081)]
)
def test_recorded_cells_of_points(osie, recorded, name, first, all_frames):
    points = recorded[name].points(*inputs(osie[2], 10))
    hit = (points.floor().clamp(max=31) == osie[2].coordinates[:, 10:].floor()).all(-1).double()
    assert float(hit[:, 0].mean()) == pytest.approx(first, abs=0.002)
    assert float(hit.mean()) == pytest.approx(all_frames, abs=0.002)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("uniform", -10.0), ("persistence", -8.689), ("center_bias", -9.612), ("history_kernel", -8.323)],
)
def test_recorded_bits(osie, recorded, name, expected):
    density = recorded[name].density(*inputs(osie[2], 10))
    assert float(bits(density, osie[2], 10).mean()) == pytest.approx(expected, abs=0.002)


def test_recorded_history_kernel(osie, recorded):
    kernel = recorded["history_kernel"]
    assert kernel.sigma.tolist() == [0.7] * 10
    assert kernel.weight.tolist() == [0.9, 0.8, 0.7, 0.6, 0.5, 0.5, 0.4, 0.4, 0.3, 0.3]
    density = kernel.density(*inputs(osie[2], 10))
    chosen = [0, 1, 2, 4, 9]
    scores = bits(density, osie[2], 10).mean(dim=0)[chosen]
    assert scores.tolist() == pytest.approx([-4.019, -6.695, -8.032, -9.031, -9.434], abs=0.002)
    means = errors(kernel.points(*inputs(osie[2], 10)), osie[2], 10)
    expected = [3.261, 5.687, 7.193, 8.638, 8.977]
    assert means.mean(dim=0)[chosen].tolist() == pytest.approx(expected, abs=0.005)
    assert float(means.mean()) == pytest.approx(7.783, abs=0.005)
    place = density.flatten(2).argmax(-1)
    peaks = torch.stack([place % 32, place // 32], dim=-1) + 0.5
    expected = [2.534, 4.868, 6.728, 9.335, 11.749]
    assert errors(peaks, osie[2], 10).mean(dim=0)[chosen].tolist() == pytest.approx(expected, abs=0.005)


def test_recorded_humans_and_center_bias(osie, recorded):
    test, seen = osie[2], inputs(osie[2], 10)
    human = recorded["human"].bind(test.coordinates[:, 10:], test.mask[:, 10:], test.group)
    scores = bits(human.density(*seen), test, 10)
    assert float(scores.mean()) == pytest.approx(-7.682, abs=0.002)
    assert scores.mean(dim=0)[[0, 9]].tolist() == pytest.approx([-7.38, -8.14], abs=0.005)
    means = errors(recorded["center_bias"].points(*seen), test, 10)
    assert float(means.mean()) == pytest.approx(9.101, abs=0.005)


def test_recorded_persistence_in_cells_and_degrees(real_data):
    geometry = json.loads((real_data / "irf" / "db_config.json").read_text())["geom"]
    size, distance = np.array([geometry["screen_width"], geometry["screen_height"]]), geometry["eye_distance"]
    windows = []
    for subject in (1, 2, 4, 5, 6):
        samples = np.load(real_data / "irf" / f"lookAtPoint_EL_S{subject}.npy", allow_pickle=False)
        angle = np.stack([samples["x"], samples["y"]], axis=-1).astype(np.float64)
        place = 0.5 + distance * np.tan(np.radians(angle)) / size
        with np.errstate(invalid="ignore"):
            valid = samples["status"] & (samples["evt"] != 5) & ((place >= 0) & (place < 1)).all(axis=-1)
        frames = [
            32 * place[rows[0]] if len(rows) else np.full(2, np.nan) for rows in nearest(samples, valid)
        ]
        starts = np.arange(0, len(frames) - 19, 7)
        windows += [window for start in starts if not np.isnan(window := frames[start : start + 20]).any()]
    data = gaze(windows)
    assert len(windows) == 157 + 225 + 229 + 226 + 226
    points = Persistence(torch.full((32, 32), 1 / 1024), 10, torch.zeros(10)).points(*inputs(data, 10))
    error = errors(points, data, 10)
    assert cumulative(error) == pytest.approx([0.612, 1.185, 1.983, 3.033], abs=0.002)
    offsets = torch.stack([points, data.coordinates[:, 10:].double()]).numpy() / 32 - 0.5
    seen, gazed = np.degrees(np.arctan(offsets * size / distance))
    assert cumulative(np.linalg.norm(seen - gazed, axis=-1)) == pytest.approx(
        [0.757, 1.482, 2.494, 3.824], abs=0.002
    )


def nearest(samples, valid):
    """Index of the valid sample nearest to the centre of each 50 ms frame, or nothing."""
    t = samples["t"]
    edges = np.searchsorted(t, np.arange(1621) / 20 - 1e-9)
    for frame, (start, stop) in enumerate(itertools.pairwise(edges)):
        rows = start + np.flatnonzero(valid[start:stop])
        yield rows[[np.abs(t[rows] - (frame + 0.5) / 20).round(6).argmin()]] if len(rows) else rows


def test_inputs_hold_the_last_valid_frame():
    points = torch.tensor([[[0.0, 5], [1, 2], [9, 9], [3, 4], [torch.nan, 0]]]).expand(4, -1, -1)
    mask = torch.tensor([[1, 1, 1, 1, 1], [0, 1, 0, 0, 0], [0, 0, 1, 0, 1], [1, 0, 0, 1, 0]])
    read = read_inputs(points, mask, SIDE)
    assert read.known.tolist() == [True, True, False, True]
    assert read.held[0].tolist() == [[0, 5], [1, 2], [1, 2], [3, 4], [3, 4]]
    assert read.held[1].tolist() == [[1, 2]] * 5
    assert read.cell.tolist() == [[3, 4], [1, 2], [0, 0], [3, 4]]
    assert read.age.tolist() == [1, 3, 0, 1]
    assert read.step.tolist() == [[1, 1], [0, 0], [0, 0], [1, -1 / 3]]


def test_every_density_is_a_law_and_matches_its_points(fitted, val):
    seen = inputs(val, 3)
    assert list(fitted) == list(BASELINES)
    middles = torch.arange(SIDE) + 0.5
    for name, baseline in fitted.items():
        if name == "human":
            baseline = baseline.bind(val.coordinates[:, 3:5], val.mask[:, 3:5], torch.arange(80) // 4)
        points, density = baseline.points(*seen), baseline.density(*seen)
        assert points.shape == (80, 2, 2)
        assert points.dtype == torch.float64
        assert (density is not None) == baseline.has_density
        if density is not None:
            assert density.shape == (80, 2, SIDE, SIDE)
            assert density.dtype == torch.float32
            assert (density >= 0).all()
            assert (density.sum((2, 3)) - 1).abs().max() < 1e-6
            if name != "persistence":
                across = (density.sum(2) * middles).sum(-1)
                assert (points[..., 0] - across).abs().max() < 1e-5


def test_without_a_valid_input_every_prediction_is_the_center_bias(fitted, val):
    points, mask = val.coordinates[:3, :3].clone(), torch.ones(3, 3, dtype=torch.bool)
    mask[1], points[2] = False, torch.nan
    prior = fitted["center_bias"].prior
    for name in ("persistence", "history_kernel", "oracle"):
        density = fitted[name].density(points, mask)
        assert torch.equal(density[1:], prior.float().expand(2, 2, -1, -1))
        assert not torch.equal(density[0, 0], prior.float())
    for name in ("persistence", "constant_velocity", "linear_ar"):
        expected = fitted["center_bias"].points(points, mask)
        assert torch.equal(fitted[name].points(points, mask)[1:], expected[1:])


def test_a_masked_last_frame_uses_the_one_before(fitted):
    points = torch.tensor([[[1.2, 3.4], [2.6, 4.1], [5.5, 0.5]]])
    masked = points, torch.tensor([[True, True, False]])
    held = points[:, [0, 1, 1]], torch.ones(1, 3, dtype=torch.bool)
    for name in ("persistence", "history_kernel"):
        assert torch.equal(fitted[name].density(*masked), fitted[name].density(*held))
    for name in ("persistence", "linear_ar"):
        assert torch.equal(fitted[name].points(*masked), fitted[name].points(*held))
    moved = fitted["constant_velocity"].points(*masked)[0]
    assert moved.flatten().tolist() == pytest.approx([5.4, 5.5, 6.0, 6.0], abs=1e-5)


def test_the_oracle_counts_masked_frames(fitted):
    law = fitted["oracle"].transition.double()
    points = torch.tensor([[[1.2, 3.4], [2.6, 4.1], [5.5, 0.5]]]).expand(2, -1, -1)
    density = fitted["oracle"].density(points, torch.tensor([[True, True, False], [True, True, True]]))
    for row, cell, powers in ((0, 4 * SIDE + 2, (2, 3)), (1, 5, (1, 2))):
        expected = torch.stack([torch.linalg.matrix_power(law, power)[cell] for power in powers])
        assert (density[row].flatten(1) - expected).abs().max() < 1e-6


def test_center_bias_counts_every_frame_that_is_used(train, val):
    longer = Gaze(train.coordinates, train.mask.clone())
    longer.mask[:10, 1] = False
    counts = np.full((SIDE, SIDE), 0.5)
    for points, valid in zip(longer.coordinates[:, :5].reshape(-1, 2), longer.mask[:, :5].reshape(-1)):
        counts[int(points[1]), int(points[0])] += bool(valid)
    expected = gaussian_filter(counts, 0.7, mode="reflect", truncate=4)
    prior = fit(longer, val, names=["center_bias"])["center_bias"].prior
    assert np.abs(prior.numpy() - expected / expected.sum()).max() < 1e-12


def test_persistence_weight_is_the_best_on_val(fitted, val):
    """Each neighbouring weight on the grid has fewer bits."""
    weight = fitted["persistence"].weight

    def score(moved):
        changed = Persistence(fitted["persistence"].prior, 2, weight + moved)
        return bits(changed.density(*inputs(val, 3)), val, 3).mean(dim=0)

    assert (score(0.0) > score(0.01)).all()
    assert (score(0.0) > score(-0.01)).all()
    assert 0.01 < weight.min() <= weight.max() < 0.99


def test_history_kernel_by_hand(fitted, train, val):
    """The definition, cell by cell, for every sigma and weight."""
    prior = fitted["center_bias"].prior.numpy()
    last, target = (train.coordinates[:, frame].numpy().astype(int) for frame in (2, 4))
    counts = np.zeros((11, 11))
    for (x, y), (column, row) in zip(last, target):
        counts[row - y + 5, column - x + 5] += 1
    stayed, counts[5, 5] = counts[5, 5], 0
    scores = {}
    for sigma in KERNEL_SIGMAS:
        kernel = gaussian_filter(counts, sigma, mode="constant", truncate=4) + 1e-3
        kernel[5, 5] += stayed
        for weight in KERNEL_WEIGHTS:
            masses = []
            for frames in val.coordinates[:, [2, 4]].numpy().astype(int):
                (x, y), (column, row) = frames
                moved = kernel[5 - y : 11 - y, 5 - x : 11 - x] * prior**0.5
                q = weight * moved / moved.sum() + (1 - weight) * prior
                masses.append(q[row, column])
            scores[sigma, weight] = np.mean(np.log2(masses))
    best = max(scores, key=scores.get)
    found = fitted["history_kernel"]
    assert (float(found.sigma[1]), float(found.weight[1])) == best
    density = found.density(*inputs(val, 3))
    assert float(bits(density, val, 3)[:, 1].mean()) == pytest.approx(scores[best], abs=1e-6)


def test_linear_ar_is_ridge_regression(fitted, train, val):
    x, y = train.coordinates[:, :3].reshape(300, -1), train.coordinates[:, 3:5].reshape(300, -1)
    oracle = Ridge(alpha=1.0).fit(x.double().numpy(), y.double().numpy())
    expected = oracle.predict(val.coordinates[:, :3].reshape(80, -1).double().numpy())
    found = fitted["linear_ar"].points(*inputs(val, 3)).reshape(80, -1)
    assert np.abs(found.numpy() - expected).max() < 1e-9
    with pytest.raises(ValueError, match="coordinates hold 4 frames"):
        fitted["linear_ar"].points(*inputs(val, 4))


def test_linear_ar_leaves_masked_targets_out(train, val):
    masked = Gaze(train.coordinates.clone(), train.mask.clone())
    masked.mask[:200, 4], masked.coordinates[:200, 4] = False, 0.0
    found = fit(masked, val)["linear_ar"].points(*inputs(val, 3))
    kept = Gaze(train.coordinates[200:], train.mask[200:])
    assert torch.equal(found[:, 0], fit(train, val)["linear_ar"].points(*inputs(val, 3))[:, 0])
    expected = fit(kept, val)["linear_ar"].points(*inputs(val, 3))[:, 1]
    assert (found[:, 1] - expected).abs().max() < 1e-9


def test_humans_leave_the_own_observer_out():
    prior = torch.full((SIDE, SIDE), 1 / SIDE**2, dtype=torch.float64)
    human = Human(prior, 2)
    points = torch.tensor([[[0.5, 4.5], [0.5, 4.5]], [[2.5, 1.5], [5.5, 0.5]], [[3.5, 3.5], [3.5, 3.5]]])
    mask = torch.tensor([[True, True], [True, False], [True, True]])
    maps = human.bind(points, mask, torch.tensor([7, 7, 9])).density(points, mask)
    for row, cells in ((0, [(1, 2)]), (1, [(4, 0), (4, 0)])):
        counts = np.zeros((SIDE, SIDE))
        for cell in cells:
            counts[cell] += 1
        seen = gaussian_filter(counts, 1.2, mode="nearest", truncate=4)
        expected = 0.9 * seen / seen.sum() + 0.1 / SIDE**2
        assert np.abs(maps[row].numpy() - expected).max() < 1e-7
    assert torch.equal(maps[2], prior.float().expand(2, -1, -1))
    # Two sequences of one observer do not see each other.
    same = human.bind(points, mask, torch.tensor([7, 7, 7]), torch.tensor([1, 1, 2])).density(points, mask)
    only = human.bind(points[[0, 2]], mask[[0, 2]], torch.tensor([7, 7])).density(points[:2], mask[:2])
    assert torch.equal(same[0], only[0])
    with pytest.raises(ValueError, match="bind it"):
        human.density(points, mask)
    with pytest.raises(ValueError, match="bound were 3"):
        human.bind(points, mask, torch.tensor([7, 7, 9])).density(points[:2], mask[:2])
    with pytest.raises(ValueError, match=r"group is \[2\]"):
        human.bind(points, mask, torch.tensor([7, 7]))


def test_tables_come_from_train_and_weights_from_val(train, val):
    still = gaze(train.coordinates[:60, :1].expand(-1, 7, -1))
    first, second = fit(train, val), fit(train, still)
    assert torch.equal(first["center_bias"].prior, second["center_bias"].prior)
    assert torch.equal(first["linear_ar"].slope, second["linear_ar"].slope)
    assert (first["persistence"].weight < second["persistence"].weight).all()
    assert second["persistence"].weight.tolist() == [0.99, 0.99]
    assert (second["history_kernel"].weight == 0.98).all()


def test_states_round_trip_as_plain_tensors(fitted, val, tmp_path):
    torch.save({name: baseline.to_state() for name, baseline in fitted.items()}, tmp_path / "baselines.pt")
    states = torch.load(tmp_path / "baselines.pt", weights_only=True)
    for name, baseline in fitted.items():
        again = baseline_from_state(states[name])
        assert type(again) is type(baseline)
        if name != "human":
            assert torch.equal(again.points(*inputs(val, 3)), baseline.points(*inputs(val, 3)))
        if baseline.has_density and name != "human":
            assert torch.equal(again.density(*inputs(val, 3)), baseline.density(*inputs(val, 3)))
    with pytest.raises(ValueError, match="'kernel' is no baseline"):
        baseline_from_state({"name": "kernel"})


def test_densities_do_not_depend_on_the_batch(fitted, val):
    points, mask = inputs(val, 3)
    for name in ("persistence", "history_kernel", "oracle"):
        parts = [fitted[name].density(points[rows], mask[rows]) for rows in torch.arange(80).split(33)]
        assert (torch.cat(parts) - fitted[name].density(points, mask)).abs().max() < 1e-7


def test_numpy_input_and_mask_of_numbers(fitted, val):
    points, mask = inputs(val, 3)
    given = fitted["history_kernel"].density(points.numpy().copy(), mask.float().numpy().copy())
    assert torch.equal(given, fitted["history_kernel"].density(points, mask))


def test_no_baseline_beats_the_oracle():
    simulator = Simulator("smooth", img_size=8)
    train, val, test = (
        gaze(simulator.sample(count, 6, split)) for split, count in enumerate((2000, 500, 3000))
    )
    settings = {"in_len": 3, "out_len": 3, "img_size": 8, "transition": simulator.transition}
    fitted = fit_baselines(train, val, **settings)
    scores = {
        name: float(bits(baseline.density(*inputs(test, 3)), test, 3).mean())
        for name, baseline in fitted.items()
        if baseline.has_density
    }
    assert max(scores, key=scores.get) == "oracle"
    assert scores["oracle"] > scores["history_kernel"] > scores["uniform"]
    assert scores["uniform"] == pytest.approx(-6, abs=1e-6)


def test_native_horizons_of_any_number(train, val):
    for in_len, out_len in ((2, 5), (4, 1)):
        fitted = fit(train, val, in_len=in_len, out_len=out_len)
        assert list(fitted) == [name for name in BASELINES if name not in ("human", "oracle")]
        assert fitted["history_kernel"].density(*inputs(val, in_len)).shape == (80, out_len, SIDE, SIDE)


def test_a_horizon_without_valid_frames_is_refused(train, val):
    masked = Gaze(val.coordinates, val.mask.clone())
    masked.mask[:, 4] = False
    with pytest.raises(UserError, match=r"no sequence of val .* frame 2:"):
        fit(train, masked)
    assert fit(train, masked, names=["linear_ar", "center_bias"])


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"names": ["kernel"]}, "names holds 'kernel'"),
        ({"names": ["human"]}, "names holds 'human'"),
        ({"names": ["oracle"]}, "names holds 'oracle'"),
        ({"in_len": 0}, "in_len is 0"),
        ({"out_len": 0}, "out_len is 0"),
        ({"in_len": 6}, "train has 7 frames"),
        ({"transition": torch.eye(4)}, "transition is"),
    ],
)
def test_bad_arguments_of_the_fit_are_named(train, val, given, said):
    with pytest.raises(ValueError, match=said):
        fit(train, val, **given)


def test_bad_shapes_are_named(fitted, val):
    with pytest.raises(ValueError, match=r"coordinates are \[80, 3, 2\], mask \[80, 4\]"):
        fitted["center_bias"].density(val.coordinates[:, :3], val.mask[:, :4])


@pytest.mark.parametrize("kind", [CenterBias, Persistence, HistoryKernel, Oracle])
def test_each_class_is_found_by_its_name(kind):
    assert BASELINES[kind.name] is kind
