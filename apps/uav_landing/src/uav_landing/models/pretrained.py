"""Fill a network from a local weights file, and say part by part what came of it."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from common.config import UserError
from common.weights_file import read_tensors
from uav_landing.models.base import SegmentationModel

TORCHVISION_BACKBONE = re.compile(r"^(features\.|(?=(conv1|bn1|layer[1-4])\.))")
"""Where torchvision's image classifiers (MobileNetV3, ResNet) lack our prefix `backbone.`."""
IMAGE_CLASSIFIER = ("fc.", "classifier.")
"""Their last layers, which no segmenter has."""
LISTED = 10


@dataclass(frozen=True)
class LoadReport:
    """What a weights file did to a network.

    `loaded` and `reinitialised` are names of the network (the latter keep their random values, but for
    biases, which become 0 where their weight was loaded); `unexpected` are names of the file that fit
    nothing. `coverage` is the share of backbone tensors loaded. `lines` says it for the console.
    """

    lines: tuple[str, ...]
    loaded: tuple[str, ...]
    reinitialised: tuple[str, ...]
    unexpected: tuple[str, ...]
    coverage: float


def load_pretrained(model: SegmentationModel, path: str | Path, min_coverage: float) -> LoadReport:
    """Copy into `model` every tensor of the file at `path` that matches in name and shape, then report.

    Reads safetensors and torch files (the latter as tensors only; nothing in them is executed): networks of
    this application, the public BiSeNetV2 weights, and torchvision weights of image classifiers or
    segmenters. Layers whose outputs are classes are neither loaded nor counted, since the file's classes are
    other ones. BatchNorm's batch counters are loaded but not counted: old files have none.

    Raises UserError if the file is missing, unreadable, or covers less than `min_coverage` of the backbone;
    `model` is unchanged then.
    """
    path = Path(path)
    source = {
        _model_name(name): tensor for name, tensor in read_tensors(path, flag="--pretrained-path").items()
    }
    plan = _Plan(path, source, model.state_dict(), model.classifiers)
    if not plan.coverage >= min_coverage:
        raise UserError(plan.coverage_error(min_coverage))
    model.load_state_dict({name: source[name] for name in plan.loaded}, strict=False)
    for name in plan.zeroed:
        plan.target[name].zero_()
    return LoadReport(plan.lines(), tuple(plan.loaded), plan.reinitialised, plan.unexpected, plan.coverage)


class _Plan:
    """Which tensor of a file goes where in a network."""

    def __init__(
        self, path: Path, source: dict[str, Tensor], target: dict[str, Tensor], classifiers: tuple[str, ...]
    ) -> None:
        self.path, self.source, self.target = path, source, target
        own_classes = tuple(f"{layer}." for layer in classifiers)
        self.loaded = {
            name
            for name, tensor in source.items()
            if name in target and tensor.shape == target[name].shape and not name.startswith(own_classes)
        }
        self.reinitialised = tuple(
            name for name in target if name not in self.loaded and not _is_counter(name)
        )
        left = [name for name in source if name not in self.loaded]
        foreign = own_classes + IMAGE_CLASSIFIER
        self.unexpected = tuple(name for name in left if not name.startswith(foreign))
        self.left_out = tuple(name for name in left if name.startswith(foreign))

        self.backbone = [name for name in target if name.startswith("backbone.") and not _is_counter(name)]
        self.unmatched = [name for name in self.backbone if name not in self.loaded]
        self.coverage = 1 - len(self.unmatched) / len(self.backbone)

    @property
    def zeroed(self) -> list[str]:
        """Biases that the file lacks although it has their weights."""
        return [
            name
            for name in self.reinitialised
            if name.endswith(".bias") and name.removesuffix("bias") + "weight" in self.loaded
        ]

    def coverage_error(self, min_coverage: float) -> str:
        """Say how many tensors match, and which do not."""
        matched, total = len(self.backbone) - len(self.unmatched), len(self.backbone)
        lines = [
            f"--pretrained-path: {self.path} fills {matched} of {total} backbone tensors, "
            f"a smaller share than --pretrained-min-coverage {min_coverage:g}; "
            f"{len(self.unexpected)} of the file's {len(self.source)} tensors fit nothing",
            f"first of the {len(self.unmatched)} unmatched:",
            *(f"  {self._shapes(name)}" for name in self.unmatched[:LISTED]),
        ]
        if self.unexpected:
            lines.append(f"the file has for example {', '.join(self.unexpected[:3])}")
        return "\n".join(lines)

    def lines(self) -> tuple[str, ...]:
        """Count loaded, reinitialised and unexpected tensors per part of the network."""
        columns = [Counter(map(_part, names)) for names in (self.loaded, self.reinitialised, self.unexpected)]
        lines = [f"weights  {self.path}   {100 * self.coverage:.1f} % of the backbone"]
        for part in sorted(set().union(*columns)):
            loaded, missing, unexpected = (column[part] for column in columns)
            lines.append(f"  {part}: {loaded} loaded, {missing} reinitialised, {unexpected} unexpected")
        if self.left_out:
            lines.append(f"  classifier of the file: {len(self.left_out)} tensors left out")
        if self.zeroed:
            lines.append(f"  not in the file, set to zero: {', '.join(self.zeroed[:LISTED])}")
        return tuple(lines)

    def _shapes(self, name: str) -> str:
        wanted = list(self.target[name].shape)
        if name in self.source:
            return f"{name}: {list(self.source[name].shape)} in the file, {wanted} in the network"
        return f"{name} {wanted}: not in the file"


def _model_name(name: str) -> str:
    """Return the name that a file's tensor has in the networks of this application."""
    return TORCHVISION_BACKBONE.sub("backbone.", name.removeprefix("module."))


def _is_counter(name: str) -> bool:
    return name.endswith(".num_batches_tracked")


def _part(name: str) -> str:
    pieces = name.split(".")
    depth = 2 if pieces[0] == "backbone" else 1
    return ".".join(pieces[:depth])
