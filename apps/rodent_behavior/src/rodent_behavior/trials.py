"""Every trial and where its labels, frames and keypoints lie; the only place that computes such positions."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from common.config import UserError
from rodent_behavior.keypoints import visible
from rodent_behavior.labels import DEFAULT_STIM_FRAME, Actions, Labels, read_labels
from rodent_behavior.layout import LABEL_PATTERN, LabelFile, Listing, list_files
from rodent_behavior.manifest import Manifest, ManifestRow, read_manifest
from rodent_behavior.recordings import BadInput, MissingPose, Probe, Recording, open_recording, same_rate
from rodent_behavior.settings import IndexSettings

CONTEXT = 15
"""Frames before the labels of a trial that was annotated with context: they belong to the slot's end."""

T = TypeVar("T")


@dataclass(frozen=True)
class TrialIndex:
    """Positions of one trial, all as absolute frames of its video.

    Frame `label_start` + i belongs to label row i. `slot_start` is where the trial began. An unlabelled
    trial has no `label_path`. `video_frames` and `pose_rows` count the whole recording.
    """

    video_id: str
    video_path: Path | None
    pose_path: Path | None
    label_path: Path | None
    trial: int
    slot_start: int
    label_start: int
    rows: int
    fps: float
    width: int
    height: int
    video_frames: int
    pose_rows: int
    group: str
    stim_frame: int = DEFAULT_STIM_FRAME

    @property
    def key(self) -> tuple[str, int]:
        """Video and trial number."""
        return self.video_id, self.trial

    @property
    def label_stop(self) -> int:
        """Frame after the last label row."""
        return self.label_start + self.rows

    @property
    def frames(self) -> slice:
        """Frames of the label rows, to cut arrays over the whole recording."""
        return slice(self.label_start, self.label_stop)


@dataclass(frozen=True)
class Skip:
    """A file that is not used: `kind` is what skips are counted by, `reason` the whole story."""

    path: Path
    kind: str
    reason: str


@dataclass(frozen=True, eq=False)
class TrialSet:
    """All trials of the folders, sorted by video and number.

    `unlabelled` holds the slots of videos without label files. `actions` are merged ids int64 [rows] by
    `TrialIndex.key`; `recordings` the videos by id, with the keypoints of the whole recording.
    """

    trials: tuple[TrialIndex, ...]
    unlabelled: tuple[TrialIndex, ...]
    skipped: tuple[Skip, ...]
    warnings: tuple[str, ...]
    unrecognised: tuple[Path, ...]
    actions: Mapping[tuple[str, int], Actions]
    recordings: Mapping[str, Recording]

    @property
    def skip_counts(self) -> dict[str, int]:
        """Number of skipped files by kind."""
        return dict(sorted(Counter(skip.kind for skip in self.skipped).items()))


def build_index(settings: IndexSettings, probe: Probe | None) -> TrialSet:
    """Find, read and align all trials.

    `probe` is `common.video.probe`, or None to leave videos unopened. UserError names files and rows; under
    --on_bad_trial skip what concerns one file is listed in `skipped` instead. It also stops when no trial is
    left, and when the rates of the videos differ by more than 0.5 % without a manifest.
    """
    found = collect_trials(settings, probe)
    if not found.trials and settings.annotations is not None:
        raise UserError(f"--annotations {settings.annotations}: no trial is left: {_reasons(found.skipped)}")
    problem = rate_problem(found, settings)
    if problem is not None:
        raise UserError(problem)
    return found


def collect_trials(settings: IndexSettings, probe: Probe | None) -> TrialSet:
    """As `build_index`, but nothing is required of the trials together."""
    alone = settings.annotations is None and settings.need_pose and not settings.need_video
    listing = list_files(settings.annotations, settings.videos, settings.pose_dir, poses_alone=alone)
    manifest = {} if settings.manifest is None else read_manifest(settings.manifest, listing.labels)
    return _Builder(settings, listing, manifest, probe).build()


def rate_problem(found: TrialSet, settings: IndexSettings) -> str | None:
    """Return what is wrong with rates that differ between videos, or None."""
    rates = {name: recording.fps for name, recording in found.recordings.items()}
    if settings.manifest is not None or not rates or same_rate(min(rates.values()), max(rates.values())):
        return None
    listed = ", ".join(f"{name} {rate:g}" for name, rate in rates.items())
    return f"frames per second differ by more than 0.5 %, so trial slots would too: {listed}; give --manifest"


