import numpy as np
import pytest
import torch
import torch.nn.functional as F
from sklearn.metrics import recall_score

from common.losses.prior_adjusted import LogitAdjustedLoss, adjust_logits, logit_adjusted_cross_entropy

Z = torch.tensor([[2, 0, -1], [0.5, 1.5, -0.5], [-1, 0.25, 0.75], [3, -2, 0]], dtype=torch.float64)
Y = torch.tensor([0, 0, 2, 1])
W = torch.tensor([0.5, 1, 4], dtype=torch.float64)
LOG_COUNTS = torch.tensor([100, 10, 1], dtype=torch.float64).log()
ABSENT = torch.tensor([100, 10, 0], dtype=torch.float64).log()
TIGHT = {"rtol": 1e-12, "atol": 1e-12}


@pytest.mark.parametrize(("tau", "expected"), [(0.5, 2.095774957), (1, 2.689341328), (2, 4.282165020)])
def test_golden_values(tau: float, expected: float) -> None:
    loss = logit_adjusted_cross_entropy(Z, Y, log_prior=LOG_COUNTS, tau=tau)
    assert loss.item() == pytest.approx(expected, abs=5e-10)


@pytest.mark.parametrize("reduction", ["none", "sum", "mean"])
@pytest.mark.parametrize("weight", [None, W])
def test_equals_torch_on_shifted_logits(reduction: str, weight: torch.Tensor | None) -> None:
    target = torch.tensor([0, -100, 2, 1])
    found = logit_adjusted_cross_entropy(Z, target, log_prior=LOG_COUNTS, weight=weight, reduction=reduction)
    expected = F.cross_entropy(Z + LOG_COUNTS, target, weight, reduction=reduction)
    torch.testing.assert_close(found, expected, **TIGHT)
    neutral = logit_adjusted_cross_entropy(
        Z, target, log_prior=ABSENT, tau=0, weight=weight, reduction=reduction
    )
    torch.testing.assert_close(
        neutral, F.cross_entropy(Z, target, weight, reduction=reduction), rtol=0, atol=0
    )


@pytest.mark.parametrize("seed", range(200))
def test_equals_the_formula_on_random_shapes(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    batch, classes, width = (int(n) for n in torch.randint(2, 7, (3,), generator=generator))
    logits = 3 * torch.randn(batch, classes, width, dtype=torch.float64, generator=generator)
    target = torch.randint(classes, (batch, width), generator=generator)
    counts = torch.randint(1, 1000, (classes,), generator=generator).double()
    power = logits.exp() * (counts**1.5).view(1, -1, 1)
    expected = -(power / power.sum(1, keepdim=True)).gather(1, target.unsqueeze(1)).log().mean()
    found = logit_adjusted_cross_entropy(logits, target, log_prior=counts.log(), tau=1.5)
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-12)


def test_counts_and_shares_are_the_same_prior() -> None:
    for log_counts in (LOG_COUNTS, ABSENT):
        shares = (log_counts.exp() / log_counts.exp().sum()).log()
        for function in (
            lambda prior: logit_adjusted_cross_entropy(Z, Y, log_prior=prior, tau=1.3),
            lambda prior: adjust_logits(Z, log_prior=prior, tau=1.3).softmax(1),
        ):
            torch.testing.assert_close(function(shares), function(log_counts), **TIGHT)


def test_an_absent_class_is_pushed_down() -> None:
    raw, adjusted = Z.clone().requires_grad_(), Z.clone().requires_grad_()
    F.cross_entropy(raw, torch.tensor([0, 0, 1, 1])).backward()
    logit_adjusted_cross_entropy(adjusted, torch.tensor([0, 0, 1, 1]), log_prior=ABSENT).backward()
    assert adjusted.grad.isfinite().all()
    assert (adjusted.grad[:, 2] > raw.grad[:, 2]).all()
    post_hoc = adjust_logits(Z, log_prior=ABSENT)
    assert torch.equal(post_hoc[:, 2], Z[:, 2])
    assert (post_hoc[:, :2] > Z[:, :2]).all()


