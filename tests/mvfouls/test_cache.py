"""A stored window serves all that training asks for, and only of the very same clip."""

import os
import shutil
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest
from coded_video import read_codes
from mv_files import view_of, write_clip

from common.video import decode, frame_cache
from mvfouls import cache as cache_module
from mvfouls import clips as clips_module
from mvfouls.cache import WindowCache
from mvfouls.clips import ClipSource
from mvfouls.frames import FrameRule
from mvfouls.settings import CacheSettings, Policies
from mvfouls.survey import View

Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "cache"


@pytest.fixture
def view(tmp_path: Path) -> View:
    return view_of(write_clip(tmp_path / "clip_0.mp4"))


@pytest.fixture
def lines() -> list[str]:
    return []


def no_decoding(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frame_cache, "read_frames", None)
    monkeypatch.setattr(clips_module, "decode_numbers", None)


def clips_with(
    folder: Path,
    rule: FrameRule | None = None,
    *,
    window: tuple[int, int] = (59, 90),
    jitter: int = 4,
    max_gb: float | None = None,
    lines: list[str] | None = None,
) -> ClipSource:
    settings = CacheSettings(folder=folder, max_gb=max_gb)
    say = ([] if lines is None else lines).append
    return ClipSource(rule or FrameRule(), settings, Policies(), jitter=jitter, window=window, say=say)


def test_one_window_serves_every_shift_and_every_rule_within(
    folder: Path, view: View, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert clips_with(folder).prepare(view)
    no_decoding(monkeypatch)
    for rule in (FrameRule(), FrameRule(count=8), FrameRule(fps=17), FrameRule(start=63, end=86, count=24)):
        clips = clips_with(folder, rule)
        assert clips.has(view)
        assert clips.warm([view, view]) == 100
        for shift in range(-4, 5):
            if min(rule.indices()) + shift >= 59:
                assert read_codes(clips.read(view, shift)) == [index + shift for index in rule.indices()]


@pytest.mark.parametrize(
    ("rule", "jitter", "expected"),
    [
        (FrameRule(), 4, (59, 90)),
        (FrameRule(), 0, (59, 90)),
        (FrameRule(), 12, (55, 94)),
        (FrameRule(start=59, end=90, count=32), 0, (55, 94)),
        (FrameRule(fps=15), 4, (58, 91)),
        (FrameRule(start=2, end=17), 4, (0, 90)),
    ],
)
def test_the_window_holds_all_that_can_be_asked_for(
    folder: Path,
    view: View,
    rule: FrameRule,
    jitter: int,
    expected: tuple[int, int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = WindowCache(CacheSettings(folder=folder), rule, jitter=jitter)
    assert store.window == expected
    clips = clips_with(folder, rule, jitter=jitter)
    assert clips.prepare(view)
    stored = [np.load(path, mmap_mode="r").shape[0] for path in folder.glob("*.npy")]
    assert stored == [expected[1] - expected[0] + 1]
    no_decoding(monkeypatch)
    for shift in (-jitter, jitter):
        assert read_codes(clips.read(view, shift)) == [max(index + shift, 0) for index in rule.indices()]


def test_a_wider_window_serves_those_who_ask_for_less(
    folder: Path, view: View, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert clips_with(folder, window=(40, 110)).prepare(view)
    no_decoding(monkeypatch)
    narrow = clips_with(folder)
    assert narrow.has(view)
    assert read_codes(narrow.read(view, 9)) == list(range(76, 92))
    assert read_codes(clips_with(folder, jitter=20).read(view, 20)) == list(range(87, 103))
    assert len(list(folder.glob("*.npy"))) == 1


def test_an_edited_clip_is_decoded_again(folder: Path, view: View) -> None:
    clips = clips_with(folder)
    clips.read(view)
    write_clip(view.path, 100, size=(160, 96))
    assert not clips.has(view)
    edited = view_of(view.path)
    for source in (clips, clips_with(folder)):
        np.testing.assert_array_equal(source.read(edited), decode(view.path, 67, 83))
    assert len(list(folder.glob("*.npy"))) == 2


def test_a_damaged_entry_is_decoded_again(folder: Path, view: View, lines: list[str]) -> None:
    clips_with(folder).prepare(view)
    entry = next(folder.glob("*.npy"))
    entry.write_bytes(entry.read_bytes()[:-10])
    clips = clips_with(folder, lines=lines)
    assert read_codes(clips.read(view)) == list(range(67, 83))
    assert "made again" in lines[0]
    assert clips.has(view)


def test_jpeg_is_small_and_never_taken_for_pixels(folder: Path, view: View) -> None:
    small = ClipSource(FrameRule(), CacheSettings(folder=folder, format="jpeg"), Policies())
    raw = clips_with(folder)
    assert small.prepare(view)
    assert not raw.has(view)
    for _ in range(2):
        frames = small.read(view)
        assert read_codes(frames) == list(range(67, 83))
        assert 0 < np.abs(frames.astype(int) - raw.read(view)).mean() < 10
    sizes = sorted(path.stat().st_size for path in folder.glob("*.npy"))
    assert sizes[0] < sizes[1] / 2


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path: Path, view: View, lines: list[str]) -> None:
    (tmp_path / "file").touch()
    clips = clips_with(tmp_path / "file", lines=lines)
    for _ in range(3):
        assert read_codes(clips.read(view)) == list(range(67, 83))
    assert not clips.prepare(view)
    assert len(lines) == 1
    assert "cannot be written" in lines[0]
    assert "decoded each time" in lines[0]


def test_a_folder_that_cannot_be_written_still_serves(
    folder: Path, view: View, lines: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    clips_with(folder).prepare(view)

    def refuse(*given: object, **named: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(cache_module.tempfile, "TemporaryFile", refuse)
    monkeypatch.setattr(os, "utime", refuse)
    clips = clips_with(folder, lines=lines)
    no_decoding(monkeypatch)
    assert read_codes(clips.read(view)) == list(range(67, 83))
    assert len(lines) == 1


def test_a_full_disk_and_a_full_store_are_one_line(
    folder: Path, view: View, lines: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: Usage(0, 0, 10**9))
    clips = clips_with(folder, lines=lines)
    for _ in range(2):
        assert read_codes(clips.read(view)) == list(range(67, 83))
    assert len(lines) == 1
    assert "less than 2 GB of the disk are free" in lines[0]
    monkeypatch.undo()
    full = clips_with(folder, max_gb=1e-5, lines=lines)
    for _ in range(2):
        assert read_codes(full.read(view)) == list(range(67, 83))
    assert ["do not fit" in line for line in lines[1:]] == [True, False]
    assert list(folder.glob("*.npy")) == []


def test_a_disk_that_fills_up_meanwhile_is_one_line(
    folder: Path, view: View, lines: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fill(*given: object, **named: object) -> None:
        raise OSError(28, "No space left on device")

    clips = clips_with(folder, lines=lines)
    monkeypatch.setattr(np.lib.format, "open_memmap", fill)
    for _ in range(2):
        assert read_codes(clips.read(view)) == list(range(67, 83))
    assert len(lines) == 1
    assert "No space left" in lines[0]
