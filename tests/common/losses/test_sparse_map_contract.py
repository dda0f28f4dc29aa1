"""What every loss of sparse maps keeps: masks, counts, precision, gradients."""

import copy
import pickle

import pytest
import torch
from sparse_pieces import MODULES, maps

from common.losses.sparse_map import penalty_reduced_focal_loss, sparse_focal_loss

BATCH_COUPLED = "dice"
names = pytest.mark.parametrize("name", MODULES)


@names
def test_gradients(name: str) -> None:
    loss = MODULES[name]
    z, y, mask = maps(11, 2, 3)
    mask[0, 0], mask[1, 1] = True, False
    z.requires_grad_()
    assert torch.autograd.gradcheck(lambda x: loss(x, y, mask), z)
    (slope,) = torch.autograd.grad(loss(z, y, mask), z)
    assert slope[~mask].abs().max() == 0
    assert slope[mask].abs().sum() > 0


@names
@pytest.mark.parametrize("level", [-1e4, 1e4, 0.0])
def test_extreme_outputs_stay_finite_and_point_the_right_way(name: str, level: float) -> None:
    z = torch.full((1, 2, 4, 5), level, requires_grad=True)
    y = torch.zeros(1, 2, 4, 5)
    y[0, 0, 1, 3] = y[0, 1, 2, 2] = 1
    value = MODULES[name](z, y)
    (slope,) = torch.autograd.grad(value, z)
    assert value.isfinite()
    assert slope.isfinite().all()
    if name != "weighted_mse":
        assert slope[y > 0].max() <= 1e-6
    if name not in ("sparsity", "weighted_mse"):
        assert slope[0, 0, 3, 0] >= -1e-6


@pytest.mark.parametrize("gamma", [0.0, 0.5, 1.0, 2.5, 5.0])
def test_focus_is_finite_for_every_gamma(gamma: float) -> None:
    z = torch.tensor([[[-1e4, 1e4], [1e4, -1e4]]], requires_grad=True)
    y = torch.tensor([[[1.0, 0.0], [1.0, 0.0]]])
    for value in (
        sparse_focal_loss(z, y, gamma=gamma),
        penalty_reduced_focal_loss(z, y, alpha=gamma),
    ):
        (slope,) = torch.autograd.grad(value, z)
        assert value.isfinite()
        assert slope.isfinite().all()
        assert slope[0, 0, 0] < 0 < slope[0, 0, 1]


@names
def test_masking_is_removal_whatever_stands_there(name: str) -> None:
    loss = MODULES[name]
    z, y, _ = maps(13, 2, 3, 1)
    mask = torch.tensor([True, False, True]).expand(2, 3)
    dirty = torch.where(mask[..., None, None, None], z, 1e30)
    torch.testing.assert_close(loss(dirty, y, mask), loss(z[:, ::2], y[:, ::2]))
    rows = torch.tensor([False, True])
    torch.testing.assert_close(loss(z, y, rows), loss(z[1:], y[1:]))
    nan = torch.where(mask[..., None, None, None], y, float("nan"))
    assert loss(z, nan, mask).isfinite()


@names
def test_four_and_five_axes_order_and_inputs(name: str) -> None:
    loss = MODULES[name]
    z, y, mask = maps(17, 3, 4, 1)
    mask[0, 0] = True
    before = z.clone(), y.clone(), mask.clone()
    value = loss(z, y, mask)
    assert value.dim() == 0
    assert all(torch.equal(a, b) for a, b in zip(before, (z, y, mask)))
    if name not in ("dice",):
        torch.testing.assert_close(loss(z.flatten(0, 1), y.flatten(0, 1), mask.flatten()), value)
    order = torch.tensor([2, 0, 1])
    torch.testing.assert_close(loss(z[order], y[order], mask[order]), value)
    strided = z.transpose(-1, -2).contiguous().transpose(-1, -2)
    torch.testing.assert_close(loss(strided, y, mask), value)


@names
def test_nothing_counted_is_zero_with_a_graph(name: str) -> None:
    loss = MODULES[name]
    z, y, _ = maps(19, 2, 3)
    cases = ((z, y, torch.zeros(2, 3, dtype=torch.bool)), (z[:0], y[:0], None), (z[:, :0], y[:, :0], None))
    for pred, target, mask in cases:
        pred = pred.clone().requires_grad_()
        value = loss(pred, target, mask)
        (slope,) = torch.autograd.grad(value, pred)
        assert value == 0
        assert slope.abs().sum() == 0


