"""Features of a video made while it is read, for recordings of any length."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from common.video import Pixels, decode, stream
from rodent_behavior.augment import Views
from rodent_behavior.backbones import CHUNK, Backbone
from rodent_behavior.frames import Resize, to_input
from rodent_behavior.trials import TrialIndex


class BackboneFeatures:
    """A visual source without a cache: every call reads the video; only the features stay in memory."""

    def __init__(self, backbone: Backbone, resize: Resize) -> None:
        self.backbone, self.resize = backbone, resize

    @property
    def views(self) -> Views:
        """The clean view alone."""
        return Views()

    @torch.inference_mode()
    def features(self, trial: TrialIndex) -> NDArray[np.float16]:
        """Return the features [1, L, D] of a trial's rows."""
        assert trial.video_path is not None
        device = next(self.backbone.parameters()).device
        parts = [
            self.backbone(to_input(frames.astype(np.float32) / np.float32(255)).to(device))
            .half()
            .cpu()
            .numpy()
            for frames in stream(
                trial.video_path, trial.label_start, trial.label_stop, transform=self.resize, chunk=CHUNK
            )
        ]
        return np.concatenate(parts)[None]

    def frames(self, trial: TrialIndex, start: int, stop: int) -> Pixels:
        """Return the network's input uint8 [T, S, S, 3] of rows `start` to `stop` - 1 of a trial."""
        assert trial.video_path is not None
        first, last = trial.label_start + start, trial.label_start + stop
        return decode(trial.video_path, first, last, transform=self.resize)
