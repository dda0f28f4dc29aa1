import pytest
import torch
from mv_slowfast_oracle import features, slowfast_name

from mvfouls.backbones import mvit_backbone
from mvfouls.mvitv2 import STAGE_STARTS, block_settings, mvitv2_b
from mvfouls.weights import from_pyslowfast


def test_block_settings() -> None:
    settings = block_settings()
    assert [s.output_channels for s in settings] == [96] * 2 + [192] * 3 + [384] * 16 + [768] * 3
    assert [s.num_heads for s in settings] == [1] * 2 + [2] * 3 + [4] * 16 + [8] * 3
    assert [s.stride_kv[1] for s in settings] == [8] * 2 + [4] * 3 + [2] * 16 + [1] * 3
    assert [k for k, s in enumerate(settings) if s.stride_q == [1, 2, 2]] == [2, 5, 21]


def test_head_and_stochastic_depth() -> None:
    with torch.device("meta"):
        network = mvitv2_b()
    assert sum(parameter.numel() for parameter in network.parameters()) == 51_230_128
    depths = [block.stochastic_depth.p for block in network.blocks]
    assert (depths[0], depths[-1]) == (0, pytest.approx(0.3))


def test_published_layout_gives_the_published_features() -> None:
    generator = torch.Generator().manual_seed(0)
    with torch.device("meta"):
        network = mvitv2_b(frames=4, side=32)
    theirs = {}
    for name, value in network.state_dict().items():
        noise = torch.randn(value.shape, generator=generator)
        scale = 0.1 if value.ndim == 1 else 0.5 if "rel_pos" in name else 1.5 / value[0].numel() ** 0.5
        shift = 1.0 if value.ndim == 1 and name.endswith("weight") else 0.0
        theirs[slowfast_name(name)] = noise * scale + shift
    theirs["cls_token"] = theirs["cls_token"].view(1, 1, -1)
    clips = torch.randn(2, 3, 4, 32, 32, generator=generator)

    ours = from_pyslowfast(theirs)
    network.load_state_dict(ours.tensors, assign=True)
    backbone = mvit_backbone(network, dim=768, starts=STAGE_STARTS).eval()

    assert ours.unknown == ()
    assert len(ours.tensors) == len(theirs)
    with torch.inference_mode():
        torch.testing.assert_close(backbone(clips), features(theirs, clips), atol=1e-4, rtol=1e-4)
