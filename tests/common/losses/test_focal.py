import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torchvision.ops import sigmoid_focal_loss as torchvision_focal

from common.losses.cross_entropy import cross_entropy
from common.losses.focal import (
    BalancedFocalLoss,
    FocalLoss,
    SigmoidFocalLoss,
    balanced_focal_loss,
    focal_loss,
    sigmoid_focal_loss,
)
from common.statistics import ClassStatistics

Z = torch.tensor([[2, 0, -1], [0.5, 1.5, -0.5], [-1, 0.25, 0.75], [3, -2, 0]], dtype=torch.float64)
Y = torch.tensor([0, 0, 2, 1])
W = torch.tensor([0.5, 1, 4], dtype=torch.float64)
Z4 = torch.tensor(
    [[2, 0, -1, 0.5], [0, 3, 0, 0], [1, 1, 1, 1], [-2, 0, 0, 4], [5, 0, 0, 0]], dtype=torch.float64
)
Y4 = torch.tensor([0, 0, 2, 3, 1])
GUIDE = [89.74, 0.396, 1.328, 1.411]
U = [3343002, 758065856, 225910153, 212680989]
BINARY_Z = torch.tensor([2, -1, 0.5, -3], dtype=torch.float64)
BINARY_T = torch.tensor([1.0, 1, 0, 0], dtype=torch.float64)
TIGHT = {"rtol": 1e-12, "atol": 1e-12}


def close(value: Tensor | float, expected: float, digits: int = 9) -> None:
    assert float(value) == pytest.approx(expected, abs=0.5 * 10**-digits)


def test_golden_values() -> None:
    single = focal_loss(Z, Y, reduction="none")
    for value, expected in zip(single, [0.004144257, 0.802947824, 0.110803447, 4.990714890]):
        close(value, expected)
    close(focal_loss(Z, Y), 1.477152605)
    close(focal_loss(Z, Y, weight=W), 0.972912453)
    close(focal_loss(Z, Y, weight=W, reduction="valid_mean"), 1.459368680)
    close(focal_loss(Z, Y, gamma=0.5), 1.677780624)
    close(focal_loss(Z, Y, gamma=2.5), 1.436895618)
    close(focal_loss(Z, Y, label_smoothing=0.1), 1.511751220)


def test_landing_guide_on_zero_logits() -> None:
    loss = BalancedFocalLoss(alpha=GUIDE, gamma=2.0, reduction="none", ignore_index=255)
    single = loss(torch.zeros(1, 4, 2, 2, dtype=torch.float64), torch.arange(4).view(1, 2, 2)).flatten()
    for value, expected in zip(single, [69.978406, 0.308797, 1.035562, 1.100285]):
        close(value, expected, 6)
    close(single.mean(), 18.105762, 6)
    close(single.sum() / sum(GUIDE), 0.779791, 6)


def test_landing_guide_on_a_small_batch() -> None:
    for value, expected in zip(
        BalancedFocalLoss(GUIDE, reduction="none")(Z4, Y4),
        [2.581978, 257.835011, 1.035562, 0.000077, 1.961753],
    ):
        close(value, expected, 6)
    close(BalancedFocalLoss(GUIDE)(Z4, Y4), 52.682876, 6)
    close(BalancedFocalLoss(GUIDE, reduction="sum")(Z4, Y4), 263.414380, 6)
    close(BalancedFocalLoss(GUIDE, reduction="mean")(Z4, Y4), 1.442458, 6)
    for gamma, expected in ((0, 63.263576), (0.5, 59.134247), (1, 56.354683), (5, 45.636464)):
        close(BalancedFocalLoss(GUIDE, gamma)(Z4, Y4), expected, 6)
    close(BalancedFocalLoss(GUIDE, ignore_index=255)(Z4, torch.tensor([0, 0, 2, 3, 255])), 65.363157, 6)


def test_balanced_alpha_gives_every_class_the_same_share() -> None:
    statistics = ClassStatistics.from_counts(U, unit="pixel")
    loss = BalancedFocalLoss(statistics=statistics, reduction="none")
    single = loss(torch.zeros(4, 4, dtype=torch.float64), torch.arange(4))
    close((single * torch.tensor(statistics.prior)).sum(), 0.779791, 6)
    assert loss.weight[0].item() == pytest.approx(89.7397, abs=5e-5)


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
@pytest.mark.parametrize("weight", [None, W])
def test_without_focus_it_is_cross_entropy(reduction: str, weight: Tensor | None) -> None:
    target = torch.tensor([0, -100, 2, 1])
    found = focal_loss(Z, target, gamma=0, weight=weight, reduction=reduction)
    torch.testing.assert_close(found, F.cross_entropy(Z, target, weight, reduction=reduction), rtol=0, atol=0)
    smoothed = focal_loss(Z, target, gamma=0, weight=weight, label_smoothing=0.1, reduction=reduction)
    expected = cross_entropy(Z, target, weight=weight, label_smoothing=0.1, reduction=reduction)
    torch.testing.assert_close(smoothed, expected, **TIGHT)


