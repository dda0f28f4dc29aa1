import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from sparse_pieces import MODULES, constant, frame, maps

from common.losses import dice_loss, sigmoid_focal_loss, sparse_map
from common.losses.sparse_map import (
    CompositeSparseLoss,
    ConcentrationLoss,
    HeatmapCrossEntropyLoss,
    PenaltyReducedFocalLoss,
    SparseBCELoss,
    SparseDiceLoss,
    SparseFocalLoss,
    SparseMapLoss,
    SparsityLoss,
    SummedLoss,
    TransportLoss,
    WeightedMSELoss,
    composite_sparse_loss,
    concentration_loss,
    gaussian_map,
    heatmap_cross_entropy,
    penalty_reduced_focal_loss,
    soft_argmax,
    sparse_bce_loss,
    sparse_dice_loss,
    sparse_focal_loss,
    sparsity_loss,
    transport_loss,
    weighted_mse_loss,
)

Array = NDArray[np.float64]
names = pytest.mark.parametrize("name", MODULES)


def far_from(on: NDArray[np.bool_]) -> Array:
    """Return squared distances to the lit cell."""
    rows, columns = np.mgrid[: on.shape[0], : on.shape[1]].astype(float)
    row, column = np.argwhere(on)[0]
    return (rows - row) ** 2 + (columns - column) ** 2


def share(values: Array) -> Array:
    return values / values.sum()


def focal_frame(p: Array, on: NDArray[np.bool_], alpha: float, gamma: float) -> Array:
    p_t, a_t = np.where(on, p, 1 - p), np.where(on, alpha, 1 - alpha)
    return -a_t * (1 - p_t) ** gamma * np.log(p_t)


def spread(q: Array, on: NDArray[np.bool_]) -> Array:
    return q * far_from(on) / max(on.shape) ** 2


def smooth_target(on: NDArray[np.bool_]) -> Array:
    far = far_from(on)
    return share(np.exp(-far / (2 * 0.8**2)) * (far <= (3 * 0.8) ** 2))


def penalty_frame(p: Array, on: NDArray[np.bool_]) -> Array:
    g = np.exp(-far_from(on) / (2 * 1.2**2))
    return -np.where(on, (1 - p) ** 2 * np.log(p), (1 - g) ** 4 * p**2 * np.log(1 - p))


Frame = Callable[[Array, Array, NDArray[np.bool_]], Array]
CELLS: dict[str, Frame] = {
    "weighted_mse": lambda z, p, on: np.where(on, 7, 1) * (z - on) ** 2,
    "bce": lambda z, p, on: np.where(on, 3 * np.log1p(np.exp(0.5 - z)), np.log1p(np.exp(z - 0.5))),
    "focal": lambda z, p, on: focal_frame(p, on, 0.3, 1.5),
    "sparsity": lambda z, p, on: (p - on) ** 2 + 0.2 * p,
    "composite_focal": lambda z, p, on: focal_frame(p, on, 0.25, 2),
    "composite_sparsity": lambda z, p, on: (p - on) ** 2 + 0.1 * p,
}
"""What is averaged over cells."""
FRAMES: dict[str, Frame] = {
    "concentration": lambda z, p, on: spread(share(p), on),
    "nearest": lambda z, p, on: spread(share(p), on),
    "transport": lambda z, p, on: spread(share(np.exp(z)), on),
    "cross_entropy": lambda z, p, on: on * -np.log(share(np.exp(z))),
    "smooth": lambda z, p, on: -smooth_target(on) * np.log(share(np.exp(z))),
    "penalty_reduced": lambda z, p, on: penalty_frame(p, on),
    "composite_concentration": lambda z, p, on: spread(share(p), on),
}
"""What is summed in a frame and averaged over frames with a target."""


def dice(p: Array, y: Array) -> float:
    return float(1 - (2 * (p * y).sum() + 1) / (p.sum() + y.sum() + 1))


