import math

import torch
from torch import nn

from uav_landing.config import ModelConfig
from uav_landing.models.base import ConvNorm
from uav_landing.models.build import build_model


def test_initial_weights() -> None:
    torch.manual_seed(0)
    model = build_model(ModelConfig(model_type="mmseg_bisenetv2"), 4, aux=False)
    conv = model.get_submodule("decode_head.convs.0.conv")
    assert isinstance(conv, nn.Conv2d)
    fan_out = 1024 * 3 * 3
    assert abs(conv.weight.std().item() / math.sqrt(2 / fan_out) - 1) < 0.01
    norms = [module for module in model.modules() if isinstance(module, nn.BatchNorm2d)]
    assert all(norm.weight.eq(1).all() and norm.bias.eq(0).all() for norm in norms)
    classifier = model.get_submodule("decode_head.conv_seg")
    assert isinstance(classifier, nn.Conv2d)
    assert abs(classifier.weight.std().item() / 0.01 - 1) < 0.1
    assert classifier.bias is not None
    assert classifier.bias.eq(0).all()


def test_conv_norm_has_a_bias_only_without_batch_norm() -> None:
    assert [name for name, _ in ConvNorm(3, 4).named_parameters()] == ["conv.weight", "bn.weight", "bn.bias"]
    linear = ConvNorm(3, 4, 1, norm=False, relu=False)
    assert [name for name, _ in linear.named_parameters()] == ["conv.weight", "conv.bias"]
    assert ConvNorm(3, 4, stride=2)(torch.randn(2, 3, 7, 8)).shape == (2, 4, 4, 4)


def test_conv_norm_rectifies_unless_told_otherwise() -> None:
    torch.manual_seed(0)
    image = torch.randn(2, 3, 8, 8)
    assert ConvNorm(3, 4)(image).min() == 0
    assert ConvNorm(3, 4, relu=False)(image).min() < 0