@settings(max_examples=200)
@given(
    seed=st.integers(0, 10**6),
    gamma=st.sampled_from([0.0, 0.5, 1.0, 2.0, 2.5, 5.0]),
    smoothing=st.sampled_from([0.0, 0.1]),
)
def test_equals_the_formula(seed: int, gamma: float, smoothing: float) -> None:
    generator = torch.Generator().manual_seed(seed)
    batch, classes, width = (int(n) for n in torch.randint(2, 6, (3,), generator=generator))
    logits = 3 * torch.randn(batch, classes, width, dtype=torch.float64, generator=generator)
    target = torch.randint(classes, (batch, width), generator=generator)
    weight = torch.rand(classes, dtype=torch.float64, generator=generator)
    p = torch.exp(logits) / torch.exp(logits).sum(1, keepdim=True)
    total = mass = 0.0
    for b in range(batch):
        for x in range(width):
            row, y = p[b, :, x], int(target[b, x])
            focus = (1 - smoothing) * (1 - row[y]) ** gamma * -row[y].log()
            total += weight[y] * (focus - smoothing / classes * row.log().sum())
            mass += weight[y]
    found = focal_loss(logits, target, gamma=gamma, weight=weight, label_smoothing=smoothing)
    torch.testing.assert_close(found, total / mass, rtol=1e-11, atol=1e-12)


@pytest.mark.parametrize(
    ("gamma", "classes", "expected"), [(2, 6, 0.71662), (2.5, 6, 0.67925), (0, 6, 0.91667)]
)
def test_optimum_with_smoothing(gamma: float, classes: int, expected: float) -> None:
    p = torch.linspace(0.5, 0.99, 49001, dtype=torch.float64)
    logits = torch.cat(
        [p.log()[:, None], ((1 - p) / (classes - 1)).log()[:, None].expand(-1, classes - 1)], 1
    )
    losses = focal_loss(
        logits, torch.zeros(len(p), dtype=torch.long), gamma=gamma, label_smoothing=0.1, reduction="none"
    )
    assert p[losses.argmin()].item() == pytest.approx(expected, abs=1e-4)


def test_weights_do_not_touch_the_probability() -> None:
    """A weighted log-probability would turn p = .25 with weight 10 into 9.5e-07 and switch the focus off."""
    logits = torch.zeros(1, 4, dtype=torch.float64)
    weight = torch.tensor([10.0, 1, 1, 1])
    single = focal_loss(logits, torch.tensor([0]), weight=weight, reduction="none")
    assert single.item() == pytest.approx(10 * 0.75**2 * 1.3862943611198906, rel=1e-12)
    wrong = sum(
        w * (1 - torch.exp(-w * ce)) ** 2 * ce
        for w, ce in zip(torch.tensor(GUIDE)[Y4], F.cross_entropy(Z4, Y4, reduction="none"))
    )
    assert focal_loss(Z4, Y4, weight=torch.tensor(GUIDE), reduction="sum") < 0.99 * wrong


def test_parameters_bite() -> None:
    values = [focal_loss(Z, Y, gamma=gamma) for gamma in (0, 0.5, 1, 2, 5)]
    assert values == sorted(values, reverse=True)
    assert focal_loss(Z[:1], Y[:1], label_smoothing=0.2) > focal_loss(Z[:1], Y[:1])
    assert focal_loss(Z, Y, weight=torch.tensor([1.0, 9.0, 1.0])) > focal_loss(Z, Y)


@pytest.mark.parametrize("gamma", [0, 0.5, 1, 2, 2.5, 5])
def test_gradients_are_those_of_finite_differences(gamma: float) -> None:
    torch.autograd.gradcheck(
        lambda z: focal_loss(z, Y, gamma=gamma, weight=W, label_smoothing=0.1), Z.clone().requires_grad_()
    )
    torch.autograd.gradcheck(lambda z: focal_loss(z, Y, gamma=gamma), Z.clone().requires_grad_())


