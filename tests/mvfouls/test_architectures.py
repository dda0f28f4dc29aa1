import subprocess
import sys

import pytest
import torch
from mv_tiny_backbone import bare_backbone

from common.config import UserError
from mvfouls.architectures import ARCHITECTURES, BACKBONES, WEIGHTS_CLASSES, architecture
from mvfouls.backbones import build_backbone


def test_needs_no_torch() -> None:
    code = "import sys, mvfouls.architectures; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize(
    ("name", "count", "dim"),
    [
        ("resnet3d_18", 33_166_272, 512),
        ("mc3_18", 11_490_240, 512),
        ("r2plus1d_18", 31_300_125, 512),
        ("resnet3d_50", 46_161_344, 2048),
        ("s3d", 7_910_048, 1024),
        ("mvit_v1_b", 36_303_072, 768),
        ("mvit_v2_s", 34_230_144, 768),
        ("mvitv2_b", 50_922_528, 768),
        ("swin3d_t", 27_850_470, 768),
        ("swin3d_s", 49_509_078, 768),
        ("swin3d_b", 87_638_984, 1024),
    ],
)
def test_every_name_builds_its_own_network(name: str, count: int, dim: int) -> None:
    backbone = bare_backbone(name)
    assert sum(parameter.numel() for parameter in backbone.parameters()) == count
    assert backbone.dim == dim
    assert tuple(block.name for block in backbone.blocks()) == BACKBONES[name].blocks


def test_mvitv2_b_at_16_frames() -> None:
    with torch.device("meta"):
        backbone = build_backbone("mvitv2_b", frames=16)
    assert sum(parameter.numel() for parameter in backbone.parameters()) == 50_885_664


def test_aliases() -> None:
    assert set(ARCHITECTURES.values()) <= set(BACKBONES)
    assert {alias for alias, name in ARCHITECTURES.items() if name == "mvit_v2_s"} == {
        "mvit", "mvitv2_s", "mvitv2_small", "mvit_v2_s"
    }  # fmt: skip
    assert {alias for alias, name in ARCHITECTURES.items() if name == "mvitv2_b"} == {
        "mvitv2_b", "mvitv2", "mvitv2_base", "true-mvitv2b", "pyslowfast", *WEIGHTS_CLASSES
    }  # fmt: skip
    assert ARCHITECTURES["swin"] == "swin3d_t"
    assert WEIGHTS_CLASSES == {"k400": 400, "kinetics400": 400, "k600": 600, "kinetics600": 600}


@pytest.mark.parametrize(
    ("name", "frames", "height", "width", "flag"),
    [
        ("s3d", 13, 224, 398, "--frames_per_clip"),
        ("mvit_v1_b", 32, 224, 224, "--frames_per_clip"),
        ("mvit_v2_s", 8, 224, 224, "--frames_per_clip"),
        ("mvitv2_b", 15, 224, 224, "--frames_per_clip"),
        ("mvitv2_b", 32, 224, 398, "--img_width"),
        ("r2plus1d_18", 16, 220, 398, "--img_height"),
        ("r2plus1d_18", 16, 56, 398, "--img_height"),
        ("r2plus1d_18", 16, 224, 63, "--img_width"),
        ("swin3d_t", 0, 224, 224, "--frames_per_clip"),
        ("swin3d_t", 16, 60, 224, "--img_height"),
    ],
)
def test_refuses_clips_it_cannot_take(name: str, frames: int, height: int, width: int, flag: str) -> None:
    with pytest.raises(UserError, match=flag):
        architecture(name).check_input(frames, height, width)


@pytest.mark.parametrize("name", BACKBONES)
def test_takes_its_own_size(name: str) -> None:
    known = architecture(name)
    known.check_input(known.frames, *known.default_size)
    assert known.default_size == ((224, 398) if known.blocks[0] == "layer4" else (224, 224))


def test_unknown_name_lists_the_known() -> None:
    with pytest.raises(UserError, match="r2plus1d_18"):
        architecture("resnet50")
