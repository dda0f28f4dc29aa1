import os
import pickle
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor
from torchvision.models import mobilenet_v3_large, resnet50
from torchvision.models.segmentation import deeplabv3_mobilenet_v3_large

from common.config import UserError
from uav_landing.config import ModelConfig
from uav_landing.models.base import SegmentationModel
from uav_landing.models.build import build_model
from uav_landing.models.pretrained import load_pretrained

Shape = tuple[int, ...]
GATE_BIASES = [f"backbone.bga.{path}_dwconv.0.pointwise_conv.conv.bias" for path in ("detail", "semantic")]


def build(model_type: str, aux: bool = False, classes: int = 4) -> SegmentationModel:
    torch.manual_seed(0)
    return build_model(ModelConfig(model_type=model_type), classes, aux)


def fabricate(shapes: dict[str, Shape]) -> dict[str, Tensor]:
    """One number per tensor, from 2 on (no initial value), spread without taking memory."""
    return {name: torch.tensor(float(n)).expand(shape) for n, (name, shape) in enumerate(shapes.items(), 2)}


def snapshot(model: SegmentationModel) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def shapes_of(model: torch.nn.Module) -> dict[str, Shape]:
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def changed(model: SegmentationModel, before: dict[str, Tensor]) -> set[str]:
    return {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}


def test_the_public_bisenetv2_file_fills_all_but_the_classifiers(
    tmp_path: Path, public_file: dict[str, Shape]
) -> None:
    file = fabricate(public_file)
    torch.save({"meta": {"CLASSES": ("road", "sidewalk")}, "state_dict": file}, tmp_path / "public.pth")
    model = build("mmseg_bisenetv2", aux=True)
    before = snapshot(model)
    report = load_pretrained(model, tmp_path / "public.pth", 0.95)

    state = model.state_dict()
    loaded = {name for name in file if "conv_seg" not in name}
    assert set(report.loaded) == loaded
    assert all(state[name].float().eq(file[name]).all() for name in loaded)
    assert not any("conv_seg" in name for name in changed(model, before))
    assert len(report.reinitialised) == 10
    assert report.unexpected == ()
    assert report.coverage == 1
    assert "  backbone.detail: 48 loaded, 0 reinitialised, 0 unexpected" in report.lines
    assert "  decode_head: 6 loaded, 2 reinitialised, 0 unexpected" in report.lines


def test_biases_a_file_lacks_are_zero_and_said(tmp_path: Path, public_file: dict[str, Shape]) -> None:
    file = fabricate(public_file)
    for name in GATE_BIASES:
        del file[name]
    torch.save(file, tmp_path / "public.pth")
    model = build("mmseg_bisenetv2")
    with torch.no_grad():
        for name in GATE_BIASES:
            model.get_parameter(name).fill_(7.0)
    report = load_pretrained(model, tmp_path / "public.pth", 0.95)
    assert all(model.get_parameter(name).eq(0).all() for name in GATE_BIASES)
    assert all(name in report.lines[-1] for name in GATE_BIASES)
    assert report.coverage == pytest.approx(1 - 2 / (321 - 53))  # 53 batch counters do not count
    assert {name.split(".")[0] for name in report.unexpected} == {"auxiliary_head"}


def test_a_mobilenet_classifier_fills_the_backbone(tmp_path: Path) -> None:
    with torch.device("meta"):
        shapes = shapes_of(mobilenet_v3_large())
    file = fabricate(shapes)
    torch.save(file, tmp_path / "mobilenet.pth")
    model = build("lraspp_mobilenet_v3_large")
    before = snapshot(model)
    report = load_pretrained(model, tmp_path / "mobilenet.pth", 1.0)
    state = model.state_dict()
    assert state["backbone.0.0.weight"].eq(file["features.0.0.weight"]).all()
    assert all(name.startswith("backbone.") for name in changed(model, before))
    assert report.unexpected == ()
    assert "  classifier of the file: 4 tensors left out" in report.lines


def test_a_resnet_classifier_without_batch_counters_fills_the_backbone(tmp_path: Path) -> None:
    with torch.device("meta"):
        shapes = shapes_of(resnet50())
    file = {k: v for k, v in fabricate(shapes).items() if not k.endswith("num_batches_tracked")}
    torch.save(file, tmp_path / "resnet.pth")
    model = build("deeplabv3plus_resnet50")
    report = load_pretrained(model, tmp_path / "resnet.pth", 1.0)
    assert model.state_dict()["backbone.layer4.2.bn3.running_var"].eq(file["layer4.2.bn3.running_var"]).all()
    assert report.unexpected == ()
    assert any(name.startswith("aspp.") for name in report.reinitialised)


