from pathlib import Path

import pytest
import torch
from mv_tiny_backbone import bare_backbone, tiny_backbone
from torch import Tensor
from torchvision.models import video

from common.config import UserError
from mvfouls.architectures import BACKBONES
from mvfouls.weights import (
    check_head,
    find_weights,
    fit_tensors,
    from_pyslowfast,
    head_classes,
    load_weights,
    read_weights,
)

NAME = "r2plus1d_18"


@pytest.fixture
def tensors() -> dict[str, Tensor]:
    """What a file for the tiny network holds, with a classifier of 400."""
    return {
        **tiny_backbone().network.state_dict(),
        "fc.weight": torch.ones(400, 16),
        "fc.bias": torch.ones(400),
    }


@pytest.fixture(autouse=True)
def torch_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    return tmp_path / "torch"


@pytest.mark.parametrize("name", ["mc3_18", "s3d", "mvit_v1_b", "swin3d_t"])
def test_torchvisions_names_fit_and_the_classifier_is_left_out(name: str) -> None:
    with torch.device("meta"):
        tensors = getattr(video, name)(weights=None).state_dict()
    backbone = bare_backbone(name)
    assert head_classes(tensors, BACKBONES[name]) == 400
    assert fit_tensors(tensors, backbone, name).keys() == backbone.network.state_dict().keys()


def test_loads_every_tensor(tmp_path: Path, tensors: dict[str, Tensor]) -> None:
    torch.save(
        {"state_dict": {f"module.{name}": value for name, value in tensors.items()}}, tmp_path / "w.pth"
    )
    backbone = tiny_backbone()
    load_weights(backbone, NAME, tmp_path / "w.pth", classes=400)
    for name, value in backbone.network.state_dict().items():
        assert torch.equal(value, tensors[name]), name


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"stem.0.weight": None}, "stem.0.weight is missing"),
        ({"layer5.0.weight": torch.ones(2)}, "layer5.0.weight fits nothing"),
        ({"stem.1.bias": torch.ones(7)}, r"stem.1.bias is \[7\] in the file, \[4\]"),
        ({"fc.weight": torch.ones(600, 16)}, "600 classes, 400 classes are expected"),
        ({"fc.weight": None}, "no classifier"),
    ],
)
def test_a_file_that_does_not_fit_changes_nothing(
    tmp_path: Path, tensors: dict[str, Tensor], change: dict[str, Tensor | None], message: str
) -> None:
    changed = {name: value for name, value in (tensors | change).items() if value is not None}
    torch.save(changed, tmp_path / "w.pth")
    backbone = tiny_backbone()
    before = {name: value.clone() for name, value in backbone.state_dict().items()}
    with pytest.raises(UserError, match=message):
        load_weights(backbone, NAME, tmp_path / "w.pth", classes=400)
    assert all(torch.equal(value, before[name]) for name, value in backbone.state_dict().items())


def test_counters_of_batches_may_be_absent(tensors: dict[str, Tensor]) -> None:
    old = {name: value for name, value in tensors.items() if not name.endswith("num_batches_tracked")}
    assert len(fit_tensors(old, tiny_backbone(), NAME)) == len(tensors) - 2


def test_long_lists_are_cut() -> None:
    with pytest.raises(UserError, match=r"and \d+ more"):
        fit_tensors({}, tiny_backbone(), NAME)


def test_check_head_without_classifier(tensors: dict[str, Tensor]) -> None:
    check_head(tensors, BACKBONES[NAME], 400)
    with pytest.raises(UserError, match="no classifier"):
        check_head({}, BACKBONES[NAME], 400)


def test_none_is_no_file(tmp_path: Path) -> None:
    assert find_weights(NAME, "none", tmp_path) is None


def test_auto_looks_in_the_folder_and_then_in_torchs_cache(tmp_path: Path, torch_home: Path) -> None:
    with pytest.raises(UserError, match=r"r2plus1d_18-91a641e6\.pth.*nothing is downloaded"):
        find_weights(NAME, "auto", tmp_path)
    cached = torch_home / "hub" / "checkpoints" / "r2plus1d_18-91a641e6.pth"
    cached.parent.mkdir(parents=True)
    cached.touch()
    assert find_weights(NAME, "auto", tmp_path) == cached
    (tmp_path / cached.name).touch()
    assert find_weights(NAME, "auto", tmp_path) == tmp_path / cached.name


def test_auto_without_published_file(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="give a file"):
        find_weights("mvitv2_b", "auto", tmp_path)


def test_a_path_must_exist(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="absent"):
        find_weights(NAME, str(tmp_path / "absent.pth"), tmp_path)


def test_reads_pyslowfast_files(tmp_path: Path) -> None:
    state = {"cls_token": torch.ones(1, 1, 4), "patch_embed.proj.weight": torch.ones(4, 3, 1, 1, 1)}
    torch.save({"epoch": 200, "model_state": state, "cfg": "text"}, tmp_path / "k400.pyth")
    read = read_weights(tmp_path / "k400.pyth")
    assert {name: list(value.shape) for name, value in read.items()} == {
        "pos_encoding.class_token": [4],
        "conv_proj.weight": [4, 3, 1, 1, 1],
    }
    torch.save({"model_state": state | {"pos_embed": torch.ones(2)}}, tmp_path / "other.pyth")
    with pytest.raises(UserError, match="pos_embed"):
        read_weights(tmp_path / "other.pyth")


def test_names_without_counterpart_are_listed() -> None:
    one = torch.ones(1)
    found = from_pyslowfast({"blocks.3.attn.q.weight": one, "norm.bias": one, "blocks.3.attn.proj.bias": one})
    assert found.unknown == ("blocks.3.attn.q.weight",)
    assert set(found.tensors) == {"norm.bias", "blocks.3.attn.project.0.bias"}
