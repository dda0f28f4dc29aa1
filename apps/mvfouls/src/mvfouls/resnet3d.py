"""A 3D ResNet-50."""

from __future__ import annotations

from torchvision.models.video.resnet import BasicStem, Bottleneck, Conv3DSimple, VideoResNet


def resnet3d_50() -> VideoResNet:
    """Return a ResNet of bottlenecks [3, 4, 6, 3] with 3x3x3 convolutions, for 400 classes.

    Source: Hara et al., Can Spatiotemporal 3D CNNs Retrace the History of 2D CNNs and ImageNet?, 2018,
    table 1, with the stem of torchvision's `r3d_18`, which keeps every frame.
    """
    return VideoResNet(Bottleneck, [Conv3DSimple] * 4, [3, 4, 6, 3], BasicStem)
