"""Image networks applied to every frame of a video, frozen or with their last blocks open."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from common.config import UserError
from common.weights_file import read_tensors

CHUNK = 64
"""Frames in one pass through a backbone."""
IMAGENET = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
HALVES = (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
RESNETS = {"resnet18": 512, "resnet50": 2048}
VITS = {
    "vit_small_patch14_dinov2.lvd142m": (384, 14, IMAGENET),
    "vit_base_patch14_dinov2.lvd142m": (768, 14, IMAGENET),
    "vit_small_patch16_224.augreg_in21k": (384, 16, HALVES),
    "vit_base_patch16_224.augreg_in21k": (768, 16, HALVES),
}
"""Features, side of a patch, and mean and deviation of the input."""
NAMES = ("none", "tiny_cnn", *RESNETS, *VITS)
CLASSIFIERS = ("fc.", "head.")
"""Last layers of image classifiers, which no backbone has."""
LISTED = 5


class Block(NamedTuple):
    """A part of a backbone that opens as a whole, with the names of its parameters."""

    name: str
    parameters: tuple[str, ...]


class Plan(NamedTuple):
    """A network and what its `Backbone` must know; `blocks`: name and parameter prefixes, last first."""

    network: nn.Module
    dim: int
    normalization: tuple[Sequence[float], Sequence[float]]
    blocks: Sequence[tuple[str, tuple[str, ...]]]


class Backbone(nn.Module):
    """RGB frames [N, 3, H, W] in [0, 1] to features [N, dim].

    The input is normalised by `mean` and `std` inside. Frames pass in chunks of 64 that are computed again
    in the backward pass, so memory does not grow with N. Every parameter is frozen until `unfreeze`. Frozen
    blocks stay in evaluation mode, and so does every BatchNorm: frames of one window are too alike to
    estimate statistics from. `blocks` are listed last first; `weights` is the file they came from.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, name: str, plan: Plan, weights: Path | None) -> None:
        super().__init__()
        self.name = name
        self.dim = plan.dim
        self.weights = weights
        self.network = plan.network
        for key, values in zip(("mean", "std"), plan.normalization):
            self.register_buffer(key, torch.tensor(values).view(3, 1, 1), persistent=False)
        self.blocks = _blocks(self, plan.blocks)
        self._parts = [parts for _, parts in plan.blocks]
        self._opened = 0
        self.requires_grad_(False)
        self.train(self.training)

    def forward(self, frames: Tensor) -> Tensor:
        """Return features [N, dim] of frames [N, 3, H, W] in [0, 1]."""
        learns = torch.is_grad_enabled() and (self._opened > 0 or frames.requires_grad)
        parts = [
            checkpoint(self._features, chunk, use_reentrant=False) if learns else self._features(chunk)
            for chunk in torch.split(frames, CHUNK)
        ]
        return torch.cat(parts)

    def unfreeze(self, count: int) -> tuple[str, ...]:
        """Open the last `count` blocks and return the names of the parameters that were frozen until then.

        Raises UserError when there are fewer blocks.
        """
        if not 0 <= count <= len(self.blocks):
            raise UserError(f"--unfreeze_blocks {count}: {self.name} has {len(self.blocks)} blocks")
        parameters = dict(self.named_parameters())
        names = [name for block in self.blocks[:count] for name in block.parameters]
        opened = tuple(name for name in names if not parameters[name].requires_grad)
        for name in opened:
            parameters[name].requires_grad_(True)
        self._opened = max(self._opened, count)
        self.train(self.training)
        return opened

    def train(self, mode: bool = True) -> Backbone:
        """Switch open blocks to training or evaluation mode; the others stay in evaluation mode."""
        super().train(mode)
        self.network.eval()
        open_parts = tuple(part for parts in self._parts[: self._opened] for part in parts)
        for name, module in self.network.named_modules():
            if f"{name}.".startswith(open_parts) and not isinstance(module, _BatchNorm):
                module.training = mode  # `module.train` would reach its BatchNorm too
        return self

    def digest(self) -> str:
        """Return a SHA-256 of every weight, the same for equal weights from any file."""
        total = hashlib.sha256()
        for name, tensor in sorted(self.state_dict().items()):
            total.update(f"{name} {tensor.dtype} {list(tensor.shape)}".encode())
            total.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
        return total.hexdigest()

    def _features(self, frames: Tensor) -> Tensor:
        features: Tensor = self.network((frames - self.mean) / self.std)
        return features


class TinyCNN(nn.Sequential):
    """A small network that needs no weights file: 128 features, 97,920 parameters."""

    def __init__(self) -> None:
        layers: list[nn.Module] = [nn.AvgPool2d(2)]
        inputs = 3
        for channels in (16, 32, 64, 128):
            layers.append(
                nn.Sequential(
                    nn.Conv2d(inputs, channels, 3, stride=2, padding=1),
                    nn.GroupNorm(8, channels),
                    nn.ReLU(),
                )
            )
            inputs = channels
        super().__init__(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten())


