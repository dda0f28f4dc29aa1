"""Which sequences train, which validate and which test: by group, by chance, or by time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from common.config import UserError
from eye_fixation.sequences import Track, Windows

Ints = NDArray[np.int64]

BETWEEN = -1
"""Split of a window that lies between two time blocks."""

_COLUMNS = {"image": "stimulus", "subject": "subject", "recording": "recording"}


def unit_names(tracks: Sequence[Track], unit: str) -> list[str]:
    """Return the name of a unit (image, subject, recording) in each track. UserError where it is unknown."""
    names: list[str] = [getattr(track, _COLUMNS[unit]) for track in tracks]
    if "" in names:
        recording = tracks[names.index("")].recording
        raise UserError(f"--split {unit}: recording {recording} has no column {_COLUMNS[unit]}")
    return names


def ids_of(names: Sequence[str]) -> tuple[Ints, list[str]]:
    """Return the index (n,) of each name among the sorted names, and those."""
    unique, index = np.unique(np.array(names, dtype=np.str_), return_inverse=True)
    return index.astype(np.int64), [str(name) for name in unique]


def bounds_of(sizes: Sequence[float], count: int) -> tuple[int, int]:
    """Return the first of `count` sorted units that is in val, and in test; each split has at least one."""
    shares = np.cumsum(sizes)[:2] * count
    val = int(np.clip(round(shares[0]), 1, count - 2))
    return val, int(np.clip(round(shares[1]), val + 1, count - 1))


def by_unit(
    tracks: Sequence[Track],
    windows: Windows,
    unit: str,
    sizes: Sequence[float],
    fixed: Mapping[str, int] | None,
) -> Ints:
    """Return a split for each window: as `fixed` by name of its unit, else by shares of the sorted units.

    Units without a window do not count. Raises UserError for fewer than three others, unless `fixed`.
    """
    names = unit_names(tracks, unit)
    used = [names[track] for track in windows.track]
    if fixed is not None:
        return np.array([fixed[name] for name in used])
    index, unique = ids_of(used)
    if len(unique) < 3:
        raise UserError(f"--split {unit}: {len(unique)} {unit}s ({', '.join(unique)}), three are needed")
    return np.searchsorted(bounds_of(sizes, len(unique)), index, side="right").astype(np.int64)


def by_chance(count: int, sizes: Sequence[float]) -> Ints:
    """Return a split for each of `count` sequences, the same every time."""
    if count < 3:
        raise UserError(f"--split random: {count} sequences, three are needed")
    order = np.random.default_rng(0).permutation(count)
    return np.searchsorted(bounds_of(sizes, count), order, side="right").astype(np.int64)


def by_time(tracks: Sequence[Track], windows: Windows, sizes: Sequence[float], length: int) -> Ints:
    """Return a split for each window: the tracks' three time blocks, one sequence apart, -1 between them."""
    frames = np.array([len(track.mask) for track in tracks])[windows.track]
    shares = np.cumsum(sizes)
    ends = np.round(shares * np.maximum(frames - 2 * length, 0)[:, None]) + np.arange(3) * length
    begins = np.concatenate([np.zeros((len(frames), 1)), ends[:, :2] + length], 1)
    start = windows.start[:, None]
    inside = (begins <= start) & (start + length <= ends)
    return np.where(inside.any(1), inside.argmax(1), BETWEEN)
