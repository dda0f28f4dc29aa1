"""The causal behaviour model one frame at a time, in numpy, from the weights of the torch model.

Each layer keeps the past frames of its own input that its convolution reaches back to, zeros at the start:
the same numbers as left padding with zeros.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from rodent_behavior.model_config import (
    COSINE_SCALE,
    NORM_GROUPS,
    BehaviorModelConfig,
    dilations,
    dual_dilations,
)

Floats32 = NDArray[np.float32]
NORM_EPSILON = 1e-5
LEAST_LENGTH = 1e-12
ZERO = np.float32(0)


class Weights:
    """Named arrays of a state dict under a prefix."""

    def __init__(self, arrays: Mapping[str, NDArray[np.floating]], prefix: str = "") -> None:
        self._arrays = arrays
        self._prefix = prefix

    def under(self, name: str) -> Weights:
        """Return the arrays of the module `name`."""
        return Weights(self._arrays, f"{self._prefix}{name}.")

    def get(self, name: str, *shape: int) -> NDArray[np.float64]:
        """Return one array as float64; ValueError names an array that is absent or not of `shape`."""
        key = self._prefix + name
        if key not in self._arrays:
            raise ValueError(f"weights: {key} is absent")
        array = np.asarray(self._arrays[key], dtype=np.float64)
        if array.shape != shape:
            raise ValueError(f"weights: {key} is {list(array.shape)}, {list(shape)} is expected")
        return array


class Affine:
    """y = W x + b of a linear layer or a 1x1 convolution."""

    def __init__(self, weights: Weights, inputs: int, outputs: int, *, conv: bool) -> None:
        shape = (outputs, inputs, 1) if conv else (outputs, inputs)
        self.weight = _single(weights.get("weight", *shape).reshape(outputs, inputs))
        self.bias = _single(weights.get("bias", outputs))

    def __call__(self, x: Floats32) -> Floats32:
        y: Floats32 = self.weight.dot(x)
        y += self.bias
        return y


class Taps:
    """W [x at lags, x] + b: any number of dilated convolutions of one input as a single product.

    Keeps the past inputs that the lags reach, in a ring.
    """

    def __init__(self, weight: NDArray[np.float64], bias: NDArray[np.float64], lags: list[int]) -> None:
        """`weight` [outputs, lags + 1, inputs], the current frame last."""
        outputs, taps, inputs = weight.shape
        self._weight = _single(np.concatenate([weight.reshape(outputs, -1), bias[:, None]], axis=1))
        self._gathered = np.ones(taps * inputs + 1, dtype=np.float32)
        self._slots = self._gathered[:-1].reshape(taps, inputs)
        self._lags = list(zip(range(taps), lags, strict=False))
        self._past = np.zeros((max(lags), inputs), dtype=np.float32)
        self._next = 0

    def reset(self) -> None:
        """Forget the past inputs."""
        self._past[:] = 0.0
        self._next = 0

    def __call__(self, x: Floats32) -> Floats32:
        past, slots, now = self._past, self._slots, self._next
        for slot, lag in self._lags:
            slots[slot] = past[now - lag]
        slots[-1] = x
        past[now] = x
        self._next = (now + 1) % len(past)
        y: Floats32 = self._weight.dot(self._gathered)
        return y


def time_conv(weights: Weights, inputs: int, outputs: int, dilation: int) -> Taps:
    """Return one causal convolution of three taps."""
    weight = weights.get("weight", outputs, inputs, 3).transpose(0, 2, 1)
    return Taps(weight, weights.get("bias", outputs), [2 * dilation, dilation])


class DualLayer:
    """Two dilated convolutions and the 1x1 that fuses them, multiplied out to one product; ReLU, residual."""

    def __init__(self, weights: Weights, width: int, pair: tuple[int, int]) -> None:
        fuse = weights.under("fuse").get("weight", width, 2 * width, 1)[:, :, 0]
        bias = weights.under("fuse").get("bias", width)
        taps = []
        for name, half in (("falling", fuse[:, :width]), ("rising", fuse[:, width:])):
            conv = weights.under(name)
            taps.append(np.einsum("om,mik->oki", half, conv.get("weight", width, width, 3)))
            bias = bias + half @ conv.get("bias", width)
        falling, rising = taps
        current = falling[:, 2:] + rising[:, 2:]
        weight = np.concatenate([falling[:, :2], rising[:, :2], current], axis=1)
        self.taps = Taps(weight, bias, [lag for dilation in pair for lag in (2 * dilation, dilation)])

    def reset(self) -> None:
        """Forget the past inputs."""
        self.taps.reset()

    def __call__(self, x: Floats32) -> Floats32:
        y = self.taps(x)
        np.maximum(y, ZERO, out=y)
        y += x
        return y


class DilatedLayer:
    """Dilated convolution, ReLU, 1x1; residual."""

    def __init__(self, weights: Weights, width: int, dilation: int) -> None:
        self.conv = time_conv(weights.under("conv"), width, width, dilation)
        self.mix = Affine(weights.under("mix"), width, width, conv=True)

    def reset(self) -> None:
        """Forget the past inputs."""
        self.conv.reset()

    def __call__(self, x: Floats32) -> Floats32:
        y = self.conv(x)
        y = self.mix(np.maximum(y, ZERO, out=y))
        y += x
        return y


class FrameBlock:
    """Dilated convolution, group normalisation of the frame, GELU; residual."""

    def __init__(self, weights: Weights, inputs: int, width: int, dilation: int) -> None:
        self.conv = time_conv(weights.under("conv"), inputs, width, dilation)
        self.gain = _single(weights.under("norm").get("weight", width))
        self.shift = _single(weights.under("norm").get("bias", width))
        self.project = None if inputs == width else Affine(weights.under("project"), inputs, width, conv=True)

    def reset(self) -> None:
        """Forget the past inputs."""
        self.conv.reset()

    def __call__(self, x: Floats32) -> Floats32:
        groups = self.conv(x).reshape(NORM_GROUPS, -1)
        centred = groups - groups.mean(axis=1, keepdims=True)
        variance = (centred * centred).mean(axis=1, keepdims=True)
        normed = (centred / np.sqrt(variance + np.float32(NORM_EPSILON))).reshape(-1)
        return (x if self.project is None else self.project(x)) + gelu(normed * self.gain + self.shift)


Layer = DualLayer | DilatedLayer | FrameBlock


class ActionLayer:
    """Logits [C] of a linear or a cosine head."""

    def __init__(self, weights: Weights, config: BehaviorModelConfig) -> None:
        width, classes = config.hidden_dim, config.num_classes
        output = weights.under("output")
        self._linear = Affine(output, width, classes, conv=True) if config.head == "linear" else None
        if self._linear is None:
            directions = output.get("weight", classes, width)
            lengths = np.linalg.norm(directions, axis=1, keepdims=True)
            self._directions = _single(directions / np.maximum(lengths, LEAST_LENGTH) * COSINE_SCALE)

    def __call__(self, x: Floats32) -> Floats32:
        if self._linear is not None:
            return self._linear(x)
        return self._directions @ (x / max(float(np.linalg.norm(x)), LEAST_LENGTH)).astype(np.float32)


class Stage:
    """1x1 to the stage's width if it has one, its layers, its logits."""

    def __init__(self, enter: Affine | None, layers: list[Layer], output: ActionLayer) -> None:
        self._enter = enter
        self._layers = layers
        self._output = output

    def reset(self) -> None:
        """Forget the past inputs of every layer."""
        for layer in self._layers:
            layer.reset()

    def __call__(self, x: Floats32) -> Floats32:
        if self._enter is not None:
            x = self._enter(x)
        for layer in self._layers:
            x = layer(x)
        return self._output(x)


