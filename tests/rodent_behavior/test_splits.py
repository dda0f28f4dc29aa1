"""Splits by group."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from common.config import UserError
from rodent_behavior.splits import (
    Counts,
    Split,
    class_problem,
    class_warnings,
    group_counts,
    make_split,
    read_split,
    split_groups,
)
from rodent_behavior.trials import TrialIndex


def trial(video: str, number: int, rows: int = 10, group: str | None = None) -> TrialIndex:
    return TrialIndex(
        video_id=video, video_path=None, pose_path=None, label_path=None, trial=number, slot_start=0,
        label_start=0, rows=rows, fps=30, width=9, height=9, video_frames=99, pose_rows=99,
        group=video if group is None else group,
    )  # fmt: skip


def counts_of(*rows: list[int]) -> dict[str, Counts]:
    return {f"v{number:02d}": np.array(row) for number, row in enumerate(rows)}


def test_order_of_the_groups_does_not_matter() -> None:
    rng = np.random.default_rng(0)
    counts = counts_of(*rng.integers(0, 50, (12, 3)).tolist())
    sides = split_groups(counts, val_share=0.2, test_share=0.1, seed=5)
    assert sides == split_groups(dict(reversed(counts.items())), val_share=0.2, test_share=0.1, seed=5)
    assert sorted(sum(sides.values(), ())) == sorted(counts)
    assert all(list(side) == sorted(side) and side for side in sides.values())
    different = {str(split_groups(counts, val_share=0.2, seed=seed)["val"]) for seed in range(5)}
    assert len(different) > 1


def test_the_share_is_reached_by_the_closest_prefix() -> None:
    sides = split_groups(counts_of(*[[10, 10]] * 10), val_share=0.2, seed=0)
    assert (len(sides["train"]), len(sides["val"]), sides["test"]) == (8, 2, ())
    uneven = split_groups(counts_of([500, 500], [10, 10], [50, 50], [430, 430]), val_share=0.05, seed=0)
    assert uneven["val"] == ("v02",)
    both = split_groups(counts_of(*[[10, 10]] * 10), val_share=0.2, test_share=0.3, seed=0)
    assert [len(both[side]) for side in ("train", "val", "test")] == [5, 2, 3]


def test_classes_on_both_sides_come_before_the_share() -> None:
    counts = counts_of(*[[100, 0]] * 6, [60, 40], [60, 40])
    sides = split_groups(counts, val_share=0.1, seed=0)
    assert len({"v06", "v07"} & set(sides["val"])) == 1


def test_one_group_stays_on_each_side() -> None:
    sides = split_groups(counts_of([5], [5]), val_share=0.9)
    assert (len(sides["train"]), len(sides["val"])) == (1, 1)
    three = split_groups(counts_of([5], [5], [5]), val_share=0.5, test_share=0.4)
    assert [len(three[side]) for side in ("train", "val", "test")] == [1, 1, 1]


def test_a_side_of_share_0_is_empty_and_needs_no_group() -> None:
    assert split_groups(counts_of([5]), val_share=0) == {"train": ("v00",), "val": (), "test": ()}
    counts = counts_of([5, 5], [5, 5], [5, 5])
    sides = split_groups(counts, val_share=0, test_share=0.3)
    assert [len(sides[side]) for side in ("train", "val", "test")] == [2, 0, 1]
    with pytest.raises(UserError, match="too few"):
        split_groups(counts_of([5]), val_share=0, test_share=0.3)
    nothing = np.zeros(2, dtype=np.int64)
    assert class_warnings(np.array([5, 0]), nothing, ("rest", "lick")) == [
        "lick is absent from training: its weight is 0"
    ]


@pytest.mark.parametrize(
    ("val", "test", "message"),
    [
        (-0.1, 0, "--val_share"),
        (1, 0, "--val_share"),
        (0.5, 0.5, "--test_share"),
        (0.5, -0.1, "--test_share"),
    ],
)
def test_bad_shares_are_named(val: float, test: float, message: str) -> None:
    with pytest.raises(UserError, match=message):
        split_groups(counts_of([1], [1], [1]), val_share=val, test_share=test)


def test_trials_of_a_group_stay_together() -> None:
    trials = [trial(f"v{v}", n) for v in range(6) for n in (1, 2, 3)]
    actions = {item.key: np.zeros(10, dtype=np.int64) for item in trials}
    actions["v0", 1][:4] = -1
    assert group_counts(trials, actions, 2)["v0"].tolist() == [26, 0]
    split = make_split(trials, actions, 2, val_share=0.3)
    sides = {side: {item.video_id for item in split.select(trials, side)} for side in ("train", "val")}
    assert not sides["train"] & sides["val"]
    assert sides["train"] | sides["val"] == {f"v{v}" for v in range(6)}
    assert len(split.select(trials, "all")) == 18
    assert split.side(next(iter(sides["val"]))) == "val"
    assert split.side("unknown") is None


def test_too_few_groups() -> None:
    trials = [trial("v", 1), trial("v", 2)]
    actions = {item.key: np.zeros(10, dtype=np.int64) for item in trials}
    with pytest.raises(UserError, match="1 video: cannot split by video; --group_by trial splits its trials"):
        make_split(trials, actions, 2)
    with pytest.raises(UserError, match="1 trial: cannot split"):
        make_split(trials[:1], actions, 2)
    mice = [trial("a", 1, group="m"), trial("b", 1, group="m")]
    with pytest.raises(UserError, match="1 group: cannot split"):
        make_split(mice, {item.key: np.zeros(10, dtype=np.int64) for item in mice}, 2)
    with pytest.raises(UserError, match="2 trials: cannot split into 3"):
        make_split(trials, actions, 2, test_share=0.2)


def test_a_split_file_is_obeyed_and_written_back(tmp_path: Path) -> None:
    path = tmp_path / "split.json"
    path.write_text(json.dumps({"train": ["b", "a"], "val": ["c"]}))
    split = read_split(path, ["a", "b", "c", "d"])
    assert (split.train, split.val, split.test) == (("a", "b"), ("c",), ())
    assert split.warning == "split.json leaves out d"
    split.write(tmp_path / "copy.json")
    again = read_split(tmp_path / "copy.json", ["a", "b", "c"])
    assert again.to_dict() == split.to_dict() == Split.from_dict(split.to_dict()).to_dict()
    assert again.warning is None


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"train": ["a"], "val": ["x"]}, "unknown groups x; there are a, b"),
        ({"train": ["a", "b"], "val": ["b"]}, "groups listed twice: b"),
        ({"train": ["a", "b"], "val": []}, "must not be empty"),
        ({"train": ["a"]}, "is expected"),
        ({"train": ["a"], "val": ["b"], "more": []}, "is expected"),
        ({"train": "a", "val": ["b"]}, "train: a list"),
    ],
)
def test_bad_split_files_are_named(tmp_path: Path, content: object, message: str) -> None:
    path = tmp_path / "split.json"
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=message):
        read_split(path, ["a", "b"])


def test_unreadable_split_files_are_named(tmp_path: Path) -> None:
    (tmp_path / "split.json").write_text("{")
    for name in ("split.json", "absent.json"):
        with pytest.raises(UserError, match=name):
            read_split(tmp_path / name, ["a"])


def test_missing_classes_are_told() -> None:
    names = ("rest", "walk", "lick")
    assert class_problem(np.array([5, 0, 0]), names) == "only one class in training: rest"
    assert class_problem(np.zeros(3, dtype=np.int64), names) == "no labelled frame in training"
    assert class_problem(np.array([5, 1, 0]), names) is None
    assert class_warnings(np.array([5, 1, 0]), np.array([5, 0, 2]), names) == [
        "lick is absent from training: its weight is 0",
        "walk is absent from validation: its F1 is n/a",
    ]
