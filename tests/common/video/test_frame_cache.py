"""The cache gives what decoding gives, and decodes once."""

from pathlib import Path

import numpy as np
import pytest
from coded_video import read_codes, write_coded

from common.video import FrameCache, Pixels, VideoError, decode, frame_cache


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