class StreamingNetwork:
    """Logits [C] of each new frame from its features; equal to the causal `BehaviorModel` in evaluation.

    `arrays` is the model's state dict as arrays. ValueError for a model that is not causal and for weights
    that are absent or of another shape.
    """

    def __init__(self, arrays: Mapping[str, NDArray[np.floating]], config: BehaviorModelConfig) -> None:
        if not config.causal:
            raise ValueError("the model looks ahead: train with --causal")
        weights = Weights(arrays)
        pose_width = config.input_dim - config.visual_dim
        self._pose = (
            Affine(weights.under("pose.0"), config.pose_dim, pose_width, conv=False)
            if config.pose_dim
            else None
        )
        self._stages = _stages(weights.under("temporal"), config)

    def reset(self) -> None:
        """Start a new sequence."""
        for stage in self._stages:
            stage.reset()

    def __call__(self, pose: Floats32 | None, visual: Floats32 | None) -> Floats32:
        """Return the last stage's logits for standardised pose features [F] and visual features [D]."""
        parts = [] if visual is None else [visual]
        if self._pose is not None and pose is not None:
            parts.append(gelu(self._pose(pose)))
        logits = self._stages[0](np.concatenate(parts))
        for stage in self._stages[1:]:
            logits = stage(softmax(logits))
        return logits


def softmax(logits: NDArray[np.floating], temperature: float = 1.0) -> Floats32:
    """Return softmax(logits [C] / temperature) as float32."""
    scaled = logits.astype(np.float64) / temperature
    powers = np.exp(scaled - scaled.max())
    probabilities: Floats32 = (powers / powers.sum()).astype(np.float32)
    return probabilities


def gelu(x: Floats32) -> Floats32:
    """Return x Phi(x), exact."""
    error = np.fromiter(map(math.erf, (x * np.float32(math.sqrt(0.5))).tolist()), np.float32, len(x))
    return np.float32(0.5) * x * (np.float32(1) + error)


def _stages(weights: Weights, config: BehaviorModelConfig) -> list[Stage]:
    width, depth = config.hidden_dim, config.num_layers
    if config.temporal_model == "tcn":
        blocks: list[Layer] = [
            FrameBlock(weights.under(f"blocks.{i}"), width if i else config.input_dim, width, dilation)
            for i, dilation in enumerate(dilations(depth))
        ]
        return [Stage(None, blocks, ActionLayer(weights.under("output"), config))]
    first: list[Layer] = [
        DualLayer(weights.under(f"first.layers.{i}"), width, pair)
        for i, pair in enumerate(dual_dilations(depth))
    ]
    stages = [_stage(weights.under("first"), config.input_dim, first, config)]
    for number in range(config.refinements):
        own = weights.under(f"refinements.{number}")
        plain: list[Layer] = [
            DilatedLayer(own.under(f"layers.{i}"), width, dilation)
            for i, dilation in enumerate(dilations(depth))
        ]
        stages.append(_stage(own, config.num_classes, plain, config))
    return stages


def _stage(weights: Weights, inputs: int, layers: list[Layer], config: BehaviorModelConfig) -> Stage:
    enter = Affine(weights.under("input"), inputs, config.hidden_dim, conv=True)
    return Stage(enter, layers, ActionLayer(weights.under("output"), config))


def _single(array: NDArray[np.float64]) -> Floats32:
    return np.ascontiguousarray(array, dtype=np.float32)
