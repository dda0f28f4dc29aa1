import math

import numpy as np
import pytest
import torch
from scipy.stats import wasserstein_distance
from sklearn.metrics import average_precision_score, f1_score, precision_recall_curve, roc_auc_score

from common.metrics.calibration import expected_calibration_error
from common.metrics.sparse_map import TargetMaps, to_density
from common.metrics.sparse_map_frames import frame_scores
from common.metrics.sparse_map_pooled import (
    MASS_EDGES,
    CellRanking,
    MassReliability,
    Movement,
    f1_at,
    top_calibration_error,
)

HEIGHT, WIDTH, STEPS = 5, 8, 3
CONSTANT = torch.full((4, STEPS, HEIGHT, WIDTH), 1 / (HEIGHT * WIDTH), dtype=torch.float64)


def example(sequences: int = 30, seed: int = 0, dtype: torch.dtype = torch.float64) -> TargetMaps:
    generator = torch.Generator().manual_seed(seed)
    z = torch.randn(sequences, STEPS, HEIGHT, WIDTH, generator=generator, dtype=dtype)
    density = to_density(z.mul(2).round(), "categorical")
    cell = torch.multinomial(density.flatten(0, 1).flatten(1), 1, generator=generator).view(sequences, STEPS)
    target = torch.stack([cell % WIDTH, cell // WIDTH], -1) + torch.rand(
        sequences, STEPS, 2, generator=generator, dtype=torch.float64
    )
    return TargetMaps.of(density, target, torch.rand(sequences, STEPS, generator=generator) < 0.8)


def lit(maps: TargetMaps) -> torch.Tensor:
    return torch.nn.functional.one_hot(maps.cell, HEIGHT * WIDTH).bool().view(maps.density.shape)


def pooled(maps: TargetMaps) -> list[tuple[np.ndarray, np.ndarray]]:
    """Truth and density of all cells of valid maps: of all steps, then of each."""
    choices = [maps.valid] + [maps.valid & (torch.arange(STEPS) == step) for step in range(STEPS)]
    return [(lit(maps)[keep].flatten().numpy(), maps.density[keep].flatten().numpy()) for keep in choices]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_average_precision_equals_scikit_learn(dtype: torch.dtype) -> None:
    maps = example(dtype=dtype)
    found = CellRanking.of(maps).average_precision()
    expected = [average_precision_score(*part) for part in pooled(maps)]
    assert [found.value, *found.per_step] == pytest.approx(expected, abs=1e-9)


def test_the_best_threshold_is_the_best_of_all_and_its_f1_is_scikit_learns() -> None:
    maps, other = example(), example(seed=1)
    threshold = CellRanking.of(maps).best_f1(split="val")
    truth, density = pooled(maps)[0]
    precision, recall, _ = precision_recall_curve(truth, density)
    best = (2 * precision * recall / np.maximum(precision + recall, 1e-300)).max()
    assert threshold.f1 == pytest.approx(best, abs=1e-12)
    assert threshold.split == "val"
    assert f1_at(maps, threshold.value).value == pytest.approx(best, abs=1e-12)
    found = f1_at(other, threshold.value)
    expected = [f1_score(truth, density >= threshold.value) for truth, density in pooled(other)]
    assert [found.value, *found.per_step] == pytest.approx(expected, abs=1e-12)
    assert f1_at(other, 2.0).value == 0


def test_the_calibration_errors_equal_their_definitions() -> None:
    maps = example(60)
    scores = frame_scores(maps)
    found, mass = top_calibration_error(scores), MassReliability.of(maps).error()
    for (truth, density), top_error, mass_error in zip(
        pooled(maps), [found.value, *found.per_step], [mass.value, *mass.per_step]
    ):
        rows = density.reshape(-1, HEIGHT * WIDTH)
        right = truth.reshape(rows.shape)[np.arange(len(rows)), rows.argmax(1)]
        top = expected_calibration_error(torch.from_numpy(rows.max(1)), torch.from_numpy(right))
        assert top_error == pytest.approx(top, abs=1e-12)
        place = np.digitize(density, MASS_EDGES[1:-1])
        gaps = [abs(density[place == b].sum() - truth[place == b].sum()) for b in range(len(MASS_EDGES) - 1)]
        assert mass_error == pytest.approx(sum(gaps) / len(rows), abs=1e-12)


def test_a_density_that_tells_the_truth_is_calibrated_and_a_sharpened_one_is_not() -> None:
    maps = example(1500)
    sharp = TargetMaps.of(to_density(3 * maps.density.log(), "categorical"), maps.target, maps.valid)
    good, bad = (MassReliability.of(part).error().value for part in (maps, sharp))
    assert good < 0.05 < 0.3 < bad
    good, bad = (top_calibration_error(frame_scores(part)).value for part in (maps, sharp))
    assert good < 0.05 < 0.2 < bad


def test_a_constant_map_pooled() -> None:
    target = torch.rand(4, STEPS, 2, generator=torch.Generator().manual_seed(0)) * 5
    maps = TargetMaps.of(CONSTANT, target)
    ranking = CellRanking.of(maps)
    assert ranking.average_precision().value == pytest.approx(1 / 40)
    assert ranking.best_f1(split="val").f1 == pytest.approx(2 / 41)
    assert MassReliability.of(maps).error().value == pytest.approx(0, abs=1e-12)
    last = torch.full((4, 2), 4.0)
    moved = Movement.of(maps, frame_scores(maps).mean_point, last)
    assert moved.auc().value == 0.5


def movement(maps: TargetMaps, last: torch.Tensor) -> Movement:
    return Movement.of(maps, frame_scores(maps).mean_point, last)


def test_movement_equals_its_definition() -> None:
    maps = example(50)
    last = torch.rand(50, 2, generator=torch.Generator().manual_seed(7), dtype=torch.float64) * 5
    last[3] = math.nan
    found = movement(maps, last)
    keep = maps.valid & (torch.arange(50) != 3).unsqueeze(1)
    centres = torch.stack(torch.meshgrid(torch.arange(WIDTH), torch.arange(HEIGHT), indexing="xy"), -1) + 0.5
    near = (centres - last[:, None, None]).norm(dim=-1) <= 1.5
    score = 1 - (maps.density * near.unsqueeze(1)).sum((-2, -1))
    step = (maps.target - last.unsqueeze(1)).norm(dim=-1)
    mean = (maps.density.unsqueeze(-1) * centres).sum((-3, -2))
    mean_step = (mean - last.unsqueeze(1)).norm(dim=-1)
    steps = torch.hypot(maps.cell % WIDTH - last[:, :1].floor(), maps.cell // WIDTH - last[:, 1:].floor())
    torch.testing.assert_close(found.cell_step[keep], steps[keep])
    choices = [keep] + [keep & (torch.arange(STEPS) == t) for t in range(STEPS)]
    moved = step > 1.5
    for chosen, auc, ratio, w1 in zip(
        choices, *([pair.value, *pair.per_step] for pair in (found.auc(), found.ratio(), found.wasserstein()))
    ):
        assert auc == pytest.approx(roc_auc_score(moved[chosen], score[chosen]), abs=1e-9)
        both = chosen & moved
        assert ratio == pytest.approx(float(mean_step[both].sum() / step[both].sum()), abs=1e-12)
        assert w1 == pytest.approx(
            wasserstein_distance(found.cell_step[chosen], found.drawn_step[chosen]), abs=1e-9
        )


def test_drawn_steps_follow_the_density() -> None:
    honest = example(3000)
    last = torch.full((3000, 2), 3.0)
    wrong = TargetMaps.of(honest.density.flip(3), honest.target.clamp(max=2), honest.valid)
    assert movement(honest, last).wasserstein().value < 0.08
    assert movement(wrong, last).wasserstein().value > 0.5
    sharp = torch.zeros(1, 1, HEIGHT, WIDTH)
    sharp[0, 0, 3, 5] = 1
    one = movement(TargetMaps.of(sharp, torch.tensor([[[5.5, 3.5]]])), torch.tensor([[2.5, 3.5]]))
    assert float(one.drawn_step) == float(one.mean_step) == float(one.step) == float(one.cell_step) == 3
    assert float(one.near) == 0
    assert math.isnan(one.auc().value)


def test_no_chunk_size_changes_a_pooled_score(monkeypatch: pytest.MonkeyPatch) -> None:
    maps, last = example(), torch.full((30, 2), 2.2)

    def everything() -> list[float]:
        moves = movement(maps, last)
        parts = [
            CellRanking.of(maps).average_precision(),
            MassReliability.of(maps).error(),
            *(moves.auc(), moves.ratio(), moves.wasserstein()),
        ]
        return [number for part in parts for number in (part.value, *part.per_step)]

    whole = everything()
    monkeypatch.setattr("common.metrics.sparse_map._ENTRIES_PER_CHUNK", HEIGHT * WIDTH)
    assert everything() == pytest.approx(whole, abs=1e-9)


def test_movement_names_wrong_shapes() -> None:
    maps = example(4)
    with pytest.raises(ValueError, match="last"):
        movement(maps, torch.zeros(3, 2))