@pytest.mark.parametrize("gamma", [0, 0.1, 0.5, 1, 2, 2.5, 5])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("size", [1.0, 12.0, 40.0, 1e4])
def test_extreme_logits_have_finite_gradients_of_the_right_sign(
    gamma: float, dtype: torch.dtype, size: float
) -> None:
    logits = torch.tensor([[size, -size, 0.0]], dtype=dtype, requires_grad=True)
    wrong = focal_loss(logits, torch.tensor([1]), gamma=gamma)
    wrong.backward()
    assert wrong.isfinite()
    assert logits.grad.isfinite().all()
    assert logits.grad[0, 1] < 0
    assert logits.grad[0, 0] > 0
    if size >= 12:
        assert logits.grad[0, 1].item() == pytest.approx(-1, abs=1e-2)
    logits.grad = None
    right = focal_loss(logits, torch.tensor([0]), gamma=gamma)
    right.backward()
    assert 0 <= right.item() < 0.5
    assert logits.grad.isfinite().all()
    assert logits.grad[0, 0] <= 0


@pytest.mark.parametrize("gamma", [0.1, 0.5])
def test_small_errors_keep_relative_accuracy(gamma: float) -> None:
    """At p = 1 - 1e-5 float32 must follow 1 - p itself, not its rounding."""
    gap = 11.512915464920228
    single = torch.tensor([[gap, 0.0]], requires_grad=True)
    double = single.detach().double().requires_grad_()
    for logits in (single, double):
        focal_loss(logits, torch.tensor([0]), gamma=gamma).backward()
    torch.testing.assert_close(single.grad.double(), double.grad, rtol=1e-2, atol=0)


def test_one_class_and_negative_gamma_are_refused() -> None:
    with pytest.raises(ValueError, match="two classes"):
        focal_loss(torch.zeros(2, 1), torch.tensor([0, 0]))
    with pytest.raises(ValueError, match="gamma is -1"):
        FocalLoss(gamma=-1)
    with pytest.raises(ValueError, match="gamma is nan"):
        focal_loss(Z, Y, gamma=float("nan"))


def test_balanced_focal_takes_alpha_or_statistics() -> None:
    for arguments in ({}, {"alpha": GUIDE, "statistics": ClassStatistics.from_counts(U)}):
        with pytest.raises(ValueError, match="alpha or statistics"):
            BalancedFocalLoss(**arguments)
    alpha = torch.tensor(GUIDE, dtype=torch.float64)
    found = balanced_focal_loss(Z4, Y4, alpha=alpha, gamma=1.5)
    torch.testing.assert_close(
        found, focal_loss(Z4, Y4, weight=alpha, gamma=1.5, reduction="valid_mean"), **TIGHT
    )


def test_sigmoid_golden_values() -> None:
    for alpha, expected in ((0.25, 0.114764657), (0.75, 0.155533530), (None, 0.270298188)):
        close(sigmoid_focal_loss(BINARY_Z, BINARY_T, alpha=alpha), expected)


@pytest.mark.parametrize("seed", range(200))
def test_sigmoid_equals_torchvision(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    shape = [int(n) for n in torch.randint(1, 5, (1 + seed % 4,), generator=generator)]
    logits = 3 * torch.randn(shape, dtype=torch.float64, generator=generator)
    target = torch.rand(shape, dtype=torch.float64, generator=generator)
    target = target if seed % 3 == 0 else target.round()
    gamma, alpha = (1, 2, 2.5)[seed % 3], (0.25, 0.9, -1)[seed % 2 :][seed % 2]
    reduction = ("none", "sum", "mean")[seed % 3]
    expected = torchvision_focal(logits, target, alpha, gamma, reduction)
    found = sigmoid_focal_loss(
        logits, target, alpha=None if alpha < 0 else alpha, gamma=gamma, reduction=reduction
    )
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-12)


def test_sigmoid_without_focus_is_binary_cross_entropy() -> None:
    found = sigmoid_focal_loss(BINARY_Z, BINARY_T, alpha=None, gamma=0)
    torch.testing.assert_close(found, F.binary_cross_entropy_with_logits(BINARY_Z, BINARY_T), rtol=0, atol=0)


def test_softmax_of_two_is_sigmoid_of_the_difference() -> None:
    logits = torch.stack([torch.zeros_like(BINARY_Z), BINARY_Z], 1)
    torch.testing.assert_close(
        focal_loss(logits, BINARY_T.long()), sigmoid_focal_loss(BINARY_Z, BINARY_T, alpha=None), **TIGHT
    )