def test_a_segmenter_with_as_many_classes_leaves_the_classifiers_alone(tmp_path: Path) -> None:
    with torch.device("meta"):
        theirs = deeplabv3_mobilenet_v3_large(
            weights=None, weights_backbone=None, num_classes=4, aux_loss=True
        )
    torch.save({"model": fabricate(shapes_of(theirs))}, tmp_path / "deeplab.pth")
    model = build("deeplabv3_mobilenet_v3_large", aux=True)
    before = snapshot(model)
    report = load_pretrained(model, tmp_path / "deeplab.pth", 0.95)
    kept = {f"{head}.4.{entry}" for head in ("classifier", "aux_classifier") for entry in ("weight", "bias")}
    assert changed(model, before) == set(before) - kept
    assert set(report.reinitialised) == kept


def test_safetensors_of_another_number_of_classes(tmp_path: Path) -> None:
    source = build("compact", classes=4)
    torch.nn.init.constant_(source.get_parameter("decoder.refine.conv.weight"), 3.0)
    save_file(source.state_dict(), tmp_path / "compact.safetensors")
    model = build("compact", classes=3)
    report = load_pretrained(model, tmp_path / "compact.safetensors", 1.0)
    assert model.get_parameter("decoder.refine.conv.weight").eq(3).all()
    assert report.reinitialised == ("classifier.weight", "classifier.bias")


def test_names_of_a_parallel_wrapper_are_understood(tmp_path: Path) -> None:
    model = build("compact")
    file = {f"module.{name}": tensor for name, tensor in model.state_dict().items()}
    torch.save({"state_dict": file, "epoch": 3}, tmp_path / "wrapped.pth")
    assert load_pretrained(model, tmp_path / "wrapped.pth", 1.0).coverage == 1


def test_too_small_a_share_is_an_error_and_changes_nothing(tmp_path: Path) -> None:
    model = build("compact")
    file = snapshot(model)
    for name in list(file):
        if name.startswith("backbone.stage4"):
            file[f"other.{name}"] = file.pop(name)
    file["backbone.stem.conv.weight"] = torch.zeros(8, 3, 3, 3)
    torch.save(file, tmp_path / "half.pth")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(5.0)
    before = snapshot(model)
    with pytest.raises(UserError) as raised:
        load_pretrained(model, tmp_path / "half.pth", 0.95)
    assert changed(model, before) == set()

    message = str(raised.value)
    convs = 1 + 12 * 3  # stem and twelve inverted residuals; a weight and four BatchNorm tensors each
    assert f"fills {5 * (convs - 9) - 1} of {5 * convs} backbone tensors" in message
    assert "--pretrained-min-coverage 0.95" in message
    assert "backbone.stem.conv.weight: [8, 3, 3, 3] in the file, [16, 3, 3, 3] in the network" in message
    assert "backbone.stage4.0.layers.0.conv.weight [384, 96, 1, 1]: not in the file" in message
    assert sum(line.startswith("  backbone.") for line in message.splitlines()) == 10
    assert load_pretrained(model, tmp_path / "half.pth", 0.7).coverage == pytest.approx(139 / 185)


class Malicious:
    """Unpickled, it makes a folder."""

    def __init__(self, target: str) -> None:
        self.target = target

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.mkdir, (self.target,)


@pytest.mark.parametrize("legacy", [False, True])
def test_a_malicious_file_is_refused_and_not_executed(tmp_path: Path, legacy: bool) -> None:
    trap = tmp_path / "executed"
    content = {"backbone.stem.conv.weight": torch.zeros(1), "meta": Malicious(str(trap))}
    if legacy:
        (tmp_path / "evil.pth").write_bytes(pickle.dumps(content, protocol=2))
    else:
        torch.save(content, tmp_path / "evil.pth")
    with pytest.raises(UserError, match="refused"):
        load_pretrained(build("compact"), tmp_path / "evil.pth", 0.0)
    assert not trap.exists()


def test_unreadable_files_are_named(tmp_path: Path) -> None:
    model = build("compact")
    with pytest.raises(UserError, match=r"no file at .*absent\.pth"):
        load_pretrained(model, tmp_path / "absent.pth", 0.95)
    for name, content in {
        "cut.pth": b"PK\x03\x04 cut off",
        "empty.pth": b"",
        "text.pth": b"not weights",
        "text.safetensors": b"not weights either",
    }.items():
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=name):
            load_pretrained(model, tmp_path / name, 0.95)
    torch.save({"lr": 0.1}, tmp_path / "settings.pth")
    with pytest.raises(UserError, match="no named tensors"):
        load_pretrained(model, tmp_path / "settings.pth", 0.95)
