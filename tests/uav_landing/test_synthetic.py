from pathlib import Path

import cv2
import numpy as np
import pytest

from uav_landing.labels import TABLES
from uav_landing.synthetic import make_scene, write_scenes
from uav_landing.void_check import judge_void, void_pieces

VOID, PERSON = 0, 15
LANDING = TABLES["sdd"].lookup()


@pytest.fixture(scope="module")
def masks(twelve_scenes: Path) -> list[np.ndarray]:
    paths = sorted((twelve_scenes / "label_images_semantic").glob("*.png"))
    return [cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for path in paths]


def largest_safe_disc(mask: np.ndarray) -> tuple[tuple[int, int], float]:
    """Centre (row, column) and radius of the largest disc on safe ground; void seams are no obstacle."""
    safe = np.pad(np.isin(mask, (VOID, 1, 2, 3, 4)).astype(np.uint8), 1)
    distance = cv2.distanceTransform(safe, cv2.DIST_L2, cv2.DIST_MASK_PRECISE)[1:-1, 1:-1]
    row, column = np.unravel_index(distance.argmax(), distance.shape)
    return (int(row), int(column)), float(distance.max())


def test_twelve_photos_with_masks_of_the_documented_layout(twelve_scenes, masks):
    stems = [f"{index:03d}" for index in range(12)]
    photos = sorted((twelve_scenes / "original_images").iterdir())
    assert [path.name for path in photos] == [f"{stem}.jpg" for stem in stems]
    assert {(mask.shape, mask.dtype) for mask in masks} == {((640, 960), np.dtype(np.uint8))}
    assert cv2.imread(str(photos[0])).shape == (640, 960, 3)
    assert max(mask.max() for mask in masks) < 23


def test_shares_are_those_of_the_documented_data(masks):
    counts = sum(np.bincount(LANDING[mask].ravel(), minlength=4) for mask in masks)
    shares = 100 * counts / counts.sum()
    assert shares == pytest.approx([0.3, 63, 19, 18], abs=4)
    assert shares[0] == pytest.approx(0.3, abs=0.1)
    assert counts.max() / counts.min() > 150


def test_void_is_annotation_seam(masks):
    assert judge_void([void_pieces(LANDING[mask]) for mask in masks]).verdict == "seam"


def test_every_scene_holds_what_a_drone_must_not_meet(masks):
    everywhere = set.intersection(*(set(np.unique(mask)) for mask in masks))
    anywhere = set.union(*(set(np.unique(mask)) for mask in masks))
    assert {3, 9, 10, PERSON, 16, 17, 18, 13} <= everywhere
    assert {1, 2, 3, 4, 5, 6, 7, 8, 11, 12, 14, 19, 20, 21, 22} <= anywhere


def test_people_are_small(masks):
    heights = []
    for mask in masks:
        _, _, boxes, _ = cv2.connectedComponentsWithStats((mask == PERSON).astype(np.uint8), connectivity=8)
        heights += [max(box[2], box[3]) for box in boxes[1:] if box[4] > 30]
    assert min(heights) >= 8
    assert np.median(heights) <= 28


def test_one_scene_has_no_room_to_land(masks):
    radii = [largest_safe_disc(mask)[1] for mask in masks]
    assert radii[1] < 60
    assert max(radii) > 60


def test_one_scene_has_a_person_in_the_middle_of_the_largest_safe_area(masks):
    mask = masks[0]
    count, people, _, centres = cv2.connectedComponentsWithStats(
        (mask == PERSON).astype(np.uint8), connectivity=8
    )
    found = []
    for index in range(1, count):
        (row, column), radius = largest_safe_disc(np.where(people == index, 3, mask))
        x, y = centres[index]
        found.append(radius > 60 and np.hypot(column - x, row - y) < 12)
    assert any(found)
    assert largest_safe_disc(mask)[1] < largest_safe_disc(np.where(mask == PERSON, 3, mask))[1]


def test_the_same_seed_gives_the_same_bytes_whatever_the_count(twelve_scenes, tmp_path):
    assert write_scenes(tmp_path, count=2) == ["000", "001"]
    for path in sorted(tmp_path.rglob("*.*")):
        assert path.read_bytes() == (twelve_scenes / path.relative_to(tmp_path)).read_bytes()


def test_another_seed_gives_another_scene():
    assert not np.array_equal(make_scene(0, 3)[1], make_scene(1, 3)[1])