@pytest.mark.parametrize("gamma", [0, 0.5, 1, 2, 5])
def test_sigmoid_saturates_without_nan(gamma: float) -> None:
    logits = torch.tensor([1e4, -1e4, 90.0, -90.0, 12.0], requires_grad=True)
    for target in (torch.ones(5), torch.zeros(5), torch.full((5,), 0.3)):
        logits.grad = None
        loss = sigmoid_focal_loss(logits, target, gamma=gamma, alpha=None, reduction="sum")
        loss.backward()
        assert loss.isfinite()
        assert logits.grad.isfinite().all()
    logits.grad = None
    sigmoid_focal_loss(logits, torch.zeros(5), gamma=gamma, alpha=None, reduction="sum").backward()
    assert logits.grad[[0, 2, 4]].tolist() == pytest.approx([1, 1, 1], abs=1e-3)
    torch.autograd.gradcheck(
        lambda z: sigmoid_focal_loss(z, BINARY_T, gamma=gamma), BINARY_Z.clone().requires_grad_()
    )


def test_sigmoid_normalizers() -> None:
    total = sigmoid_focal_loss(BINARY_Z, BINARY_T, reduction="sum")
    torch.testing.assert_close(sigmoid_focal_loss(BINARY_Z, BINARY_T, normalizer="positives"), total / 2)
    none = torch.zeros(4, dtype=torch.float64)
    torch.testing.assert_close(
        sigmoid_focal_loss(BINARY_Z, none, normalizer="positives"),
        sigmoid_focal_loss(BINARY_Z, none, reduction="sum"),
    )
    assert SigmoidFocalLoss(normalizer="positives").normalizer(BINARY_T) == 2


def test_sigmoid_alpha_per_class_and_balanced() -> None:
    logits, target = BINARY_Z.view(2, 2), BINARY_T.view(2, 2)
    single = sigmoid_focal_loss(logits, target, alpha=torch.tensor([0.25, 0.75]), reduction="none")
    for column, alpha in enumerate((0.25, 0.75)):
        expected = sigmoid_focal_loss(logits[:, column], target[:, column], alpha=alpha, reduction="none")
        torch.testing.assert_close(single[:, column], expected, **TIGHT)
    target = torch.tensor([1.0, 0, 0, 0])
    balanced = sigmoid_focal_loss(BINARY_Z, target, alpha="balanced")
    torch.testing.assert_close(balanced, sigmoid_focal_loss(BINARY_Z, target, alpha=0.75), **TIGHT)
    assert SigmoidFocalLoss(alpha="balanced")(BINARY_Z, target) == balanced


def test_sigmoid_refuses_bad_input() -> None:
    with pytest.raises(ValueError, match="alpha is 2"):
        sigmoid_focal_loss(BINARY_Z, BINARY_T, alpha=2)
    with pytest.raises(ValueError, match="alpha is 'rare'"):
        SigmoidFocalLoss(alpha="rare")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"\[K\] for"):
        sigmoid_focal_loss(BINARY_Z, BINARY_T, alpha=torch.tensor([0.1, 0.2]))
    with pytest.raises(ValueError, match=r"target\[2\] is 2"):
        sigmoid_focal_loss(BINARY_Z, torch.tensor([0.0, 1, 2, 0]))
    with pytest.raises(ValueError, match="normalizer is 'pixels'"):
        SigmoidFocalLoss(normalizer="pixels")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="target is"):
        sigmoid_focal_loss(BINARY_Z, BINARY_T[:2])


def test_best_constant_of_one_cell_in_a_frame() -> None:
    p = torch.linspace(0.0499, 0.05, 2001, dtype=torch.float64)
    positive, negative = torch.ones_like(p), torch.zeros_like(p)
    cost = sigmoid_focal_loss(p.logit(), positive, reduction="none")
    cost = cost + 1023 * sigmoid_focal_loss(p.logit(), negative, reduction="none")
    assert p[cost.argmin()].item() == pytest.approx(0.049946, abs=5e-7)


@pytest.mark.parametrize(("alpha", "percent"), [(0.25, 0.03257), (0.75, 0.2924), (0.999, 49.41)])
def test_share_of_the_positive_in_the_initial_loss(alpha: float, percent: float) -> None:
    target = torch.zeros(1024, dtype=torch.float64)
    target[528] = 1
    single = sigmoid_focal_loss(torch.zeros_like(target), target, alpha=alpha, reduction="none")
    share = 100 * (single[528] / single.sum()).item()
    assert f"{share:.4g}" == f"{percent:.4g}"
