"""JSON on the command line, read or refused by name."""

import pytest

from common.config import UserError
from mvfouls.json_flags import read_class_weights, read_object, read_task_weights

TASKS = {"action_class": 8, "offence": 3}


def test_weights_are_read():
    assert read_task_weights("--w", '{"action_type": 2, "offence": 0}', TASKS) == {
        "action_class": 2.0,
        "offence": 0.0,
    }
    assert read_class_weights("--w", '{"offence": [1, 0, 2.5]}', TASKS) == {"offence": (1.0, 0.0, 2.5)}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("{", "JSON is expected"),
        ("3", "a JSON object is expected"),
        ('{"a": 1, "a": 2}', "'a' is given twice"),
    ],
)
def test_what_is_no_object_is_refused(text, told):
    with pytest.raises(UserError, match=f"--w: {told}"):
        read_object("--w", text)


@pytest.mark.parametrize(
    ("text", "told"),
    [('{"severity": 1}', "no task severity; tasks are action_class, offence"),
     ('{"action_type": 1, "action_class": 1}', "action_class is given twice"),
     ('{"offence": -1}', "-1 of offence is no weight"), ('{"offence": true}', "True of offence"),
     ('{"offence": "2"}', "'2' of offence"), ('{"offence": NaN}', "nan of offence")],
)  # fmt: skip
def test_task_weights_that_cannot_be(text, told):
    with pytest.raises(UserError, match=told):
        read_task_weights("--w", text, TASKS)


@pytest.mark.parametrize(
    ("text", "told"),
    [('{"offence": [1, 2]}', "offence needs a list of 3 weights"), ('{"offence": 1}', "a list of 3"),
     ('{"offence": [1, 2, null]}', "None of offence"),
     ('{"offence": [0, 0, 0]}', "all weights of offence are 0"),
    ],
)  # fmt: skip
def test_class_weights_that_cannot_be(text, told):
    with pytest.raises(UserError, match=told):
        read_class_weights("--w", text, TASKS)
