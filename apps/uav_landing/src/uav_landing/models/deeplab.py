"""Networks on torchvision backbones: Lite R-ASPP, DeepLabV3 and DeepLabV3+.

Tensors keep torchvision's names, so that its segmentation weights load by name.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torchvision.models import resnet50
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.models.segmentation import (
    deeplabv3_mobilenet_v3_large,
    deeplabv3_resnet50,
    lraspp_mobilenet_v3_large,
)
from torchvision.models.segmentation.deeplabv3 import ASPP

from uav_landing.models.base import ConvNorm, SegmentationModel, initialise, resize

DEEPLAB_BUILDERS = {
    "deeplabv3_mobilenet_v3_large": deeplabv3_mobilenet_v3_large,
    "deeplabv3_resnet50": deeplabv3_resnet50,
}


class LiteRASPP(SegmentationModel):
    """torchvision's Lite R-ASPP on MobileNetV3-Large. Source: Howard et al. 2019, section 6.4."""

    classifiers = ("classifier.low_classifier", "classifier.high_classifier")

    def __init__(self, *, num_classes: int) -> None:
        super().__init__(model_type="lraspp_mobilenet_v3_large", num_classes=num_classes)
        net = lraspp_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=num_classes)
        self.backbone: nn.Module = net.backbone
        self.classifier: nn.Module = net.classifier
        initialise(self)

    def coarse_logits(self, image: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the logits at 1/8; there is no auxiliary head."""
        return self.classifier(self.backbone(image)), []


class DeepLabV3(SegmentationModel):
    """torchvision's DeepLabV3 with its auxiliary head if `aux`. Source: Chen et al. 2017, section 3.3."""

    needs_batch_above_one = True

    def __init__(self, *, model_type: str, num_classes: int, aux: bool) -> None:
        super().__init__(model_type=model_type, num_classes=num_classes)
        self.has_auxiliary_heads = aux
        build = DEEPLAB_BUILDERS[model_type]
        net = build(weights=None, weights_backbone=None, num_classes=num_classes, aux_loss=aux)
        self.backbone: nn.Module = net.backbone
        self.classifier: nn.Module = net.classifier
        self.aux_classifier: nn.Module | None = net.aux_classifier
        self.classifiers = ("classifier.4", "aux_classifier.4") if aux else ("classifier.4",)
        initialise(self)

    def coarse_logits(self, image: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the logits at the backbone's stride, and in training those of the auxiliary head."""
        features = self.backbone(image)
        auxiliary = []
        if self.training and self.aux_classifier is not None:
            auxiliary = [self.aux_classifier(features["aux"])]
        return self.classifier(features["out"]), auxiliary


class DeepLabV3Plus(SegmentationModel):
    """DeepLabV3+ on ResNet-50 at stride 16. Source: Chen et al. 2018, section 3.1 and figure 2."""

    needs_batch_above_one = True

    def __init__(self, *, num_classes: int) -> None:
        super().__init__(model_type="deeplabv3plus_resnet50", num_classes=num_classes)
        resnet = resnet50(weights=None, replace_stride_with_dilation=[False, False, True])
        self.backbone: nn.Module = IntermediateLayerGetter(resnet, {"layer1": "low", "layer4": "out"})
        self.aspp: nn.Module = ASPP(2048, (6, 12, 18), 256)
        self.reduce_low = ConvNorm(256, 48, 1)
        self.fuse = nn.Sequential(ConvNorm(48 + 256, 256), ConvNorm(256, 256))
        self.classifier = nn.Conv2d(256, num_classes, 1)
        initialise(self)

    def coarse_logits(self, image: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the logits at 1/4; there is no auxiliary head."""
        features = self.backbone(image)
        low = self.reduce_low(features["low"])
        high = resize(self.aspp(features["out"]), low.shape[-2:])
        return self.classifier(self.fuse(torch.cat([low, high], dim=1))), []
