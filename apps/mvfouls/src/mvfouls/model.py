"""The whole network: a video backbone on every view, one feature per action, a head per task."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from common.freezing.blocks import Block
from mvfouls.aggregation import build_aggregator
from mvfouls.architectures import Colour, architecture
from mvfouls.backbones import VideoBackbone, build_backbone
from mvfouls.heads import build_head
from mvfouls.settings import ModelSettings
from mvfouls.weights import find_weights, load_weights

TABLES = ("class_token", "rel_pos_h", "rel_pos_w", "rel_pos_t", "relative_position_bias_table")
"""Parameters that are no weights of a layer: they take no weight decay."""


class FoulOutput(NamedTuple):
    """Logits [B, K] per task, shares [B, V] of the views (0: no such view), and features [B, D]."""

    logits: dict[str, Tensor]
    attention: Tensor
    features: Tensor


class FoulModel(nn.Module):
    """Views of actions to logits. Only views that exist are given, one after the other.

    `normalisation`: mean and deviation of the input in [0, 1] that belong to the backbone's weights.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        backbone: VideoBackbone,
        aggregator: nn.Module,
        heads: Mapping[str, nn.Module],
        *,
        classes: Mapping[str, int],
        normalisation: tuple[Colour, Colour],
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if not heads or list(heads) != list(classes):
            raise ValueError(f"heads of {list(heads)} and classes of {list(classes)} must be the same tasks")
        self.backbone = backbone
        self.aggregator = aggregator
        self.dropout = nn.Dropout(dropout)
        self.heads = nn.ModuleDict(heads)
        self.classes = dict(classes)
        self.mean_values, self.std_values = normalisation
        for key, values in zip(("mean", "std"), normalisation):
            self.register_buffer(key, torch.tensor(values).view(3, 1, 1, 1), persistent=False)

    def forward(self, clips: Tensor, counts: Tensor) -> FoulOutput:
        """Return the output for normalised `clips` [N, 3, T, H, W]; action b has the next `counts[b]`.

        `counts` [B] are on the host. Raises ValueError when they do not add up to N or an action has none.
        """
        return self.classify(self.backbone(clips), counts)

    def classify(self, features: Tensor, counts: Tensor) -> FoulOutput:
        """Return the output for the backbone's `features` [N, D] of the views."""
        exact = features.to(torch.promote_types(features.dtype, torch.float32))
        pooled, attention = self.aggregator(exact, counts)
        dropped = self.dropout(pooled)
        logits = {task: head(dropped) for task, head in self.heads.items()}
        return FoulOutput(logits, attention, pooled)

    def normalise(self, clips: Tensor) -> Tensor:
        """Return `clips` [N, 3, T, H, W] in [0, 1] as the backbone's weights expect them."""
        return (clips - self.mean) / self.std

    def blocks(self) -> list[Block]:
        """Return the backbone's blocks, from the heads to the input; heads and aggregator are in none."""
        return list(self.backbone.blocks("backbone."))

    def no_weight_decay(self) -> set[str]:
        """Return the class token and the tables of positions."""
        return {name for name, _ in self.named_parameters() if name.endswith(TABLES)}


def build_model(
    settings: ModelSettings,
    classes: Mapping[str, int],
    cosine: Collection[str],
    frames: int,
    size: tuple[int, int],
) -> FoulModel:
    """Return the network of `settings` for clips of `frames` and `size` (height, width), weights loaded.

    `classes` are the outputs of each task, those in `cosine` give cosines. Raises UserError for clips the
    network cannot take and for weights that are absent or do not fit, ValueError for heads that cannot be.
    """
    known = architecture(settings.backbone)
    known.check_input(frames, *size)
    if set(settings.heads) != set(classes):
        raise ValueError(f"heads of {sorted(settings.heads)}, classes of {sorted(classes)}")
    path = find_weights(known.name, settings.weights, settings.weights_dir)
    backbone = build_backbone(known.name, frames=frames, checkpointing=settings.activation_checkpointing)
    if path is not None:
        load_weights(backbone, known.name, path, classes=settings.weights_classes)
    model = with_heads(backbone, settings, classes, cosine)
    if settings.channels_last:
        backbone.to(memory_format=torch.channels_last_3d)
    if settings.compile:
        backbone.compile()
    return model


def with_heads(
    backbone: VideoBackbone, settings: ModelSettings, classes: Mapping[str, int], cosine: Collection[str]
) -> FoulModel:
    """Return `backbone` with a fresh aggregator and a fresh head for every task of `classes`.

    ValueError for heads that cannot be.
    """
    known = architecture(settings.backbone)
    heads = {task: spec for task, spec in settings.heads.items() if task in classes}
    return FoulModel(
        backbone,
        build_aggregator(settings.aggregation, known.dim, temperature=settings.temperature),
        {
            task: build_head(spec, known.dim, classes[task], cosine=task in cosine)
            for task, spec in heads.items()
        },
        classes={task: classes[task] for task in heads},
        normalisation=known.normalisation,
        dropout=settings.dropout,
    )
