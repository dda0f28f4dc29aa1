"""What an annotation file says is read as spelled, and what is wrong with it is named."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mv_files import entry, write_annotations

from common.config import UserError
from mvfouls.annotations import Action, canonical_set, read_annotations
from mvfouls.labels import project_label
from mvfouls.settings import SplitSource


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "annotations.json"


def test_actions_are_read_as_spelled_and_ids_may_have_gaps(path: Path) -> None:
    odd = entry(
        (1, 0), action="7", offence="No Offence", multiple_fouls="yes", upper_body_part="Use of shoulders"
    )
    write_annotations(path, {"2": entry(action="2", severity=""), "7": odd}, set_name="Train")
    read = read_annotations(path, labelled=True)
    assert (read.set_name, read.path, read.warnings, read.labelled) == ("Train", path, (), True)
    assert [action.id for action in read.actions] == ["2", "7"]
    first, second = read.actions
    assert (first.severity, first.action_class, first.game) == (
        "",
        "Standing tackling",
        "league\\season\\match 2",
    )
    assert (second.offence, second.multiple_fouls, second.upper_body_part) == (
        "No Offence",
        "yes",
        "Use of shoulders",
    )
    assert [(clip.name, clip.index) for clip in second.clips] == [("clip_1", 1), ("clip_0", 0)]
    assert (second.clips[0].timestamp_ms, second.clips[0].replay_speed) == (1000, 1.0)
    assert second.clips[1].camera == "Main camera center"


@pytest.mark.parametrize(
    "url", ["Dataset/Train/action_9/clip_3", "clip_3", "Dataset\\action_0\\clip_3", "/elsewhere/clip_3.mp4"]
)
def test_only_the_last_part_of_a_url_counts(path: Path, url: str) -> None:
    action = entry((0,))
    action["Clips"][0]["Url"] = url
    write_annotations(path, {"0": action})
    assert read_annotations(path).actions[0].clips[0].name == "clip_3"


def test_files_without_labels(path: Path) -> None:
    write_annotations(path, {"0": entry(labelled=False)}, set_name="chall")
    for labelled in (None, False):
        read = read_annotations(path, labelled=labelled)
        assert not read.labelled
        assert read.actions[0].action_class == ""
        assert len(read.actions[0].clips) == 2
    with pytest.raises(UserError, match="no labels"):
        read_annotations(path, labelled=True)
    write_annotations(path, {"0": entry()})
    assert not read_annotations(path, labelled=False).actions[0].labelled
    assert read_annotations(path).actions[0].labelled


def without(key: str) -> Callable[[dict[str, Any]], object]:
    return lambda content: content["Actions"]["5"].pop(key)


def with_value(key: str, value: object) -> Callable[[dict[str, Any]], object]:
    return lambda content: content["Actions"]["5"].update({key: value})


def with_clip(key: str, value: object) -> Callable[[dict[str, Any]], object]:
    return lambda content: content["Actions"]["5"]["Clips"][1].update({key: value})


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (without("Severity"), "action 5: field Severity is missing"),
        (without("UrlLocal"), "action 5: field UrlLocal is missing"),
        (without("Clips"), "action 5: field Clips is missing"),
        (with_value("Severity", 3.0), "action 5: Severity is 3.0: a text is expected"),
        (with_value("Offence", None), "action 5: Offence is null: a text is expected"),
        (with_value("Severity", "6.0"), "action 5: Severity is '6.0'"),
        (with_value("Action class", "Standing takling"), "did you mean 'Standing tackling'"),
        (with_value("Touch ball", "perhaps?"), "one of 'No', 'Yes', 'Maybe' is expected"),
        (with_value("Clips", {}), "action 5: Clips is {}: a list is expected"),
        (with_clip("Url", "Dataset/action_5/replay"), "action 5: clip 1: Url is 'Dataset/action_5/replay'"),
        (with_clip("Url", "Dataset/action_5/clip_0"), "action 5: clip_0 is listed more than once"),
        (with_clip("Timestamp", "12"), 'action 5: clip 1: Timestamp is "12": a whole number is expected'),
        (with_clip("Replay speed", True), "action 5: clip 1: Replay speed is true: a number is expected"),
        (
            lambda content: content["Actions"]["5"]["Clips"].append(3),
            "action 5: clip 2: an object is expected",
        ),
        (lambda content: content["Actions"].update({"6": []}), "action 6: an object is expected"),
        (lambda content: content["Actions"].update({"../6": entry()}), r"action id '\.\./6'"),
        (lambda content: content.pop("Actions"), "field Actions is missing"),
        (lambda content: content.pop("Set"), "field Set is missing"),
        (lambda content: content.update({"Actions": {}}), "Actions is empty"),
    ],
)
def test_what_is_wrong_is_named(path: Path, damage: Callable[[dict[str, Any]], object], message: str) -> None:
    content = {"Set": "train", "Number of actions": 2, "Actions": {"0": entry(), "5": entry()}}
    damage(content)
    path.write_text(json.dumps(content))
    with pytest.raises(UserError, match=message) as raised:
        read_annotations(path)
    assert str(path) in str(raised.value)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"Set": "train",\n "Actions": }', "line 2, column 13"),
        ('{"Actions": {"3": {}, "4": {}, "3": {}}}', "action 3 occurs more than once"),
        ('{"Set": "train", "Set": "test"}', "field Set occurs more than once"),
        ("[]", "an object with Set, Number of actions, and Actions"),
        ("", "line 1, column 1"),
    ],
)
def test_text_that_is_no_annotation_file(path: Path, text: str, message: str) -> None:
    path.write_text(text)
    with pytest.raises(UserError, match=message):
        read_annotations(path)


def test_files_that_cannot_be_read(path: Path) -> None:
    with pytest.raises(UserError, match=r"annotations.json: no such annotation file"):
        read_annotations(path)
    path.write_bytes(b'{"Set": "\xff"}')
    with pytest.raises(UserError, match="is no UTF-8 text"):
        read_annotations(path)
    with pytest.raises(UserError, match="cannot be read"):
        read_annotations(path.parent)


def test_unknown_values_can_be_ignored_and_are_counted(path: Path) -> None:
    write_annotations(path, {str(k): entry(contact="Some contact") for k in range(3)})
    read = read_annotations(path, unknown="ignore")
    assert read.unknown == {"Contact 'Some contact'": 3}
    assert "ignored 3 times" in read.warnings[0]
    assert read.actions[0].contact == "Some contact"


def test_a_wrong_number_of_actions_is_a_warning(path: Path) -> None:
    write_annotations(path, {"0": entry()}, number=4)
    assert read_annotations(path).warnings == (f"{path}: Number of actions is 4, 1 are listed",)


def test_spellings_of_the_splits() -> None:
    names = ["Train", "valid", "val", "TEST", "chall", "challenge"]
    assert [canonical_set(name) for name in names] == ["train", "valid", "valid", "test", *["challenge"] * 2]


def test_real_annotations(real_split: SplitSource) -> None:
    read = read_annotations(real_split.annotations, labelled=True)
    assert (read.set_name, read.warnings, [action.id for action in read.actions]) == (
        "test",
        (),
        list("01234"),
    )

    def official(action: Action) -> tuple[int, int] | None:
        return project_label(action.action_class, action.offence, action.severity)

    projected = [official(action) for action in read.actions]
    assert projected == [(1, 2), (0, 2), (3, 2), (2, 3), (0, 2)]
    assert [len(action.clips) for action in read.actions] == [3, 3, 3, 2, 4]
    assert read.actions[0].clips[1].replay_speed == 4.2
