import numpy as np
import pytest
from scipy.stats import norm

from eye_fixation.synthetic import Simulator, history_free_bits, oracle_bits


def cells(paths):
    column, row = np.moveaxis(paths.astype(np.int64), -1, 0)
    return row * 32 + column


@pytest.fixture(scope="module")
def smooth():
    return Simulator("smooth")


@pytest.fixture(scope="module")
def field():
    return Simulator("field")


def test_best_bits_of_smooth(smooth):
    bits = [-7.2538, -8.0265, -8.3985, -8.6143, -8.7500, -8.8391, -8.8992, -8.9404, -8.9689, -8.9889]
    assert oracle_bits(smooth) == pytest.approx(bits, abs=1e-4)
    assert oracle_bits(smooth).mean() == pytest.approx(-8.5680, abs=1e-4)
    assert history_free_bits(smooth).mean() == pytest.approx(-9.0324, abs=1e-4)
    assert smooth.transition[16 * 32 + 16].max() == pytest.approx(0.01751, abs=1e-5)
    assert smooth.transition[0].max() == pytest.approx(0.06944, abs=1e-5)


def test_best_bits_of_field(field):
    bits = oracle_bits(field)
    assert bits[[0, 1, 9]] == pytest.approx([-5.141, -7.374, -9.340], abs=1e-3)
    assert bits.mean() == pytest.approx(-8.482, abs=1e-3)
    assert history_free_bits(field).mean() == pytest.approx(-9.416, abs=1e-3)


@pytest.mark.parametrize("kind", ["field", "smooth"])
def test_rows_are_laws_and_clipped_normals(kind):
    simulator = Simulator(kind, seed=3)
    assert simulator.transition.sum(axis=1) == pytest.approx(np.ones(1024), abs=1e-12)
    assert simulator.start.sum() == pytest.approx(1, abs=1e-12)
    mean, variance = simulator.steps
    row, column = 2, 30
    across = norm(column + 0.5 + mean[row, column, 0], np.sqrt(variance[row, column, 0]))
    down = norm(row + 0.5 + mean[row, column, 1], np.sqrt(variance[row, column, 1]))
    law = simulator.transition[row * 32 + column].reshape(32, 32)
    # An inner cell, and a corner that takes the tails of both axes.
    inner = (across.cdf(28) - across.cdf(27)) * (down.cdf(6) - down.cdf(5))
    assert law[5, 27] == pytest.approx(inner, abs=1e-12)
    assert law[0, 31] == pytest.approx(across.sf(31) * down.cdf(1), abs=1e-12)
    assert law.sum(axis=0)[31] == pytest.approx(across.sf(31), abs=1e-12)


def test_drift_of_the_field_is_drawn_as_documented():
    random = np.random.default_rng([7, 0])
    drift, short = random.standard_normal((32, 32, 2)), random.random((32, 32)) < 0.4
    small, large = random.uniform(0.01, 0.15, (32, 32, 2)), random.uniform(10, 20, (32, 32, 2))
    mean, variance = Simulator("field", seed=7).steps
    # Row 4, column 9: x is the column's.
    assert mean[4, 9] == pytest.approx(9 * (0.55 * np.array([6.5, 11.5]) / 32 + 0.2925 * drift[4, 9]))
    assert (variance == np.where(short[..., None], small, large)).all()


def test_sampled_steps_follow_the_transition(field):
    paths = cells(field.sample(20_000, 12, 0))
    scores = np.log2(field.oracle(paths[:, 9], 1)[np.arange(len(paths)), paths[:, 10]])
    assert scores.mean() == pytest.approx(-5.141, abs=0.06)
    scores = np.log2(field.oracle(paths[:, 9], 2)[np.arange(len(paths)), paths[:, 11]])
    assert scores.mean() == pytest.approx(-7.374, abs=0.06)
    counts = np.bincount(paths[:, 0], minlength=1024) / len(paths)
    assert np.abs(counts - field.start).max() < 0.004


@pytest.mark.parametrize("seed", range(3))
def test_statistics_of_sampled_paths(seed):
    simulator = Simulator("field", seed=seed)
    paths = simulator.sample(5000, 20, 2).astype(np.float64)
    steps = np.linalg.norm(np.diff(paths, axis=1), axis=-1)
    assert 4.7 < steps.mean() < 5.1
    assert 2.7 < steps.std() < 3.1
    assert 6.3 < paths.std(axis=(0, 1)).mean() < 6.9
    rows, columns = divmod(cells(paths), 32)
    border = np.isin(rows, (0, 31)) | np.isin(columns, (0, 31))
    assert 0.045 < border.mean() < 0.065
    moved = np.linalg.norm(paths[:, 10:] - paths[:, 9:10], axis=-1)
    ranges = {1: (4.7, 5.0), 3: (6.3, 6.6), 6: (7.7, 8.1), 10: (8.8, 9.2)}
    for reach, (low, high) in ranges.items():
        assert low - 0.1 < moved[:, :reach].mean() < high + 0.1
    start, target = cells(paths)[:, 9], cells(paths)[:, 10]
    assert 0.26 < (simulator.oracle(start, 1).argmax(axis=1) == target).mean() < 0.29


