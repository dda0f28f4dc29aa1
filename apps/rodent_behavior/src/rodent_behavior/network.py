"""The whole network: an image backbone on every frame, and the behaviour model over time."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor, nn

from rodent_behavior.backbones import Backbone
from rodent_behavior.model import BehaviorInput, BehaviorModel, BehaviorOutput


class BehaviorNetwork(nn.Module):
    """`behavior`, and a `backbone` that turns frames into its visual features; None: poses only.

    While no block of the backbone is open, batches bring `visual` features and the backbone is not run.
    """

    def __init__(self, behavior: BehaviorModel, backbone: Backbone | None) -> None:
        super().__init__()
        self.behavior = behavior
        self.backbone = backbone
        self.opened = 0
        """Backbone blocks that are trained."""

    def open_blocks(self, count: int) -> int:
        """Train the last `count` blocks of the backbone from here on; return the number of parameters."""
        assert self.backbone is not None
        names = self.backbone.unfreeze(count)
        self.opened = count
        return sum(p.numel() for name, p in self.backbone.named_parameters() if name in names)

    def forward(self, batch: Mapping[str, Tensor]) -> BehaviorOutput:
        """Return the output for `pose` [B, T, F] and `visual` [B, T, D] or `frames` [B, T, 3, S, S]."""
        visual = batch.get("visual")
        if visual is None and "frames" in batch:
            visual = self.features(batch["frames"])
        inputs: BehaviorInput = {"pose": batch.get("pose"), "visual": visual, "valid": batch["valid"]}
        output: BehaviorOutput = self.behavior(inputs)
        return output

    def features(self, frames: Tensor) -> Tensor:
        """Return visual features [B, T, D] of frames [B, T, 3, S, S] in [0, 1]."""
        assert self.backbone is not None
        flat: Tensor = self.backbone(frames.flatten(0, 1))
        return flat.view(*frames.shape[:2], -1)
