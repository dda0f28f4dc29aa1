"""Forward passes of the networks on one thread."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from timing import Action, Entry, Row, Settings, absolute, at_least, at_most, interleave, ratio

from uav_landing.config import ModelConfig
from uav_landing.models.build import build_model

CLASSES = 4


@contextmanager
def one_thread() -> Iterator[None]:
    """Give torch a single thread."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def forward(model_type: str, height: int, width: int) -> Action:
    """Return what runs one image through a network, weights and image channels last."""
    torch.manual_seed(0)
    config = ModelConfig(model_type=model_type)  # type: ignore[arg-type]
    model = build_model(config, CLASSES, aux=False).eval().to(memory_format=torch.channels_last)
    image = torch.rand(1, 3, height, width).contiguous(memory_format=torch.channels_last)

    def action() -> None:
        with torch.inference_mode():
            model(image)

    return action


def networks(settings: Settings) -> Iterator[Row]:
    """The compact network at tile size and at camera size, and against BiSeNetV2."""
    tile = 64 if settings.small else 512
    camera = (96, 160) if settings.small else (360, 640)
    with one_thread():
        actions = {
            "compact": forward("compact", tile, tile),
            "mmseg_bisenetv2": forward("mmseg_bisenetv2", tile, tile),
            "camera": forward("compact", *camera),
        }
        seconds = interleave(actions, settings)
    yield absolute(f"compact, {tile}x{tile}, one thread", seconds["compact"], "ms", at_most(70))
    what = f"mmseg_bisenetv2 / compact, {tile}x{tile}"
    yield ratio(what, seconds, "mmseg_bisenetv2", "compact", at_least(3))
    name = f"{camera[1]}x{camera[0]}"
    yield absolute(f"compact, {name}, one thread", seconds["camera"], "ms", at_most(45))


ENTRIES: dict[str, Entry] = {"forward": networks}
