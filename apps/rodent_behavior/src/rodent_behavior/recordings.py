"""One recording: its video, its keypoints, and what both say about frames, rate and size."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from common.config import UserError
from rodent_behavior.dlc import PoseTable, read_dlc
from rodent_behavior.layout import Listing, PoseFile, choose_pose
from rodent_behavior.metadata import Metadata, read_metadata
from rodent_behavior.settings import IndexSettings

RATE_TOLERANCE = 0.005


class VideoFacts(Protocol):
    """What `common.video.probe` returns (or raises OSError); `frames` is the number that could be decoded."""

    @property
    def fps(self) -> float: ...

    @property
    def frames(self) -> int: ...

    @property
    def width(self) -> int: ...

    @property
    def height(self) -> int: ...


Probe = Callable[[Path], VideoFacts]


class BadInput(UserError):
    """Input that --on_bad_trial skip leaves out; `kind` is the reason it is counted under."""

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(message)
        self.kind = kind


class MissingPose(BadInput):
    """A recording without keypoints, under --on_missing_pose error or skip."""

    def __init__(self, message: str) -> None:
        super().__init__("missing keypoints", message)


@dataclass(frozen=True, eq=False)
class Recording:
    """A video with its keypoints. Without a video, `video_frames` is what metadata or keypoints say.

    `video_problem` says why a video that is not needed could not be read.
    """

    video_id: str
    video_path: Path | None
    pose_path: Path | None
    pose: PoseTable | None
    fps: float
    width: int
    height: int
    video_frames: int
    warnings: tuple[str, ...] = ()
    video_problem: str | None = None

    @property
    def pose_rows(self) -> int:
        """Rows of the keypoint table; 0 without one."""
        return 0 if self.pose is None else len(self.pose)

    @property
    def frames(self) -> int:
        """Frames that video and keypoints both have."""
        return self.video_frames if self.pose is None else min(self.video_frames, self.pose_rows)


def open_recording(
    stem: str, video_name: str, listing: Listing, settings: IndexSettings, probe: Probe | None
) -> Recording:
    """Read the keypoints (once) and the facts of one recording.

    Frames, rate and size come from the video when `probe` is given and it exists, else from the metadata,
    else from --fps, --frame_size and the keypoint rows. BadInput names the files when one is missing or
    damaged, when they contradict each other, or when rate or size stay unknown.
    """
    warnings: list[str] = []
    video = listing.videos.get(stem)
    file = _pose_file(stem, listing, settings, warnings)
    _require_files(stem, video_name, video, file, settings)
    if file is None and settings.need_pose:
        _accept_missing_pose(stem, settings, warnings)
    pose = None if file is None else _read_pose(file.path, settings)
    seen, problem = _probe(video, settings, probe)
    written = _metadata(stem, file, listing, warnings)
    fps = _rate(stem, seen, written, settings)
    width, height = _size(stem, seen, written, settings, warnings)
    frames = seen or written
    video_frames = len(pose) if frames is None and pose is not None else (frames.frames if frames else 0)
    if pose is not None:
        _compare_lengths(stem, video_frames, len(pose), warnings)
    path = None if file is None else file.path
    return Recording(
        stem, video, path, pose, fps, width, height, video_frames, tuple(warnings), video_problem=problem
    )


def _pose_file(stem: str, listing: Listing, settings: IndexSettings, warnings: list[str]) -> PoseFile | None:
    if not settings.need_pose:
        return None
    try:
        file, warning = choose_pose(listing.poses.get(stem, ()), settings.dlc_pick, settings.dlc_scorer)
    except UserError as error:
        raise BadInput("several keypoint files", str(error)) from error
    if warning is not None:
        warnings.append(warning)
    return file


def _require_files(
    stem: str, video_name: str, video: Path | None, file: PoseFile | None, settings: IndexSettings
) -> None:
    folder = settings.pose_dir or settings.videos
    if video is None and file is None:
        raise BadInput(
            "no files",
            f"{video_name}: neither {settings.videos / video_name} "
            f"nor {folder / stem}[DLC...].csv or .h5 exists",
        )
    if video is None and settings.need_video:
        raise BadInput("no video", f"{video_name}: {settings.videos / video_name} does not exist")


def _accept_missing_pose(stem: str, settings: IndexSettings, warnings: list[str]) -> None:
    folder = settings.pose_dir or settings.videos
    text = f"{stem}: no keypoint file {folder / stem}[DLC...].csv or .h5"
    if settings.on_missing_pose != "zeros":
        raise MissingPose(text)
    warnings.append(f"{text}: all points are taken as not visible")


def _read_pose(path: Path, settings: IndexSettings) -> PoseTable:
    try:
        pose = read_dlc(path, settings.kp_names, aliases=settings.kp_aliases, individual=settings.individual)
    except UserError as error:
        raise BadInput("bad keypoints", str(error)) from error
    if not len(pose):
        raise BadInput("bad keypoints", f"{path}: no row below the header")
    return pose


def _probe(
    video: Path | None, settings: IndexSettings, probe: Probe | None
) -> tuple[VideoFacts | None, str | None]:
    """Return what the video says, or why one that is not needed could not be read."""
    if video is None or probe is None:
        return None, None
    try:
        return probe(video), None
    except OSError as error:
        if settings.need_video:
            raise BadInput("bad video", str(error)) from error
        return None, str(error)


def _metadata(stem: str, file: PoseFile | None, listing: Listing, warnings: list[str]) -> Metadata | None:
    """Return the facts of the metadata beside the chosen keypoints, else of any readable one."""
    own = "" if file is None else f"{stem}{file.scorer}_meta.pickle"
    for path in sorted(listing.metadata.get(stem, ()), key=lambda path: (path.name != own, path.name)):
        facts = read_metadata(path)
        if facts is not None:
            return facts
        warnings.append(f"{path.name}: metadata not read")
    return None


def _rate(stem: str, seen: VideoFacts | None, written: Metadata | None, settings: IndexSettings) -> float:
    known = next((source.fps for source in (seen, written) if source is not None and source.fps > 0), None)
    if known is None:
        if settings.fps is None:
            raise BadInput("unknown rate", f"{stem}: frames per second are unknown; give --fps")
        return settings.fps
    if settings.fps is not None and not same_rate(known, settings.fps):
        raise BadInput("contradiction", f"{stem}: --fps {settings.fps:g} but the recording says {known:g}")
    return float(known)


def same_rate(first: float, second: float) -> bool:
    """Whether two rates differ by at most 0.5 %."""
    return max(first, second) <= (1 + RATE_TOLERANCE) * min(first, second)


def _size(
    stem: str,
    seen: VideoFacts | None,
    written: Metadata | None,
    settings: IndexSettings,
    warnings: list[str],
) -> tuple[int, int]:
    sources = [(source.width, source.height) for source in (seen, written) if source is not None]
    typed = settings.frame_size
    if not sources:
        if typed is None:
            raise BadInput("unknown size", f"{stem}: the frame size is unknown; give --frame_size W,H")
        return typed
    if len(set(sources)) > 1:
        warnings.append(f"{stem}: the video is {_by(sources[0])} px, the tracked one was {_by(sources[1])}")
    if typed is not None and typed != sources[0]:
        raise BadInput(
            "contradiction", f"{stem}: --frame_size {_by(typed)} but the recording is {_by(sources[0])}"
        )
    return sources[0]


def _by(size: tuple[int, int]) -> str:
    return f"{size[0]} x {size[1]}"


def _compare_lengths(stem: str, video_frames: int, rows: int, warnings: list[str]) -> None:
    difference = abs(video_frames - rows)
    text = f"{stem}: {video_frames} video frames but {rows} keypoint rows"
    if difference > 1:
        raise BadInput("lengths differ", text)
    if difference:
        warnings.append(f"{text}: the shorter counts")