def brute(name: str, z: Array, y: Array) -> float:
    """Sum the definitions over maps [N, H, W], frame by frame."""
    p = 1 / (1 + np.exp(-z))
    if name == "composite":
        parts = (("focal", 1.0), ("sparsity", 0.8), ("concentration", 1.5))
        return sum(weight * brute("composite_" + part, z, y) for part, weight in parts)
    if name == "dice":
        return dice(p, y)
    if name == "dice_frame":
        values = [dice(*pair) for pair in zip(p, y)]
    elif name in CELLS:
        values = [float(CELLS[name](*maps_, on).mean()) for *maps_, on in zip(z, p, y > 0)]
    else:
        values = [float(FRAMES[name](*maps_, on).sum()) for *maps_, on in zip(z, p, y > 0) if on.any()]
    return float(np.mean(values)) if values else 0.0


@names
@pytest.mark.parametrize("seeds", [range(100), range(100, 200)])
def test_equals_the_definition_frame_by_frame(name: str, seeds: range) -> None:
    for seed in seeds:
        z, y, mask = maps(seed, empty=True)
        expected = brute(name, *(kept.flatten(0, 1).numpy() for kept in (z[mask], y[mask])))
        found = MODULES[name](z, y, mask).item()
        assert found == pytest.approx(expected, rel=1e-10, abs=1e-12), seed


def best_constant(loss: SparseMapLoss, low: float, high: float) -> tuple[float, float]:
    grid = torch.linspace(low, high, 401, dtype=torch.float64)
    values = torch.stack([loss(constant(float(z)), frame()) for z in grid])
    return float(grid[values.argmin()]), float(values.min())


def test_goldens_of_one_cell_in_1024() -> None:
    """G16."""
    bias = -math.log(1023)
    assert bias == pytest.approx(-6.930495, abs=5e-7)
    z, lowest = best_constant(SparseBCELoss(), bias - 0.5, bias + 0.5)
    assert torch.tensor(z).sigmoid().item() == pytest.approx(0.00097656, rel=5e-4)
    assert lowest == pytest.approx(0.007745101, abs=1e-9)
    z, lowest = best_constant(WeightedMSELoss(pos_weight=1.0), 0, 0.002)
    assert (z, lowest) == (pytest.approx(0.00097656, abs=5e-6), pytest.approx(0.000975609, abs=5e-10))
    z, _ = best_constant(SparseFocalLoss(), -2.96, -2.93)
    assert torch.tensor(z).sigmoid().item() == pytest.approx(0.049946, abs=1e-5)
    z, _ = best_constant(WeightedMSELoss(), 0.08, 0.1)
    assert z == pytest.approx(0.089047, abs=5e-6)
    assert heatmap_cross_entropy(constant(3), frame()).item() == pytest.approx(6.931471806, abs=5e-10)
    values = [CompositeSparseLoss()(constant(z / 10), frame()).item() for z in range(-200, 61)]
    assert min(values) == pytest.approx(0.252921811, abs=5e-10)
    for on, off, expected in ((12.0, -12.0, 0.001644762), (4.0, -6.0, 0.180893620)):
        value, parts = composite_sparse_loss(frame(on=on, off=off), frame())
        assert value.item() == pytest.approx(expected, abs=5e-10)
        hand = parts["focal"] + 0.8 * parts["sparsity"] + 1.5 * parts["concentration"]
        assert hand.item() == pytest.approx(expected, abs=5e-10)


def test_goldens_of_shares_dice_and_distance() -> None:
    """G17."""
    for alpha, share in ((0.25, 0.0003257), (0.75, 0.002924), (0.999, 0.4941)):
        cells = sparse_focal_loss(constant(0), frame(), alpha=alpha, reduction="none")
        assert (cells[0, 16, 16] / cells.sum()).item() == pytest.approx(share, rel=2e-4)
    for z, expected in ((-1e4, 0.5), (0.0, 0.996109), (1e4, 0.997076)):
        assert sparse_dice_loss(constant(z), frame()).item() == pytest.approx(expected, abs=5e-7)
    for place, expected in (((16, 16), 0.166992), ((0, 0), 0.635742), ((3, 28), 0.471680)):
        for z in (0.0, -1e4):
            value = concentration_loss(constant(z), frame(place)).item()
            assert value == pytest.approx(expected, abs=5e-7)
    heat = gaussian_map(frame(), 1.5)
    for z, expected in ((0.0, 172.515280), (-math.log(1023), 6.917941)):
        assert penalty_reduced_focal_loss(constant(z), heat).item() == pytest.approx(expected, abs=5e-7)


