"""Submissions: written, read, and refused when the published form does not allow them."""

import json
from itertools import product

import numpy as np
import pytest
from mv_official import as_entry, slow_rule

from common.config import UserError
from mvfouls.projection import Projected
from mvfouls.submission import (
    MAJORITY,
    check_submission,
    entries_of,
    entry,
    read_predictions,
    submission_problems,
    write_predictions,
    write_submission,
)

GOOD = {"3": as_entry("Dive", "Offence", "3.0"), "17": as_entry("Holding", "No offence", "")}


def test_every_entry_projects_to_its_own_ids():
    for ids in product(range(8), range(4)):
        found = entry(*ids)
        assert slow_rule(found["Action class"], found["Offence"], found["Severity"]) == ids
        assert not list(submission_problems({"Set": "test", "Actions": {"0": found}}, ["0"]))
    assert entry(1, 1) == MAJORITY


def test_entries_keep_the_ids_of_the_annotations():
    projected = Projected(np.zeros((2, 8)), np.zeros((2, 4)), np.array([7, 3]), np.array([2, 0]))
    assert entries_of(["3", "17"], projected) == GOOD
    with pytest.raises(ValueError, match="ids: 3, but 2 predictions"):
        entries_of(["3", "17", "18"], projected)


@pytest.mark.parametrize(("split", "name"), [("test", "test"), ("challenge", "chall")])
def test_written_in_the_order_of_the_annotations_and_read_again(tmp_path, split, name):
    path = tmp_path / "folder" / "F.json"
    assert write_submission(path, GOOD, ["17", "3"], split) == ()
    content = json.loads(path.read_text())
    assert content == {"Set": name, "Actions": GOOD}
    assert list(content["Actions"]) == ["17", "3"]
    assert read_predictions(path) == GOOD
    check_submission(path, ["3", "17"])
    assert [file.name for file in path.parent.iterdir()] == ["F.json"]


def test_an_action_without_a_view_stops_unless_allowed(tmp_path):
    path = tmp_path / "F.json"
    with pytest.raises(UserError, match=r"no readable view of action 4: .*--allow_missing_clips"):
        write_submission(path, GOOD, ["3", "4", "17"], "test")
    assert not path.exists()
    assert write_submission(path, GOOD, ["3", "4", "17"], "test", allow_missing_clips=True) == ("4",)
    assert read_predictions(path)["4"] == as_entry("Standing tackling", "Offence", "1.0")


def test_a_refused_submission_leaves_the_old_file(tmp_path):
    path = tmp_path / "F.json"
    write_submission(path, GOOD, ["3", "17"], "test")
    before = path.read_text()
    with pytest.raises(UserError, match="the split has no action 17"):
        write_submission(path, GOOD, ["3"], "test")
    with pytest.raises(UserError, match="--split valid: submissions are for test or challenge"):
        write_submission(path, GOOD, ["3", "17"], "valid")
    assert path.read_text() == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"Action class": "Missing"}, "action 3: Action class: 'Missing' is not one of"),
        ({"Action class": "Dont know"}, "Action class: 'Dont know'"),
        ({"Severity": "2.0"}, "Severity: '2.0'"),
        ({"Severity": "4.0"}, "Severity: '4.0'"),
        ({"Severity": 3.0}, "Severity: 3.0"),
        ({"Severity": ""}, 'Severity is "" for No offence and only then'),
        ({"Offence": "Between", "Severity": ""}, "Offence: 'Between'"),
        ({"Offence": "No Offence", "Severity": ""}, "Offence: 'No Offence'"),
        ({"Offence": "No offence"}, 'Severity is "" for No offence and only then'),
        ({"Confidence": "1"}, "exactly Action class, Offence, Severity are expected"),
    ],
)
def test_forbidden_values(tmp_path, change, message):
    path = tmp_path / "F.json"
    write_predictions(path, GOOD | {"3": GOOD["3"] | change}, "test")
    with pytest.raises(UserError) as caught:
        check_submission(path, ["3", "17"])
    assert message in str(caught.value)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"Set": "valid", "Actions": GOOD}, "Set: test or chall is expected, not 'valid'"),
        ({"Set": "test", "Actions": {"3": GOOD["3"]}}, "no prediction for action 17"),
        ({"Set": "test", "Actions": GOOD | {"5": GOOD["3"]}}, "the split has no action 5"),
        ({"Set": "test", "Actions": GOOD, "Team": "x"}, "unknown key Team"),
        ({"Set": "test", "Actions": []}, "is expected"),
        ([], "is expected"),
        ({"Set": "test", "Actions": GOOD | {"3": None}}, "action 3: exactly"),
        ({"Set": "test", "Actions": GOOD | {"3": as_entry([], "Offence", "1.0")}}, "Action class: []"),
    ],
)
def test_forbidden_structure(content, message):
    assert any(message in problem for problem in submission_problems(content, ["3", "17"]))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"Set": "test",\n  "Actions": {,}}', "line 2, column 15: not valid JSON"),
        ('{"Actions": {"1": {}, "1": {}}}', "the key 1 comes twice"),
        ('{"Actions": {"1": []}}', "action 1: an object"),
        ('{"Actions": {"1": {"Severity": 1.0}}}', "action 1: Severity: text is expected, not 1.0"),
        ('{"Actions": 3}', "is expected"),
        ("[]", "is expected"),
    ],
)
def test_unreadable_predictions(tmp_path, text, message):
    path = tmp_path / "P.json"
    path.write_text(text)
    with pytest.raises(UserError) as caught:
        read_predictions(path)
    assert message in str(caught.value)
    assert str(path) in str(caught.value)


def test_files_that_cannot_be_read_or_written(tmp_path):
    with pytest.raises(UserError, match="cannot be read: No such file"):
        read_predictions(tmp_path / "absent.json")
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\xfa")
    with pytest.raises(UserError, match="not UTF-8"):
        read_predictions(tmp_path / "binary.json")
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written"):
        write_predictions(tmp_path / "file" / "F.json", GOOD, "test")


def test_fields_may_be_absent_from_predictions(tmp_path):
    path = tmp_path / "P.json"
    path.write_text('{"Actions": {"1": {"Offence": "Offence", "Confidence": 0.5}}}')
    assert read_predictions(path) == {"1": {"Offence": "Offence"}}
