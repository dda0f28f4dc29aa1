"""Which files of the annotation and video folders belong together, by whole names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from common.config import UserError

LABEL_NAME = re.compile(r"predictions?_(?P<video>.+)_(?P<trial>[0-9]+)\.csv")
LABEL_PATTERN = "prediction_<video file name>_<trial>.csv"
VIDEO_SUFFIXES = (".mp4", ".avi", ".mov", ".mkv", ".m4v")
POSE_SUFFIXES = (".csv", ".h5")
FILTERED = "_filtered"

Pick = Literal["raw", "filtered"]


@dataclass(frozen=True)
class LabelFile:
    """A label file: the video it names, that name without a video suffix, and the trial number from 1."""

    path: Path
    video: str
    stem: str
    trial: int


@dataclass(frozen=True)
class PoseFile:
    """A keypoint file of the video `stem`; `scorer` is the part of its name after it, without `_filtered`."""

    path: Path
    stem: str
    scorer: str
    filtered: bool


@dataclass(frozen=True)
class Listing:
    """All files of the folders, sorted by name; videos, keypoints and metadata by stem."""

    labels: tuple[LabelFile, ...]
    videos: dict[str, Path]
    poses: dict[str, tuple[PoseFile, ...]]
    metadata: dict[str, tuple[Path, ...]]
    unrecognised: tuple[Path, ...]


@dataclass
class _Sorting:
    """Files that have found their place so far."""

    videos: dict[str, Path] = field(default_factory=dict)
    poses: dict[str, list[PoseFile]] = field(default_factory=dict)
    metadata: dict[str, list[Path]] = field(default_factory=dict)
    known: set[Path] = field(default_factory=set)


def list_files(
    annotations: Path | None, videos: Path, pose_dir: Path | None = None, *, poses_alone: bool = False
) -> Listing:
    """List the folders once and match names by their whole length.

    `poses_alone`: a keypoint file `<stem>DLC...` that no video or label names is a recording too. UserError
    when a folder is missing, holds no label file (when `annotations` is given), or nothing in them is
    recognised. What keypoint tracking writes beside its tables (marked videos, skeletons) is passed over.
    """
    folders = {"--annotations": annotations, "--videos": videos, "--pose_dir": pose_dir}
    listed = {flag: _files(flag, folder) for flag, folder in folders.items() if folder is not None}
    labels = tuple(_labels(listed.get("--annotations", [])))
    if annotations is not None and not labels:
        raise UserError(f"--annotations {annotations}: no label file; {LABEL_PATTERN} is expected")
    found = _Sorting(known={label.path for label in labels})
    _sort_videos(listed["--videos"], labels, found)
    stems = {*found.videos, *(label.stem for label in labels)}
    tracked = listed.get("--pose_dir", listed["--videos"])
    if poses_alone:
        stems |= _stems_without_video(tracked, stems)
    for path in tracked:
        _sort_tracked(path, stems, found)
    for path in listed["--videos"]:
        if _product_of(path.stem, stems) is not None:
            found.known.add(path)
    if not labels and not found.videos and not found.poses:
        wanted = "no keypoint file <video>DLC..., no video" if poses_alone else "no video"
        raise UserError(f"--videos {videos}: {wanted} ({', '.join(VIDEO_SUFFIXES)}) is there")
    everything = sorted({path for files in listed.values() for path in files})
    return Listing(
        labels,
        dict(sorted(found.videos.items())),
        {stem: tuple(files) for stem, files in sorted(found.poses.items())},
        {stem: tuple(files) for stem, files in sorted(found.metadata.items())},
        tuple(path for path in everything if path not in found.known),
    )


def choose_pose(
    files: Iterable[PoseFile], pick: Pick, scorer: str | None
) -> tuple[PoseFile | None, str | None]:
    """Return the keypoint file of one video, None without any, and a warning when `pick` was not there.

    csv wins over h5 of the same name. UserError lists the files when two scorers are left.
    """
    left = [file for file in files if scorer is None or file.scorer in (scorer, f"DLC_{scorer}")]
    picked = [file for file in left if file.filtered == (pick == "filtered")]
    warning = None
    if left and not picked:
        other = "filtered" if pick == "raw" else "raw"
        warning = f"{left[0].path.name}: --dlc_pick {pick} is not there, {other} is used"
    candidates = sorted(picked or left, key=lambda file: (file.scorer, file.path.suffix.lower()))
    if len({file.scorer for file in candidates}) > 1:
        names = ", ".join(file.path.name for file in candidates)
        raise UserError(
            f"{candidates[0].stem}: keypoints of several scorers: {names}; choose with --dlc_scorer"
        )
    return (candidates[0] if candidates else None), warning


def _files(flag: str, folder: Path) -> list[Path]:
    if not folder.is_dir():
        raise UserError(
            f"{flag} {folder}: no such folder; {LABEL_PATTERN} and <video>.mp4 are expected in two folders"
        )
    return sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith("."))


def _labels(files: Iterable[Path]) -> Iterator[LabelFile]:
    for path in files:
        match = LABEL_NAME.fullmatch(path.name)
        if match:
            video = match["video"]
            stem = Path(video).stem if Path(video).suffix.lower() in VIDEO_SUFFIXES else video
            yield LabelFile(path, video, stem, int(match["trial"]))


def _sort_videos(files: Iterable[Path], labels: Iterable[LabelFile], found: _Sorting) -> None:
    """Enter one video per stem, the one label files name; others of that stem stay unrecognised."""
    named = {label.stem: label.video for label in labels}
    movies = [path for path in files if path.suffix.lower() in VIDEO_SUFFIXES]
    originals = {path.stem for path in movies} | set(named)
    for path in movies:
        product = path.stem not in named and _product_of(path.stem, originals - {path.stem}) is not None
        if not product and path.stem not in found.videos and _is_named(path, named):
            found.videos[path.stem] = path
            found.known.add(path)


def _is_named(path: Path, named: dict[str, str]) -> bool:
    """Whether label files mean this video; they may leave the suffix out, or write it in another case."""
    video = named.get(path.stem)
    return video is None or video == path.stem or video.lower() == path.name.lower()


def _product_of(name: str, stems: set[str]) -> str | None:
    """Return the longest stem that `name` continues with `DLC`."""
    cuts = [match.start() for match in re.finditer("DLC", name)]
    return next((name[:cut] for cut in reversed(cuts) if name[:cut] in stems), None)


def _stems_without_video(files: Iterable[Path], stems: set[str]) -> set[str]:
    """Return what stands before the first `DLC` of keypoint files that belong to none of `stems`."""
    alone = [
        path.stem.partition("DLC")
        for path in files
        if path.suffix.lower() in POSE_SUFFIXES and _product_of(path.stem, stems) is None
    ]
    return {stem for stem, mark, _ in alone if stem and mark}


def _sort_tracked(path: Path, stems: set[str], found: _Sorting) -> None:
    stem = path.stem if path.stem in stems else _product_of(path.stem, stems)
    if stem is None or path in found.known:
        return
    run = path.stem[len(stem) :]
    suffix = path.suffix.lower()
    if suffix in POSE_SUFFIXES:
        found.known.add(path)
        if not run.endswith("_skeleton"):
            filtered = run.endswith(FILTERED)
            file = PoseFile(path, stem, run.removesuffix(FILTERED), filtered)
            found.poses.setdefault(stem, []).append(file)
    elif suffix == ".pickle" and run:
        found.known.add(path)
        if run.endswith("_meta"):
            found.metadata.setdefault(stem, []).append(path)
