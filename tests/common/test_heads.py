import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from common.heads import CosineClassifier


@pytest.mark.parametrize("trailing", [(), (7,), (3, 4)])
def test_outputs_are_cosines(trailing: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    head, features = CosineClassifier(5, 3).double(), torch.randn(2, 5, *trailing, dtype=torch.float64)
    found = head(features)
    assert found.shape == (2, 3, *trailing)
    for row, direction in enumerate(head.weight):
        shape = (1, -1, *[1] * len(trailing))
        expected = F.cosine_similarity(features, direction.view(shape).expand_as(features), dim=1)
        torch.testing.assert_close(found[:, row], expected)
    torch.testing.assert_close(head(features * 1e6), found)
    assert head.output == CosineClassifier.output == "cosine"


def test_weights_start_as_those_of_a_linear_layer_without_bias() -> None:
    torch.manual_seed(3)
    linear = nn.Linear(16, 4, bias=False)
    torch.manual_seed(3)
    head = CosineClassifier(16, 4)
    assert torch.equal(head.weight, linear.weight)
    assert sum(p.numel() for p in head.parameters()) == 64
    assert head.weight.abs().max() <= 1 / math.sqrt(16)
    assert "in_features=16, num_classes=4" in repr(head)


def test_a_feature_of_zeros_gives_zero_and_no_gradient() -> None:
    head, features = CosineClassifier(4, 3), torch.zeros(2, 4)
    features[1] = torch.tensor([1.0, 2, 0, 0])
    features.requires_grad_()
    cosines = head(features)
    cosines.square().sum().backward()
    head(features)[0].sum().backward()
    assert not cosines[0].any()
    assert not features.grad[0].any()
    assert features.grad[1].any()
    assert head.weight.grad.isfinite().all()


def test_gradients() -> None:
    torch.manual_seed(0)
    head = CosineClassifier(4, 3).double()
    torch.autograd.gradcheck(head, torch.randn(2, 4, 3, dtype=torch.float64, requires_grad=True))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_computed_in_float32(dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    head, features = CosineClassifier(8, 3), torch.randn(6, 8)
    expected = head(features)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = head(features)
    assert inside.dtype == torch.float32
    torch.testing.assert_close(inside, expected)
    half = head(features.to(dtype))
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, head(features.to(dtype).float()))
    assert head(torch.full((1, 8), 6e4).to(dtype)).isfinite().all()
    assert half.abs().max() <= 1


def test_shapes_are_checked_and_known_without_data() -> None:
    with pytest.raises(ValueError, match=r"\[B, 4, \*\] is expected"):
        CosineClassifier(4, 3)(torch.zeros(2, 5))
    with pytest.raises(ValueError, match="at least 1"):
        CosineClassifier(4, 0)
    assert CosineClassifier(4, 3).to("meta")(torch.zeros(2, 4, 9, device="meta")).shape == (2, 3, 9)
