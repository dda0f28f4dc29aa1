"""What every training of a comparison shares: the sequences, on the device, and their frames."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from common.config import UserError
from common.engine.logging import Console
from eye_fixation.config import DataConfig
from eye_fixation.data.contract import GazeData, GazeSplits, Metadata
from eye_fixation.data.pt import find_folder, load_folder, usable
from eye_fixation.frames import create_sparse_frames, gaussian_frames


@dataclass(frozen=True, eq=False)
class Sequences:
    """Coordinates (x, y) in cells [N, T, 2] and mask [N, T] of one split, on a device.

    Frames are drawn when they are needed, so that memory holds numbers instead of pixels.
    """

    coordinates: Tensor
    mask: Tensor
    in_len: int
    img_size: int
    input_sigma: float = 0.0

    @classmethod
    def of(cls, data: GazeData, config: DataConfig, device: torch.device) -> Sequences:
        """Put the sequences of a split on a device."""
        return cls(
            data.coordinates.to(device),
            data.mask.to(device),
            config.in_len,
            data.metadata.img_size,
            config.input_sigma,
        )

    def __len__(self) -> int:
        return len(self.coordinates)

    def inputs(self, index: Tensor) -> Tensor:
        """Return input frames [B, T_in, 1, S, S]."""
        seen = slice(0, self.in_len)
        return draw_inputs(
            self.coordinates[index, seen], self.mask[index, seen], self.img_size, self.input_sigma
        )

    def targets(self, index: Tensor) -> tuple[Tensor, Tensor]:
        """Return target frames [B, T_out, 1, S, S] and which of them count, bool [B, T_out]."""
        mask = self.mask[index, self.in_len :]
        return create_sparse_frames(self.coordinates[index, self.in_len :], mask, self.img_size), mask

    @property
    def future(self) -> tuple[Tensor, Tensor]:
        """Return target coordinates [N, T_out, 2] and mask [N, T_out]."""
        return self.coordinates[:, self.in_len :], self.mask[:, self.in_len :]

    @property
    def past(self) -> tuple[Tensor, Tensor]:
        """Return input coordinates [N, T_in, 2] and mask [N, T_in]."""
        return self.coordinates[:, : self.in_len], self.mask[:, : self.in_len]

    @property
    def last_input(self) -> Tensor:
        """Return the last input gaze [N, 2], NaN where it was lost."""
        last = self.in_len - 1
        return torch.where(self.mask[:, last, None], self.coordinates[:, last], torch.nan)


@dataclass(frozen=True, eq=False)
class Study:
    """The three splits as files hold them, cut to the frames that are used, and where they came from."""

    folder: Path
    splits: GazeSplits

    @property
    def metadata(self) -> Metadata:
        """Return what all splits have in common."""
        return self.splits.test.metadata

    @property
    def sha256(self) -> dict[str, str]:
        """Return the sums of the three files."""
        return {split: data.sha256 for split, data in zip(("train", "val", "test"), self.splits)}

    @property
    def images_shared(self) -> bool:
        """Whether sequences of one group looked at the same image."""
        return self.metadata.split_by == "image" and self.splits.test.group is not None

    def groups(self, split: str = "test") -> NDArray[np.int64]:
        """Return what is resampled: the image, recording or subject of each sequence, else the sequence."""
        data: GazeData = getattr(self.splits, split)
        if data.group is None:
            return np.arange(len(data))
        return data.group.numpy().astype(np.int64)


def draw_inputs(coordinates: Tensor, mask: Tensor, img_size: int, sigma: float) -> Tensor:
    """Return frames [B, T, 1, S, S]: one pixel per gaze, or with `sigma` > 0 a Gaussian of peak 1."""
    if sigma > 0:
        return gaussian_frames(coordinates, mask, img_size, sigma)
    return create_sparse_frames(coordinates, mask, img_size)


def open_study(config: DataConfig, console: Console) -> Study:
    """Find, read, check and cut the data; UserError names what is wrong."""
    for flag, length in (("--in-len", config.in_len), ("--out-len", config.out_len)):
        if length < 1:
            raise UserError(f"{flag} {length}: at least 1 is expected")
    folder = find_folder(config.data_dir)
    splits = load_folder(folder, coord_order=config.coord_order)
    limits = (config.max_train, config.max_val, config.max_test)
    cut = GazeSplits(
        *(
            _first(usable(data, config.in_len, config.out_len), limit)
            for data, limit in zip(splits, limits, strict=True)
        )
    )
    study = Study(folder, cut)
    for line in _lines(study, config):
        console.line("data", line)
    return study


def _first(data: GazeData, limit: int) -> GazeData:
    return data.take(slice(0, limit)) if limit else data


def _lines(study: Study, config: DataConfig) -> list[str]:
    metadata = study.metadata
    counts = "/".join(str(len(data)) for data in study.splits)
    rate = "" if metadata.rate_hz is None else f"  {metadata.rate_hz:g} Hz"
    lines = [
        f"{metadata.source_name}  {metadata.source}  {counts} sequences  {config.in_len} -> {config.out_len} "
        f"frames{rate}  prevalence {metadata.prevalence:.4%}".replace("%", " %"),
        f"{study.folder}",
    ]
    for split, data, limit in zip(
        ("train", "val", "test"), study.splits, (config.max_train, config.max_val, config.max_test)
    ):
        notes = [f"{count} {name.replace('_', ' ')}" for name, count in data.counts.items() if count] + (
            [f"the first {limit} sequences at most"] if limit else []
        )
        if notes:
            lines.append(f"{split}: {', '.join(notes)}")
    return lines
