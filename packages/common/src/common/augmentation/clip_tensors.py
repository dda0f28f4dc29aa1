"""Drawn changes applied to many clips at once, on whatever device they are.

Clips are float tensors [N, 3, T, H, W] in [0, 1], with one drawn change each. What changes nothing returns
the clips themselves, bit for bit. Parameters go to the device without waiting for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from common.augmentation.colour import LUMA, ColourChange
from common.augmentation.crop import Crop
from common.augmentation.cutout import pixel_boxes
from common.augmentation.temporal import TemporalMap


def crop_clips(clips: Tensor, crops: Sequence[Crop]) -> Tensor:
    """Return each clip's crop at the size of the clip, bilinear; beyond the frame its edge is repeated."""
    _check(clips, crops)
    if all(crop.is_neutral for crop in crops):
        return clips
    count, channels, frames, height, width = clips.shape
    scale = np.array([2 / width, 2 / height])[:, None]
    theta = np.zeros((count, 2, 3))
    for place, crop in enumerate(crops):
        matrix = crop.matrix(height, width)
        middle = np.array([(width - 1) / 2, (height - 1) / 2])
        theta[place, :, :2] = scale * matrix[:, :2] / scale.T
        theta[place, :, 2] = scale[:, 0] * (matrix[:, :2] @ middle + matrix[:, 2] - middle)
    pictures = clips.reshape(count, channels * frames, height, width)
    grid = F.affine_grid(_sent(theta, clips), list(pictures.shape), align_corners=False)
    warped = F.grid_sample(pictures, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return warped.reshape(clips.shape)


def recolour_clips(clips: Tensor, changes: Sequence[ColourChange]) -> Tensor:
    """Return each clip with its colours changed, within [0, 1]; contrast is about the clip's mean grey.

    In the precision of the clips, also under autocast.
    """
    _check(clips, changes)
    if all(change.is_neutral for change in changes):
        return clips
    lift = _sent(np.array([change.lift for change in changes]), clips)
    linear = _sent(np.stack([change.linear for change in changes]), clips)
    with torch.autocast(clips.device.type, enabled=False):
        lift = lift * (clips.mean(dim=(2, 3, 4)) @ _sent(np.array(LUMA), clips))
        changed = torch.baddbmm(lift[:, None, None], linear, clips.flatten(2))
    return changed.clamp_(0, 1).reshape(clips.shape)


def cut_out_clips(clips: Tensor, boxes: Sequence[NDArray[np.float64]], *, fill: float = 0.5) -> Tensor:
    """Return each clip with its boxes [K, 4] of `draw_boxes`, as many for each clip, replaced by `fill`."""
    _check(clips, boxes)
    if not any(len(clip_boxes) for clip_boxes in boxes):
        return clips
    height, width = clips.shape[-2:]
    edges = torch.from_numpy(pixel_boxes(np.stack(boxes), height, width))
    top, left, bottom, right = edges.to(clips.device, non_blocking=True)[..., None].unbind(-2)
    row, column = (torch.arange(size, device=clips.device) for size in (height, width))
    rows, columns = (row >= top) & (row < bottom), (column >= left) & (column < right)
    hidden = (rows[..., :, None] & columns[..., None, :]).any(dim=1)
    return clips.masked_fill(hidden[:, None, None], fill)


def move_clips(clips: Tensor, maps: Sequence[TemporalMap]) -> Tensor:
    """Return each clip with the frames of its map, which takes and gives T frames."""
    _check(clips, maps)
    if all(map_.is_identity for map_ in maps):
        return clips
    index = torch.from_numpy(np.stack([map_.index for map_ in maps])).to(clips.device, non_blocking=True)
    return clips.gather(2, index[:, None, :, None, None].expand_as(clips))


def flip_clips(clips: Tensor, flipped: Sequence[bool]) -> Tensor:
    """Return the clips with left and right exchanged where `flipped`."""
    _check(clips, flipped)
    if not any(flipped):
        return clips
    chosen = torch.tensor(flipped).to(clips.device, non_blocking=True)
    return torch.where(chosen[:, None, None, None, None], clips.flip(-1), clips)


def noise_clips(clips: Tensor, stds: Sequence[float], seeds: Sequence[int]) -> Tensor:
    """Return each clip with Gaussian noise of its deviation, drawn from its seed, within [0, 1].

    The noise of a clip does not depend on the other clips; it does on the kind of device.
    """
    _check(clips, stds)
    _check(clips, seeds)
    if not any(stds):
        return clips
    noise = torch.empty_like(clips)
    for place, seed in enumerate(seeds):
        noise[place].normal_(generator=torch.Generator(clips.device).manual_seed(seed))
    std = _sent(np.array(stds), clips)
    return torch.addcmul(clips, noise, std[:, None, None, None, None]).clamp_(0, 1)


def _check(clips: Tensor, given: Sequence[Any]) -> None:
    if clips.dim() != 5 or clips.shape[1] != 3:
        raise ValueError(f"clips is {list(clips.shape)}: [N, 3, T, H, W] is expected")
    if len(given) != len(clips):
        raise ValueError(f"{len(clips)} clips, but {len(given)} drawn changes")


def _sent(values: NDArray[np.float64], clips: Tensor) -> Tensor:
    return torch.from_numpy(values).to(clips.dtype).to(clips.device, non_blocking=True)
