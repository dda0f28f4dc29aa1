"""Soft labels [B, K, *] in the losses that take them: by hand, against torch, and against class ids."""

import math
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from common.losses.cross_entropy import BinaryCrossEntropyLoss, CrossEntropyLoss
from common.losses.focal import FocalLoss, focal_loss
from common.losses.ldam import LDAMLoss
from common.losses.prior_adjusted import LogitAdjustedLoss

LN2 = math.log(2)
Z = torch.tensor([[LN2, 0.0, 0.0]], dtype=torch.float64)
"""Probabilities 1/2, 1/4, 1/4."""
Q = torch.tensor([[0.5, 0.5, 0.0]], dtype=torch.float64)
W = (1.0, 3.0, 10.0)
PRIOR = (math.log(0.2), math.log(0.5), -math.inf, math.log(0.3))
WEIGHTS = (0.5, 2.0, 0.0, 7.25)

LOSSES: dict[str, Callable[..., torch.nn.Module]] = {
    "cross_entropy": CrossEntropyLoss,
    "focal": FocalLoss,
    "flat focal": lambda **given: FocalLoss(gamma=0, **given),
    "steep focal": lambda **given: FocalLoss(gamma=0.5, **given),
    "logit_adjusted": lambda **given: LogitAdjustedLoss(log_prior=PRIOR, tau=0.7, **given),
}


@pytest.mark.parametrize(
    ("loss", "expected"),
    [
        (CrossEntropyLoss(), 1.5),
        (CrossEntropyLoss(weight=W), 2 * 1.5),
        (CrossEntropyLoss(label_smoothing=0.3), 0.7 * 1.5 + 0.1 * 5),
        (CrossEntropyLoss(weight=W, label_smoothing=0.3), 2 * 1.55),
        (FocalLoss(), 0.5 * 0.25 + 0.5 * 0.5625 * 2),
        (FocalLoss(weight=W), 2 * 0.6875),
        (FocalLoss(gamma=1), 0.5 * 0.5 + 0.5 * 0.75 * 2),
        (FocalLoss(weight=W, label_smoothing=0.3), 2 * (0.7 * 0.6875 + 0.5)),
        (LogitAdjustedLoss(log_prior=(-1.0, -1.0, -1.0), weight=W), 2 * 1.5),
        # p becomes 1/4, 1/4, 1/2
        (LogitAdjustedLoss(log_prior=(0.0, LN2, 2 * LN2)), 0.5 * 2 + 0.5 * 2),
    ],
)
def test_values_by_hand_in_units_of_log_2(loss: torch.nn.Module, expected: float) -> None:
    assert float(loss(Z, Q)) == pytest.approx(expected * LN2, rel=1e-12)


def test_one_vs_rest_by_hand() -> None:
    found = BinaryCrossEntropyLoss(pos_weight=W)(torch.zeros(1, 3, dtype=torch.float64), Q)
    assert float(found) == pytest.approx((1.0 + 2.0 + 1.0) / 3 * LN2, rel=1e-12)


@pytest.mark.parametrize("seed", range(20))
def test_torch_with_probabilities_as_target(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    shape = [5, 4, 3, 2][: 2 + seed % 3]
    z = 4 * torch.randn(shape, dtype=torch.float64, generator=generator)
    q = torch.rand(shape, dtype=torch.float64, generator=generator)
    q = q / q.sum(dim=1, keepdim=True)
    prior = torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64)
    for smoothing in (0.0, 0.2):
        same = {"label_smoothing": smoothing}
        expected = F.cross_entropy(z, q, reduction="none", **same)
        torch.testing.assert_close(CrossEntropyLoss(reduction="none", **same)(z, q), expected)
        torch.testing.assert_close(FocalLoss(gamma=0, reduction="none", **same)(z, q), expected)
        shifted = z + prior.log().view(4, *[1] * (z.dim() - 2))
        found = LogitAdjustedLoss(log_prior=prior.log(), **same)(z, q)
        torch.testing.assert_close(found, F.cross_entropy(shifted, q, **same))
    weight = torch.tensor(WEIGHTS, dtype=torch.float64)
    each = torch.einsum("bk...,k->b...", q, weight)
    found = CrossEntropyLoss(weight=weight, reduction="none", label_smoothing=0.2)(z, q)
    torch.testing.assert_close(found, each * F.cross_entropy(z, q, reduction="none", label_smoothing=0.2))


