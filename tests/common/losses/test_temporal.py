import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from common.losses.temporal import (
    TemporalDifferenceLoss,
    TruncatedMSELoss,
    temporal_difference_loss,
    truncated_mse_loss,
)

G14 = torch.tensor([[[0, 1, 1.2, -6], [0, -1, -1, 6]]], dtype=torch.float64)
CUT = torch.tensor([[True, False, True]])


def random_logits(seed: int) -> tuple[Tensor, Tensor]:
    """Return logits [B, K, T] and which steps are valid [B, T]."""
    generator = torch.Generator().manual_seed(seed)
    batch, classes, steps = (int(n) for n in torch.randint(2, 7, (3,), generator=generator))
    logits = 4 * torch.randn(batch, classes, steps, dtype=torch.float64, generator=generator)
    return logits, torch.rand(batch, steps, generator=generator) < 0.8


def test_golden_values() -> None:
    assert truncated_mse_loss(G14).item() == pytest.approx(3.953654818, abs=5e-10)
    assert temporal_difference_loss(G14).item() == pytest.approx(2.733333333, abs=5e-10)


def test_values_by_hand() -> None:
    """Two classes: log p of (0, 0) is -ln 2 twice, of (ln 3, 0) it is ln 3/4 and ln 1/4."""
    logits = torch.tensor([[[0, 3.0, 3.0], [0, 1.0, 1.0]]], dtype=torch.float64).clamp(min=1).log()
    up, down = torch.tensor(1.5).log() ** 2, torch.tensor(0.5).log() ** 2
    pair = truncated_mse_loss(logits, reduction="none")
    assert pair.tolist() == [[pytest.approx(float(up + down) / 2, rel=1e-6), 0]]
    assert temporal_difference_loss(logits, reduction="none").tolist() == [
        [pytest.approx(0.5 * 1.0986122887), 0]
    ]
    assert truncated_mse_loss(logits, tau=0.5)[None].tolist() == [
        pytest.approx(float(up + 0.25) / 4, rel=1e-6)
    ]


@pytest.mark.parametrize("seed", range(200))
def test_equals_the_formula_pair_by_pair(seed: int) -> None:
    logits, valid = random_logits(seed)
    log_p = logits.softmax(1).log()
    squared, absolute, count = 0.0, 0.0, 0
    for row in range(len(logits)):
        for t in range(1, logits.shape[2]):
            if valid[row, t] and valid[row, t - 1]:
                change = (log_p[row, :, t] - log_p[row, :, t - 1]).abs()
                squared += float(change.clamp(max=2.5).square().mean())
                absolute += float((logits[row, :, t] - logits[row, :, t - 1]).abs().mean())
                count += 1
    found = truncated_mse_loss(logits, valid=valid, tau=2.5)
    assert found.item() == pytest.approx(squared / max(count, 1), rel=1e-11)
    found = temporal_difference_loss(logits, valid=valid)
    assert found.item() == pytest.approx(absolute / max(count, 1), rel=1e-12)


def test_equals_the_published_code() -> None:
    """torch.clamp of an element-wise squared error at tau^2, as in the authors' training loop."""
    logits, _ = random_logits(1)
    error = F.mse_loss(
        F.log_softmax(logits[:, :, 1:], dim=1),
        F.log_softmax(logits.detach()[:, :, :-1], dim=1),
        reduction="none",
    )
    torch.testing.assert_close(truncated_mse_loss(logits), torch.clamp(error, min=0, max=16).mean())


@pytest.mark.parametrize("function", [truncated_mse_loss, temporal_difference_loss])
def test_constant_logits_cost_nothing_and_a_seam_can_be_cut(function) -> None:  # type: ignore[no-untyped-def]
    constant = torch.randn(2, 3, 1).expand(2, 3, 5)
    assert function(constant) == 0
    ends = torch.cat([torch.zeros(1, 2, 3), torch.ones(1, 2, 3) * torch.tensor([[5.0], [-5.0]])], dim=2)
    seam = torch.tensor([[True, True, False, True, True]])
    assert function(ends) > 0
    assert function(ends, pairs=seam) == 0


