"""The cache gives what decoding gives, and decodes once."""

from pathlib import Path

import numpy as np
import pytest
from coded_video import read_codes, write_coded

from common.video import FrameCache, Pixels, VideoError, decode, decode_numbers, frame_cache


class Shade:
    """Halve every value, or do nothing: two transforms that differ in their name alone."""

    def __init__(self, divisor: int) -> None:
        self.divisor = divisor

    @property
    def name(self) -> str:
        return f"shade {self.divisor}"

    def __call__(self, frame: Pixels) -> Pixels:
        return frame // np.uint8(self.divisor)


@pytest.fixture
def video(tmp_path: Path) -> Path:
    return write_coded(tmp_path / "a.mp4", 20)


@pytest.fixture
def lines() -> list[str]:
    return []


@pytest.fixture
def cache(tmp_path: Path, lines: list[str]) -> FrameCache:
    return FrameCache(tmp_path / "cache", say=lines.append)


@pytest.mark.parametrize(("start", "stop", "stride"), [(0, None, 1), (3, 9, 1), (1, None, 4), (2, 20, 5)])
@pytest.mark.parametrize("size", [None, (40, 24)])
def test_cache_equals_decode_bitwise(
    cache: FrameCache, video: Path, start: int, stop: int | None, stride: int, size: tuple[int, int] | None
) -> None:
    for _ in range(2):
        frames = cache.get(video, start, stop, stride, size=size)
        np.testing.assert_array_equal(frames, decode(video, start, stop, stride, size))


def test_a_video_is_decoded_once(cache: FrameCache, video: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.get(video, 0, 20)
    monkeypatch.setattr(frame_cache, "read_frames", None)
    found = cache.get(video, 0, 20)
    assert found is not None
    assert read_codes(found) == list(range(20))


def test_window_transform_and_content_are_part_of_the_key(cache: FrameCache, video: Path) -> None:
    plain, dark = (cache.get(video, 0, 5, transform=Shade(divisor)) for divisor in (1, 2))
    assert plain is not None
    assert dark is not None
    np.testing.assert_array_equal(dark, np.asarray(plain) // 2)
    write_coded(video, 20, 40, 48)
    np.testing.assert_array_equal(cache.get(video, 0, 5), decode(video, 0, 5))


def test_a_short_file_leaves_nothing_behind(cache: FrameCache, video: Path, lines: list[str]) -> None:
    with pytest.raises(VideoError, match="frame 20 is missing"):
        cache.get(video, 0, 21)
    with pytest.raises(VideoError, match="frame 20 is missing"):
        cache.get(video, 20)
    with pytest.raises(VideoError, match="no such file"):
        cache.get(video.with_name("b.mp4"))
    assert not cache.store.folder.exists() or list(cache.store.folder.iterdir()) == []
    assert lines == []


def test_frames_that_do_not_fit_are_not_stored(tmp_path: Path, video: Path, lines: list[str]) -> None:
    cache = FrameCache(tmp_path / "cache", max_gb=1e-6, say=lines.append)
    assert cache.get(video, 0, 20) is None
    assert str(video) in lines[0]
    assert "do not fit" in lines[0]
    assert not cache.store.folder.exists()


@pytest.mark.parametrize("numbers", [[5, 6, 7], [9, 5, 5, 12], [14]])
def test_frames_taken_from_a_window_equal_decoded_ones(
    cache: FrameCache, video: Path, numbers: list[int]
) -> None:
    assert cache.take(video, numbers, 5, 15, fill=False) is None
    assert not cache.has(video, 5, 15)
    for _ in range(2):
        frames = cache.take(video, numbers, 5, 15)
        assert frames is not None
        np.testing.assert_array_equal(frames, decode_numbers(video, numbers))
        frames[:] = 0
    assert cache.has(video, 5, 15)
    assert not cache.has(video, 5, 16)
    with pytest.raises(ValueError, match="numbers is"):
        cache.take(video, [*numbers, 15], 5, 15)


def test_jpeg_windows_are_entries_of_their_own(tmp_path: Path, video: Path) -> None:
    raw, small = (FrameCache(tmp_path / "cache", quality=quality) for quality in (None, 90))
    expected = decode(video, 5, 15)
    for _ in range(2):
        whole, taken = small.get(video, 5, 15), small.take(video, [7, 5], 5, 15)
        assert whole is not None
        assert taken is not None
        assert read_codes(whole) == list(range(5, 15))
        assert 0 < np.abs(whole.astype(int) - expected).mean() < 10
        np.testing.assert_array_equal(taken, whole[[2, 0]])
    assert not raw.has(video, 5, 15)
    np.testing.assert_array_equal(raw.get(video, 5, 15), expected)
    assert FrameCache(tmp_path / "few", quality=90, max_gb=1e-6).take(video, [5], 5, 15) is None
    with pytest.raises(ValueError, match="quality is 0"):
        FrameCache(tmp_path, quality=0)
