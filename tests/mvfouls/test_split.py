"""Only clips that decode are used, what is left out is told, and splits share nothing."""

import json
import shutil
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from mv_files import SIZE, entry, write_annotations, write_clip, write_split

from common.config import UserError
from mvfouls.annotations import Action
from mvfouls.frames import FrameRule
from mvfouls.labels import TASKS
from mvfouls.settings import Policies, SplitSource, ViewSettings
from mvfouls.split import FoulAction, Split, check_overlap, ignored_labels, open_split, subset

LENIENT = Policies()


def opened(
    source: SplitSource,
    policies: Policies = LENIENT,
    *,
    max_views: int | None = None,
    labelled: bool = True,
    allow_no_view: bool = False,
) -> Split:
    views = ViewSettings(max_views=max_views)
    return open_split(source, policies, views, FrameRule(), labelled=labelled, allow_no_view=allow_no_view)


def shown(split: Split) -> list[list[int]]:
    return [[view.index for view in action.views] for action in split.actions]


def test_views_come_in_clip_order_and_ids_may_have_gaps(tmp_path: Path) -> None:
    source = write_split(tmp_path, {"3": entry((2, 0, 1)), "12": entry((0, 3))})
    split = opened(source)
    assert [action.id for action in split.actions] == ["3", "12"]
    assert shown(split) == [[0, 1, 2], [0, 3]]
    view = split.actions[1].views[1]
    assert (view.path, view.frames, view.size) == (source.folder / "action_12" / "clip_3.mp4", 126, SIZE)
    assert view.fps == pytest.approx(25)
    assert split.actions[0].labels.action_class == "Standing tackling"
    assert split.report.lines() == ["train 2 actions 5 clips | views 2:1 3:1 | missing clips 0 short 0"]
    assert shown(opened(source, max_views=2)) == [[0, 1], [0, 3]]
    assert opened(source, max_views=1).report.clips == 2


def test_the_hash_follows_annotations_and_clips(tmp_path: Path) -> None:
    source = write_split(tmp_path, [entry((0, 1))])
    first = opened(source).sha256
    assert opened(source).sha256 == first
    write_clip(source.folder / "action_0" / "clip_1.mp4", 90)
    second = opened(source).sha256
    write_annotations(source.annotations, {"0": entry((0, 1), severity="3.0")})
    assert len({first, second, opened(source).sha256}) == 3


def damage(folder: Path, kind: str) -> None:
    clip = folder / "action_2" / "clip_1.mp4"
    if kind == "missing":
        clip.unlink()
    elif kind == "empty":
        clip.write_bytes(b"")
    elif kind == "text":
        clip.write_text("no video " * 100)
    elif kind == "cut":
        clip.write_bytes(clip.read_bytes()[:2000])
    else:
        write_clip(clip, 67)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("missing", "missing"),
        ("empty", "the file is empty"),
        ("text", "no video stream can be opened"),
        ("cut", "no video stream can be opened"),
        ("early", "has 67 frames, the window starts at frame 67"),
    ],
)
def test_a_clip_that_cannot_be_used_is_left_out_and_told(tmp_path: Path, kind: str, reason: str) -> None:
    source = write_split(tmp_path, [entry((0, 1, 2)) for _ in range(3)])
    damage(source.folder, kind)
    split = opened(source)
    assert shown(split) == [[0, 1, 2], [0, 1, 2], [0, 2]]
    report = split.report
    assert (len(report.missing), len(report.undecodable)) == ((1, 0) if kind == "missing" else (0, 1))
    assert (report.listed_clips, report.clips, report.listed_actions) == (9, 8, 3)
    if kind != "missing":
        assert (report.undecodable[0].clip, report.undecodable[0].reason) == ("action_2/clip_1", reason)
    assert any("action_2/clip_1" in line for line in report.lines()[1:])
    with pytest.raises(
        UserError, match=r"1 clips cannot be used \(--missing_clip error\): action_2/clip_1 \("
    ) as raised:
        opened(source, Policies(missing_clip="error"))
    assert reason in str(raised.value)


