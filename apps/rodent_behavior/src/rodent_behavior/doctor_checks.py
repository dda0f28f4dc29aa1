"""What the doctor looks at, one question per function; every answer is made of plain types."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rodent_behavior.keypoints import gap_lengths, visible
from rodent_behavior.recordings import Recording
from rodent_behavior.splits import Split
from rodent_behavior.trials import TrialIndex, TrialSet

BLOCK = 2**20


@dataclass(frozen=True)
class PointStatistics:
    """One keypoint over the frames of all trials; gaps are its hidden runs within a trial."""

    name: str
    mean_likelihood: float
    visible_share: float
    gaps: int
    median_gap: float
    fillable_gaps: int
    hidden_frames: int
    fillable_frames: int


@dataclass(frozen=True)
class KeypointStatistics:
    """All keypoints: per point, summed over the points, and the frames where all are visible."""

    points: tuple[PointStatistics, ...]
    total: PointStatistics
    frames: int
    all_visible: int


@dataclass(frozen=True)
class Edge:
    """Step in px of the best-visible point into the first frame of a trial; None where it is hidden."""

    frame: int
    step: float | None
    confirmed: bool


@dataclass(frozen=True)
class EdgeCheck:
    """Whether the keypoints of a recording jump where trials begin; `median` is over all steps, in px."""

    video_id: str
    point: str
    edges: tuple[Edge, ...]
    largest_other: float
    median: float


def keypoint_statistics(found: TrialSet, threshold: float, max_gap: int) -> KeypointStatistics | None:
    """Return visibility and gaps over the frames of all trials, or None without keypoints."""
    shown: list[NDArray[np.bool_]] = []
    likelihood: list[NDArray[np.float64]] = []
    names: tuple[str, ...] = ()
    for trial in (*found.trials, *found.unlabelled):
        pose = found.recordings[trial.video_id].pose
        if pose is not None:
            shown.append(visible(pose, threshold, trial.width, trial.height)[trial.frames])
            likelihood.append(pose.likelihood[trial.frames])
            names = pose.names
    if not shown:
        return None
    together, values = np.concatenate(shown), np.concatenate(likelihood)
    gaps = [np.concatenate([gap_lengths(part[:, k]) for part in shown]) for k in range(len(names))]
    points = tuple(
        _point(name, values[:, k], together[:, k], gaps[k], max_gap) for k, name in enumerate(names)
    )
    total = _point("all", values, together, np.concatenate(gaps), max_gap)
    return KeypointStatistics(points, total, len(together), int(together.all(axis=1).sum()))


def check_edges(recording: Recording, starts: Iterable[int], threshold: float) -> EdgeCheck | None:
    """Compare the pose step into each trial start with the largest other step of the recording.

    `starts` are first frames of trials. The point is the one visible most often; only steps between two
    visible frames count. A larger step means that filming was interrupted there, as it is between trials;
    None when there is nothing to compare.
    """
    edges = sorted({start for start in starts if 0 < start < recording.frames})
    if recording.pose is None or not edges:
        return None
    shown = visible(recording.pose, threshold, recording.width, recording.height)[: recording.frames]
    best = int(np.argmax(shown.sum(axis=0)))
    xy = recording.pose.xy[: recording.frames, best]
    steps = np.linalg.norm(np.diff(xy, axis=0), axis=1)
    steps[~(shown[1:, best] & shown[:-1, best])] = np.nan
    others = np.delete(steps, np.array(edges) - 1)
    if not np.isfinite(others).any():
        return None
    largest = float(np.nanmax(others))
    found = tuple(_edge(frame, float(steps[frame - 1]), largest) for frame in edges)
    return EdgeCheck(
        recording.video_id, recording.pose.names[best], found, largest, float(np.nanmedian(steps))
    )


def same_content(paths: Iterable[Path]) -> list[list[Path]]:
    """Return the groups of different files that hold the same bytes; only files of equal size are read."""
    by_size: dict[int, list[Path]] = {}
    for path in sorted(set(paths)):
        by_size.setdefault(path.stat().st_size, []).append(path)
    by_hash: dict[str, list[Path]] = {}
    for path in (path for group in by_size.values() if len(group) > 1 for path in group):
        by_hash.setdefault(_digest(path), []).append(path)
    return [group for group in by_hash.values() if len(group) > 1]


def leakage(found: TrialSet, split: Split, doubles: Sequence[Sequence[Path]]) -> list[str]:
    """Return how the sides of a split share recordings; `doubles` are recording files of equal content."""
    sides: dict[str, set[str]] = {}
    for trial in found.trials:
        side = split.side(trial.group)
        if side is not None:
            sides.setdefault(trial.video_id, set()).add(side)
    lines = [
        f"pictures of {video} are on {' and '.join(sorted(names))}"
        for video, names in sides.items()
        if len(names) > 1
    ]
    owners = _owners(found.trials)
    for group in doubles:
        names = {side for path in group for side in sides.get(owners.get(path, ""), ())}
        if len(names) > 1:
            lines.append(
                f"{', '.join(path.name for path in group)} are the same, on {' and '.join(sorted(names))}"
            )
    return lines


def _owners(trials: Iterable[TrialIndex]) -> Mapping[Path, str]:
    owners: dict[Path, str] = {}
    for trial in trials:
        for path in (trial.video_path, trial.pose_path):
            if path is not None:
                owners[path] = trial.video_id
    return owners


def _point(
    name: str,
    likelihood: NDArray[np.float64],
    shown: NDArray[np.bool_],
    gaps: NDArray[np.int64],
    max_gap: int,
) -> PointStatistics:
    short = gaps[gaps <= max_gap]
    known = likelihood[np.isfinite(likelihood)]
    return PointStatistics(
        name=name,
        mean_likelihood=float(known.mean()) if len(known) else 0.0,
        visible_share=float(shown.mean()),
        gaps=len(gaps),
        median_gap=float(np.median(gaps)) if len(gaps) else 0.0,
        fillable_gaps=len(short),
        hidden_frames=int(gaps.sum()),
        fillable_frames=int(short.sum()),
    )


def _edge(frame: int, step: float, largest_other: float) -> Edge:
    if not np.isfinite(step):
        return Edge(frame, None, False)
    return Edge(frame, step, step > largest_other)


def _digest(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()
