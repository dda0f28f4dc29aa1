import itertools

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from common.losses.lovasz import (
    LovaszHingeLoss,
    LovaszSoftmaxLoss,
    _jaccard_slope,
    lovasz_hinge_loss,
    lovasz_softmax_loss,
)

P = torch.tensor(
    [[0.7, 0.2, 0.1, 0.6, 0.3, 0.1], [0.2, 0.7, 0.3, 0.3, 0.3, 0.1], [0.1, 0.1, 0.6, 0.1, 0.4, 0.8]],
    dtype=torch.float64,
).unsqueeze(0)
Y = torch.tensor([[0, 1, 1, 0, 255, 2]])
TIGHT = {"rtol": 1e-10, "atol": 1e-12}


def by_thresholds(errors: Tensor, foreground: Tensor) -> float:
    """Integrate, over all thresholds, the Jaccard loss of the elements whose error exceeds the threshold."""
    levels = sorted({0.0, *errors.tolist()})
    area = 0.0
    for low, high in itertools.pairwise(levels):
        wrong = errors > low
        area += (high - low) * float(wrong.sum()) / float((wrong | foreground).sum())
    return area


def test_golden_values() -> None:
    for entry, expected in enumerate([0.35, 0.5, 0.4]):
        p = P.squeeze(0)[entry, :]
        keep = Y[0] != 255
        truth = (Y[0] == entry)[keep]
        assert by_thresholds((truth.double() - p[keep]).abs(), truth) == pytest.approx(expected)
    assert lovasz_softmax_loss(P.log(), Y, ignore_index=255).item() == pytest.approx(0.416666667, abs=5e-10)
    logits = torch.tensor([2, -1, 0.5, -3], dtype=torch.float64)
    assert lovasz_hinge_loss(logits, torch.tensor([1, 1, 0, 0])).item() == pytest.approx(1.25)


@pytest.mark.parametrize("seed", range(200))
def test_equals_brute_force_over_thresholds(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    classes = 2 + seed % 3
    logits = 2 * torch.randn(2, classes, 4, dtype=torch.float64, generator=generator)
    target = torch.randint(classes, (2, 4), generator=generator)

    def expected(z: Tensor, y: Tensor, which: str) -> float:
        p = z.softmax(1).transpose(0, 1).flatten(1)
        truth = [y.flatten() == c for c in range(classes)]
        rows = [c for c in range(classes) if which == "all" or truth[c].any()]
        return sum(by_thresholds((truth[c].double() - p[c]).abs(), truth[c]) for c in rows) / len(rows)

    for which in ("present", "all"):
        found = lovasz_softmax_loss(logits, target, classes=which)
        assert found.item() == pytest.approx(expected(logits, target, which), rel=1e-10)
        images = [expected(logits[i : i + 1], target[i : i + 1], which) for i in range(2)]
        found = lovasz_softmax_loss(logits, target, classes=which, per_image=True)
        assert found.item() == pytest.approx(sum(images) / 2, rel=1e-10)


@pytest.mark.parametrize("seed", range(60))
def test_hinge_equals_brute_force_over_thresholds(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = 2 * torch.randn(2, 4, dtype=torch.float64, generator=generator)
    truth = torch.rand(2, 4, generator=generator) < 0.4
    errors = (1 - logits * (2 * truth.double() - 1)).relu()
    found = lovasz_hinge_loss(logits, truth.long())
    assert found.item() == pytest.approx(by_thresholds(errors.flatten(), truth.flatten()), rel=1e-10)
    images = [by_thresholds(e, t) for e, t in zip(errors, truth)]
    found = lovasz_hinge_loss(logits, truth.float(), per_image=True)
    assert found.item() == pytest.approx(sum(images) / 2, rel=1e-10)


@pytest.mark.parametrize("seed", range(20))
def test_the_fast_sort_of_float32_agrees_with_torch(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    errors = torch.randperm(500, generator=generator) / torch.tensor(400.0)
    foreground, valid = torch.rand(2, 500, generator=generator) < 0.5
    fast = _jaccard_slope(errors, foreground & valid, valid)
    reference = _jaccard_slope(errors.double(), foreground & valid, valid)
    torch.testing.assert_close(fast.double(), reference, rtol=1e-6, atol=0)
    assert not fast[~valid].any()


def test_hard_predictions_cost_one_minus_the_jaccard_index() -> None:
    target, guess = torch.randint(3, (500,)), torch.randint(3, (500,))
    logits = 1e4 * F.one_hot(guess, 3).double()
    expected = [
        1 - ((guess == c) & (target == c)).sum().item() / ((guess == c) | (target == c)).sum().item()
        for c in range(3)
    ]
    assert lovasz_softmax_loss(logits, target).item() == pytest.approx(sum(expected) / 3)


def test_without_a_positive_the_hinge_is_the_largest_error() -> None:
    logits = torch.tensor([[-3.0, 0.5, 0.2, -0.5]])
    assert lovasz_hinge_loss(logits, torch.zeros(1, 4)).item() == pytest.approx(1.5)


def test_absent_classes_count_when_asked() -> None:
    logits = torch.tensor([[[2.0, 1.0], [0.0, 0.5], [0.0, 0.1]]])
    target = torch.zeros(1, 2, dtype=torch.long)
    p = logits.softmax(1)
    everything = lovasz_softmax_loss(logits, target, classes="all")
    expected = (p[0, 1].max() + p[0, 2].max() + lovasz_softmax_loss(logits, target)) / 3
    assert everything.item() == pytest.approx(expected.item())


def test_per_image_bites() -> None:
    torch.manual_seed(1)
    logits, target = torch.randn(2, 3, 5), torch.randint(3, (2, 5))
    assert LovaszSoftmaxLoss(per_image=True)(logits, target) != LovaszSoftmaxLoss()(logits, target)
    labels = (target == 1).long()
    assert LovaszHingeLoss(per_image=True)(logits[:, 0], labels) != LovaszHingeLoss()(logits[:, 0], labels)


def test_gradients() -> None:
    torch.manual_seed(0)
    logits = torch.randn(2, 3, 4, dtype=torch.float64, requires_grad=True)
    target = torch.tensor([[0, 1, 2, -100], [1, 1, 0, 0]])
    for per_image in (False, True):
        torch.autograd.gradcheck(lambda z, i=per_image: lovasz_softmax_loss(z, target, per_image=i), logits)
        torch.autograd.gradcheck(
            lambda z, i=per_image: lovasz_hinge_loss(z[:, 0], (target == 1).long(), per_image=i), logits
        )
    extreme = torch.tensor([1e4, -1e4, 1.0], requires_grad=True)
    lovasz_hinge_loss(extreme, torch.tensor([0, 1, 1])).backward()
    assert extreme.grad[0] > 0
    assert extreme.grad[1] < 0
    saturated = torch.tensor([[1e4, -1e4], [-1e4, 1e4]], requires_grad=True)
    lovasz_softmax_loss(saturated, torch.tensor([0, 0])).backward()
    assert saturated.grad.isfinite().all()


def test_bad_input_is_named() -> None:
    with pytest.raises(ValueError, match="present, all"):
        LovaszSoftmaxLoss(classes="some")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="target is"):
        lovasz_hinge_loss(torch.zeros(2), torch.zeros(3))
    with pytest.raises(ValueError, match=r"target\[1\] is 2"):
        lovasz_hinge_loss(torch.zeros(2), torch.tensor([0, 2]))
