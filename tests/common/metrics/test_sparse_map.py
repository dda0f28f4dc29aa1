import math

import numpy as np
import pytest
import torch
from torch import Tensor

from common.metrics.sparse_map import (
    FLOORS,
    TAUS,
    Calibration,
    TargetMaps,
    cell_index,
    fit_calibration,
    to_density,
)


def logits(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("kind", ["regression", "bernoulli", "categorical"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_every_kind_gives_a_density_of_the_same_shape(kind: str, dtype: torch.dtype) -> None:
    density = to_density(logits(2, 3, 1, 5, 7).to(dtype) * 30, kind)  # type: ignore[arg-type]
    assert density.shape == (2, 3, 1, 5, 7)
    assert density.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    assert density.min() >= 0
    torch.testing.assert_close(density.sum((-2, -1)), torch.ones(2, 3, 1, dtype=density.dtype))


def test_densities_by_hand() -> None:
    z = torch.tensor([[2.0, -1.0], [0.0, 1.0]], dtype=torch.float64)
    whole = 3 + 4e-6
    expected = torch.tensor([[2 + 1e-6, 1e-6], [1e-6, 1 + 1e-6]], dtype=torch.float64) / whole
    torch.testing.assert_close(to_density(z, "regression"), expected, rtol=0, atol=1e-15)
    odds = z.sigmoid() / (1 - z.sigmoid())  # law of the place given one success among independent cells
    for kind in ("bernoulli", "categorical"):
        torch.testing.assert_close(to_density(z, kind), odds / odds.sum(), rtol=0, atol=1e-15)
    torch.testing.assert_close(to_density(z + 90, "categorical"), to_density(z, "categorical"))


def test_channel_and_step_are_not_part_of_the_map() -> None:
    z = logits(2, 3, 1, 4, 6)
    for at in ((0, 0, 0), (1, 2, 0)):
        torch.testing.assert_close(to_density(z, "bernoulli")[at], to_density(z[at], "bernoulli"))


@pytest.mark.parametrize(
    ("prediction", "kind", "message"),
    [
        (torch.zeros(2, 2), "logits", "output_kind"),
        (torch.zeros(4), "regression", "H, W"),
        (torch.tensor([[math.nan, 0.0]]), "bernoulli", "NaN"),
        (torch.tensor([[math.inf, 0.0]]), "regression", "inf"),
    ],
)
def test_what_is_no_prediction_is_refused(prediction: Tensor, kind: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        to_density(prediction, kind)  # type: ignore[arg-type]


def test_points_fall_into_cells_by_rounding_down() -> None:
    x = [0.0, 31.999999, 32.0, 5.5, -0.1, math.nan]
    points = torch.tensor([[a, 2.9] for a in x], dtype=torch.float64)
    assert (cell_index(points, (4, 32)) - 2 * 32).tolist() == [0, 31, 31, 5, 0, 0]
    assert cell_index(torch.tensor([[3.0, 1.0]]), (4, 8)).tolist() == [11]
    assert cell_index(torch.tensor([[1.0, 4.0]]), (4, 8)).tolist() == [25]


def test_calibration_by_hand_and_its_identity() -> None:
    q = torch.tensor([[0.1, 0.2], [0.3, 0.4]], dtype=torch.float64)
    powers = q**2 / (q**2).sum()
    torch.testing.assert_close(Calibration(2.0, 0.2).apply(q), 0.8 * powers + 0.05, rtol=0, atol=1e-15)
    assert torch.equal(Calibration().apply(q), q)
    assert torch.equal(Calibration(5.0, 1.0).apply(q), torch.full_like(q, 0.25))
    assert Calibration.from_dict(Calibration(0.3, 0.01).to_dict()) == Calibration(0.3, 0.01)
    assert Calibration(0.3, 0.01).to_dict() == {"tau": 0.3, "lambda": 0.01}
    for tau, floor in ((0.0, 0.1), (1.0, 1.5), (math.nan, 0.0)):
        with pytest.raises(ValueError, match="tau"):
            Calibration(tau, floor)


def test_a_cell_of_no_mass_stays_finite_under_calibration() -> None:
    q = torch.tensor([[1.0, 0.0], [0.0, 0.0]])
    assert torch.equal(Calibration(0.5, 0.0).apply(q), q)
    assert Calibration(3.0, 0.4).apply(q).flatten().tolist() == pytest.approx([0.7, 0.1, 0.1, 0.1])


def test_the_fit_is_the_best_of_the_grid() -> None:
    density = to_density(3 * logits(40, 2, 4, 5), "categorical")
    cell = torch.randint(20, (40, 2), generator=torch.Generator().manual_seed(1))
    valid = torch.rand(40, 2, generator=torch.Generator().manual_seed(2)) < 0.7

    def bits(tau: float, floor: float) -> float:
        applied = Calibration(tau, floor).apply(density).flatten(2).gather(2, cell.unsqueeze(2)).squeeze(2)
        return float(applied[valid].log2().mean())

    fitted = fit_calibration(density, cell, valid)
    best = max(bits(tau, floor) for tau in TAUS for floor in FLOORS)
    assert bits(fitted.tau, fitted.floor) == pytest.approx(best, abs=1e-12)
    assert best >= -math.log2(20)
    broken = torch.where(valid[..., None, None], density, math.nan)
    assert fit_calibration(broken, cell, valid) == fitted


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0])
def test_a_distorted_density_is_set_right(power: float) -> None:
    true = to_density(2 * logits(6000, 4, 4, seed=3), "categorical")
    cell = torch.multinomial(true.flatten(1), 1, generator=torch.Generator().manual_seed(4)).squeeze(1)
    distorted = Calibration(power).apply(true)
    fitted = fit_calibration(distorted, cell)
    assert fitted.tau == pytest.approx(1 / power)
    assert fitted.floor <= 1e-3


def test_a_confidently_wrong_model_becomes_uniform() -> None:
    density = to_density(20 * logits(50, 32, 32), "categorical").float()
    cell = density.flatten(1).argmin(1)
    fitted = fit_calibration(density, cell)
    assert fitted.floor == 1.0
    assert float(fitted.apply(density).flatten(1).gather(1, cell.unsqueeze(1)).log2().mean()) == -10


def test_uniform_densities_tie_and_leave_tau_alone() -> None:
    assert fit_calibration(torch.full((5, 4, 4), 1 / 16), torch.arange(5)) == Calibration(1.0, FLOORS[0])
    with pytest.raises(ValueError, match="no valid map"):
        fit_calibration(torch.full((1, 4, 4), 1 / 16), torch.zeros(1).long(), torch.tensor([False]))
    with pytest.raises(ValueError, match="do not fit"):
        fit_calibration(torch.full((2, 4, 4), 1 / 16), torch.zeros(3).long())


def test_maps_name_what_does_not_fit() -> None:
    density, target = torch.full((2, 3, 4, 4), 1 / 16), torch.ones(2, 3, 2)
    valid = torch.tensor([[True, False, True]] * 2)
    rows = list(TargetMaps.of(torch.where(valid[..., None, None], density, math.nan), target, valid).rows())
    assert torch.cat([part.place for part in rows]).tolist() == [0, 2, 3, 5]
    assert torch.cat([part.step for part in rows]).tolist() == [0, 2, 0, 2]
    with pytest.raises(ValueError, match=r"\[N, T, H, W\]"):
        TargetMaps.of(density, target[:1], valid)
    with pytest.raises(ValueError, match="bool"):
        TargetMaps.of(density, target, valid.float())
    with pytest.raises(ValueError, match=r"density \[1, 2\] sums to 2"):
        TargetMaps.of(torch.where(torch.arange(6).view(2, 3, 1, 1) == 5, 2 * density, density), target, valid)
    with pytest.raises(ValueError, match="target holds NaN"):
        TargetMaps.of(density, target * math.nan, valid)


def test_rows_together_are_all_maps_whatever_their_size() -> None:
    density = to_density(logits(7, 3, 300, 300).float(), "bernoulli")
    rows = list(TargetMaps.of(density, torch.ones(7, 3, 2)).rows())
    assert len(rows) > 3
    np.testing.assert_array_equal(torch.cat([part.density for part in rows]), density.view(21, -1))
