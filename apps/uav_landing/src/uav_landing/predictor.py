"""A network with the settings that turn a whole photo into probabilities."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from uav_landing.models.base import SegmentationModel
from uav_landing.sliding_window import predict_photo


@dataclass(frozen=True, kw_only=True)
class PhotoPredictor:
    """Call it with a normalised photo [3, H, W]; it returns probabilities [K, H, W] on its device."""

    model: SegmentationModel
    tile: tuple[int, int]
    overlap: float
    batch: int
    device: torch.device
    autocast: torch.dtype | None = None
    tta: bool = False

    def __call__(self, image: Tensor) -> Tensor:
        """Slide the window over `image`; the model must be in eval mode."""
        return predict_photo(
            self.model,
            image,
            tile=self.tile,
            overlap=self.overlap,
            batch=self.batch,
            num_classes=self.model.num_classes,
            device=self.device,
            autocast=self.autocast,
            tta=self.tta,
        )
