"""Things that stand, grow, drive and walk in a generated scene; each paints itself around a point."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from uav_landing.scene import (
    BALD_TREE,
    BICYCLE,
    CAR,
    DOG,
    DOOR,
    FENCE,
    FENCE_POLE,
    MARKER,
    OBSTACLE,
    PAVED,
    PERSON,
    PLANTS,
    POOL,
    ROCKS,
    ROOF,
    TREE,
    WALL,
    WATER,
    WINDOW,
    Canvas,
    Color,
    Point,
    corners,
)

Draw = Callable[[Canvas, Point], None]

ROOF_COLORS: tuple[Color, ...] = ((150, 72, 54), (120, 62, 52), (96, 96, 104), (132, 98, 78))
CAR_COLORS: tuple[Color, ...] = ((190, 30, 30), (230, 230, 232), (30, 32, 38), (60, 88, 150), (150, 155, 160))
CLOTHES: tuple[Color, ...] = ((200, 40, 60), (240, 200, 40), (40, 70, 180), (245, 245, 245), (30, 30, 34))


def _pick(canvas: Canvas, choices: tuple[Color, ...]) -> Color:
    return choices[int(canvas.rng.integers(len(choices)))]


def _lit(color: Color, factor: float, offset: float = 0.0) -> Color:
    red, green, blue = (min(value * factor + offset, 255.0) for value in color)
    return red, green, blue


def house(canvas: Canvas, at: Point) -> None:
    """A gabled roof with tile rows, and one wall seen at a slant with windows and a door."""
    rng = canvas.rng
    length, width = rng.uniform(150, 230), rng.uniform(100, 150)
    angle = rng.uniform(-0.5, 0.5) + rng.integers(2) * np.pi / 2
    across = np.array([-np.sin(angle), np.cos(angle)])
    body = canvas.rectangle(at, length, width, angle)
    canvas.shadow(body, 16)
    wall_centre = np.asarray(at) + across * (width / 2 + 9)
    canvas.paint(canvas.rectangle(tuple(wall_centre), length, 22, angle), (214, 205, 190), WALL)
    _openings(canvas, wall_centre, length, angle)
    color = _pick(canvas, ROOF_COLORS)
    rows = (canvas.columns * across[0] + canvas.rows * across[1]) % 7 < 1.4
    for side, light in ((-1, 1.12), (1, 0.86)):
        centre = np.asarray(at) + across * side * width / 4
        tiles = canvas.textured(_lit(color, light), fine=5, coarse=3)
        tiles[rows] -= 22
        canvas.paint(canvas.rectangle(tuple(centre), length, width / 2 + 1, angle), tiles, ROOF)
    _chimney(canvas, at, angle)


def _openings(canvas: Canvas, wall_centre: np.ndarray, length: float, angle: float) -> None:
    along = np.array([np.cos(angle), np.sin(angle)])
    for index, place in enumerate(np.linspace(-0.36, 0.36, 4)):
        centre = tuple(wall_centre + along * place * length)
        if index == 2:
            canvas.paint(canvas.rectangle(centre, 13, 15, angle), (96, 62, 40), DOOR)
        else:
            canvas.paint(canvas.rectangle(centre, 18, 10, angle), (92, 124, 150), WINDOW)


def _chimney(canvas: Canvas, at: Point, angle: float) -> None:
    stack = canvas.rectangle((at[0] + 24, at[1] - 14), 14, 14, angle)
    canvas.shadow(stack, 6)
    canvas.paint(stack, (104, 92, 88), ROOF)


def tree(canvas: Canvas, at: Point) -> None:
    """A leafy crown with lit and shaded clumps."""
    rng = canvas.rng
    radius = rng.uniform(30, 62)
    crown = canvas.blob(at, radius, wobble=0.12, corners_=20)
    canvas.shadow(crown, int(radius * 0.45))
    leaves = canvas.textured((44, 78, 36), fine=10, coarse=0) + (15 * canvas.noise(7))[..., None]
    light = (canvas.columns - at[0] + canvas.rows - at[1]) / radius
    canvas.paint(crown, leaves - (14 * light)[..., None], TREE)


def bald_tree(canvas: Canvas, at: Point) -> None:
    """A leafless tree: a web of thin branches around the trunk."""
    rng = canvas.rng
    web = canvas.disc(at, 6)
    for turn in np.linspace(0, 2 * np.pi, 13)[:-1] + rng.uniform(0, 0.5):
        start = np.asarray(at, float)
        for generation, reach in enumerate((26, 18, 14)):
            end = start + reach * np.array([np.cos(turn), np.sin(turn)])
            web |= canvas.line(tuple(start), tuple(end), 5 - generation)
            side = end + reach * 0.7 * np.array([np.cos(turn + 0.7), np.sin(turn + 0.7)])
            web |= canvas.line(tuple(end), tuple(side), 3)
            start, turn = end, turn + rng.uniform(-0.4, 0.4)
    canvas.shadow(web, 8)
    canvas.paint(web, canvas.textured((104, 88, 76), fine=8, coarse=6, cell=20), BALD_TREE)


def bush(canvas: Canvas, at: Point) -> None:
    """A bed of low plants, lighter than trees and dotted with blossom."""
    bed = canvas.blob(at, canvas.rng.uniform(30, 60), wobble=0.2)
    canvas.shadow(bed, 4)
    plants = canvas.textured((116, 150, 62), fine=6, coarse=0) + (24 * canvas.noise(4))[..., None]
    plants[canvas.noise(3) > 1.9] = (214, 120, 150)
    canvas.paint(bed, plants, PLANTS)


def rocks(canvas: Canvas, at: Point) -> None:
    """A heap of grey stones."""
    for _ in range(10):
        offset = canvas.rng.normal(0, 18, 2)
        centre = (int(at[0] + offset[0]), int(at[1] + offset[1]))
        stone = canvas.blob(centre, canvas.rng.uniform(8, 16), wobble=0.2, corners_=8)
        canvas.shadow(stone, 3)
        grey = canvas.rng.uniform(88, 140)
        canvas.paint(stone, canvas.textured((grey, grey - 4, grey - 10), fine=8, coarse=4, cell=9), ROCKS)


def pond(canvas: Canvas, at: Point) -> None:
    """Still dark water with a pale glint."""
    water = canvas.blob(at, canvas.rng.uniform(40, 75), wobble=0.15)
    surface = canvas.textured((44, 74, 96), fine=2, coarse=7, cell=40)
    surface += (22 * np.clip(canvas.noise(30) - 0.9, 0, 1))[..., None]
    canvas.paint(water, surface, WATER)


def pool(canvas: Canvas, at: Point) -> None:
    """A swimming pool with a paved rim."""
    angle = canvas.rng.uniform(0, np.pi)
    length = canvas.rng.uniform(80, 120)
    canvas.paint(canvas.rectangle(at, length + 24, 74, angle), canvas.paving(), PAVED)
    ripples = 10 * np.sin(canvas.columns / 5 + 2 * canvas.noise(20)) + 5 * canvas.noise(9)
    surface = np.array((62, 172, 202), np.float32) + ripples[..., None]
    canvas.paint(canvas.rectangle(at, length, 50, angle), surface, POOL)


def car(canvas: Canvas, at: Point) -> None:
    """A car seen from above: body, roof and dark glass."""
    angle = canvas.rng.uniform(0, 2 * np.pi)
    body = canvas.rectangle(at, 78, 36, angle)
    color = _pick(canvas, CAR_COLORS)
    canvas.shadow(body, 7)
    canvas.paint(body, canvas.textured(color, fine=3, coarse=2), CAR)
    canvas.paint(canvas.rectangle(at, 46, 31, angle), (34, 40, 48), None)
    canvas.paint(canvas.rectangle(at, 28, 29, angle), _lit(color, 1.1, 8), None)


def person(canvas: Canvas, at: Point) -> None:
    """Shoulders and a head, 8 to 24 px across."""
    size = canvas.rng.uniform(8, 12)
    angle = canvas.rng.uniform(0, np.pi)
    body = canvas.rectangle(at, 2 * size, size, angle) | canvas.disc(at, size * 0.62)
    canvas.shadow(body, int(size))
    canvas.paint(body, _pick(canvas, CLOTHES), PERSON)
    canvas.paint(canvas.disc(at, size * 0.4), (86, 58, 42), None)


def dog(canvas: Canvas, at: Point) -> None:
    """A small dark body with a head."""
    angle = canvas.rng.uniform(0, 2 * np.pi)
    head = (at[0] + 9 * np.cos(angle), at[1] + 9 * np.sin(angle))
    body = canvas.rectangle(at, 18, 7, angle) | canvas.disc(head, 4)
    canvas.shadow(body, 4)
    canvas.paint(body, (74, 50, 32), DOG)


def bicycle(canvas: Canvas, at: Point) -> None:
    """Two thin wheels, a frame and a handlebar."""
    angle = canvas.rng.uniform(0, np.pi)
    along, across = np.array([np.cos(angle), np.sin(angle)]), np.array([-np.sin(angle), np.cos(angle)])
    front, rear = np.asarray(at) + 15 * along, np.asarray(at) - 15 * along
    frame = canvas.line(tuple(rear - 7 * along), tuple(front + 7 * along), 4)
    frame |= canvas.line(tuple(front - 9 * across), tuple(front + 9 * across), 3)
    canvas.shadow(frame, 4)
    canvas.paint(frame, (26, 26, 30), BICYCLE)
    canvas.paint(canvas.line(tuple(rear), tuple(front), 2), (210, 60, 40), None)


def fence(canvas: Canvas, at: Point) -> None:
    """A straight wooden fence with posts."""
    angle = canvas.rng.uniform(0, np.pi)
    along = np.array([np.cos(angle), np.sin(angle)])
    start, end = np.asarray(at) - 80 * along, np.asarray(at) + 80 * along
    rail = canvas.line(tuple(start), tuple(end), 5)
    canvas.shadow(rail, 7)
    canvas.paint(rail, canvas.textured((168, 138, 104), fine=6, coarse=0), FENCE)
    for place in np.linspace(0, 1, 5):
        canvas.paint(canvas.disc(tuple(start + place * (end - start)), 4), (120, 96, 72), FENCE_POLE)


def obstacle(canvas: Canvas, at: Point) -> None:
    """A garden table with a bench on each side."""
    angle = canvas.rng.uniform(0, np.pi)
    across = np.array([-np.sin(angle), np.cos(angle)])
    for side, width in ((-1, 8), (0, 20), (1, 8)):
        part = canvas.rectangle(tuple(np.asarray(at) + across * side * 20), 46, width, angle)
        canvas.shadow(part, 5)
        canvas.paint(part, canvas.textured((182, 148, 110), fine=5, coarse=0), OBSTACLE)


def marker(canvas: Canvas, at: Point) -> None:
    """A black and white square to steer by."""
    angle = canvas.rng.uniform(0, np.pi)
    canvas.paint(canvas.rectangle(at, 30, 30, angle), (240, 240, 240), MARKER)
    canvas.paint(canvas.rectangle(at, 22, 22, angle), (20, 20, 20), None)
    corner = corners(at, 11, 11, angle)[0]
    canvas.paint(canvas.rectangle(tuple(corner), 9, 9, angle), (240, 240, 240), None)


REACH: dict[Draw, int] = {
    house: 190,
    tree: 125,
    bald_tree: 90,
    bush: 110,
    rocks: 90,
    pond: 130,
    pool: 110,
    car: 65,
    fence: 100,
}
SMALL_REACH = 50


def put(canvas: Canvas, draw: Draw, at: Point) -> None:
    """Draw a thing at `at`, touching only the window of the scene that it can reach."""
    window, inside = canvas.around(at, REACH.get(draw, SMALL_REACH))
    draw(window, inside)
