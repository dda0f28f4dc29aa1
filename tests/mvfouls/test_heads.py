from typing import Any

import pytest
import torch

from common.heads import CosineClassifier
from mvfouls.heads import ChannelGate, OrdinalClassifier, build_head
from mvfouls.settings import HeadSpec

KINDS = ("mlp", "linear", "deep_mlp", "se_mlp")


@pytest.mark.parametrize(
    ("spec", "features", "classes", "count"),
    [
        (HeadSpec(), 512, 8, 133_896),
        (HeadSpec(), 512, 5, 133_125),
        (HeadSpec(), 512, 3, 132_611),
        (HeadSpec(kind="linear"), 768, 8, 6_152),
        (HeadSpec(kind="linear"), 768, 5, 3_845),
        (HeadSpec(kind="linear"), 768, 3, 2_307),
        (HeadSpec(kind="deep_mlp"), 768, 3, 2_895_875),
        (HeadSpec(kind="se_mlp"), 768, 3, 2_895_875 + 2 * 768 * 192),
    ],
)
def test_parameters(spec: HeadSpec, features: int, classes: int, count: int) -> None:
    with torch.device("meta"):
        heads = [build_head(spec, features, classes, cosine=cosine) for cosine in (False, True)]
    plain, cosine = (sum(parameter.numel() for parameter in head.parameters()) for head in heads)
    assert plain == count
    assert cosine == count - classes


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("cosine", [False, True])
def test_a_batch_of_one_trains(kind: Any, cosine: bool) -> None:
    torch.manual_seed(0)
    head = build_head(HeadSpec(kind=kind, hidden=16, depth=2), 8, 3, cosine=cosine).train()
    logits = head(torch.randn(1, 8))
    logits[0, 1].backward()
    assert logits.shape == (1, 3)
    assert all(p.grad is not None and p.grad.isfinite().all() for p in head.parameters())
    assert isinstance(head[-1], CosineClassifier) is cosine


def test_cosines_stay_in_their_range() -> None:
    head = build_head(HeadSpec(kind="linear", dropout=0.0), 4, 2, cosine=True)
    assert head(1e4 * head[-1].weight.detach()).diagonal().tolist() == pytest.approx([1, 1])


def test_gate_by_hand() -> None:
    gate = ChannelGate(2, reduction=2)
    gate.squeeze.weight.data = torch.tensor([[1.0, -1.0]])
    gate.excite.weight.data = torch.tensor([[2.0], [-1.0]])
    expected = torch.tensor([3.0, 1.0]) * torch.sigmoid(torch.tensor([4.0, -2.0]))
    torch.testing.assert_close(gate(torch.tensor([[3.0, 1.0]]))[0], expected)


@pytest.mark.parametrize("kind", KINDS)
def test_dropout_is_that_of_the_spec(kind: Any) -> None:
    head = build_head(HeadSpec(kind=kind, dropout=0.3, hidden=4), 8, 3)
    assert {module.p for module in head if isinstance(module, torch.nn.Dropout)} == {0.3}


@pytest.mark.parametrize(
    "wrong",
    [
        {"kind": "transformer"},
        {"dropout": 1.0},
        {"kind": "deep_mlp", "hidden": 0},
        {"kind": "deep_mlp", "depth": 0},
        {"kind": "se_mlp", "reduction": 9},
    ],
)
def test_heads_that_cannot_be(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=list(wrong)[-1]):
        build_head(HeadSpec(**wrong), 8, 3)


def ordinal(classes: int, gaps: list[float], first: float = -1.0) -> OrdinalClassifier:
    """Return a head whose thresholds begin at `first` and have these distances."""
    head = OrdinalClassifier(2, classes).double()
    head.first.data[:] = first
    head.gaps.data[:] = torch.expm1(torch.tensor(gaps, dtype=torch.float64)).log()
    return head


