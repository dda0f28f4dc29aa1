"""Generated recordings in the layout of the real data, with the truth of every frame.

Shares of the classes and lengths of the bouts follow the realistic shares of the documented labels; keypoint
noise, drop-outs and likelihoods follow those of a bottom-view recording. The same arguments give the same
files.
"""

from __future__ import annotations

import pickle
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from common.engine.randomness import generator_for
from rodent_behavior.config import KEYPOINTS
from rodent_behavior.rendering import Frame, draw_bar_code, draw_frame, write_video
from rodent_behavior.skeleton import PAWS, TAIL, Action, Floats, PlannedBout, trial_motion

Labels = NDArray[np.int64]

TRIAL_FRAMES = 360
CONTEXT = 15
"""Frames at the start of a trial that a short label file leaves out."""
SHORT_EVERY = 4
SCORER = "DLC_synthetic"
SMALLEST = 48
GAP = 12
"""Fewest resting frames before, between and after bouts."""
LEAST_JUMP = 0.3
"""Body lengths that the tail base jumps at least from one trial to the next."""

MISSING_RATE = (0.035, 0.001, 0.10, 0.10, 0.015, 0.015)
"""Chance per frame that a drop-out of a keypoint begins."""
MISSING_LENGTH = 3.0
"""Mean frames of a drop-out."""
NOISE, LOST_NOISE = 0.008, 0.08
"""Standard deviation in body lengths of tracked and of lost keypoints."""
GLITCHES = 0.003
"""Chance per frame that a paw is tracked wrongly with full confidence."""


@dataclass(frozen=True)
class Kind:
    """How often a behaviour occurs: share of frames, lengths of its bouts, label ids it goes by."""

    action: Action
    share: float
    shortest: int
    longest: int
    raw: tuple[int, ...]


KINDS = (
    Kind(Action.LICK, 0.108, 30, 120, (2,)),
    Kind(Action.WALK, 0.054, 20, 60, (6,)),
    Kind(Action.ACTIVE, 0.043, 20, 60, (7,)),
    Kind(Action.SHAKE, 0.017, 8, 20, (4,)),
    Kind(Action.WITHDRAW, 0.022, 5, 12, (1, 3, 5, 1, 1)),
)


@dataclass(frozen=True)
class VideoTruth:
    """One generated video: truth of its T frames and the rows of each label file.

    `actions` [T] merged ids, `raw` [T] ids as labelled, `xy` [T, 6, 2] true keypoints in px, `scale` body
    length in px, `rows` of the trials 1, 2, ...
    """

    stem: str
    actions: Labels
    raw: Labels
    xy: Floats
    scale: float
    rows: tuple[int, ...]

    @property
    def video(self) -> str:
        """File name of the video, which the label files carry in theirs."""
        return f"{self.stem}.mp4"

    def labelled(self, trial: int) -> slice:
        """Return the frames of the video that the label file of `trial`, counted from 1, describes."""
        stop = trial * TRIAL_FRAMES
        return slice(stop - self.rows[trial - 1], stop)


@dataclass(frozen=True)
class Truth:
    """What `generate` wrote: the two folders and the recordings."""

    annotations: Path
    videos: Path
    recordings: tuple[VideoTruth, ...]


def generate(
    root: Path,
    *,
    videos: int = 8,
    trials: int = 3,
    seed: int = 0,
    size: int = 96,
    fps: float = 30,
    render: bool = True,
    bar_code: bool = False,
) -> Truth:
    """Write `root/Annotations` and `root/Videos` and return the truth of every frame.

    Each of the `videos` has `trials` slots of 360 frames of `size` x `size` px; every fourth label file has
    345 rows, which describe the last 345 frames of its slot. `render=False` writes pose metadata in place of
    the videos; `bar_code` draws the number of the frame into its top left corner. ValueError names an
    argument out of range.
    """
    for name, value, least in (("videos", videos, 1), ("trials", trials, 1), ("size", size, SMALLEST)):
        if value < least:
            raise ValueError(f"{name} is {value}: at least {least} is expected")
    if not fps > 0:
        raise ValueError(f"fps is {fps}: more than 0 is expected")
    truth = Truth(root / "Annotations", root / "Videos", _video_truths(videos, trials, seed, size, fps))
    for folder in (truth.annotations, truth.videos):
        folder.mkdir(parents=True, exist_ok=True)
    for recording in truth.recordings:
        _write_labels(truth.annotations, recording)
        _write_keypoints(truth.videos, recording, seed)
        if render:
            write_video(
                truth.videos / recording.video, _pictures(recording, size, bar_code), size=size, fps=fps
            )
        else:
            _write_metadata(truth.videos, recording, size, fps)
    return truth


