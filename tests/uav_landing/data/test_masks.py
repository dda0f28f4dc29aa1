import io
import struct
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from common.config import UserError
from uav_landing.data.masks import (
    apply_lookup,
    describe_unknown,
    histogram,
    load_photo,
    photo_shape,
    read_image,
    read_mask,
    read_pair,
)
from uav_landing.data.photos import PhotoPair
from uav_landing.labels import IGNORE, TABLES

COLORED = ["sdd", "udd6", "dronedeploy", "aeroscapes"]


def save(path, pixels, **options):
    Image.fromarray(np.asarray(pixels, dtype=np.uint8)).save(path, **options)
    return path


def colors_of(name):
    return np.array([[item.rgb for item in TABLES[name].classes]], dtype=np.uint8)


def grey_png(bits, rows):
    """Return a grey PNG of 1, 2, 4 or 16 bits per pixel, whose rows are given as packed bytes."""

    def chunk(kind, content):
        return (
            struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
        )

    width = len(rows[0]) * 8 // bits
    head = struct.pack(">IIBBBBB", width, len(rows), bits, 0, 0, 0, 0)
    body = zlib.compress(b"".join(b"\0" + row for row in rows))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


@pytest.mark.parametrize("name", COLORED)
def test_colour_masks_are_decoded_by_colour(tmp_path, name):
    ids, unknown = read_mask(save(tmp_path / "m.png", colors_of(name)), TABLES[name])
    assert unknown is None
    assert ids.tolist() == [list(range(len(TABLES[name].classes)))]


def test_a_building_is_never_safe(tmp_path):
    table = TABLES["dronedeploy"]
    path = save(tmp_path / "m.png", [[(230, 25, 75), (255, 255, 255), (255, 0, 255)]])
    ids, _ = read_mask(path, table)
    assert table.lookup()[ids].tolist() == [[3, 1, IGNORE]]


@pytest.mark.parametrize("name", ["udd6", "dronedeploy"])
def test_grey_bytes_of_colours_are_not_ids(tmp_path, name):
    grey = cv2.cvtColor(colors_of(name), cv2.COLOR_RGB2GRAY)
    ids, unknown = read_mask(save(tmp_path / "m.png", grey), TABLES[name])
    unread = [value for value in grey[0].tolist() if value not in TABLES[name].ids]
    assert sorted(value for value, _ in unknown.values) == sorted(unread)
    assert (ids[0, [value in unread for value in grey[0].tolist()]] == IGNORE).all()


def test_alpha_is_ignored(tmp_path):
    rgba = np.dstack([colors_of("udd6"), np.full((1, 6), 7, dtype=np.uint8)])
    assert read_mask(save(tmp_path / "m.png", rgba), TABLES["udd6"])[0].tolist() == [[0, 1, 2, 3, 4, 5]]


def test_colour_tolerance_takes_the_nearest_and_refuses_ties(tmp_path):
    # sdd wall (102,102,156) and vegetation (107,142,35); car (9,143,150) and obstacle (2,135,115)
    path = save(tmp_path / "m.png", [[(102, 104, 154), (107, 142, 35), (200, 10, 200)]])
    exact, unknown = read_mask(path, TABLES["sdd"])
    assert exact.tolist() == [[255, 8, 255]]
    assert unknown.kind == "colour"
    assert unknown.values == (((102, 104, 154), 1), ((200, 10, 200), 1))
    near, still = read_mask(path, TABLES["sdd"], 2)
    assert near.tolist() == [[10, 8, 255]]
    assert still.values == (((200, 10, 200), 1),)
    assert read_mask(path, TABLES["sdd"], 1)[0].tolist() == [[255, 8, 255]]


def test_a_colour_midway_between_two_is_unknown(tmp_path):
    # 16 from vegetation (0,64,0) and 16 from person-free ground: background (0,0,0) is 64 away
    path = save(tmp_path / "m.png", [[(0, 32, 0), (0, 50, 0)]])
    assert read_mask(path, TABLES["aeroscapes"], 20)[0].tolist() == [[255, 9]]
    wide, _ = read_mask(save(tmp_path / "n.png", [[(0, 32, 0), (1, 0, 0)]]), TABLES["aeroscapes"], 32)
    assert wide.tolist() == [[255, 0]]