def test_more_than_five_percent_is_an_error(tmp_path: Path) -> None:
    actions = [entry(range(10)) for _ in range(2)]
    source = write_split(tmp_path / "one", actions, absent=["action_0/clip_4"])
    assert opened(source).report.missing == ("action_0/clip_4",)
    (source.folder / "action_1" / "clip_0.mp4").write_bytes(b"")
    with pytest.raises(UserError, match=r"2 of 20 clips cannot be used, 10\.0%; at most 5% may be left out"):
        opened(source)


def test_an_action_without_a_view_is_an_error_unless_allowed(tmp_path: Path) -> None:
    actions = [entry(range(15)), entry((0,))]
    source = write_split(tmp_path, actions, absent=["action_1/clip_0"])
    with pytest.raises(UserError, match=r"no view left of action 1: action_1/clip_0 \(missing\)"):
        opened(source)
    split = opened(source, allow_no_view=True)
    assert split.actions[1].views == ()
    assert split.report.no_view == ("1",)
    write_annotations(source.annotations, {"0": entry((0,)), "1": entry(())})
    with pytest.raises(UserError, match="action 1: no clip is listed"):
        opened(source)


def test_clips_that_end_inside_the_window(tmp_path: Path) -> None:
    source = write_split(tmp_path, [entry((0, 1))])
    write_clip(source.folder / "action_0" / "clip_1.mp4", 82)
    split = opened(source)
    assert (shown(split), split.report.short) == ([[0, 1]], ("action_0/clip_1",))
    assert split.report.lines()[0].endswith("missing clips 0 short 1")
    skipped = opened(source, Policies(short_clip="skip"))
    assert (shown(skipped), skipped.report.short) == ([[0]], ("action_0/clip_1",))
    with pytest.raises(
        UserError, match=r"1 clips end inside the window \(--short_clip error\): action_0/clip_1"
    ):
        opened(source, Policies(short_clip="error"))
    write_clip(source.folder / "action_0" / "clip_1.mp4", 83)
    assert opened(source, Policies(short_clip="error")).report.short == ()
    write_clip(source.folder / "action_0" / "clip_1.mp4", 126, fps=50)
    assert opened(source).report.undecodable[0].clip == "action_0/clip_1"


def test_unlisted_clips_sizes_and_rates_are_counted(tmp_path: Path) -> None:
    source = write_split(tmp_path, [entry((0, 1, 2))])
    write_clip(source.folder / "action_0" / "clip_7.mp4")
    write_clip(source.folder / "action_9" / "clip_0.mp4")
    write_clip(source.folder / "action_0" / "clip_1.mp4", size=(160, 96))
    write_clip(source.folder / "action_0" / "clip_2.mp4", 252, fps=50)
    report = opened(source).report
    assert report.unlisted == ("action_0/clip_7", "action_9/clip_0")
    assert report.other_size == ("action_0/clip_1",)
    assert report.other_fps == ("action_0/clip_2",)
    assert report.clips == 3
    assert json.loads(json.dumps(report.to_dict()))["views"] == {"3": 1}


