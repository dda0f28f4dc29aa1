"""Changes of time: one map of frame numbers that moves every aligned stream alike."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray


class _Stream(Protocol):
    @property
    def shape(self) -> Any: ...

    def __getitem__(self, key: Any, /) -> Any: ...


Stream = TypeVar("Stream", bound=_Stream)


@dataclass(frozen=True, eq=False)
class TemporalMap:
    """Which frame of a stream of `source` frames stands at each place: `index` int64 [T], `valid` bool [T].

    A frame that is not valid is there but must carry no loss.
    ValueError for an index outside the source and for different lengths.
    """

    index: NDArray[np.int64]
    valid: NDArray[np.bool_]
    source: int

    def __post_init__(self) -> None:
        if self.index.shape != self.valid.shape or self.index.ndim != 1:
            raise ValueError(
                f"index is {list(self.index.shape)} and valid {list(self.valid.shape)}: both [T] is expected"
            )
        if self.index.size and not (self.index.min() >= 0 and self.index.max() < self.source):
            raise ValueError(f"index reaches outside the {self.source} frames of its source")

    @classmethod
    def identity(cls, length: int) -> TemporalMap:
        """Leave `length` frames as they are."""
        return cls(np.arange(length), np.ones(length, bool), length)

    @classmethod
    def roll(cls, length: int, shift: int) -> TemporalMap:
        """Move every frame `shift` places later; those that wrap round an end are not valid."""
        moved = np.arange(length) - shift
        return cls(moved % max(length, 1), (moved >= 0) & (moved < length), length)

    @classmethod
    def hold(cls, dropped: NDArray[np.bool_]) -> TemporalMap:
        """Replace each frame where `dropped` [T] by the last one before it that is kept.

        ValueError when frame 0 is dropped: nothing stands before it.
        """
        if dropped.size and dropped[0]:
            raise ValueError("frame 0 cannot be dropped: there is none before it")
        kept = np.where(dropped, 0, np.arange(len(dropped)))
        return cls(np.maximum.accumulate(kept), np.ones(len(dropped), bool), len(dropped))

    def __len__(self) -> int:
        return len(self.index)

    @property
    def is_identity(self) -> bool:
        """Whether applying the map changes nothing and every frame is valid."""
        return (
            len(self) == self.source
            and bool(self.valid.all())
            and np.array_equal(self.index, np.arange(len(self)))
        )

    def then(self, later: TemporalMap) -> TemporalMap:
        """Return the map that does this one first and `later` on its result."""
        if later.source != len(self):
            raise ValueError(f"the later map takes {later.source} frames, this one gives {len(self)}")
        return TemporalMap(self.index[later.index], later.valid & self.valid[later.index], self.source)

    def apply(self, stream: Stream, axis: int = 0) -> Stream:
        """Return an array or tensor with the frames along `axis` in the order of the map."""
        if stream.shape[axis] != self.source:
            raise ValueError(f"the stream has {stream.shape[axis]} frames, the map takes {self.source}")
        leading = (slice(None),) * (axis % len(stream.shape))
        result: Stream = stream[(*leading, self.index)]
        return result

    def apply_all(self, streams: Mapping[str, Stream], axis: int = 0) -> dict[str, Stream]:
        """Apply the map to each of several aligned streams."""
        return {name: self.apply(stream, axis) for name, stream in streams.items()}


def draw_roll(rng: np.random.Generator, length: int, *, limit: int, probability: float = 1.0) -> TemporalMap:
    """Draw, with `probability`, a roll of `length` frames by a whole number from -limit to limit."""
    if limit < 0:
        raise ValueError(f"limit is {limit}: 0 or more is expected")
    reach = min(limit, max(length - 1, 0))
    happens, shift = rng.random() < probability, int(rng.integers(-reach, reach + 1))
    return TemporalMap.roll(length, shift if happens else 0)


def draw_hold(
    rng: np.random.Generator, length: int, *, share: float, probability: float = 1.0
) -> TemporalMap:
    """Draw, with `probability`, int(length x share) distinct frames of 1..length-2 that are dropped.

    Each is replaced by the last kept frame before it. ValueError for a share outside [0, 1].
    """
    if not 0 <= share <= 1:
        raise ValueError(f"share is {share}: 0 to 1 is expected")
    count = min(int(length * share), max(length - 2, 0))
    dropped = np.zeros(length, bool)
    if rng.random() < probability and count:
        dropped[1 + rng.choice(length - 2, size=count, replace=False)] = True
    return TemporalMap.hold(dropped)


def draw_dropout(rng: np.random.Generator, length: int, *, probability: float) -> TemporalMap:
    """Draw which frames but the first are dropped, each with `probability`, held as in `TemporalMap.hold`.

    ValueError for a probability outside [0, 1].
    """
    if not 0 <= probability <= 1:
        raise ValueError(f"probability is {probability}: 0 to 1 is expected")
    dropped = rng.random(length) < probability
    dropped[:1] = False
    return TemporalMap.hold(dropped)
