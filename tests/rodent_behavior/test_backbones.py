"""Backbones: sizes of the literature, weights that fit or an error, and blocks that really open."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from common.config import UserError
from rodent_behavior import backbones
from rodent_behavior.backbones import Backbone, build_backbone


def built(name: str = "tiny_cnn", **settings: object) -> Backbone:
    torch.manual_seed(0)
    backbone = build_backbone(name, **settings)  # type: ignore[arg-type]
    assert backbone is not None
    return backbone


def size(backbone: nn.Module, names: tuple[str, ...] | None = None) -> int:
    parameters = dict(backbone.named_parameters())
    return sum(parameters[name].numel() for name in (parameters if names is None else names))


@pytest.fixture(scope="module")
def resnet() -> Iterator[dict[str, torch.Tensor]]:
    from torchvision.models import resnet18

    torch.manual_seed(1)
    return resnet18(weights=None).state_dict()


@pytest.mark.parametrize(
    ("name", "dim", "parameters", "blocks"),
    [
        ("tiny_cnn", 128, 97_920, [74_112, 18_624, 4_704, 480]),
        ("resnet18", 512, 11_176_512, [8_393_728, 2_099_712, 525_568, 147_968, 9_536]),
        ("resnet50", 2048, 23_508_032, [14_964_736, 7_098_368, 1_219_584, 215_808, 9_536]),
    ],
)
def test_sizes_and_blocks(name: str, dim: int, parameters: int, blocks: list[int]) -> None:
    with torch.device("meta"):
        backbone = built(name, random=name != "tiny_cnn")
        assert backbone(torch.rand(2, 3, 32, 32)).shape == (2, dim)
    assert (backbone.dim, size(backbone)) == (dim, parameters)
    assert [size(backbone, block.parameters) for block in backbone.blocks] == blocks


@pytest.mark.parametrize(
    ("name", "dim", "parameters", "first", "four"),
    [
        ("vit_small_patch14_dinov2.lvd142m", 384, 21_628_800, 1_775_232 + 768, 7_101_696),
        ("vit_small_patch16_224.augreg_in21k", 384, 21_665_664, 1_774_464 + 768, 7_098_624),
    ],
)
def test_transformers(name: str, dim: int, parameters: int, first: int, four: int) -> None:
    pytest.importorskip("timm")
    backbone = built(name, random=True)
    assert (backbone.dim, size(backbone), len(backbone.blocks)) == (dim, parameters, 13)
    assert size(backbone, backbone.blocks[0].parameters) == first
    assert size(backbone, backbone.unfreeze(4)) == four
    assert backbone(torch.rand(1, 3, 224, 224)).shape == (1, dim)


def test_none_is_no_network() -> None:
    assert build_backbone("none") is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"name": "resnet19"}, "--backbone resnet19: one of none, tiny_cnn"),
        ({"name": "none", "weights": "a.pt"}, "--backbone_weights with --backbone none"),
        ({"name": "resnet18"}, "resnet18 needs --backbone_weights FILE; nothing is downloaded"),
        ({"name": "resnet18", "weights": "absent.pt"}, "no file at absent.pt"),
        ({"name": "tiny_cnn", "weights": "a.pt", "random": True}, "exclude each other"),
        (
            {"name": "vit_small_patch14_dinov2.lvd142m", "random": True, "img_size": 225},
            "--img_size 225: .* multiple of its patch, 14",
        ),
    ],
)
def test_requests_that_cannot_be(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(UserError, match=message):
        build_backbone(**arguments)  # type: ignore[arg-type]


def test_transformers_without_their_package(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(UserError, match=r"needs timm: pip install 'rodent_behavior\[timm\]'"):
        build_backbone("vit_small_patch16_224.augreg_in21k", random=True)


@pytest.mark.parametrize("form", ["pth", "wrapped", "safetensors"])
def test_weights_of_an_image_classifier_are_loaded(
    tmp_path: Path, resnet: dict[str, torch.Tensor], form: str
) -> None:
    path = tmp_path / ("weights.safetensors" if form == "safetensors" else "weights.pth")
    if form == "safetensors":
        save_file(resnet, path)
    elif form == "wrapped":
        old = {f"module.{name}": value for name, value in resnet.items() if "num_batches" not in name}
        torch.save({"epoch": 3, "state_dict": old}, path)
    else:
        torch.save(resnet, path)
    backbone = built("resnet18", weights=path)
    assert backbone.weights == path
    assert torch.equal(backbone.network.get_parameter("conv1.weight"), resnet["conv1.weight"])
    assert backbone.digest() == built("resnet18", weights=path).digest()
    assert backbone.digest() != built("resnet18", random=True).digest()


def test_weights_that_do_not_fit_are_named(tmp_path: Path, resnet: dict[str, torch.Tensor]) -> None:
    path = tmp_path / "weights.pth"
    for change, message in [
        ({"conv1.weight": torch.zeros(64, 1, 7, 7)}, r"conv1.weight is \[64, 1, 7, 7\] in the file"),
        ({"conv1.weight": None}, "conv1.weight is not in the file"),
        ({"extra": torch.zeros(1)}, "extra fits nothing"),
    ]:
        state = {name: value for name, value in {**resnet, **change}.items() if value is not None}
        torch.save(state, path)
        with pytest.raises(UserError, match=f"weights.pth does not fit resnet18: .*{message}"):
            build_backbone("resnet18", weights=path)
    for content, message in [(b"", "cannot read"), (b"not weights", "cannot read")]:
        path.write_bytes(content)
        with pytest.raises(UserError, match=message):
            build_backbone("resnet18", weights=path)
    torch.save([1, 2], path)
    with pytest.raises(UserError, match="holds no named tensors"):
        build_backbone("resnet18", weights=path)


def test_input_is_normalised_inside() -> None:
    backbone = built()
    frames = torch.rand(3, 3, 32, 32)
    expected = backbone.network((frames - 0.5) / 0.5)
    torch.testing.assert_close(backbone(frames), expected)
    imagenet = built("resnet18", random=True)
    mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
    expected = imagenet.network((frames - mean[:, None, None]) / std[:, None, None])
    torch.testing.assert_close(imagenet(frames), expected)


def test_features_differ_between_frames_and_not_with_their_companions() -> None:
    backbone = built()
    frames = torch.rand(70, 3, 16, 16)
    features = backbone(frames)
    assert len(features.unique(dim=0)) == 70
    torch.testing.assert_close(backbone(frames[66:67])[0], features[66])


@pytest.mark.parametrize("name", ["tiny_cnn", "resnet18"])
def test_blocks_open_from_the_last_and_only_they_learn(name: str) -> None:
    backbone = built(name, random=name != "tiny_cnn").train()
    assert not any(parameter.requires_grad for parameter in backbone.parameters())
    assert not backbone(torch.rand(1, 3, 32, 32)).requires_grad
    opened = backbone.unfreeze(2)
    assert opened == backbone.blocks[0].parameters + backbone.blocks[1].parameters
    assert backbone.unfreeze(2) == ()
    assert backbone.unfreeze(3) == backbone.blocks[2].parameters
    backbone(torch.rand(2, 3, 32, 32)).square().sum().backward()
    learned = {key for key, value in backbone.named_parameters() if value.grad is not None}
    assert learned == {key for block in backbone.blocks[:3] for key in block.parameters}
    assert all(dict(backbone.named_parameters())[key].grad.abs().sum() > 0 for key in opened)
    with pytest.raises(UserError, match=f"--unfreeze_blocks 9: {name} has"):
        backbone.unfreeze(9)


def test_recomputed_chunks_give_the_gradients_of_one_pass() -> None:
    backbone = built()
    backbone.unfreeze(4)
    frames = torch.rand(80, 3, 16, 16)
    backbone(frames).square().sum().backward()
    gradients = [parameter.grad.clone() for parameter in backbone.parameters()]
    backbone.zero_grad()
    backbone.network((frames - 0.5) / 0.5).square().sum().backward()
    for gradient, parameter in zip(gradients, backbone.parameters(), strict=True):
        torch.testing.assert_close(gradient, parameter.grad, rtol=1e-4, atol=1e-4)


def test_only_open_blocks_train_and_batch_norm_never_does() -> None:
    backbone = built("resnet18", random=True)
    before = backbone.network.get_buffer("layer4.0.bn1.running_mean").clone()
    backbone.unfreeze(1)
    backbone.train()
    backbone(torch.rand(2, 3, 32, 32)).sum().backward()
    assert torch.equal(backbone.network.get_buffer("layer4.0.bn1.running_mean"), before)
    training = {name for name, module in backbone.network.named_modules() if module.training}
    assert training
    assert all(name.startswith("layer4") and "bn" not in name for name in training)
    assert not any(module.training for module in backbone.eval().modules())


def test_a_block_list_that_misses_a_parameter_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = backbones._plan("tiny_cnn", 224)
    for blocks in ([("a", ("1.",))], [("a", ("1.", "2.", "3.", "4.")), ("b", ("9.",))]):
        with pytest.raises(ValueError, match="blocks without parameters"):
            Backbone("tiny_cnn", plan._replace(blocks=blocks), None)
