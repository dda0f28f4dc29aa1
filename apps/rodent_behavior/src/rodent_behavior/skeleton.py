"""Movement of a mouse seen from below: six keypoints per frame for a given sequence of behaviours.

Body coordinates are in body lengths: the tail base is the origin, e1 points to the resting mouth and e2 is
e1 turned as x turns into y of the image. Seen from below, the left paws lie on the positive side of e2.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from rodent_behavior.config import KEYPOINTS

Floats = NDArray[np.float64]

MOUTH, TAIL, LEFT_FRONT, RIGHT_FRONT, LEFT_HIND, RIGHT_HIND = range(6)
PAWS = (LEFT_FRONT, RIGHT_FRONT, LEFT_HIND, RIGHT_HIND)
MIRROR = (MOUTH, TAIL, RIGHT_FRONT, LEFT_FRONT, RIGHT_HIND, LEFT_HIND)

POSTURE = np.array([[1.0, 0.0], [0.0, 0.0], [0.80, 0.14], [0.80, -0.14], [0.32, 0.22], [0.32, -0.22]])
LICKING = np.array([[0.47, 0.26], [0.0, 0.0], [0.66, 0.34], [0.78, 0.12], [0.40, 0.19], [0.32, -0.22]])
BELLY = np.array([0.62, 0.0])
CENTRE = np.array([0.45, 0.0])
REACH = 0.68
"""Body lengths that the body may extend from its centre; the centre stays this far from the border."""
CURLING = 7.0
"""Frames in which a licking animal curls up."""
FIDGETING = (0.15, 0.15, 0.35, 0.35)
"""Which of `PAWS` moves when a resting animal does not keep still."""


class Action(IntEnum):
    """Merged classes."""

    REST = 0
    WITHDRAW = 1
    LICK = 2
    SHAKE = 3
    WALK = 4
    ACTIVE = 5


@dataclass(frozen=True)
class PlannedBout:
    """Frames [start, stop) of a trial in which the animal does `action`, labelled with the id `raw`."""

    action: Action
    start: int
    stop: int
    raw: int

    @property
    def frames(self) -> slice:
        return slice(self.start, self.stop)


@dataclass(frozen=True)
class Move:
    """What a bout of n frames adds: `shift` [n, 6, 2] of the keypoints in body lengths, `turn` [n] of the
    heading in radians per frame, `advance` [n] of the body in body lengths per frame."""

    shift: Floats
    turn: Floats
    advance: Floats

    @classmethod
    def still(cls, frames: int) -> Move:
        """Return a move of `frames` frames that changes nothing."""
        return cls(np.zeros((frames, len(KEYPOINTS), 2)), np.zeros(frames), np.zeros(frames))

    def mirrored(self) -> Move:
        """Return the same move on the other side of the body."""
        return Move(mirrored(self.shift), -self.turn, self.advance)


def mirrored(points: Floats) -> Floats:
    """Return body coordinates [..., 6, 2] with left and right exchanged."""
    exchanged: Floats = points[..., MIRROR, :] * np.array([1.0, -1.0])
    return exchanged


def withdraw(frames: int, fps: float, rng: np.random.Generator) -> Move:
    """The left hind paw is pulled under the belly by 0.15 to 0.3 body lengths, held, and put back."""
    move = Move.still(frames)
    inwards = BELLY - POSTURE[LEFT_HIND]
    pull = _rotated(inwards / np.linalg.norm(inwards), rng.normal(0.0, 0.3)) * rng.uniform(0.16, 0.29)
    move.shift[:, LEFT_HIND] = _plateau(frames, rng.uniform(1.5, 3.0))[:, None] * pull
    return move


def lick(frames: int, fps: float, rng: np.random.Generator) -> Move:
    """The animal curls to the left until its mouth is at the lifted hind paw and licks at 4 to 6 Hz."""
    move = Move.still(frames)
    curl = _plateau(frames, CURLING)[:, None]
    tongue = _wave(frames, rng.uniform(4.0, 6.0) / fps, rng)[:, None]
    move.shift[:] = curl[:, :, None] * (LICKING - POSTURE)
    move.shift[:, MOUTH] += curl * tongue * np.array([-0.05, -0.05])
    move.shift[:, LEFT_HIND] += curl * tongue * 0.012
    return move


def shake(frames: int, fps: float, rng: np.random.Generator) -> Move:
    """The lifted left hind paw is shaken sideways at 8 to 10 Hz."""
    move = Move.still(frames)
    held = _plateau(frames, 2.0)[:, None]
    swing = _wave(frames, rng.uniform(8.0, 10.0) / fps, rng)[:, None]
    lift = (BELLY - POSTURE[LEFT_HIND]) * rng.uniform(0.15, 0.35)
    move.shift[:, LEFT_HIND] = held * (lift + swing * np.array([0.04, 1.0]) * rng.uniform(0.12, 0.17))
    return move


def walk(frames: int, fps: float, rng: np.random.Generator) -> Move:
    """The body moves forwards; a paw stands on the ground for 60 % of a step, diagonal paws together."""
    move = Move.still(frames)
    speed: Floats = _plateau(frames, 6.0) * rng.uniform(0.6, 1.1) / fps
    steps = rng.uniform(2.5, 3.5) / fps
    phase = rng.random() + steps * _clock(frames)
    for paw, lag in zip(PAWS, (0.0, 0.5, 0.5, 0.0)):
        move.shift[:, paw, 0] = speed * 0.6 / steps * _gait((phase + lag) % 1.0)
    move.shift[:, MOUTH, 1] = 0.03 * np.sin(2 * np.pi * phase) * _plateau(frames, 4.0)
    move.advance[:] = speed
    return move


def active(frames: int, fps: float, rng: np.random.Generator) -> Move:
    """The animal turns on the spot towards the left, bent to that side, with busy fore paws."""
    move = Move.still(frames)
    pace = _plateau(frames, 8.0) * (1.0 + 0.4 * _wave(frames, 1.5 / fps, rng))
    move.turn[:] = pace / pace.sum() * np.radians(rng.uniform(60.0, 150.0))
    bend = _plateau(frames, 8.0)
    move.shift[:, MOUTH] = bend[:, None] * np.array([-0.08, 0.22])
    for paw, reach in zip(PAWS, (0.12, 0.12, 0.03, 0.03)):
        step = [_wave(frames, rng.uniform(3.0, 5.0) / fps, rng) for _ in range(2)]
        move.shift[:, paw] = bend[:, None] * np.stack(step, axis=1) * np.array([reach, 0.6 * reach])
    move.shift[:, (LEFT_FRONT, RIGHT_FRONT), 1] += 0.08 * bend[:, None]
    return move


MOVES: dict[Action, Callable[[int, float, np.random.Generator], Move]] = {
    Action.WITHDRAW: withdraw,
    Action.LICK: lick,
    Action.SHAKE: shake,
    Action.WALK: walk,
    Action.ACTIVE: active,
}


def trial_motion(
    bouts: Sequence[PlannedBout],
    *,
    frames: int,
    fps: float,
    size: float,
    scale: float,
    rng: np.random.Generator,
) -> Floats:
    """Return the keypoints [frames, 6, 2] in px of one trial in a square arena of `size` px.

    `bouts` are in time order and do not overlap, the animal rests between them; `scale` is the body length in
    px. Start and heading are drawn anew for every trial.
    """
    body = POSTURE + _breathing(frames, fps, rng) + _fidgeting(bouts, frames, rng)
    turn, advance = _restlessness(frames, rng), np.zeros(frames)
    for bout in bouts:
        move = MOVES[bout.action](bout.stop - bout.start, fps, rng)
        if rng.random() < 0.5:
            move = move.mirrored()
        body[bout.frames] += move.shift
        turn[bout.frames] += move.turn
        advance[bout.frames] += move.advance
    heading, centre = _route(bouts, turn, advance * scale, size, REACH * scale, rng)
    forwards = np.stack([np.cos(heading), np.sin(heading)], axis=1)[:, None, :]
    sideways = forwards[..., ::-1] * np.array([-1.0, 1.0])
    placed = scale * (body - CENTRE)
    points: Floats = centre[:, None, :] + placed[..., :1] * forwards + placed[..., 1:] * sideways
    return points


def _route(
    bouts: Sequence[PlannedBout],
    turn: Floats,
    advance: Floats,
    size: float,
    margin: float,
    rng: np.random.Generator,
) -> tuple[Floats, Floats]:
    """Return heading [T] and body centre [T, 2]; every walk bends so that it stays inside the arena."""
    heading = rng.uniform(-np.pi, np.pi) + np.cumsum(turn)
    place = rng.uniform(margin, size - margin, 2)
    centre = np.tile(place, (len(turn), 1))
    for bout in bouts:
        if bout.action is not Action.WALK:
            continue
        bend, path = _walk_inside(
            place, heading[bout.frames], advance[bout.frames], (margin, size - margin), rng
        )
        heading[bout.frames] += bend
        heading[bout.stop :] += bend[-1]
        place = path[-1]
        centre[bout.frames] = path
        centre[bout.stop :] = place
    return heading, centre


def _walk_inside(
    start: Floats, heading: Floats, advance: Floats, bounds: tuple[float, float], rng: np.random.Generator
) -> tuple[Floats, Floats]:
    """Return the extra heading [n] and the path [n, 2] of the bend that leaves `bounds` least."""
    bends = np.linspace(-1.4 * np.pi, 1.4 * np.pi, 41) + rng.normal(0.0, 0.05)
    extra = bends[:, None] * np.linspace(0.0, 1.0, len(heading))
    direction = np.stack([np.cos(heading + extra), np.sin(heading + extra)], axis=2)
    paths = start + np.cumsum(advance[:, None] * direction, axis=1)
    outside = np.maximum(bounds[0] - paths, paths - bounds[1]).clip(min=0.0).max(axis=(1, 2))
    best = int(np.argmin(outside + 0.5 * np.abs(bends)))
    return extra[best], paths[best].clip(*bounds)


def _breathing(frames: int, fps: float, rng: np.random.Generator) -> Floats:
    """Return what breathing and slow changes of posture add to the keypoints [frames, 6, 2]."""
    breath = 0.006 * _wave(frames, rng.uniform(2.0, 3.0) / fps, rng)
    memory = np.exp(-np.arange(60) / 20.0)
    noise = rng.normal(0.0, 0.004, (frames, len(KEYPOINTS), 2))
    calm: Floats = np.apply_along_axis(lambda steps: np.convolve(steps, memory)[:frames], 0, noise)
    calm[:, TAIL] *= 0.2
    calm[:, PAWS, 1] += breath[:, None] * np.sign(POSTURE[PAWS, 1])
    calm[:, MOUTH, 0] += breath
    return calm


def _restlessness(frames: int, rng: np.random.Generator) -> Floats:
    """Return the small turns [frames] of a resting animal in radians per frame."""
    return rng.normal(0.0, 0.002, frames)


def _fidgeting(bouts: Sequence[PlannedBout], frames: int, rng: np.random.Generator) -> Floats:
    """Return movements of resting paws [frames, 6, 2] that are fast and yet no behaviour.

    A paw is put elsewhere and creeps back, or trembles; trembling gathers about withdrawals. Nothing moves a
    paw away from the mouth that licks it.
    """
    shift = np.zeros((frames, len(KEYPOINTS), 2))
    for start in _resting_frames(bouts, frames, 1 + int(rng.poisson(2.5)), rng):
        paw = int(rng.choice(PAWS, p=FIDGETING))
        shift[start:, paw] += _relocation(frames - start, paw, rng)
    for start, stop in _trembling(bouts, frames, rng):
        paw = int(rng.choice(PAWS, p=FIDGETING))
        jolts = rng.normal(0.0, rng.uniform(0.015, 0.04), (stop - start, 2))
        shift[start:stop, paw] += _plateau(stop - start, 3.0)[:, None] * jolts
    for bout in bouts:
        if bout.action is Action.LICK:
            shift[bout.frames] *= 1.0 - _plateau(bout.stop - bout.start, CURLING)[:, None, None]
    return shift


def _relocation(frames: int, paw: int, rng: np.random.Generator) -> Floats:
    """Return the shift [frames, 2] of a paw that steps aside within 2 to 4 frames and creeps back late."""
    time = _clock(frames)
    rise = ((time + 1.0) / rng.uniform(2.0, 4.0)).clip(max=1.0)
    hold, back = rng.uniform(20.0, 70.0), rng.uniform(25.0, 50.0)
    fall = (1.0 - (time - hold) / back).clip(0.0, 1.0)
    aside = _rotated(np.array([0.0, np.sign(POSTURE[paw, 1])]), rng.uniform(-2.0, 2.0))
    return (rise * _smooth(fall))[:, None] * aside * rng.uniform(0.12, 0.25)


def _trembling(
    bouts: Sequence[PlannedBout], frames: int, rng: np.random.Generator
) -> Iterator[tuple[int, int]]:
    """Yield start and stop of each spell of trembling."""
    starts = _resting_frames(bouts, frames, int(rng.poisson(2.0)), rng)
    near = [
        bout.start + int(rng.integers(-15, 10))
        for bout in bouts
        if bout.action is Action.WITHDRAW and rng.random() < 0.7
    ]
    for start in [*starts, *near]:
        first = max(0, start)
        yield first, min(frames, first + int(rng.integers(8, 25)))


def _resting_frames(
    bouts: Sequence[PlannedBout], frames: int, count: int, rng: np.random.Generator
) -> list[int]:
    """Draw up to `count` frames at least 5 frames before the next bout."""
    resting = np.ones(frames, dtype=bool)
    for bout in bouts:
        resting[max(0, bout.start - 5) : bout.stop] = False
    free = np.flatnonzero(resting)
    return [int(frame) for frame in rng.choice(free, min(count, len(free)), replace=False)]


def _plateau(frames: int, ramp: float) -> Floats:
    """Return an envelope [frames] that rises to 1 and falls again, each within about `ramp` frames."""
    time = _clock(frames)
    edge = np.minimum(time + 1.0, frames - time) / ramp
    return _smooth(edge.clip(max=1.0))


def _clock(frames: int) -> Floats:
    return np.arange(frames, dtype=np.float64)


def _smooth(share: Floats) -> Floats:
    return share * share * (3.0 - 2.0 * share)


def _wave(frames: int, cycles_per_frame: float, rng: np.random.Generator) -> Floats:
    wave: Floats = np.sin(2 * np.pi * (rng.random() + cycles_per_frame * _clock(frames)))
    return wave


def _gait(phase: Floats) -> Floats:
    """Return the place of a paw along the body, 0.5 to -0.5 while it stands (phase < 0.6) and back after."""
    return np.where(phase < 0.6, 0.5 - phase / 0.6, (phase - 0.6) / 0.4 - 0.5)


def _rotated(vector: Floats, angle: float) -> Floats:
    cos, sin = np.cos(angle), np.sin(angle)
    return np.array([cos * vector[0] - sin * vector[1], sin * vector[0] + cos * vector[1]])
