from typing import Any

import pytest
import torch

from common.heads import CosineClassifier
from mvfouls.heads import ChannelGate, build_head
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
