import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from common.losses.cross_entropy import (
    BinaryCrossEntropyLoss,
    CrossEntropyLoss,
    binary_cross_entropy,
    cross_entropy,
)

Z = torch.tensor([[2, 0, -1], [0.5, 1.5, -0.5], [-1, 0.25, 0.75], [3, -2, 0]], dtype=torch.float64)
Y = torch.tensor([0, 0, 2, 1])
W = torch.tensor([0.5, 1, 4], dtype=torch.float64)
TIGHT = {"rtol": 1e-12, "atol": 1e-12}


def close(value: Tensor, expected: float, digits: int = 9) -> None:
    assert value.item() == pytest.approx(expected, abs=0.5 * 10**-digits)


def problem(seed: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    size = [int(n) for n in torch.randint(1, 6, (4,), generator=generator)]
    classes, shape = 1 + size[0], size[1:][: 1 + seed % 3]
    logits = 3 * torch.randn(shape[0], classes, *shape[1:], dtype=torch.float64, generator=generator)
    target = torch.randint(classes, shape, generator=generator)
    weight = 0.2 + torch.rand(classes, dtype=torch.float64, generator=generator)
    return logits, target, weight


def test_golden_values() -> None:
    close(cross_entropy(Z, Y), 1.802305424)
    close(cross_entropy(Z, Y, weight=W), 1.358474855)
    close(cross_entropy(Z, Y, weight=W, reduction="valid_mean"), 2.037712282)


def test_golden_values_with_smoothing() -> None:
    close(cross_entropy(Z, Y, weight=W, label_smoothing=0.1), 1.383474855)
    close(cross_entropy(Z, Y, weight=W, label_smoothing=0.1, smoothing_weighting="torch"), 1.486659143)
    close(cross_entropy(Z, Y, label_smoothing=0.1), 1.804388757)


@pytest.mark.parametrize("seed", range(200))
def test_equals_torch(seed: int) -> None:
    logits, target, weight = problem(seed)
    given_weight = weight if seed % 2 else None
    target = torch.where(torch.rand(target.shape) < 0.2, -7, target)
    if not (target != -7).any():
        target[...] = 0
    for reduction in ("none", "sum", "mean"):
        expected = F.cross_entropy(logits, target, given_weight, ignore_index=-7, reduction=reduction)
        found = cross_entropy(logits, target, weight=given_weight, ignore_index=-7, reduction=reduction)
        torch.testing.assert_close(found, expected, **TIGHT)
        expected = F.cross_entropy(
            logits, target, given_weight, ignore_index=-7, reduction=reduction, label_smoothing=0.1
        )
        found = cross_entropy(
            logits,
            target,
            weight=given_weight,
            ignore_index=-7,
            reduction=reduction,
            label_smoothing=0.1,
            smoothing_weighting="torch" if seed % 2 else "hard",
        )
        torch.testing.assert_close(found, expected, **TIGHT)


@pytest.mark.parametrize("seed", range(40))
def test_soft_targets_equal_torch(seed: int) -> None:
    logits, _, weight = problem(seed)
    soft = torch.rand(logits.shape, dtype=torch.float64).softmax(1)
    for smoothing in (0.0, 0.1):
        expected = F.cross_entropy(logits, soft, weight, label_smoothing=smoothing)
        found = cross_entropy(
            logits, soft, weight=weight, label_smoothing=smoothing, smoothing_weighting="torch"
        )
        torch.testing.assert_close(found, expected, **TIGHT)


@settings(max_examples=30)
@given(seed=st.integers(0, 10**6), smoothing=st.sampled_from([0.0, 0.1, 0.6]))
def test_one_hot_soft_targets_equal_hard_ones(seed: int, smoothing: float) -> None:
    logits, target, weight = problem(seed)
    soft = F.one_hot(target, logits.shape[1]).movedim(-1, 1).double()
    hard = cross_entropy(logits, target, weight=weight, label_smoothing=smoothing, reduction="none")
    found = cross_entropy(logits, soft, weight=weight, label_smoothing=smoothing, reduction="none")
    torch.testing.assert_close(found, hard, **TIGHT)


def test_a_soft_label_of_zeros_is_ignored() -> None:
    soft = F.one_hot(Y, 3).double()
    soft[1] = 0
    keep = torch.tensor([0, 2, 3])
    for smoothing in (0.0, 0.2):
        loss = cross_entropy(Z, soft, label_smoothing=smoothing, smoothing_weighting="torch")
        expected = F.cross_entropy(Z[keep], soft[keep], label_smoothing=smoothing)
        torch.testing.assert_close(loss, expected, **TIGHT)
    assert CrossEntropyLoss().normalizer(soft) == 3
    assert cross_entropy(Z, torch.zeros_like(soft)) == 0


@settings(max_examples=30)
@given(seed=st.integers(0, 10**6), scale=st.floats(1e-3, 1e3))
def test_scaling_all_weights_changes_sums_only(seed: int, scale: float) -> None:
    logits, target, weight = problem(seed)
    for smoothing in (0.0, 0.1):
        mean = cross_entropy(logits, target, weight=weight, label_smoothing=smoothing)
        scaled = cross_entropy(logits, target, weight=weight * scale, label_smoothing=smoothing)
        torch.testing.assert_close(scaled, mean)
    total = cross_entropy(logits, target, weight=weight, reduction="sum")
    torch.testing.assert_close(
        cross_entropy(logits, target, weight=weight * scale, reduction="sum"), total * scale
    )


@pytest.mark.parametrize("weight", [None, torch.tensor([1.0, 226.0, 5.0])])
def test_smoothed_optimum_does_not_depend_on_weights(weight: Tensor | None) -> None:
    """The gradient vanishes at p_y = 1 - e + e/K (Szegedy et al. 2016) for the rare and a frequent class."""
    for label in (0, 1):
        p = torch.full((1, 3), 0.1 / 3, dtype=torch.float64)
        p[0, label] += 0.9
        logits = p.log().requires_grad_()
        cross_entropy(logits, torch.tensor([label]), weight=weight, label_smoothing=0.1).backward()
        assert logits.grad.abs().max() < 1e-9


def test_torch_smoothing_loses_the_true_class_at_large_ratios_and_is_refused() -> None:
    weight = torch.tensor([89.7397, 0.395744, 1.327962, 1.410563], dtype=torch.float64)
    q = 0.025 + 0.9 * F.one_hot(torch.tensor(1), 4).double()
    optimum = weight * q / (weight * q).sum()
    torch.testing.assert_close(
        optimum, torch.tensor([0.838, 0.137, 0.012, 0.013], dtype=torch.float64), rtol=0, atol=5e-4
    )
    logits = optimum.log().unsqueeze(0).requires_grad_()
    F.cross_entropy(logits, torch.tensor([1]), weight, label_smoothing=0.1).backward()
    assert logits.grad.abs().max() < 1e-9
    with pytest.raises(ValueError, match=r"ratio of 37, not 226\.8"):
        cross_entropy(
            torch.zeros(1, 4),
            torch.tensor([1]),
            weight=weight,
            label_smoothing=0.1,
            smoothing_weighting="torch",
        )
    with pytest.raises(ValueError, match="use 'hard'"):
        CrossEntropyLoss(weight=weight, label_smoothing=0.1, smoothing_weighting="torch")
    CrossEntropyLoss(weight=[0, 1, 36], label_smoothing=0.05, smoothing_weighting="torch")


def test_parameters_bite() -> None:
    plain = cross_entropy(Z, Y)
    assert cross_entropy(Z[:1], Y[:1], label_smoothing=0.3) > cross_entropy(Z[:1], Y[:1])
    assert cross_entropy(Z, Y, weight=torch.tensor([1.0, 9.0, 1.0])) > plain
    assert cross_entropy(Z, Y, valid=torch.tensor([True, True, True, False])) < plain


@pytest.mark.parametrize("smoothing", [-0.1, 1.0])
def test_smoothing_outside_the_unit_interval_is_refused(smoothing: float) -> None:
    with pytest.raises(ValueError, match="label_smoothing"):
        cross_entropy(Z, Y, label_smoothing=smoothing)
    with pytest.raises(ValueError, match="label_smoothing"):
        CrossEntropyLoss(label_smoothing=smoothing)


def test_gradients() -> None:
    for smoothing in (0.0, 0.1):
        torch.autograd.gradcheck(
            lambda z, e=smoothing: cross_entropy(z, Y, weight=W, label_smoothing=e),
            Z.clone().requires_grad_(),
        )
    extreme = torch.tensor([[1e4, -1e4, 0.0]], requires_grad=True)
    cross_entropy(extreme, torch.tensor([1]), label_smoothing=0.1).backward()
    assert extreme.grad[0, 0] > 0.5
    assert extreme.grad[0, 1] < -0.5


def test_a_class_of_weight_zero_costs_nothing() -> None:
    assert cross_entropy(Z[:2], Y[:2], weight=torch.tensor([0.0, 1.0, 1.0])) == 0


@pytest.mark.parametrize("seed", range(60))
def test_one_vs_rest_equals_torch(seed: int) -> None:
    logits, target, weight = problem(seed)
    hot = F.one_hot(target, logits.shape[1]).double()
    expected = F.binary_cross_entropy_with_logits(logits.movedim(1, -1), hot, pos_weight=weight)
    torch.testing.assert_close(binary_cross_entropy(logits, target, pos_weight=weight), expected, **TIGHT)
    several = (torch.rand(logits.shape) < 0.4).double()
    expected = F.binary_cross_entropy_with_logits(logits, several, reduction="none").mean(1)
    torch.testing.assert_close(binary_cross_entropy(logits, several, reduction="none"), expected, **TIGHT)


def test_several_labels_with_ignored_elements() -> None:
    several = torch.tensor([[1.0, 0, 1], [0, -100, 0], [0, 0, 0], [1, 1, 1]])
    keep = torch.tensor([0, 2, 3])
    expected = F.binary_cross_entropy_with_logits(Z[keep], several[keep].double())
    torch.testing.assert_close(binary_cross_entropy(Z, several), expected, **TIGHT)
    assert BinaryCrossEntropyLoss().normalizer(several) == 3


def test_pos_weight_raises_the_cost_of_a_miss_only() -> None:
    miss, alarm = torch.tensor([[-2.0, -2.0]]), torch.tensor([[2.0, 2.0]])
    heavy = torch.tensor([5.0, 1.0])
    assert binary_cross_entropy(miss, torch.tensor([0]), pos_weight=heavy) > 2 * binary_cross_entropy(
        miss, torch.tensor([0])
    )
    none = torch.zeros(1, 2)
    assert binary_cross_entropy(alarm, none, pos_weight=heavy) == binary_cross_entropy(alarm, none)


def test_one_cell_in_a_frame() -> None:
    """The best constant probability of one lit cell in 32 x 32 is 1/1024, with the entropy as its loss."""
    target = torch.zeros(1, 1, 32, 32, dtype=torch.float64)
    target[..., 16, 16] = 1
    prior = torch.full_like(target, 1 / 1024).logit().requires_grad_()
    loss = binary_cross_entropy(prior, target)
    close(loss, 0.007745101)
    loss.backward()
    assert abs(prior.grad.sum().item()) < 1e-12
