import math

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode

from common.config import UserError
from uav_landing.config import ModelConfig
from uav_landing.models.base import SegmentationModel
from uav_landing.models.build import MODELS_WITH_AUXILIARY_HEADS, build_model, from_block

PARAMETERS = {  # K = 4, K = 3, and the same with auxiliary heads where the network can have them
    "compact": (793_540, 793_491),
    "mmseg_bisenetv2": (3_343_508, 3_342_483, 14_768_420, 14_766_031),
    "lraspp_mobilenet_v3_large": (3_218_648, 3_218_478),
    "deeplabv3_mobilenet_v3_large": (11_021_108, 11_020_851, 11_024_772, 11_024_504),
    "deeplabv3_resnet50": (39_634_500, 39_634_243, 41_995_336, 41_994_822),
    "deeplabv3plus_resnet50": (40_347_812, 40_347_555),
}
AUXILIARY_HEADS = {"mmseg_bisenetv2": 4, "deeplabv3_mobilenet_v3_large": 1, "deeplabv3_resnet50": 1}
INERT = {"backbone.semantic.stage4_CEBlock.gap.1.bias"}
"""Published so, although the BatchNorm two layers on removes it: its gradient is 0 but for rounding."""
ONE_IMAGE_TRAINS = {"compact", "lraspp_mobilenet_v3_large"}


@pytest.fixture(scope="module", params=PARAMETERS)
def built(request: pytest.FixtureRequest) -> SegmentationModel:
    """Every network once, with 3 classes and its auxiliary heads."""
    torch.manual_seed(0)
    return build_model(ModelConfig(model_type=request.param), 3, aux=True)


def images(count: int = 2, size: tuple[int, int] = (64, 64)) -> Tensor:
    return torch.randn(count, 3, *size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("model_type", PARAMETERS)
def test_parameter_counts(model_type: str) -> None:
    config = ModelConfig(model_type=model_type)
    variants = (False, True) if model_type in AUXILIARY_HEADS else (True,)
    with torch.device("meta"):
        models = [build_model(config, classes, aux) for aux in variants for classes in (4, 3)]
    counts = [sum(p.numel() for p in model.parameters()) for model in models]
    assert counts == list(PARAMETERS[model_type])


def test_one_step_moves_every_parameter(built: SegmentationModel) -> None:
    model = built.train()
    model.zero_grad()
    output = model(images())
    assert output.logits.shape == (2, 3, 64, 64)
    assert [logits.shape for logits in output.aux] == [(2, 3, 64, 64)] * AUXILIARY_HEADS.get(
        built.model_type, 0
    )

    target = torch.randint(3, (2, 64, 64), generator=torch.Generator().manual_seed(2))
    losses = [F.cross_entropy(logits, target) for logits in (output.logits, *output.aux)]
    assert losses[0].item() == pytest.approx(math.log(3), abs=0.15)
    torch.stack(losses).sum().backward()
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    assert [name for name, gradient in gradients.items() if gradient is None] == []
    assert {name for name, gradient in gradients.items() if not gradient.abs().sum() > 0} <= INERT


def test_eval_returns_no_auxiliary_logits_and_one_image_is_enough(built: SegmentationModel) -> None:
    with torch.no_grad():
        output = built.eval()(images(1, (64, 96)))
    assert output.logits.shape == (1, 3, 64, 96)
    assert output.logits.dtype == torch.float32
    assert output.aux == ()


def test_needs_batch_above_one_says_which_networks_cannot_train_on_one_image(
    built: SegmentationModel,
) -> None:
    built.train()
    if built.model_type in ONE_IMAGE_TRAINS:
        assert not built.needs_batch_above_one
        built(images(1))
    else:
        assert built.needs_batch_above_one
        with pytest.raises(ValueError, match="more than 1 value per channel"):
            built(images(1))


def test_a_model_block_rebuilds_the_network(built: SegmentationModel) -> None:
    block = built.model_block()
    assert block["aux"] is (built.model_type in MODELS_WITH_AUXILIARY_HEADS)
    with torch.device("meta"):
        again = from_block(block)
    shapes = {name: tensor.shape for name, tensor in again.state_dict().items()}
    assert shapes == {name: tensor.shape for name, tensor in built.state_dict().items()}
    assert again.model_block() == block


def test_the_width_survives_a_model_block() -> None:
    model = build_model(ModelConfig(width_multiplier=0.5), 4, aux=False)
    again = from_block(model.model_block())
    again.load_state_dict(model.state_dict())
    with torch.no_grad():
        assert torch.equal(again.eval()(images(1)).logits, model.eval()(images(1)).logits)


def test_channels_last_weights_give_the_same_logits(built: SegmentationModel) -> None:
    built.eval()
    with torch.no_grad():
        plain = built(images(1)).logits
        built.to(memory_format=torch.channels_last)
        last = built(images(1).contiguous(memory_format=torch.channels_last)).logits
    torch.testing.assert_close(last, plain, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("model_type", "size", "gflop"), [("compact", (512, 512), 2.02), ("mmseg_bisenetv2", (512, 1024), 49.0)]
)
def test_work_per_image(model_type: str, size: tuple[int, int], gflop: float) -> None:
    with torch.device("meta"):
        model = build_model(ModelConfig(model_type=model_type), 4, aux=False).eval()
        counter = FlopCounterMode(display=False)
        with counter, torch.no_grad():
            model(torch.empty(1, 3, *size))
    assert counter.get_total_flops() / 1e9 == pytest.approx(gflop, rel=0.005)


def test_wrong_settings_name_their_flag() -> None:
    with pytest.raises(UserError, match="width-multiplier"):
        build_model(ModelConfig(width_multiplier=0), 4, aux=False)
    with pytest.raises(UserError, match="at least 2"):
        build_model(ModelConfig(), 1, aux=False)
    with pytest.raises(UserError, match="unknown network 'unet'"):
        from_block({"model_type": "unet", "width_multiplier": 1.0, "num_classes": 4, "aux": False})
    with pytest.raises(UserError, match="num_classes missing"):
        from_block({"model_type": "compact", "width_multiplier": 1.0, "aux": False})
