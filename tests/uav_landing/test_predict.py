"""The verb `predict`, from its command line to its files."""

import json
import shutil
import threading
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image

from uav_landing.cli import main
from uav_landing.data.dataset import normalise
from uav_landing.data.masks import load_photo
from uav_landing.labels import LANDING_COLORS
from uav_landing.rebuild import load_trained

ALL = ("ids", "color", "overlay", "probs")


def predict(run_folder: Path, source: Path, output: Path, *words: str, code: int = 0) -> None:
    argv = ["predict", "--checkpoint", str(run_folder), "--input", str(source), "--output", str(output)]
    assert main([*argv, "--tile-overlap", "0", *words]) == code


def read_mask(path: Path) -> np.ndarray:
    mask = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
    assert mask.dtype == np.uint8
    assert mask.ndim == 2
    return mask


@pytest.fixture(scope="module")
def photo(three_scenes: Path) -> Path:
    return three_scenes / "original_images" / "001.jpg"


@pytest.fixture(scope="module")
def small(photo: Path, tmp_path_factory: pytest.TempPathFactory) -> np.ndarray:
    """RGB pixels [200, 320, 3] of a part of a scene."""
    return load_photo(photo)[:200, :320]


@pytest.fixture(scope="module")
def folder_result(run_folder: Path, photo: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The four formats of one scene."""
    output = tmp_path_factory.mktemp("predicted")
    predict(run_folder, photo, output, "--format", *ALL)
    return output


def expected_classes(run_folder: Path, image: np.ndarray) -> np.ndarray:
    predictor = load_trained(run_folder).predictor(device=torch.device("cpu"), overlap=0.0, batch=1)
    return predictor(normalise(image)).argmax(0).numpy() + 1


def test_mask_holds_the_landing_classes_of_the_network(
    folder_result: Path, run_folder: Path, photo: Path
) -> None:
    mask = read_mask(folder_result / "001_mask.png")
    expected = expected_classes(run_folder, load_photo(photo))
    assert mask.shape == (320, 480)
    assert set(np.unique(mask)) == {1, 2, 3}
    np.testing.assert_array_equal(mask, expected)


def test_every_format_tells_the_same(folder_result: Path, photo: Path) -> None:
    mask = read_mask(folder_result / "001_mask.png")
    color = cv2.imread(str(folder_result / "001_color.png"))[..., ::-1]
    np.testing.assert_array_equal(color, np.array(LANDING_COLORS, np.uint8)[mask])
    overlay = cv2.imread(str(folder_result / "001_overlay.jpg"))[..., ::-1].astype(float)
    expected = 0.55 * load_photo(photo) + 0.45 * color
    assert np.abs(overlay - expected).mean() < 6
    with np.load(folder_result / "001_probs.npz") as stored:
        probabilities, class_ids = stored["probabilities"], stored["class_ids"]
    assert probabilities.dtype == np.float16
    assert probabilities.shape == (3, 320, 480)
    assert np.abs(probabilities.astype(float).sum(0) - 1).max() < 2e-3
    chosen = np.take_along_axis(probabilities, np.searchsorted(class_ids, mask)[None], axis=0)[0]
    assert (probabilities.max(0) - chosen).max() < 1e-3


def test_description_counts_the_mask(folder_result: Path) -> None:
    content = json.loads((folder_result / "001.json").read_text())
    mask = read_mask(folder_result / "001_mask.png")
    assert [row["pixels"] for row in content["classes"]] == np.bincount(
        mask.reshape(-1), minlength=4
    ).tolist()
    assert sum(row["share"] for row in content["classes"]) == pytest.approx(1)
    assert content["files"] == ["001_mask.png", "001_color.png", "001_overlay.jpg", "001_probs.npz"]
    assert content["checkpoint"]["step"] == 7
    assert len(content["checkpoint"]["sha256"]) == 64
    assert content["tile"] == {"size": [256, 256], "overlap": 0.0, "tta": False}
    assert sorted(path.name for path in folder_result.iterdir()) == ["001.json", *sorted(content["files"])]


def test_scaled_photo_gets_a_mask_of_its_own_size(
    run_folder: Path, small: np.ndarray, tmp_path: Path
) -> None:
    Image.fromarray(small[:199, :318]).save(tmp_path / "odd.png")
    predict(run_folder, tmp_path / "odd.png", tmp_path / "out", "--scale", "0.5", "--format", "ids", "probs")
    mask = read_mask(tmp_path / "out" / "odd_mask.png")
    assert mask.shape == (199, 318)
    shown = cv2.resize(small[:199, :318], (159, 100), interpolation=cv2.INTER_AREA)
    classes = expected_classes(run_folder, shown)
    rows = (np.arange(199) + 0.5) * 100 / 199
    clear = np.abs(rows - rows.round()) > 1e-3  # row 99 lies between two
    nearest = classes[rows.astype(int)].repeat(2, axis=1)
    np.testing.assert_array_equal(mask[clear], nearest[clear])
    with np.load(tmp_path / "out" / "odd_probs.npz") as stored:
        assert stored["probabilities"].shape == (3, 100, 159)


def test_photo_is_turned_upright(run_folder: Path, small: np.ndarray, tmp_path: Path) -> None:
    Image.fromarray(small).save(tmp_path / "upright.png")
    turned = Image.fromarray(np.ascontiguousarray(np.rot90(small)))  # stored on its side
    exif = turned.getexif()
    exif[0x0112] = 6  # to be shown turned by 90 degrees clockwise
    turned.save(tmp_path / "turned.png", exif=exif)
    for name in ("upright", "turned"):
        predict(run_folder, tmp_path / f"{name}.png", tmp_path / "out")
    upright, result = (read_mask(tmp_path / "out" / f"{name}_mask.png") for name in ("upright", "turned"))
    assert upright.shape == small.shape[:2]
    np.testing.assert_array_equal(result, upright)


def test_flips_change_the_prediction(run_folder: Path, small: np.ndarray, tmp_path: Path) -> None:
    Image.fromarray(small).save(tmp_path / "a.png")
    predict(run_folder, tmp_path / "a.png", tmp_path / "plain")
    predict(run_folder, tmp_path / "a.png", tmp_path / "tta", "--tta")
    plain, tta = (read_mask(tmp_path / name / "a_mask.png") for name in ("plain", "tta"))
    assert (plain != tta).any()
    assert json.loads((tmp_path / "tta" / "a.json").read_text())["tile"]["tta"]


def test_unreadable_photo_of_a_folder_is_named_and_the_rest_written(
    run_folder: Path, small: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for name in ("a", "b", "c"):
        Image.fromarray(small).save(photos / f"{name}.jpg")
    (photos / "b.jpg").write_bytes((photos / "b.jpg").read_bytes()[:2000])
    (photos / "notes.txt").write_text("no photo")
    predict(run_folder, photos, tmp_path / "out", code=1)
    text = capsys.readouterr().out
    assert "b.jpg" in text
    assert "other files left out 1" in text
    assert "photos 2 " in text
    assert "unreadable 1" in text
    assert sorted(path.name for path in (tmp_path / "out").glob("*_mask.png")) == ["a_mask.png", "c_mask.png"]
    predict(run_folder, photos / "b.jpg", tmp_path / "alone", code=2)
    assert "b.jpg" in capsys.readouterr().err


def test_frames_of_a_video(run_folder: Path, small: np.ndarray, tmp_path: Path) -> None:
    path = tmp_path / "flight.avi"
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"MJPG"), 5, (320, 200))
    if not writer.isOpened():
        pytest.skip("this OpenCV cannot write videos")
    for shift in range(5):
        writer.write(np.roll(small, 40 * shift, axis=1)[..., ::-1])
    writer.release()
    predict(run_folder, path, tmp_path / "out", "--every", "2")
    found = sorted(path.name for path in (tmp_path / "out").glob("*.json"))
    assert found == ["flight_000000.json", "flight_000002.json", "flight_000004.json"]
    assert json.loads((tmp_path / "out" / found[1]).read_text())["frame"] == 2
    mask = read_mask(tmp_path / "out" / "flight_000002_mask.png")
    stills = [
        expected_classes(run_folder, np.ascontiguousarray(np.roll(small, 40 * n, 1))) for n in (1, 2, 3)
    ]
    before, same, after = ((mask == still).mean() for still in stills)
    assert same > 0.8
    assert same > max(before, after) + 0.2


def test_broken_video_is_an_error(
    run_folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "flight.mp4").write_bytes(b"no video")
    predict(run_folder, tmp_path / "flight.mp4", tmp_path / "out", code=2)
    assert "flight.mp4" in capfd.readouterr().err


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["--scale", "0"], "--scale"),
        (["--every", "0"], "--every"),
        (["--tile-batch", "0"], "--tile-batch"),
        (["--tile-overlap", "1"], "--tile-overlap"),
        (["--device", "cuda:99"], "--device"),
    ],
)
def test_settings_are_checked(
    words: list[str], named: str, run_folder: Path, photo: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    argv = ["predict", "--checkpoint", str(run_folder), "--input", str(photo), "--output", str(tmp_path)]
    assert main([*argv, *words]) == 2
    assert named in capsys.readouterr().err


def test_input_that_cannot_be_used_is_named(
    run_folder: Path, photo: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()

    def error(source: Path, output: Path) -> str:
        predict(run_folder, source, output, code=2)
        return capsys.readouterr().err

    assert "holds no photo" in error(photos, tmp_path / "out")
    assert "no such file" in error(photos / "x.jpg", tmp_path / "out")
    (photos / "a.txt").write_text("")
    assert "neither a photo" in error(photos / "a.txt", tmp_path / "out")
    shutil.copy(photo, photos / "a.jpg")
    assert "another folder" in error(photos, photos)
    (photos / "a.png").write_bytes(b"")
    assert "a" in error(photos, tmp_path / "out")
    (tmp_path / "file").write_text("")
    assert "--output" in error(photo, tmp_path / "file")


class MemoryWatch:
    """The largest resident memory of this process, in bytes, above that at the start."""

    def __init__(self) -> None:
        self.start = self.peak = self._resident()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)

    def __enter__(self) -> "MemoryWatch":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(0.002):
            self.peak = max(self.peak, self._resident())

    @staticmethod
    def _resident() -> int:
        for line in Path("/proc/self/status").read_text().splitlines():
            if line.startswith("VmRSS"):
                return 1024 * int(line.split()[1])
        raise AssertionError("no VmRSS")


@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="memory is read from /proc")
def test_large_photo_stays_within_its_memory(run_folder: Path, tmp_path: Path, photo: Path) -> None:
    tile = cv2.imread(str(photo))
    large = np.tile(tile, (13, 13, 1))[:4000, :6000]
    cv2.imwrite(str(tmp_path / "large.jpg"), large)
    del large
    with MemoryWatch() as memory:
        predict(
            run_folder,
            tmp_path / "large.jpg",
            tmp_path / "out",
            "--scale",
            "0.5",
            "--format",
            "ids",
            "overlay",
        )
    assert read_mask(tmp_path / "out" / "large_mask.png").shape == (4000, 6000)
    assert memory.peak - memory.start <= 1.5e9
