import pytest
import torch
from torch import Tensor

from mvfouls.aggregation import (
    AttentionViews,
    MaxViews,
    MeanViews,
    attention_shares,
    build_aggregator,
    view_slots,
)

KINDS = ("attention", "mean", "max")
CPU = torch.device("cpu")


def build(kind: str, dim: int = 8) -> torch.nn.Module:
    torch.manual_seed(0)
    return build_aggregator(kind, dim)  # type: ignore[arg-type]


@pytest.mark.parametrize("kind", KINDS)
def test_a_single_view_is_kept_exactly(kind: str) -> None:
    features = torch.randn(3, 8)
    pooled, shares = build(kind)(features, torch.tensor([1, 1, 1]))
    assert torch.equal(pooled, features)
    assert torch.equal(shares, torch.ones(3, 1))


@pytest.mark.parametrize("kind", KINDS)
def test_neither_order_nor_neighbours_matter(kind: str) -> None:
    aggregator, counts = build(kind), torch.tensor([2, 4, 1])
    features = torch.randn(7, 8)
    pooled, shares = aggregator(features, counts)
    turned, _ = aggregator(features[[1, 0, 5, 2, 3, 4, 6]], counts)
    alone, own = aggregator(features[2:6], torch.tensor([4]))
    torch.testing.assert_close(turned, pooled)
    torch.testing.assert_close(alone[0], pooled[1])
    torch.testing.assert_close(own[0], shares[1])
    torch.testing.assert_close(shares.sum(dim=1), torch.ones(3))
    assert torch.equal(shares > 0, torch.arange(4) < counts[:, None]) or kind == "max"
    assert (shares[torch.arange(4) >= counts[:, None]] == 0).all()


def test_mean_and_max_by_hand() -> None:
    features = torch.tensor([[-4.0, 2.0], [-2.0, -2.0], [-5.0, -7.0]])
    counts = torch.tensor([2, 1])
    mean, shares = MeanViews()(features, counts)
    assert mean.tolist() == [[-3.0, 0.0], [-5.0, -7.0]]
    assert shares.tolist() == [[0.5, 0.5], [1.0, 0.0]]
    largest, shares = MaxViews()(features, counts)
    assert largest.tolist() == [[-2.0, 2.0], [-5.0, -7.0]]
    assert shares.tolist() == [[0.5, 0.5], [1.0, 0.0]]


@pytest.mark.parametrize(
    ("temperature", "expected"), [(1.0, (0.6652, 0.2447, 0.09)), (0.5, (0.8668, 0.1173, 0.0159))]
)
def test_attention_shares(temperature: float, expected: tuple[float, ...]) -> None:
    slots = view_slots(torch.tensor([3, 1]), 4, CPU)
    shares = attention_shares(torch.tensor([1.0, 0.0, -1.0, -50.0]), slots, temperature)
    torch.testing.assert_close(shares[0], torch.tensor(expected), atol=1e-4, rtol=0)
    assert shares[1].tolist() == [1, 0, 0]


def test_attention_weighs_by_its_shares() -> None:
    torch.manual_seed(0)
    aggregator, features = AttentionViews(8, temperature=0.2), torch.randn(3, 8)
    pooled, shares = aggregator(features, torch.tensor([3]))
    expected = (aggregator.score(features) / 0.2).softmax(dim=0)
    torch.testing.assert_close(shares[0], expected[:, 0].detach())
    torch.testing.assert_close(pooled[0], (expected * features).sum(dim=0))


@pytest.mark.parametrize(("dim", "count"), [(512, 65_793), (768, 147_841)])
def test_attention_parameters(dim: int, count: int) -> None:
    assert sum(parameter.numel() for parameter in AttentionViews(dim).parameters()) == count


@pytest.mark.parametrize("kind", KINDS)
def test_gradients(kind: str) -> None:
    aggregator = build(kind).double()
    features = torch.randn(4, 8, dtype=torch.float64, requires_grad=True)

    def pooled(values: Tensor) -> Tensor:
        return aggregator(values, torch.tensor([3, 1]))[0]

    assert torch.autograd.gradcheck(pooled, (features,))


@pytest.mark.parametrize("counts", [[], [2, 0], [1, 2], [-1, 3]])
def test_counts_that_cannot_be(counts: list[int]) -> None:
    with pytest.raises(ValueError, match="counts"):
        MeanViews()(torch.randn(2, 8), torch.tensor(counts, dtype=torch.int64))


def test_refuses_unknown_kinds_and_temperatures() -> None:
    with pytest.raises(ValueError, match="median"):
        build("median")
    for temperature in (0.0, -1.0, float("nan")):
        with pytest.raises(ValueError, match="temperature"):
            AttentionViews(8, temperature=temperature)