@pytest.mark.parametrize("reduction", ["none", "sum", "mean", "valid_mean"])
def test_neutral_settings_are_torch(reduction: str) -> None:
    z, y, _ = maps(3, 2, 3, 1)
    plain = "mean" if reduction == "valid_mean" else reduction
    tight = {"rtol": 1e-12, "atol": 1e-12}
    found = weighted_mse_loss(z, y, pos_weight=1, reduction=reduction)
    torch.testing.assert_close(found, F.mse_loss(z, y, reduction=plain), **tight)
    bce = F.binary_cross_entropy_with_logits(z, y, reduction=plain)
    torch.testing.assert_close(sparse_bce_loss(z, y, reduction=reduction), bce, **tight)
    found = sparse_focal_loss(z, y, alpha=0.5, gamma=0, reduction=reduction)
    torch.testing.assert_close(found, bce / 2, **tight)
    found = sparsity_loss(z, y, l1_weight=0, reduction=reduction)
    torch.testing.assert_close(found, F.mse_loss(z.sigmoid(), y, reduction=plain), **tight)
    found = penalty_reduced_focal_loss(z, y, reduction=reduction)
    expected = sigmoid_focal_loss(z, y, alpha=None, normalizer="positives", reduction=plain)
    torch.testing.assert_close(found, expected, **tight)
    found = heatmap_cross_entropy(z, y, reduction=reduction)
    cell = y.flatten(0, 2).flatten(1).argmax(1)
    expected = F.cross_entropy(z.flatten(0, 2).flatten(1), cell, reduction=plain)
    torch.testing.assert_close(
        found.flatten(0, 2).sum((-2, -1)) if plain == "none" else found, expected, **tight
    )


def test_dice_is_dice_loss_with_one_sigmoid_class() -> None:
    z, y, _ = maps(5, 2, 3, 1)
    flat, labels = z.flatten(0, 2).unsqueeze(1), y.flatten(0, 2).unsqueeze(1)
    for scope, theirs in (("batch", "batch"), ("frame", "image")):
        expected = dice_loss(flat, labels, activation="sigmoid", scope=theirs, classes="all")
        torch.testing.assert_close(sparse_dice_loss(z, y, scope=scope), expected)


def test_values_by_hand() -> None:
    """A frame of two cells; p = 1/5 and 4/5 where the logits are -ln 4 and ln 4, softmax 1/17 and 16/17."""
    four = math.log(4)
    z = torch.tensor([[[four, -four]]], dtype=torch.float64)
    y = torch.tensor([[[0.0, 1]]], dtype=torch.float64)
    assert weighted_mse_loss(z, y, pos_weight=3).item() == pytest.approx((four**2 + 3 * (1 + four) ** 2) / 2)
    assert sparsity_loss(z, y, l1_weight=0.5).item() == pytest.approx((0.64 + 0.64 + 0.5) / 2)
    assert concentration_loss(z, y).item() == pytest.approx(0.8 / 4)
    assert transport_loss(z, y).item() == pytest.approx(16 / 17 / 4)
    assert heatmap_cross_entropy(z, y).item() == pytest.approx(math.log(17))
    assert sparse_dice_loss(z, y, smooth=0).item() == pytest.approx(1 - 0.4 / 2)
    near = torch.exp(torch.tensor(-0.5, dtype=torch.float64))
    expected = 0.64 * math.log(5) + (1 - near) ** 4 * 0.64 * math.log(5)
    assert PenaltyReducedFocalLoss(sigma=1)(z, y).item() == pytest.approx(expected.item())


