"""Video networks without their classifiers: clips to features, in blocks that freeze and open."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint
from torchvision.models import video

from common.freezing.blocks import Block
from mvfouls import mvitv2
from mvfouls.architectures import LAYERS, PATCH_SIDE, STAGES, Architecture, architecture
from mvfouls.resnet3d import resnet3d_50
from mvfouls.small3d import Small3d

Layout = Mapping[str, Sequence[Sequence[str]]]
"""Blocks from the heads to the input: the parts of each in the same order, a part as paths of modules."""
S3D_FEATURES = (range(14, 16), range(8, 13), range(5, 7), range(2, 4), range(1))
"""Members of `features` with parameters, by block; those in between only pool."""
MVIT_STARTS = (0, 1, 3, 14)
"""First transformer block of each stage of the 16-block networks."""


class VideoBackbone(nn.Module, ABC):
    """Normalised clips [N, 3, T, H, W] to features [N, dim].

    `layout` sorts the parameters of `network` into blocks; each belongs to exactly one. `checkpointing`
    keeps only what goes in and out of the steps of the network and computes the rest again in the backward
    pass, with the same gradients; running statistics are still updated once.
    """

    def __init__(self, network: nn.Module, *, dim: int, layout: Layout, checkpointing: bool = False) -> None:
        super().__init__()
        self.network = network
        self.dim = dim
        self.checkpointing = checkpointing
        self._layout = layout
        _check_layout(self)

    @abstractmethod
    def forward(self, clips: Tensor) -> Tensor:
        """Return features [N, dim]."""

    def blocks(self, prefix: str = "") -> tuple[Block, ...]:
        """Return the blocks from the heads to the input.

        Their parameters and modules are paths below this backbone after `prefix`. A block of several parts
        names them `<block>.<k>`, k = 0 nearest the input.
        """
        names = _Names(
            [name for name, _ in self.named_parameters()], [name for name, _ in self.named_modules()]
        )
        return tuple(_block(block, parts, names, prefix) for block, parts in self._layout.items())

    def _run(self, step: nn.Module, *inputs: Any) -> Any:
        if self.checkpointing and torch.is_grad_enabled() and _learns(step, inputs[0]):
            return checkpoint(step, *inputs, use_reentrant=False, context_fn=partial(_passes, step))
        return step(*inputs)


class ConvBackbone(VideoBackbone):
    """A chain of modules with the mean over time and space at its end; `steps` are their paths."""

    def __init__(
        self,
        network: nn.Module,
        *,
        dim: int,
        layout: Layout,
        steps: Sequence[str],
        checkpointing: bool = False,
    ) -> None:
        super().__init__(network, dim=dim, layout=layout, checkpointing=checkpointing)
        self._steps = tuple(steps)

    def forward(self, clips: Tensor) -> Tensor:
        """Return features [N, dim]."""
        maps = clips
        for step in self._steps:
            maps = self._run(self.network.get_submodule(step), maps)
        return maps.mean(dim=(2, 3, 4))


class MViTBackbone(VideoBackbone):
    """A multiscale vision transformer; its feature is the class token after the last norm."""

    def forward(self, clips: Tensor) -> Tensor:
        """Return features [N, dim]."""
        network: Any = self.network
        patches: Tensor = self._run(network.conv_proj, clips)
        shape = tuple(patches.shape[2:])
        tokens: Tensor = network.pos_encoding(patches.flatten(2).transpose(1, 2))
        for block in network.blocks:
            tokens, shape = self._run(block, tokens, shape)
        feature: Tensor = network.norm(tokens[:, 0])
        return feature


class SwinBackbone(VideoBackbone):
    """A video Swin transformer; its feature is the mean over all tokens after the last norm."""

    def forward(self, clips: Tensor) -> Tensor:
        """Return features [N, dim]."""
        network: Any = self.network
        tokens: Tensor = network.pos_drop(self._run(network.patch_embed, clips))
        for stage in network.features:
            for step in stage if isinstance(stage, nn.Sequential) else (stage,):
                tokens = self._run(step, tokens)
        normed: Tensor = network.norm(tokens)
        return normed.mean(dim=(1, 2, 3))


def build_backbone(name: str, *, frames: int, checkpointing: bool = False) -> VideoBackbone:
    """Return the named network with random weights, for clips of `frames`.

    Raises UserError for an unknown name. The number of parameters is that of `BACKBONES`.
    """
    known = architecture(name)
    backbone = _BUILDERS[known.family](known, frames, checkpointing)
    count = sum(parameter.numel() for parameter in backbone.parameters())
    assert count == known.parameters_at(frames), f"{name} has {count} parameters"
    return backbone


def resnet_backbone(network: nn.Module, *, dim: int, checkpointing: bool = False) -> ConvBackbone:
    """Return a backbone of a torchvision `VideoResNet`, or of what has its stem and layers."""
    depths = {layer: len(network.get_submodule(layer)) for layer in LAYERS[:-1]}  # type: ignore[arg-type]
    layout = {layer: [(f"{layer}.{k}",) for k in reversed(range(depths[layer]))] for layer in depths}
    steps = ["stem", *(f"{layer}.{k}" for layer in reversed(depths) for k in range(depths[layer]))]
    network.fc = nn.Identity()
    return ConvBackbone(
        network, dim=dim, layout={**layout, "stem": [("stem",)]}, steps=steps, checkpointing=checkpointing
    )


def mvit_backbone(
    network: Any, *, dim: int, starts: Sequence[int], checkpointing: bool = False
) -> MViTBackbone:
    """Return a backbone of a torchvision `MViT` whose stages begin at the blocks `starts`."""
    ends = (*starts[1:], len(network.blocks))
    stages: list[list[tuple[str, ...]]]
    stages = [[(f"blocks.{k}",) for k in reversed(range(*span))] for span in zip(starts, ends)]
    stages[-1][0] = (*stages[-1][0], "norm")
    layout: Layout = dict(zip(STAGES, [*reversed(stages), [("conv_proj", "pos_encoding")]]))
    network.head = nn.Identity()
    return MViTBackbone(network, dim=dim, layout=layout, checkpointing=checkpointing)


def swin_backbone(network: Any, *, dim: int, checkpointing: bool = False) -> SwinBackbone:
    """Return a backbone of a torchvision `SwinTransformer3d`."""
    stages: list[list[tuple[str, ...]]] = []
    for start in range(0, len(network.features), 2):
        last = start + 1 == len(network.features)
        closing = "norm" if last else f"features.{start + 1}"
        units = [(f"features.{start}.{k}",) for k in reversed(range(len(network.features[start])))]
        stages.append([(*units[0], closing), *units[1:]])
    layout: Layout = dict(zip(STAGES, [*reversed(stages), [("patch_embed", "pos_drop")]]))
    network.head = nn.Identity()
    return SwinBackbone(network, dim=dim, layout=layout, checkpointing=checkpointing)


def _conv(known: Architecture, frames: int, checkpointing: bool) -> VideoBackbone:
    if known.name == "s3d":
        return _s3d(known, checkpointing)
    if known.name == "small3d":
        return resnet_backbone(Small3d(), dim=known.dim, checkpointing=checkpointing)
    if known.name == "resnet3d_50":
        return resnet_backbone(resnet3d_50(), dim=known.dim, checkpointing=checkpointing)
    published = {"resnet3d_18": "r3d_18"}.get(known.name, known.name)
    network = getattr(video, published)(weights=None)
    return resnet_backbone(network, dim=known.dim, checkpointing=checkpointing)


def _s3d(known: Architecture, checkpointing: bool) -> VideoBackbone:
    network = video.s3d(weights=None)
    # its pooling window of 7x7 would refuse images below 224; the mean over all places is the same there
    network.avgpool = network.classifier = nn.Identity()
    spans = zip(LAYERS, S3D_FEATURES)
    layout = {layer: [(f"features.{k}",) for k in reversed(members)] for layer, members in spans}
    steps = [f"features.{k}" for k in range(len(network.features))]
    return ConvBackbone(network, dim=known.dim, layout=layout, steps=steps, checkpointing=checkpointing)


def _mvit(known: Architecture, frames: int, checkpointing: bool) -> VideoBackbone:
    if known.name == "mvitv2_b":
        network, starts = mvitv2.mvitv2_b(frames, PATCH_SIDE), mvitv2.STAGE_STARTS
    else:
        network, starts = getattr(video, known.name)(weights=None), MVIT_STARTS
    return mvit_backbone(network, dim=known.dim, starts=starts, checkpointing=checkpointing)


def _swin(known: Architecture, frames: int, checkpointing: bool) -> VideoBackbone:
    network = getattr(video, known.name)(weights=None)
    return swin_backbone(network, dim=known.dim, checkpointing=checkpointing)


_BUILDERS = {"conv": _conv, "mvit": _mvit, "swin": _swin}


class _Names(NamedTuple):
    parameters: Sequence[str]
    modules: Sequence[str]


def _block(block: str, parts: Sequence[Sequence[str]], names: _Names, prefix: str) -> Block:
    if len(parts) == 1:
        return _part(block, parts[0], names, prefix)
    inner = tuple(
        _part(f"{block}.{len(parts) - 1 - place}", part, names, prefix) for place, part in enumerate(parts)
    )
    parameters = tuple(name for part in inner for name in part.parameters)
    return Block(block, parameters, tuple(name for part in inner for name in part.modules), inner)


def _part(block: str, paths: Sequence[str], names: _Names, prefix: str) -> Block:
    starts = tuple(f"network.{path}." for path in paths)
    parameters = tuple(prefix + name for name in names.parameters if name.startswith(starts))
    modules = tuple(prefix + name for name in names.modules if f"{name}.".startswith(starts))
    return Block(block, parameters, modules)


def _check_layout(backbone: VideoBackbone) -> None:
    """Assert that every parameter belongs to exactly one block."""
    names = sorted(name for name, _ in backbone.named_parameters())
    sorted_in = sorted(name for block in backbone.blocks() for name in block.parameters)
    assert sorted_in == names, f"not in exactly one block: {sorted(set(names) ^ set(sorted_in))}"


def _learns(step: nn.Module, inputs: Tensor) -> bool:
    return inputs.requires_grad or any(parameter.requires_grad for parameter in step.parameters())


def _passes(step: nn.Module) -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """Return what surrounds the first pass through `step` and the second one, in the backward pass."""
    return nullcontext(), _without_statistics(step)


@contextmanager
def _without_statistics(step: nn.Module) -> Iterator[None]:
    """Leave running statistics alone: the first pass has already taken this batch into them."""
    kept = [
        (norm, norm.momentum, norm.num_batches_tracked, norm.num_batches_tracked.clone())
        for norm in step.modules()
        if isinstance(norm, _BatchNorm) and norm.training and norm.num_batches_tracked is not None
    ]
    for norm, *_ in kept:
        norm.momentum = 0.0
    try:
        yield
    finally:
        for norm, momentum, counter, batches in kept:
            norm.momentum = momentum
            counter.copy_(batches)
