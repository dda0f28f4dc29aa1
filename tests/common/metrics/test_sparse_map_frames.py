import math

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score
from torch import Tensor

from common.metrics.sparse_map import TargetMaps, to_density
from common.metrics.sparse_map_frames import FrameScores, frame_scores

Array = NDArray[np.float64]
HEIGHT, WIDTH = 6, 9


def example(sequences: int = 5, steps: int = 4, *, ties: bool = True) -> TargetMaps:
    """Densities on a grid that is not square, with many equal cells and some frames left out."""
    generator = torch.Generator().manual_seed(0)
    z = torch.randn(sequences, steps, HEIGHT, WIDTH, generator=generator, dtype=torch.float64)
    density = to_density(z.mul(2).round() if ties else z, "categorical")
    size = torch.tensor([WIDTH, HEIGHT], dtype=torch.float64)
    target = torch.rand(sequences, steps, 2, generator=generator, dtype=torch.float64) * size
    valid = torch.rand(sequences, steps, generator=generator) < 0.8
    return TargetMaps.of(density, target, valid)


def one_hot(rows: list[int], columns: list[int], size: int = 32) -> Tensor:
    maps = torch.zeros(1, len(rows), size, size)
    maps[0, range(len(rows)), rows, columns] = 1
    return maps


def reference(q: Array, target: Array, weights: Array) -> dict[str, float]:
    """The published definitions, one frame at a time; q and weights [H, W], target (x, y)."""
    row, column = int(target[1]), int(target[0])
    own, flat = q[row, column], q.ravel()
    at = row * q.shape[1] + column
    fixated = np.zeros(len(flat))
    fixated[at] = 1
    y, x = np.indices(q.shape) + 0.5
    distance = np.hypot(x - target[0], y - target[1])
    pairs = np.hypot(x.reshape(-1, 1) - x.ravel(), y.reshape(-1, 1) - y.ravel())
    order = np.argsort(-flat, kind="stable")
    top = np.unravel_index(order[0], q.shape)
    shuffled = np.append(fixated, np.zeros(len(flat)))
    share = np.append(np.zeros(len(flat)), weights.ravel())
    keep = fixated.astype(bool).tolist() + [True] * len(flat)
    return {
        "bits": math.log2(own),
        "nss": (own - q.mean()) / q.std(),
        "auc": roc_auc_score(fixated, flat),
        "sauc": roc_auc_score(
            shuffled[keep], np.append(flat, flat)[keep], sample_weight=(shuffled + share)[keep]
        ),
        "rank": list(order).index(at),
        "energy": (q * distance).sum() - 0.5 * flat @ pairs @ flat,
        "error_argmax": math.dist((top[1] + 0.5, top[0] + 0.5), target),
        "error_mean": math.dist(((q * x).sum(), (q * y).sum()), target),
        "top_mass": q.max(),
    }


def test_every_score_equals_its_definition() -> None:
    maps = example()
    weights = torch.randint(0, 5, (maps.steps, *maps.grid), generator=torch.Generator().manual_seed(1))
    scores = frame_scores(maps, weights=weights)
    for n, t in maps.valid.nonzero().tolist():
        expected = reference(
            maps.density[n, t].numpy(), maps.target[n, t].numpy(), weights[t].double().numpy()
        )
        found = {name: float(scores.values[name][n, t]) for name in expected}
        assert found == pytest.approx(expected, rel=1e-9, abs=1e-9)
    for name, values in scores.values.items():
        assert bool((values.isnan() == ~maps.valid).all()), name


def test_shares_follow_from_rank_distance_and_mass() -> None:
    maps = example()
    scores = frame_scores(maps, ks=(1, 7), radii=(2, 3.5), levels=(0.5, 0.9))
    values = {name: column[maps.valid] for name, column in scores.values.items()}
    assert torch.equal(values["recall_at_1"], (values["rank"] == 0).double())
    assert torch.equal(values["recall_at_7"], (values["rank"] < 7).double())
    assert torch.equal(values["hit_3.5"], (values["error_argmax"] <= 3.5).double())
    assert torch.equal(values["coverage_90"], (values["region_mass"] <= 0.9).double())
    assert "sauc" not in values


@pytest.mark.parametrize("size", [30, 32])
def test_a_constant_map_knows_nothing(size: int) -> None:
    density = torch.full((40, 50, size, size), 1 / size**2)
    generator = torch.Generator().manual_seed(0)
    target = torch.rand(40, 50, 2, generator=generator) * size
    weights = torch.rand(50, size, size, generator=generator)
    values = frame_scores(TargetMaps.of(density, target), weights=weights).values
    assert values["bits"].mean() == pytest.approx(-2 * math.log2(size), abs=1e-6)
    assert torch.equal(values["nss"], torch.zeros(40, 50, dtype=torch.float64))
    assert values["auc"].unique().tolist() == [0.5]
    torch.testing.assert_close(values["sauc"], torch.full_like(values["sauc"], 0.5))
    assert values["coverage_90"].mean() == pytest.approx(0.9, abs=0.02)
    assert values["coverage_50"].mean() == pytest.approx(0.5, abs=0.03)
    cell = target.floor()
    assert torch.equal(values["rank"], (cell[..., 1] * size + cell[..., 0]).double())


