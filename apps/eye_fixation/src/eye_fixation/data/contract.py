"""What a data file holds: sequences of gaze positions in cells, and where they come from."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from eye_fixation.frames import ORDERS
from eye_fixation.geometry import Geometry

SCHEMA = 1
SOURCES = ("real", "simulated", "unknown")
SPLITS = ("train", "val", "test")
OPTIONAL = ("group", "subject", "recording", "start_s", "events")


@dataclass(frozen=True)
class Metadata:
    """Where the sequences of a file come from; the defaults are those of a file that does not say.

    `rate_hz` is None where frames have no duration. `group` ids are what `split_by` names. `sha256` holds the
    sums of the files that were read, `counts` what happened to their contents, `stimulus_period` frames.
    """

    schema: int = SCHEMA
    source: str = "unknown"
    source_name: str = "unknown"
    img_size: int = 32
    coord_order: str = "xy"
    rate_hz: float | None = None
    geometry: Geometry = field(default_factory=Geometry)
    split: str = ""
    split_by: str = ""
    command: str = ""
    sha256: Mapping[str, str] = field(default_factory=dict)
    counts: Mapping[str, int] = field(default_factory=dict)
    stimulus_period: int | None = None

    @property
    def prevalence(self) -> float:
        """Share of pixels that are active in a frame with gaze."""
        return 1 / self.img_size**2

    def to_dict(self) -> dict[str, Any]:
        """Return plain types for a file."""
        values = {item.name: getattr(self, item.name) for item in fields(self)}
        return values | {
            "geometry": self.geometry.to_dict(), "sha256": dict(self.sha256), "counts": dict(self.counts)
        }  # fmt: skip

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Metadata:
        """Return what `to_dict` described; missing entries take their defaults, unknown ones are left out.

        Raises ValueError naming an entry of the wrong type or range, and a newer schema.
        """
        known = {item.name: values[item.name] for item in fields(cls) if item.name in values}
        for name, (expected, accepts) in _RULES.items():
            if name in known and not accepts(known[name]):
                raise ValueError(f"metadata {name} {known[name]!r}: {expected} is expected")
        if known.get("rate_hz") is not None:
            known["rate_hz"] = float(known["rate_hz"])
        known["geometry"] = Geometry.from_dict(known.get("geometry") or {})
        return cls(**known)


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _positive(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < float("inf")


_TEXTS = ("source_name", "split", "split_by", "command")
_MAPPINGS = ("sha256", "counts")
_RULES: dict[str, tuple[str, Any]] = {
    "schema": (f"1 to {SCHEMA}", lambda value: _whole(value) and 1 <= value <= SCHEMA),
    "source": (f"one of {', '.join(SOURCES)}", lambda value: value in SOURCES),
    "img_size": ("a whole number above 1", lambda value: _whole(value) and value > 1),
    "coord_order": (f"one of {', '.join(ORDERS)}", lambda value: value in ORDERS),
    "rate_hz": ("a positive number or None", lambda value: value is None or _positive(value)),
    "geometry": ("a dictionary or None", lambda value: value is None or isinstance(value, dict)),
    "stimulus_period": ("a whole number or None", lambda value: value is None or _whole(value)),
    **{name: ("text", lambda value: isinstance(value, str)) for name in _TEXTS},
    **{name: ("a dictionary", lambda value: isinstance(value, dict)) for name in _MAPPINGS},
}


@dataclass(frozen=True)
class GazeData:
    """Sequences of one split.

    `coordinates` float32 (N, T, 2) are (x, y) in cells, 0 to S, whatever the file's order, and 0 where
    `mask` bool (N, T) is False. `group`, `subject`, `recording` int64 (N,), `start_s` float64 (N,) and
    `events` uint8 (N, T) are None where the file has none. `sha256` is the file's, `counts` what was met.
    """

    coordinates: Tensor
    mask: Tensor
    metadata: Metadata = field(default_factory=Metadata)
    path: Path | None = None
    group: Tensor | None = None
    subject: Tensor | None = None
    recording: Tensor | None = None
    start_s: Tensor | None = None
    events: Tensor | None = None
    sha256: str = ""
    counts: Mapping[str, int] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.coordinates)

    def take(self, indices: Tensor | slice | list[int]) -> GazeData:
        """Return the sequences at `indices` (int64 or bool tensor, slice or list), in that order."""
        chosen = torch.as_tensor(indices) if isinstance(indices, list) else indices
        if isinstance(chosen, Tensor) and chosen.numel() == 0:
            chosen = chosen.long()
        parts: dict[str, Any] = {name: part[chosen] for name, part in self.named()}
        return replace(self, coordinates=self.coordinates[chosen], mask=self.mask[chosen], **parts)

    def named(self) -> Iterator[tuple[str, Tensor]]:
        """Yield the optional tensors that are there, with their names."""
        for name in OPTIONAL:
            part = getattr(self, name)
            if part is not None:
                yield name, part


class GazeSplits(NamedTuple):
    """The three splits of a data set."""

    train: GazeData
    val: GazeData
    test: GazeData