def build_backbone(
    name: str, weights: str | Path | None = None, random: bool = False, img_size: int = 224
) -> Backbone | None:
    """Return a frozen backbone, None for `none`; nothing is ever downloaded.

    `weights` is a local .pth, .pt or .safetensors state dict, `random` permits a large backbone without one.
    Raises UserError for an unknown name, a combination that cannot be, a size no patch divides, a package
    that is not installed, and a file that is missing or does not fit.
    """
    _check_request(name, weights, random, img_size)
    if name == "none":
        return None
    plan = _plan(name, img_size)
    if weights is not None:
        _load(name, plan.network, Path(weights))
    return Backbone(name, plan, None if weights is None else Path(weights))


def _check_request(name: str, weights: str | Path | None, random: bool, img_size: int) -> None:
    if name not in NAMES:
        raise UserError(f"--backbone {name}: one of {', '.join(NAMES)} is expected")
    if name == "none" and weights is not None:
        raise UserError("--backbone_weights with --backbone none: there is no network to fill")
    if random and weights is not None:
        raise UserError("--random_backbone and --backbone_weights exclude each other")
    if name not in ("none", "tiny_cnn") and weights is None and not random:
        raise UserError(
            f"--backbone {name} needs --backbone_weights FILE; nothing is downloaded "
            "(--random_backbone permits random weights)"
        )
    if name in VITS and img_size % VITS[name][1]:
        raise UserError(f"--img_size {img_size}: {name} needs a multiple of its patch, {VITS[name][1]}")


def _plan(name: str, img_size: int) -> Plan:
    if name == "tiny_cnn":
        return Plan(TinyCNN(), 128, HALVES, [(f"conv{k}", (f"{k}.",)) for k in (4, 3, 2, 1)])
    return _resnet(name) if name in RESNETS else _vit(name, img_size)


def _resnet(name: str) -> Plan:
    try:
        from torchvision import models  # takes seconds, and fails beside a torch it was not built for
    except (ImportError, RuntimeError) as error:
        raise UserError(f"--backbone {name} needs a torchvision that fits torch: {error}") from error
    network = getattr(models, name)(weights=None)
    network.fc = nn.Identity()
    layers = [(layer, (f"{layer}.",)) for layer in ("layer4", "layer3", "layer2", "layer1")]
    return Plan(network, RESNETS[name], IMAGENET, [*layers, ("stem", ("conv1.", "bn1."))])


def _vit(name: str, img_size: int) -> Plan:
    try:
        import timm
    except ImportError as error:
        raise UserError(f"--backbone {name} needs timm: pip install 'rodent_behavior[timm]'") from error
    dim, _, normalization = VITS[name]
    network = timm.create_model(name, pretrained=False, num_classes=0, img_size=img_size)
    first = ("block11", ("blocks.11.", "norm."))
    others = [(f"block{k}", (f"blocks.{k}.",)) for k in reversed(range(11))]
    stem = ("stem", ("patch_embed.", "cls_token", "pos_embed"))
    return Plan(network, dim, normalization, [first, *others, stem])


def _blocks(backbone: nn.Module, prefixes: Sequence[tuple[str, tuple[str, ...]]]) -> tuple[Block, ...]:
    """Sort the parameters into blocks; each belongs to one, and no block is empty."""
    names = [name for name, _ in backbone.named_parameters()]
    blocks = tuple(
        Block(block, tuple(name for name in names if name.removeprefix("network.").startswith(starts)))
        for block, starts in prefixes
    )
    empty = [block.name for block in blocks if not block.parameters]
    sorted_in = [name for block in blocks for name in block.parameters]
    if empty or sorted(sorted_in) != sorted(names):
        stray = sorted(set(names) ^ set(sorted_in))
        raise ValueError(f"blocks without parameters: {empty}; parameters not in exactly one block: {stray}")
    return blocks


def _load(name: str, network: nn.Module, path: Path) -> None:
    """Fill every tensor of a network from a file that has all of them; UserError names what does not fit."""
    tensors = read_tensors(path, flag="--backbone_weights")
    state = {key.removeprefix("module."): value for key, value in tensors.items()}
    state = {key: value for key, value in state.items() if not key.startswith(CLASSIFIERS)}
    if name in VITS:
        from timm.models.vision_transformer import checkpoint_filter_fn

        state = checkpoint_filter_fn(state, network)  # position tables of another size are interpolated
    target = network.state_dict()
    for key in target:
        if key.endswith("num_batches_tracked"):
            state.setdefault(key, target[key])  # absent from old files, without effect
    faults = [f"{key} is not in the file" for key in target if key not in state]
    faults += [f"{key} fits nothing" for key in state if key not in target]
    faults += [
        f"{key} is {list(state[key].shape)} in the file, {list(target[key].shape)} in {name}"
        for key in target
        if key in state and state[key].shape != target[key].shape
    ]
    if faults:
        more = f" and {len(faults) - LISTED} more" if len(faults) > LISTED else ""
        raise UserError(f"--backbone_weights {path} does not fit {name}: {'; '.join(faults[:LISTED])}{more}")
    network.load_state_dict(state)
