"""Examination of a data set before training: what is there, what is wrong, what will be left out."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from common.config import UserError
from rodent_behavior.config import PoseConfig, RunConfig, SplitConfig
from rodent_behavior.doctor_checks import (
    EdgeCheck,
    KeypointStatistics,
    check_edges,
    keypoint_statistics,
    leakage,
    same_content,
)
from rodent_behavior.doctor_text import report_lines
from rodent_behavior.labels import UNKNOWN, count_classes
from rodent_behavior.recordings import Probe, Recording
from rodent_behavior.settings import IndexSettings
from rodent_behavior.splits import SIDES, Split, class_problem, class_warnings, make_split
from rodent_behavior.trials import TrialIndex, TrialSet, collect_trials, rate_problem

HARMLESS_SKIPS = ("short trial", "short video", "unused video")

Level = Literal["error", "warning", "info"]


@dataclass(frozen=True)
class Finding:
    """One thing to know: an error stops training, a warning may be meant, info is neither."""

    level: Level
    text: str


@dataclass(frozen=True)
class SplitSettings:
    """How training would divide the groups."""

    val_share: float = SplitConfig.val_share
    test_share: float = SplitConfig.test_share
    seed: int = RunConfig.seed
    split_file: Path | None = None

    @classmethod
    def of(cls, config: SplitConfig, seed: int) -> SplitSettings:
        """Return what the flags say."""
        return cls(config.val_share, config.test_share, seed, config.split_file)


@dataclass(frozen=True)
class TrialRow:
    """A trial as the table shows it; frames are `start` to `stop` - 1 of the video, `side` None if unused."""

    file: str
    video: str
    trial: int
    rows: int
    start: int
    stop: int
    slot_start: int
    group: str
    side: str | None
    unknown: int
    stim_frame: int


@dataclass(frozen=True)
class RecordingRow:
    """A recording as the table shows it; `rows` are those of its keypoints, 0 without any."""

    video: str
    has_video: bool
    frames: int
    rows: int
    fps: float
    width: int
    height: int
    pose_file: str | None


@dataclass(frozen=True, kw_only=True)
class DoctorReport:
    """Everything the doctor found; counts are labelled frames by class, per video and per side."""

    classes: tuple[str, ...] = ()
    trials: tuple[TrialRow, ...] = ()
    recordings: tuple[RecordingRow, ...] = ()
    unlabelled: int = 0
    skips: tuple[tuple[str, str, str], ...] = ()
    counts_by_video: dict[str, list[int]] = dataclasses.field(default_factory=dict)
    counts_by_side: dict[str, list[int]] = dataclasses.field(default_factory=dict)
    keypoints: KeypointStatistics | None = None
    edges: tuple[EdgeCheck, ...] = ()
    duplicates: tuple[tuple[str, ...], ...] = ()
    unrecognised: tuple[str, ...] = ()
    split: dict[str, list[str]] | None = None
    max_gap: int = PoseConfig.max_gap
    findings: tuple[Finding, ...] = ()

    def count(self, level: Level) -> int:
        """Return the number of findings of a level."""
        return sum(finding.level == level for finding in self.findings)

    def exit_code(self, strict: bool = False) -> int:
        """Return 1 when there are errors (`strict`: or warnings), else 0."""
        return int(self.count("error") > 0 or (strict and self.count("warning") > 0))

    def lines(self) -> list[str]:
        """Return the report as text."""
        return report_lines(self)

    def to_dict(self) -> dict[str, Any]:
        """Return the report as plain types for JSON."""
        return dataclasses.asdict(self)


def examine(
    settings: IndexSettings,
    probe: Probe | None,
    split: SplitSettings | None = None,
    *,
    max_gap: int = PoseConfig.max_gap,
) -> DoctorReport:
    """Read everything and report on it; bad files become findings, and videos may be absent."""
    names = settings.label_map.names
    lenient = dataclasses.replace(
        settings,
        need_video=False,
        on_bad_trial="skip",
        on_missing_pose="zeros" if settings.on_missing_pose == "zeros" else "skip",
    )
    try:
        found = collect_trials(lenient, probe)
    except UserError as error:
        return DoctorReport(classes=names, max_gap=max_gap, findings=(Finding("error", str(error)),))
    return report_on(found, settings, split or SplitSettings(), max_gap=max_gap)


def report_on(
    found: TrialSet,
    settings: IndexSettings,
    split: SplitSettings,
    *,
    max_gap: int,
) -> DoctorReport:
    """Report on what was read."""
    names = settings.label_map.names
    parts, split_problem = _divide(found, split, len(names))
    edges = tuple(_edges(found, settings.kp_likelihood_thr))
    label_doubles = same_content(trial.label_path for trial in found.trials if trial.label_path is not None)
    media_doubles = same_content(_media(found.recordings.values()))
    findings = [
        *_file_findings(found, settings),
        *_content_findings(found, label_doubles, media_doubles, names),
        *_split_findings(found, parts, split_problem, media_doubles, names),
        *_edge_findings(edges),
    ]
    return DoctorReport(
        classes=names,
        trials=tuple(_trial_row(found, trial, parts) for trial in found.trials),
        recordings=tuple(map(_recording_row, found.recordings.values())),
        unlabelled=len({trial.video_id for trial in found.unlabelled}),
        skips=tuple((skip.path.name, skip.kind, skip.reason) for skip in found.skipped),
        counts_by_video=_counts_by_video(found, len(names)),
        counts_by_side=_counts_by_side(found, parts, len(names)),
        keypoints=keypoint_statistics(found, settings.kp_likelihood_thr, max_gap),
        edges=edges,
        duplicates=tuple(tuple(path.name for path in group) for group in (*label_doubles, *media_doubles)),
        unrecognised=tuple(path.name for path in found.unrecognised),
        split=None if parts is None else parts.to_dict(),
        max_gap=max_gap,
        findings=tuple(findings),
    )


def _divide(found: TrialSet, split: SplitSettings, num_classes: int) -> tuple[Split | None, str | None]:
    if not found.trials:
        return None, None
    try:
        parts = make_split(found.trials, found.actions, num_classes, **dataclasses.asdict(split))
    except UserError as error:
        return None, str(error)
    return parts, parts.warning


def _edges(found: TrialSet, threshold: float) -> Iterator[EdgeCheck]:
    for video_id, recording in found.recordings.items():
        starts = [trial.slot_start for trial in found.trials if trial.video_id == video_id]
        check = check_edges(recording, starts, threshold)
        if check is not None:
            yield check


def _media(recordings: Iterable[Recording]) -> Iterator[Path]:
    for recording in recordings:
        yield from (path for path in (recording.video_path, recording.pose_path) if path is not None)


def _file_findings(found: TrialSet, settings: IndexSettings) -> Iterator[Finding]:
    for skip in found.skipped:
        yield Finding("warning" if skip.kind in HARMLESS_SKIPS else "error", f"{skip.kind}: {skip.reason}")
    if not found.trials:
        yield Finding("error", "no trial is left")
    for text in found.warnings:
        yield Finding("warning", text)
    rates = rate_problem(found, settings)
    if rates is not None:
        yield Finding("error", rates)
    for recording in found.recordings.values():
        if recording.video_problem is not None:
            yield Finding("error", recording.video_problem)
    without = [name for name, recording in found.recordings.items() if recording.video_path is None]
    if without:
        yield Finding("warning", f"no video for {_some(without)}: only --backbone none can use them")
    if found.unrecognised:
        yield Finding("warning", f"unrecognised files: {_some([path.name for path in found.unrecognised])}")


def _content_findings(
    found: TrialSet,
    label_doubles: Sequence[Sequence[Path]],
    media_doubles: Sequence[Sequence[Path]],
    names: Sequence[str],
) -> Iterator[Finding]:
    for what, groups in (("label files", label_doubles), ("recordings", media_doubles)):
        for group in groups:
            yield Finding("warning", f"identical {what}: {_some([path.name for path in group])}")
    counts = count_classes(found.actions.values(), len(names))
    present = [name for name, count in zip(names, counts) if count]
    if len(present) == 1:
        yield Finding("warning", f"only one class in all labels: {present[0]}")


def _split_findings(
    found: TrialSet,
    parts: Split | None,
    problem: str | None,
    doubles: Sequence[Sequence[Path]],
    names: Sequence[str],
) -> Iterator[Finding]:
    if problem is not None:
        yield Finding("warning", f"split: {problem}")
    if parts is None:
        return
    for text in leakage(found, parts, doubles):
        yield Finding("warning", f"split leakage: {text}")
    train, val = (
        count_classes((found.actions[trial.key] for trial in parts.select(found.trials, side)), len(names))
        for side in ("train", "val")
    )
    stop = class_problem(train, names)
    if stop is not None:
        yield Finding("warning", f"split: {stop}")
    for text in class_warnings(train, val, names):
        yield Finding("warning", f"split: {text}")


def _edge_findings(checks: Sequence[EdgeCheck]) -> Iterator[Finding]:
    edges = [edge for check in checks for edge in check.edges]
    if edges:
        confirmed = sum(edge.confirmed for edge in edges)
        text = f"{confirmed}/{len(edges)} edges confirmed by pose jumps"
        yield Finding("info", text if confirmed == len(edges) else f"{text}; the others are not confirmed")


def _trial_row(found: TrialSet, trial: TrialIndex, parts: Split | None) -> TrialRow:
    return TrialRow(
        file="" if trial.label_path is None else trial.label_path.name,
        video=trial.video_id,
        trial=trial.trial,
        rows=trial.rows,
        start=trial.label_start,
        stop=trial.label_stop,
        slot_start=trial.slot_start,
        group=trial.group,
        side=None if parts is None else parts.side(trial.group),
        unknown=int((found.actions[trial.key] == UNKNOWN).sum()),
        stim_frame=trial.stim_frame,
    )


def _recording_row(recording: Recording) -> RecordingRow:
    return RecordingRow(
        video=recording.video_id,
        has_video=recording.video_path is not None,
        frames=recording.video_frames,
        rows=recording.pose_rows,
        fps=recording.fps,
        width=recording.width,
        height=recording.height,
        pose_file=None if recording.pose_path is None else recording.pose_path.name,
    )


def _counts_by_video(found: TrialSet, num_classes: int) -> dict[str, list[int]]:
    videos = sorted({trial.video_id for trial in found.trials})
    return {
        video: count_classes(
            (found.actions[trial.key] for trial in found.trials if trial.video_id == video), num_classes
        ).tolist()
        for video in videos
    }


def _counts_by_side(found: TrialSet, parts: Split | None, num_classes: int) -> dict[str, list[int]]:
    if parts is None:
        return {}
    return {
        side: count_classes(
            (found.actions[trial.key] for trial in parts.select(found.trials, side)), num_classes
        ).tolist()
        for side in SIDES
        if parts.groups(side)
    }


def _some(names: Sequence[str], most: int = 6) -> str:
    listed = ", ".join(names[:most])
    return listed if len(names) <= most else f"{listed} and {len(names) - most} more"
