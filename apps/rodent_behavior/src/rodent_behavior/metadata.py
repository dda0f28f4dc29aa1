"""Frame rate, frame size and length from the metadata pickle beside tracked keypoints."""

from __future__ import annotations

import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any

LARGEST_FILE = 16 * 2**20
"""Bytes; real files hold two thousand."""
UNREADABLE = (
    pickle.UnpicklingError, OSError, EOFError, ValueError, TypeError, LookupError, AttributeError,
    ImportError, ArithmeticError, MemoryError, RecursionError,
)  # fmt: skip


@dataclass(frozen=True)
class Metadata:
    """What the tracked video was: frames per second, size in pixels, number of frames."""

    fps: float
    width: int
    height: int
    frames: int


class _ScalarFloat(float):
    """A float whose pickled formatting is dropped."""

    def __setstate__(self, state: object) -> None:
        """Keep the value only."""


class _Restricted(pickle.Unpickler):
    """Builds plain types and floats; any other class or function is refused before it is imported."""

    def find_class(self, module: str, name: str) -> Any:
        """Return the one class that may be built."""
        if (module, name) == ("ruamel.yaml.scalarfloat", "ScalarFloat"):
            return _ScalarFloat
        raise pickle.UnpicklingError(f"{module}.{name} is not allowed")


def read_metadata(path: Path) -> Metadata | None:
    """Return the facts under `data` of a metadata pickle, or None when it cannot be read.

    A pickle may run code when loaded, so only plain types and `ruamel.yaml.scalarfloat.ScalarFloat` (as a
    float) are built. A file that asks for anything else, is damaged, or lacks a fact is not read.
    """
    try:
        if path.stat().st_size > LARGEST_FILE:
            return None
        with path.open("rb") as file:
            content = _Restricted(file).load()
        data = content["data"]
        height, width = data["frame_dimensions"][:2]
        facts = Metadata(float(data["fps"]), int(width), int(height), int(data["nframes"]))
    except UNREADABLE:
        return None
    return facts if facts.fps > 0 and min(facts.width, facts.height, facts.frames) > 0 else None