@names
def test_a_valid_frame_without_a_target(name: str) -> None:
    """Losses of a place leave it out; losses of cells take it as all unlit. Nothing is NaN."""
    loss = MODULES[name]
    z, y, _ = maps(23, 2, 3)
    y[0, 1] = 0
    assert loss(z, y).isfinite()
    mask = torch.ones(2, 3, dtype=torch.bool)
    mask[0, 1] = False
    placed = name in ("concentration", "nearest", "transport", "cross_entropy", "smooth", "penalty_reduced")
    assert bool(loss(z, y).isclose(loss(z, y, mask))) == placed
    assert loss(z, torch.zeros_like(y)).isfinite()
    if placed:
        assert loss(z, torch.zeros_like(y)) == 0


@names
def test_sums_of_micro_batches_are_those_of_the_batch(name: str) -> None:
    loss = MODULES[name]
    z, y, mask = maps(29, 5, 4, empty=True)
    whole = loss.terms(z, y, mask)
    assert sum(t.weight * t.total / t.count for t in whole.values()).item() == pytest.approx(
        loss(z, y, mask).item()
    )
    pieces = [loss.terms(*part) for part in zip(z.split(2), y.split(2), mask.split(2))]
    for key, term in whole.items():
        assert term.count == sum(piece[key].count for piece in pieces) == loss.counts(y, mask)[key]
        if name != BATCH_COUPLED:
            torch.testing.assert_close(term.total, torch.stack([piece[key].total for piece in pieces]).sum())


def test_counts_are_cells_frames_sequences_and_lit_cells() -> None:
    _, y, _ = maps(31, 3, 4)
    cells = y.shape[-1] * y.shape[-2]
    y[0, 0] = 0
    mask = torch.zeros(3, 4, dtype=torch.bool)
    mask[0, :2] = mask[2, :3] = True
    expected = {"weighted_mse": 5 * cells, "focal": 5 * cells, "dice": 2, "dice_frame": 5}
    expected |= {"concentration": 4, "cross_entropy": 4, "penalty_reduced": 4}
    for name, count in expected.items():
        assert list(MODULES[name].counts(y, mask).values()) == [count], name
    found = MODULES["composite"].counts(y, mask)
    assert {k: int(v) for k, v in found.items()} == {
        "focal": 5 * cells, "sparsity": 5 * cells, "concentration": 4,
    }  # fmt: skip


@names
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(name: str, dtype: torch.dtype) -> None:
    loss = MODULES[name]
    z, y, mask = maps(37, 2, 3)
    low = z.to(dtype)
    value = loss(low, y.to(dtype), mask)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, loss(low.float(), y.float(), mask))
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(loss(low.float(), y.float(), mask), value)


@names
def test_modules_travel_and_never_look_at_the_device(name: str) -> None:
    loss = MODULES[name]
    z, y, mask = maps(41, 2, 3)
    for twin in (copy.deepcopy(loss), pickle.loads(pickle.dumps(loss))):
        assert twin(z, y, mask) == loss(z, y, mask)
        assert twin.output_kind == loss.output_kind
    assert loss.to("meta")(z.to("meta"), y.to("meta"), mask.to("meta")).device.type == "meta"
    assert all(count.device.type == "meta" for count in loss.counts(y.to("meta"), mask.to("meta")).values())


@names
def test_one_layer_fits_one_batch(name: str) -> None:
    """A transport cost alone stops when the mass sits beside the cell: it is asked for less."""
    _, y, _ = maps(43, 2, 2)
    y = y.float()
    layer = torch.nn.Linear(4, y[0, 0].numel(), bias=False)
    torch.nn.init.zeros_(layer.weight)
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.1)
    first = MODULES[name](layer(torch.eye(4)).view_as(y), y).item()
    for _ in range(60):
        optimizer.zero_grad()
        pred = layer(torch.eye(4)).view_as(y)
        MODULES[name](pred, y).backward()
        optimizer.step()
    assert MODULES[name](pred, y) < 0.6 * first
    if name != "transport":
        assert torch.equal(pred.flatten(-2).argmax(-1), y.flatten(-2).argmax(-1))