def test_every_parameter_bites_in_its_direction() -> None:
    z, y, _ = maps(7, 2, 3)
    far = z - 200 * y
    assert weighted_mse_loss(z, y, pos_weight=9) > weighted_mse_loss(z, y, pos_weight=2)
    assert weighted_mse_loss(z, y, pos_weight=9, threshold=1).isclose(F.mse_loss(z, y))
    assert sparse_bce_loss(far, y, pos_weight=9) > sparse_bce_loss(far, y)
    assert sparse_bce_loss(z - 9, y, offset=9).isclose(sparse_bce_loss(z, y))
    assert sparse_focal_loss(z, y, gamma=3) < sparse_focal_loss(z, y, gamma=1)
    assert sparse_focal_loss(far, y, alpha=0.9) > sparse_focal_loss(far, y, alpha=0.6)
    assert sparsity_loss(z, y, l1_weight=0.5) > sparsity_loss(z, y, l1_weight=0.1)
    assert sparse_dice_loss(far, y, smooth=3) < sparse_dice_loss(far, y, smooth=1)
    assert sparse_dice_loss(z, y, scope="frame") != sparse_dice_loss(z, y)
    assert concentration_loss(z, y, density="categorical") != concentration_loss(z, y)
    assert heatmap_cross_entropy(y, y, sigma=1) > heatmap_cross_entropy(y, y)
    heat = gaussian_map(y, 1.0)
    assert penalty_reduced_focal_loss(z, heat, alpha=3) < penalty_reduced_focal_loss(z, heat, alpha=1)
    assert penalty_reduced_focal_loss(z, heat, beta=6) < penalty_reduced_focal_loss(z, heat, beta=1)
    for place in range(3):
        weights = tuple(2.0 if entry == place else 1.0 for entry in range(3))
        assert (
            composite_sparse_loss(z, y, weights=weights)[0]
            > composite_sparse_loss(z, y, weights=(1, 1, 1))[0]
        )


def test_balanced_weight_is_unlit_over_lit_cells_that_count() -> None:
    y = torch.zeros(2, 4, 4, dtype=torch.float64)
    y[0, 1, 1] = y[1, 0] = 1
    mask = torch.tensor([True, False])
    z = torch.randn(2, 4, 4, dtype=torch.float64)
    found = weighted_mse_loss(z, y, pos_weight="balanced", valid=mask)
    torch.testing.assert_close(found, weighted_mse_loss(z, y, pos_weight=15, valid=mask))
    black = torch.zeros_like(y)
    assert weighted_mse_loss(z, black, pos_weight="balanced").isclose(F.mse_loss(z, black))


def test_a_gaussian_target_needs_a_threshold() -> None:
    """Every cell of an untruncated Gaussian is above 0, so a weight on target > 0 is a constant factor."""
    soft = gaussian_map(frame(), 3.0)
    z = torch.randn(1, 32, 32, dtype=torch.float64)
    plain = F.mse_loss(z, soft)
    assert weighted_mse_loss(z, soft, pos_weight=100).isclose(100 * plain)
    assert weighted_mse_loss(z, soft, pos_weight=100, threshold=0.5) < 10 * plain


def test_distance_to_the_nearest_of_several_cells_and_to_their_middle() -> None:
    y = torch.zeros(1, 5, 7, dtype=torch.float64)
    y[0, 1, 1] = y[0, 3, 5] = 1
    found = sparse_map.squared_distance(y, "nearest")[0]
    rows, columns = np.mgrid[:5, :7]
    brute_force = np.minimum((rows - 1) ** 2 + (columns - 1) ** 2, (rows - 3) ** 2 + (columns - 5) ** 2)
    assert found.tolist() == brute_force.tolist()
    middle = sparse_map.squared_distance(y, "center_of_mass")[0]
    assert middle.tolist() == ((rows - 2) ** 2 + (columns - 3) ** 2).tolist()


def test_moving_the_blob_away_costs_more_with_every_step() -> None:
    for loss in (
        ConcentrationLoss(),
        ConcentrationLoss(to="nearest"),
        TransportLoss(),
        CompositeSparseLoss(),
    ):
        places = [(16, 16), (16, 18), (11, 18), (8, 25), (0, 31)]
        values = [float(loss(frame(place, 4, -6), frame())) for place in places]
        assert values == sorted(values)
        assert len(set(values)) == len(values)


