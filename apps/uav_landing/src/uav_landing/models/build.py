"""From settings or a checkpoint's model block to a network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from common.config import UserError
from uav_landing.config import ModelConfig
from uav_landing.models.base import Output, SegmentationModel
from uav_landing.models.bisenetv2 import BiSeNetV2
from uav_landing.models.compact import CompactSegmenter

__all__ = ["MODELS_WITH_AUXILIARY_HEADS", "Output", "SegmentationModel", "build_model", "from_block"]

MODELS_WITH_AUXILIARY_HEADS = frozenset(
    {"mmseg_bisenetv2", "deeplabv3_mobilenet_v3_large", "deeplabv3_resnet50"}
)


def build_model(config: ModelConfig, num_classes: int, aux: bool) -> SegmentationModel:
    """Return the network of `config.model_type` with random weights and `num_classes` outputs.

    `aux` asks for auxiliary heads where the type has them. `width_multiplier` acts on `compact` alone.
    Raises UserError for an unknown type, a width that is not positive or fewer than two classes.
    """
    return _build(config.model_type, config.width_multiplier, num_classes, aux)


def from_block(block: Mapping[str, Any]) -> SegmentationModel:
    """Return the network that `SegmentationModel.model_block` described, with random weights.

    Raises UserError for a block without one of its keys.
    """
    missing = sorted({"model_type", "width_multiplier", "num_classes", "aux"} - block.keys())
    if missing:
        raise UserError(f"model block of the checkpoint: {', '.join(missing)} missing")
    return _build(block["model_type"], block["width_multiplier"], block["num_classes"], block["aux"])


def _build(model_type: str, width_multiplier: float, num_classes: int, aux: bool) -> SegmentationModel:
    if num_classes < 2:
        raise UserError(f"num_classes: a segmenter needs at least 2, not {num_classes}")
    if model_type == "compact":
        if not width_multiplier > 0:
            raise UserError(f"--width-multiplier: must be positive, not {width_multiplier}")
        return CompactSegmenter(num_classes=num_classes, width_multiplier=width_multiplier)
    if model_type == "mmseg_bisenetv2":
        return BiSeNetV2(num_classes=num_classes, aux=aux)
    return _on_torchvision(model_type, num_classes, aux)


def _on_torchvision(model_type: str, num_classes: int, aux: bool) -> SegmentationModel:
    from uav_landing.models import deeplab  # torchvision takes seconds to import

    if model_type == "lraspp_mobilenet_v3_large":
        return deeplab.LiteRASPP(num_classes=num_classes)
    if model_type == "deeplabv3plus_resnet50":
        return deeplab.DeepLabV3Plus(num_classes=num_classes)
    if model_type in deeplab.DEEPLAB_BUILDERS:
        return deeplab.DeepLabV3(model_type=model_type, num_classes=num_classes, aux=aux)
    raise UserError(f"--model-type: unknown network {model_type!r}")
