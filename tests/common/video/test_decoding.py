"""Frames are those asked for, and a file that lacks one says which."""

import os
import pickle
import wave
from pathlib import Path

import cv2
import numpy as np
import pytest
from coded_video import coded_frame, read_codes, write_coded

from common.video import VideoError, VideoInfo, decode, decode_numbers, probe, read_frames, stream

REPOSITORY = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def coded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_coded(tmp_path_factory.mktemp("video") / "a:b %02d [1].mp4", 130)


@pytest.fixture(scope="module")
def real_data() -> Path:
    named = os.environ.get("COMMON_REAL_DATA")
    folder = Path(named) if named else REPOSITORY.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no data at {folder}")
    return folder


def test_probe_counts_frames(coded: Path) -> None:
    assert probe(coded) == VideoInfo(30.0, 130, 80, 48)
    assert probe(coded, exact=False).frames == 130


@pytest.mark.parametrize(
    ("start", "stop", "stride"), [(0, None, 1), (67, 83, 1), (129, 130, 1), (5, 40, 7), (100, None, 16)]
)
def test_frames_are_exactly_those_asked_for(coded: Path, start: int, stop: int | None, stride: int) -> None:
    wanted = list(range(130))[start:stop:stride]
    frames = decode(coded, start, stop, stride)
    assert frames.shape == (len(wanted), 48, 80, 3)
    assert frames.dtype == np.uint8
    assert read_codes(frames) == wanted
    assert read_codes(np.stack(list(read_frames(coded, start, stop, stride)))) == wanted


def test_colours_are_rgb(coded: Path) -> None:
    frame = decode(coded, 3, 4)[0].astype(int)
    assert np.abs(frame[40, 10] - (220, 30, 30)).max() < 25
    assert np.abs(frame[40, 70] - (30, 30, 220)).max() < 25


def test_chunks_hold_the_same_frames_in_order(coded: Path) -> None:
    chunks = list(stream(coded, 10, 75, 2, chunk=8))
    assert [len(chunk) for chunk in chunks] == [8, 8, 8, 8, 1]
    np.testing.assert_array_equal(np.concatenate(chunks), decode(coded, 10, 75, 2))


def test_size_is_width_then_height_and_comes_before_the_transform(coded: Path) -> None:
    class Cut:
        name = "cut"

        def __call__(self, frame: np.ndarray) -> np.ndarray:
            return frame[:5, :7]

    assert decode(coded, 0, 2, size=(40, 24)).shape == (2, 24, 40, 3)
    frames = decode(coded, 0, 2, size=(40, 24), transform=Cut())
    np.testing.assert_array_equal(frames, decode(coded, 0, 2, size=(40, 24))[:, :5, :7])


def test_nothing_is_read_after_the_last_frame(tmp_path: Path) -> None:
    path = write_coded(tmp_path / "short.avi", 40, code="MJPG")
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 6 // 10])
    present = probe(path).frames
    assert 10 < present < 30
    assert read_codes(decode(path, 5, present)) == list(range(5, present))
    assert read_codes(decode(path, present - 5, present + 5, 10)) == [present - 5]
    with pytest.raises(
        VideoError, match=rf"short.avi: frame {present} is missing: {present} frames"
    ) as raised:
        decode(path, 5, 40)
    assert raised.value.frame == present
    with pytest.raises(VideoError, match=f"frame {present} is missing"):
        list(stream(path, 0, 40))


def test_a_start_behind_the_end_is_an_error(coded: Path) -> None:
    with pytest.raises(VideoError, match="frame 130 is missing: 130 frames decode, frames 130 on are needed"):
        decode(coded, 130)


def test_files_that_are_no_video(tmp_path: Path) -> None:
    empty, text, sound = tmp_path / "empty.mp4", tmp_path / "text.mp4", tmp_path / "sound.wav"
    empty.touch()
    text.write_text("frame,action\n" * 50)
    with wave.open(str(sound), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8000)
        file.writeframes(bytes(16000))
    for path, message in {
        tmp_path / "absent.mp4": "no such file",
        tmp_path: "no such file",
        empty: "the file is empty",
        text: "no video stream",
        sound: "no video stream",
    }.items():
        for read in (probe, decode):
            with pytest.raises(VideoError, match=message) as raised:
                read(path)
            assert str(path) in str(raised.value)


def test_ranges_that_cannot_be(coded: Path) -> None:
    for arguments, name in [((-1, 5), "start"), ((5, 5), "stop"), ((0, 5, 0), "stride")]:
        with pytest.raises(ValueError, match=f"{name} is"):
            decode(coded, *arguments)
    with pytest.raises(ValueError, match="chunk is 0"):
        stream(coded, chunk=0)


def test_the_error_crosses_processes() -> None:
    error = pickle.loads(pickle.dumps(VideoError("a.mp4: frame 7 is missing", 7)))
    assert (str(error), error.frame) == ("a.mp4: frame 7 is missing", 7)


def test_frames_of_two_sizes_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sizes = iter([(48, 80), (48, 80), (24, 40)])

    class Capture:
        def __init__(self, *_: object) -> None: ...

        def isOpened(self) -> bool:
            return True

        def grab(self) -> bool:
            return True

        def retrieve(self) -> tuple[bool, np.ndarray]:
            return True, coded_frame(0, *reversed(next(sizes)))

        def release(self) -> None: ...

    monkeypatch.setattr(cv2, "VideoCapture", Capture)
    (tmp_path / "a.mp4").write_bytes(b"x")
    with pytest.raises(VideoError, match="frame 2 is 40 x 24, those before are 80 x 48"):
        decode(tmp_path / "a.mp4", 0, 3)


def test_real_open_field_video(real_data: Path) -> None:
    path = real_data / "rodent_behavior" / "openfield_video" / "m3v1mp4.mp4"
    info = probe(path)
    assert (info.frames, info.width, info.height) == (2330, 640, 480)
    assert info.fps == pytest.approx(30.0003, abs=1e-5)


def test_window_of_a_real_clip_with_b_frames(real_data: Path) -> None:
    path = next((real_data / "mvfouls").rglob("action_0/clip_0.mp4"), None)
    if path is None:
        pytest.skip(f"no clip in {real_data / 'mvfouls'}")
    whole = decode(path)
    assert whole.shape == (126, 224, 398, 3)
    np.testing.assert_array_equal(decode(path, 67, 83), whole[67:83])
    assert len({frame.tobytes() for frame in whole[67:83]}) == 16


@pytest.mark.parametrize("numbers", [[67], [67, 69, 71, 73, 76, 78, 80, 82], [4, 4, 9, 2, 9], [129, 0]])
def test_numbers_give_those_frames_in_that_order(coded: Path, numbers: list[int]) -> None:
    frames = decode_numbers(coded, numbers)
    assert read_codes(frames) == numbers
    np.testing.assert_array_equal(frames, decode(coded)[numbers])


def test_numbers_that_cannot_be(coded: Path) -> None:
    for numbers in ([], [3, -1]):
        with pytest.raises(ValueError, match="numbers is"):
            decode_numbers(coded, numbers)
    for numbers in ([128, 130], [140]):
        with pytest.raises(VideoError, match="130 frames decode") as raised:
            decode_numbers(coded, numbers)
        assert raised.value.frame == max(numbers[0] if len(numbers) == 1 else 0, 130)