def test_pairs_and_valid_are_both_needed() -> None:
    whole = temporal_difference_loss(G14, reduction="none")
    torch.testing.assert_close(
        temporal_difference_loss(G14, pairs=CUT, reduction="none"), torch.where(CUT, whole, 0)
    )
    assert temporal_difference_loss(G14, pairs=CUT) == whole[CUT].mean()
    valid = torch.tensor([[False, True, True, True]])
    assert temporal_difference_loss(G14, pairs=CUT, valid=valid) == whole[0, 2]
    module = TemporalDifferenceLoss()
    target = torch.zeros(1, 4, dtype=torch.int64)
    assert module(G14, target, None, CUT) == whole[CUT].mean()
    total, count = module.total_and_count(G14, target, valid, CUT)
    assert (total, count) == (whole[0, 2], 1)
    assert module.normalizer(target, valid, CUT) == 1
    assert TruncatedMSELoss(tau=2.0)(G14, target, valid, CUT) == truncated_mse_loss(
        G14, valid=valid, pairs=CUT, tau=2.0
    )


def test_truncation_bites_and_stops_the_gradient() -> None:
    values = [truncated_mse_loss(G14, tau=tau) for tau in (0.5, 1.0, 4.0, 100.0)]
    assert values == sorted(values)
    assert len({float(v) for v in values}) == 4
    far = torch.tensor([[[0.0, 50.0], [0.0, -50.0]]], requires_grad=True)
    truncated = truncated_mse_loss(far, tau=0.1)
    truncated.backward()
    assert truncated.item() == pytest.approx(0.01)
    assert not far.grad.any()


def test_the_earlier_step_is_a_constant() -> None:
    logits = G14.clone().requires_grad_()
    truncated_mse_loss(logits, pairs=torch.tensor([[True, False, False]])).backward()
    assert not logits.grad[..., 0].any()
    assert logits.grad[0, 0, 1] > 0
    assert logits.grad[0, 1, 1] < 0
    logits.grad = None
    temporal_difference_loss(logits, pairs=torch.tensor([[True, False, False]])).backward()
    assert logits.grad.tolist() == [[[-0.5, 0.5, 0, 0], [0.5, -0.5, 0, 0]]]


def test_gradients() -> None:
    logits, valid = random_logits(3)
    frozen = logits[..., :-1].log_softmax(1).detach()

    def rest(z: Tensor) -> Tensor:
        """The loss of the last step with the one before held constant, which a numerical slope needs."""
        two = torch.cat([frozen[..., -1:], z], dim=2)
        return truncated_mse_loss(two)

    torch.autograd.gradcheck(rest, logits[..., -1:].clone().requires_grad_())
    torch.autograd.gradcheck(
        lambda z: temporal_difference_loss(z, valid=valid), logits.clone().requires_grad_()
    )
    extreme = torch.tensor([[[1e4, -1e4], [-1e4, 1e4]]], requires_grad=True)
    temporal_difference_loss(extreme).backward()
    assert extreme.grad.tolist() == [[[0.5, -0.5], [-0.5, 0.5]]]
    for loss in (truncated_mse_loss(extreme), truncated_mse_loss(extreme, tau=float("inf"))):
        extreme.grad = None
        loss.backward()
        assert extreme.grad.isfinite().all()
    assert extreme.grad[0, 0, 1] < 0 < extreme.grad[0, 1, 1]


def test_a_layer_learns_to_be_smooth() -> None:
    torch.manual_seed(0)
    features, layer = torch.randn(1, 4, 12), nn.Conv1d(4, 3, 1)
    first = truncated_mse_loss(layer(features)).item()
    optimizer = torch.optim.SGD(layer.parameters(), lr=0.3)
    for _ in range(100):
        optimizer.zero_grad()
        truncated_mse_loss(layer(features)).backward()
        optimizer.step()
    assert truncated_mse_loss(layer(features)).item() < 0.2 * first


def test_bad_arguments_are_named() -> None:
    with pytest.raises(ValueError, match=r"logits are \[1, 2\]"):
        truncated_mse_loss(G14[..., 0])
    with pytest.raises(ValueError, match=r"valid is \[1, 3\]"):
        temporal_difference_loss(G14, valid=CUT)
    with pytest.raises(ValueError, match=r"pairs is \[1, 4\] but there are \[1, 3\]"):
        truncated_mse_loss(G14, pairs=torch.ones(1, 4, dtype=torch.bool))
    for tau in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="tau is"):
            truncated_mse_loss(G14, tau=tau)
        with pytest.raises(ValueError, match="tau is"):
            TruncatedMSELoss(tau=tau)
    with pytest.raises(ValueError, match="none, sum, mean, valid_mean"):
        truncated_mse_loss(G14, reduction="average")  # type: ignore[arg-type]
