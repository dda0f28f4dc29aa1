"""A small convolutional network over space and time, for trying things out on a CPU."""

from __future__ import annotations

from torch import nn

WIDTHS = (16, 32, 64, 96, 128)
"""Channels after the stem and each layer."""
STRIDES = ((1, 2, 2), (1, 2, 2), (2, 2, 2), (2, 2, 2), (1, 2, 2))


class Small3d(nn.Module):
    """A stem and four layers of 3x3x3 convolutions with batch norm; the last layer has two of them."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = _unit(3, WIDTHS[0], STRIDES[0])
        self.layer1 = nn.Sequential(_unit(WIDTHS[0], WIDTHS[1], STRIDES[1]))
        self.layer2 = nn.Sequential(_unit(WIDTHS[1], WIDTHS[2], STRIDES[2]))
        self.layer3 = nn.Sequential(_unit(WIDTHS[2], WIDTHS[3], STRIDES[3]))
        self.layer4 = nn.Sequential(
            _unit(WIDTHS[3], WIDTHS[4], STRIDES[4]), _unit(WIDTHS[4], WIDTHS[4], (1, 1, 1))
        )


def _unit(inputs: int, outputs: int, stride: tuple[int, int, int]) -> nn.Sequential:
    convolution = nn.Conv3d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm3d(outputs), nn.ReLU(inplace=True))
