"""One data file: a dictionary of tensors that loads without running code, and the checks of its contents."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor

from common.config import UserError
from common.weights_file import read_dictionary
from eye_fixation.data.contract import OPTIONAL, GazeData, Metadata
from eye_fixation.frames import cells_of, inside

REQUIRED = ("coordinates", "fixation_mask")
MOST_INVALID = 0.01
"""Largest share of frames that claim gaze outside the grid."""

_PROBED_FRAMES = 256
_FITS = 0.95
_TYPES = {
    "group": torch.int64,
    "subject": torch.int64,
    "recording": torch.int64,
    "start_s": torch.float64,
    "events": torch.uint8,
}


def load_file(path: Path, *, coord_order: str | None = None) -> GazeData:
    """Return the sequences of a file, coordinates as (x, y) and 0 where masked.

    A frame with a coordinate that is not finite, below 0 or above S under mask 1 becomes invalid; these and
    coordinates of exactly S are counted. `coord_order` says what a file without metadata does not. UserError
    names the file and: the key missing, both shapes that disagree, values no mask has, too many such frames,
    no valid frame at all, and an order that contradicts the file's metadata or its frames.
    """
    contents = _contents(path)
    coordinates, mask = _coordinates(path, contents), _mask(path, contents)
    if mask.shape != coordinates.shape[:2]:
        _refuse(path, "fixation_mask", mask, f"does not fit coordinates {tuple(coordinates.shape)}")
    metadata = _metadata(path, contents)
    frames = _frames(path, contents, coordinates)
    if frames is not None:
        metadata = _with_frame_size(path, contents, metadata, frames)
    order = _order(path, contents, metadata, coord_order)
    mask, counts = _valid_frames(path, coordinates, mask, metadata.img_size)
    if frames is not None:
        _check_order(path, frames, coordinates, mask, order)
    positions = coordinates if order == "xy" else coordinates.flip(-1)
    return GazeData(
        torch.where(mask[..., None], positions, 0.0),
        mask,
        replace(metadata, coord_order=order),
        path,
        **{name: _optional(path, name, contents[name], mask) for name in OPTIONAL if name in contents},
        sha256=_sha256(path),
        counts=counts,
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def file_contents(data: GazeData) -> dict[str, Any]:
    """Return what `torch.save` writes; `load_file` reads it back."""
    metadata = data.metadata.to_dict() | {"coord_order": "xy"}
    return {
        "coordinates": data.coordinates,
        "fixation_mask": data.mask,
        "metadata": metadata,
        **dict(data.named()),
    }


def _contents(path: Path) -> dict[str, Any]:
    contents = read_dictionary(path)
    for name in REQUIRED:
        if not isinstance(contents.get(name), Tensor):
            found = ", ".join(f"{key} ({type(value).__name__})" for key, value in contents.items()) or "none"
            raise UserError(f"{path}: no tensor {name!r}; keys found: {found}")
    return contents


def _refuse(path: Path, name: str, tensor: Tensor, text: str) -> NoReturn:
    raise UserError(f"{path}: {name} {tuple(tensor.shape)} {text}")


def _coordinates(path: Path, contents: Mapping[str, Any]) -> Tensor:
    tensor: Tensor = contents["coordinates"]
    if tensor.ndim != 3 or tensor.shape[-1] != 2:
        mask = tuple(contents["fixation_mask"].shape)
        _refuse(path, "coordinates", tensor, f"with fixation_mask {mask}: (N, T, 2) with (N, T) is expected")
    if not tensor.is_floating_point():
        _refuse(path, "coordinates", tensor, f"are {tensor.dtype}: float32 is expected")
    return tensor.float()


def _mask(path: Path, contents: Mapping[str, Any]) -> Tensor:
    tensor: Tensor = contents["fixation_mask"]
    if tensor.dtype == torch.bool:
        return tensor
    other = tensor[(tensor != 0) & (tensor != 1)]
    if len(other):
        _refuse(path, "fixation_mask", tensor, f"holds {other[0].item():g}: only 0 and 1 are expected")
    return tensor == 1


def _metadata(path: Path, contents: Mapping[str, Any]) -> Metadata:
    values = contents.get("metadata") or {}
    if not isinstance(values, dict):
        raise UserError(f"{path}: metadata is a {type(values).__name__}: a dictionary is expected")
    try:
        return Metadata.from_dict(values)
    except ValueError as error:
        raise UserError(f"{path}: {error}") from None


def _optional(path: Path, name: str, tensor: Any, mask: Tensor) -> Tensor | None:
    if tensor is None:
        return None
    shape = mask.shape if name == "events" else mask.shape[:1]
    if not isinstance(tensor, Tensor) or tensor.shape != shape:
        found = tuple(tensor.shape) if isinstance(tensor, Tensor) else type(tensor).__name__
        raise UserError(
            f"{path}: {name} is {found}, with coordinates of {len(mask)} sequences {tuple(shape)}"
        )
    return tensor.to(_TYPES[name])


def _frames(path: Path, contents: Mapping[str, Any], coordinates: Tensor) -> Tensor | None:
    """Return the stored frames as (N, T, S, S), or None."""
    frames = contents.get("frames")
    if frames is None:
        return None
    count, length, _ = coordinates.shape
    if isinstance(frames, Tensor) and frames.ndim == 5 and frames.shape[-1] == frames.shape[-2]:
        if frames.shape[:3] == (count, length, 1):
            return frames[:, :, 0]
        if frames.shape[:3] == (count, 1, length):
            return frames[:, 0]
    found = tuple(frames.shape) if isinstance(frames, Tensor) else type(frames).__name__
    raise UserError(f"{path}: frames {found} do not fit coordinates {tuple(coordinates.shape)}")


def _with_frame_size(path: Path, contents: Mapping[str, Any], metadata: Metadata, frames: Tensor) -> Metadata:
    """Return the metadata with the grid of the frames where the file says none."""
    size = frames.shape[-1]
    if "img_size" in (contents.get("metadata") or {}) and size != metadata.img_size:
        raise UserError(f"{path}: frames of {size} x {size} cells, img_size {metadata.img_size}")
    return replace(metadata, img_size=size)


def _order(path: Path, contents: Mapping[str, Any], metadata: Metadata, typed: str | None) -> str:
    """Return the axis order; a flag overrules the file's own only where frames can tell who is right."""
    said = "coord_order" in (contents.get("metadata") or {})
    if typed is None:
        return metadata.coord_order
    if said and typed != metadata.coord_order and contents.get("frames") is None:
        raise UserError(
            f"--coord-order {typed} contradicts {path}, which says {metadata.coord_order}; leave the flag out"
        )
    return typed