def test_a_perfect_map() -> None:
    rows, columns = [3, 31, 0], [7, 0, 31]
    centre = torch.tensor([[[c + 0.5, r + 0.5] for r, c in zip(rows, columns)]])
    scores = frame_scores(TargetMaps.of(one_hot(rows, columns), centre))
    values = {name: column[0].tolist() for name, column in scores.values.items()}
    assert values["nss"] == pytest.approx([31.984] * 3, abs=5e-4)  # (1 - 1/1024) / std = sqrt(1023)
    assert values["nss"] == pytest.approx([math.sqrt(1023)] * 3)
    assert values["bits"] == [0.0] * 3
    assert values["auc"] == [1.0] * 3
    assert values["energy"] == pytest.approx([0.0] * 3, abs=1e-9)
    torch.testing.assert_close(scores.mean_point, centre.double(), rtol=0, atol=0.01)
    assert torch.equal(scores.argmax_point, centre.double())


def test_moving_a_map_moves_its_mean_point() -> None:
    blob = torch.zeros(1, 1, 20, 24, dtype=torch.float64)
    blob[..., 5:9, 4:8] = to_density(torch.arange(16.0).view(4, 4), "regression").double()
    blob /= blob.sum()
    target = torch.tensor([[[6.0, 6.0]]])
    before = frame_scores(TargetMaps.of(blob, target)).mean_point
    after = frame_scores(TargetMaps.of(blob.roll((3, 10), (2, 3)), target)).mean_point
    torch.testing.assert_close(after - before, torch.tensor([[[10.0, 3.0]]], dtype=torch.float64))


def test_coverage_of_targets_drawn_from_the_density_is_its_level() -> None:
    density = to_density(example(4000, 1).density.log().mul(1.5), "categorical")
    cell = torch.multinomial(density.flatten(1), 1, generator=torch.Generator().manual_seed(5)).squeeze(1)
    target = torch.stack([cell % WIDTH + 0.5, cell // WIDTH + 0.5], 1).unsqueeze(1)
    values = frame_scores(TargetMaps.of(density, target), levels=(0.1, 0.5, 0.9)).values
    for level in (10, 50, 90):
        assert values[f"coverage_{level}"].mean() == pytest.approx(level / 100, abs=0.025)


def same(first: FrameScores, second: FrameScores, keep: slice) -> None:
    for name, values in first.values.items():
        torch.testing.assert_close(
            values, second.values[name][keep], rtol=0, atol=1e-9, equal_nan=True, msg=name
        )


def test_no_score_depends_on_other_frames_or_their_number(monkeypatch: pytest.MonkeyPatch) -> None:
    maps = example(12)
    scores = frame_scores(maps)
    part = TargetMaps.of(maps.density[:3].clone(), maps.target[:3], maps.valid[:3])
    same(frame_scores(part), scores, slice(0, 3))
    monkeypatch.setattr("common.metrics.sparse_map._ENTRIES_PER_CHUNK", 7 * HEIGHT * WIDTH)
    same(frame_scores(maps), scores, slice(None))


def test_the_seed_decides_ties_only() -> None:
    maps = example()
    first, again, other = (frame_scores(maps, seed=seed).values for seed in (1, 1, 2))
    torch.testing.assert_close(first["region_mass"], again["region_mass"], rtol=0, atol=0, equal_nan=True)
    assert not torch.allclose(first["region_mass"], other["region_mass"], equal_nan=True)
    torch.testing.assert_close(first["auc"], other["auc"], rtol=0, atol=0, equal_nan=True)


def test_a_cell_without_mass_costs_126_bits() -> None:
    density = one_hot([0], [0], 4)
    values = frame_scores(TargetMaps.of(density, torch.tensor([[[2.5, 2.5]]]))).values
    assert float(values["bits"]) == -126
    assert float(values["auc"]) == pytest.approx(7 / 15)  # of 15 other cells 14 tie


def test_wrong_weights_and_empty_masks_are_named() -> None:
    maps = example()
    with pytest.raises(ValueError, match="weights are"):
        frame_scores(maps, weights=torch.ones(maps.steps, HEIGHT * WIDTH))
    with pytest.raises(ValueError, match="no valid map"):
        frame_scores(TargetMaps.of(maps.density, maps.target, torch.zeros_like(maps.valid)))
