"""Pictures of generated fouls: two players, a ball and a referee on a pitch, seen by a camera.

Lengths are in heights of the picture at zoom 1, times in seconds from the foul. What a foul is can be told
only from how things move: the class from the players' paths and limbs, the severity from the speed of the
impact, the offence from the referee's arms.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import astuple, dataclass, replace

import cv2
import numpy as np
from numpy.typing import NDArray

from common.video import Pixels

FOUL_FRAME = 75
FPS = 25.0
BITS = 8
SPEEDS = {"": 0.6, "1.0": 0.4, "2.0": 0.8, "3.0": 1.2, "4.0": 1.7, "5.0": 2.3}
"""Speed of the impact by severity."""

TALL = 0.36
REFEREE = 1.3
"""Size of the referee, who is nearer to the camera, over a player's."""
GROUND = 0.78
"""Where the ground on which the players run is, as a share of the picture's height."""
SUBPIXEL = 4
STILL = 1.0
"""Time from the foul beyond which nothing moves: pictures that are not drawn anew cost little."""
RUN = 0.45
"""Speed of a run."""

Point = tuple[float, float]
Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Pose:
    """Where a player stands and how: angles in radians, forward positive, 0 = hanging down or upright."""

    x: float
    up: float = 0.0
    lean: float = 0.0
    leg: float = 0.0
    arm: float = 0.0
    other_arm: float = 0.0
    facing: float = 1
    stride: float = 0.0

    def towards(self, other: Pose, share: float) -> Pose:
        """Return the pose that is `share` of the way from this one to another; between facings one turns."""
        return Pose(*_between(astuple(self), astuple(other), share))


@dataclass(frozen=True)
class Moment:
    """Attacker, defender and ball at one time."""

    attacker: Pose
    defender: Pose
    ball: Point

    def towards(self, other: Moment, share: float) -> Moment:
        """Return the moment that is `share` of the way from this one to another."""
        attacker = self.attacker.towards(other.attacker, share)
        defender = self.defender.towards(other.defender, share)
        x, up = _between(self.ball, other.ball, share)
        return Moment(attacker, defender, (x, up))


@dataclass(frozen=True)
class Foul:
    """What can be told from how things move, as annotated."""

    action_class: str
    severity: str
    offence: str


@dataclass(frozen=True)
class Likeness:
    """How far a foul moves like another one: shares, 0 to 1, of paths and limbs, and of speed and gesture."""

    other: Foul
    action: float
    outcome: float


@dataclass(frozen=True)
class Motion:
    """How players, ball and referee of a foul move."""

    foul: Foul
    likeness: Likeness | None = None

    def moment(self, time: float) -> Moment:
        """Return players and ball at a time."""
        own, speed = self.foul, SPEEDS[self.foul.severity]
        if self.likeness is None:
            return _moment(own, time, speed)
        other, share = self.likeness.other, self.likeness.outcome
        (speed,) = _between((speed,), (SPEEDS[other.severity],), share)
        return _moment(own, time, speed).towards(_moment(other, time, speed), self.likeness.action)

    def referee(self, time: float) -> Pose:
        """Return the referee's pose at a time."""
        pose = referee(self.foul.offence, time)
        if self.likeness is None:
            return pose
        return pose.towards(referee(self.likeness.other.offence, time), self.likeness.outcome)


@dataclass(frozen=True)
class Look:
    """Colours (RGB) of the two kits and the seed of the crowd."""

    attacker: Colour
    defender: Colour
    crowd: int


@dataclass(frozen=True)
class Camera:
    """A view of the scene: picture size in px, zoom, place looked at, mirrored or not."""

    height: int
    width: int
    zoom: float = 1.0
    pan: float = 0.0
    mirrored: bool = False

    def point(self, x: float, up: float, depth: float = 0.0) -> tuple[int, int]:
        """Return the pixel of a place, in 1/16 px; `depth` is how far nearer than the ground line it is."""
        unit = self.height * self.zoom
        across = (self.pan - x if self.mirrored else x - self.pan) * unit + self.width / 2
        down = (GROUND + depth) * self.height - up * unit
        return round(across * 2**SUBPIXEL), round(down * 2**SUBPIXEL)

    def pixels(self, length: float) -> int:
        """Return a length in px, at least 1."""
        return max(1, round(length * self.height * self.zoom))


