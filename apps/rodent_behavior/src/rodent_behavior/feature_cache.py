"""Features of every frame of a video on disk, made in one pass over the file while the backbone is frozen."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice, pairwise
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from common.augmentation import Photometric, apply_photometric, flip_clip, mean_level, noise_of
from common.engine.randomness import generator_for
from common.video import ArrayStore, Pixels, VideoError, content_sha256, read_frames
from rodent_behavior.augment import Views
from rodent_behavior.backbones import CHUNK, Backbone
from rodent_behavior.frames import Resize, to_input

VERSION = 1
LONGEST_PIECE = 512
"""Frames held in memory at once; a longer segment has one draw, but a contrast mean per piece."""

Features = NDArray[np.float16]
Segments = Sequence[tuple[int, int]]


class FeatureCache:
    """Features of videos as read-only float16 memory maps [views, T, D], view 0 the clean one.

    An entry is known by the content of the video, the frames used, the weights of the backbone, its
    normalisation, the size and form of the input, the views and the version. `max_gb` and `say` as in
    `common.video.ArrayStore`. The backbone must be frozen while the cache is used.
    """

    def __init__(
        self,
        folder: str | Path,
        backbone: Backbone,
        resize: Resize,
        views: Views | None = None,
        *,
        max_gb: float = math.inf,
        say: Callable[[str], None] | None = None,
    ) -> None:
        self.store = ArrayStore(folder, max_gb=max_gb, say=say)
        self.backbone = backbone
        self.resize = resize
        self.views = views or Views()
        self._network = _network_identity(backbone)

    def get(self, path: str | Path, frames: int, segments: Segments = ()) -> Features | None:
        """Return the features of frames 0 to `frames` - 1; None, with a line, when they would not fit.

        `segments` (start, stop) are trials: each has one draw per view, so have the gaps between them.
        Raises VideoError for a file that is missing or too short, ValueError for a segment outside.
        """
        cuts = _cuts(segments if self.views.copies else (), frames)
        if not Path(path).is_file():
            raise VideoError(f"{path}: no such file")
        identity = self._identity(path, cuts)
        found = self.store.find(identity)
        if found is not None:
            return found
        shape = (len(self.views), frames, self.backbone.dim)
        size = 2 * math.prod(shape)
        if not self.store.make_room(size):
            self.store.say(f"features of {path}: {size / 1e9:.3g} GB do not fit into the cache")
            return None
        with self.store.create(identity, shape, np.float16) as features, _judging(self.backbone):
            self._fill(features, path, cuts)
        self.store.say(
            f"features of {Path(path).name}: {frames} frames, {len(self.views)} views, {size / 1e6:.1f} MB"
        )
        return self.store.find(identity)

    def _identity(self, path: str | Path, cuts: Sequence[int]) -> dict[str, Any]:
        views = self.views
        return {
            "version": VERSION,
            "video": content_sha256(path),
            "cuts": list(cuts),
            "network": self._network,
            "resize": self.resize.name,
            "views": [views.copies, views.flip, views.brightness, views.contrast, views.noise_std],
            "seed": views.seed if views.copies else None,
            "decoder": cv2.__version__,
        }

    def _fill(self, features: Features, path: str | Path, cuts: Sequence[int]) -> None:
        """Decode once; every view of a piece is made while its frames are in memory."""
        video = content_sha256(path)
        decoded = read_frames(path, 0, cuts[-1], transform=self.resize)
        for start, stop in pairwise(cuts):
            noises: list[np.random.Generator | None] = [None] * (1 + self.views.copies)
            for place in range(start, stop, LONGEST_PIECE):
                piece = np.stack(list(islice(decoded, min(LONGEST_PIECE, stop - place))))
                for copy in range(1 + self.views.copies):
                    drawn = self._drawn(video, start, copy)
                    noises[copy] = noises[copy] or noise_of(drawn)
                    self._fill_copy(features[:, place : place + len(piece)], piece, copy, drawn, noises[copy])

    def _drawn(self, video: str, start: int, copy: int) -> Photometric:
        if copy == 0:
            return Photometric()
        return self.views.photometric(generator_for(self.views.seed, "view", video, start, copy))

    def _fill_copy(
        self,
        features: Features,
        piece: Pixels,
        copy: int,
        drawn: Photometric,
        noise: np.random.Generator | None,
    ) -> None:
        level = mean_level(piece, drawn) if drawn.contrast != 1 else None
        for place in range(0, len(piece), CHUNK):
            clip = apply_photometric(piece[place : place + CHUNK], drawn, level=level, noise=noise)
            features[self.views.index(copy), place : place + CHUNK] = self._forward(clip)
            if self.views.flip:
                mirror = self.views.index(copy, flipped=True)
                features[mirror, place : place + CHUNK] = self._forward(flip_clip(clip))

    def _forward(self, clip: NDArray[np.float32]) -> Features:
        device = next(self.backbone.parameters()).device
        result: Features = self.backbone(to_input(clip).to(device)).half().cpu().numpy()
        return result


def _network_identity(backbone: Backbone) -> dict[str, Any]:
    return {
        "backbone": backbone.name,
        "weights": backbone.digest(),
        "mean": backbone.mean.flatten().tolist(),
        "std": backbone.std.flatten().tolist(),
    }


def _cuts(segments: Segments, frames: int) -> list[int]:
    """Return where draws begin, and the end: at both ends of every segment."""
    if frames < 1:
        raise ValueError(f"frames is {frames}: 1 or more is expected")
    for start, stop in segments:
        if not 0 <= start < stop <= frames:
            raise ValueError(f"segment {start} to {stop} is not within the {frames} frames")
    return sorted({0, frames, *(edge for segment in segments for edge in segment)})


@contextmanager
def _judging(backbone: Backbone) -> Iterator[None]:
    """Run the backbone in evaluation mode without gradients, then put it back."""
    was_training = backbone.training
    backbone.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        backbone.train(was_training)