@dataclass
class _Builder:
    """Collects trials and what went wrong on the way."""

    settings: IndexSettings
    listing: Listing
    manifest: Manifest
    probe: Probe | None
    trials: list[TrialIndex] = field(default_factory=list)
    unlabelled: list[TrialIndex] = field(default_factory=list)
    skipped: list[Skip] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    actions: dict[tuple[str, int], Actions] = field(default_factory=dict)
    recordings: dict[str, Recording] = field(default_factory=dict)

    def build(self) -> TrialSet:
        by_stem: dict[str, list[LabelFile]] = {}
        for label in self._usable_names():
            by_stem.setdefault(label.stem, []).append(label)
        labelled = {label.stem for label in self.listing.labels}
        unlabelled = {stem: files[0].path for stem, files in self.listing.poses.items()} | self.listing.videos
        for stem in sorted({*by_stem, *unlabelled}):
            if stem in by_stem:
                self._add_labelled(stem, by_stem[stem])
            elif stem not in labelled:
                self._add_unlabelled(stem, unlabelled[stem])
        self._warn_about_overlaps()
        return TrialSet(
            tuple(self.trials), tuple(self.unlabelled), tuple(self.skipped), tuple(self.warnings),
            self.listing.unrecognised, self.actions, self.recordings,
        )  # fmt: skip

    def _usable_names(self) -> list[LabelFile]:
        """Return the label files whose video and trial are a name of their own."""
        files: dict[tuple[str, int], list[LabelFile]] = {}
        for label in self.listing.labels:
            files.setdefault((label.stem, label.trial), []).append(label)
        for (stem, trial), group in files.items():
            paths = [label.path for label in group]
            if trial == 0:
                self._bad(paths, BadInput("trial 0", f"{_names(paths)}: trials are numbered from 1"))
            elif len(group) > 1:
                self._bad(paths, BadInput("same trial", f"{_names(paths)}: all are trial {trial} of {stem}"))
        return [group[0] for (_, trial), group in sorted(files.items()) if trial and len(group) == 1]

    def _add_labelled(self, stem: str, labels: Sequence[LabelFile]) -> None:
        paths = [label.path for label in labels]
        recording = self._try(paths, partial(self._open, stem, labels[0].video))
        if recording is None:
            return
        for label in labels:
            row = self.manifest.get((stem, label.trial))
            done = self._try([label.path], partial(self._align, recording, label, row))
            if done is not None:
                trial, actions = done
                self.trials.append(trial)
                self.actions[trial.key] = actions
                self._warn_about_hidden(trial, recording)

    def _add_unlabelled(self, stem: str, path: Path) -> None:
        settings = self.settings
        if settings.annotations is not None and not (settings.need_pose and stem in self.listing.poses):
            self.skipped.append(
                Skip(path, "unused video", f"{path}: neither labels nor keypoints to learn from")
            )
            return
        recording = self._try([path], partial(self._open, stem, path.name))
        if recording is None:
            return
        size = settings.trial_frames
        for start in range(0, recording.frames, size):
            rows = min(size, recording.frames - start)
            if rows >= settings.min_frames:
                trial = start // size + 1
                group = settings.group_of(stem, trial)
                self.unlabelled.append(_trial(recording, None, trial, (start, start), rows, group))

    def _open(self, stem: str, video_name: str) -> Recording:
        recording = open_recording(stem, video_name, self.listing, self.settings, self.probe)
        if recording.frames < self.settings.min_frames and not self._listed(stem):
            raise BadInput(
                "short video",
                f"{stem}: {recording.frames} frames, fewer than --min_frames {self.settings.min_frames}",
            )
        self.recordings[stem] = recording
        self.warnings += recording.warnings
        return recording

    def _listed(self, stem: str) -> bool:
        return any(name == stem for name, _ in self.manifest)

    def _align(
        self, recording: Recording, label: LabelFile, row: ManifestRow | None
    ) -> tuple[TrialIndex, Actions]:
        labels = self._read(label.path)
        if row is not None and row.start is not None:
            position = (row.start, row.start)
        else:
            position = self._slot(label, labels)
        if row is not None and row.rows not in (None, labels.rows):
            raise BadInput(
                "manifest",
                f"{self.settings.manifest}: row {row.row}: rows {row.rows}, "
                f"but {label.path} has {labels.rows}",
            )
        needed = position[1] + labels.rows
        if needed > recording.frames:
            present = f"{recording.video_frames} video frames"
            if recording.pose is not None:
                present += f" and {recording.pose_rows} keypoint rows"
            raise BadInput(
                "beyond the end", f"{label.path}: {needed} frames are needed, {label.stem} has {present}"
            )
        group = (row and row.group) or self.settings.group_of(label.stem, label.trial)
        trial = _trial(recording, label.path, label.trial, position, labels.rows, group, labels.stim_frame)
        return trial, labels.actions

    def _read(self, path: Path) -> Labels:
        try:
            return read_labels(path, self.settings.label_map)
        except UserError as error:
            raise BadInput("bad labels", str(error)) from error

    def _slot(self, label: LabelFile, labels: Labels) -> tuple[int, int]:
        """Return the first frame of the slot and of the labels."""
        size, rows = self.settings.trial_frames, labels.rows
        if rows < self.settings.min_frames:
            raise BadInput(
                "short trial",
                f"{label.path}: {rows} rows, fewer than --min_frames {self.settings.min_frames}",
            )
        if rows > size:
            raise BadInput(
                "long trial",
                f"{label.path}: {rows} rows do not fit --trial_frames {size}; give it or --manifest",
            )
        with_context = rows == size - CONTEXT
        if labels.first_frame not in ((0, CONTEXT) if with_context else (0,)):
            raise BadInput("bad labels", f"{label.path}: row 2: Frame {labels.first_frame}: 0 is expected")
        start = (label.trial - 1) * size
        if rows not in (size, size - CONTEXT):
            self.warnings.append(f"{label.path}: {rows} rows: taken from the start of the slot")
        return start, start + CONTEXT if with_context else start

    def _try(self, paths: Iterable[Path], make: Callable[[], T]) -> T | None:
        try:
            return make()
        except BadInput as error:
            self._bad(paths, error)
            return None

    def _bad(self, paths: Iterable[Path], error: BadInput) -> None:
        policy = (
            self.settings.on_missing_pose if isinstance(error, MissingPose) else self.settings.on_bad_trial
        )
        if policy == "error" and error.kind not in ("short trial", "short video"):
            raise error
        self.skipped += [Skip(path, error.kind, str(error)) for path in paths]

    def _warn_about_hidden(self, trial: TrialIndex, recording: Recording) -> None:
        threshold = self.settings.kp_likelihood_thr
        if recording.pose is None:
            return
        shown = visible(recording.pose, threshold, trial.width, trial.height)[trial.frames]
        if not shown.any():
            self.warnings.append(
                f"{trial.video_id} trial {trial.trial}: 100.0 % of its keypoints are below "
                f"--kp_likelihood_thr {threshold:g} or outside the frame"
            )

    def _warn_about_overlaps(self) -> None:
        order = sorted(self.trials, key=lambda trial: (trial.video_id, trial.label_start))
        for first, second in itertools.pairwise(order):
            if first.video_id == second.video_id and second.label_start < first.label_stop:
                self.warnings.append(
                    f"{first.video_id}: trials {first.trial} and {second.trial} share frames "
                    f"{second.label_start}..{min(first.label_stop, second.label_stop) - 1}"
                )