def test_ordinal_probabilities_by_hand() -> None:
    head = ordinal(4, [1.0, 2.0])
    score = torch.tensor([[-3.0], [0.0], [0.7], [5.0]], dtype=torch.float64)
    above = torch.sigmoid(score - torch.tensor([-1.0, 0.0, 2.0], dtype=torch.float64))
    whole = torch.cat([torch.ones(4, 1), above, torch.zeros(4, 1)], dim=1)
    found = head.log_probabilities(score)
    torch.testing.assert_close(found.exp(), -whole.diff(dim=1))
    torch.testing.assert_close(found.softmax(dim=1), found.exp())


def test_a_new_ordinal_head_prefers_no_class() -> None:
    for classes in (2, 5, 8):
        found = OrdinalClassifier(3, classes)(torch.zeros(1, 3)).exp()
        torch.testing.assert_close(found, torch.full((1, classes), 1 / classes))
    with pytest.raises(ValueError, match="two classes or more, not 1"):
        OrdinalClassifier(3, 1)


def test_ordinal_probabilities_at_any_score() -> None:
    head, score = ordinal(5, [0.8, 0.8, 0.8]), torch.linspace(-50, 50, 1001, dtype=torch.float64)[:, None]
    found = head.log_probabilities(score)
    assert bool(found.isfinite().all())
    torch.testing.assert_close(found.exp().sum(dim=1), torch.ones(1001, dtype=torch.float64))
    assert bool((found.exp().cumsum(dim=1)[:, :-1].diff(dim=0) <= 1e-15).all()), "a score moves mass down"
    single = OrdinalClassifier(2, 5)
    assert bool(single.log_probabilities(torch.tensor([[-50.0], [50.0], [1e30]])).isfinite().all())


@pytest.mark.parametrize(("gap", "outer"), [(0.3, False), (1.1, True), (4.0, True)])
def test_equal_distances_make_one_mode(gap: float, outer: bool) -> None:
    """Among the inner classes always; with the outer ones, which have one end, from a distance of ln 3 on."""
    head, score = ordinal(7, [gap] * 5), torch.linspace(-12, 12, 961, dtype=torch.float64)[:, None]
    for columns, holds in ((slice(1, -1), True), (slice(None), outer)):
        signs = head.log_probabilities(score)[:, columns].diff(dim=1).sign().diff(dim=1)
        assert bool((signs <= 0).all()) is holds


def test_ordinal_slopes() -> None:
    head = OrdinalClassifier(2, 5).double()
    features = torch.randn(3, 2, dtype=torch.float64, requires_grad=True)

    def answers(features: torch.Tensor, first: torch.Tensor, gaps: torch.Tensor) -> torch.Tensor:
        head.first, head.gaps = torch.nn.Parameter(first), torch.nn.Parameter(gaps)
        return torch.func.functional_call(head, {"first": first, "gaps": gaps}, (features,))

    given = [value.detach().clone().requires_grad_() for value in (head.first, head.gaps)]
    assert torch.autograd.gradcheck(answers, (features, *given))
    for far in (-1e4, 50.0, 1e4):
        score = torch.tensor([[far]], requires_grad=True)
        slopes = torch.autograd.grad(OrdinalClassifier(2, 5).log_probabilities(score)[0, 2], score)
        assert float(slopes[0]) == pytest.approx(-1.0 if far > 0 else 1.0)


def test_ordinal_heads_behind_layers() -> None:
    flat = build_head(HeadSpec(kind="ordinal", depth=0), 512, 5)
    assert sum(p.numel() for p in flat.parameters()) == 512 + 4
    deep = build_head(HeadSpec(kind="ordinal", depth=2, hidden=16), 512, 5)
    assert sum(p.numel() for p in deep.parameters()) == 512 * 16 + 16 + 2 * 32 + 16 * 16 + 16 + 16 + 4
    assert {m.p for m in [*flat, *deep] if isinstance(m, torch.nn.Dropout)} == {0.1}
    found = deep(torch.randn(1, 512))
    torch.testing.assert_close(found.softmax(dim=1), found.exp())
    found[0, 1].backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in deep.parameters())
    with pytest.raises(ValueError, match="head kind 'ordinal' gives no cosines"):
        build_head(HeadSpec(kind="ordinal", depth=0), 8, 5, cosine=True)
    with pytest.raises(ValueError, match="hidden and depth"):
        build_head(HeadSpec(kind="ordinal", depth=-1), 8, 5)
