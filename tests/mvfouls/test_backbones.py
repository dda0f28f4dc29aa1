import pytest
import torch
from mv_tiny_backbone import DIM, bare_backbone, tiny_backbone, tiny_mvit
from torch import Tensor, nn
from torchvision.ops import StochasticDepth

from common.freezing.blocks import check_blocks
from mvfouls.architectures import BACKBONES
from mvfouls.backbones import ConvBackbone, VideoBackbone, build_backbone


@pytest.mark.parametrize(
    ("name", "frames", "shape"),
    [
        ("mc3_18", 8, (1, 512)),
        ("r2plus1d_18", 8, (1, 512)),
        ("resnet3d_50", 8, (1, 2048)),
        ("s3d", 14, (1, 1024)),
        ("swin3d_t", 8, (1, 768)),
    ],
)
def test_features_are_those_before_torchvisions_classifier(
    name: str, frames: int, shape: tuple[int, int]
) -> None:
    torch.manual_seed(0)
    backbone = build_backbone(name, frames=frames).eval()
    clips = torch.randn(1, 3, frames, 64, 64)
    with torch.inference_mode():
        features = backbone(clips)
        reference = backbone.network(clips)
    assert features.shape == shape
    torch.testing.assert_close(features, reference)


@pytest.mark.parametrize("relative", [True, False])
def test_mvit_features_are_torchvisions(relative: bool) -> None:
    torch.manual_seed(0)
    backbone = tiny_mvit(relative=relative).eval()
    clips = torch.randn(2, 3, 4, 32, 32)
    torch.testing.assert_close(backbone(clips), backbone.network(clips))


def test_r2plus1d_blocks() -> None:
    backbone = bare_backbone("r2plus1d_18")
    parameters = dict(backbone.named_parameters())
    sizes = {b.name: sum(parameters[name].numel() for name in b.parameters) for b in backbone.blocks()}
    assert sizes == {
        "layer4": 23_495_524, "layer3": 5_874_736, "layer2": 1_470_360, "layer1": 444_032, "stem": 15_473
    }  # fmt: skip
    assert [part.name for part in backbone.blocks()[0].parts] == ["layer4.1", "layer4.0"]
    assert backbone.blocks("backbone.")[0].parts[0].modules[0] == "backbone.network.layer4.1"


@pytest.mark.parametrize("name", BACKBONES)
def test_blocks_hold_every_parameter_and_everything_with_a_mode(name: str) -> None:
    backbone = bare_backbone(name)
    modules = dict(backbone.named_modules())
    blocks = backbone.blocks()
    parameters = [name for name, _ in backbone.named_parameters()]
    check_blocks(blocks, parameters, modules)
    assert sorted(name for block in blocks for name in block.parameters) == sorted(parameters)
    moody = (nn.BatchNorm3d, nn.Dropout, StochasticDepth)
    of_blocks = [name for block in blocks for name in block.modules if isinstance(modules[name], moody)]
    assert sorted(of_blocks) == sorted(name for name, m in modules.items() if isinstance(m, moody))


@pytest.mark.parametrize(
    ("name", "block", "inside"),
    [
        ("swin3d_t", "stage_0", "network.features.1.reduction.weight"),
        ("swin3d_t", "stage_3", "network.norm.weight"),
        ("mvit_v2_s", "patch_embed", "network.pos_encoding.class_token"),
        ("mvit_v2_s", "stage_1", "network.blocks.2.norm1.weight"),
        ("mvit_v2_s", "stage_3", "network.blocks.14.norm1.weight"),
        ("mvitv2_b", "stage_0", "network.blocks.1.norm1.weight"),
        ("mvitv2_b", "stage_1", "network.blocks.4.norm1.weight"),
        ("mvitv2_b", "stage_2", "network.blocks.20.norm1.weight"),
        ("mvitv2_b", "stage_3", "network.norm.weight"),
        ("s3d", "layer3", "network.features.12.branch0.0.weight"),
        ("s3d", "layer2", "network.features.6.branch0.0.weight"),
        ("s3d", "layer1", "network.features.2.0.weight"),
    ],
)
def test_parameters_lie_in_their_block(name: str, block: str, inside: str) -> None:
    backbone = bare_backbone(name)
    assert [b.name for b in backbone.blocks() if inside in b.parameters] == [block]


def test_part_nearest_the_heads_comes_first() -> None:
    stage = bare_backbone("mvit_v2_s").blocks()[0]
    assert [part.name for part in stage.parts] == ["stage_3.1", "stage_3.0"]
    assert "network.norm.weight" in stage.parts[0].parameters
    assert "network.blocks.14.norm1.weight" in stage.parts[1].parameters


def test_a_backbone_says_how_it_computes() -> None:
    with pytest.raises(TypeError, match="abstract"):
        VideoBackbone(nn.Identity(), dim=4, layout={})  # type: ignore[abstract]


def test_a_stray_parameter_is_refused() -> None:
    net = nn.Sequential(nn.Conv3d(3, 4, 1), nn.Conv3d(4, 4, 1))
    with pytest.raises(AssertionError, match=r"1\.weight"):
        ConvBackbone(net, dim=4, layout={"stem": [("0",)]}, steps=("0", "1"))


@pytest.mark.parametrize("make", [tiny_backbone, tiny_mvit])
@pytest.mark.parametrize("frozen", [(), ("stem", "conv_proj"), ("layer3", "blocks.2")])
def test_checkpointing_changes_neither_gradients_nor_statistics(make: type, frozen: tuple[str, ...]) -> None:
    clips = torch.randn(2, 3, 4, 32, 32)
    plain, saved = (_after_a_step(make, clips, frozen, checkpointing=on) for on in (False, True))
    assert plain.keys() == saved.keys()
    for name, values in plain.items():
        torch.testing.assert_close(saved[name], values, atol=1e-6, rtol=1e-6, msg=name)


def _after_a_step(
    make: type, clips: Tensor, frozen: tuple[str, ...], *, checkpointing: bool
) -> dict[str, Tensor]:
    torch.manual_seed(1)
    backbone: VideoBackbone = make(checkpointing=checkpointing)
    for name, parameter in backbone.named_parameters():
        parameter.requires_grad_(not any(part in name for part in frozen))
    features = backbone(clips)
    features.square().sum().backward()
    gradients = {f"grad {name}": p.grad for name, p in backbone.named_parameters() if p.grad is not None}
    assert len(gradients) > 10
    return {"features": features.detach(), **gradients, **dict(backbone.named_buffers())}


def test_checkpointing_keeps_less() -> None:
    kept = []
    for on in (False, True):
        total = [0]

        def count(tensor: Tensor, total: list[int] = total) -> Tensor:
            total[0] += tensor.numel()
            return tensor

        backbone = tiny_backbone(checkpointing=on)
        with torch.autograd.graph.saved_tensors_hooks(count, lambda tensor: tensor):
            backbone(torch.randn(1, 3, 4, 32, 32)).sum()
        kept.append(total[0])
    assert kept[1] < 0.5 * kept[0]


@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_frozen_backbone_makes_no_graph(checkpointing: bool) -> None:
    backbone = tiny_backbone(checkpointing=checkpointing).requires_grad_(False)
    assert not backbone(torch.randn(1, 3, 4, 32, 32)).requires_grad


def test_one_clip_is_enough() -> None:
    features = tiny_backbone().train()(torch.randn(1, 3, 1, 64, 64))
    assert features.shape == (1, DIM)
    assert features.isfinite().all()
