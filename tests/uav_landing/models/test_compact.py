import pytest
import torch
from torch import nn

from uav_landing.models.compact import CompactSegmenter, InvertedResidual, scaled_widths

PARTS = {
    "backbone.stem": 464,
    "backbone.stage1": 9_344,
    "backbone.stage2": 50_304,
    "backbone.stage3": 267_072,
    "backbone.stage4": 367_232,
    "decoder.context": 12_480,
    "decoder.context_gate": 12_384,
    "decoder.lateral_sixteenth": 9_312,
    "decoder.lateral_eighth": 2_352,
    "decoder.fuse": 41_568,
}


def size(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_parameters_per_part() -> None:
    model = CompactSegmenter(num_classes=4)
    assert {name: size(model.get_submodule(name)) for name in PARTS} == PARTS
    assert size(model.decoder.refine) + size(model.classifier) == 21_028


def test_the_multiplier_scales_the_stages_and_not_the_decoder() -> None:
    model = CompactSegmenter(num_classes=4, width_multiplier=1.5)
    assert size(model) == 1_644_748
    assert scaled_widths(1.0) == (16, 24, 48, 96, 128)


@pytest.mark.parametrize("shape", [(64, 64), (32, 96), (72, 104)])
def test_maps_lie_at_an_eighth_sixteenth_and_thirty_second(shape: tuple[int, int]) -> None:
    model = CompactSegmenter(num_classes=3, width_multiplier=0.25).eval()
    image = torch.zeros(1, 3, *shape)
    for features, stride in zip(model.backbone(image), (8, 16, 32)):
        assert features.shape[-2:] == tuple(-(-side // stride) for side in shape)
    assert model(image).logits.shape == (1, 3, *shape)


def test_the_residual_is_added_only_where_shapes_agree() -> None:
    x = torch.randn(2, 8, 4, 4)
    for block, expected in (
        (InvertedResidual(8, 8, stride=1), x),
        (InvertedResidual(8, 8, stride=2), torch.zeros(2, 8, 2, 2)),
        (InvertedResidual(8, 4, stride=1), torch.zeros(2, 4, 4, 4)),
    ):
        nn.init.zeros_(block.layers[-1].bn.weight)
        torch.testing.assert_close(block(x), expected)


def test_the_global_mean_reaches_every_pixel() -> None:
    """A change at one end moves the logits at the other, further away than the convolutions reach."""
    torch.manual_seed(0)
    model = CompactSegmenter(num_classes=3, width_multiplier=0.5).eval()
    image = torch.randn(1, 3, 64, 2048)
    changed = image.clone()
    changed[..., :32] = 3.0
    with torch.no_grad():
        difference = (model(image).logits - model(changed).logits).abs()
        nn.init.zeros_(model.decoder.context_gate.weight)
        without_mean = (model(image).logits - model(changed).logits).abs()
    assert difference[..., -32:].max() > 0
    assert without_mean[..., -32:].max() == 0