def test_training_raises_the_demand_on_rare_classes() -> None:
    """With the sign inverted a rare label would cost less than with plain cross-entropy."""
    logits = torch.zeros(1, 3)
    rare = logit_adjusted_cross_entropy(logits, torch.tensor([2]), log_prior=LOG_COUNTS)
    frequent = logit_adjusted_cross_entropy(logits, torch.tensor([0]), log_prior=LOG_COUNTS)
    assert frequent < F.cross_entropy(logits, torch.tensor([0])) < rare


def test_evaluation_uses_raw_logits() -> None:
    loss = LogitAdjustedLoss(log_prior=LOG_COUNTS, tau=2.0, weight=W)
    assert loss(Z, Y).item() == pytest.approx(F.cross_entropy(Z + 2 * LOG_COUNTS, Y, W).item(), rel=1e-12)
    loss.eval()
    assert loss(Z, Y).item() == pytest.approx(F.cross_entropy(Z, Y, W).item(), rel=1e-12)
    total, count = loss.total_and_count(Z, Y)
    assert (total / count).item() == pytest.approx(F.cross_entropy(Z, Y, W).item(), rel=1e-12)


def test_post_hoc_adjustment_raises_minority_recall() -> None:
    """Two unit Gaussians 1.5 apart, 20:1; z = log p(x | c) + log pi is the Bayes model of that prior."""
    rng = np.random.default_rng(0)
    labels = np.repeat([0, 1], [2000, 100])
    x = torch.from_numpy(rng.normal(labels * 1.5, 1.0))
    log_prior = torch.tensor([20 / 21, 1 / 21], dtype=torch.float64).log()
    logits = torch.stack([-(x**2) / 2, -((x - 1.5) ** 2) / 2], 1) + log_prior
    recall = recall_score(labels, logits.argmax(1), average=None)
    adjusted = recall_score(labels, adjust_logits(logits, log_prior=log_prior).argmax(1), average=None)
    assert adjusted[1] > recall[1] + 0.4
    assert adjusted.mean() > recall.mean() + 0.1
    torch.testing.assert_close(adjust_logits(logits, log_prior=log_prior, tau=0.0), logits)


def test_gradients() -> None:
    torch.autograd.gradcheck(
        lambda z: logit_adjusted_cross_entropy(z, Y, log_prior=ABSENT, weight=W, label_smoothing=0.1),
        Z.clone().requires_grad_(),
    )
    extreme = torch.tensor([[1e4, -1e4, 0.0]], requires_grad=True)
    logit_adjusted_cross_entropy(extreme, torch.tensor([1]), log_prior=LOG_COUNTS).backward()
    assert extreme.grad.tolist() == [[1, -1, 0]]


def test_smoothing_and_tau_bite() -> None:
    one = Z[:1], torch.tensor([2])
    values = [logit_adjusted_cross_entropy(*one, log_prior=LOG_COUNTS, tau=tau) for tau in (0, 0.5, 1, 2)]
    assert values == sorted(values)
    smoothed = logit_adjusted_cross_entropy(*one, log_prior=LOG_COUNTS, label_smoothing=0.2)
    assert smoothed < logit_adjusted_cross_entropy(*one, log_prior=LOG_COUNTS)


def test_bad_priors_are_refused() -> None:
    with pytest.raises(ValueError, match="one entry for each of 3"):
        adjust_logits(Z, log_prior=LOG_COUNTS[:2])
    with pytest.raises(ValueError, match=r"log_prior\[1\] is nan"):
        LogitAdjustedLoss(log_prior=[0.0, float("nan")])
    with pytest.raises(ValueError, match="no class"):
        LogitAdjustedLoss(log_prior=[-float("inf")] * 2)
    with pytest.raises(ValueError, match="tau is -1"):
        LogitAdjustedLoss(log_prior=LOG_COUNTS, tau=-1)
