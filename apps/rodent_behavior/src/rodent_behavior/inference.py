"""A model run over one trial of any length, window by window."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import NamedTuple

import torch
from torch import Tensor

from rodent_behavior.network import BehaviorNetwork
from rodent_behavior.windows import EvaluationWindow, evaluation_windows

WINDOWS_PER_BATCH = 8
INPUTS = ("pose", "visual", "frames", "valid")
"""Fields of a sample or batch that the model reads."""


class TrialOutput(NamedTuple):
    """Action logits [S, C, L] of every stage, the last being the prediction; keypoints [L, 2K] or None."""

    stages: Tensor
    keypoints: Tensor | None

    @property
    def logits(self) -> Tensor:
        """The prediction's logits [C, L]."""
        return self.stages[-1]


@torch.no_grad()
def run_trial(
    model: BehaviorNetwork, streams: Mapping[str, Tensor], window: int, *, causal: bool
) -> TrialOutput:
    """Return the output for `streams`, tensors [L, ...] under the names a model's batch has.

    Every frame is answered by one window of at most `window` frames (see `evaluation_windows`), and a few
    windows are in memory at a time. ValueError unless the model is in evaluation mode.
    """
    if model.training:
        raise ValueError("model: call eval() before run_trial")
    if "frames" in streams:
        visual = model.features(streams["frames"][None])[0]
        streams = {**{name: value for name, value in streams.items() if name != "frames"}, "visual": visual}
    length = len(next(iter(streams.values())))
    spans = evaluation_windows(length, window, causal)
    parts = [part for group in _groups(spans) for part in _run_windows(model, streams, group)]
    stages = torch.cat([part.stages for part in parts], dim=2)
    if parts[0].keypoints is None:
        return TrialOutput(stages, None)
    return TrialOutput(stages, torch.cat([part.keypoints for part in parts if part.keypoints is not None]))


def _groups(spans: list[EvaluationWindow]) -> Iterator[list[EvaluationWindow]]:
    for first in range(0, len(spans), WINDOWS_PER_BATCH):
        yield spans[first : first + WINDOWS_PER_BATCH]


def _run_windows(
    model: BehaviorNetwork, streams: Mapping[str, Tensor], spans: list[EvaluationWindow]
) -> Iterator[TrialOutput]:
    batch = {
        name: torch.stack([stream[span.start : span.stop] for span in spans])
        for name, stream in streams.items()
    }
    output = model(batch)
    stages = torch.stack(output["stages"])
    for place, span in enumerate(spans):
        own = slice(span.score_start - span.start, span.score_stop - span.start)
        points = output["keypoints"]
        yield TrialOutput(stages[:, place, :, own], None if points is None else points[place, own])