def _trial(
    recording: Recording,
    label_path: Path | None,
    trial: int,
    position: tuple[int, int],
    rows: int,
    group: str,
    stim_frame: int = DEFAULT_STIM_FRAME,
) -> TrialIndex:
    return TrialIndex(
        video_id=recording.video_id,
        video_path=recording.video_path,
        pose_path=recording.pose_path,
        label_path=label_path,
        trial=trial,
        slot_start=position[0],
        label_start=position[1],
        rows=rows,
        fps=recording.fps,
        width=recording.width,
        height=recording.height,
        video_frames=recording.video_frames,
        pose_rows=recording.pose_rows,
        group=group,
        stim_frame=stim_frame,
    )


def whole_recording(recording: Recording) -> TrialIndex:
    """Return a recording as one trial without labels, from its first frame to its last."""
    return _trial(recording, None, 1, (0, 0), recording.frames, recording.video_id)


def trials_and_rest(recording: Recording, trials: Iterable[TrialIndex]) -> list[TrialIndex]:
    """Return trials of a recording and the stretches around them, in time and without a frame left out.

    A stretch is a trial of number 0. UserError when trials share frames.
    """
    whole, reached = whole_recording(recording), 0
    parts: list[TrialIndex] = []

    def add_rest(stop: int) -> None:
        if stop > reached:
            rest = replace(whole, trial=0, slot_start=reached, label_start=reached, rows=stop - reached)
            parts.append(rest)

    for trial in sorted(trials, key=lambda trial: trial.label_start):
        if trial.label_start < reached:
            raise UserError(f"{trial.video_id}: trial {trial.trial} shares frames with the one before")
        add_rest(trial.label_start)
        parts.append(trial)
        reached = trial.label_stop
    add_rest(whole.rows)
    return parts


def _names(paths: Iterable[Path]) -> str:
    return " and ".join(str(path) for path in paths)


def _reasons(skipped: Sequence[Skip]) -> str:
    if not skipped:
        return f"{LABEL_PATTERN} is expected"
    counts = Counter(skip.kind for skip in skipped)
    kinds = ", ".join(f"{number} {kind}" for kind, number in sorted(counts.items()))
    return f"skipped {kinds}; the first: {skipped[0].reason}"