def test_a_rate_that_is_not_known_is_that_of_the_data(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = write_split(tmp_path, [entry((0,))])
    from mvfouls import survey

    honest = survey.probe
    for fps in (0.0, float("nan"), 90000.0):
        monkeypatch.setattr(
            survey, "probe", lambda path, exact=True, fps=fps: replace(honest(path, exact=exact), fps=fps)
        )
        split = opened(source)
        assert split.views[0].fps == 25
        assert split.report.unknown_fps == ("action_0/clip_0",)


def test_a_set_of_another_name_is_a_warning(tmp_path: Path) -> None:
    source = replace(write_split(tmp_path, [entry((0,))]), name="valid")
    assert "Set is 'train', read as split 'valid'" in opened(source).report.warnings[0]


def test_splits_without_labels_can_only_be_predicted(tmp_path: Path) -> None:
    source = write_split(tmp_path, [entry((0,), labelled=False)], name="challenge")
    with pytest.raises(UserError, match="no labels"):
        opened(source)
    assert shown(opened(source, labelled=False)) == [[0]]


def test_a_folder_that_is_not_there(tmp_path: Path) -> None:
    source = write_split(tmp_path, [entry((0,))])
    with pytest.raises(UserError, match="nowhere: no such folder"):
        opened(replace(source, folder=tmp_path / "nowhere"))


def test_the_same_bytes_in_two_splits_are_an_error(tmp_path: Path) -> None:
    train = write_split(tmp_path, [entry((0, 1))])
    valid = write_split(tmp_path, [entry((0, 1))], name="valid")
    check_overlap(opened(train), opened(valid))
    copied = valid.folder / "action_0" / "clip_1.mp4"
    shutil.copy(train.folder / "action_0" / "clip_0.mp4", copied)
    with pytest.raises(UserError, match="are the same clip: splits train and valid") as raised:
        check_overlap(opened(train), opened(valid))
    assert str(copied) in str(raised.value)
    assert str(train.folder / "action_0" / "clip_0.mp4") in str(raised.value)


def imagined(source: SplitSource, split: Split, classes: Sequence[str]) -> Split:
    """Return a split of actions of these classes without any clip."""
    actions = tuple(
        FoulAction(
            id=str(k),
            labels=Action(id=str(k), game="", clips=(), labelled=True, action_class=name),
            views=(),
        )
        for k, name in enumerate(classes)
    )
    return replace(split, actions=actions)


def test_a_subset_keeps_the_shares_of_the_classes(tmp_path: Path) -> None:
    source = write_split(tmp_path, [entry((0,))])
    classes = ["Tackling"] * 60 + ["Dive"] * 4 + ["Pushing"] + [""] * 20
    split = imagined(source, opened(source), classes)
    half, quarter = subset(split, 0.5, 3), subset(split, 0.25, 3)
    counts = Counter(action.labels.action_class for action in half.actions)
    assert counts == {"Tackling": 30, "Dive": 2, "Pushing": 1, "": 10}
    ids = [[int(action.id) for action in part.actions] for part in (half, quarter, subset(split, 0.5, 4))]
    assert all(part == sorted(part) for part in ids)
    assert set(ids[1]) < set(ids[0])
    assert ids[0] != ids[2]
    assert subset(split, 0.5, 3) == half
    assert half.report.actions == 43
    assert subset(split, 1, 0).actions == split.actions
    for fraction in (0, 1.1, float("nan")):
        with pytest.raises(UserError, match="--train-fraction"):
            subset(split, fraction, 0)


def test_absent_labels_are_counted(tmp_path: Path) -> None:
    source = write_split(tmp_path, [entry((0,)), entry((0,), severity="", action_class="Dont know")])
    split = opened(source)
    ignored = ignored_labels(split, [TASKS["severity"], TASKS["action_class"], TASKS["offence"]])
    assert ignored == {"severity": 1, "action_class": 1, "offence": 0}
    assert split.report.lines(ignored)[0].endswith("| ignored severity 1 action_class 1 offence 0")


def test_real_clips(real_split: SplitSource) -> None:
    split = opened(real_split)
    assert shown(split) == [[0, 1, 2], [0, 1, 2], [0, 1, 2], [0, 1], [0, 1, 3]]
    assert split.report.missing == ("action_4/clip_2",)
    assert (split.report.short, split.report.undecodable, split.report.other_fps) == ((), (), ())
    assert {view.size for view in split.views} == {(398, 224)}
    longer = {f"{v.path.parent.name}/{v.path.stem}" for v in split.views if v.frames == 127}
    assert longer == {"action_2/clip_1", "action_4/clip_3"}
    assert {view.frames for view in split.views} == {126, 127}
    assert {view.fps for view in split.views} == {25.0}