def pictures(motion: Motion, *, look: Look, camera: Camera, frames: int, x: float = 0.0) -> Iterator[Pixels]:
    """Yield `frames` RGB pictures [H, W, 3] of a foul at place `x`, each with its number as bar code.

    Everything stands still until a second before the foul and from a second after it. The same array is
    yielded again and again.
    """
    pitch = draw_pitch(camera, look.crowd)
    picture, drawn = pitch.copy(), math.nan
    for number in range(frames):
        time = min(max((number - FOUL_FRAME) / FPS, -STILL), STILL)
        if time != drawn:
            np.copyto(picture, pitch)
            _draw_scene(picture, camera, look, motion.moment(time), x)
            _draw_player(picture, camera, motion.referee(time), (250, 220, 40), depth=0.18, size=REFEREE)
            drawn = time
        draw_bar_code(picture, number)
        yield picture


def draw_pitch(camera: Camera, crowd: int) -> Pixels:
    """Return the empty pitch: crowd above, striped grass and lines below."""
    height, width = camera.height, camera.width
    picture = np.empty((height, width, 3), np.uint8)
    edge = round(0.3 * height)
    rng = np.random.Generator(np.random.Philox(crowd))
    coarse = rng.integers(50, 150, (8, 16, 3)).astype(np.uint8)
    picture[:edge] = cv2.resize(coarse, (width, edge), interpolation=cv2.INTER_LINEAR)
    stripe = (np.arange(width) / height * 4 + 8 * camera.pan).astype(int) % 2
    picture[edge:] = np.where(stripe[:, None], (46, 128, 52), (54, 142, 60))
    white, thick = (225, 235, 225), camera.pixels(0.008)
    cv2.line(picture, (0, edge), (width, edge), white, thick, cv2.LINE_AA)
    near, far = camera.point(-0.9, 0, 0.3), camera.point(-0.55, 0.46)
    cv2.line(picture, near, far, white, thick, cv2.LINE_AA, SUBPIXEL)
    cv2.ellipse(
        picture,
        (width // 2, round(0.86 * height)),
        (width // 3, height // 9),
        0,
        0,
        360,
        white,
        thick,
        cv2.LINE_AA,
    )
    return picture


def thrown(moment: Moment, time: float, speed: float) -> Moment:
    """Return a moment in which the impact also lifts and turns the attacker, beyond the lowest speed."""
    force = max(speed - SPEEDS["1.0"], 0.0) * max(time, 0.0)
    attacker = moment.attacker
    lean = attacker.lean + math.copysign(1.5 * force, attacker.lean)
    return replace(moment, attacker=replace(attacker, up=attacker.up + 0.6 * force, lean=lean))


def referee(offence: str, time: float) -> Pose:
    """Return the referee's pose: raises an arm for an offence, waves both to and fro for none."""
    if offence.casefold() == "offence":
        return Pose(-0.6, arm=2.9 * _ramp(time, -0.24, 0.2))
    if offence.casefold() == "no offence":
        swing = 0.9 * math.sin(2 * math.pi * 3 * time)
        return Pose(-0.6, arm=1.2 + swing, other_arm=-1.2 + swing)
    return Pose(-0.6)


def _tackling(time: float, speed: float) -> Moment:
    """Slide in from ahead, lying; the attacker falls over the legs."""
    after = max(time, 0.0)
    thrown = RUN * min(time, 0.0) + speed * after
    attacker = Pose(thrown, 0.25 * after, lean=1.4 * _ramp(time, 0, 0.3), stride=_stride(time))
    slide = -0.35 * _ramp(time, -0.4, 0.3)
    return Moment(attacker, Pose(0.5 + slide, lean=-1.3, leg=0.3, facing=-1), _ball(time, speed))


def _standing_tackling(time: float, speed: float) -> Moment:
    """Step in upright and poke a leg at the ball; the attacker stumbles."""
    after = max(time, 0.0)
    attacker = Pose(
        RUN * min(time, 0.0) + 0.5 * speed * after, lean=0.4 * _ramp(time, 0, 0.3), stride=_stride(time)
    )
    poke = math.sin(math.pi * _ramp(time, -0.25, 0.25))
    return Moment(attacker, Pose(0.3 - 0.3 * time, leg=0.8 * poke, facing=-1), _ball(time, speed))


def _high_leg(time: float, speed: float) -> Moment:
    """Swing a leg up to the chest; the attacker leans back."""
    after = max(time, 0.0)
    kick = 2.0 * math.sin(math.pi * _ramp(time, -0.3, 0.3))
    attacker = Pose(RUN * min(time, 0.0) - 0.6 * speed * after, lean=-0.6 * _ramp(time, 0, 0.25))
    defender = Pose(0.24, 0.03 * kick, lean=-0.2 * kick, leg=kick, facing=-1)
    return Moment(attacker, defender, (0.12 + speed * after, 0.3 - 0.4 * abs(time)))


def _holding(time: float, speed: float) -> Moment:
    """Hang on from behind; both slow down and sway."""
    x = 0.5 * speed * time
    sway = 0.3 * math.sin(2 * math.pi * 2.5 * time)
    attacker = Pose(x, lean=-0.2 + sway, arm=1.2, stride=0.3 * _stride(time))
    defender = Pose(x - 0.13, lean=-0.1 + sway, arm=1.5, other_arm=1.3)
    return Moment(attacker, defender, (0.3 + 0.2 * time, 0.02))


def _pushing(time: float, speed: float) -> Moment:
    """Push with both arms from behind; the attacker flies off, the defender stops."""
    after, before = max(time, 0.0), min(time, 0.0)
    attacker = Pose(RUN * before + 1.1 * speed * after, lean=1.0 * _ramp(time, 0, 0.25), stride=_stride(time))
    arms = 1.6 * _ramp(time, -0.12, 0.08)
    defender = Pose(
        -0.18 + 1.2 * RUN * before, lean=0.2, arm=arms, other_arm=arms, stride=_stride(time + 0.1)
    )
    return Moment(attacker, defender, (0.2 + 0.2 * time, 0.02))


def _elbowing(time: float, speed: float) -> Moment:
    """Run side by side and swing an elbow up to the head."""
    after, before = max(time, 0.0), min(time, 0.0)
    blow = math.sin(math.pi * _ramp(time, -0.16, 0.2))
    attacker = Pose(RUN * before - 0.5 * speed * after, lean=-1.1 * _ramp(time, 0, 0.3))
    defender = Pose(0.14 + RUN * time, arm=-2.4 * blow, other_arm=-2.0 * blow, stride=_stride(time))
    return Moment(attacker, defender, (0.3 + 0.4 * time, 0.02))


def _challenge(time: float, speed: float) -> Moment:
    """Jump for the same ball."""
    jump = 0.3 * max(0.0, 1 - (time / 0.32) ** 2)
    drift = 0.4 * speed * max(time, 0.0)
    attacker = Pose(-0.08 - drift, jump, arm=1.5, lean=-0.3 * _ramp(time, 0, 0.3))
    defender = Pose(0.08 + drift, 0.9 * jump, arm=1.5, facing=-1)
    return Moment(attacker, defender, (0.4 * speed * time, 0.62 + 0.2 * time - 1.2 * time**2))


def _dive(time: float, speed: float) -> Moment:
    """Fall at full length with nobody near."""
    after = max(time, 0.0)
    hop = 0.16 * math.sin(math.pi * _ramp(time, -0.1, 0.3))
    x = RUN * min(time, 0.0) + (0.5 + 0.5 * speed) * after
    attacker = Pose(x - 0.1, hop, lean=1.45 * _ramp(time, -0.1, 0.25), arm=2.6 * _ramp(time, -0.1, 0.2))
    return Moment(attacker, Pose(0.62 + 0.1 * time, facing=-1, stride=0.5 * _stride(time)), _ball(time, 0.3))


def _run_on(time: float, speed: float) -> Moment:
    """Run on, nothing happens."""
    attacker = Pose(RUN * time, stride=_stride(time))
    return Moment(attacker, Pose(0.3 + RUN * time, stride=_stride(time + 0.2)), (0.1 + RUN * time, 0.02))


MOVES: dict[str, Callable[[float, float], Moment]] = {
    "Tackling": _tackling,
    "Standing tackling": _standing_tackling,
    "High leg": _high_leg,
    "Holding": _holding,
    "Pushing": _pushing,
    "Elbowing": _elbowing,
    "Challenge": _challenge,
    "Dive": _dive,
}
"""Where everybody is at a time, for a speed of the impact."""


def _moment(foul: Foul, time: float, speed: float) -> Moment:
    return thrown(MOVES.get(foul.action_class, _run_on)(time, speed), time, speed)


def _between(one: Sequence[float], other: Sequence[float], share: float) -> tuple[float, ...]:
    return tuple(first + share * (second - first) for first, second in zip(one, other, strict=True))


def _ramp(time: float, start: float, length: float) -> float:
    """Rise from 0 at `start` to 1 after `length`."""
    return min(max((time - start) / length, 0.0), 1.0)


def _stride(time: float) -> float:
    return 0.55 * math.sin(2 * math.pi * 2 * time)


def _ball(time: float, speed: float) -> Point:
    return 0.1 + RUN * min(time, 0.0) + 1.2 * speed * max(time, 0.0), 0.02


def _draw_scene(picture: Pixels, camera: Camera, look: Look, moment: Moment, x: float) -> None:
    for pose, colour in ((moment.defender, look.defender), (moment.attacker, look.attacker)):
        _draw_player(picture, camera, pose, colour, offset=x)
    centre = camera.point(moment.ball[0] + x, moment.ball[1])
    radius = camera.pixels(0.024) << SUBPIXEL
    cv2.circle(picture, centre, radius, (250, 250, 250), -1, cv2.LINE_AA, SUBPIXEL)


def _draw_player(
    picture: Pixels,
    camera: Camera,
    pose: Pose,
    colour: Colour,
    *,
    offset: float = 0.0,
    depth: float = 0.0,
    size: float = 1.0,
) -> None:
    feet, tall = (pose.x + offset, pose.up), TALL * size
    hip = _along(feet, pose.lean, 0.46 * tall, pose.facing)
    neck = _along(feet, pose.lean, 0.84 * tall, pose.facing)
    head = _along(feet, pose.lean, 0.93 * tall, pose.facing)

    def limb(start: Point, angle: float, length: float, thickness: float, paint: Colour) -> None:
        end = _along(start, pose.lean - angle + math.pi, length, pose.facing)
        line(start, end, thickness, paint)

    def line(start: Point, end: Point, thickness: float, paint: Colour) -> None:
        places = camera.point(*start, depth), camera.point(*end, depth)
        cv2.line(picture, *places, paint, camera.pixels(size * thickness), cv2.LINE_AA, SUBPIXEL)

    skin, shorts = (222, 184, 150), (235, 235, 235)
    limb(hip, -pose.stride, 0.46 * tall, 0.028, shorts)
    limb(hip, pose.stride + pose.leg, 0.46 * tall, 0.028, shorts)
    line(hip, neck, 0.07, colour)
    limb(neck, pose.other_arm, 0.4 * tall, 0.03, skin)
    limb(neck, pose.arm, 0.4 * tall, 0.03, skin)
    radius = camera.pixels(0.034 * size) << SUBPIXEL
    cv2.circle(picture, camera.point(*head, depth), radius, skin, -1, cv2.LINE_AA, SUBPIXEL)


def _along(start: Point, lean: float, length: float, facing: float) -> Point:
    return start[0] + facing * math.sin(lean) * length, start[1] + math.cos(lean) * length


def draw_bar_code(picture: Pixels, number: int) -> None:
    """Draw `number` into the top left corner as 8 black or white blocks, the lowest bit first."""
    if not 0 <= number < 2**BITS:
        raise ValueError(f"number is {number}: 0 to {2**BITS - 1} is expected")
    side = _block(len(picture))
    for bit in range(BITS):
        picture[: round(side), round(bit * side) : round((bit + 1) * side)] = 255 * (number >> bit & 1)


def read_bar_codes(frames: NDArray[np.generic]) -> list[int]:
    """Return the numbers that frames [T, H, W, 3] of a whole picture of any size carry."""
    side = _block(frames.shape[1])
    rows = slice(round(side * 0.3), max(round(side * 0.7), round(side * 0.3) + 1))
    columns = (side * (np.arange(BITS) + 0.5)).astype(int)
    white = 255 if frames.dtype == np.uint8 else 1
    bright = frames[:, rows, columns].astype(np.float64).mean(axis=(1, 3)) > white / 2
    return [int(number) for number in bright @ (1 << np.arange(BITS))]


def _block(height: int) -> float:
    return height / 14