def test_gaussian_maps() -> None:
    heat = gaussian_map(frame((0, 3)), 1.0, cut=3)[0]
    rows, columns = np.mgrid[:32, :32]
    far = rows**2 + (columns - 3) ** 2
    np.testing.assert_allclose(heat.numpy(), np.exp(-far / 2) * (far <= 9), atol=1e-15)
    assert heat[0, 3] == 1
    several = frame() + frame((3, 3))
    with pytest.raises(ValueError, match="one per frame"):
        gaussian_map(several, 1.0)
    with pytest.raises(ValueError, match="sigma"):
        gaussian_map(frame(), 0.0)


def test_smoothing_of_sigma_zero_is_the_hard_target() -> None:
    z, y, _ = maps(47, 2, 3)
    assert heatmap_cross_entropy(z, y, sigma=0.2).isclose(heatmap_cross_entropy(z, y))
    assert heatmap_cross_entropy(z, 0.25 * y).isclose(heatmap_cross_entropy(z, y))


def test_soft_argmax_is_the_mean_point() -> None:
    density = torch.zeros(2, 4, 6)
    density[0, 1, 5] = 1
    density[1, 0, 0], density[1, 3, 2] = 1, 3
    assert soft_argmax(density).tolist() == [[5.5, 1.5], [2.0, 2.75]]
    sharp = frame((3, 20), on=12, off=-12).flatten(-2).softmax(-1).view(1, 32, 32)
    assert (soft_argmax(sharp)[0] - torch.tensor([20.5, 3.5])).abs().max() < 0.1
    shifted = soft_argmax(sharp.roll((2, -5), (-2, -1)))
    assert (shifted - soft_argmax(sharp))[0].tolist() == pytest.approx([-5, 2], abs=0.01)


def test_output_kinds() -> None:
    kinds = {name: loss.output_kind for name, loss in MODULES.items()}
    categorical = {"transport", "cross_entropy", "smooth"}
    assert {name for name, kind in kinds.items() if kind == "categorical"} == categorical
    assert [name for name, kind in kinds.items() if kind == "regression"] == ["weighted_mse"]
    assert ConcentrationLoss(density="categorical").output_kind == "categorical"


def test_wrong_arguments_are_named() -> None:
    z, y, _ = maps(53, 2, 3)
    with pytest.raises(ValueError, match=r"\[2, 3, .*\] and target is \[2, 2"):
        weighted_mse_loss(z, y[:, :2])
    with pytest.raises(ValueError, match=r"valid is \[3, 2\]"):
        weighted_mse_loss(z, y, valid=torch.ones(3, 2, dtype=torch.bool))
    with pytest.raises(ValueError, match="valid"):
        weighted_mse_loss(z, y, valid=torch.ones_like(y, dtype=torch.bool))
    with pytest.raises(ValueError, match="reduction"):
        sparsity_loss(z, y, reduction="average")  # type: ignore[arg-type]
    for make, name in (
        (lambda: WeightedMSELoss(pos_weight=0), "pos_weight"),
        (lambda: SparseFocalLoss(alpha=1.2), "alpha"),
        (lambda: SparseFocalLoss(gamma=-1), "gamma"),
        (lambda: SparsityLoss(l1_weight=2), "l1_weight"),
        (lambda: SparseDiceLoss(smooth=-1), "smooth"),
        (lambda: ConcentrationLoss(to="corner"), "to"),  # type: ignore[arg-type]
        (lambda: HeatmapCrossEntropyLoss(sigma=-1), "sigma"),
        (lambda: PenaltyReducedFocalLoss(sigma=0), "sigma"),
        (lambda: CompositeSparseLoss(weights=(0, 0, 0)), "all 0"),
        (lambda: CompositeSparseLoss(weights=(-1, 1, 1)), r"weights\[0\]"),
        (lambda: SummedLoss({}, {"focal": 1.0}), "focal"),
    ):
        with pytest.raises(ValueError, match=name):
            make()


def test_settings_that_silence_a_side_warn() -> None:
    with pytest.warns(UserWarning, match="unlit cells get no gradient"):
        SparseFocalLoss(alpha=1)
    with pytest.warns(UserWarning, match=r"below 0.5"):
        SparsityLoss(l1_weight=1)
