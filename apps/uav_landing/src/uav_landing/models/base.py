"""What every segmentation network of this application shares: its output, its layers and its weights."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class Output(NamedTuple):
    """Logits N x K x H x W at input size; `aux` holds those of the auxiliary heads, in training only."""

    logits: Tensor
    aux: tuple[Tensor, ...] = ()


class SegmentationModel(nn.Module, ABC):
    """A network from normalised RGB, N x 3 x H x W float32 with H and W multiples of 32, to `Output`.

    A subclass has a child module `backbone` and names in `classifiers` the layers whose output channels are
    the classes. Convolutions run in channels-last order whatever the order of the input.
    """

    needs_batch_above_one: bool = False
    """BatchNorm sees a 1 x 1 map per image, so that training with one image per batch is impossible."""
    has_auxiliary_heads: bool = False
    width_multiplier: float = 1.0
    classifiers: tuple[str, ...] = ("classifier",)

    def __init__(self, *, model_type: str, num_classes: int) -> None:
        super().__init__()
        self.model_type = model_type
        self.num_classes = num_classes

    @abstractmethod
    def coarse_logits(self, image: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Return the logits and those of the auxiliary heads (none in eval mode), at any resolution."""

    def forward(self, image: Tensor) -> Output:
        """Return `Output` at the size of `image`, by bilinear upsampling without aligned corners."""
        coarse, auxiliary = self.coarse_logits(image.contiguous(memory_format=torch.channels_last))
        size = image.shape[-2:]
        return Output(resize(coarse, size), tuple(resize(logits, size) for logits in auxiliary))

    def model_block(self) -> dict[str, str | int | float | bool]:
        """Return what `build.from_block` needs to build this network again, as plain types."""
        return {
            "model_type": self.model_type,
            "width_multiplier": self.width_multiplier,
            "num_classes": self.num_classes,
            "aux": self.has_auxiliary_heads,
        }


class ConvNorm(nn.Module):
    """Convolution that keeps the size at stride 1, then BatchNorm and ReLU unless switched off."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int = 3,
        *,
        stride: int = 1,
        groups: int = 1,
        norm: bool = True,
        relu: bool = True,
    ) -> None:
        super().__init__()
        self.conv = nn.Conv2d(
            inputs, outputs, kernel, stride, padding=kernel // 2, groups=groups, bias=not norm
        )
        self.bn = nn.BatchNorm2d(outputs) if norm else nn.Identity()
        self.activate = nn.ReLU(inplace=True) if relu else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        """Return N x outputs x ceil(H/stride) x ceil(W/stride)."""
        y: Tensor = self.activate(self.bn(self.conv(x)))
        return y


def resize(x: Tensor, size: torch.Size) -> Tensor:
    """Return `x` at height and width `size`, bilinear without aligned corners."""
    return F.interpolate(x, size=size, mode="bilinear", align_corners=False)


def initialise(model: SegmentationModel) -> None:
    """Draw new weights in place: Kaiming normal (fan-out), BatchNorm 1 and 0, biases 0.

    Classifiers get a normal of deviation 0.01, so that the first loss is that of equal probabilities:
    their fan-out is the number of classes, and logits drawn for it start at deviations up to 16.
    Source: He et al. 2015, equation 14.
    """
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
        elif isinstance(module, nn.BatchNorm2d):
            nn.init.ones_(module.weight)
            nn.init.zeros_(module.bias)
    for name in model.classifiers:
        weight = model.get_submodule(name).weight
        assert isinstance(weight, Tensor)
        nn.init.normal_(weight, std=0.01)