def track(xy: Floats, scale: float, rng: np.random.Generator) -> tuple[Floats, Floats]:
    """Return keypoints [T, 6, 2] px and likelihoods [T, 6] as a tracker would report the true `xy`.

    Lost keypoints are inaccurate and have a low likelihood, moving paws are lost more often; now and then a
    paw is wrong for one frame with a high likelihood.
    """
    lost = _lost(xy, scale, rng)
    spread = scale * np.where(lost, LOST_NOISE, NOISE)
    seen = xy + rng.normal(0.0, 1.0, xy.shape) * spread[..., None]
    wrong = rng.random(lost.shape) < GLITCHES
    wrong[:, [point for point in range(len(KEYPOINTS)) if point not in PAWS]] = False
    angle = rng.uniform(-np.pi, np.pi, lost.shape)
    jump = (
        scale * rng.uniform(0.1, 0.25, lost.shape)[..., None] * np.stack([np.cos(angle), np.sin(angle)], -1)
    )
    sure = 1.0 - rng.exponential(0.01, lost.shape)
    likelihood = np.where(lost, 0.95 * rng.beta(1.5, 1.5, lost.shape), sure.clip(min=0.0))
    return seen + wrong[..., None] * jump, likelihood


def _lost(xy: Floats, scale: float, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Draw the frames [T, 6] in which each keypoint is lost, in runs."""
    frames = len(xy)
    speed = np.linalg.norm(np.diff(xy, axis=0, prepend=xy[:1]), axis=2) / scale
    chance = np.array(MISSING_RATE) + 0.08 * (speed > 0.06)
    chance[:, TAIL] = MISSING_RATE[TAIL]
    begins = np.argwhere(rng.random(chance.shape) < chance)
    edges = np.zeros((frames + 1, len(KEYPOINTS)), dtype=np.int64)
    stops = np.minimum(begins[:, 0] + rng.geometric(1.0 / MISSING_LENGTH, len(begins)), frames)
    np.add.at(edges, (begins[:, 0], begins[:, 1]), 1)
    np.add.at(edges, (stops, begins[:, 1]), -1)
    return np.cumsum(edges[:-1], axis=0) > 0


def _video_truths(videos: int, trials: int, seed: int, size: int, fps: float) -> tuple[VideoTruth, ...]:
    plan = _plan(videos, trials, generator_for(seed, "plan"))
    return tuple(_video_truth(video, plan[video], seed, size, fps) for video in range(videos))


def _video_truth(video: int, plan: list[list[PlannedBout]], seed: int, size: int, fps: float) -> VideoTruth:
    scale = size * generator_for(seed, "scale", video).uniform(0.32, 0.40)
    actions = np.zeros((len(plan), TRIAL_FRAMES), dtype=np.int64)
    raw = np.zeros_like(actions)
    motions: list[Floats] = []
    for trial, bouts in enumerate(plan):
        for bout in bouts:
            actions[trial, bout.frames] = bout.action
            raw[trial, bout.frames] = bout.raw
        rng = generator_for(seed, "motion", video, trial)
        motions.append(_motion(bouts, motions[-1][-1] if motions else None, fps, size, scale, rng))
    first = video * len(plan)
    rows = tuple(TRIAL_FRAMES - CONTEXT * _is_short(first + trial) for trial in range(len(plan)))
    return VideoTruth(
        f"mouse_{video + 1}", actions.ravel(), raw.ravel(), np.concatenate(motions), scale, rows
    )


def _is_short(count: int) -> bool:
    return count % SHORT_EVERY == SHORT_EVERY - 1


def _motion(
    bouts: list[PlannedBout],
    before: Floats | None,
    fps: float,
    size: int,
    scale: float,
    rng: np.random.Generator,
) -> Floats:
    """Return the motion of a trial that starts away from the pose `before` it: the animal was put back."""
    while True:
        motion = trial_motion(bouts, frames=TRIAL_FRAMES, fps=fps, size=size, scale=scale, rng=rng)
        if before is None or np.linalg.norm(motion[0, TAIL] - before[TAIL]) > LEAST_JUMP * scale:
            return motion


def _plan(videos: int, trials: int, rng: np.random.Generator) -> list[list[list[PlannedBout]]]:
    """Return the bouts of every trial of every video; each kind goes round the videos in turn."""
    room = np.full((videos, trials), TRIAL_FRAMES - GAP)
    chosen: list[list[list[tuple[Kind, int, int]]]] = [[[] for _ in range(trials)] for _ in range(videos)]
    for kind in KINDS:
        order = rng.permutation(videos)
        total = round(kind.share * videos * trials * TRIAL_FRAMES)
        for index, length in enumerate(_bout_lengths(kind, total, rng)):
            video = int(order[index % videos])
            trial = int(np.argmax(room[video] + rng.random(trials)))
            room[video, trial] -= length + GAP
            assert room[video, trial] >= 0, "the shares leave a trial mostly at rest"
            chosen[video][trial].append((kind, length, kind.raw[index % len(kind.raw)]))
    return [[_placed(bouts, rng) for bouts in video] for video in chosen]


def _bout_lengths(kind: Kind, total: int, rng: np.random.Generator) -> list[int]:
    """Draw lengths of bouts that add up to `total` frames as nearly as the limits of the kind allow."""
    count = max(1, round(2 * total / (kind.shortest + kind.longest)))
    lengths = rng.integers(kind.shortest, kind.longest + 1, count)
    aim = int(np.clip(total, count * kind.shortest, count * kind.longest))
    while (missing := aim - int(lengths.sum())) != 0:
        movable = np.flatnonzero(lengths < kind.longest if missing > 0 else lengths > kind.shortest)
        lengths[rng.choice(movable)] += np.sign(missing)
    return [int(length) for length in lengths]


def _placed(bouts: list[tuple[Kind, int, int]], rng: np.random.Generator) -> list[PlannedBout]:
    """Return the bouts of one trial in a random order with random rests between them."""
    slack = TRIAL_FRAMES - GAP - sum(length + GAP for _, length, _ in bouts)
    rests = np.sort(rng.integers(0, slack + 1, len(bouts)))
    placed: list[PlannedBout] = []
    start = GAP
    for position, rest in zip(rng.permutation(len(bouts)), rests):
        kind, length, raw = bouts[position]
        placed.append(PlannedBout(kind.action, start + int(rest), start + int(rest) + length, raw))
        start += length + GAP
    return placed


def _pictures(recording: VideoTruth, size: int, bar_code: bool) -> Iterator[Frame]:
    for number, xy in enumerate(recording.xy):
        picture = draw_frame(xy, size)
        if bar_code:
            draw_bar_code(picture, number)
        yield picture


def _write_labels(folder: Path, recording: VideoTruth) -> None:
    for trial in range(1, len(recording.rows) + 1):
        raw = recording.raw[recording.labelled(trial)]
        lines = ["Frame,Action", *(f"{row},{action}" for row, action in enumerate(raw))]
        path = folder / f"prediction_{recording.video}_{trial}.csv"
        path.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")


def _write_keypoints(folder: Path, recording: VideoTruth, seed: int) -> None:
    rng = generator_for(seed, "tracker", recording.stem)
    xy, likelihood = track(recording.xy, recording.scale, rng)
    columns = np.concatenate([xy, likelihood[..., None]], axis=2).reshape(len(xy), -1)
    header = [
        ["scorer", *(SCORER for _ in range(columns.shape[1]))],
        ["bodyparts", *(name for name in KEYPOINTS for _ in range(3))],
        ["coords", *("x", "y", "likelihood") * len(KEYPOINTS)],
    ]
    lines = [",".join(row) for row in header]
    rows = (",".join(f"{value:.5f}" for value in row) for row in columns.tolist())
    lines += [f"{frame},{row}" for frame, row in enumerate(rows)]
    path = folder / f"{recording.stem}{SCORER}.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8", newline="\n")


def _write_metadata(folder: Path, recording: VideoTruth, size: int, fps: float) -> None:
    data = {"fps": float(fps), "frame_dimensions": (size, size), "nframes": len(recording.xy)}
    (folder / f"{recording.stem}{SCORER}_meta.pickle").write_bytes(pickle.dumps({"data": data}))
