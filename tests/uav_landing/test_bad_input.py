"""What a user gets for data and settings that cannot be used: exit code 2, one message, no traceback."""

import logging
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from uav_landing.labels import TABLES

IDS = (0, 1, 3, 8, 15, 17)
SDD = {item.id: item.landing for item in TABLES["sdd"].classes}
SAVED = "--max-steps 1 --epochs 1"


def mask_of(number: int) -> np.ndarray:
    """Blocks of 16 px that hold every landing class in each photo."""
    blocks = np.resize(np.roll(IDS, number), (4, 4)).astype(np.uint8)
    return blocks.repeat(16, axis=0).repeat(16, axis=1)


def save(path: Path, pixels: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Six photos of 64 x 64 px."""
    for number in range(6):
        photo = np.random.default_rng(number).integers(0, 256, (64, 64, 3), dtype=np.uint8)
        save(tmp_path / "photos" / "original_images" / f"{number:03d}.png", photo)
        save(tmp_path / "photos" / "label_images_semantic" / f"{number:03d}.png", mask_of(number))
    return tmp_path / "photos"


@pytest.fixture
def tried(root: Path, train) -> Callable[..., str]:
    """Train on the six photos, expect a refusal, return what was said."""

    def run(*words: str) -> str:
        ran = train(f"--dataset-path {root} --store-scale 1 --input-size 32 32 {SAVED}", *words)
        assert ran.code == 2
        assert ran.err.startswith("error: ")
        assert "Traceback" not in ran.err
        assert not (ran.output_dir / "latest").exists()
        return ran.err

    return run


def mask(root: Path, number: int) -> Path:
    return root / "label_images_semantic" / f"{number:03d}.png"


def photo(root: Path, number: int) -> Path:
    return root / "original_images" / f"{number:03d}.png"


def test_the_six_photos_can_be_used(root, train):
    ran = train(f"--dataset-path {root} --store-scale 1 --input-size 32 32 {SAVED}")
    assert ran.code == 0
    assert "Documented targets" in ran.out
    assert "annotation seam" not in ran.out


@pytest.mark.parametrize(
    ("spoil", "texts"),
    [
        (lambda r: mask(r, 2).unlink(), ["no mask: 002", "1 of 6 images"]),
        (lambda r: photo(r, 4).unlink(), ["no image: 004", "1 of 6 masks"]),
        (lambda r: save(mask(r, 1), mask_of(1)[:60]), ["001.png", "64 x 64", "60"]),
        (lambda r: photo(r, 3).write_bytes(photo(r, 3).read_bytes()[:200]), ["003.png", "cannot be read"]),
        (lambda r: mask(r, 3).write_bytes(b"not a picture"), ["003.png", "is not an image"]),
        (lambda r: save(mask(r, 0), mask_of(0).astype(np.uint16)), ["000.png", "1 channel", "16-bit"]),
        (lambda r: save(photo(r, 0), mask_of(0)), ["000.png", "channel"]),
        (lambda r: save(photo(r, 0), mask_of(0).astype(np.uint16)), ["000.png"]),
        (lambda r: shutil.rmtree(r / "label_images_semantic"), ["suits no layout", "original_images/"]),
    ],
    ids=["mask gone", "photo gone", "sizes", "cut photo", "cut mask", "deep mask", "grey", "deep", "folder"],
)
def test_spoilt_files_are_named(root, tried, spoil, texts):
    spoil(root)
    said = tried()
    assert all(text in said for text in texts), said


def test_unknown_labels_are_counted_with_their_files(root, tried, train):
    unknown = mask_of(0)
    unknown[:2, :3] = 77
    save(mask(root, 0), unknown)
    said = tried()
    assert "77" in said
    assert "6 pixels" in said
    assert "000.png" in said
    assert "--unknown-labels ignore" in said
    ran = train(f"--dataset-path {root} --store-scale 1 --input-size 32 32 --unknown-labels ignore {SAVED}")
    assert ran.code == 0
    assert "6 pixels with labels outside the table are ignored" in ran.out


@pytest.mark.parametrize(
    ("mapping", "text"),
    [
        ({key: value for key, value in SDD.items() if key != 9}, "ids without a landing class [9]"),
        (SDD | {0: 1}, "void cannot be safe"),
        (SDD | {23: 1}, "void cannot be safe"),
        (SDD | {3: 7}, "7"),
    ],
)
def test_a_mapping_that_lacks_an_id_or_makes_void_safe(tmp_path, tried, mapping, text):
    (tmp_path / "mapping.yaml").write_text(yaml.safe_dump(mapping))
    assert text in tried(f"--mapping {tmp_path / 'mapping.yaml'}")


def without(root: Path, *ids: int) -> None:
    for number in range(6):
        labels = mask_of(number)
        labels[np.isin(labels, ids)] = 3
        save(mask(root, number), labels)


@pytest.mark.parametrize("weights", ["guide", "balanced", "1 2 3 4"])
def test_a_landing_class_absent_from_training(root, tried, weights):
    without(root, 15, 17)
    assert "class 3 (danger) has no pixel in the training split" in tried(f"--class-weights {weights}")


@pytest.mark.parametrize(
    ("absent", "words", "said"),
    [
        ((15, 17), "--class-weights none", "class 3 (danger) has no pixel"),
        ((0,), "--class-weights balanced", "class 0 (background) has no pixel"),
    ],
)
def test_a_class_that_may_be_absent_is_a_warning(root, train, absent, words, said):
    without(root, *absent)
    ran = train(f"--dataset-path {root} --store-scale 1 --input-size 32 32 {SAVED} {words}")
    assert ran.code == 0, ran.err
    assert said in ran.out
    assert "IoU=n/a, Acc=n/a (no pixels)" in ran.out


def test_a_class_absent_from_validation_alone_is_no_alarm(root, train, tmp_path):
    save(mask(root, 5), np.full((64, 64), 3, np.uint8))
    (tmp_path / "split.yaml").write_text('{train: ["000", "001"], val: ["005"]}')
    split = f"--split-mode file --split-file {tmp_path / 'split.yaml'} --alarm-patience 1"
    ran = train(f"--dataset-path {root} --store-scale 1 --input-size 32 32 --epochs 1 {split}")
    assert ran.code == 0
    assert ran.out.count("IoU=n/a, Acc=n/a (no pixels)") == 3
    assert "class_zero: class 3" not in ran.out
    line = ran.metrics("validation")[0]
    assert (line["valid/class_3_support"], line["valid/class_3_accuracy"]) == (0, None)
    assert line["valid/danger_as_safe"] is None


def test_a_test_run_that_could_not_judge_anything_has_failed(root, train, tmp_path):
    save(mask(root, 5), np.zeros((64, 64), np.uint8))
    (tmp_path / "split.yaml").write_text('{train: ["000", "001"], val: ["005"]}')
    split = f"--split-mode file --split-file {tmp_path / 'split.yaml'} --void ignore --class-weights balanced"
    ran = train(f"--dataset-path {root} --store-scale 1 --input-size 32 32 --test-run {split}")
    assert ran.code == 1
    assert ran.err == "error: training stopped: --test-run ended without a validation\n"


@pytest.mark.parametrize(
    ("words", "texts"),
    [
        ("--train-fraction 0.1 --val-fraction 0.1", ["0 train", "must not be empty"]),
        ("--split-mode official", ["has no published split"]),
        ("--split-mode file", ["--split-file", "--split-mode file"]),
        ("--split-mode file --split-file nowhere.yaml", ["nowhere.yaml", "sdd32"]),
        ("--store-scale 2", ["--store-scale"]),
        ("--max-disk-gb 1e-6", ["--max-disk-gb", "at scale 0.5"]),
        ("--cache-dir {file}/cache", ["--cache-dir"]),
        ("--output-dir {file}", ["--output-dir"]),
        ("--output-dir {file}/below", ["--output-dir"]),
        ("--pretrained-path nowhere.pth", ["--pretrained-path", "nowhere.pth"]),
        ("--pretrained-path {file}", ["--pretrained-path", "file"]),
        ("--device cuda:99", ["--device", "cuda:99"]),
        ("--device tpu", ["--device", "tpu"]),
        ("--amp fp16", ["--amp fp16", "CUDA"]),
        ("--resume nowhere", ["--resume nowhere"]),
        ("--resume last", ["--resume last", "--output-dir"]),
        ("--config nowhere.yaml", ["--config", "nowhere.yaml"]),
        ("--monitor danger_as_safe", ["--monitor", "expected_cost"]),
        ("--monitor danger_missed", ["--monitor", "miou_landing"]),
        ("--batch-sise 3", ["--batch-sise", "--batch-size"]),
        ("--batch-size three", ["--batch-size", "three"]),
        ("--input-size 64", ["--input-size"]),
        ("--input-size 48 48", ["--input-size", "32"]),
        ("--class-weights 1 2 3", ["--class-weights", "3 numbers"]),
        ("--color-tolerance 30", ["--color-tolerance"]),
        ("--label-table nowhere.yaml", ["nowhere.yaml"]),
        (
            "--model-type mmseg_bisenetv2 --max-images 1 --crops-per-image 1",
            ["1 crop", "mmseg_bisenetv2", "--crops-per-image"],
        ),
        ("--warmup-epochs 0.9", ["--warmup-epochs 0.9"]),
    ],
)
def test_settings_that_cannot_be_used(tmp_path, tried, words, texts):
    (tmp_path / "file").write_text("text")
    said = tried(words.format(file=tmp_path / "file"))
    assert all(text in said for text in texts), said


def test_a_damaged_store_is_rebuilt_once_and_that_is_said(root, train, caplog):
    words = f"--dataset-path {root} --store-scale 1 --input-size 32 32 {SAVED}"
    assert train(words).code == 0
    (labels,) = root.parent.glob(".uav_landing_store/*/labels/001.npy")
    labels.write_bytes(labels.read_bytes()[:-40])
    with caplog.at_level(logging.WARNING):
        assert train(words).code == 0
    assert "is built anew: labels/001.npy has" in caplog.text
    caplog.clear()
    assert train(words).code == 0
    assert "built anew" not in caplog.text


def test_the_same_name_in_two_sequences(tmp_path, train):
    for sequence in ("a", "b", "c"):
        for number in range(2):
            pixels = np.random.default_rng(number).integers(0, 256, (64, 64, 3), dtype=np.uint8)
            save(tmp_path / "flights" / sequence / "images" / f"{number}.png", pixels)
            save(tmp_path / "flights" / sequence / "gts" / f"{number}.png", mask_of(number))
    words = f"--dataset-path {tmp_path / 'flights'} --label-table sdd --store-scale 1 --input-size 32 32"
    ran = train(words, SAVED)
    assert ran.code == 0, ran.err
    save(tmp_path / "flights" / "b" / "images" / "1.PNG", np.zeros((64, 64, 3), np.uint8))
    again = train(words, SAVED)
    assert again.code == 2
    assert "b/images: 1 stems are given twice: 1" in again.err