def test_three_equal_channels_hold_ids(tmp_path):
    path = save(tmp_path / "m.png", [[(3, 3, 3), (15, 15, 15)]])
    assert read_mask(path, TABLES["sdd"])[0].tolist() == [[3, 15]]


def test_equal_channels_that_are_no_ids_but_table_greys_are_colours(tmp_path):
    path = save(tmp_path / "m.png", [[(70, 70, 70), (0, 0, 0)]])
    assert read_mask(path, TABLES["udd6"])[0].tolist() == [[5, 0]]
    assert read_mask(save(tmp_path / "n.png", [[(255,) * 3] * 2]), TABLES["dronedeploy"])[0].tolist() == [
        [5, 5]
    ]
    unknown = read_mask(save(tmp_path / "o.png", [[(70, 70, 70), (3, 3, 3)]]), TABLES["udd6"])[1]
    assert unknown.values == ((70, 1),)


def test_palette_masks(tmp_path):
    image = Image.new("P", (3, 1))
    image.putdata([0, 4, 2])
    image.putpalette([9, 9, 9, 0, 0, 0, 8, 8, 8, 0, 0, 0, 7, 7, 7])
    image.save(tmp_path / "ids.png")
    assert read_mask(tmp_path / "ids.png", TABLES["sdd"])[0].tolist() == [[0, 4, 2]]
    image.putdata([40, 41, 42])
    image.putpalette([0] * 120 + [130, 76, 0, 2, 135, 115, 1, 2, 3])
    image.save(tmp_path / "colours.png")
    ids, unknown = read_mask(tmp_path / "colours.png", TABLES["sdd"])
    assert ids.tolist() == [[2, 22, 255]]
    assert unknown.values == (((1, 2, 3), 1),)


def test_unknown_ids_are_counted_never_turned_into_a_class(tmp_path):
    path = save(tmp_path / "m.png", [[0, 24, 24, 255], [3, 3, 3, 30]])
    ids, unknown = read_mask(path, TABLES["sdd"])
    assert ids.tolist() == [[0, 255, 255, 255], [3, 3, 3, 255]]
    assert unknown.values == ((24, 2), (30, 1), (255, 1))
    assert (unknown.pixels, unknown.size) == (4, 8)
    text = describe_unknown([unknown], TABLES["sdd"])
    assert "id 24: 2 pixels, 25.0000 %" in text
    assert "m.png" in text


@pytest.mark.parametrize(("bits", "byte", "expected"), [(4, 0x3F, [3, 15]), (2, 0b00011011, [0, 1, 2, 3])])
def test_ids_in_few_bits_are_not_stretched(tmp_path, bits, byte, expected):
    (tmp_path / "m.png").write_bytes(grey_png(bits, [bytes([byte])]))
    assert read_mask(tmp_path / "m.png", TABLES["sdd"])[0].tolist() == [expected]


def test_one_bit_masks(tmp_path):
    Image.fromarray(np.array([[True, False]])).save(tmp_path / "m.png")
    assert read_mask(tmp_path / "m.png", TABLES["sdd"])[0].tolist() == [[1, 0]]


def test_deep_and_multi_band_masks_are_errors(tmp_path):
    (tmp_path / "deep.png").write_bytes(grey_png(16, [b"\0\1\0\2"]))
    cv2.imwrite(str(tmp_path / "color.png"), np.ones((2, 2, 3), dtype=np.uint16))
    Image.new("LA", (2, 2)).save(tmp_path / "two.png")
    Image.fromarray(np.ones((2, 2), dtype=np.float32)).save(tmp_path / "real.tif")
    for name, found in (
        ("deep.png", "1 channel.*16-bit|1 channel.*integer"),
        ("color.png", "3 channel.*16-bit"),
        ("two.png", "2 channel"),
        ("real.tif", "1 channel.*float"),
    ):
        with pytest.raises(UserError, match=f"{name}: .*{found}"):
            read_mask(tmp_path / name, TABLES["sdd"])


def test_deep_and_grey_photos_are_errors(tmp_path):
    cv2.imwrite(str(tmp_path / "deep.png"), np.ones((2, 2, 3), dtype=np.uint16))
    cv2.imwrite(str(tmp_path / "deep.tif"), np.ones((2, 2, 3), dtype=np.uint16))
    save(tmp_path / "grey.jpg", np.ones((2, 2)))
    for name, found in (("deep.png", "16-bit"), ("deep.tif", "16-bit"), ("grey.jpg", "1 channel")):
        with pytest.raises(UserError, match=f"{name}: .*{found}"):
            load_photo(tmp_path / name)