def test_bits_of_sampled_paths_and_coverage(field):
    paths = cells(field.sample(5000, 20, 2))
    rows, bits, covered = np.arange(5000), [], []
    random = np.random.default_rng(0)
    for horizon in range(1, 11):
        law, target = field.oracle(paths[:, 9], horizon), paths[:, 9 + horizon]
        mass = law[rows, target]
        bits.append(np.log2(mass).mean())
        covered.append(((law * (law > mass[:, None])).sum(axis=1) + random.random(5000) * mass <= 0.9).mean())
    assert np.mean(bits) == pytest.approx(-8.482, abs=0.15)
    assert 0.88 < np.mean(covered) < 0.92


def test_counts_approach_the_oracle_from_below(smooth):
    paths, law = cells(smooth.sample(100_000, 11, 0)), smooth.transition
    start = smooth.start @ np.linalg.matrix_power(law, 9)
    best, scores = oracle_bits(smooth, out_len=1)[0], []
    for count in (1_000, 10_000, 100_000):
        before, after = paths[:count, :-1].ravel(), paths[:count, 1:].ravel()
        table = np.bincount(before * 1024 + after, minlength=1024**2).reshape(1024, 1024)
        table = table + 200 * np.bincount(after, minlength=1024) / len(after) + 1e-6
        table /= table.sum(axis=1, keepdims=True)
        scores.append(float(start @ (law * np.log2(table)).sum(axis=1)))
    assert scores[0] < scores[1] < scores[2] < best
    assert best - scores[2] < 0.5 * (best - scores[0])


def test_oracle_of_later_horizons_is_the_power(smooth):
    start = np.array([5, 700])
    third = np.linalg.matrix_power(smooth.transition, 3)[start]
    assert np.abs(smooth.oracle(start, 3) - third).max() < 1e-15


def test_paths_depend_on_seed_and_split_and_stay_inside():
    simulator = Simulator("field", seed=1)
    paths = simulator.sample(50, 20, 0)
    assert paths.dtype == np.float32
    assert paths.shape == (50, 20, 2)
    assert (paths >= 0).all()
    assert (paths < 32).all()
    assert (simulator.sample(20, 20, 0) == paths[:20]).all()
    for other in (simulator.sample(50, 20, 1), Simulator("field", seed=2).sample(50, 20, 0)):
        assert (other != paths).any()


def test_one_field_for_all_splits_unless_asked():
    shared = Simulator("field", seed=4)
    fields = [Simulator("field", seed=4, split=split).transition for split in range(3)]
    assert (fields[0] == shared.transition).all()
    assert np.abs(fields[0] - fields[1]).max() > 0.1
    assert np.abs(fields[1] - fields[2]).max() > 0.1


def test_tables_are_what_files_hold(smooth):
    tables = smooth.tables()
    assert {name: (tuple(table.shape), str(table.dtype)) for name, table in tables.items()} == {
        "transition": ((1024, 1024), "torch.float32"),
        "start": ((1024,), "torch.float32"),
    }
    assert np.abs(tables["transition"].numpy() - smooth.transition).max() < 1e-8


@pytest.mark.parametrize(
    ("action", "name"),
    [
        (lambda: Simulator("straight"), "kind"),
        (lambda: Simulator(seed=-1), "seed"),
        (lambda: Simulator(img_size=1), "img_size"),
        (lambda: Simulator(img_size=4).sample(0, 5, 0), "count"),
        (lambda: Simulator(img_size=4).sample(5, 0, 0), "length"),
        (lambda: Simulator(img_size=4).sample(5, 5, -1), "split"),
        (lambda: Simulator(img_size=4).oracle(np.array([0]), 0), "horizon"),
        (lambda: oracle_bits(Simulator(img_size=4), out_len=0), "out_len"),
        (lambda: oracle_bits(Simulator(img_size=4), in_len=0), "in_len"),
    ],
)
def test_bad_arguments_are_named(action, name):
    with pytest.raises(ValueError, match=f"^{name} is"):
        action()
