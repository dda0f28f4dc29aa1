"""Splits are found under every documented name, and a missing one names the paths tried."""

from pathlib import Path

import pytest

from common.config import UserError
from mvfouls.layout import find_split, splits_of


def make(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "annotations.json").write_text("{}")
    return folder


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("mvfouls/train", "train"),
        ("MVFouls/Train", "train"),
        ("Valid", "valid"),
        ("val", "valid"),
        ("mvfouls/Test", "test"),
        ("Chall", "challenge"),
        ("mvfouls/challenge", "challenge"),
        ("mvfouls/train_720p", "train"),
        ("CHALL_720P", "challenge"),
    ],
)
def test_a_split_is_found(tmp_path: Path, name: str, split: str) -> None:
    folder = make(tmp_path / name)
    source = find_split(tmp_path, split)
    assert (source.name, source.folder) == (split, folder)
    assert source.annotations == folder / "annotations.json"
    assert splits_of(tmp_path) == [source]


def test_the_nearest_name_wins(tmp_path: Path) -> None:
    folders = [
        make(tmp_path / name)
        for name in ("mvfouls/train", "mvfouls/Train", "mvfouls/train_720p", "train", "train_720p")
    ]
    for folder in folders:
        assert find_split(tmp_path, "train").folder == folder
        (folder / "annotations.json").unlink()
    with pytest.raises(UserError, match=r"no annotations\.json in the folder of split train") as raised:
        find_split(tmp_path, "train")
    assert all(str(folder / "annotations.json") in str(raised.value) for folder in folders)


def test_all_tried_paths_are_listed(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no folder of split challenge") as raised:
        find_split(tmp_path / "absent", "challenge")
    tried = [
        tmp_path / "absent" / base / name
        for base in ("mvfouls", ".")
        for name in ("challenge", "challenge_720p", "chall", "chall_720p")
    ]
    lines = str(raised.value).splitlines()[1:]
    assert [Path(line.strip()) for line in lines] == tried


def test_without_any_split_each_path_is_told_once(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=f"--dataset_root {tmp_path}: no split is there; tried") as raised:
        splits_of(tmp_path)
    lines = [line.strip() for line in str(raised.value).splitlines()[1:]]
    assert len(lines) == len(set(lines)) == 24
    assert str(tmp_path / "mvfouls" / "valid_720p") in lines
    (make(tmp_path / "Val") / "annotations.json").unlink()
    with pytest.raises(UserError) as raised:
        splits_of(tmp_path)
    assert str(raised.value).splitlines()[1:] == [f"  {tmp_path / 'Val' / 'annotations.json'}"]


def test_roots_and_splits_that_cannot_be(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--dataset_root is empty"):
        find_split("", "train")
    with pytest.raises(UserError, match="split holdout: one of train, valid, test, challenge"):
        find_split(tmp_path, "holdout")