def noise(height, width):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("name", ["p.jpg", "p.png", "p.tif"])
@pytest.mark.parametrize("share", [0.02, 0.6, 0.97])
def test_truncated_files_are_errors(tmp_path, name, share):
    content = io.BytesIO()
    Image.fromarray(noise(64, 64)).save(content, {"jpg": "JPEG", "png": "PNG", "tif": "TIFF"}[name[2:]])
    (tmp_path / name).write_bytes(content.getvalue()[: int(share * len(content.getvalue()))])
    with pytest.raises(UserError, match=name):
        load_photo(tmp_path / name)


def test_what_opencv_decodes_silently_is_refused_here(tmp_path):
    content = io.BytesIO()
    Image.fromarray(noise(64, 64)).save(content, "JPEG")
    path = tmp_path / "cut.jpg"
    path.write_bytes(content.getvalue()[:-200])
    assert cv2.imread(str(path)) is not None
    with pytest.raises(UserError, match="truncated"):
        load_photo(path)


def test_missing_and_foreign_files_are_named(tmp_path):
    (tmp_path / "text.png").write_text("hello")
    with pytest.raises(UserError, match=r"text\.png: is not an image"):
        read_mask(tmp_path / "text.png", TABLES["sdd"])
    with pytest.raises(UserError, match=r"gone\.png: cannot be read"):
        load_photo(tmp_path / "gone.png")


@pytest.mark.parametrize("name", ["p.png", "p.tif", "p.jpg"])
def test_exif_orientation_is_applied_before_sizes_are_compared(tmp_path, name):
    upright = np.zeros((4, 6, 3), dtype=np.uint8)
    upright[0, 0] = (200, 0, 0)
    exif = Image.Exif()
    exif[0x0112] = 6  # the stored picture must be turned by 90 degrees clockwise
    save(tmp_path / name, np.rot90(upright), exif=exif)
    pair = PhotoPair("p", tmp_path / name, save(tmp_path / "m.png", np.zeros((4, 6))))
    assert photo_shape(pair.image) == (4, 6)
    if name != "p.jpg":
        np.testing.assert_array_equal(read_image(pair), upright)
    assert read_pair(pair, TABLES["sdd"], 0)[1].shape == (4, 6)
    save(tmp_path / "m.png", np.zeros((6, 4)))
    with pytest.raises(UserError, match=r"p: .* is 4 x 6 .* is 6 x 4"):
        read_pair(pair, TABLES["sdd"], 0)


def test_channels_are_red_green_blue(tmp_path):
    assert load_photo(save(tmp_path / "p.png", [[(1, 2, 3)]])).tolist() == [[[1, 2, 3]]]
    assert load_photo(save(tmp_path / "q.png", [[(1, 2, 3, 0)]])).tolist() == [[[1, 2, 3]]]


def test_histogram_is_exact_beyond_what_float32_counts():
    labels = np.zeros((4100, 4100), dtype=np.uint8)
    labels[0, :7] = 9
    counts = histogram(labels)
    assert (counts[0], counts[9], counts.sum()) == (4100 * 4100 - 7, 7, 4100 * 4100)
    mixed = np.random.default_rng(1).integers(0, 256, (37, 53), dtype=np.uint8)
    np.testing.assert_array_equal(histogram(mixed), np.bincount(mixed.ravel(), minlength=256))


def test_lookup_equals_indexing():
    rng = np.random.default_rng(2)
    labels, lookup = rng.integers(0, 256, (50, 70), dtype=np.uint8), rng.integers(0, 256, 256, dtype=np.uint8)
    np.testing.assert_array_equal(apply_lookup(labels, lookup), lookup[labels])


def test_shared_masks_hold_the_published_counts(real_data):
    def count(name, table):
        masks = sorted(Path(real_data / name).glob("*/gts/*.png"))
        fine = sum(histogram(read_mask(path, TABLES[table])[0]) for path in masks)
        landing = TABLES[table].lookup()
        return [int(fine[landing == number].sum()) for number in range(4)]

    assert count("sdd", "sdd") == [53_561, 21_480_121, 6_718_033, 6_687_165]
    assert count("aeroscapes", "aeroscapes") == [122_768, 2_873_558, 6_190_055, 29_619]
