import numpy as np
import pytest
from scipy import ndimage

from uav_landing.void_check import judge_void, void_pieces


def blocks(seed: int, height: int, width: int, block: int, shares: dict[int, float]) -> np.ndarray:
    """Random blocks of landing classes, with single pixels of void strewn over them."""
    rng = np.random.default_rng(seed)
    shape = (-(-height // block), -(-width // block))
    coarse = rng.choice(list(shares), size=shape, p=list(shares.values()))
    landing = coarse.repeat(block, axis=0).repeat(block, axis=1)[:height, :width].astype(np.uint8)
    landing[rng.random(landing.shape) < 0.002] = 0
    return np.ascontiguousarray(landing)


@pytest.mark.parametrize(
    ("height", "width", "block", "shares"),
    [
        (300, 1280, 7, {0: 0.05, 1: 0.95}),
        (427, 640, 40, {0: 0.5, 2: 0.3, 3: 0.2}),
        (130, 2560, 30, {0: 0.3, 1: 0.2, 255: 0.5}),
        (129, 129, 9, {0: 0.02, 255: 0.9, 3: 0.08}),
    ],
)
def test_tiles_give_what_the_whole_map_gives(height, width, block, shares):
    landing = blocks(height, height, width, block, shares)
    scale = max(height, width) / 1280
    void = landing == 0
    known = (landing >= 1) & (landing <= 3)
    distance = ndimage.distance_transform_edt(~known)
    labels, _ = ndimage.label(void, structure=np.ones((3, 3)))
    areas, numbers = np.unique(np.bincount(labels.ravel())[1:], return_counts=True)
    pieces = void_pieces(landing)
    assert pieces.pixels == void.sum()
    assert pieces.near == (void & (distance <= max(1, 3 * scale))).sum()
    assert dict(zip(pieces.areas.tolist(), pieces.numbers.tolist())) == dict(zip(areas, numbers))


def test_thin_lines_between_classes_are_seam():
    landing = np.ones((640, 1280), dtype=np.uint8)
    landing[:, 640:] = 3
    landing[::4, 640] = 0
    check = judge_void([void_pieces(landing)])
    assert check.verdict == "seam"
    assert (check.pixels, check.photos, check.components) == (160, 1, 160)
    assert check.share_near_edge == 1
    assert check.median_component == 1


def test_a_large_unlabelled_region_is_area():
    landing = np.ones((640, 1280), dtype=np.uint8)
    landing[:300, :300] = 0
    check = judge_void([void_pieces(landing)])
    assert check.verdict == "area"
    assert check.median_component == 90_000
    # an L-shaped rim 3 px wide inside the two sides that touch a class
    assert check.share_near_edge == pytest.approx((2 * 3 * 300 - 9) / 90_000)


def test_near_an_edge_alone_is_no_seam():
    landing = np.ones((640, 1280), dtype=np.uint8)
    landing[100::50, :] = 0
    check = judge_void([void_pieces(landing)])
    assert check.share_near_edge == 1
    assert check.median_component == 1280
    assert check.verdict == "area"


def test_the_verdict_does_not_depend_on_the_resolution():
    small = np.ones((320, 1280), dtype=np.uint8)
    small[:, 400] = 3
    small[::20, 500:507] = 0
    large = small.repeat(5, axis=0).repeat(5, axis=1)
    one, other = judge_void([void_pieces(small)]), judge_void([void_pieces(large)])
    assert one.median_component == 7
    assert other.median_component == 7 * 25
    assert other.median_at_1280 == pytest.approx(7)
    assert one.verdict == other.verdict == "seam"
    assert one.share_near_edge == other.share_near_edge == 1


def test_pooled_and_per_photo_numbers_differ_where_photos_differ():
    many, few = np.ones((64, 1280), dtype=np.uint8), np.ones((64, 1280), dtype=np.uint8)
    many[::2, ::2] = 0
    few[10:14, 10:20] = 0
    few[:, 1000:] = 0
    empty = np.full((64, 1280), 3, dtype=np.uint8)
    check = judge_void([void_pieces(landing) for landing in (many, few, empty)])
    assert check.photos == 2
    assert check.components == 32 * 640 + 2
    assert check.pixels == 32 * 640 + 40 + 64 * 280
    assert check.share_near_edge == pytest.approx((32 * 640 + 40 + 3 * 64) / check.pixels)
    assert check.share_by_photo == pytest.approx((1 + (40 + 3 * 64) / (40 + 64 * 280)) / 2)
    assert check.median_component == 1
    assert check.median_by_photo == (1 + (40 + 64 * 280) / 2) / 2


def test_a_photo_without_a_class_has_no_edge_and_ignored_pixels_make_none():
    assert void_pieces(np.zeros((200, 1280), dtype=np.uint8)).near == 0
    beside_ignored = np.full((200, 1280), 255, dtype=np.uint8)
    beside_ignored[:, :10] = 0
    assert void_pieces(beside_ignored).near == 0


def test_no_void_gives_no_numbers():
    check = judge_void([void_pieces(np.ones((64, 64), dtype=np.uint8))])
    assert check.verdict == "none"
    assert check.pixels == 0
    assert check.share_near_edge is None
    assert check.median_component is None


@pytest.mark.parametrize(("down", "right", "near"), [(2, 2, 1), (3, 3, 0), (3, 0, 1), (4, 0, 0), (3, 1, 0)])
def test_near_is_within_a_circle(down, right, near):
    landing = np.full((300, 1280), 255, dtype=np.uint8)
    landing[100, 700] = 2
    landing[100 + down, 700 + right] = 0
    assert void_pieces(landing).near == near
