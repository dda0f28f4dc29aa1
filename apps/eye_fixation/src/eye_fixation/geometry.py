"""The screen a recording was made on: from its units to shares of the screen, and to visual angle."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from common.config import UserError

Units = Literal["px", "deg", "norm"]
Origin = Literal["top-left", "bottom-left", "center"]
Array = NDArray[np.float64]

FLAGS = {"screen_px": "--screen-px", "screen_mm": "--screen-mm", "distance_mm": "--distance-mm"}


@dataclass(frozen=True)
class Geometry:
    """Width and height of the screen in pixels and in mm, the eye's distance in mm; None where unknown."""

    screen_px: tuple[float, float] | None = None
    screen_mm: tuple[float, float] | None = None
    distance_mm: float | None = None

    def __post_init__(self) -> None:
        values = [*(self.screen_px or ()), *(self.screen_mm or ())]
        values += [] if self.distance_mm is None else [self.distance_mm]
        if not all(np.isfinite(value) and value > 0 for value in values):
            raise ValueError(f"{self}: positive numbers are expected")

    @property
    def has_degrees(self) -> bool:
        """Whether visual angles can be computed."""
        return self.screen_mm is not None and self.distance_mm is not None

    def to_dict(self) -> dict[str, Any]:
        """Return plain types for a file."""
        return {name: list(v) if isinstance(v, tuple) else v for name, v in asdict(self).items()}

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Geometry:
        """Return the geometry that `to_dict` described; missing entries are None.

        Raises ValueError for an unknown entry, a size that is no pair, or a number that is not positive.
        """
        if unknown := sorted(set(values) - set(FLAGS)):
            raise ValueError(f"geometry: unknown {', '.join(unknown)}")
        distance = values.get("distance_mm")
        try:
            return cls(
                _pair(values.get("screen_px")),
                _pair(values.get("screen_mm")),
                None if distance is None else float(distance),
            )
        except TypeError as error:
            raise ValueError(f"geometry {dict(values)}: {error}") from None

    def normalised(self, x: Array, y: Array, units: Units, origin: Origin) -> tuple[Array, Array]:
        """Return x to the right and y downwards as shares of the screen, 0 at the top left corner.

        Degrees are relative to the screen's centre, whatever the origin: x = .5 + D tan(x) / W. y counts
        downwards in every origin but bottom-left. Raises ValueError where the geometry lacks what units need.
        """
        width, height = self._extent(units)
        if units == "deg":
            assert self.distance_mm is not None
            x, y = (self.distance_mm * np.tan(np.radians(value)) for value in (x, y))
        x, y = x / width, y / height
        if origin == "bottom-left":
            y = -y if units == "deg" else 1 - y
        shift = 0.5 if units == "deg" or origin == "center" else 0.0
        return x + shift, y + shift

    def restored(self, x: Array, y: Array, units: Units, origin: Origin) -> tuple[Array, Array]:
        """Undo `normalised`: shares of the screen become the recording's own units."""
        width, height = self._extent(units)
        shift = 0.5 if units == "deg" or origin == "center" else 0.0
        x, y = x - shift, y - shift
        if origin == "bottom-left":
            y = -y if units == "deg" else 1 - y
        x, y = x * width, y * height
        if units == "deg":
            assert self.distance_mm is not None
            x, y = (np.degrees(np.arctan(value / self.distance_mm)) for value in (x, y))
        return x, y

    def angles(self, x: Array, y: Array) -> tuple[Array, Array]:
        """Return shares of the screen as degrees from its centre, (atan(X / D), atan(Y / D)), y downwards."""
        return self.restored(x, y, "deg", "top-left")

    def degrees(self, cells: Tensor, img_size: int) -> Tensor:
        """Return positions [*, 2] in cells as degrees from the screen's centre, (atan(X/D), atan(Y/D)).

        Raises ValueError without size in mm and distance.
        """
        size = cells.new_tensor(self._extent("deg"))
        assert self.distance_mm is not None
        return torch.rad2deg(torch.atan((cells / img_size - 0.5) * size / self.distance_mm))

    def _extent(self, units: Units) -> tuple[float, float]:
        if units == "norm":
            return 1.0, 1.0
        if units == "px":
            if self.screen_px is None:
                raise ValueError("pixels need the screen's size in pixels, --screen-px")
            return self.screen_px
        if self.screen_mm is None or self.distance_mm is None:
            raise ValueError("degrees need the screen's size and distance, --screen-mm and --distance-mm")
        return self.screen_mm


def combine(own: Geometry, typed: Geometry, where: object) -> Geometry:
    """Return a file's own geometry, completed by what flags say.

    Raises UserError naming flag, file and both values where they differ.
    """
    merged = {}
    for name, flag in FLAGS.items():
        said, known = getattr(typed, name), getattr(own, name)
        if said is not None and known is not None and said != known:
            raise UserError(f"{flag} {_shown(said)} contradicts {where}, which says {_shown(known)}")
        merged[name] = known if said is None else said
    return Geometry(**merged)


def _pair(value: Any) -> tuple[float, float] | None:
    if value is None:
        return None
    width, height = value
    return float(width), float(height)


def _shown(value: float | tuple[float, float]) -> str:
    values = value if isinstance(value, tuple) else (value,)
    return " ".join(f"{number:g}" for number in values)