def test_weights_do_not_move_the_optimum() -> None:
    logits = torch.tensor([[0.7, 0.2, 0.1]], dtype=torch.float64).log().requires_grad_()
    target = torch.tensor([[0.7, 0.2, 0.1]], dtype=torch.float64)
    for weighting, still in (("hard", True), ("torch", False)):
        (slope,) = torch.autograd.grad(
            CrossEntropyLoss(weight=W, smoothing_weighting=weighting)(logits, target), logits
        )
        assert bool((slope.abs() < 1e-15).all()) is still


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("reduction", ["valid_mean", "none", "sum"])
def test_one_hot_labels_equal_class_ids_bit_for_bit(name: str, dtype: torch.dtype, reduction: str) -> None:
    for seed, shape in enumerate([(1, 4), (7, 4), (64, 4), (3, 4, 5), (2, 4, 3, 17)]):
        generator = torch.Generator().manual_seed(seed)
        target = torch.randint(4, (shape[0], *shape[2:]), generator=generator)
        target[torch.rand(target.shape, generator=generator) < 0.2] = -100
        hot = F.one_hot(target.clamp(min=0), 4).movedim(-1, 1).float()
        hot[(target == -100).unsqueeze(1).expand_as(hot)] = -100
        values = 5 * torch.randn(shape, dtype=dtype, generator=generator)
        for given in ({}, {"weight": WEIGHTS}, {"weight": WEIGHTS, "label_smoothing": 0.1}):
            loss = LOSSES[name](reduction=reduction, **given)
            found = [evaluated(loss, values, labels) for labels in (target, hot)]
            assert torch.equal(found[0][0], found[1][0])
            assert torch.equal(found[0][1], found[1][1])


def evaluated(loss: torch.nn.Module, values: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    logits = values.clone().requires_grad_()
    cost = loss(logits, labels)
    (slope,) = torch.autograd.grad(cost.sum(), logits)
    return cost.detach(), slope


@pytest.mark.parametrize("name", LOSSES)
def test_ignored_elements_equal_removed_ones(name: str) -> None:
    loss = LOSSES[name](weight=WEIGHTS, label_smoothing=0.1, reduction="valid_mean")
    z = torch.randn(6, 4, dtype=torch.float64)
    q = torch.rand(6, 4, dtype=torch.float64).softmax(1)
    q[1], q[4] = -100, 0
    kept, valid = torch.tensor([0, 2, 3]), torch.tensor([True] * 5 + [False])
    torch.testing.assert_close(loss(z, q, valid), loss(z[kept], q[kept]))
    total, count = loss.total_and_count(z, q, valid)
    assert (float(count), float(loss.normalizer(q, valid))) == (3, 3)
    assert float(total / count) == pytest.approx(float(loss(z, q, valid)))
    nothing = torch.full_like(q, -100).requires_grad_()
    cost = loss(nothing, nothing.detach())
    assert float(cost.detach()) == 0
    assert not torch.autograd.grad(cost, nothing)[0].any()


@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_the_focal_slope(gamma: float) -> None:
    q = torch.rand(4, 3, dtype=torch.float64).softmax(1)
    z = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda z: focal_loss(z, q, gamma=gamma, label_smoothing=0.1), z)
    extreme = torch.tensor([[1e4, -1e4, 0.0]], requires_grad=True)
    focal_loss(extreme, Q.float(), gamma=gamma).backward()
    assert bool(extreme.grad.isfinite().all())
    assert extreme.grad[0, 1] < 0


def test_bad_soft_labels() -> None:
    for loss in (CrossEntropyLoss(), FocalLoss()):
        with pytest.raises(ValueError, match=r"target\[0, 1\] is -0.5: shares >= 0 are expected"):
            loss(Z, torch.tensor([[1.5, -0.5, 0.0]]))
        with pytest.raises(ValueError, match=r"soft target is \[1\] but logits are \[1, 3\]"):
            loss(Z, torch.tensor([1.0]))
    with pytest.raises(ValueError, match="do not fit"):
        LDAMLoss(margins=(0.1, 0.2, 0.5))(Z, Q)