def _valid_frames(
    path: Path, coordinates: Tensor, mask: Tensor, img_size: int
) -> tuple[Tensor, dict[str, int]]:
    """Return the mask without frames outside the grid, and counts."""
    outside = mask & ~inside(coordinates, img_size)
    claimed, wrong = int(mask.sum()), int(outside.sum())
    if wrong > MOST_INVALID * claimed:
        raise UserError(
            f"{path}: {wrong} of {claimed} valid frames have a coordinate that is not finite, below 0 or "
            f"above {img_size} ({wrong / claimed:.1%}, at most {MOST_INVALID:.0%})"
        )
    mask = mask & ~outside
    if not mask.any():
        raise UserError(
            f"{path}: no valid frame: {len(mask)} sequences, {mask.numel()} frames, {claimed} not masked, "
            f"{wrong} of them outside the grid"
        )
    edge = mask & (coordinates == img_size).any(-1)
    return mask, {
        "sequences": len(mask), "frames": mask.numel(), "valid_frames": int(mask.sum()),
        "invalid_frames": wrong, "on_edge": int(edge.sum()),
    }  # fmt: skip


def _check_order(path: Path, frames: Tensor, coordinates: Tensor, mask: Tensor, order: str) -> None:
    """Raise UserError where the frames show the pixels in another axis order, or elsewhere."""
    valid = mask.nonzero()
    chosen = valid[torch.linspace(0, len(valid) - 1, min(len(valid), _PROBED_FRAMES)).long()]
    n, t = chosen.unbind(-1)
    first, second = cells_of(coordinates[n, t], frames.shape[-1]).unbind(-1)
    fits = {
        "xy": (frames[n, t, second, first] > 0).float().mean().item(),
        "yx": (frames[n, t, first, second] > 0).float().mean().item(),
    }
    other = "yx" if order == "xy" else "xy"
    if fits[order] >= _FITS:
        return
    if fits[other] >= _FITS:
        raise UserError(
            f"{path}: frames and coordinates agree in {fits[order]:.0%} of frames read as {order}, in "
            f"{fits[other]:.0%} read as {other}; --coord-order {other} would fit"
        )
    raise UserError(
        f"{path}: frames do not show the coordinates: {fits['xy']:.0%} agree read as xy, "
        f"{fits['yx']:.0%} as yx"
    )
