"""The frames that are read are exactly the window, from the store or not."""

import pickle
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from coded_video import read_codes
from mv_files import SIZE, view_of, write_clip

from common.config import UserError
from common.video import decode
from mvfouls.clips import ClipSource
from mvfouls.frames import FrameRule
from mvfouls.settings import CacheSettings, Policies, SplitSource, ViewSettings
from mvfouls.split import View, open_split


@pytest.fixture(params=["decoded", "stored"])
def cache(request: pytest.FixtureRequest, tmp_path: Path) -> CacheSettings:
    return CacheSettings(folder=tmp_path / "cache" if request.param == "stored" else None)


def source(
    cache: CacheSettings, frames: FrameRule | None = None, policies: Policies | None = None
) -> ClipSource:
    return ClipSource(frames or FrameRule(), cache, policies or Policies())


@pytest.fixture
def view(tmp_path: Path) -> View:
    return view_of(write_clip(tmp_path / "clip_0.mp4"))


def test_the_frames_are_exactly_the_window(cache: CacheSettings, view: View) -> None:
    clips = source(cache)
    for _ in range(2):
        frames = clips.read(view)
        assert (frames.shape, frames.dtype) == ((16, SIZE[1], SIZE[0], 3), np.uint8)
        codes = read_codes(frames)
        assert codes == list(range(67, 83))
        assert {75, 82} < set(codes)
        np.testing.assert_array_equal(frames, decode(view.path, 67, 83))
        frames[:] = 0


@pytest.mark.parametrize(
    "rule", [FrameRule(count=8), FrameRule(fps=15), FrameRule(start=59, end=90, count=32)]
)
@pytest.mark.parametrize("shift", [-6, -4, 0, 3, 6])
def test_a_shift_moves_all_frames(cache: CacheSettings, view: View, rule: FrameRule, shift: int) -> None:
    clips = source(cache, rule)
    for _ in range(2):
        assert read_codes(clips.read(view, shift)) == [index + shift for index in rule.indices()]


def test_frames_beyond_either_end_repeat_the_last_there_is(cache: CacheSettings, tmp_path: Path) -> None:
    short = view_of(write_clip(tmp_path / "clip_1.mp4", 72))
    clips = source(cache)
    for _ in range(2):
        assert read_codes(clips.read(short)) == [*range(67, 72), *[71] * 11]
        assert read_codes(clips.read(short, 4)) == [71] * 16
        assert read_codes(source(cache, FrameRule(count=8)).read(short)) == [67, 69, 71, *[71] * 5]
    early = source(cache, FrameRule(start=2, end=5, count=4))
    assert read_codes(early.read(short, -4)) == [0, 0, 0, 1]


@pytest.mark.parametrize(("fps", "frames"), [(50, 252), (12.5, 63), (24.8, 126)])
def test_other_rates_show_the_same_moments(
    cache: CacheSettings, tmp_path: Path, fps: float, frames: int
) -> None:
    view = view_of(write_clip(tmp_path / "clip_1.mp4", frames, fps=fps))
    for rule in (FrameRule(count=4), FrameRule(fps=15)):
        clips = source(cache, rule)
        for shift in (-4, 0, 4):
            codes = read_codes(clips.read(view, shift))
            assert codes == list(rule.indices_at(fps, shift))
            if clips.cache is not None:
                assert clips.cache.has(view)


def test_a_header_that_claims_too_much(cache: CacheSettings, tmp_path: Path) -> None:
    path = write_clip(tmp_path / "clip_1.mp4", 80)
    clips = source(cache)
    for _ in range(2):
        assert read_codes(clips.read(view_of(path, frames=126))) == [*range(67, 80), 79, 79, 79]
    strict = source(cache, policies=Policies(short_clip="error"))
    with pytest.raises(UserError, match=r"80 of 126 frames decode and the clip ends inside the window"):
        strict.read(view_of(path, frames=126))
    enough = write_clip(tmp_path / "clip_2.mp4", 83)
    assert read_codes(strict.read(view_of(enough, frames=126))) == list(range(67, 83))


def test_clips_that_cannot_be_read_are_named(cache: CacheSettings, view: View, tmp_path: Path) -> None:
    early = view_of(write_clip(tmp_path / "clip_1.mp4", 67), frames=126)
    gone = replace(view, path=tmp_path / "clip_9.mp4")
    for unreadable, message in [(early, "frame 67 is missing"), (gone, "no such file")]:
        with pytest.raises(UserError, match=f"cannot be decoded: {message}") as raised:
            source(cache).read(unreadable)
        assert str(raised.value).startswith(str(unreadable.path))


def test_a_source_crosses_processes(cache: CacheSettings, view: View) -> None:
    clips = source(cache)
    first = clips.read(view, 2)
    again = pickle.loads(pickle.dumps(clips))
    np.testing.assert_array_equal(again.read(view, 2), first)


def test_without_a_folder_nothing_is_written(view: View, tmp_path: Path) -> None:
    clips = source(CacheSettings(folder=None))
    clips.read(view)
    assert [path.name for path in tmp_path.iterdir()] == ["clip_0.mp4"]
    assert not clips.has(view)
    assert not clips.prepare(view)
    assert clips.warm([view]) == 0


def test_real_frames(real_split: SplitSource, tmp_path: Path) -> None:
    rule = FrameRule(start=67, end=82, count=16)
    split = open_split(real_split, Policies(), ViewSettings(), rule, labelled=True)
    plain, stored = (source(CacheSettings(folder=folder), rule) for folder in (None, tmp_path / "cache"))
    means = {("0", 0): (98.65, 98.81, 97.86), ("4", 3): (65.09, 67.91, 66.51)}
    for action in split.actions:
        for view in action.views:
            if (action.id, view.index) not in means:
                continue
            frames = plain.read(view)
            assert frames.shape == (16, 224, 398, 3)
            expected = means[action.id, view.index]
            np.testing.assert_allclose([frames[k].mean() for k in (0, 8, 15)], expected, atol=0.1)
            for _ in range(2):
                np.testing.assert_array_equal(stored.read(view), frames)
            np.testing.assert_array_equal(frames, decode(view.path)[67:83])
