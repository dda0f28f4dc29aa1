"""Generated aerial scenes in the layout and with the class shares of the documented data set.

Grass, paving, gravel and dirt with houses, water, hedges, trees, vehicles, people and void seams between
regions; the same seed gives the same files. One scene holds no safe disc of 60 px, one a person in the
middle of its largest safe area.
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np

from common.engine.randomness import generator_for
from uav_landing.scene import PAVED, Canvas
from uav_landing.scene_objects import (
    bald_tree,
    bicycle,
    bush,
    car,
    dog,
    fence,
    house,
    marker,
    obstacle,
    person,
    pond,
    pool,
    put,
    rocks,
    tree,
)

SIZE = (640, 960)
CAUTION_SHARE, DANGER_SHARE, VOID_SHARE = 0.188, 0.177, 0.0028
SHARE_SPREAD = 0.05
OPEN_RADIUS = 60
ROOM = 55
SOME_CAUTION = (bush, bush, rocks, house)
SOME_DANGER = (tree, tree, bald_tree, pond, pool, car)
SMALL = (person, person, bicycle, dog, obstacle, fence, marker, car)
JPEG_QUALITY = 92


def write_scenes(root: Path, count: int = 12, seed: int = 0) -> list[str]:
    """Write `count` scenes 960 x 640 under `root` and return their stems.

    Layout: `original_images/NNN.jpg` and `label_images_semantic/NNN.png` (single channel, ids 0-23).
    """
    images, masks = root / "original_images", root / "label_images_semantic"
    for folder in (images, masks):
        folder.mkdir(parents=True, exist_ok=True)
    stems = [f"{index:03d}" for index in range(count)]
    for index, stem in enumerate(stems):
        image, labels = make_scene(seed, index)
        cv2.imwrite(str(images / f"{stem}.jpg"), image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY])
        cv2.imwrite(str(masks / f"{stem}.png"), labels)
    return stems


def make_scene(seed: int, index: int) -> tuple[np.ndarray, np.ndarray]:
    """Return one scene: RGB uint8 [640, 960, 3] and fine ids uint8 [640, 960].

    Scene 0 has a person in the middle of its largest safe area, scene 1 no safe disc of 60 px.
    """
    rng = generator_for(seed, "scene", index)
    canvas = Canvas.lawn(SIZE, rng)
    _ground(canvas)
    _fill_up(canvas)
    for draw in SMALL:
        for _ in range(int(rng.integers(1, 3))):
            put(canvas, draw, canvas.free_place(room=12))
    if index == 0:
        put(canvas, person, widest_place(canvas)[0])
    if index == 1:
        _crowd(canvas)
    canvas.seams(VOID_SHARE)
    return canvas.finish(), canvas.labels


def _ground(canvas: Canvas) -> None:
    """Lay a path and a few areas of other ground over the grass."""
    canvas.path(PAVED)
    for _ in range(int(canvas.rng.integers(2, 4))):
        canvas.ground_area()


def _fill_up(canvas: Canvas) -> None:
    """Add buildings and plants until the shares of caution and danger are about those of the data set."""
    spread = canvas.rng.uniform(-SHARE_SPREAD, SHARE_SPREAD, 2)
    put(canvas, house, canvas.free_place(room=2 * ROOM))
    for wanted, choices, landing in (
        (CAUTION_SHARE + spread[0], SOME_CAUTION, 2),
        (DANGER_SHARE + spread[1], SOME_DANGER, 3),
    ):
        while canvas.landing_share(landing) < wanted:
            draw = choices[int(canvas.rng.integers(len(choices)))]
            put(canvas, draw, canvas.free_place(room=ROOM))


def widest_place(canvas: Canvas) -> tuple[tuple[int, int], float]:
    """Return the (x, y) farthest from anything that is not safe ground, and that distance in pixels."""
    safe = np.pad(canvas.safe.astype(np.uint8), 1)
    distance = cv2.distanceTransform(safe, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1]
    y, x = np.unravel_index(int(distance.argmax()), distance.shape)
    return (int(x), int(y)), float(distance[y, x])


def _crowd(canvas: Canvas) -> None:
    """Put people where there is room until no safe disc of 60 px is left."""
    while True:
        place, radius = widest_place(canvas)
        if radius < OPEN_RADIUS - 5:
            return
        put(canvas, person, place)
