import torch
from torch import Tensor, nn
from torch.nn import functional as F

from uav_landing.models.bisenetv2 import BiSeNetV2, GatherExpansionDown, GuidedAggregation

PARTS = {
    "backbone.detail": 519_232,
    "backbone.semantic.stage1": 6_432,
    "backbone.semantic.stage2": 25_936,
    "backbone.semantic.stage3": 94_368,
    "backbone.semantic.stage4": 868_160,
    "backbone.semantic.stage4_CEBlock": 164_608,
    "backbone.bga": 478_976,
    "backbone": 2_157_712,
    "decode_head": 1_185_796,
    "auxiliary_head.0": 4_740,
    "auxiliary_head.1": 55_812,
    "auxiliary_head.2": 739_332,
    "auxiliary_head.3": 10_625_028,
}


def meta_model() -> BiSeNetV2:
    with torch.device("meta"):
        return BiSeNetV2(num_classes=4, aux=True)


def test_parameters_per_part() -> None:
    model = meta_model()
    sizes = {name: sum(p.numel() for p in model.get_submodule(name).parameters()) for name in PARTS}
    assert sizes == PARTS
    assert len(list(model.backbone.parameters())) == 162
    assert len(model.backbone.state_dict()) == 321


def test_tensors_have_the_names_and_shapes_of_the_public_file(public_backbone: dict[str, object]) -> None:
    shapes = {f"backbone.{name}": tuple(t.shape) for name, t in meta_model().backbone.state_dict().items()}
    assert shapes == public_backbone


def test_auxiliary_heads_do_not_exist_unless_asked_for() -> None:
    with torch.device("meta"):
        model = BiSeNetV2(num_classes=4, aux=False)
    assert not [name for name in model.state_dict() if "auxiliary" in name]
    assert model.train()(torch.zeros(2, 3, 64, 64, device="meta")).aux == ()


def test_strides_of_the_stages() -> None:
    fused, stages = meta_model().backbone(torch.zeros(2, 3, 128, 256, device="meta"))
    assert fused.shape == (2, 128, 16, 32)
    expected = [(2, 16, 32, 64), (2, 32, 16, 32), (2, 64, 8, 16), (2, 128, 4, 8)]
    assert [tuple(stage.shape) for stage in stages] == expected


def test_aggregation_is_the_published_formula() -> None:
    """A * sigmoid(up C) + up(B * sigmoid D), with each of the four paths replaced by a constant."""
    layer = GuidedAggregation(1)
    paths = {"detail_dwconv": 2.0, "detail_down": 3.0, "semantic_conv": 0.5, "semantic_dwconv": -1.0}
    for name, value in paths.items():
        setattr(layer, name, Constant(value, size=(2, 2) if name == "detail_down" else None))
    layer.conv = nn.Identity()  # type: ignore[assignment]
    fused = layer(torch.zeros(1, 1, 8, 8), torch.zeros(1, 1, 2, 2))
    half, minus_one = torch.tensor([0.5, -1.0]).sigmoid()
    torch.testing.assert_close(fused, torch.full((1, 1, 8, 8), float(2 * half + 3 * minus_one)))


def test_expansion_at_stride_two_adds_its_shortcut() -> None:
    torch.manual_seed(0)
    layer = GatherExpansionDown(4, 8).eval()
    nn.init.zeros_(layer.get_parameter("conv2.0.bn.weight"))
    x = torch.randn(1, 4, 6, 6)
    torch.testing.assert_close(layer(x), F.relu(layer.shortcut(x)))


class Constant(nn.Module):
    def __init__(self, value: float, size: tuple[int, int] | None) -> None:
        super().__init__()
        self.value, self.size = value, size

    def forward(self, x: Tensor) -> Tensor:
        return torch.full((*x.shape[:2], *(self.size or x.shape[-2:])), self.value)
